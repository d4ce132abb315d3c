//! The guides and the README: served, printed, and true. Their commands and snippets run as a
//! person would paste them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use reqwest::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use reqwest::{Client, redirect};
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::{BINARY, DevNode, command_in, folder, hookyard, output_of};
use crate::test_node::{TestEnv, run_async};

mod verify;

const RECEIVE: &str = include_str!("../../../src/edge/docs/guide/receive.md");
const OPERATE: &str = include_str!("../../../src/edge/docs/guide/operate.md");
const SUBSCRIBE: &str = include_str!("../../../src/edge/docs/guide/subscribe.md");

const OWN_SCHEME: &str = "### A scheme of your own\n";

const OWN_SECRETS: [(&str, &str); 2] = [
    (
        "HOOKYARD_SOURCES__CUSTOM__PLANT__SECRETS",
        "a-secret-of-the-plant-0123456789",
    ),
    (
        "HOOKYARD_SOURCES__CUSTOM__WORKS__SECRETS",
        "a-secret-of-the-works-0123456789",
    ),
];

const VECTORS: &str = include_str!("../vectors.json");

/// Returns the code blocks of `language` in `markdown`, in order.
fn blocks<'m>(markdown: &'m str, language: &str) -> Vec<&'m str> {
    let start = format!("```{language}\n");
    markdown
        .split(&start)
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a first part"))
        .collect()
}

/// Returns the section of `markdown` under the heading `title`, and the text without it.
fn split_section<'m>(markdown: &'m str, title: &str) -> (&'m str, String) {
    let start = markdown.find(title).expect("the heading");
    let below = &markdown[start + title.len()..];
    let length = below.find("\n#").expect("a next heading");
    let rest = format!("{}{}", &markdown[..start], &below[length..]);
    (&below[..length], rest)
}

fn has(program: &str) -> bool {
    let is_there =
        output_of(command_in("sh", folder().path()).args(["-c", &format!("command -v {program}")]))
            .0
            == Some(0);
    if !is_there {
        eprintln!("not run: there is no {program}");
    }
    is_there
}

/// Development node, and a shell in its folder that has `hookyard` on its path and fails on refused
/// requests.
struct Terminal {
    folder: TempDir,
    node: DevNode,
    env: &'static [(&'static str, &'static str)],
}

impl Terminal {
    fn open() -> Self {
        Self::with_config("", &[])
    }

    /// Opens a terminal with the variables `env`, whose node has the file `config` too.
    fn with_config(config: &str, env: &'static [(&str, &str)]) -> Self {
        let folder = folder();
        fs::write(folder.path().join("node.toml"), config).expect("writable");
        let mut serve = hookyard(folder.path(), &["serve", "--dev", "--config", "node.toml"]);
        let node = DevNode::start(serve.envs(env.iter().copied()));
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("writable");
        symlink(BINARY, bin.join("hookyard")).expect("writable");
        let curl = "#!/bin/sh\nPATH=${PATH#*:} exec curl --noproxy '*' --silent --show-error --fail \"$@\"\n";
        fs::write(bin.join("curl"), curl).expect("writable");
        fs::set_permissions(bin.join("curl"), fs::Permissions::from_mode(0o755))
            .expect("its owner's");
        Self { folder, node, env }
    }

    /// Runs `blocks` as one script, without commands that never end.
    fn run(&self, blocks: &[&str]) -> String {
        let address = self
            .node
            .send
            .rsplit("http://")
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .expect("an address");
        // Long loops show a reader a running node; a few rounds prove the command.
        let script = blocks
            .join("\n")
            .replace("cargo run --release -- ", "hookyard ")
            .replace("$(seq 200)", "1 2 3 4")
            .replace("; sleep 1;", ";");
        let ends = |line: &&str| {
            !["hookyard serve", "hookyard listen"]
                .iter()
                .any(|start| line.starts_with(start))
        };
        let script: Vec<_> = script.lines().filter(ends).collect();
        let script = script.join("\n").replace("127.0.0.1:8080", address);

        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = command_in("timeout", self.folder.path());
        shell.args(["100", "sh", "-ec", &script]).env(
            "PATH",
            format!("{}/bin:{path}", self.folder.path().display()),
        );
        shell.envs(self.env.iter().copied());
        let (code, output, error) = output_of(shell.env("HOOKYARD_SERVER__BIND", address));
        assert_eq!(code, Some(0), "{script}\n{output}\n{error}");
        output
    }
}

#[test]
fn the_commands_of_the_readme_work() {
    if !has("curl") {
        return;
    }
    let readme =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("readable");
    let terminal = Terminal::open();
    let [configuration] = blocks(&readme, "toml")[..] else {
        panic!("one configuration")
    };
    fs::write(terminal.folder.path().join("hookyard.toml"), configuration).expect("writable");
    let mut commands = blocks(&readme, "sh");
    assert!(
        commands.remove(0).contains("cargo test"),
        "the two commands that are run by whoever runs this"
    );
    assert!(commands.len() >= 4);
    let output = terminal.run(&commands);
    assert!(
        output.contains("202 Accepted") && output.contains("\"status\":\"pending\""),
        "{output}"
    );
}

#[test]
fn the_commands_of_the_guide_to_receiving_work() {
    if !has("curl") || !has("openssl") {
        return;
    }
    let terminal = Terminal::open();
    let configuration = "[sources.leads]\nenabled = true\n[admin]\ntoken = \"t\"\n";
    fs::write(terminal.folder.path().join("hookyard.toml"), configuration).expect("writable");
    let body = r#"{"event":"pre_lead_update","source":"s","data":{"city":"Rome"}}"#;
    let head = "POST /api/v1/webhooks/incoming/pre-lead/7/update HTTP/1.1\r\nHost: h\r\nContent-Type: application/json";
    let captured = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    fs::write(terminal.folder.path().join("captured.http"), captured).expect("writable");
    let (_, rest) = split_section(RECEIVE, OWN_SCHEME);
    let output = terminal.run(&blocks(&rest, "sh"));
    for part in [
        "CUST-XYZ-001",
        "\"id\":\"SUP-7\"",
        "acc_shop",
        "verification  ok",
    ] {
        assert!(output.contains(part), "no {part} in {output}");
    }
    let reprocessed = output.lines().last().expect("an answer");
    let reprocessed: Value =
        serde_json::from_str(reprocessed).unwrap_or_else(|_| panic!("no JSON: {reprocessed}"));
    assert_eq!(
        reprocessed["entity"]["sequence"], 2,
        "it failed before and has its number now"
    );
}

/// The guide showed a request without the table that makes it work.
#[test]
fn the_schemes_of_the_guide_to_receiving_verify_what_it_signs() {
    if !has("curl") || !has("openssl") {
        return;
    }
    let (section, _) = split_section(RECEIVE, OWN_SCHEME);
    let [config] = blocks(section, "toml")[..] else {
        panic!("one configuration")
    };
    let output = Terminal::with_config(config, &OWN_SECRETS).run(&blocks(section, "sh"));
    for part in [
        r#""kind":"custom:plant","id":"m7""#,
        r#""kind":"custom:works","id":"m7""#,
    ] {
        assert!(output.contains(part), "no {part} in {output}");
    }
}

#[test]
fn the_commands_of_the_guide_to_subscribing_work() {
    if !has("curl") {
        return;
    }
    // The guide retries the first dead letter of the first subscription.
    let failing = r#"
echo '{"url": "http://127.0.0.1:9/", "events": ["ticket:*"], "transform": "data.missing"}' > failing.json
admin $API/webhooks -d @failing.json
hookyard send
until admin $API/dead-letters | grep '"total":1'; do :; done
"#;
    let mut commands = blocks(SUBSCRIBE, "sh");
    commands.insert(1, failing);
    let output = Terminal::open().run(&commands);
    assert!(
        output.contains("https://chat.example/hooks/T0001/B0001") && output.contains("\"replay\""),
        "{output}"
    );
}

#[test]
fn the_commands_of_the_guide_to_operating_work() {
    let mut commands = blocks(OPERATE, "sh");
    commands.insert(0, "hookyard send\n");
    let output = Terminal::open().run(&commands);
    for part in [
        "full backup written to monday.backup: 1 event from position 1",
        "monday.backup is whole: full backup of positions 1 to before 2",
        "restored into restored; the next event has position 2",
        "the journal in restored is whole: read 1 event",
    ] {
        assert!(output.contains(part), "no {part} in {output}");
    }
}

/// Published vector of Standard Webhooks, signed with an HMAC.
fn vector() -> Value {
    let all: Value = serde_json::from_str(VECTORS).expect("JSON");
    let standard = all["vectors"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|vector| vector["preset"] == "standard");
    standard.expect("one of Standard Webhooks").clone()
}

/// Runs `program` on `check`, with `snippet` in a file `name` beside it. Returns its output for the
/// published vector, another body, a time too late and too early, no headers, and the signature of
/// another secret.
fn verdicts(program: &str, (name, snippet): (&str, &str), check: &str) -> String {
    let folder = folder();
    fs::write(folder.path().join(name), snippet).expect("writable");
    fs::write(folder.path().join("vector.json"), vector().to_string()).expect("writable");
    let check_name = format!("check.{}", name.rsplit('.').next().expect("an ending"));
    fs::write(folder.path().join(&check_name), check).expect("writable");
    let (code, output, error) = output_of(command_in(program, folder.path()).arg(&check_name));
    assert_eq!(code, Some(0), "{program}: {error}");
    output.to_lowercase().trim().to_owned()
}

const VERDICTS: &str = "true false false false false true";

#[test]
fn the_python_of_the_guide_verifies_a_published_delivery() {
    let check = r#"
import json, hooks
v = json.load(open("vector.json"))
headers, body = v["headers"], v["body"].encode()
now = int(headers["webhook-timestamp"])
two = dict(headers, **{"webhook-signature": "v1,AAAA " + headers["webhook-signature"]})
cases = [(headers, body, now), (headers, body + b" ", now), (headers, body, now + 301), (headers, body, now - 301), ({}, body, now), (two, body, now)]
print(*[hooks.is_authentic(v["secret"], *case) for case in cases])
"#;
    if has("python3") {
        assert_eq!(
            verdicts(
                "python3",
                ("hooks.py", blocks(SUBSCRIBE, "python")[0]),
                check
            ),
            VERDICTS
        );
        let check = "import hooks\nprint(hooks.is_authentic('key', b'The quick brown fox jumps over the lazy dog', \
                     'f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8'), hooks.is_authentic('key', b'', 'ä'))";
        assert_eq!(
            verdicts(
                "python3",
                ("hooks.py", blocks(SUBSCRIBE, "python")[1]),
                check
            ),
            "true false"
        );
    }
}

#[test]
fn the_javascript_of_the_guide_verifies_a_published_delivery() {
    let check = r#"
import { readFileSync } from "node:fs";
import { isAuthentic } from "./hooks.mjs";
const { secret, headers, body } = JSON.parse(readFileSync("vector.json"));
const now = Number(headers["webhook-timestamp"]);
const two = { ...headers, "webhook-signature": "v1,AAAA " + headers["webhook-signature"] };
const cases = [[headers, body, now], [headers, body + " ", now], [headers, body, now + 301], [headers, body, now - 301], [{}, body, now], [two, body, now]];
console.log(...cases.map(([headers, body, now]) => isAuthentic(secret, headers, Buffer.from(body), now)));
"#;
    if has("node") {
        assert_eq!(
            verdicts("node", ("hooks.mjs", blocks(SUBSCRIBE, "js")[0]), check),
            VERDICTS
        );
    }
}

#[test]
fn the_rust_of_the_guide_verifies_a_published_delivery() {
    assert!(
        blocks(SUBSCRIBE, "rust") == [include_str!("verify.rs")],
        "the guide shows what is tried here"
    );
    let vector = vector();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (secret, body) = (text(&vector["secret"]), text(&vector["body"]).into_bytes());
    let signature = text(&vector["headers"]["webhook-signature"]);
    let now: u64 = text(&vector["headers"]["webhook-timestamp"])
        .parse()
        .expect("a number");
    let verify = |signature: &str, body: &[u8], now| {
        let header = |name: &str| match name {
            "webhook-signature" => Some(signature),
            other => vector["headers"][other].as_str(),
        };
        verify::is_authentic(&secret, header, body, now)
    };
    assert!(
        verify(&signature, &body, now) && verify(&format!("v1,AAAA {signature}"), &body, now + 300)
    );
    assert!(
        !verify(&signature, b"{}", now)
            && !verify(&signature, &body, now + 301)
            && !verify("v1,", &body, now)
    );
    assert!(!verify::is_authentic(&secret, |_| None, &body, now));
}

#[test]
fn a_guide_is_a_page_for_browsers_and_markdown_for_others() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .expect("a client");
        let get = async |path: &str, accept: &str| {
            let request = client
                .get(format!("{}{path}", node.base))
                .header(ACCEPT, accept);
            let answer = request.send().await.expect("an answer");
            let header = |name| {
                answer
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().expect("text").to_owned())
            };
            let (kind, policy, target) = (
                header(CONTENT_TYPE),
                header(CONTENT_SECURITY_POLICY),
                header(LOCATION),
            );
            (
                answer.status().as_u16(),
                kind.or(target).unwrap_or_default(),
                policy,
                answer.text().await.expect("text"),
            )
        };
        let (_, _, policy, _) = get("/docs/", "*/*").await;
        assert!(policy.is_some());

        let page = get("/docs/guide/subscribe", "text/html,*/*").await;
        assert_eq!(
            (page.0, page.1.as_str(), &page.2),
            (200, "text/html; charset=utf-8", &policy)
        );
        for part in [
            "<title>Subscribe to events</title>",
            "<a href=\"#verify-a-delivery\">",
            "<h2 id=\"verify-a-delivery\">",
        ] {
            assert!(page.3.contains(part), "no {part}");
        }
        assert!(
            !page.3.contains("<script"),
            "nothing that the policy would have to allow"
        );
        for (path, accept) in [
            ("/docs/guide/subscribe.md", "text/html"),
            ("/docs/guide/subscribe/", "text/markdown"),
        ] {
            let source = get(path, accept).await;
            assert_eq!(
                (source.0, source.1.as_str()),
                (200, "text/markdown; charset=utf-8"),
                "{path}"
            );
            assert!(source.3 == SUBSCRIBE, "{path} is not the guide's source");
        }

        let list = get("/docs/guide/", "text/html").await;
        assert!(
            list.0 == 200 && list.3.contains("<a href=\"subscribe\">"),
            "{}",
            list.3
        );
        assert!(
            get("/docs/guide/", "text/markdown")
                .await
                .3
                .contains("- [operate](operate.md): ")
        );
        // Folders that the links are relative to.
        for (path, target) in [
            ("/docs/guide", "guide/"),
            ("/docs/guide/operate/", "../operate"),
        ] {
            assert_eq!(
                (get(path, "*/*").await.0, get(path, "*/*").await.1.as_str()),
                (308, target),
                "{path}"
            );
        }
        let unknown = get("/docs/guide/nothing", "text/html").await;
        assert!(
            unknown.0 == 404 && unknown.3.contains("/docs/guide/"),
            "{}",
            unknown.3
        );
        node.stop().await;
    });
}

#[test]
fn the_command_lists_the_guides_and_prints_one() {
    let folder = folder();
    let guide = |words: &[&str]| output_of(hookyard(folder.path(), &["guide"]).args(words));
    let (code, list, _) = guide(&[]);
    assert_eq!((code, list.lines().count()), (Some(0), 7));
    for line in list.lines() {
        let topic = line.split(' ').next().expect("a first word");
        let (code, text, _) = guide(&[topic]);
        assert!(code == Some(0) && text.starts_with("# "), "{topic}");
    }
    assert!(guide(&["subscribe"]).1 == SUBSCRIBE, "as it is written");
    let (code, output, error) = guide(&["subscrib"]);
    assert_eq!((code, output.as_str()), (Some(2), ""));
    assert!(
        error.contains("'subscribe'") && error.contains("operate"),
        "{error}"
    );
}
