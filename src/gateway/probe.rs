//! The probe: what the cluster gateway says to an agent with this certificate, without becoming one; and which agents it
//! has, where it answers that to anybody.
//!
//! A `GET /ws` over HTTP/1.1 and mutual TLS, with no Upgrade: the gateway decides first and upgrades after (OpenChoreo
//! v0.15 and later). A WebSocket connection would register an agent and be handed work, so none is ever made.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::answer::{Answer, Page};
use super::plane_types::PlaneTypes;
use super::url::{GatewayUrl, authority};
use super::witness::Witness;
use crate::pki::{Bundle, PrivateKey, Reason, ServerFault, belong_together};
use crate::plane::PlaneKey;
use crate::text::visible;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 4096;

/// Where the gateway has its API for planes from OpenChoreo v1.0.2 and v1.1.2 on; before that, at the agents' port.
pub const API_PORT: u16 = 8444;

/// A plane type, and a planeID, of no release.
const NONE: &str = "none";

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
    /// Whether its API answers on the agents' port, without authentication.
    #[serde(skip)]
    pub is_shared: bool,
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
    #[error("{} does not use TLS", visible(.0))]
    NotTls(String),
    #[error("{} and an agent have no TLS version or cipher in common: an agent needs TLS 1.2 or 1.3", visible(.0))]
    Incompatible(String),
    #[error("the gateway's certificate was not issued by the CA that was provided")]
    UnknownAuthority,
    #[error("the gateway's certificate can't be verified: {0}")]
    Unverified(String),
    #[error("the gateway's certificate is not valid for {}: it names {}", visible(.host), visible(.names))]
    WrongName { host: String, names: String },
    #[error("the gateway's certificate is not valid now: {0}")]
    Expired(String),
    #[error("the connection was closed when the certificate was presented: {0}")]
    Dropped(String),
    #[error("the certificate can't be presented: {0}")]
    Identity(String),
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
}

impl ProbeError {
    /// Whether nobody can reach the gateway.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Refused(_) | Self::TimedOut(..) | Self::Unreachable(..))
    }
}

/// Asks the gateway whether it would let an agent in, and takes no longer than the limit.
///
/// # Errors
/// [`ProbeError`], each of which says another cause.
pub async fn probe(question: Question<'_>) -> Result<Reply, ProbeError> {
    let path = format!("/ws?planeType={}&planeID={}", question.plane_type, question.plane_id);
    let page = ask(question, &path).await?;
    Ok(Reply { date: page.date, answer: Answer::of(page) })
}

/// Asks a gateway which plane types it knows, which says its releases; none where what answers lists none. It judges the
/// type first, so that neither a certificate nor a plane is needed.
///
/// # Errors
/// [`ProbeError`].
pub async fn plane_types(url: &GatewayUrl, server_ca: &str, limit: Duration) -> Result<Option<PlaneTypes>, ProbeError> {
    let question = Question { url, plane_type: NONE, plane_id: NONE, identity: None, server_ca, limit };
    Ok(match probe(question).await?.answer {
        Answer::OtherRelease(types) => Some(types),
        _ => None,
    })
}

/// Asks the gateway how many agents it has that a plane authorizes: at the agents' port, and where its API isn't there, at
/// the port of its own, where the identity is presented. None where neither has that API.
///
/// # Errors
/// [`ProbeError`]: of the agents' port, or why the API's own can't be asked. From v1.2.0 on it ends the handshake of
/// clients that its own CA doesn't know.
pub async fn count(question: Question<'_>, of: &PlaneKey, api_port: u16) -> Result<Option<Counted>, ProbeError> {
    let Question { url, plane_type, plane_id, identity, server_ca, limit } = question;
    let namespace = of.namespace.as_ref().map(|namespace| format!("namespace={namespace}&")).unwrap_or_default();
    let path = format!("/api/v1/planes/{plane_type}/{plane_id}/status?{namespace}name={}", of.name);
    let at = |url, identity| Question { url, plane_type, plane_id, identity, server_ca, limit };
    let mut page = ask(at(url, None), &path).await?;
    let is_shared = page.status != 404;
    if !is_shared && api_port != url.port {
        let url = GatewayUrl { port: api_port, ..url.clone() };
        page = ask(at(&url, identity), &path).await?;
    }
    let counted = (page.status == 200).then(|| serde_json::from_str::<Counted>(&page.text).ok()).flatten();
    Ok(counted.map(|counted| Counted { is_shared, ..counted }))
}

async fn ask(question: Question<'_>, path: &str) -> Result<Page, ProbeError> {
    let address = authority(&question.url.host, question.url.port);
    let limit = question.limit;
    let late = || Err(ProbeError::TimedOut(address.clone(), limit));
    tokio::time::timeout(limit, exchange(question, path, &address)).await.unwrap_or_else(|_| late())
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
    let ca = Bundle::from(question.server_ca);
    if !ca.has_roots() {
        return Err(ProbeError::UnknownAuthority);
    }
    // What counts is whether an agent accepts the gateway, and agents verify with Go's rules.
    let witness = Witness::new(Some((ca, host.clone())));
    let connector = TlsConnector::from(Arc::new(config(question.identity, &witness)?));
    let stream = connector.connect(name, tcp).await.map_err(|error| {
        let seen = std::mem::take(&mut *witness.seen());
        match seen.fault {
            Some(fault) => of_fault(fault, &host),
            None => of_handshake(&error, !seen.presented.is_empty(), address),
        }
    })?;
    get(stream, path, address).await
}

fn config(identity: Option<Identity>, witness: &Arc<Witness>) -> Result<ClientConfig, ProbeError> {
    let client = witness.client().map_err(|error| ProbeError::Identity(error.to_string()))?;
    match identity {
        None => Ok(client.with_no_client_auth()),
        Some(identity) => Ok(client.with_client_cert_resolver(Arc::new(certified(identity)?))),
    }
}

/// What is presented, whatever rustls thinks of the certificate: that is the gateway's to judge.
fn certified(identity: Identity) -> Result<SingleCertAndKey, ProbeError> {
    let fits = |der: &Vec<u8>| belong_together(der, &identity.key.public_key_info());
    if !identity.presented.first().is_some_and(fits) {
        return Err(ProbeError::Identity("the private key does not belong to it".into()));
    }
    // PKCS#8, PKCS#1 or SEC1, as it came.
    let key = PrivateKeyDer::try_from(identity.key.to_der()).map_err(|error| ProbeError::Identity(error.to_owned()))?;
    let unusable = |_| ProbeError::Identity("its private key is of a kind that TLS can't use".into());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
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

/// What a failed handshake says, where the gateway's certificate is not the reason.
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

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORIZED: &str = "HTTP/1.1 400 Bad Request\r\nSec-Websocket-Version: 13\r\nContent-Length: 0\r\n\r\n";

    /// Starts a server with this certificate, which answers one request; its port and what it is asked.
    fn serve(
        certificate: &rcgen::Certificate,
        key: &rcgen::KeyPair,
        tls12: bool,
        answer: &str,
    ) -> (u16, std::thread::JoinHandle<String>) {
        let versions: &[_] = if tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider.clone());
        let config = config.with_protocol_versions(versions).unwrap().with_no_client_auth();
        let key =
            provider.key_provider.load_private_key(PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
        let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
        let config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, answer) = (listener.local_addr().unwrap().port(), answer.to_owned());
        let asked = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (tcp, _) = listener.accept().unwrap();
            let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, tcp);
            let mut request = [0; 4096];
            let Ok(length) = stream.read(&mut request) else { return String::new() };
            let _ = stream.write_all(answer.as_bytes());
            String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned()
        });
        (port, asked)
    }

    fn url(port: u16) -> GatewayUrl {
        format!("wss://localhost:{port}/ws").parse().unwrap()
    }

    fn wait<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    const LIMIT: Duration = Duration::from_secs(20);

    /// What a probe of a gateway with this certificate gets, which answers as one that authorizes.
    fn probed(
        certificate: &rcgen::Certificate,
        key: &rcgen::KeyPair,
        ca: &str,
        tls12: bool,
    ) -> Result<Reply, ProbeError> {
        let url = url(serve(certificate, key, tls12, AUTHORIZED).0);
        let (plane_type, plane_id) = ("buildplane", "x");
        wait(probe(Question { url: &url, plane_type, plane_id, identity: None, server_ca: ca, limit: LIMIT }))
    }

    /// A gateway's certificate and its key.
    fn own() -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        (rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap(), key)
    }

    fn answer(status: u16, text: &str) -> String {
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len())
    }

    #[test]
    fn a_gateway_is_asked_for_its_plane_types_without_a_certificate() {
        use crate::plane::Release;
        let (certificate, key) = own();
        let reported = |answer: &str| {
            let (port, asked) = serve(&certificate, &key, false, answer);
            let types = wait(plane_types(&url(port), &certificate.pem(), LIMIT)).unwrap();
            assert_eq!(asked.join().unwrap(), "GET /ws?planeType=none&planeID=none HTTP/1.1");
            types.map(|types| types.release())
        };
        let list = |kind: &str| {
            answer(400, &format!("invalid planeType: must be 'dataplane', '{kind}', or 'observabilityplane'"))
        };
        assert_eq!(reported(&list("buildplane")), Some(Some(Release::V0)));
        assert_eq!(reported(&list("workflowplane")), Some(Some(Release::V1)));
        assert_eq!((reported(&answer(404, "nothing")), reported(AUTHORIZED)), (None, None));
    }

    #[test]
    fn agents_are_counted_at_either_port() {
        let (certificate, key) = own();
        let counted = |first: &str, second: Option<&str>, namespace: Option<&str>| {
            let (port, asked) = serve(&certificate, &key, false, first);
            let api = second.map(|answer| serve(&certificate, &key, false, answer));
            let (url, api_port) = (url(port), api.as_ref().map_or(port, |(port, _)| *port));
            let of = PlaneKey { namespace: namespace.map(str::to_owned), name: "a".into(), ..PlaneKey::default() };
            let (plane_type, plane_id, ca) = ("dataplane", "x", certificate.pem());
            let question = Question { url: &url, plane_type, plane_id, identity: None, server_ca: &ca, limit: LIMIT };
            let counted = wait(count(question, &of, api_port)).unwrap();
            assert!(counted.is_none_or(|counted| counted.is_shared == second.is_none()));
            let counted = counted.map(|counted| counted.connected_agents);
            let asked = asked.join().unwrap();
            if let Some((_, again)) = api {
                assert_eq!(again.join().unwrap(), asked);
            }
            (counted, asked.trim_end_matches(" HTTP/1.1").to_owned())
        };
        let (two, none) =
            (answer(200, r#"{"connectedAgents": 2, "connected": true}"#), answer(404, "404 page not found"));
        let path = "GET /api/v1/planes/dataplane/x/status?";
        assert_eq!(counted(&two, None, None), (Some(2), format!("{path}name=a")));
        assert_eq!(counted(&none, Some(&two), Some("team")), (Some(2), format!("{path}namespace=team&name=a")));
        assert_eq!(counted(&none, None, None).0, None);
        assert_eq!(counted(&none, Some(&none), None).0, None);
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
        let pem = rcgen::Certificate::pem;
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
    fn failed_handshakes_are_distinguished() {
        use ProbeError::{Dropped, Incompatible, NotTls, Unreachable, Unverified};
        use rustls::AlertDescription::{BadCertificate, HandshakeFailure, ProtocolVersion};
        use rustls::{Error, InvalidMessage, PeerIncompatible};
        let of = |error: Error, accepted| of_handshake(&std::io::Error::other(error), accepted, "a:1");
        let alert = Error::AlertReceived;
        assert!(matches!(of(alert(ProtocolVersion), false), Incompatible(_)));
        assert!(matches!(of(alert(HandshakeFailure), false), Incompatible(_)));
        assert!(matches!(of(alert(HandshakeFailure), true), Dropped(_)));
        assert!(matches!(of(alert(BadCertificate), false), Dropped(_)));
        assert!(matches!(of(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), false), Incompatible(_)));
        assert!(matches!(of(Error::InvalidMessage(InvalidMessage::InvalidContentType), false), NotTls(_)));
        assert!(matches!(of(Error::InvalidCertificate(rustls::CertificateError::BadSignature), true), Unverified(_)));
        let io = |kind: std::io::ErrorKind| of_handshake(&kind.into(), false, "a:1");
        assert!(matches!(io(std::io::ErrorKind::UnexpectedEof), NotTls(_)));
        assert!(matches!(io(std::io::ErrorKind::ConnectionReset), Unreachable(..)));
    }

    #[test]
    fn alerts_have_their_names() {
        use rustls::AlertDescription;
        assert_eq!(alert_words(AlertDescription::BadCertificate), "TLS alert bad_certificate");
        assert_eq!(alert_words(AlertDescription::UnknownCA), "TLS alert unknown_ca");
        assert_eq!(alert_words(AlertDescription::from(200)), "TLS alert 200");
    }
}
