//! Whether a delivery is signed as it should be: every style that it shows, each with every key at hand.

use std::fmt;
use std::time::Duration;

use crate::event::Timestamp;
use crate::provider::{Algorithm, BadKey, Claim, Encoding, Key, NoClaim, Preset, Proof, Request, Scheme, find_preset};
use crate::subscription::Style;

const CRM: Scheme = Scheme::of_body("x-webhook-signature", "", Algorithm::HmacSha256, Encoding::Hex);
const HUB: Scheme = Scheme::of_body("x-hub-signature-256", "sha256=", Algorithm::HmacSha256, Encoding::Hex);

/// How far the signed time may be from this machine's clock, either way: what Standard Webhooks advises.
const TOLERANCE: Duration = Duration::from_secs(300);

/// What deliveries can be verified with.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The characters of each secret, which `crm` and `hub` are signed with.
    plain: Vec<Key>,
    /// The bytes that each secret stands for, which `standard` is signed with.
    standard: Vec<Key>,
    public: Vec<Key>,
}

/// How signatures of one style turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One of them fits.
    Right,
    /// None of them does, or they are none.
    Wrong,
    /// One fits, but was made too long ago, or ahead.
    Stale,
    /// There is no key that they could be verified with.
    Unchecked,
}

/// A style that a delivery shows, and how it turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) style: Style,
    pub(super) verdict: Verdict,
    /// How many signatures there are, and how many of them fit.
    pub(super) given: usize,
    pub(super) fitting: usize,
}

impl Keys {
    /// Adds a subscription's secret.
    ///
    /// # Errors
    /// [`BadKey`] for an empty one.
    pub(super) fn add_secret(&mut self, text: &str) -> Result<(), BadKey> {
        let plain = Key::secret(text)?;
        let decoded = text.starts_with("whsec_").then(|| Key::standard(text).ok()).flatten();
        self.standard.push(decoded.unwrap_or_else(|| plain.clone()));
        self.plain.push(plain);
        Ok(())
    }

    /// Adds a subscription's public key, `whpk_…`.
    ///
    /// # Errors
    /// [`BadKey`] for anything else.
    pub(super) fn add_public(&mut self, text: &str) -> Result<(), BadKey> {
        self.public.push(Key::public(text)?);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.public.is_empty()
    }

    /// Every style that `request` shows, and how it turned out.
    pub(super) fn check(&self, request: &Request<'_>, now: Timestamp) -> Vec<Checked> {
        let mut all = Vec::new();
        all.extend(self.of_body(Style::Crm, CRM.claim(request), now));
        all.extend(self.of_standard(request, now));
        all.extend(self.of_body(Style::Hub, HUB.claim(request), now));
        all
    }

    fn of_body(&self, style: Style, claim: Result<Claim<'_>, NoClaim>, now: Timestamp) -> Option<Checked> {
        match claim {
            Ok(claim) => Some(judge(style, &claim, &claim.proofs[0], &self.plain, now)),
            Err(NoClaim::NoHeader(_)) => None,
            Err(_) => Some(Checked { style, verdict: Verdict::Wrong, given: 0, fitting: 0 }),
        }
    }

    /// Both styles that share the headers of Standard Webhooks.
    fn of_standard(&self, request: &Request<'_>, now: Timestamp) -> Vec<Checked> {
        if request.header("webhook-signature").is_none() {
            return Vec::new();
        }
        let preset: &Preset = find_preset("standard").expect("it is one of them");
        let Ok(claim) = preset.claim(request) else {
            return vec![Checked { style: Style::Standard, verdict: Verdict::Wrong, given: 0, fitting: 0 }];
        };
        let of = |proof: &Proof| match proof.algorithm {
            Algorithm::Ed25519 => judge(Style::V1a, &claim, proof, &self.public, now),
            Algorithm::HmacSha1
            | Algorithm::HmacSha256
            | Algorithm::HmacSha512
            | Algorithm::Sha256
            | Algorithm::Token => judge(Style::Standard, &claim, proof, &self.standard, now),
        };
        claim.proofs.iter().map(of).collect()
    }
}

fn judge(style: Style, claim: &Claim<'_>, proof: &Proof, keys: &[Key], now: Timestamp) -> Checked {
    let fits = |signature: &Vec<u8>| {
        let proof = Proof { algorithm: proof.algorithm, signatures: vec![signature.clone()] };
        Claim { proofs: vec![proof], ..claim.clone() }.check(keys, Duration::ZERO, now).is_ok()
    };
    let fitting = proof.signatures.iter().filter(|signature| fits(signature)).count();
    let verdict = match fitting {
        _ if keys.is_empty() => Verdict::Unchecked,
        0 => Verdict::Wrong,
        _ if claim.check(keys, TOLERANCE, now).is_err() => Verdict::Stale,
        _ => Verdict::Right,
    };
    Checked { style, verdict, given: proof.signatures.len(), fitting }
}

impl Checked {
    /// The style's name, as subscriptions have it.
    pub(super) fn name(&self) -> &'static str {
        match self.style {
            Style::Crm => "crm",
            Style::Standard => "standard",
            Style::Hub => "hub",
            Style::V1a => "v1a",
        }
    }

    /// Whether there is something wrong with it.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self.verdict, Verdict::Wrong | Verdict::Stale)
    }
}

impl Verdict {
    /// A word for scripts.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::Stale => "stale",
            Self::Unchecked => "unchecked",
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Right => "ok",
            Verdict::Wrong => "WRONG",
            Verdict::Stale => "STALE",
            Verdict::Unchecked => "not checked",
        };
        write!(f, "{} {verdict}", self.name())?;
        // During a rotation there is one for each of two secrets.
        if self.given > 1 && self.verdict != Verdict::Unchecked {
            write!(f, " ({} of {})", self.fitting, self.given)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"event":"status.changed"}"#;
    const TIME: &str = "1764844200";

    /// The signatures of [`BODY`] were made with openssl and with Python's `cryptography`.
    const OF_BODY: &str = "ceba75884bcad7aa44211eb4110028a3d04c93d4bbbe081207158e8c86545c95";
    const HUSH: &str = "v1,c48w1MpTZ+fgLx/ynYOsoAWXBo3YIS8Vr/Ta7L59qf4=";
    const DECODED: &str = "v1,eSzry+P3noU5UWT2S1/M5bu63+hg+c0ZWaU85DsK/F8=";
    const V1A: &str = "v1a,Sb90zSLni24HGe8Gv9HQ0ktqvPQIiXy4MJsdXCj1zf6hzGcGRGBdfteoUxmt0neZPZmOj2kq2F1Fj7Jj9gMsCw==";
    const PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

    fn keys(secrets: &[&str], public: &[&str]) -> Keys {
        let mut keys = Keys::default();
        secrets.iter().for_each(|secret| keys.add_secret(secret).expect("a secret"));
        public.iter().for_each(|public| keys.add_public(public).expect("a public key"));
        keys
    }

    /// What `keys` say of [`BODY`] with these headers, `age` seconds after it was signed.
    fn said(keys: &Keys, headers: &[(&'static str, &str)], age: u64) -> String {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = Request { method: "POST", url: "http://localhost/", headers, body: BODY };
        let now = Timestamp::parse("2025-12-04T10:30:00Z").expect("a time").saturating_add(Duration::from_secs(age));
        keys.check(&request, now).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn standard(signature: &str) -> [(&'static str, &str); 3] {
        [("webhook-id", "evt_1"), ("webhook-timestamp", TIME), ("webhook-signature", signature)]
    }

    #[test]
    fn each_style_that_is_there_is_checked_by_itself() {
        let hub = format!("sha256={OF_BODY}");
        let all = [&standard(HUSH)[..], &[("x-webhook-signature", OF_BODY), ("x-hub-signature-256", &hub)]].concat();
        assert_eq!(said(&keys(&["hush"], &[]), &all, 0), "crm ok, standard ok, hub ok");
        assert_eq!(said(&keys(&["other"], &[]), &all, 0), "crm WRONG, standard WRONG, hub WRONG");
        assert_eq!(said(&keys(&["other", "hush"], &[]), &all[3..], 0), "crm ok, hub ok", "any secret will do");
        assert_eq!(said(&Keys::default(), &all, 0), "crm not checked, standard not checked, hub not checked");
        assert_eq!(said(&keys(&["hush"], &[]), &[], 0), "");
        assert_eq!(said(&keys(&["hush"], &[]), &[("x-webhook-signature", "zz")], 0), "crm WRONG");
    }

    #[test]
    fn a_secret_of_standard_webhooks_is_decoded_for_that_style_only() {
        let keys = keys(&["whsec_c2VjcmV0LW9mLXN0YW5kYXJk"], &[]);
        assert_eq!(said(&keys, &standard(DECODED), 0), "standard ok");
        assert_eq!(said(&keys, &standard(HUSH), 0), "standard WRONG");
    }

    #[test]
    fn of_several_signatures_it_says_how_many_fit() {
        let both = format!("{HUSH} {DECODED} {V1A}");
        assert_eq!(said(&keys(&["hush"], &[PUBLIC]), &standard(&both), 0), "standard ok (1 of 2), v1a ok");
        assert_eq!(said(&keys(&["hush"], &[]), &standard(&both), 0), "standard ok (1 of 2), v1a not checked");
        assert_eq!(said(&keys(&["x"], &[PUBLIC]), &standard(&both), 0), "standard WRONG (0 of 2), v1a ok");
        assert_eq!(said(&keys(&["x"], &[PUBLIC]), &standard("v1a,AAAA"), 0), "v1a WRONG");
        assert_eq!(said(&keys(&["x"], &[PUBLIC]), &standard("v2,AAAA"), 0), "standard WRONG");
    }

    #[test]
    fn a_signature_of_long_ago_is_stale_and_a_wrong_one_is_wrong_at_any_age() {
        assert_eq!(said(&keys(&["hush"], &[]), &standard(HUSH), 300), "standard ok");
        assert_eq!(said(&keys(&["hush"], &[]), &standard(HUSH), 301), "standard STALE");
        assert_eq!(said(&keys(&["x"], &[]), &standard(HUSH), 301), "standard WRONG");
    }
}
