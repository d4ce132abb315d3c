//! Did you mean …? The known name that a misspelt one is nearest to, by slips: letters that are
//! missing, extra, wrong or swapped with their neighbour (Damerau-Levenshtein).

/// The most slips in a name that the sender of a request may have made: where it counts as
/// misspelt, the request is refused.
const MEMBER_SLIPS_MAX: usize = 2;

/// The shortest beginning of a member's name, in characters, that is taken for that name.
const BEGINNING_MIN: usize = 3;

/// The one of `known` that `given` is nearest to, if it is near: by two slips, or by a third of the
/// length of its last part.
pub(crate) fn nearest_name<T: AsRef<str>>(
    given: &str,
    known: impl IntoIterator<Item = T>,
) -> Option<T> {
    let slips_max = slips_max(given);
    nearest(known, |candidate| count_slips(given, candidate, slips_max))
}

/// As [`nearest_name`], for keys with dots: also one that is right but for its section, which
/// counts as one slip.
pub(crate) fn nearest_key<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // One underscore for two in a variable is the commonest slip of all.
    let flat = |key: &str| key.replace('.', "_");
    let (slips_max, flat_given) = (slips_max(given), flat(given));
    nearest(known, |candidate| {
        let whole = count_slips(&flat_given, &flat(candidate), slips_max);
        let last = count_slips(last_part(given), last_part(candidate), slips_max - 1)
            .map(|slips| slips + 1);
        whole.into_iter().chain(last).min()
    })
}

/// The one of `known` that `given` is nearest to in any style of writing several words as one, or
/// is longer or shorter than at its end only.
pub(crate) fn nearest_member(given: &str, known: &[&'static str]) -> Option<&'static str> {
    let flat = |name: &str| -> String {
        name.chars()
            .filter(|c| !matches!(c, '_' | '-'))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let given = flat(given);
    let length = given.chars().count();
    nearest(known.iter().copied(), |candidate| {
        let candidate = flat(candidate);
        let is_begun = length >= BEGINNING_MIN
            && (candidate.starts_with(&given) || given.starts_with(&candidate));
        let slips = count_slips(&given, &candidate, MEMBER_SLIPS_MAX.min(length / 2));
        slips.or(is_begun.then_some(MEMBER_SLIPS_MAX))
    })
}

fn nearest<T: AsRef<str>>(
    known: impl IntoIterator<Item = T>,
    count_slips: impl Fn(&str) -> Option<usize>,
) -> Option<T> {
    let near = known
        .into_iter()
        .filter_map(|candidate| Some((count_slips(candidate.as_ref())?, candidate)));
    near.min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The slips between `given` and `candidate`, if they are no more than `slips_max`.
fn count_slips(given: &str, candidate: &str, slips_max: usize) -> Option<usize> {
    // There is a slip for each character that one of them is longer by, and comparing takes as long
    // as both are.
    let is_near = given.chars().count().abs_diff(candidate.chars().count()) <= slips_max;
    is_near
        .then(|| strsim::damerau_levenshtein(given, candidate))
        .filter(|slips| *slips <= slips_max)
}

/// As many slips as a hurried hand makes in a name like `given`.
fn slips_max(given: &str) -> usize {
    2.max(last_part(given).chars().count() / 3)
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
    fn a_slip_in_a_member_is_told_from_a_member_of_another_thing() {
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
            "soon enough"
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

    #[test]
    fn what_stands_before_a_name_allows_no_more_slips_in_it() {
        assert_eq!(
            nearest_name("custom:shopp", ["custom:shop"]),
            Some("custom:shop")
        );
        assert_eq!(nearest_name("custom:store", ["custom:shop"]), None);
    }
}
