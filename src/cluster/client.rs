//! The HTTP stack below the client: kube's own layers on a connector of ours, and one layer that listens.
//!
//! kube's default stack leaves Nagle's algorithm on, which costs 40 ms on a connection's first request, retries
//! for minutes, and takes the proxy's own address for what NO_PROXY is about; so the parts are put together here.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, Uri};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::{SignedDuration, Timestamp};
use kube::Config;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use tokio::sync::watch;
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};
use tower_http::decompression::DecompressionLayer;

use super::bounds::{Bounds, Ledger, NoAnswer};
use super::error::Error;
use super::explain::Unusable;
use crate::term::Term;
use crate::text::visible;

/// How often and for how long a request is tried again that the server was too busy for.
const RETRIES: u32 = 3;
/// How long a watch's first answer may take.
const WATCH_ANSWER: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// Longest time to wait for a busy server, where a request has no time limit.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many fields that can't be read are warned of by name.
const HEEDED: usize = 20;
/// A watch that ends sooner is one that the server does not keep open.
const SHORT_WATCH: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The shortest pause that is worth a warning.
const REPORTED_PAUSE: Duration = Duration::from_secs(1);
/// How many different warnings are printed: a server may have a new one with every answer.
const MOST_WARNINGS: usize = 200;

/// A client for `config`, whose answers `observed` listens to.
pub(super) fn client(
    mut config: Config,
    observed: &Arc<Observed>,
    timeout: Option<Duration>,
) -> Result<kube::Client, Error> {
    // Two libraries below could each bring a default; this says which one it is.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(limit) = timeout {
        config.connect_timeout = Some(config.connect_timeout.map_or(limit, |connect| connect.min(limit)));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(15)));
    tcp.set_connect_timeout(config.connect_timeout);
    match proxy(&config)? {
        None => stack(&config, tcp, observed, timeout),
        Some(proxy) if proxy.uri().scheme_str() == Some("socks5") => {
            stack(&config, SocksV5::new(proxy.uri().clone(), tcp), observed, timeout)
        }
        Some(proxy) => {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
            if let Some(credentials) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(credentials.clone());
            }
            stack(&config, tunnel, observed, timeout)
        }
    }
}

/// The proxy on the way to the server: the kubeconfig's, or that of the environment unless the server is this machine.
fn proxy(config: &Config) -> Result<Option<Intercept>, Error> {
    let server = &config.cluster_url;
    let matcher = match &config.proxy_url {
        Some(url) => Matcher::builder().all(url.to_string()).build(),
        None if loopback(server) => return Ok(None),
        None => Matcher::from_env(),
    };
    let proxy = matcher.intercept(server);
    match proxy.as_ref().and_then(|proxy| proxy.uri().scheme_str()) {
        None | Some("http" | "socks5") => Ok(proxy),
        Some(scheme) => Err(Error::Proxy { scheme: scheme.to_owned() }),
    }
}

fn loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn stack<C>(
    config: &Config,
    connector: C,
    observed: &Arc<Observed>,
    timeout: Option<Duration>,
) -> Result<kube::Client, Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: hyper_util::client::legacy::connect::Connection + hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    C::Future: Send,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let failed = Error::of_setup;
    let connector = config.rustls_https_connector_with_connector(connector).map_err(failed)?;
    let http = HyperClient::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build::<_, Body>(connector);
    let retry = RetryPolicy::new(FIRST_RETRY, LAST_RETRY, RETRIES, true).ok().map(RetryLayer::new);
    let service = ServiceBuilder::new()
        // Outermost, so that it counts what a compressed answer becomes.
        .layer_fn(|inner| Bounds { inner, ledger: observed.ledger.clone(), limit: timeout })
        .layer(config.base_uri_layer())
        .layer(DecompressionLayer::new().gzip(!config.disable_compression))
        .option_layer(retry)
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .layer_fn(|inner| Observer { inner, observed: observed.clone(), timeout })
        .service(http);
    Ok(ClientBuilder::new(service.boxed(), config.default_namespace.clone()).build())
}

/// What the server's answers report beside their content: its clock, its warnings, and that it answers at all.
#[derive(Debug)]
pub struct Observed {
    pub(super) term: Term,
    clock: Mutex<Clock>,
    answers: watch::Sender<u64>,
    warned: Mutex<BTreeSet<String>>,
    heeded: Mutex<BTreeSet<String>>,
    watches: Mutex<Pace>,
    /// What the answers hold.
    ledger: Arc<Mutex<Ledger>>,
}

/// The server's time at an instant of this machine's steady clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    at: Instant,
    time: Timestamp,
    heard: bool,
}

impl Clock {
    fn now(self) -> Timestamp {
        let passed = SignedDuration::try_from(self.at.elapsed()).unwrap_or_default();
        self.time.checked_add(passed).unwrap_or(self.time)
    }

    /// `Date` counts whole seconds, so each answer is a lower bound; the highest one of them is closest.
    fn hear(&mut self, date: Timestamp) {
        let ahead = date.duration_since(self.now());
        if !self.heard || ahead.is_positive() || ahead < SignedDuration::from_secs(-2) {
            *self = Self { at: Instant::now(), time: date, heard: true };
        }
    }
}

impl Observed {
    pub(super) fn new(term: Term) -> Self {
        let clock = Clock { at: Instant::now(), time: Timestamp::now(), heard: false };
        Self {
            term,
            clock: Mutex::new(clock),
            answers: watch::Sender::new(0),
            warned: Mutex::default(),
            heeded: Mutex::default(),
            watches: Mutex::default(),
            ledger: Arc::default(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.lock().map_or_else(|_| Timestamp::now(), |clock| clock.now())
    }

    /// Changes with every answer that isn't an error.
    pub(super) fn answers(&self) -> watch::Receiver<u64> {
        self.answers.subscribe()
    }

    /// Prints a warning that was not printed before.
    pub(super) fn warn_once(&self, text: &str) {
        if let Ok(mut warned) = self.warned.lock()
            && warned.len() < MOST_WARNINGS
            && warned.insert(text.to_owned())
        {
            self.term.warn(text);
        }
    }

    /// Warns of a field that can't be read: of the first ones by name.
    pub(super) fn heed(&self, warning: &str) {
        let warned = self.heeded.lock().map_or(0, |mut heeded| {
            if heeded.len() <= HEEDED {
                heeded.insert(warning.to_owned());
            }
            heeded.len()
        });
        match warned {
            ..=HEEDED => self.warn_once(warning),
            _ => self.warn_once("further fields that can't be read are not listed"),
        }
    }

    /// Returns how long to wait before the next watch, and says so where that is noticed.
    fn pause(&self) -> Duration {
        let pause = self.watches.lock().map_or(LONGEST_PAUSE, |mut pace| pace.next(Instant::now()));
        if pause >= REPORTED_PAUSE {
            self.warn_once(&format!(
                "the API server ends each watch at once; the next ones begin after pauses of up to {} s",
                LONGEST_PAUSE.as_secs()
            ));
        }
        jittered(pause)
    }

    fn hear(&self, headers: &HeaderMap, good: bool) {
        let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
            && let Ok(mut clock) = self.clock.lock()
        {
            clock.hear(date.timestamp());
        }
        for warning in headers.get_all(http::header::WARNING) {
            let text = String::from_utf8_lossy(warning.as_bytes()).into_owned();
            self.warn_once(&format!("the API server says: {}", visible(&warning_text(&text))));
        }
        if good {
            self.answers.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// The text in `299 - "text"` (RFC 9111, 5.5).
fn warning_text(header: &str) -> String {
    match (header.find('"'), header.rfind('"')) {
        (Some(start), Some(end)) if start < end => header[start + 1..end].replace("\\\"", "\"").replace("\\\\", "\\"),
        _ => header.to_owned(),
    }
}

/// Returns a pause of three quarters of this length at least, so that many clients do not come back at the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    pause - pause.mul_f64(f64::from(random as u16) / f64::from(u16::MAX) / 4.0)
}

/// How fast watches follow each other. A server that ends each of them at once would be asked without a pause.
#[derive(Debug, Default)]
struct Pace {
    /// When the last one begins.
    last: Option<Instant>,
    pause: Duration,
}

impl Pace {
    /// Returns the pause before a watch: none where the last one lasted, twice the last pause otherwise.
    fn next(&mut self, now: Instant) -> Duration {
        let short = self.last.is_some_and(|last| now.saturating_duration_since(last) < SHORT_WATCH);
        self.pause = if short { (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) } else { Duration::ZERO };
        self.last = Some(now + self.pause);
        self.pause
    }
}

#[derive(Clone)]
struct Observer<S> {
    inner: S,
    observed: Arc<Observed>,
    /// How long an answer's headers may take; its body may take longer, as a watch does.
    timeout: Option<Duration>,
}

impl<S, A, B> Service<Request<A>> for Observer<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (observed, mut timeout) = (self.observed.clone(), self.timeout);
        // A watch is answered at once, so who is silent for long is not there.
        let mut pause = Duration::ZERO;
        let patience = timeout.unwrap_or(PATIENCE);
        let asks_for =
            |what: &str| request.uri().query().is_some_and(|query| query.split('&').any(|part| part == what));
        if asks_for("watch=true") {
            timeout = Some(timeout.map_or(WATCH_ANSWER, |limit| limit.min(WATCH_ANSWER)));
            pause = observed.pause();
        } else if asks_for("follow=true") {
            // A log is answered with its first line, whenever that is written.
            timeout = None;
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            // The request is sent when its answer is first asked for.
            tokio::time::sleep(pause).await;
            let started = Instant::now();
            let answer = match timeout {
                Some(limit) => match tokio::time::timeout(limit, answer).await {
                    Ok(answer) => answer.map_err(Into::into),
                    Err(_) => Err(NoAnswer(limit).into()),
                },
                None => answer.await.map_err(Into::into),
            };
            if let Ok(response) = &answer {
                observed.hear(response.headers(), response.status().is_success());
            }
            observed.term.trace(|| {
                let reported =
                    answer.as_ref().map_or_else(|_| "no answer".into(), |response| response.status().to_string());
                format!("{method} {} {reported} {} ms", visible(&uri.to_string()), started.elapsed().as_millis())
            });
            match answer {
                Ok(response) => match Unusable::of(&response, uri.path(), patience) {
                    Some(error) => Err(error.into()),
                    None => Ok(response),
                },
                answer => answer,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(warning_text(r#"299 - "a \"b\" c""#), r#"a "b" c"#);
        assert_eq!(warning_text("299"), "299");
    }

    #[test]
    fn the_clock_follows_the_server() {
        let time = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let mut clock = Clock { at: Instant::now(), time: time(0), heard: false };
        clock.hear(time(-500));
        assert_eq!(clock.now().duration_since(time(-500)).as_secs(), 0);
        clock.hear(time(-501));
        assert!(clock.now() >= time(-500), "a coarser answer doesn't turn it back");
        clock.hear(time(-400));
        assert!(clock.now() >= time(-400));
        clock.hear(time(-900));
        assert!(clock.now() < time(-800), "a server's clock that was set back is followed");
    }

    #[test]
    fn watches_that_end_at_once_are_slowed_down() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause = pace.next(now);
            now += pause;
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pace.next(now + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn pauses_differ_and_are_never_longer() {
        let pause = Duration::from_secs(4);
        let pauses: BTreeSet<_> = (0..100).map(|_| jittered(pause)).collect();
        assert!(pauses.len() > 50 && pauses.iter().all(|made| (pause * 3 / 4..=pause).contains(made)), "{pauses:?}");
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        for (url, is) in [
            ("https://localhost:6443", true),
            ("https://127.0.0.1", true),
            ("https://[::1]:1", true),
            ("https://10.0.0.1", false),
            ("https://a.b", false),
        ] {
            assert_eq!(loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
