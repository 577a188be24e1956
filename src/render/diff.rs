//! Two texts as a unified difference.

use similar::{ChangeTag, TextDiff};

use crate::term::paint;

/// Lines around a change.
const CONTEXT: usize = 3;

/// The difference, or nothing where there is none. The texts must be visible already.
pub fn unified(before: &str, after: &str, before_name: &str, after_name: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        if text.is_empty() {
            text = format!(
                "{}\n{}\n",
                paint::strong(&format!("--- {before_name}")),
                paint::strong(&format!("+++ {after_name}"))
            );
        }
        text.push_str(&format!("{}\n", paint::faint(&hunk.header().to_string())));
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            text.push_str(&match change.tag() {
                ChangeTag::Equal => format!(" {line}\n"),
                ChangeTag::Delete => paint::bad(&format!("-{line}")) + "\n",
                ChangeTag::Insert => paint::good(&format!("+{line}")) + "\n",
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;

    #[test]
    fn only_differences_are_told() {
        assert_eq!(unified("a\n", "a\n", "x", "y"), "");
        assert_eq!(plain(&unified("a\nb\n", "a\nc\n", "x", "y")), "--- x\n+++ y\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    }
}
