//! Tests of the loader: accepted settings, refused settings and their messages.

use std::fs;

use proptest::prelude::*;

use super::super::DevSecrets;
use super::*;
use crate::damaged_samples::{CHEAP, damage_cases, damaged_text};

type EnvPairs<'a> = &'a [(&'a str, &'a str)];

const NO_ENV: EnvPairs<'static> = &[];
const TOKEN: (&str, &str) = ("HOOKYARD_ADMIN__TOKEN", "test-token");

/// Loads `text` as a file with the variables `env`; problems lose the folder's name.
fn loaded(text: &str, env: EnvPairs<'_>) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("h.toml");
    fs::write(&path, text).expect("the folder is writable");
    let prefix = format!("{}/", folder.path().display());
    load_config(Some(&path), env.iter().copied()).map_err(|problems| {
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    })
}

fn problems(text: &str, env: EnvPairs<'_>) -> Vec<String> {
    loaded(text, env).expect_err("something is wrong with it")
}

/// Returns the only problem of the file `text`.
fn only_problem(text: &str) -> String {
    // A variable would override the file.
    let env: EnvPairs<'_> = if text.starts_with("admin.token") {
        NO_ENV
    } else {
        &[TOKEN]
    };
    let mut problems = problems(text, env);
    assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
    problems.remove(0)
}

#[test]
fn the_documented_defaults_load() {
    let config = load_config(None, [TOKEN]).expect("the defaults lack only the token");
    assert_eq!(config.server.bind, "127.0.0.1:8080");
    assert_eq!(config.server.body_limit_bytes, 1_000_000);
    assert_eq!(config.server.request_timeout, Duration::from_secs(15));
    assert_eq!(config.store.path, Path::new("hookyard-data"));
    assert_eq!(config.store.sync, SyncPolicy::Commit);
    assert_eq!(config.store.sync_interval, Duration::from_millis(100));
    assert_eq!(config.router.in_flight_bytes_max, 64 << 20);
    assert_eq!(config.router.projection_lag_max, 200_000);
    assert_eq!(config.entity.items_max, 1000);
    assert_eq!(
        (config.call_log.rows_max, config.call_log.refused_rows_max),
        (1_000_000, 10_000)
    );
    assert!(!config.sources.support.enabled);
    assert!(!config.sources.leads.enabled && config.sources.leads.secrets.is_empty());
    assert_eq!(config.sources.leads.rate_per_minute, 100);
    assert_eq!(
        config.sources.support.idempotency_window,
        Duration::from_secs(24 * 3600)
    );
    assert_eq!(
        config.sources.support.unknown_entity,
        UnknownEntityPolicy::Create
    );
    assert_eq!(config.telemetry.log, LogFormat::Pretty);
}

#[test]
fn every_key_of_the_defaults_is_read() {
    let mut draft = ConfigDraft::from_toml(None, NO_ENV.iter().copied());
    draft.read_server(ConfigPurpose::Trial);
    draft.read_certified_sources();
    draft.read_source_retention();
    draft.read_store();
    draft.read_router();
    draft.read_admin();
    draft.read_audit();
    draft.read_call_log();
    draft.read_delivery(ConfigPurpose::Trial);
    draft.read_support();
    draft.read_crm();
    draft.read_instagram();
    draft.read_leads();
    draft.read_c2s();
    draft.read_dashboard();
    draft.read_telemetry();
    draft.read_alerts();
    draft.read_cluster();
    draft.read_integer::<usize>("entity.items_max", 1..=UNLIMITED);
    let unread: Vec<_> = draft
        .settings
        .iter()
        .filter(|(_, setting)| !matches!(setting.value, SettingValue::Taken))
        .map(|(key, _)| key)
        .collect();
    assert!(unread.is_empty(), "{unread:?}");
}

#[test]
fn every_default_has_its_reason_above_it() {
    let mut lines = include_str!("../../../config/default.toml")
        .lines()
        .map(str::trim)
        .peekable();
    while let Some(line) = lines.next() {
        let next_is_key = lines
            .peek()
            .is_some_and(|next| next.contains(" = ") && !next.starts_with('#'));
        assert!(
            !next_is_key || line.starts_with('#'),
            "no comment above {:?}",
            lines.peek()
        );
    }
}

#[test]
fn a_blank_line_stands_before_every_section_of_the_defaults() {
    let lines: Vec<_> = include_str!("../../../config/default.toml")
        .lines()
        .collect();
    let crowded = lines
        .windows(2)
        .filter(|pair| pair[1].starts_with('[') && !pair[0].is_empty());
    assert_eq!(
        crowded.map(|pair| pair[1]).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
}

#[test]
fn the_file_overrides_the_defaults_and_the_environment_overrides_both() {
    let text =
        "[server]\nbind = \"127.0.0.1:1\"\nworkers = 3\n[sources.support]\nrate_per_minute = 0\n";
    let env = [
        TOKEN,
        ("HOOKYARD_SERVER__BIND", "[::1]:9"),
        ("HOOKYARD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7"),
        ("HOOKYARD_SOURCES__SUPPORT__ENABLED", "true"),
        (
            "HOOKYARD_SOURCES__SUPPORT__API_KEYS",
            "test-key-a,test-key-b",
        ),
        ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "test-secret"),
        ("HOOKYARD_STORE__SYNC_INTERVAL_S", "0.25"),
        ("HOOKYARD_BENCH_DIR", "no setting"),
        ("SERVER__BIND", "no prefix: not ours"),
    ];
    let config = loaded(text, &env).expect("valid");
    assert_eq!(
        (config.server.bind.as_str(), config.server.workers),
        ("[::1]:9", 3)
    );
    let proxies: Vec<_> = config
        .server
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32"]);
    assert_eq!(config.sources.support.rate_per_minute, 0);
    assert_eq!(
        config
            .sources
            .support
            .api_keys
            .iter()
            .map(Secret::expose)
            .collect::<Vec<_>>(),
        ["test-key-a", "test-key-b"]
    );
    assert_eq!(config.store.sync_interval, Duration::from_millis(250));
}

#[test]
fn spans_of_time_take_fractions() {
    let text = "[server]\nkeep_alive_s = 1.5\n[sources.support]\nidempotency_window_h = 0.5\ntolerance_s = 2";
    let config = loaded(text, &[TOKEN]).expect("valid");
    assert_eq!(config.server.keep_alive, Duration::from_millis(1500));
    assert_eq!(
        config.sources.support.idempotency_window,
        Duration::from_secs(1800)
    );
    assert_eq!(config.sources.support.tolerance, Duration::from_secs(2));

    // The keys of the alerts refused fractions, which the file of the defaults promised for all.
    let text = "[alerts]\ncertificate_days = 0.5\nsource_silent_h = 0.5\nbacklog_age_s = 0";
    let alerts = loaded(text, &[TOKEN]).expect("valid").alerts;
    assert_eq!(
        (
            alerts.certificate_life,
            alerts.source_silence,
            alerts.backlog_age
        ),
        (
            Some(Duration::from_secs(12 * 3_600)),
            Some(Duration::from_secs(1_800)),
            None
        )
    );
}

#[test]
fn a_problem_says_where_it_is_and_what_was_expected() {
    let table = [
        (
            "\n[server]\nbnd = 1",
            "h.toml:3: unknown key `server.bnd`; the nearest is `server.bind`",
        ),
        (
            "bind = 1",
            "h.toml:1: unknown key `bind`; the nearest is `admin.bind`",
        ),
        (
            "[server]\nlevel = 1",
            "h.toml:2: unknown key `server.level`; the nearest is `telemetry.level`",
        ),
        (
            "[store]\nfoo = 1",
            "h.toml:2: unknown key `store.foo`; `store` has cache_bytes, commit_bytes_max, commit_records_max, encryption_key, former_encryption_keys, max_bytes, path, retention_days, segment_bytes, sync, sync_interval_s",
        ),
        (
            "[store]\nretention_days = 1\n[sources.support]\nidempotency_window_h = 36",
            "h.toml:2: store.retention_days: expected at least sources.support.idempotency_window_h (36 h), because duplicates are told by the stored events; found 24 h",
        ),
        (
            "[store]\nretention_days = 9\n[sources.leads]\nretention_days = 10",
            "h.toml:4: sources.leads.retention_days: expected at most store.retention_days (9), after which all events go; found 10",
        ),
        (
            "[sources.support]\nretention_days = 1\nidempotency_window_h = 36",
            "h.toml:2: sources.support.retention_days: expected at least sources.support.idempotency_window_h (36 h), because duplicates are told by the stored events; found 24 h",
        ),
        (
            "foobar = 1",
            "h.toml:1: unknown key `foobar`; the sections are admin, alerts, audit, call_log, cluster, dashboard, delivery, delivery.breaker, entity, router, server, server.tls, sources.c2s, sources.c2s.enrichment, sources.crm, sources.instagram, sources.instagram.auto_reply, sources.leads, sources.support, store, telemetry",
        ),
        (
            "[foobar]",
            "h.toml:1: unknown section `foobar`; the sections are admin, alerts, audit, call_log, cluster, dashboard, delivery, delivery.breaker, entity, router, server, server.tls, sources.c2s, sources.c2s.enrichment, sources.crm, sources.instagram, sources.instagram.auto_reply, sources.leads, sources.support, store, telemetry",
        ),
        (
            "[calls]\nrows_max = 5",
            "h.toml:1: unknown section `calls`; the nearest is `call_log`",
        ),
        (
            "[servr]\nbind = 1",
            "h.toml:1: unknown section `servr`; the nearest is `server`",
        ),
        (
            "[sources.suport]",
            "h.toml:1: unknown section `sources.suport`; the nearest is `sources.support`",
        ),
        (
            "[[server]]",
            "h.toml:1: server: expected a table, found a list",
        ),
        (
            "server = 5",
            "h.toml:1: server: expected a table, found a whole number",
        ),
        (
            "[server.bind]",
            "h.toml:1: server.bind: expected a string, found a table",
        ),
        (
            "server.workers = \"4\"",
            "h.toml:1: server.workers: expected a whole number, found a string",
        ),
        (
            "server.workers = 1.5",
            "h.toml:1: server.workers: expected a whole number, found a fraction",
        ),
        (
            "server.workers = -1",
            "h.toml:1: server.workers: expected 0 to 1024, found -1",
        ),
        (
            "server.workers = 99999999999999999999",
            "h.toml:1: server.workers: expected a whole number, found a number beyond 64 bits",
        ),
        (
            "server.keep_alive_s = true",
            "h.toml:1: server.keep_alive_s: expected a number of seconds, found a boolean",
        ),
        (
            "server.keep_alive_s = 0",
            "h.toml:1: server.keep_alive_s: expected 0.001 to 3600 seconds, found 0",
        ),
        (
            "server.keep_alive_s = nan",
            "h.toml:1: server.keep_alive_s: expected 0.001 to 3600 seconds, found NaN",
        ),
        (
            "server.bind = \"localhost\"",
            "h.toml:1: server.bind: expected an IP address and a port, such as 127.0.0.1:8080, found \"localhost\"",
        ),
        (
            "server.body_limit_bytes = 5",
            "h.toml:1: server.body_limit_bytes: expected 1024 to 16777216, found 5",
        ),
        (
            "server.body_limit_bytes = 16777217",
            "h.toml:1: server.body_limit_bytes: expected 1024 to 16777216, found 16777217",
        ),
        (
            "server.trusted_proxies = [\n\"10.0.0.0/8\",\n\"x\"]",
            "h.toml:3: server.trusted_proxies: expected a network such as 10.0.0.0/8, found \"x\"",
        ),
        (
            "server.trusted_proxies = \"x\"",
            "h.toml:1: server.trusted_proxies: expected a list of strings, found a string",
        ),
        (
            "store.path = \"\"",
            "h.toml:1: store.path: expected a path, found \"\"",
        ),
        (
            "store.sync = \"never\"",
            "h.toml:1: store.sync: expected \"commit\" or \"interval\", found \"never\"",
        ),
        (
            "store.commit_records_max = 0",
            "h.toml:1: store.commit_records_max: expected 1 to 1048576, found 0",
        ),
        (
            "router.mailbox_capacity = 0",
            "h.toml:1: router.mailbox_capacity: expected 1 to 1048576, found 0",
        ),
        (
            "router.in_flight_events_max = 15",
            "h.toml:1: router.in_flight_events_max: expected 16 to 1048576, found 15",
        ),
        (
            "router.in_flight_bytes_max = 3999999",
            "h.toml:1: router.in_flight_bytes_max: expected at least 4 times server.body_limit_bytes (4000000), found 3999999",
        ),
        (
            "server.body_limit_bytes = 16777216\nrouter.in_flight_bytes_max = 67108863",
            "h.toml:2: router.in_flight_bytes_max: expected at least 4 times server.body_limit_bytes (67108864), found 67108863",
        ),
        (
            "router.live_entities_max = 0",
            "h.toml:1: router.live_entities_max: expected at least 1, found 0",
        ),
        (
            "audit.entries_max = 0",
            "h.toml:1: audit.entries_max: expected 1 to 100000, found 0",
        ),
        (
            "call_log.rows_max = 0",
            "h.toml:1: call_log.rows_max: expected 1 to 1000000000, found 0",
        ),
        (
            "call_log.refused_rows_max = 0",
            "h.toml:1: call_log.refused_rows_max: expected 1 to 1000000000, found 0",
        ),
        (
            "entity.items_max = 0",
            "h.toml:1: entity.items_max: expected 1 to 1048576, found 0",
        ),
        (
            "sources.support.enabled = \"yes\"",
            "h.toml:1: sources.support.enabled: expected true or false, found a string",
        ),
        (
            "sources.support.secrets = [\"test-secret\",\n\" \"]",
            "h.toml:2: sources.support.secrets: a secret is empty; `hookyard secret new` prints one",
        ),
        (
            "admin.token = \"with a space\"",
            "h.toml:1: admin.token: expected printable ASCII characters without spaces; `hookyard secret new` prints one",
        ),
        (
            "admin.token = \"schlüssel\"",
            "h.toml:1: admin.token: expected printable ASCII characters without spaces; `hookyard secret new` prints one",
        ),
        (
            "admin.token = \"new\\nline\"",
            "h.toml:1: admin.token: expected printable ASCII characters without spaces; `hookyard secret new` prints one",
        ),
        (
            "sources.support.secrets = [5]",
            "h.toml:1: sources.support.secrets: expected a string, found a whole number",
        ),
        (
            "sources.support.tolerance_s = 2025-01-01",
            "h.toml:1: sources.support.tolerance_s: expected a number of seconds, found a date",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(only_problem(text), expected, "{text}");
    }
}

#[test]
fn a_bad_filter_is_refused() {
    for level in [
        "",
        "inof",
        "hookyard=loud",
        "info,=",
        "info,wran",
        "loud!!",
        "info,lo ud=info",
    ] {
        let problem = only_problem(&format!("telemetry.level = \"{level}\""));
        assert!(
            problem.starts_with("h.toml:1: telemetry.level: expected error, warn,"),
            "{problem}"
        );
    }
    for level in [
        "info",
        "WARN",
        "off",
        "info,hookyard::journal=debug",
        "hookyard[event{id=1}]=trace",
        "hookyard::journal",
        "[event]=info",
    ] {
        assert!(is_log_filter(level), "{level}");
    }
}

/// Container platforms set such variables for a service that is named hookyard.
#[test]
fn a_variable_that_resembles_no_key_is_ignored() {
    let token = ("HOOKYARD_ADMIN__TOKEN", "test-token");
    let config = load_config(
        None,
        [
            token,
            ("HOOKYARD_PORT", "tcp://10.0.0.1:80"),
            ("HOOKYARD_SERVICE_HOST", "10.0.0.1"),
        ],
    );
    assert!(config.is_ok(), "{config:?}");
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let table = [
        (
            ("HOOKYARD_CALLS__ROWS_MAX", "5"),
            "HOOKYARD_CALLS__ROWS_MAX: sets the unknown key `calls.rows_max`; the nearest is `call_log.rows_max` (HOOKYARD_CALL_LOG__ROWS_MAX)",
        ),
        (
            ("HOOKYARD_SERVER__BNID", "x"),
            "HOOKYARD_SERVER__BNID: sets the unknown key `server.bnid`; the nearest is `server.bind` (HOOKYARD_SERVER__BIND)",
        ),
        (
            ("HOOKYARD_ADMIN_TOKEN", "x"),
            "HOOKYARD_ADMIN_TOKEN: sets no key: two underscores separate the levels; the nearest is `admin.token` (HOOKYARD_ADMIN__TOKEN)",
        ),
        (
            ("HOOKYARD_SERVER__WORKERS", "many"),
            "HOOKYARD_SERVER__WORKERS: server.workers: expected a whole number, found \"many\"",
        ),
        (
            ("HOOKYARD_SOURCES__SUPPORT__ENABLED", "1"),
            "HOOKYARD_SOURCES__SUPPORT__ENABLED: sources.support.enabled: expected true or false, found \"1\"",
        ),
        (
            ("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "test-key,,test-key"),
            "HOOKYARD_SOURCES__SUPPORT__API_KEYS: sources.support.api_keys: expected printable ASCII characters without spaces; `hookyard secret new` prints one",
        ),
    ];
    for (variable, expected) in table {
        assert_eq!(problems("", &[TOKEN, variable]), [expected]);
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let problems = load_config(None, [("HOOKYARD_ADMIN__TOKEN", value)]).expect_err("not UTF-8");
    assert!(
        problems
            .to_string()
            .contains("HOOKYARD_ADMIN__TOKEN: not UTF-8"),
        "{problems}"
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let text = "[server]\nworkers = \"x\"\nbnd = 1\n[store]\nsync = 5\n";
    let problems = problems(text, &[("HOOKYARD_ENTITY__ITEMS_MAX", "0")]);
    let starts = [
        "h.toml: admin.token: missing",
        "h.toml:2: server.workers",
        "h.toml:3: unknown key `server.bnd`",
        "h.toml:5: store.sync",
        "HOOKYARD_ENTITY__ITEMS_MAX: entity.items_max",
    ];
    for start in starts {
        assert!(
            problems.iter().any(|problem| problem.starts_with(start)),
            "{start}: {problems:#?}"
        );
    }
    let position = |start: &str| {
        problems
            .iter()
            .position(|problem| problem.starts_with(start))
    };
    assert!(starts.map(position).is_sorted(), "{problems:#?}");
}

#[test]
fn of_a_file_that_cannot_be_read_only_that_is_said() {
    let missing = load_config(Some(Path::new("no/such.toml")), [("HOOKYARD_FOO", "x")])
        .expect_err("there is none");
    assert_eq!(missing.iter().count(), 1, "{missing}");
    assert!(
        missing
            .to_string()
            .contains("no/such.toml: cannot be read: "),
        "{missing}"
    );
    let broken = problems(
        "[server]\nbnd = 1\nworkers = = 1\n[stor\n",
        &[("HOOKYARD_FOO", "x")],
    );
    assert_eq!(broken.len(), 1, "{broken:#?}");
    assert!(broken[0].starts_with("h.toml:3: not TOML: "), "{broken:#?}");
}

#[test]
fn a_missing_secret_names_its_key_its_variable_and_the_way_to_make_one() {
    let text = "[sources.support]\nenabled = true\nsecrets = []\n";
    let how = |variable| {
        format!(
            "missing: set it in the configuration file or in {variable}; `hookyard secret new` prints one"
        )
    };
    assert_eq!(
        problems(text, NO_ENV),
        [
            format!("h.toml: admin.token: {}", how("HOOKYARD_ADMIN__TOKEN")),
            format!(
                "h.toml:2: sources.support.api_keys: {}",
                how("HOOKYARD_SOURCES__SUPPORT__API_KEYS")
            ),
            format!(
                "h.toml:3: sources.support.secrets: {}",
                how("HOOKYARD_SOURCES__SUPPORT__SECRETS")
            ),
        ]
    );
    let without_a_file = load_config(None, NO_ENV.iter().copied())
        .expect_err("no token")
        .to_string();
    assert!(
        without_a_file.contains("\n  admin.token: missing"),
        "{without_a_file}"
    );
}

#[test]
fn a_tool_may_lack_secrets() {
    let draft = ConfigDraft::from_toml(None, NO_ENV.iter().copied());
    assert!(draft.finish(ConfigPurpose::Tool).is_ok());
}

#[test]
fn no_problem_shows_a_secret() {
    let files = [
        "admin.token = [\"hunter2\"]",
        "admin.token = { hunter2 = 1 }",
        "admin.token = \"hunter2",
        "admin.token = hunter2",
        "admin.token = \"hunter2\" hunter2",
        "[admin]\ntoken = \"a\"\ntoken = \"hunter2\"",
        "[admin]\ntokn = \"hunter2\"",
        "sources.support.secrets = \"hunter2\"",
        "sources.support.secrets = [\"hunter2\", \"\"]",
        "sources.support.secrets = [\"hunter2\" \"hunter2\"]",
        "sources.support.api_keys = [[\"hunter2\"]]",
        "[[sources.support.secrets]]\nhunter2 = 1",
    ];
    for text in files {
        let problems = problems(text, NO_ENV).join("\n");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let env = [
        ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "hunter2,"),
        ("HOOKYARD_ADMIN__TOKN", "hunter2"),
    ];
    assert!(!problems("", &env).join("\n").contains("hunter2"));
    let draft = ConfigDraft::from_toml(None, [("HOOKYARD_ADMIN__TOKEN", "hunter2")]);
    assert!(!format!("{draft:?}").contains("hunter2"));
}

#[test]
fn development_secrets_fill_what_nobody_has_set() {
    let Ok(secrets) = DevSecrets::generate(|key| {
        Ok::<_, std::convert::Infallible>(Secret::new(format!("dev {}", key.key).replace(' ', "-")))
    });
    let mut draft = ConfigDraft::from_toml(
        None,
        [("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "own-test-key")],
    );
    draft.apply_dev_mode(&secrets);
    let config = draft.finish(ConfigPurpose::Trial).expect("complete");
    assert!(config.sources.support.enabled);
    assert_eq!(config.admin.token.expose(), "dev-admin.token");
    assert_eq!(config.sources.support.api_keys[0].expose(), "own-test-key");
    assert_eq!(
        config.sources.support.secrets[0].expose(),
        "dev-sources.support.secrets"
    );
}

#[test]
fn a_declared_event_and_a_configured_source_cannot_share_a_name() {
    let source = "[[sources.custom]]\nname = \"billing\"\npreset = \"stripe\"\nsecrets = [\"test-secret\"]\n";
    let text = format!("[sources.crm]\nevents = [\"invoice.paid\", \"billing.due\"]\n{source}");
    let expected = "h.toml:2: sources.crm.events: \"billing\" is also the name of a configured source; rename one of them";
    assert_eq!(only_problem(&text), expected);
}

#[test]
fn a_source_that_is_enabled_without_its_secrets_names_each() {
    let text = "[sources.crm]\nenabled = true\n[sources.instagram]\nenabled = true\ncrm_webhook_url = \"crm.example\"";
    let told = problems(text, &[TOKEN]);
    let keys = [
        "crm_webhook_url",
        "crm.tokens",
        "app_secrets",
        "verify_token",
    ];
    assert_eq!(told.len(), keys.len(), "{told:#?}");
    for key in keys {
        assert!(
            told.iter().any(|problem| problem.contains(key)),
            "{key}: {told:#?}"
        );
    }
}

proptest! {
    #![proptest_config(damage_cases(CHEAP))]

    #[test]
    fn any_configuration_file_is_loaded_or_refused(text in damaged_text(&[
        include_str!("../../../config/default.toml"),
        "admin.token = \"a-token-that-is-long-enough\"\nstore.retention_days = 1e400\n\
         delivery.retry_schedule_s = [0.5, 60]\n[[sources.custom]]\nname = \"shop\"\n\
         secrets = [\"secret-of-the-shops-sender\"]\nentity = [\"./id\", \"/data/0/id\"]\n\
         event = \"{?/type}.x\"\nitems = \"/entry/*/changes\"\nscheme = { header = \"x-sig\", \
         algorithm = \"hmac-sha256\", signed = \"{url}.{body}\" }\n[server.tls]\ncert = \"no\"\n",
    ])) {
        if let Err(problems) = loaded(&text, NO_ENV) {
            prop_assert!(!problems.is_empty());
        }
    }
}
