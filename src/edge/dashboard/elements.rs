//! Small parts that many pages share: times, states, numbers, buttons, pages of lists.

use std::fmt::Display;
use std::time::Duration;

use maud::{Markup, html};

use super::form::FormFields;
use super::sessions::DashboardSession;
use crate::event::{EntityKey, Timestamp};
use crate::projection::PageRequest;
use crate::subscriber::SubscriberId;
use crate::token::AccessOperation;

/// Characters of an answer that a row shows.
const EXCERPT_CHARS: usize = 120;

/// Tone of a state: the word says what is the case, the colour how good that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateTone {
    Good,
    Warning,
    Bad,
    Neutral,
}

impl StateTone {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warn",
            Self::Bad => "bad",
            Self::Neutral => "neutral",
        }
    }
}

/// Renders a state as a word with a colour.
pub(super) fn badge(tone: StateTone, word: impl Display) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (word.to_string()) } }
}

/// Renders the badge of a call's status. Without an answer, the `code` of the failure says why there is
/// none.
pub(super) fn status_badge(status: Option<u16>, code: Option<&str>, is_successful: bool) -> Markup {
    let tone = match (is_successful, status) {
        (true, _) => StateTone::Good,
        (false, Some(429 | 503)) => StateTone::Warning,
        (false, _) => StateTone::Bad,
    };
    let reason = match code {
        Some("connect") => "no connection",
        Some("dns") => "unknown host",
        Some("timeout") => "timed out",
        Some("tls") => "TLS failed",
        Some("broken_off") => "broken off",
        Some(_) | None => "no answer",
    };
    status.map_or_else(|| badge(tone, reason), |status| badge(tone, status))
}

/// Returns the beginning of an answer, as one line of text.
pub(super) fn excerpt(answer: &str) -> String {
    let words: Vec<_> = answer.split_whitespace().collect();
    words.join(" ").chars().take(EXCERPT_CHARS).collect()
}

/// Renders `at` relative to `now`, with the exact time on hover and for programs.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (relative_time(at, now)) } }
}

/// Renders the time from `since` to `now`, with the exact begin on hover and for programs.
pub(super) fn elapsed(since: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(since) title=(since) { (duration(since.distance(now))) } }
}

/// Renders `at` as [`time`] does, and the exact time beside it: no phone shows it on hover.
pub(super) fn exact_time(at: Timestamp, now: Timestamp) -> Markup {
    html! { (time(at, now)) " " span.muted.small { (at) } }
}

/// Renders a time that may be missing.
pub(super) fn optional_time(at: Option<Timestamp>, now: Timestamp) -> Markup {
    at.map_or_else(|| html! { span.muted { "never" } }, |at| time(at, now))
}

/// Writes the distance of `at` from `now`, such as `3 min ago` or `in 2 h`.
fn relative_time(at: Timestamp, now: Timestamp) -> String {
    let distance = at.distance(now);
    if distance < Duration::from_secs(1) {
        return "now".to_owned();
    }
    let text = duration(distance);
    if at < now {
        format!("{text} ago")
    } else {
        format!("in {text}")
    }
}

/// Writes `time` in its largest unit, such as `340 ms`, `3 min` or `2 d`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() == 0 => format!("{} µs", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        1..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Writes a whole number with a thin space between thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Writes a number of bytes in its largest unit, such as `3.4 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// Writes `count` with the noun in its right form.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// Writes the number of stopped lanes as what they are for a person: an entity each, unless the order is
/// that of the whole subscription.
pub(super) fn stopped_lanes(count: usize) -> String {
    let waiting = counted(count as u64, "entity waits", "entities wait");
    format!("{waiting} for a retry")
}

/// Percent-encodes `text` as one part of a path.
pub(super) fn path_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' => part.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => part.push(char::from(byte)),
            byte => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

/// Returns the path of an entity's page.
pub(super) fn entity_path(entity: &EntityKey) -> String {
    let kind = path_part(entity.kind().as_str());
    format!("/dashboard/entities/{kind}/{}", path_part(entity.id()))
}

/// Renders a link to an entity's page.
pub(super) fn entity_link(entity: &EntityKey) -> Markup {
    html! {
        a.entity href=(entity_path(entity)) {
            span.muted { (entity.kind().as_str()) } " " (entity.id())
        }
    }
}

/// Renders a link to an event's page.
pub(super) fn event_link(event_id: impl Display, text: impl Display) -> Markup {
    html! { a href={ "/dashboard/events/" (event_id) } { (text.to_string()) } }
}

/// Renders the name of a subscriber, with a link to it if it is a subscription.
pub(super) fn subscriber_link(subscriber: &SubscriberId) -> Markup {
    match subscriber {
        SubscriberId::Webhook(id) => html! {
            a href={ "/dashboard/settings/webhooks/" (id) } { "Webhook " (id) }
        },
        SubscriberId::Forward(account) => html! {
            a href="/dashboard/accounts" { "CRM of account " (account) }
        },
        SubscriberId::Replies(account) => html! {
            a href="/dashboard/accounts" { "Replies of account " (account) }
        },
        SubscriberId::AutoReply => html! { a href="/dashboard/accounts" { "Automatic replies" } },
    }
}

/// Renders a block for a list without entries, or a page about an error: the fact, and the next
/// step.
pub(super) fn empty_state(fact: &str, next_step: Markup) -> Markup {
    html! { div.empty { p { strong { (fact) } } p.muted { (next_step) } } }
}

/// Hidden field by which the node knows that a form comes from a page of `session`.
pub(super) fn csrf_field(session: &DashboardSession) -> Markup {
    html! { input type="hidden" name="csrf" value=(session.csrf.expose()); }
}

/// Renders a button that copies the text of the element `source`. The script shows it.
pub(super) fn copy_button(source: &str, label: &str) -> Markup {
    html! { button.copy type="button" data-copy=(source) hidden { (label) } }
}

/// Button that is a form of its own, for those who may do its operation.
pub(super) struct ActionButton<'a> {
    pub(super) operation: AccessOperation,
    /// Path that the form is posted to.
    pub(super) path: &'a str,
    pub(super) label: &'a str,
    /// Class of the button: `primary`, `danger` or empty.
    pub(super) class: &'a str,
    /// Question that the script asks first.
    pub(super) question: Option<&'a str>,
}

impl ActionButton<'_> {
    pub(super) fn render(&self, session: &DashboardSession) -> Markup {
        if !session.caller.may(self.operation) {
            return html! {};
        }
        html! {
            form.inline method="post" action=(self.path) data-confirm=[self.question] {
                (csrf_field(session))
                button type="submit" class=(self.class) { (self.label) }
            }
        }
    }
}

/// Renders the links to the other pages of a list of `total` entries at `path`, which `query`
/// filters.
pub(super) fn pager(path: &str, query: &FormFields, page: PageRequest, total: u64) -> Markup {
    counted_pager(path, query, page, (total, u64::MAX))
}

/// Renders the links of a list of which `total` entries were counted, at most `ahead` of them behind
/// the page.
pub(super) fn counted_pager(
    path: &str,
    query: &FormFields,
    page: PageRequest,
    (total, ahead): (u64, u64),
) -> Markup {
    let has_more = total >= page.places().end.saturating_add(ahead);
    let pages = total.div_ceil(page.page_size).max(1);
    let link = |page: u64| {
        let query = query.clone().with("page", &page.to_string());
        format!("{path}?{}", query.to_query())
    };
    let first = (page.page - 1) * page.page_size + 1;
    let last = total.min(page.page * page.page_size);
    html! {
        nav.pager aria-label="Pages" {
            p.muted {
                @if total > 0 && first <= last {
                    (number(first)) "–" (number(last)) " of "
                    @if has_more { "more than " } (number(total))
                }
            }
            p {
                @if page.page > 1 {
                    a rel="prev" href=(link((page.page - 1).min(pages))) { "← Newer" }
                }
                @if page.page < pages { a rel="next" href=(link(page.page + 1)) { "Older →" } }
            }
        }
    }
}

/// Renders an option of a select, chosen if its value is `current`.
pub(super) fn select_option(value: &str, label: &str, current: &str) -> Markup {
    html! { option value=(value) selected[value == current] { (label) } }
}

/// Renders `json` over several lines, or as it is if it is no JSON.
pub(super) fn json_block(json: &str) -> Markup {
    let value = serde_json::from_str::<serde_json::Value>(json);
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value));
    html! { pre.json tabindex="0" { code { (pretty.as_deref().unwrap_or(json)) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_their_largest_unit() {
        let now = Timestamp::from_micros(10_000_000_000_000);
        for (seconds, past, future) in [
            (0, "now", "now"),
            (1, "1 s ago", "in 1 s"),
            (119, "119 s ago", "in 119 s"),
            (120, "2 min ago", "in 2 min"),
            (7_199, "119 min ago", "in 119 min"),
            (7_200, "2 h ago", "in 2 h"),
            (200_000, "2 d ago", "in 2 d"),
        ] {
            let distance = Duration::from_secs(seconds);
            assert_eq!(relative_time(now.saturating_sub(distance), now), past);
            assert_eq!(relative_time(now.saturating_add(distance), now), future);
        }
        assert_eq!(duration(Duration::from_micros(250)), "250 µs");
        assert_eq!(duration(Duration::from_micros(1_250)), "1 ms");
    }

    #[test]
    fn numbers_are_grouped_and_bytes_have_units() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            (bytes(1_023), bytes(1_536)),
            ("1023 B".into(), "1.5 KiB".into())
        );
        assert_eq!(counted(1, "event", "events"), "1 event");
    }

    #[test]
    fn a_hostile_id_stays_one_part_of_its_path_and_plain_text() {
        let entity = EntityKey::try_new(crate::event::Kind::Ticket, "a/../<b>?#");
        let link = entity_link(&entity.expect("an id may hold anything")).into_string();
        assert!(link.contains("/ticket/a%2F..%2F%3Cb%3E%3F%23\""), "{link}");
        assert!(!link.contains("<b>"), "{link}");
    }
}
