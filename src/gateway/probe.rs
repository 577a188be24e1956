//! The probe: what the cluster gateway says to an agent with this certificate, without becoming one; and which agents it
//! has, where it tells that to anybody.
//!
//! A `GET /ws` over HTTP/1.1 and mutual TLS, with no Upgrade: the gateway decides first and upgrades after (OpenChoreo
//! v0.15 to v0.17). A WebSocket connection would register an agent and be handed work, so none is ever made.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::judge::Judge;
use crate::pki::{PrivateKey, Reason, ServerFault, belong_together};
use crate::text::visible;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 4096;

/// Where the gateway is, as an agent's `--server-url` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            return Err("leave user and query out: an agent can't use them".to_owned());
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
        let Self { scheme, host, port, path } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

/// What an agent presents.
pub struct Identity {
    /// Its own certificate first, in DER.
    pub presented: Vec<Vec<u8>>,
    pub key: PrivateKey,
}

/// What the gateway is asked.
pub struct Question<'q> {
    pub url: &'q GatewayUrl,
    pub plane_type: &'q str,
    pub plane_id: &'q str,
    pub identity: Option<Identity>,
    /// What the agent verifies the gateway against, in PEM.
    pub server_ca: &'q str,
    pub limit: Duration,
}

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Authorized for one plane of the planeID at least.
    Authorized,
    /// No plane has the planeID, or none of those has a CA that the gateway can read.
    NoPlane,
    /// No plane of the planeID trusts the certificate.
    NotTrusted,
    /// None arrived: something between terminates TLS, or none was sent.
    NoCertificate,
    /// The gateway is of another release.
    OtherRelease(String),
    /// The gateway can't read the API server.
    Blind(String),
    /// Something else, quoted.
    Other { status: u16, text: String },
}

/// An answer, and when it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub answer: Answer,
    /// The gateway's clock, by which it judges certificates and dates heartbeats.
    pub date: Option<Timestamp>,
}

/// What the gateway counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// Agents that are connected and authorized for the plane that was asked for.
    pub connected_agents: i64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the host name {} can't be resolved", visible(.0))]
    Name(String),
    #[error("{} refuses connections", visible(.0))]
    Refused(String),
    #[error("{} did not answer within {} s", visible(.0), .1.as_secs())]
    TimedOut(String, Duration),
    #[error("could not connect to {}: {}", visible(.0), .1)]
    Unreachable(String, std::io::Error),
    #[error("{} speaks no TLS", visible(.0))]
    NotTls(String),
    #[error("{} and an agent have no TLS version or cipher in common: an agent needs TLS 1.2 or 1.3", visible(.0))]
    Incompatible(String),
    #[error("the gateway's certificate was not issued by the CA at hand")]
    UnknownAuthority,
    #[error("the gateway's certificate can't be verified: {0}")]
    Unverified(String),
    #[error("the gateway's certificate is not valid for {}: it names {}", visible(.host), visible(.names))]
    WrongName { host: String, names: String },
    #[error("the gateway's certificate is not valid now: {0}")]
    Expired(String),
    #[error("the connection ended as the certificate was presented: {0}")]
    Dropped(String),
    #[error("the certificate can't be presented: {0}")]
    Identity(String),
    #[error("the answer is no HTTP: {0}")]
    NotHttp(String),
}

impl ProbeError {
    /// Whether there is no way to the gateway, whoever asks.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Refused(_) | Self::TimedOut(..) | Self::Unreachable(..))
    }
}

/// Asks the gateway whether it would let an agent in, and takes no longer than the limit.
///
/// # Errors
/// [`ProbeError`], each of which tells another cause.
pub async fn probe(question: Question<'_>) -> Result<Reply, ProbeError> {
    let path = format!("/ws?planeType={}&planeID={}", question.plane_type, question.plane_id);
    let page = ask(question, &path).await?;
    Ok(Reply { date: page.date, answer: Answer::of(page) })
}

/// How many agents the gateway has for a plane, by the plane's name; none where it doesn't tell that to anybody, as from
/// OpenChoreo v1.0 on.
///
/// # Errors
/// [`ProbeError`].
pub async fn count(question: Question<'_>, plane: &str) -> Result<Option<Counted>, ProbeError> {
    let path = format!("/api/v1/planes/{}/{}/status?name={plane}", question.plane_type, question.plane_id);
    let page = ask(question, &path).await?;
    Ok(if page.status == 200 { serde_json::from_str(&page.text).ok() } else { None })
}

/// What came over HTTP.
struct Page {
    status: u16,
    /// Whether the server speaks of WebSockets.
    websocket: bool,
    date: Option<Timestamp>,
    text: String,
}

async fn ask(question: Question<'_>, path: &str) -> Result<Page, ProbeError> {
    let address = address(question.url);
    let limit = question.limit;
    let late = || Err(ProbeError::TimedOut(address.clone(), limit));
    tokio::time::timeout(limit, exchange(question, path, &address)).await.unwrap_or_else(|_| late())
}

fn address(url: &GatewayUrl) -> String {
    if url.host.contains(':') { format!("[{}]:{}", url.host, url.port) } else { format!("{}:{}", url.host, url.port) }
}

async fn exchange(question: Question<'_>, path: &str, address: &str) -> Result<Page, ProbeError> {
    let found = tokio::net::lookup_host(address).await.map_err(|_| ProbeError::Name(question.url.host.clone()))?;
    let addresses: Vec<_> = found.collect();
    let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ProbeError::Refused(address.to_owned()),
        _ => ProbeError::Unreachable(address.to_owned(), error),
    })?;
    // What is small is not to wait for more.
    let _ = tcp.set_nodelay(true);
    let host = question.url.host.clone();
    // For the server name extension only, in which Go leaves dots at the end out.
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
    let name = name.map_err(|_| ProbeError::Name(host.clone()))?;
    let judge = Arc::new(Judge::new(question.server_ca, &host));
    if !judge.has_roots() {
        return Err(ProbeError::UnknownAuthority);
    }
    let connector = TlsConnector::from(Arc::new(config(question, judge.clone())?));
    let stream = connector.connect(name, tcp).await.map_err(|error| match judge.fault() {
        Some(fault) => of_fault(fault, &host),
        None => of_handshake(&error, judge.accepted(), address),
    })?;
    get(stream, path, address).await
}

fn config(question: Question<'_>, judge: Arc<Judge>) -> Result<ClientConfig, ProbeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ProbeError::Identity(error.to_string()))?;
    // What counts is whether an agent accepts the gateway, and agents verify with Go's rules.
    let builder = builder.dangerous().with_custom_certificate_verifier(judge);
    match question.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => Ok(builder.with_client_cert_resolver(Arc::new(certified(identity, &provider)?))),
    }
}

/// What is presented, whatever rustls thinks of the certificate: that is the gateway's to judge.
fn certified(identity: Identity, provider: &CryptoProvider) -> Result<SingleCertAndKey, ProbeError> {
    let fits = |der: &Vec<u8>| belong_together(der, &identity.key.public_key_info());
    if !identity.presented.first().is_some_and(fits) {
        return Err(ProbeError::Identity("the private key does not belong to it".into()));
    }
    // PKCS#8, PKCS#1 or SEC1, as it came.
    let key = PrivateKeyDer::try_from(identity.key.to_der()).map_err(|error| ProbeError::Identity(error.to_owned()))?;
    let unusable = |_| ProbeError::Identity("its private key is of a kind that TLS can't use".into());
    let key = provider.key_provider.load_private_key(key).map_err(unusable)?;
    let chain = identity.presented.into_iter().map(CertificateDer::from).collect();
    Ok(CertifiedKey::new(chain, key).into())
}

/// Why an agent would not accept the gateway's certificate.
fn of_fault(fault: ServerFault, host: &str) -> ProbeError {
    match fault {
        ServerFault::Expired(refusal) => ProbeError::Expired(refusal.message),
        ServerFault::Refused(refusal) if refusal.reason == Reason::UnknownAuthority => ProbeError::UnknownAuthority,
        ServerFault::Refused(refusal) => ProbeError::Unverified(refusal.message),
        ServerFault::Unknown(why) => ProbeError::Unverified(why),
        ServerFault::WrongName(names) => {
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            ProbeError::WrongName { host: host.to_owned(), names }
        }
    }
}

/// What a failed handshake tells, where the gateway's certificate is not the reason.
fn of_handshake(error: &std::io::Error, accepted: bool, address: &str) -> ProbeError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => {
            ProbeError::Unverified("the handshake is not signed with the key of the gateway's certificate".into())
        }
        // Later, it is said of the client's certificate.
        Some(rustls::Error::AlertReceived(
            rustls::AlertDescription::ProtocolVersion | rustls::AlertDescription::HandshakeFailure,
        )) if !accepted => ProbeError::Incompatible(address.to_owned()),
        Some(rustls::Error::AlertReceived(alert)) => ProbeError::Dropped(alert_words(*alert)),
        Some(rustls::Error::PeerIncompatible(_)) => ProbeError::Incompatible(address.to_owned()),
        Some(rustls::Error::InvalidMessage(_)) => ProbeError::NotTls(address.to_owned()),
        _ if error.kind() == std::io::ErrorKind::UnexpectedEof => ProbeError::NotTls(address.to_owned()),
        _ => ProbeError::Unreachable(address.to_owned(), std::io::Error::other(error.to_string())),
    }
}

/// An alert by the name that RFC 8446 has for it.
fn alert_words(alert: rustls::AlertDescription) -> String {
    let Some(name) = alert.as_str() else {
        return format!("TLS alert {}", u8::from(alert));
    };
    let mut words = String::from("TLS alert ");
    let mut follows_lower = false;
    for character in name.chars() {
        if follows_lower && character.is_ascii_uppercase() {
            words.push('_');
        }
        follows_lower = character.is_ascii_lowercase();
        words.push(character.to_ascii_lowercase());
    }
    words
}

async fn get(stream: TlsStream<TcpStream>, path: &str, address: &str) -> Result<Page, ProbeError> {
    // In TLS 1.3 a server's word on the certificate comes after the handshake.
    let failed = |error: hyper::Error| {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && let Some(rustls::Error::AlertReceived(alert)) = io.get_ref().and_then(|inner| inner.downcast_ref())
            {
                return ProbeError::Dropped(alert_words(*alert));
            }
            cause = error.source();
        }
        ProbeError::NotHttp(visible(&error.to_string()).into_owned())
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header(http::header::HOST, address).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| ProbeError::NotHttp(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status = answer.status().as_u16();
    let websocket = answer.headers().contains_key("sec-websocket-version");
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    connection.abort();
    Ok(Page { status, websocket, date, text })
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Authorized => f.write_str("it authorizes the agent"),
            Self::NoPlane => f.write_str("the gateway finds no plane of this planeID whose CA it can read"),
            Self::NotTrusted => f.write_str("no plane that the gateway knows trusts the agent's certificate"),
            Self::NoCertificate => f.write_str("the agent's certificate does not arrive at the gateway"),
            Self::OtherRelease(text) => write!(f, "the gateway is of another release: {}", visible(text)),
            Self::Blind(text) => write!(f, "the gateway can't read the API server: {}", visible(text)),
            Self::Other { status, text } => {
                write!(f, "the gateway, or something before it, answers {status}: {}", visible(text))
            }
        }
    }
}

impl Answer {
    /// The gateway's answers by status and text.
    fn of(page: Page) -> Self {
        let Page { status, websocket, text, .. } = page;
        let reason = text.split_once("verification failed: ").map(|(_, reason)| reason);
        match (status, reason) {
            (400, _) if websocket => Self::Authorized,
            (400, _) if text.starts_with("invalid planeType") => Self::OtherRelease(text),
            (401, None) if text.contains("no client certificate") => Self::NoCertificate,
            (401, Some(reason)) if reason.starts_with("no ") && reason.contains("CRs found") => Self::NoPlane,
            (401, Some(reason)) if reason.starts_with("certificate not valid for any CR") => Self::NotTrusted,
            (401, Some(reason)) if reason.starts_with("failed to get client CA") => Self::Blind(reason.to_owned()),
            _ => Self::Other { status, text },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let of =
            |status, websocket, text: &str| Answer::of(Page { status, websocket, date: None, text: text.to_owned() });
        let refused = |reason: &str| of(401, false, &format!("client certificate verification failed: {reason}"));
        assert_eq!(of(400, true, "Bad Request"), Answer::Authorized);
        assert_eq!(of(401, false, "no client certificate presented"), Answer::NoCertificate);
        assert_eq!(refused("no buildplane CRs found with planeID 'x'"), Answer::NoPlane);
        assert_eq!(refused("certificate not valid for any CR with planeID 'x'"), Answer::NotTrusted);
        assert!(matches!(refused("failed to get client CA configurations: x"), Answer::Blind(_)));
        let other = "invalid planeType: must be 'dataplane', 'workflowplane', or 'observabilityplane'";
        assert!(matches!(of(400, false, other), Answer::OtherRelease(_)));
        assert_eq!(of(404, false, "nothing"), Answer::Other { status: 404, text: "nothing".into() });
    }

    /// What a probe of a gateway with this certificate gets, which answers as one that authorizes.
    fn probed(
        certificate: &rcgen::Certificate,
        key: &rcgen::KeyPair,
        ca: &str,
        tls12: bool,
    ) -> Result<Reply, ProbeError> {
        let versions: &[_] = if tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider.clone());
        let config = config.with_protocol_versions(versions).unwrap().with_no_client_auth();
        let key =
            provider.key_provider.load_private_key(PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
        let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
        let config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("wss://localhost:{}/ws", listener.local_addr().unwrap().port()).parse().unwrap();
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let Ok((tcp, _)) = listener.accept() else { return };
            let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, tcp);
            if stream.read(&mut [0; 4096]).is_ok() {
                let answer = "HTTP/1.1 400 Bad Request\r\nSec-Websocket-Version: 13\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let limit = Duration::from_secs(20);
        let (plane_type, plane_id) = ("buildplane", "x");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(probe(Question { url: &url, plane_type, plane_id, identity: None, server_ca: ca, limit }))
    }

    #[test]
    fn a_gateway_is_judged_as_an_agent_judges_it() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            // Of policies that are critical rustls knows nothing.
            let mut policies =
                rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 32], vec![0x30, 6, 0x30, 4, 6, 2, 0x2a, 3]);
            policies.set_criticality(true);
            params.custom_extensions.push(policies);
            params
        };
        let pem = |certificate: &rcgen::Certificate| crate::pki::encode("CERTIFICATE", certificate.der());
        let own = params(&["localhost"]).self_signed(&key).unwrap();
        for tls12 in [false, true] {
            assert_eq!(probed(&own, &key, &pem(&own), tls12).unwrap().answer, Answer::Authorized);
        }
        let other = params(&["localhost"]).self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert!(matches!(probed(&own, &key, &pem(&other), false), Err(ProbeError::UnknownAuthority)));
        assert!(matches!(probed(&own, &key, "", false), Err(ProbeError::UnknownAuthority)));
        let elsewhere = params(&["a.example.com", "b.example.com"]).self_signed(&key).unwrap();
        let error = probed(&elsewhere, &key, &pem(&elsewhere), false).unwrap_err().to_string();
        assert_eq!(
            error,
            "the gateway's certificate is not valid for localhost: it names a.example.com, b.example.com"
        );
        let mut old = params(&["localhost"]);
        old.not_after = time::OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let old = old.self_signed(&key).unwrap();
        let error = probed(&old, &key, &pem(&old), false).unwrap_err();
        assert!(matches!(error, ProbeError::Expired(_)));
        assert!(error.to_string().contains("has expired at 2023-11-14T22:13:20Z"), "{error}");
        let mut clients = params(&["localhost"]);
        clients.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let clients = clients.self_signed(&key).unwrap();
        let error = probed(&clients, &key, &pem(&clients), false).unwrap_err().to_string();
        assert!(error.contains("may not be used for server authentication"), "{error}");
    }

    #[test]
    fn alerts_have_their_names() {
        use rustls::AlertDescription;
        assert_eq!(alert_words(AlertDescription::BadCertificate), "TLS alert bad_certificate");
        assert_eq!(alert_words(AlertDescription::UnknownCA), "TLS alert unknown_ca");
        assert_eq!(alert_words(AlertDescription::from(200)), "TLS alert 200");
    }

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
