//! Where the gateway is, as an agent dials it.

/// A host and a port, with brackets around an IPv6 address.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where the gateway is, as an agent's `--server-url` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayUrl {
    pub scheme: String,
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl GatewayUrl {
    /// One that an agent can use: to others it says `malformed ws or wss URL`, or gets a 404.
    ///
    /// # Errors
    /// How to write it.
    pub fn of_agent(text: &str) -> Result<Self, String> {
        let url: Self = text.parse()?;
        let meant = Self { scheme: "wss".into(), path: "/ws".into(), ..url.clone() };
        if meant == url { Ok(url) } else { Err(format!("an agent needs it as {meant}")) }
    }
}

impl std::str::FromStr for GatewayUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write it as wss://HOST:PORT/ws".to_owned();
        let url: http::Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(host)) = (url.scheme_str(), url.host()) else {
            return Err(wrong());
        };
        let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        // An agent's WebSocket library takes no user (gorilla/websocket: malformed ws or wss URL).
        if authority.contains('@') || url.query().is_some() {
            return Err("omit user and query: an agent can't use them".to_owned());
        }
        let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => port.parse().map_err(|_| wrong())?,
            None if matches!(scheme, "ws" | "http") => 80,
            None => 443,
        };
        Ok(Self {
            scheme: scheme.to_lowercase(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            path: url.path().to_owned(),
        })
    }
}

impl std::fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, authority(&self.host, self.port), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_an_agent() {
        for (text, port) in [("wss://a:8443/ws", 8443), ("wss://a/ws", 443), ("ws://a/ws", 80), ("wss://[::1]:1/ws", 1)]
        {
            let url: GatewayUrl = text.parse().unwrap();
            assert_eq!(url.port, port, "{text}");
        }
        assert_eq!("WSS://a/ws".parse::<GatewayUrl>().unwrap().scheme, "wss");
        for text in ["", "a:8443", "/ws", "wss://", "wss://a:99999/ws", "wss://user:x@a/ws"] {
            assert!(text.parse::<GatewayUrl>().is_err(), "{text}");
        }
        assert_eq!(GatewayUrl::of_agent("https://a:1").unwrap_err(), "an agent needs it as wss://a:1/ws");
        assert!(GatewayUrl::of_agent("wss://a:1/ws").is_ok());
    }
}
