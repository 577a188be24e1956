//! Secrets in untrusted text, found and left out: private keys in every encoding that they are written in, tokens, and in
//! logs certificates, too.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The places of private keys, each to its end or the text's: in PEM (RFC 7468, 10 and 11, and their forerunners), and in
/// base64 or hexadecimal of PEM or of DER.
pub fn private_keys(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::<Range<usize>>::new();
    for (start, _) in text.match_indices("-----BEGIN ") {
        let label = &text[start + 11..text.floor_char_boundary(start + 60)];
        if found.last().is_some_and(|last| start < last.end)
            || !label.split("-----").next().unwrap_or(label).contains("PRIVATE KEY")
        {
            continue;
        }
        let body = start + 11;
        let end = text[body..].find("-----END ").map(|at| body + at + 9);
        let end = end.and_then(|end| Some(end + text[end..].find("-----")? + 5)).unwrap_or(text.len());
        found.push(start..end);
    }
    let pem = found.len();
    let mut at = 0;
    while let Some((word, next)) = next_word(text, at) {
        at = next;
        if let Some(start) = key_in(&text[word.clone()])
            && !found[..pem].iter().any(|key| key.contains(&word.start))
        {
            // The rest of it is in the lines below, where it was wrapped.
            let mut end = word.end;
            while let Some((more, next)) = next_word(text, end)
                && text[end..more.start].chars().all(|c| c.is_whitespace() || c == '=')
                && more.len() >= 4
                && !text[more.end..].trim_start_matches('=').starts_with([':', ',', '.'])
            {
                (end, at) = (more.end, next);
            }
            found.push(word.start + start..end);
        }
    }
    found.extend(spelled_keys(text));
    found.sort_by_key(|key| key.start);
    found.dedup_by(|later, key| {
        let one = later.start < key.end;
        if one {
            key.end = key.end.max(later.end);
        }
        one
    });
    found
}

/// The next word of the letters that base64 has, in either alphabet, and where it ends.
fn next_word(text: &str, from: usize) -> Option<(Range<usize>, usize)> {
    let letter = |c: &u8| matches!(c, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'+' | b'/' | b'-' | b'_');
    let bytes = text.as_bytes();
    let start = from + bytes[from..].iter().position(letter)?;
    let end = bytes[start..].iter().position(|c| !letter(c)).map_or(text.len(), |end| start + end);
    Some((start..end, end))
}

/// The fewest characters by whose beginning a private key is recognized: 16 octets in base64.
const SHORTEST_KEY: usize = 22;

/// Where in a word a private key begins: at its beginning, or behind a prefix such as `key-` or `0x`.
fn key_in(word: &str) -> Option<usize> {
    let after = word.match_indices(['+', '/', '-', '_', 'x']).map(|(at, _)| at + 1);
    std::iter::once(0).chain(after).find(|at| word.len() - at >= SHORTEST_KEY && encodes_key(&word[*at..]))
}

/// Private keys in hexadecimal with a colon or a blank between the octets.
fn spelled_keys(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for run in text.as_bytes().split(|c| !(c.is_ascii_hexdigit() || matches!(c, b':' | b' '))) {
        if run.len() > 3 * 32 {
            let key = text[start..start + run.len()].trim_start_matches([':', ' ']);
            let digits: String = key.chars().filter(char::is_ascii_hexdigit).take(96).collect();
            if encodes_key(&digits) {
                let end = start + run.len();
                found.push(end - key.len()..end);
            }
        }
        start += run.len() + 1;
    }
    found
}

/// Whether a word begins as a private key in base64, of either alphabet, or in hexadecimal.
fn encodes_key(word: &str) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    // The first octet is that of a sequence, a hyphen or an `o`.
    if !word.starts_with(['M', 'L', 'b', '3', '2', '6']) {
        return false;
    }
    let head = word.get(..96).unwrap_or(word).replace('-', "+").replace('_', "/");
    let base64 = STANDARD.decode(&head[..head.len() / 4 * 4]).is_ok_and(|octets| begins_key(&octets));
    let (pairs, _) = head.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let octets: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect();
    base64 || octets.is_some_and(|octets| begins_key(&octets))
}

/// Whether octets begin as a private key does: PKCS#8 (RFC 5208, also encrypted), PKCS#1, SEC1, OpenSSH's own, or PEM.
fn begins_key(octets: &[u8]) -> bool {
    /// The arc of PKCS#5 and PKCS#12, whose algorithms encrypt keys.
    const PKCS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01];
    let content = |octets: &'_ [u8]| -> Option<usize> {
        match octets {
            [0x30, length @ ..=0x7f, ..] if *length > 8 => Some(2),
            [0x30, long @ 0x81..0x84, ..] => Some(2 + usize::from(long & 0x7f)),
            _ => None,
        }
    };
    if octets.starts_with(b"openssh-key-v1") {
        return true;
    }
    if octets.starts_with(b"-----BEGIN ") {
        return octets.windows(11).any(|window| window == b"PRIVATE KEY");
    }
    let Some(rest) = content(octets).and_then(|at| octets.get(at..)) else {
        return false;
    };
    match rest {
        // Version 0 with an algorithm or a modulus, version 1 of either form, with a key or an algorithm.
        [2, 1, 0, 0x30 | 2, ..] | [2, 1, 1, 4 | 0x30, ..] => true,
        [0x30, ..] => {
            let inner = content(rest).and_then(|at| rest.get(at..)).unwrap_or_default();
            matches!(inner, [6, _, id @ ..] if id.starts_with(PKCS) && matches!(id.get(PKCS.len()), Some(5 | 12)))
        }
        _ => false,
    }
}

/// Untrusted text without the private keys that somebody put where none belongs.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let keys = if text.len() < SHORTEST_KEY && !text.contains("PRIVATE KEY") { Vec::new() } else { private_keys(text) };
    let mut shown = Cow::Borrowed(text);
    for key in keys.into_iter().rev() {
        shown.to_mut().replace_range(key, "(private key, not shown)");
    }
    shown
}

/// What is in the place of a token.
const TOKEN: &str = "(token)";

/// Text without tokens: bearer and basic credentials, JSON Web Tokens, and what is assigned to a name that says that it is
/// secret.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    static TOKENS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let jwt = r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*";
        let scheme = r"(?i:\b(?:bearer|basic))\s+[A-Za-z0-9._~+/-]{16,}=*";
        let named = r#"(?i:\b[a-z_-]*(?:token|password|passwd|pass|pwd|secret|api[_-]?key|credential)s?)["']?[ \t]*[=:][ \t]*["']?[^\s"',;&]{4,}"#;
        let user = r"://[^\s/@]+@";
        // As GitHub and AWS begin theirs.
        let marked = r"\b(?:gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|AKIA[A-Z0-9]{12,})";
        Regex::new(&format!("({user})|({jwt})|({scheme})|({named})|({marked})")).ok()
    });
    let Some(tokens) = &*TOKENS else {
        return Cow::Borrowed(text);
    };
    tokens.replace_all(text, |found: &Captures<'_>| {
        let found = &found[0];
        // What comes before the token says what it was.
        let kept = match found.find(['=', ':', ' ']) {
            _ if found.starts_with("://") => return format!("://{TOKEN}@"),
            Some(end) if !found.starts_with("eyJ") => &found[..=end],
            _ => "",
        };
        format!("{kept}{TOKEN}")
    })
}

/// Whether what is assigned to a name is secret.
fn is_secret(name: &str) -> bool {
    matches!(without_tokens(&format!("{name}=value")), Cow::Owned(_))
}

/// A value of a log without private keys, certificates and tokens; nothing of it where its name says that it is secret.
pub fn logged<'t>(name: &str, value: &'t str) -> Cow<'t, str> {
    if is_secret(name) { Cow::Borrowed(TOKEN) } else { without_secrets(value) }
}

/// Text of a log without private keys, certificates and tokens.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    static CERTIFICATES: LazyLock<Option<Regex>> = LazyLock::new(|| {
        // In PEM, to its end or the text's, and the base64 of that and of DER.
        let pem = r"-----BEGIN [A-Z0-9 ]*CERTIFICATE[A-Z0-9 ]*-----(?s:.*?)(?:-----END [^-]*-----|\z)";
        let base64 = r"(?:LS0tLS1CRUdJTi[A-Za-z0-9+/_-]{64,}|MII[A-Za-z0-9+/_-]{200,})=*";
        Regex::new(&format!("{pem}|{base64}")).ok()
    });
    let mut text = redacted(text);
    if let Some(certificates) = &*CERTIFICATES
        && let Cow::Owned(shown) = certificates.replace_all(&text, "(certificate, not shown)")
    {
        text = Cow::Owned(shown);
    }
    if let Cow::Owned(shown) = without_tokens(&text) {
        text = Cow::Owned(shown);
    }
    text
}

/// The lines of a log without the lines of PEM: each of them alone does not show what it is a part of.
#[derive(Debug, Default)]
pub struct Lines {
    is_inside: bool,
}

impl Lines {
    /// Returns a line without secrets; none for a line inside of PEM.
    pub fn next<'t>(&mut self, line: &'t str) -> Option<Cow<'t, str>> {
        let is_encoded = |least| {
            let line = line.trim().trim_end_matches('=');
            line.len() >= least && line.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
        };
        if self.is_inside {
            self.is_inside = is_encoded(0);
            if self.is_inside || line.trim_start().starts_with("-----END ") {
                return None;
            }
        }
        self.is_inside = line.rfind("-----BEGIN ").is_some_and(|at| !line[at..].contains("-----END "));
        // The beginning of PEM may be in lines that were not read.
        Some(if is_encoded(ENCODED) { Cow::Borrowed("(encoded text, not shown)") } else { without_secrets(line) })
    }
}

/// From how many characters on a line of nothing but base64 is taken for a part of PEM: less than its lines have.
const ENCODED: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::visible;

    #[test]
    fn private_keys_are_not_shown() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----";
        assert_eq!(visible(&format!("a {key}\n{key} b")), r"a (private key, not shown)\n(private key, not shown) b");
        assert_eq!(redacted("x -----BEGIN PRIVATE KEY-----\\nSECRET"), "x (private key, not shown)");
        let key = rcgen::KeyPair::generate().unwrap();
        let der = key.serialize_der();
        let hex: String = der.iter().map(|octet| format!("{octet:02x}")).collect();
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
        for encoded in [
            STANDARD.encode(&der),
            STANDARD_NO_PAD.encode(&der),
            URL_SAFE.encode(&der),
            hex,
            STANDARD.encode(key.serialize_pem()),
        ] {
            let shown = redacted(&format!("k: {encoded}\"")).into_owned();
            assert!(shown.starts_with("k: (private key, not shown)") && shown.len() < 32, "{shown}");
        }
        let wrapped: String = STANDARD
            .encode(&der)
            .as_bytes()
            .chunks(32)
            .map(|line| format!("  {}\n", str::from_utf8(line).unwrap()))
            .collect();
        let spelled: String = der.iter().map(|octet| format!("{octet:02x}:")).collect();
        for text in [wrapped, spelled, format!("KEY_{}", STANDARD.encode(&der)), format!("0x{}", STANDARD.encode(&der))]
        {
            let shown = redacted(&text).into_owned();
            assert!(shown.contains("not shown") && shown.len() < 40, "{shown}");
        }
        let harmless = STANDARD.encode(rcgen::generate_simple_self_signed(vec![]).unwrap().cert.der());
        assert_eq!(redacted(&harmless), harmless);
        assert_eq!(redacted(&"a/b-c".repeat(40)), "a/b-c".repeat(40));
        let public = "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY----- and the words PRIVATE KEY";
        assert_eq!(redacted(public), public);
    }

    #[test]
    fn a_log_shows_no_key_no_certificate_and_no_token() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
        for (name, value, shown) in [
            ("ca", certificate.as_str(), "(certificate, not shown)\n"),
            ("cut", &certificate[..100], "(certificate, not shown)"),
            (
                "pair",
                &format!("{certificate}{}", key.serialize_pem()),
                "(certificate, not shown)\n(private key, not shown)\n",
            ),
            ("header", &format!("Bearer {jwt}"), "Bearer (token)"),
            ("token", "two words", "(token)"),
            ("apiKey", "1", "(token)"),
            ("error", "dial failed: websocket: bad handshake", "dial failed: websocket: bad handshake"),
            ("url", "wss://gateway.example.com:8443/ws", "wss://gateway.example.com:8443/ws"),
        ] {
            assert_eq!(logged(name, value), shown, "{name}");
        }
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let (pem, der) = (STANDARD.encode(&certificate), certificate.lines().filter(|line| !line.starts_with('-')));
        for encoded in [pem, der.collect()] {
            assert_eq!(without_secrets(&format!("x {encoded} y")), "x (certificate, not shown) y");
        }
    }

    #[test]
    fn lines_of_pem_are_left_out_of_a_log() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let shown = |text: &str| {
            let mut lines = Lines::default();
            text.lines().filter_map(|line| lines.next(line).map(Cow::into_owned)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&format!("before\n{key}after\nend")), ["before", "(private key, not shown)", "after", "end"]);
        // From the middle, and one that has no end.
        let lines: Vec<_> = key.lines().collect();
        assert_eq!(shown(lines[1]), ["(encoded text, not shown)"]);
        assert_eq!(shown(&format!("{}\n{}\nagent started: ok", lines[0], lines[1])).len(), 2);
        assert_eq!(shown("connected\na=b"), ["connected", "a=b"]);
    }
}
