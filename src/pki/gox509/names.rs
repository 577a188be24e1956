//! General names (RFC 5280, 4.2.1.6) as Go reads them: domains, mailboxes, and the hosts of URIs.
//!
//! Not here: whether a CA allows a name ([`super::constraints`]), and whether a server has it ([`super::hostname`]).

use std::net::{IpAddr, Ipv6Addr};

/// A general name of the kinds that constraints are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Dns(String),
    Email(String),
    /// The host of a URI, with its port; none where it has none.
    Uri(Option<String>),
    Ip(IpAddr),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(text) | Self::Email(text) => f.write_str(&crate::text::visible(text)),
            Self::Uri(host) => write!(f, "of a URI, {}", crate::text::visible(host.as_deref().unwrap_or("no host"))),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Whether Go takes a text for a domain: labels of visible ASCII, none of them empty; a constraint may begin with a dot.
pub(super) fn is_domain(text: &[u8], constraint: bool) -> bool {
    let text = if constraint { text.strip_prefix(b".").filter(|rest| !rest.is_empty()).unwrap_or(text) } else { text };
    let label = |label: &[u8]| !label.is_empty() && label.iter().all(u8::is_ascii_graphic);
    text.is_empty() || text.split(|octet| *octet == b'.').all(label)
}

/// The two parts of a mailbox as RFC 2821 has them; quotes and backslashes are taken out of the first.
pub(super) fn mailbox(text: &str) -> Option<(String, &str)> {
    let (local, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_local(quoted)?,
        None => plain_local(text)?,
    };
    let domain = rest.strip_prefix('@')?;
    is_domain(domain.as_bytes(), false).then_some((local, domain))
}

fn quoted_local(text: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let taken = match character {
            '"' => return Some((local, &text[at + 1..])),
            '\\' => characters.next().map(|(_, next)| next).filter(|next| !matches!(next, '\0' | '\n' | '\r'))?,
            '\0' | '\t' | '\n' | '\r' => return None,
            other => other,
        };
        local.push(taken);
    }
    None
}

fn plain_local(text: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\\' => rest[1..].chars().next()?,
            first if is_atom(first) => first,
            _ => break,
        };
        rest = &rest[usize::from(first == '\\') + taken.len_utf8()..];
        local.push(taken);
    }
    let sound = !local.is_empty() && !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    sound.then_some((local, rest))
}

fn is_atom(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(character)
}

/// The host of a URI with its port, in octets, as Go's net/url reads it; none where it has none.
///
/// # Errors
/// It can't be parsed. Brackets around anything but an IPv6 address are an error from Go 1.24.8 and 1.25.2 on
/// (CVE-2025-47912), and anything before them from 1.25.8 and 1.26.1 on (CVE-2026-25679). Several colons are none, unless
/// the gateway's go.mod names Go 1.26 (GODEBUG `urlstrictcolons`), and v0.17's names 1.24.
pub(super) fn uri_host(uri: &str) -> Result<Option<Vec<u8>>, ()> {
    let (uri, fragment) = uri.split_once('#').unwrap_or((uri, ""));
    unescaped(fragment, Part::Other)?;
    if uri.bytes().any(|octet| octet < b' ' || octet == 0x7f) {
        return Err(());
    }
    if uri == "*" {
        return Ok(None);
    }
    let (scheme, rest) = scheme(uri)?;
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Ok(None);
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err(());
        }
    }
    let authority = if scheme.is_empty() && rest.starts_with("///") { None } else { rest.strip_prefix("//") };
    let Some(authority) = authority else {
        return unescaped(rest, Part::Other).map(|_| None);
    };
    let (authority, path) = authority.find('/').map_or((authority, ""), |at| authority.split_at(at));
    unescaped(path, Part::Other)?;
    let host = match authority.rsplit_once('@') {
        Some((user, host)) if user.bytes().all(is_user) => {
            // Of both parts on their own, since an escape can't span the colon.
            user.splitn(2, ':').try_for_each(|part| unescaped(part, Part::Other).map(|_| ()))?;
            host
        }
        Some(_) => return Err(()),
        None => authority,
    };
    let host = host_of(host)?;
    Ok((!host.is_empty()).then_some(host))
}

/// The scheme, empty where there is none, and what follows its colon.
fn scheme(uri: &str) -> Result<(&str, &str), ()> {
    for (at, octet) in uri.bytes().enumerate() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err(()),
            b':' => return Ok((&uri[..at], &uri[at + 1..])),
            _ => break,
        }
    }
    Ok(("", uri))
}

fn is_user(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&octet)
}

fn host_of(host: &str) -> Result<Vec<u8>, ()> {
    match host.rfind('[') {
        Some(0) => return literal(host),
        Some(_) => return Err(()),
        None => {}
    }
    if host.rsplit_once(':').is_some_and(|(_, port)| !port.bytes().all(|octet| octet.is_ascii_digit())) {
        return Err(());
    }
    unescaped(host, Part::Host)
}

/// An IPv6 address in brackets, with or without a zone and a port.
fn literal(host: &str) -> Result<Vec<u8>, ()> {
    let end = host.rfind(']').ok_or(())?;
    let (inner, port) = (&host[1..end], &host[end + 1..]);
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit())) {
        return Err(());
    }
    let zone = inner.find("%25").unwrap_or(inner.len());
    let mut address = unescaped(&inner[..zone], Part::Host)?;
    address.extend(unescaped(&inner[zone..], Part::Zone)?);
    let text = str::from_utf8(&address).map_err(|_| ())?;
    let (plain, zone) = text.split_once('%').map_or((text, None), |(plain, zone)| (plain, Some(zone)));
    if plain.parse::<Ipv6Addr>().is_err() || zone.is_some_and(str::is_empty) {
        return Err(());
    }
    Ok([b"[", &address[..], b"]", port.as_bytes()].concat())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Host,
    Zone,
    /// Where every octet may be escaped, and none needs to be.
    Other,
}

fn unescaped(text: &str, part: Part) -> Result<Vec<u8>, ()> {
    let octets = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(octets.len()), 0);
    while let Some(octet) = octets.get(at) {
        if *octet != b'%' {
            if part != Part::Other && octet.is_ascii() && !is_host(*octet) {
                return Err(());
            }
            plain.push(*octet);
            at += 1;
            continue;
        }
        let digits = octets.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or(())?;
        let value = str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(())?;
        let allowed = match part {
            Part::Host => value >= 0x80 || value == b'%',
            Part::Zone => value == b'%' || value == b' ' || is_host(value),
            Part::Other => true,
        };
        if !allowed {
            return Err(());
        }
        plain.push(value);
        at += 3;
    }
    Ok(plain)
}

fn is_host(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!$&'()*+,;=:[]<>\"-_.~".contains(&octet)
}

/// A URI's host without its port; none for what no constraint can be about: an address, or no host at all.
pub(super) fn plain_host(host: &str) -> Option<&str> {
    if host.starts_with('[') {
        return None;
    }
    let plain = match host.split_once(':') {
        Some((plain, port)) if !port.contains(':') => plain,
        Some(_) => return None,
        None => host,
    };
    plain.parse::<IpAddr>().is_err().then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_have_two_parts() {
        let parts = |text| mailbox(text).map(|(local, domain)| (local, domain.to_owned()));
        let some = |local: &str, domain: &str| Some((local.to_owned(), domain.to_owned()));
        assert_eq!(parts("a.b@example.com"), some("a.b", "example.com"));
        assert_eq!(parts("\"a@ b\\\"\"@example.com"), some("a@ b\"", "example.com"));
        assert_eq!(parts("a\\@b@c"), some("a@b", "c"));
        assert_eq!(parts("a@b@c"), some("a", "b@c"));
        for bad in ["", "a", "@a", ".a@b", "a.@b", "a..b@c", "a@b.", "a@.b", "\"a@b", "\"a\"", "a b@c"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_are_those_of_go() {
        let host = |uri| uri_host(uri).map(|host| host.map(|host| String::from_utf8(host).unwrap()));
        let some = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(host("spiffe://example.org/a b"), some("example.org"));
        assert_eq!(host("https://u:p@example.org:443/x?y#z"), some("example.org:443"));
        assert_eq!(host("https://[fe80::1%25eth0]:1/"), some("[fe80::1%eth0]:1"));
        assert_eq!(host("https://a:1,b:2/"), some("a:1,b:2"));
        for none in ["", "*", "mailto:a@example.org", "urn:x", "/path", "///path", "a/b:c", "file:///x"] {
            assert_eq!(host(none), Ok(None), "{none}");
        }
        for bad in [
            ":x",
            "a b:c",
            "1:x",
            "https://a b/",
            "https://a:x/",
            "https://%41/",
            "https://a/%zz",
            "https://a#%",
            "https://[1.2.3.4]/",
            "https://[::1/",
            "https://x[::1]/",
            "https://a\u{7f}/",
            "https://<@a/",
        ] {
            assert_eq!(host(bad), Err(()), "{bad}");
        }
    }
}
