//! Request that a person pasted on the page of a source: what the node would make of it.
//!
//! The text is read, judged and shown again within one call. It is no event, is not written anywhere,
//! and its log line has nothing of it.

use std::borrow::Cow;

use maud::{Markup, html};

use super::elements::{StateTone, badge, csrf_field};
use super::form::FormFields;
use super::layout::sentence;
use super::sessions::DashboardSession;
use crate::config::Config;
use crate::edge::request_trial::{RequestTrial, TrialReport};
use crate::event::Timestamp;
use crate::provider::parse_moment;

/// Path that the form is posted to.
pub(super) const CHECK_PATH: &str = "/dashboard/sources/check";

/// Request as the form has it, with the finding.
pub(super) struct PastedRequest {
    source: String,
    text: String,
    url: String,
    at: String,
    /// Report on the request, or the reason for which there is none.
    report: Result<TrialReport, String>,
    /// Change of the text without which the finding would not be as good.
    change: Option<&'static str>,
}

impl PastedRequest {
    /// Checks the request of `form`, which arrives `now` unless the form says another time.
    pub(super) fn check(form: &FormFields, config: &Config, now: Timestamp) -> Self {
        let text = form.raw("request").trim_start();
        let (report, change) = match find_best_report(form, text, config, now) {
            Ok((report, change)) => (Ok(report), change),
            Err(reason) => (Err(reason), None),
        };
        Self {
            source: form.text("source").to_owned(),
            text: text.to_owned(),
            url: form.text("url").to_owned(),
            at: form.text("at").to_owned(),
            report,
            change,
        }
    }

    /// True if the request was checked against `source`.
    pub(super) fn is_of(&self, source: &str) -> bool {
        self.source == source
    }
}

/// Checks `text`, and if its proof is wrong, what a text box may have made it of.
fn find_best_report(
    form: &FormFields,
    text: &str,
    config: &Config,
    now: Timestamp,
) -> Result<(TrialReport, Option<&'static str>), String> {
    let at = match form.text("at") {
        "" => now,
        text => parse_moment(text)
            .ok_or("the time of arrival must be RFC 3339, Unix seconds or Unix milliseconds")?,
    };
    let url = Some(form.text("url")).filter(|url| !url.is_empty());
    let try_text = |text: &str| {
        let trial = RequestTrial {
            source: form.text("source"),
            request: text.as_bytes(),
            url,
            at,
        };
        trial.run(config).map_err(|error| error.to_string())
    };

    let report = try_text(text)?;
    if report.verification.is_good {
        return Ok((report, None));
    }
    for (other, change) in other_readings(text) {
        let found = try_text(&other)?;
        if found.verification.is_good {
            return Ok((found, Some(change)));
        }
    }
    Ok((report, None))
}

/// Other bodies that a text box may have changed into `text`: a browser does not keep line ends, and
/// a copy often has one more at the end.
fn other_readings(text: &str) -> Vec<(Cow<'_, str>, &'static str)> {
    let Some((head, body)) = text.split_once("\n\n") else {
        return Vec::new();
    };
    let with_body = |body: &str| Cow::Owned(format!("{head}\n\n{body}"));
    let bare = body.trim_end_matches('\n');
    let windows = |body: &str| body.replace('\n', "\r\n");
    vec![
        (with_body(bare), "without line ends at the end of the body"),
        (
            with_body(&format!("{bare}\n")),
            "with a line end at the end of the body",
        ),
        (
            with_body(&windows(body)),
            "with CR LF as line ends of the body",
        ),
        (
            with_body(&windows(bare)),
            "with CR LF as line ends of the body, and none at its end",
        ),
    ]
}

/// Renders the form for a request of `source`, with the finding if there is one.
pub(super) fn render_paste_box(
    source: &str,
    index: usize,
    pasted: Option<&PastedRequest>,
    session: &DashboardSession,
) -> Markup {
    let field = |name: &str| format!("{name}-{index}");
    let value = |read: fn(&PastedRequest) -> &str| pasted.map_or("", read);
    html! {
        details open[pasted.is_some()] {
            summary { "Check a request" }
            form.stack method="post" action=(CHECK_PATH) {
                (csrf_field(session))
                input type="hidden" name="source" value=(source);
                div.field {
                    label for=(field("request")) { "Request" }
                    textarea.code id=(field("request")) name="request" rows="8" required spellcheck="false"
                        autocomplete="off"
                        placeholder="POST /path HTTP/1.1\nHost: …\nContent-Type: application/json\n\n{…}" {
                        "\n" (value(|pasted| &pasted.text))
                    }
                    p.hint {
                        "Request line, headers, an empty line and the exact body. It is judged as a call of the \
                         sender would be, and then forgotten: no event is made of it."
                    }
                }
                div.field {
                    label for=(field("url")) { "URL that the sender called" }
                    input type="text" id=(field("url")) name="url" autocomplete="off"
                        value=(value(|pasted| &pasted.url)) placeholder="from the request";
                }
                div.field {
                    label for=(field("at")) { "Time of arrival" }
                    input type="text" id=(field("at")) name="at" autocomplete="off"
                        value=(value(|pasted| &pasted.at)) placeholder="now";
                }
                div { button type="submit" { "Check" } }
            }
            @if let Some(pasted) = pasted { (render_finding(pasted)) }
        }
    }
}

fn render_finding(pasted: &PastedRequest) -> Markup {
    html! {
        div.notice id="finding" role="status" {
            @match &pasted.report {
                Err(reason) => p { (badge(StateTone::Bad, "not checked")) " " (sentence(reason)) },
                Ok(report) => {
                    p {
                        @if report.is_accepted() {
                            (badge(StateTone::Good, "accepted")) " A node would accept this request."
                        } @else {
                            (badge(StateTone::Bad, "refused")) " A node would refuse this request."
                        }
                    }
                    @if let Some(change) = pasted.change {
                        p.muted { "The proof fits the text " (change) "." }
                    }
                    pre.whole tabindex="0" { (report.to_string()) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_tried_with_each_line_end_that_a_text_box_takes_away() {
        let readings = other_readings("POST / HTTP/1.1\nHost: h\n\n{\n}\n");
        let bodies: Vec<_> = readings
            .iter()
            .map(|(text, _)| text.split_once("\n\n").expect("a body").1)
            .collect();
        assert_eq!(bodies, ["{\n}", "{\n}\n", "{\r\n}\r\n", "{\r\n}"]);
        assert!(other_readings("no request").is_empty());
    }
}
