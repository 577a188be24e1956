//! Fixes made in a file, as far as they go.

use std::path::Path;

use super::judging::{Judged, judge_text};
use crate::validate::{Finding, Validator, applied};

/// A file with every fix made, again and again until there is none left, and how many were made. What one of them brings
/// to light may be mended by the next.
pub fn mended(validator: &Validator, file: &Judged) -> Option<(Judged, usize)> {
    const ROUNDS: usize = 10;
    let faults = |judged: &Judged| {
        let of_text = |finding: &&Finding| matches!(finding.rule.id, "yaml-syntax" | "duplicate-key");
        judged.judgement.findings.iter().filter(of_text).count()
    };
    let (mut best, mut count) = (None::<Judged>, 0);
    for _ in 0..ROUNDS {
        let current = best.as_ref().unwrap_or(file);
        let text = &current.manifest.text;
        let edits: Vec<_> = current.judgement.findings.iter().filter_map(|f| f.fix.as_ref()?.edit(text)).collect();
        if edits.is_empty() {
            break;
        }
        let more = edits.len();
        let next = judge_text(validator, file.manifest.file.clone(), applied(text, edits));
        if faults(&next) > faults(current) {
            break;
        }
        count += more;
        best = Some(next);
    }
    best.map(|best| (best, count))
}

/// Returns how many names a file has.
pub fn links(path: &Path) -> u64 {
    #[cfg(unix)]
    return path.metadata().map_or(1, |metadata| std::os::unix::fs::MetadataExt::nlink(&metadata));
    #[cfg(not(unix))]
    return 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(text: &str) -> Option<(String, usize)> {
        let validator = Validator::reference("2026-11-22T12:00:00Z".parse().unwrap());
        let file = judge_text(&validator, "f".into(), text.to_owned());
        mended(&validator, &file).map(|(file, count)| (file.manifest.text, count))
    }

    #[test]
    fn fixes_are_made_until_none_is_left() {
        let plane = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a}\n";
        let (text, count) = mend(&format!("{plane}spec: {{planeId: a}} # kept\n")).unwrap();
        assert!(text.contains("planeID: a") && text.contains("# kept") && count > 0, "{text}");
        assert_eq!(mend(&text), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone() {
        assert_eq!(mend("a: [b\n"), None);
    }

    #[test]
    fn a_file_has_one_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!((links(file.path()), links(Path::new("/nowhere"))), (1, 1));
    }
}
