//! Sessions of people who are logged in. They are in memory only, few, and end after a fixed time.
//!
//! The browser's cookie holds a random token; the table knows its hash, so that a lookup takes the
//! same time for all wrong tokens.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::notice::SessionNotice;
use crate::config::Secret;
use crate::edge::caller::CallerIdentity;

/// Most sessions at the same time; a new one ends the oldest of the token that has most. More people than
/// that share no node.
const SESSIONS_MAX: usize = 64;

/// Most sessions of one token; a new one ends its oldest. Enough for a few people who share a token, and
/// so few that nobody logs the others out by logging in.
const SESSIONS_OF_TOKEN_MAX: usize = 8;

/// Most unused login links at the same time; a new one ends the oldest.
const LINKS_MAX: usize = 8;

/// Time for which a login link can be used: long enough to start a browser.
const LINK_LIFETIME: Duration = Duration::from_secs(600);

/// Most notices of a session that no page has shown yet.
const NOTICES_MAX: usize = 4;

/// Hash of a session's token.
type TokenHash = [u8; 32];

/// Session of the person who made a request.
#[derive(Clone, Debug)]
pub(in crate::edge) struct DashboardSession {
    hash: TokenHash,
    /// Token that each form of the session's pages carries, and no page of another site knows.
    pub(in crate::edge) csrf: Secret,
    /// Person whose token began the session.
    pub(in crate::edge) caller: CallerIdentity,
}

/// Table of all sessions and login links. Times are of the monotonic clock.
#[derive(Debug)]
pub(in crate::edge) struct SessionTable {
    lifetime: Duration,
    entries: Mutex<SessionEntries>,
}

#[derive(Debug, Default)]
struct SessionEntries {
    sessions: HashMap<TokenHash, SessionEntry>,
    links: HashMap<TokenHash, Duration>,
}

#[derive(Debug)]
struct SessionEntry {
    csrf: Secret,
    caller: CallerIdentity,
    ends_at: Duration,
    notices: VecDeque<SessionNotice>,
}

impl SessionTable {
    /// Makes an empty table of sessions that end after `lifetime`.
    pub(in crate::edge) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            entries: Mutex::default(),
        }
    }

    /// Time after which a session ends.
    pub(in crate::edge) const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Begins a session of `caller` at `now` and returns its token.
    pub(in crate::edge) fn begin_session(&self, caller: CallerIdentity, now: Duration) -> Secret {
        let token = random_token();
        let entry = SessionEntry {
            csrf: random_token(),
            caller,
            ends_at: now + self.lifetime,
            notices: VecDeque::new(),
        };

        let mut entries = self.entries.lock();
        let sessions = &mut entries.sessions;
        sessions.retain(|_, session| session.ends_at > now);
        if let Some(displaced) = find_displaced(sessions, &entry.caller.name) {
            sessions.remove(&displaced);
        }
        sessions.insert(hash_token(token.expose()), entry);
        token
    }

    /// Returns the session with this token, unless it has ended.
    pub(in crate::edge) fn find_session(
        &self,
        token: &str,
        now: Duration,
    ) -> Option<DashboardSession> {
        let hash = hash_token(token);
        let entries = self.entries.lock();
        let entry = entries
            .sessions
            .get(&hash)
            .filter(|session| session.ends_at > now)?;
        Some(DashboardSession {
            hash,
            csrf: entry.csrf.clone(),
            caller: entry.caller.clone(),
        })
    }

    /// Ends `session`, for a logout.
    pub(in crate::edge) fn end_session(&self, session: &DashboardSession) {
        self.entries.lock().sessions.remove(&session.hash);
    }

    /// Leaves `notice` for the next page of `session`.
    pub(in crate::edge) fn add_notice(&self, session: &DashboardSession, notice: SessionNotice) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.sessions.get_mut(&session.hash) else {
            return;
        };
        if entry.notices.len() == NOTICES_MAX {
            entry.notices.pop_front();
        }
        entry.notices.push_back(notice);
    }

    /// Removes and returns the notices left for `session`.
    pub(in crate::edge) fn take_notices(&self, session: &DashboardSession) -> Vec<SessionNotice> {
        let mut entries = self.entries.lock();
        let entry = entries.sessions.get_mut(&session.hash);
        entry.map_or_else(Vec::new, |entry| entry.notices.drain(..).collect())
    }

    /// Makes the token of a link that logs in once, within [`LINK_LIFETIME`].
    pub(in crate::edge) fn issue_login_link(&self, now: Duration) -> Secret {
        let token = random_token();
        let links = &mut self.entries.lock().links;
        links.retain(|_, ends_at| *ends_at > now);
        if links.len() >= LINKS_MAX {
            let oldest = links.iter().min_by_key(|(_, ends_at)| **ends_at);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                links.remove(&oldest);
            }
        }
        links.insert(hash_token(token.expose()), now + LINK_LIFETIME);
        token
    }

    /// Uses up the login link with this token; `false` if there is none, or no longer.
    pub(in crate::edge) fn redeem_login_link(&self, token: &str, now: Duration) -> bool {
        let ends_at = self.entries.lock().links.remove(&hash_token(token));
        ends_at.is_some_and(|ends_at| ends_at > now)
    }
}

/// Finds the session that a new one of the token `name` ends, if there is no room beside it.
fn find_displaced(sessions: &HashMap<TokenHash, SessionEntry>, name: &str) -> Option<TokenHash> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for session in sessions.values() {
        *counts.entry(&session.caller.name).or_default() += 1;
    }
    let has_too_many = counts.get(name).copied() >= Some(SESSIONS_OF_TOKEN_MAX);
    if !has_too_many && sessions.len() < SESSIONS_MAX {
        return None;
    }
    let candidates = sessions
        .iter()
        .filter(|(_, session)| !has_too_many || *session.caller.name == *name);
    let displaced = candidates.min_by_key(|(_, session)| {
        let count = counts.get(&*session.caller.name).copied();
        (Reverse(count), session.ends_at)
    });
    displaced.map(|(hash, _)| *hash)
}

fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

fn random_token() -> Secret {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system provides random numbers");
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenRole;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn admin() -> CallerIdentity {
        CallerIdentity::of_config("config:admin", TokenRole::Admin, &Secret::new("t"))
    }

    fn table() -> SessionTable {
        SessionTable::new(HOUR)
    }

    #[test]
    fn a_session_is_found_by_its_token_until_it_ends() {
        let table = table();
        let token = table.begin_session(admin(), Duration::ZERO);
        let just_before = HOUR - Duration::from_nanos(1);
        let session = table.find_session(token.expose(), just_before);
        assert!(session.is_some());
        assert!(table.find_session(token.expose(), HOUR).is_none());
        assert!(table.find_session("", Duration::ZERO).is_none());

        table.end_session(&session.expect("found above"));
        assert!(table.find_session(token.expose(), Duration::ZERO).is_none());
    }

    /// A reader logged everybody else out by logging in again and again.
    #[test]
    fn a_token_ends_only_its_own_sessions_and_in_a_full_table_those_of_the_most_active() {
        let table = table();
        let named =
            |name: &str| CallerIdentity::of_config(name, TokenRole::Read, &Secret::new(name));
        let begin =
            |name: &str, second| table.begin_session(named(name), Duration::from_secs(second));
        let is_kept = |token: &Secret| {
            table
                .find_session(token.expose(), Duration::from_secs(99))
                .is_some()
        };
        let first = begin("first", 0);
        let of_reader: Vec<_> = (1..80).map(|second| begin("reader", second)).collect();
        assert!(is_kept(&first));
        assert_eq!(of_reader.iter().filter(|token| is_kept(token)).count(), 8);

        let others: Vec<_> = (0..62)
            .map(|number| begin(&format!("other-{number}"), 80))
            .collect();
        assert!(is_kept(&first) && others.iter().all(is_kept));
        assert_eq!(of_reader.iter().filter(|token| is_kept(token)).count(), 1);
        assert_eq!(table.entries.lock().sessions.len(), SESSIONS_MAX);
    }

    #[test]
    fn sessions_differ_and_the_oldest_makes_room() {
        let table = table();
        let tokens: Vec<_> = (0..=SESSIONS_OF_TOKEN_MAX as u64)
            .map(|second| table.begin_session(admin(), Duration::from_secs(second)))
            .collect();
        let find = |token: &Secret| table.find_session(token.expose(), Duration::from_secs(99));
        assert!(find(&tokens[0]).is_none());
        let second = find(&tokens[1]).expect("kept");
        let third = find(&tokens[2]).expect("kept");
        assert_ne!(second.csrf.expose(), third.csrf.expose());
        let kept = table.entries.lock().sessions.len();
        assert_eq!(kept, SESSIONS_OF_TOKEN_MAX);
    }

    #[test]
    fn a_notice_is_shown_once_and_to_its_own_session_only() {
        let table = table();
        let [one, other] = [(); 2].map(|()| {
            let token = table.begin_session(admin(), Duration::ZERO);
            table
                .find_session(token.expose(), Duration::ZERO)
                .expect("it has begun")
        });
        for number in 0..10 {
            table.add_notice(&one, SessionNotice::Success(number.to_string()));
        }
        assert!(table.take_notices(&other).is_empty());
        assert_eq!(table.take_notices(&one).len(), NOTICES_MAX);
        assert!(table.take_notices(&one).is_empty());
    }

    #[test]
    fn a_login_link_works_once_and_for_a_while() {
        let table = table();
        let link = table.issue_login_link(Duration::ZERO);
        assert!(!table.redeem_login_link("other", Duration::ZERO));
        assert!(table.redeem_login_link(link.expose(), Duration::ZERO));
        assert!(!table.redeem_login_link(link.expose(), Duration::ZERO));

        let late = table.issue_login_link(Duration::ZERO);
        assert!(!table.redeem_login_link(late.expose(), LINK_LIFETIME));
        let links: Vec<_> = (0..=LINKS_MAX as u64)
            .map(|second| table.issue_login_link(Duration::from_secs(second)))
            .collect();
        assert!(!table.redeem_login_link(links[0].expose(), Duration::from_secs(20)));
        assert!(table.redeem_login_link(links[1].expose(), Duration::from_secs(20)));
    }
}
