//! PEM (RFC 7468), split as Go's `encoding/pem` splits it, which is how the gateway reads a CA.

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{PAD, STANDARD};
use zeroize::Zeroizing;

use crate::secrets::private_keys;

/// One block: what is between `-----BEGIN LABEL-----` and `-----END LABEL-----`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub label: String,
    /// Whether it has headers (RFC 1421), as encrypted keys do. Go's certificate pool skips such a block.
    pub headers: bool,
    pub der: Vec<u8>,
}

/// Go takes no offence at bits that are left over in the last character.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const END_LINE: &str = "\n-----END ";
const DASHES: &str = "-----";

/// The whole blocks in a text; what is around them, and blocks that are broken, is passed over.
///
/// As Go does since 1.24.8 and 1.25.2: the first end, and the last beginning before it (CVE-2025-61723).
pub fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    while let Some(newline) = text[at..].find(END_LINE) {
        let end = at + newline + 1;
        match block_before(text, at, end) {
            Some((block, after)) => {
                blocks.push(block);
                at = after;
            }
            None => at = end + END.len(),
        }
    }
    blocks
}

/// The block that ends at `end` and begins at `from` or later, and where the line after it begins.
fn block_before(text: &str, from: usize, end: usize) -> Option<(Block, usize)> {
    let begin = from + text[from..end].rfind(BEGIN)?;
    // Go takes a beginning at the very place where it goes on for one at the beginning of a line.
    if begin != from && text.as_bytes()[begin - 1] != b'\n' {
        return None;
    }
    let (label, body) = line(text, begin + BEGIN.len());
    let (end_label, after) = line(text, end + END.len());
    let label = label.strip_suffix(DASHES).filter(|label| end_label.strip_suffix(DASHES) == Some(label))?;
    Some((block(label, &text[body.min(end)..end])?, after))
}

/// The rest of a line without the blanks at its end, and where the next one begins.
fn line(text: &str, from: usize) -> (&str, usize) {
    let end = text[from..].find('\n').map_or(text.len(), |at| from + at);
    let line = &text[from..end];
    (line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']), (end + 1).min(text.len()))
}

fn block(label: &str, content: &str) -> Option<Block> {
    let mut headers = false;
    let mut body = content;
    while let Some((line, rest)) = body.split_once('\n').filter(|(line, _)| line.contains(':')) {
        headers |= !line.trim().is_empty();
        body = rest;
    }
    // It may be a key.
    let mut encoded = Zeroizing::new(Vec::with_capacity(body.len()));
    encoded.extend(body.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')));
    let der = LENIENT.decode(encoded.as_slice()).ok()?;
    Some(Block { label: label.to_owned(), headers, der })
}

/// A certificate in DER as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

/// DER as a PEM block, in lines of 64.
pub fn encode(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    let (lines, rest) = encoded.as_bytes().as_chunks::<64>();
    for line in lines.iter().map(<[u8; 64]>::as_slice).chain((!rest.is_empty()).then_some(rest)) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("{END}{label}{DASHES}\n"));
    text
}

/// The DER of every certificate that Go's certificate pool would try to parse.
pub fn certificates(text: &str) -> Vec<Vec<u8>> {
    blocks(text)
        .into_iter()
        .filter(|block| block.label == "CERTIFICATE" && !block.headers)
        .map(|block| block.der)
        .collect()
}

/// Whether a private key is in it, in whatever encoding.
pub fn holds_private_key(text: &str) -> bool {
    !private_keys(text).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate() -> Vec<u8> {
        rcgen::generate_simple_self_signed(vec![]).unwrap().cert.der().to_vec()
    }

    #[test]
    fn go_skips_what_is_not_a_plain_certificate() {
        let der = certificate();
        let good = encode("CERTIFICATE", &der);
        let headed = good.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1);
        let text = format!("garbage\n{good}more\n{headed}{}x-----BEGIN CERTIFICATE-----\n", encode("X509 CRL", &der));
        assert_eq!(certificates(&text), vec![der.clone()]);
        assert_eq!(blocks(&text).len(), 3);
        assert_eq!(certificates(&good.replace('\n', "\r\n")), vec![der.clone()]);
        assert_eq!(certificates(&good.replace("END CERT", "END OTHER CERT")), Vec::<Vec<u8>>::new());
        assert_eq!(certificates(good.trim_end()), vec![der.clone()]);
        let cut_off: String = good.lines().take(3).map(|line| format!("{line}\n")).collect();
        assert_eq!(certificates(&format!("{cut_off}{good}")), vec![der]);
    }

    #[test]
    fn many_beginnings_take_no_long_time() {
        let beginnings = "-----BEGIN CERTIFICATE-----\n".repeat(500_000);
        assert_eq!(blocks(&beginnings), []);
        assert_eq!(blocks(&format!("{beginnings}-----END X-----\n")), []);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            let blocks = blocks(&encode("X", &der));
            prop_assert_eq!(blocks, vec![Block { label: "X".into(), headers: false, der }]);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(-----BEGIN |-----END |CERTIFICATE|-----|\n|AAAA|:| |\u{e9}|=){0,30}") {
            blocks(&text);
        }
    }
}
