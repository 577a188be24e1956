//! The known name that a misspelt one probably means.

use crate::text::shell_quoted;

/// How many names are proposed at most.
const PROPOSED: usize = 3;
/// A word of this length is looked for inside of the candidates, too.
const INFIX: usize = 3;

/// Returns the candidates that a misspelt word probably means, the closest first; at most three, often none.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Vec<&'c str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let limit = (length / 3).max(1);
    let distance = |candidate: &'c str| {
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&word, &lower);
        (distance <= limit || (length >= INFIX && lower.contains(&word))).then_some((distance, candidate))
    };
    let mut found: Vec<_> = candidates.into_iter().filter_map(distance).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(PROPOSED).map(|(_, candidate)| candidate).collect()
}

/// Returns the question whether one of these is meant, which [`closest`] found; none where there are none.
pub fn did_you_mean(names: &[impl AsRef<str>]) -> Option<String> {
    let names: Vec<_> = names.iter().map(|name| shell_quoted(name.as_ref())).collect();
    let (last, before) = names.split_last()?;
    Some(match before {
        [] => format!("did you mean {last}?"),
        before => format!("did you mean {} or {last}?", before.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognized() {
        let names = ["shared-builder", "build", "control", "agent-trusted", "team-01", "team-02", "team-03", "team-04"];
        for (word, meant) in [
            ("shared-bilder", &["shared-builder"][..]),
            ("buidl", &["build"]),
            ("Control", &["control"]),
            ("agent-trustd", &["agent-trusted"]),
            ("shared", &["shared-builder"]),
            ("team-02", &["team-02", "team-01", "team-03"]),
            ("production", &[]),
            ("", &[]),
            ("x", &[]),
        ] {
            assert_eq!(closest(word, names), meant, "{word}");
        }
    }

    #[test]
    fn proposals_are_a_question() {
        assert_eq!(did_you_mean(&["a"]).as_deref(), Some("did you mean a?"));
        assert_eq!(did_you_mean(&["a", "b c", "d"]).as_deref(), Some("did you mean a, 'b c' or d?"));
        assert_eq!(did_you_mean(&[""; 0]), None);
    }
}
