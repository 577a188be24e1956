//! Two texts as a unified difference.

use similar::{ChangeTag, TextDiff};

use crate::manifest::Manifest;
use crate::paint;
use crate::secrets::private_keys;
use crate::text::{hidden, visible};

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

/// What a manifest's text becomes when it is `done`, without the lines of private keys.
pub fn of_manifests(before: &Manifest, after: &Manifest, done: &str) -> String {
    let name = visible(&before.file);
    unified(&shown(&before.text), &shown(&after.text), &name, &format!("{name} ({done})"))
}

/// A text with its hidden characters visible, and without the lines of private keys.
pub fn shown(text: &str) -> String {
    let keys = private_keys(text);
    let mut at = 0;
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let secret = keys.iter().any(|key| key.start < end && at < key.end);
        let plain = line.trim_end_matches(['\r', '\n']);
        match secret {
            true => shown.push_str("(not shown: it holds a private key)"),
            false if plain.contains(hidden) => shown.push_str(&visible(plain)),
            false => shown.push_str(plain),
        }
        shown.push('\n');
        at = end;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;

    #[test]
    fn only_differences_are_reported() {
        let key = rcgen::KeyPair::generate().unwrap();
        for secret in [
            key.serialize_pem(),
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.serialize_der()),
        ] {
            let text = format!("a: 1\n{secret}\nb: 1\n");
            let manifest = |text: String| Manifest::unread("f".into(), text);
            let difference = of_manifests(&manifest(text.clone()), &manifest(text.replace("b: 1", "b: 2")), "fixed");
            assert!(
                difference.contains("not shown") && secret.lines().all(|line| !difference.contains(line)),
                "{difference}"
            );
        }
        assert_eq!(unified("a\n", "a\n", "x", "y"), "");
        assert_eq!(plain(&unified("a\nb\n", "a\nc\n", "x", "y")), "--- x\n+++ y\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    }
}
