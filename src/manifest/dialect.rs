//! Where YAML as the API server reads it (Go's yaml.v2, which is YAML 1.1 as libyaml has it) is narrower than what the
//! parser takes. Each function looks at a piece of the text between or inside what the parser reported.
//!
//! A text that is JSON isn't looked at: kubectl sends it as such.

use std::iter;
use std::ops::Range;

/// What is wrong, and where.
pub(super) type Failed = (Range<usize>, String);

/// The message about a tab that the API server's reader refuses.
pub(super) const TAB: &str = "a tab is not allowed here: YAML is indented with spaces";

/// What is before a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing, or something after which a key may begin in the same line.
    Open,
    /// A plain scalar, which would go on in lines that are further in than this column.
    Plain {
        indent: Option<usize>,
    },
    Other,
}

/// The tab that indents the line of a place, or the next line.
pub(super) fn indenting_tab(text: &str, at: usize) -> Option<usize> {
    let mut start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[start..].split_inclusive('\n').take(2).find_map(|line| {
        let tab = start + line.len() - line.trim_start_matches(' ').len();
        start += line.len();
        text[tab..].starts_with('\t').then_some(tab)
    })
}

/// What the parser stumbles over at a place, and the API server's reader passes over: the tabs that begin lines in flow
/// style, to the end of what is open (`flow` collections), and a comment without a blank before it.
pub(super) fn passed_over(text: &str, at: usize, flow: usize) -> Vec<Range<usize>> {
    let Some((before, rest)) = text.split_at_checked(at) else {
        return Vec::new();
    };
    if rest.starts_with('#') {
        return iter::once(at..at + rest.find(['\r', '\n']).unwrap_or(rest.len())).collect();
    }
    let start = before.trim_end_matches('\t').len();
    if flow == 0 || (start == at && !rest.starts_with('\t')) {
        return Vec::new();
    }
    let bytes = text.as_bytes();
    let (mut tabs, mut depth, mut quote, mut at) = (Vec::new(), flow, None, start);
    // Where a line begins, so far.
    let mut blank = true;
    while at < bytes.len() && depth > 0 {
        match (bytes[at], quote) {
            (b'\n', _) => blank = true,
            (b'\t', None) if blank => tabs.push(at..at + 1),
            (b' ' | b'\t' | b'\r', _) => {}
            (b'\\', Some(b'"')) => at += 1,
            (mark, Some(open)) if mark == open => quote = None,
            (_, Some(_)) => {}
            (b'#', None) if blank || bytes[at - 1].is_ascii_whitespace() => {
                at = text[at..].find('\n').map_or(bytes.len(), |end| at + end);
                continue;
            }
            (mark @ (b'"' | b'\''), None) => (quote, blank) = (Some(mark), false),
            (b'[' | b'{', None) => (depth, blank) = (depth + 1, false),
            (b']' | b'}', None) => (depth, blank) = (depth - 1, false),
            _ => blank = false,
        }
        at += 1;
    }
    tabs
}

/// What is between two of the parser's events: blanks, comments, indicators, anchors and tags.
pub(super) fn gap(text: &str, gap: Range<usize>, before: Before, flow: bool) -> Result<(), Failed> {
    let bytes = text.as_bytes();
    // In flow style a line may be as long as the text, and nothing depends on its beginning.
    let line_of = |at: usize| text[..at].rfind('\n').map_or(0, |end| end + 1);
    let (mut at, mut line) = (gap.start, if flow { gap.start } else { line_of(gap.start) });
    // Whether a key may begin here: then a tab is no blank.
    let mut open = before == Before::Open;
    let mut plain = before;
    while at < gap.end {
        match bytes[at] {
            b'\n' => {
                open = true;
                line = at + 1;
            }
            b'\t' if !flow && open => {
                let column = at - line;
                let within = matches!(plain, Before::Plain { indent } if indent.is_none_or(|indent| column > indent));
                if !within {
                    return Err((at..at + 1, TAB.into()));
                }
            }
            b' ' | b'\r' | b'\t' => {}
            b'#' => {
                at = text[at..gap.end].find('\n').map_or(gap.end, |end| at + end);
                plain = Before::Other;
                continue;
            }
            b'-' | b'.' if !flow && at == line && bytes[at..gap.end].starts_with(&[bytes[at]; 3]) => {
                at += 3;
                (open, plain) = (false, Before::Other);
                continue;
            }
            b'|' | b'>' | b'%' => return Ok(()),
            b'-' | b'?' => (open, plain) = (true, Before::Other),
            b':' => plain = Before::Other,
            mark @ (b'&' | b'!') => {
                let word = text[at..gap.end].find(|c: char| c.is_whitespace()).map_or(gap.end, |end| at + end);
                if mark == b'&' {
                    name(text, at..word)?;
                }
                (open, plain) = (false, Before::Other);
                at = word;
                continue;
            }
            _ => (open, plain) = (false, Before::Other),
        }
        // Behind `key:` no key begins, behind a `:` of its own line one does.
        if bytes[at] == b':' && open {
            open = text[line..at].trim().is_empty();
        }
        at += 1;
    }
    Ok(())
}

/// The name of an anchor or an alias, behind its mark.
pub(super) fn name(text: &str, word: Range<usize>) -> Result<(), Failed> {
    let inner = &text[word.start + 1..word.end];
    let rest = inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if rest.len() == inner.len() || !(rest.is_empty() || rest.starts_with(['?', ':', ',', ']', '}', '%', '@', '`'])) {
        let message = "an anchor's name can have only letters, digits, `-` and `_`: put such a string in quotes";
        return Err((word, message.into()));
    }
    Ok(())
}

/// A plain scalar, in flow style or in a block that is indented by `indent`.
pub(super) fn plain(text: &str, span: Range<usize>, flow: bool, indent: Option<usize>) -> Result<(), Failed> {
    let raw = &text[span.clone()];
    if !raw.is_ascii()
        && let Some((at, c)) = raw.char_indices().find(|(_, c)| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))
    {
        let at = span.start + at;
        return Err((at..at + c.len_utf8(), "a Unicode line separator ends the line here: use quotes".into()));
    }
    if flow {
        if let Some(at) = raw.find('?') {
            let at = span.start + at;
            return Err((at..at + 1, "a string with a `?` needs quotes inside `{}` or `[]`".into()));
        }
        let after = &text.as_bytes()[span.end..];
        if after.first() == Some(&b':') && after.get(1).is_some_and(|next| b",[]{}".contains(next)) {
            return Err((span.end..span.end + 1, "the `:` is part of the string: write a space after it".into()));
        }
        return Ok(());
    }
    for (at, _) in raw.match_indices('\n') {
        let line = span.start + at + 1;
        let blanks = text[line..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t'));
        if let Some(column) = blanks.clone().zip(0..).find(|(byte, _)| *byte == b'\t').map(|(_, column)| column)
            && indent.is_some_and(|indent| column <= indent)
        {
            let at = line + column;
            return Err((at..at + 1, TAB.into()));
        }
    }
    Ok(())
}

/// A block scalar from its header on, to where its content ends.
pub(super) fn block(text: &str, header: usize, end: usize) -> Result<(), Failed> {
    let mut at = text[header..].find('\n').map_or(text.len(), |end| header + end + 1);
    let mut indent = None;
    while at < text.len() {
        let line = text[at..].lines().next().unwrap_or_default();
        let spaces = line.len() - line.trim_start_matches(' ').len();
        let content = &line[spaces..];
        if content.starts_with('\t') && indent.is_none_or(|indent| spaces < indent) {
            let at = at + spaces;
            return Err((at..at + 1, TAB.into()));
        }
        if !content.is_empty() && (at >= end || indent.is_some_and(|indent| spaces < indent)) {
            break;
        }
        if indent.is_none() && !content.is_empty() {
            indent = Some(spaces);
        }
        at += text[at..].find('\n').map_or(text.len() - at, |end| end + 1);
    }
    Ok(())
}

/// A text in double quotes: two escapes of JSON are none of YAML 1.1.
pub(super) fn double_quoted(text: &str, span: Range<usize>) -> Result<(), Failed> {
    let raw = &text[span.clone()];
    let mut escapes = raw.match_indices('\\').map(|(at, _)| at);
    let mut next = 0;
    for at in escapes.by_ref() {
        if at < next {
            continue;
        }
        next = at + 2;
        let rest = &raw.as_bytes()[at + 1..];
        let surrogate = rest.first() == Some(&b'u')
            && rest.get(1).is_some_and(|digit| matches!(digit, b'd' | b'D'))
            && rest.get(2).is_some_and(|digit| matches!(digit, b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F'));
        if rest.first() == Some(&b'/') || surrogate {
            let at = span.start + at;
            return Err((at..at + 2, "this escape exists in JSON, but not in YAML 1.1: write the character".into()));
        }
    }
    Ok(())
}

/// A key in flow style: it and its `:` stand in one line.
pub(super) fn flow_key(text: &str, span: Range<usize>) -> Result<(), Failed> {
    let after = &text[span.end..];
    let gap = after.len() - after.trim_start().len();
    let broken = text[span.clone()].contains('\n') || after[..gap].contains('\n');
    if broken && after[gap..].starts_with(':') {
        return Err((span, "a key and its `:` must be on one line".into()));
    }
    Ok(())
}

/// The directives before a document, from a place on.
pub(super) fn directives(text: &str, from: usize) -> Result<(), Failed> {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        let known = |name: &str| line[1..].strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '\t']));
        if line.starts_with('%') && !known("YAML") && !known("TAG") {
            return Err((at..at + line.trim_end().len(), "this directive is unknown".into()));
        }
        // `...` ends the document before.
        if !line.starts_with(['%', '#', '\n', '\r']) && !line.starts_with("...") {
            break;
        }
        at += line.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that a failure points at.
    fn at(text: &str, result: Result<(), Failed>) -> Option<&str> {
        result.err().map(|(span, _)| &text[span])
    }

    #[test]
    fn what_is_between_events_is_narrower_than_the_parser_takes() {
        for (text, before, flow, wrong) in [
            ("a:\n\tb", Before::Other, false, Some("\t")),
            ("a:\n\tb", Before::Other, true, None),
            ("x\t# y", Before::Other, false, None),
            ("- &a\u{e9} b", Before::Open, false, Some("&a\u{e9}")),
            ("- &a-1 b", Before::Open, false, None),
            ("\t", Before::Plain { indent: Some(0) }, false, None),
            ("\t", Before::Open, false, Some("\t")),
        ] {
            let end = text.rfind(['b', 'y']).unwrap_or(text.len());
            let start = text.find('\n').unwrap_or(0);
            assert_eq!(at(text, gap(text, start..end, before, flow)), wrong, "{text:?}");
        }
    }

    #[test]
    fn texts_of_each_style_have_their_limits() {
        let whole = |text: &str| 0..text.len();
        for (text, flow, wrong) in [
            ("a?b", true, Some("?")),
            ("a?b", false, None),
            ("a\u{2028}b", false, Some("\u{2028}")),
            ("a\n \tb", false, None),
        ] {
            assert_eq!(at(text, plain(text, whole(text), flow, None)), wrong, "{text:?}");
        }
        assert_eq!(at("a\n \tb", plain("a\n \tb", 0..5, false, Some(1))), Some("\t"));
        assert_eq!(at("{a:,}", plain("{a:,}", 1..2, true, None)), Some(":"));
        for (text, wrong) in [(r#""\/""#, Some(r"\/")), (r#""\ud83d""#, Some(r"\u")), (r#""\\/ \u00e9""#, None)] {
            assert_eq!(at(text, double_quoted(text, whole(text))), wrong, "{text}");
        }
        for (text, wrong) in [("|\n  a\n\tb\n", Some("\t")), ("|\n  a\n  \tb\n", None), ("|\n\ta\n", Some("\t"))] {
            assert_eq!(at(text, block(text, 0, text.len())), wrong, "{text:?}");
        }
    }

    #[test]
    fn keys_and_directives_stand_in_one_line() {
        assert_eq!(at("{a\n: 1}", flow_key("{a\n: 1}", 1..2)), Some("a"));
        assert_eq!(at("{a : 1}", flow_key("{a : 1}", 1..2)), None);
        for (text, wrong) in
            [("%YAML 1.1\n---\n", None), ("# x\n%TAG ! y\n", None), ("%FOO bar\n---\n", Some("%FOO bar"))]
        {
            assert_eq!(at(text, directives(text, 0)), wrong, "{text}");
        }
    }

    #[test]
    fn what_the_server_passes_over_is_passed_over() {
        for (text, place, flow, over) in [
            ("{\n\ta: 1}", 3, 1, vec!["\t"]),
            ("{\n\ta: 1,\n\t'\tb': 2}", 3, 1, vec!["\t", "\t"]),
            ("a#b", 1, 0, vec!["#b"]),
            ("a: 1", 1, 0, vec![]),
        ] {
            let found: Vec<_> = passed_over(text, place, flow).into_iter().map(|span| &text[span]).collect();
            assert_eq!(found, over, "{text:?}");
        }
    }
}
