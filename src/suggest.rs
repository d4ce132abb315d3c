//! "Did you mean …?": finds the known name that is closest to an unknown one, by edit distance
//! (Damerau-Levenshtein: inserted, deleted, substituted and swapped letters).

/// Largest edit distance at which a request member counts as a misspelling of a known member.
/// Small, because such a request is refused.
const MEMBER_EDIT_DISTANCE_MAX: usize = 2;

/// Shortest prefix, in characters, that counts as an abbreviation of a member's name.
const PREFIX_MIN_CHARS: usize = 3;

/// Returns the name in `known` that is closest to `unknown`, if its edit distance is at most 2 or a
/// third of the length of the last part of `unknown`, whichever is larger.
pub(crate) fn nearest_name<T: AsRef<str>>(
    unknown: &str,
    known: impl IntoIterator<Item = T>,
) -> Option<T> {
    let distance_max = distance_max(unknown);
    nearest(known, |candidate| {
        edit_distance(unknown, candidate, distance_max)
    })
}

/// Like [`nearest_name`], for keys with dots. A key that is right except for its section also
/// counts; the wrong section adds 1 to the distance.
pub(crate) fn nearest_key<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // The commonest mistake is one underscore instead of two in an environment variable, so dots
    // and underscores compare as equal.
    let normalize = |key: &str| key.replace('.', "_");
    let (distance_max, normalized) = (distance_max(unknown), normalize(unknown));

    nearest(known, |candidate| {
        let key = normalize(candidate);
        let whole_key = edit_distance(&normalized, &key, distance_max);
        let last_part_only =
            edit_distance(last_part(unknown), last_part(candidate), distance_max - 1)
                .map(|distance| distance + 1);
        let distance = whole_key.into_iter().chain(last_part_only).min()?;
        // Many sections may have the key: the one of the most similar name is meant.
        Some((distance, strsim::damerau_levenshtein(&normalized, &key)))
    })
}

/// Returns the member name in `known` that is closest to `unknown`, ignoring letter case, `_` and
/// `-`. A prefix, or a name with a suffix added, also counts.
pub(crate) fn nearest_member(unknown: &str, known: &[&'static str]) -> Option<&'static str> {
    let normalize = |name: &str| -> String {
        name.chars()
            .filter(|c| !matches!(c, '_' | '-'))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let unknown = normalize(unknown);
    let length = unknown.chars().count();
    let distance_max = MEMBER_EDIT_DISTANCE_MAX.min(length / 2);

    nearest(known.iter().copied(), |candidate| {
        let candidate = normalize(candidate);
        let is_prefix = length >= PREFIX_MIN_CHARS
            && (candidate.starts_with(&unknown) || unknown.starts_with(&candidate));
        let distance = edit_distance(&unknown, &candidate, distance_max);
        distance.or(is_prefix.then_some(MEMBER_EDIT_DISTANCE_MAX))
    })
}

fn nearest<T: AsRef<str>, D: Ord + Copy>(
    known: impl IntoIterator<Item = T>,
    distance_to: impl Fn(&str) -> Option<D>,
) -> Option<T> {
    let close = known
        .into_iter()
        .filter_map(|candidate| Some((distance_to(candidate.as_ref())?, candidate)));
    close
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the edit distance of two names if it is at most `distance_max`.
fn edit_distance(unknown: &str, candidate: &str, distance_max: usize) -> Option<usize> {
    // The distance is at least the difference in length. The comparison takes time proportional to
    // the product of both lengths, so a hopeless pair is not compared at all.
    let may_be_close = unknown.chars().count().abs_diff(candidate.chars().count()) <= distance_max;
    may_be_close
        .then(|| strsim::damerau_levenshtein(unknown, candidate))
        .filter(|distance| *distance <= distance_max)
}

/// Returns the largest edit distance at which `unknown` still counts as a misspelling.
fn distance_max(unknown: &str) -> usize {
    2.max(last_part(unknown).chars().count() / 3)
}

fn last_part(name: &str) -> &str {
    name.rsplit(['.', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&str; 6] = [
        "url",
        "events",
        "filter",
        "signing",
        "is_active",
        "retry_schedule_s",
    ];

    #[test]
    fn a_misspelt_member_is_told_from_a_member_of_another_object() {
        for (name, known) in [
            ("filters", Some("filter")),
            ("fitler", Some("filter")),
            ("filter_expression", Some("filter")),
            ("signings", Some("signing")),
            ("evnts", Some("events")),
            ("isActive", Some("is_active")),
            ("retry_schedule", Some("retry_schedule_s")),
            ("retrySchedule", Some("retry_schedule_s")),
            ("retry", Some("retry_schedule_s")),
            ("uri", Some("url")),
            ("org", None),
            ("u", None),
            ("", None),
            ("owner", None),
            ("tags", None),
        ] {
            assert_eq!(nearest_member(name, &MEMBERS), known, "{name}");
        }
        assert_eq!(
            nearest_member(&"events".repeat(100_000), &MEMBERS),
            Some("events"),
            "a very long name is compared quickly"
        );
    }

    #[test]
    fn only_a_key_may_have_another_section() {
        let known = ["server.bind", "telemetry.level"];
        assert_eq!(nearest_key("server.level", known), Some("telemetry.level"));
        assert_eq!(nearest_key("server_bind", known), Some("server.bind"));
        assert_eq!(nearest_key("server.loudness", known), None);
        assert_eq!(nearest_name("server.level", known), None);
        assert_eq!(nearest_name("server.bnid", known), Some("server.bind"));
    }

    /// The variable of another source was suggested, since its last part is the same.
    #[test]
    fn of_two_sections_with_the_key_the_more_similar_one_is_meant() {
        let known = [
            "sources.custom.dis.secrets",
            "sources.custom.my_repo.secrets",
        ];
        for unknown in [
            "sources.custom.myrepo.secrets",
            "sources.custom.mi_reppo.secrets",
        ] {
            assert_eq!(nearest_key(unknown, known), Some(known[1]), "{unknown}");
        }
    }

    #[test]
    fn a_prefix_of_a_name_allows_no_larger_distance() {
        assert_eq!(
            nearest_name("custom:shopp", ["custom:shop"]),
            Some("custom:shop")
        );
        assert_eq!(nearest_name("custom:store", ["custom:shop"]), None);
    }
}
