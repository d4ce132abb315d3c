//! Guides: the longer documents in the binary. A browser gets HTML pages, other clients the
//! Markdown source.

use std::collections::HashMap;
use std::sync::LazyLock;

use actix_web::http::header::{ACCEPT, HeaderValue, LOCATION, VARY};
use actix_web::{HttpRequest, HttpResponse};
use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};

use super::static_answer::StaticAnswer;
use crate::edge::context::RequestContext;
use crate::edge::error::ApiError;

/// Guide with the line that a list shows for it.
#[derive(Clone, Copy, Debug)]
pub struct Guide {
    /// Name in paths and on the command line.
    pub topic: &'static str,
    /// One line about the questions that the guide answers.
    pub summary: &'static str,
    /// Text of the guide in Markdown.
    pub markdown: &'static str,
}

/// All guides, in the order of lists. A new guide needs its file and an entry here.
pub const GUIDES: [Guide; 7] = [
    Guide {
        topic: "receive",
        summary: "Each source of events: its requests and answers, signatures, idempotency, \
            and refused requests",
        markdown: include_str!("guide/receive.md"),
    },
    Guide {
        topic: "subscribe",
        summary: "Subscriptions, filters and transforms, verifying deliveries, retries, dead \
            letters and replays",
        markdown: include_str!("guide/subscribe.md"),
    },
    Guide {
        topic: "operate",
        summary: "Running a node: secrets, proxies, sizing, upgrades, recovery, encryption, \
            and its log lines",
        markdown: include_str!("guide/operate.md"),
    },
    Guide {
        topic: "config",
        summary: "Every key of the configuration with its default and the reason, those of sources \
            too",
        markdown: concat!(
            "# Configuration\n\nThese are all keys, each with its default and the reason. Write those \
             that differ into a file for `--config`, or set a variable: `server.bind` is \
             `HOOKYARD_SERVER__BIND`. `hookyard config default` prints this file, `hookyard check` \
             says what is wrong with yours, and `hookyard config print` shows what is in force.\n\n\
             ```toml\n",
            include_str!("../../../config/default.toml"),
            "```\n"
        ),
    },
    Guide {
        topic: "dashboard",
        summary: "The pages for people: login, what is stuck and what to press, webhooks, dead \
            letters, events and entities",
        markdown: include_str!("guide/dashboard.md"),
    },
    Guide {
        topic: "cluster",
        summary: "Several nodes over one PostgreSQL: how they share the lead, setting them up, and what \
            happens when a part fails",
        markdown: include_str!("guide/cluster.md"),
    },
    Guide {
        topic: "benchmark",
        summary: "Measuring order and speed of a node or of another system with hookyard bench, and \
            what was measured",
        markdown: include_str!("guide/benchmark.md"),
    },
];

const PAGE: &str = include_str!("guide.html");

/// Handles `GET /docs/guide/`: lists the guides.
pub(in crate::edge) async fn list(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let request = &context.request;
    if !wants_markdown(request) && !request.path().ends_with('/') {
        return Ok(redirect("guide/"));
    }
    Ok(respond(request, ""))
}

/// Handles `GET /docs/guide/{topic}`: shows a guide as HTML or Markdown.
pub(in crate::edge) async fn page(context: &mut RequestContext) -> Result<HttpResponse, ApiError> {
    let path: String = context.parse_path()?;
    let topic = path.trim_end_matches(".md");
    let guide = GUIDES.iter().find(|guide| guide.topic == topic);
    let guide = guide.ok_or_else(|| {
        ApiError::not_found("there is no such guide; /docs/guide/ lists all guides")
    })?;

    let request = &context.request;
    // The links between guides are relative to the path without a slash.
    if !wants_markdown(request) && request.path().ends_with('/') {
        return Ok(redirect(&format!("../{topic}")));
    }
    Ok(respond(request, guide.topic))
}

/// Renders the list of guides as Markdown.
fn list_guides() -> String {
    let mut list = "# Guides\n\n".to_owned();
    for Guide { topic, summary, .. } in GUIDES {
        list += &format!("- [{topic}]({topic}.md): {summary}\n");
    }
    list
}

fn wants_markdown(request: &HttpRequest) -> bool {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("text/markdown") || request.path().trim_end_matches('/').ends_with(".md")
}

fn redirect(target: &str) -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((LOCATION, target))
        // Another client gets Markdown from the same path, so no cache may give it this redirect.
        .insert_header((VARY, "accept"))
        .finish()
}

/// A guide in both forms.
struct GuideAnswers {
    page: StaticAnswer,
    markdown: StaticAnswer,
}

impl GuideAnswers {
    fn new(markdown: impl AsRef<str>) -> Self {
        let markdown = markdown.as_ref();
        Self {
            page: StaticAnswer::new("text/html; charset=utf-8", render_page(markdown)),
            markdown: StaticAnswer::new("text/markdown; charset=utf-8", markdown.to_owned()),
        }
    }
}

/// Answers by topic; the list of the guides has the empty topic.
static ANSWERS: LazyLock<HashMap<&'static str, GuideAnswers>> = LazyLock::new(|| {
    let guides = GUIDES.map(|guide| (guide.topic, GuideAnswers::new(guide.markdown)));
    let list = ("", GuideAnswers::new(list_guides()));
    guides.into_iter().chain([list]).collect()
});

/// Makes the answers, unless that is done.
pub(super) fn prepare_answers() {
    LazyLock::force(&ANSWERS);
}

fn respond(request: &HttpRequest, topic: &str) -> HttpResponse {
    let answers = &ANSWERS[topic];
    let mut response = match wants_markdown(request) {
        true => answers.markdown.respond(request),
        false => answers.page.respond(request),
    };
    let vary = HeaderValue::from_static("accept, accept-encoding");
    response.headers_mut().insert(VARY, vary);
    response
}

/// Level of a heading, its text, and its anchor.
type Heading = (HeadingLevel, String, String);

/// Renders `markdown` as an HTML page with a table of contents.
fn render_page(markdown: &str) -> String {
    let mut events: Vec<_> = Parser::new_ext(markdown, Options::ENABLE_TABLES)
        .map(to_page_link)
        .collect();
    let headings = name_headings(&mut events);
    let title = headings
        .first()
        .map(|(_, text, _)| Event::Text(CowStr::from(text.clone())));

    let page = PAGE.replacen("%TITLE%", &to_html(title), 1);
    let page = page.replacen("%CONTENTS%", &to_html(table_of_contents(&headings)), 1);
    page.replacen("%BODY%", &to_html(events), 1)
}

fn to_html<'e>(events: impl IntoIterator<Item = Event<'e>>) -> String {
    let mut text = String::new();
    html::push_html(&mut text, events.into_iter());
    text
}

/// Turns a link to another guide's file into a link to its page.
fn to_page_link(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) if !dest_url.contains("://") => {
            let dest_url = CowStr::from(dest_url.replacen(".md", "", 1));
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            })
        }
        other => other,
    }
}

/// Gives each heading in `events` an anchor made of its text.
fn name_headings(events: &mut [Event<'_>]) -> Vec<Heading> {
    let mut headings = Vec::new();
    for start in 0..events.len() {
        let Event::Start(Tag::Heading { level, .. }) = events[start] else {
            continue;
        };
        let inside = events[start..]
            .iter()
            .take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
        let text: String = inside
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let name = anchor(&text);
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
            *id = Some(CowStr::from(name.clone()));
        }
        headings.push((level, text, name));
    }
    headings
}

/// Makes the anchor that GitHub also makes of a heading's text.
fn anchor(text: &str) -> String {
    let text = text.to_lowercase().replace(' ', "-");
    text.chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, '-' | '_'))
        .collect()
}

/// Builds a list of links to the sections, as Markdown events.
fn table_of_contents(headings: &[Heading]) -> Vec<Event<'static>> {
    let mut events = vec![Event::Start(Tag::List(None))];
    for (_, text, name) in headings
        .iter()
        .filter(|(level, ..)| *level == HeadingLevel::H2)
    {
        let (dest_url, text) = (CowStr::from(format!("#{name}")), CowStr::from(text.clone()));
        let (title, id) = (CowStr::from(""), CowStr::from(""));
        events.extend([
            Event::Start(Tag::Item),
            Event::Start(Tag::Link {
                link_type: LinkType::Inline,
                dest_url,
                title,
                id,
            }),
            Event::Text(text),
            Event::End(TagEnd::Link),
            Event::End(TagEnd::Item),
        ]);
    }
    events.push(Event::End(TagEnd::List(false)));
    events
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn headings(markdown: &str) -> Vec<Heading> {
        name_headings(&mut Parser::new_ext(markdown, Options::ENABLE_TABLES).collect::<Vec<_>>())
    }

    #[test]
    fn a_page_has_contents_names_for_headings_and_links_to_pages() {
        let page = render_page(
            "# A `b` & c\n\n## Log lines\n\n[other](subscribe.md#a-b)\n\n|x|\n|-|\n|<y>|\n",
        );
        assert!(page.contains("<title>A b &amp; c</title>"), "{page}");
        for part in [
            "<a href=\"#log-lines\">Log lines</a>",
            "<h2 id=\"log-lines\">",
            "<a href=\"subscribe#a-b\">other</a>",
            "<table>",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
        for place in ["%TITLE%", "%CONTENTS%", "%BODY%"] {
            assert!(!page.contains(place), "{place} was left");
        }
    }

    #[test]
    fn every_link_in_a_guide_leads_somewhere() {
        for guide in GUIDES {
            let names: Vec<_> = headings(guide.markdown)
                .into_iter()
                .map(|(_, _, name)| name)
                .collect();
            assert_eq!(
                names.iter().collect::<BTreeSet<_>>().len(),
                names.len(),
                "{}: {names:?}",
                guide.topic
            );
            for event in Parser::new_ext(guide.markdown, Options::ENABLE_TABLES) {
                let Event::Start(Tag::Link { dest_url, .. }) = event else {
                    continue;
                };
                let (path, section) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
                let target = match path {
                    "" => Some(&guide),
                    _ => GUIDES
                        .iter()
                        .find(|other| path.strip_suffix(".md") == Some(other.topic)),
                };
                let leads = match target {
                    Some(target) => {
                        section.is_empty()
                            || headings(target.markdown)
                                .iter()
                                .any(|(.., name)| name == section)
                    }
                    None => path.starts_with("https://"),
                };
                assert!(leads, "{}: {dest_url}", guide.topic);
            }
        }
    }
}
