//! Where certificates are read from: a file, a pipe, an object in a cluster, a server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::kind::{KINDS, Kind};
use super::name::NamespacedName;
use super::plane_name::PlaneName;
use crate::text::{shown, visible};

/// A place that holds certificates, as users name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Stdin,
    /// Without a key: its tls.crt and ca.crt.
    Secret(NamespacedName, Option<String>),
    ConfigMap(NamespacedName, Option<String>),
    Plane(PlaneName),
    /// The CAs of all planes of some kinds; without them of those that are meant without a word.
    Planes(Option<Vec<&'static Kind>>),
    /// What an agent's Secret holds, in the plane's cluster.
    Agent,
    /// What a TLS server presents.
    Server {
        host: String,
        port: u16,
    },
}

impl Source {
    /// Whether it takes the control plane's cluster to read it.
    pub fn needs_cluster(&self) -> bool {
        matches!(self, Self::Secret(..) | Self::ConfigMap(..) | Self::Plane(_) | Self::Planes(_))
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if text == "agent" {
            return Ok(Self::Agent);
        }
        if let Some(authority) = text.strip_prefix("https://") {
            return server(authority.trim_end_matches('/'));
        }
        let Some((kind, rest)) = text.split_once('/') else {
            // As other verbs take the words; a file of that name is `./dp`.
            return Ok(Kind::of_words(text).map_or_else(|| Self::File(text.into()), |kinds| Self::Planes(Some(kinds))));
        };
        match kind {
            "secret" | "configmap" => {
                let (name, key) = rest.split_once(':').map_or((rest, None), |(name, key)| (name, Some(key.to_owned())));
                let name = name.parse().map_err(|_| {
                    format!("write {kind}/NAMESPACE/NAME or {kind}/NAMESPACE/NAME:KEY, and ./{kind}/... for a file")
                })?;
                Ok(if kind == "secret" { Self::Secret(name, key) } else { Self::ConfigMap(name, key) })
            }
            "plane" if rest == "*" => Ok(Self::Planes(None)),
            words if rest == "*" && Kind::of_words(words).is_some() => Ok(Self::Planes(Kind::of_words(words))),
            word if names_one_plane(word) => text.parse().map(Self::Plane),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Whether a word is a kind's in the singular and in lower case: what else is before a `/` is more likely a folder.
fn names_one_plane(word: &str) -> bool {
    !word.ends_with('s')
        && !word.contains(|c: char| c.is_ascii_uppercase())
        && (word == "plane" || Kind::of_word(word).is_some())
}

fn server(authority: &str) -> Result<Source, String> {
    let wrong = || "write https://HOST or https://HOST:PORT".to_owned();
    let authority: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = match authority.port() {
        Some(port) => port.as_str().parse().map_err(|_| wrong())?,
        None if authority.as_str().ends_with(|c: char| c.is_ascii_digit() || c == ':')
            && authority.as_str().len() > authority.host().len() =>
        {
            return Err(wrong());
        }
        None => 443,
    };
    if host.is_empty() || authority.as_str().contains('@') { Err(wrong()) } else { Ok(Source::Server { host, port }) }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &Option<String>| key.as_ref().map(|key| format!(":{}", visible(key))).unwrap_or_default();
        match self {
            Self::File(path) => f.write_str(&shown(path)),
            Self::Stdin => f.write_str("standard input"),
            Self::Secret(name, of) => write!(f, "secret/{name}{}", key(of)),
            Self::ConfigMap(name, of) => write!(f, "configmap/{name}{}", key(of)),
            Self::Plane(name) => match name.kind {
                None => write!(f, "plane/{name}"),
                Some(kind) => write!(f, "{}/{name}", kind.kind.to_lowercase()),
            },
            Self::Planes(None) => f.write_str("plane/*"),
            Self::Planes(Some(kinds)) if kinds.len() == KINDS.len() => f.write_str("planes/*"),
            Self::Planes(Some(kinds)) => {
                let words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
                write!(f, "{}/*", words.join(","))
            }
            Self::Agent => f.write_str("agent"),
            Self::Server { host, port } if host.contains(':') => {
                write!(f, "https://[{host}]:{port}")
            }
            Self::Server { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_distinguished() {
        for text in [
            "ca.crt",
            "./secret/x",
            "secret/ns/ca",
            "secret/ns/ca:tls.crt",
            "configmap/ns/ca",
            "plane/a",
            "plane/*",
            "agent",
            "./agent",
            "https://a:8443",
            "https://[::1]:1",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!("https://a/".parse::<Source>().unwrap().to_string(), "https://a:443");
        assert_eq!("-".parse::<Source>().unwrap(), Source::Stdin);
        for (word, all) in [("planes", "planes/*"), ("dp", "dp/*"), ("cdp,DataPlanes", "cdp,dp/*"), ("./dp", "./dp")] {
            assert_eq!(word.parse::<Source>().unwrap().to_string(), all);
        }
        for text in
            ["secret/ca", "https://", "https://a:99999", "https://a:", "https://u@h", "plane/A", "configmap/a/b/c"]
        {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
