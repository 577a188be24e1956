//! What an agent's log complains of, and what it means.

/// Returns the known complaint in a line of the log: its words, and what they mean.
pub fn complaint(line: &str) -> Option<&'static (&'static str, &'static str)> {
    COMPLAINTS.iter().find(|(words, _)| line.contains(words))
}

/// What the agent logs, and what it means.
static COMPLAINTS: &[(&str, &str)] = &[
    ("malformed ws or wss URL", "its server URL begins with https://"),
    ("failed to load client certificate", "key and certificate don't fit or don't parse"),
    ("failed to create agent", "its plane type is of another release, or its certificate can't be used"),
    ("failed to parse server CA certificate", "the ConfigMap with the gateway's CA holds no certificate"),
    ("failed to read server CA certificate", "the ConfigMap with the gateway's CA has no key ca.crt"),
    ("certificate signed by unknown authority", "it has another CA than the gateway's"),
    ("certificate is valid for", "the gateway's certificate lacks the name that it uses"),
    ("doesn't contain any IP SANs", "the gateway's certificate lacks the name that it uses"),
    ("certificate has expired", "the gateway serves an old certificate"),
    ("no such host", "the host name of its server URL can't be resolved"),
    ("connection refused", "nobody listens where its server URL leads"),
    ("i/o timeout", "the network doesn't lead to its server URL"),
    ("bad handshake", "the gateway refuses it"),
];
