//! Text that is neutral in a terminal and in a shell, and the command lines in messages.
//!
//! What comes from a file or a cluster goes through [`visible`] before it is rendered, never after.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::secrets::redacted;

/// Whether a character can change how a terminal shows what is around it: control and escape characters,
/// line and paragraph separators, and what reorders or hides text (Unicode TR36, bidirectional controls and tags).
pub fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Untrusted text, on one line, with every hidden character spelled out and without private keys.
pub fn visible(text: &str) -> Cow<'_, str> {
    match redacted(text) {
        Cow::Borrowed(text) => spelled(text),
        Cow::Owned(text) => Cow::Owned(spelled(&text).into_owned()),
    }
}

/// Returns a number of things: `1 file`, `2 files`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A path as [`visible`] text.
pub fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}

fn spelled(text: &str) -> Cow<'_, str> {
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if hidden(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Untrusted text as one word of a shell command, so that a hint can be pasted.
pub fn shell_quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,~".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('~') {
        return Cow::Borrowed(text);
    }
    if !text.contains(hidden) {
        return Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")));
    }
    let mut quoted = String::from("$'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if hidden(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// Returns how users call the program as a plugin of kubectl, such as `kubectl choreo`; none where kubectl did not start it.
pub fn plugin() -> Option<&'static str> {
    static CALLED: LazyLock<Option<String>> = LazyLock::new(|| {
        let program = std::env::args_os().next().map(PathBuf::from)?;
        plugin_of(program.file_stem()?.to_str()?)
    });
    CALLED.as_deref()
}

/// Reads the name of a plugin's file: kubectl separates its words by `-`, and takes `_` for a `-` within a word.
fn plugin_of(file: &str) -> Option<String> {
    Some(format!("kubectl {}", file.strip_prefix("kubectl-")?.replace('-', " ").replace('_', "-")))
}

/// Returns a text whose command lines name the program as it was called.
pub fn program(text: &str) -> Cow<'_, str> {
    match plugin() {
        Some(plugin) => as_plugin(text, plugin).into(),
        None => text.into(),
    }
}

fn as_plugin(text: &str, plugin: &str) -> String {
    // A hint may be made of texts that name the plugin already.
    text.replace(plugin, "choreoctl").replace("choreoctl ", &format!("{plugin} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_spelled_out() {
        assert_eq!(visible("a\u{1b}[31mb\n\u{202e}c\u{9b}"), r"a\u{1b}[31mb\n\u{202e}c\u{9b}");
        assert!(matches!(visible("größe 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_plugin_is_named_as_kubectl_calls_it() {
        assert_eq!(plugin_of("choreoctl"), None);
        assert_eq!(plugin_of("kubectl-choreo").as_deref(), Some("kubectl choreo"));
        assert_eq!(plugin_of("kubectl-oc_plane-ctl").as_deref(), Some("kubectl oc-plane ctl"));
        let text = "kubectl get cbp | choreoctl get -f -; kubectl choreo get";
        assert_eq!(as_plugin(text, "kubectl choreo"), "kubectl get cbp | kubectl choreo get -f -; kubectl choreo get");
    }

    #[test]
    fn quoted_words_survive_a_shell() {
        for text in ["plain-1.x/y", "", "two words", "it's", "$(id)", "a\nb", "a\u{1b}'\\b", "~x", "ünï"] {
            let script = format!("printf %s {}", shell_quoted(text));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{script}");
        }
    }
}
