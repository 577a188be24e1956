//! Whether a server's certificate is for a host, as Go's `Certificate.VerifyHostname` has it: by alternative names only.

use std::net::IpAddr;

use super::link::Link;
use super::names::Name;

/// How many names are listed at most.
const LISTED: usize = 20;

/// Whether a certificate names a host: a DNS name, or an address, which may stand in brackets.
pub(super) fn fits(link: &Link, host: &str) -> bool {
    if let Some(address) = address(host) {
        let same = |name: &Name| matches!(name, Name::Ip(own) if own.to_canonical() == address.to_canonical());
        return link.extensions.names.iter().any(same);
    }
    let host = host.to_ascii_lowercase();
    let relative = host.strip_suffix('.').unwrap_or(&host);
    let usable = is_name(relative, false);
    link.extensions.names.iter().any(|name| match name {
        Name::Dns(pattern) => {
            let pattern = pattern.to_ascii_lowercase();
            if usable && is_name(&pattern, true) {
                matches(&pattern, relative)
            } else {
                // What is no host name has to be the same, without wildcards.
                pattern == host && !matches!(pattern.as_str(), "" | ".")
            }
        }
        _ => false,
    })
}

/// What a certificate names, of the kind that a host is of: addresses for an address, otherwise DNS names.
pub(super) fn named(link: &Link, host: &str) -> Vec<String> {
    let wanted = address(host).is_some();
    let names = link.extensions.names.iter().filter(|name| match name {
        Name::Ip(_) => wanted,
        Name::Dns(_) => !wanted,
        _ => false,
    });
    let mut names: Vec<String> = names.take(LISTED + 1).map(ToString::to_string).collect();
    if names.len() > LISTED {
        names.truncate(LISTED);
        names.push("and others".into());
    }
    names
}

fn address(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).filter(|inner| !inner.is_empty());
    inner.unwrap_or(host).parse().ok()
}

/// Whether a text is a host name, or a pattern of one: labels of letters, digits, hyphens and underscores, and as the
/// first label of a pattern an asterisk.
fn is_name(text: &str, pattern: bool) -> bool {
    let label = |(index, label): (usize, &str)| {
        (pattern && index == 0 && label == "*")
            || (!label.is_empty()
                && !label.starts_with('-')
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')))
    };
    text != "*" && text.split('.').enumerate().all(label)
}

/// An asterisk represents one label.
fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, below)| below == rest),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::gox509::link::tests::blank;

    fn of(names: &[&str]) -> Link {
        let mut link = blank(1, 2);
        let name = |name: &&str| name.parse().map_or_else(|_| Name::Dns((*name).into()), Name::Ip);
        link.extensions.names = names.iter().map(name).collect();
        link
    }

    #[test]
    fn an_asterisk_is_for_one_label() {
        let link = of(&["*.example.com", "g*.example.org"]);
        assert!(fits(&link, "a.example.com") && fits(&link, "A.Example.Com."));
        for host in ["example.com", "a.b.example.com", "ga.example.org", ""] {
            assert!(!fits(&link, host), "{host}");
        }
        // What is no host name has to be the same.
        assert!(fits(&link, "*.example.com"));
        assert!(fits(&of(&["a b.example.com"]), "A b.example.com") && !fits(&of(&["."]), "."));
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let link = of(&["10.0.0.1", "::1", "10.0.0.2.example.com"]);
        assert!(["10.0.0.1", "[::1]", "::ffff:10.0.0.1", "[10.0.0.1]"].into_iter().all(|host| fits(&link, host)));
        assert!(!fits(&link, "10.0.0.2") && !fits(&link, "[]"));
        assert_eq!(named(&link, "10.0.0.9"), ["10.0.0.1", "::1"]);
        assert_eq!(named(&link, "host"), ["10.0.0.2.example.com"]);
        let many: Vec<_> = (0..30).map(|number| format!("a{number}.example.com")).collect();
        let many = named(&of(&many.iter().map(String::as_str).collect::<Vec<_>>()), "host");
        assert_eq!((many.len(), many[20].as_str()), (21, "and others"));
    }
}
