//! HTTP proxies before API servers: at a request of a run they do what a story asks for.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::control_plane::{ControlPlane, Output};

/// For how long the server may pause in an answer that is read as a whole; those of watches never end.
const PAUSE: Duration = Duration::from_millis(500);

/// What is done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Pass,
    /// The process is killed before the server has the request.
    Kill,
    /// The process is killed when the server has answered, and does not get the answer.
    KillAnswered,
    /// The server answers, and the connection is closed instead.
    Lose,
    /// The connection is closed in the middle of the answer.
    Cut,
    /// The server does not get the request; the answer is this status.
    Answer(&'static str),
}

/// What is done about a request, by its number since the start of the run, from 1 on.
type Decide = Arc<dyn Fn(usize) -> Act + Send + Sync>;

#[derive(Default)]
struct State {
    decide: Option<Decide>,
    requests: usize,
    /// The process of the run.
    process: Option<u32>,
}

struct Shared {
    state: Mutex<State>,
    started: Condvar,
}

/// The API server behind a proxy.
struct Server {
    config: Arc<ClientConfig>,
    port: u16,
    token: String,
}

/// Proxies before several API servers, which count requests together.
pub struct Gate {
    shared: Arc<Shared>,
}

/// What a run through a gate came to.
pub struct Passage {
    pub output: Output,
    /// How many requests it sent.
    pub requests: usize,
}

impl Gate {
    /// One before each of the API servers. Each leaves a file `gate.kubeconfig` in its folder.
    pub fn before(servers: &[&ControlPlane]) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), started: Condvar::new() });
        for at in servers {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let own = format!("http://{}", listener.local_addr().unwrap());
            let server = format!("https://127.0.0.1:{}", at.port());
            at.write("gate.kubeconfig", &at.read("kubeconfig").replace(&server, &own));
            let server = Server {
                config: client_config(&at.path().join("apiserver.crt")),
                port: at.port(),
                token: at.read("tokens.csv").split(',').next().unwrap().to_owned(),
            };
            let (server, shared) = (Arc::new(server), shared.clone());
            thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let (server, shared) = (server.clone(), shared.clone());
                    // Clients leave at any time.
                    thread::spawn(move || drop(serve(client, &shared, &server)));
                }
            });
        }
        Self { shared }
    }

    /// Runs a command, whose kubeconfigs are those of the gate, to its end.
    pub fn run(&self, command: Command, decide: impl Fn(usize) -> Act + Send + Sync + 'static) -> Passage {
        self.shared.state.lock().unwrap().decide = Some(Arc::new(decide));
        let output = self.follow(command);
        let requests = std::mem::take(&mut *self.shared.state.lock().unwrap()).requests;
        Passage { output, requests }
    }

    /// Runs a command whose process the gate may kill.
    fn follow(&self, mut command: Command) -> Output {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        self.shared.state.lock().unwrap().process = Some(child.id());
        self.shared.started.notify_all();
        Output::of(child)
    }
}

impl Shared {
    /// Counts a request and decides; a request of after the run passes.
    fn decide(&self) -> Act {
        let (decide, number) = {
            let mut state = self.state.lock().unwrap();
            state.requests += 1;
            (state.decide.clone(), state.requests)
        };
        decide.map_or(Act::Pass, |decide| decide(number))
    }

    fn kill(&self) {
        let state = self.state.lock().unwrap();
        let state = self.started.wait_while(state, |state| state.process.is_none()).unwrap();
        let process = state.process.unwrap().to_string();
        assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
    }
}

fn client_config(certificates: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_file_iter(certificates)
        .unwrap()
        .for_each(|certificate| roots.add(certificate.unwrap()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Serves one request; then the connection ends.
fn serve(mut client: TcpStream, shared: &Shared, server: &Server) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let header = |name: &str| {
        let fields = headers.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    client.read_exact(&mut body)?;
    let act = shared.decide();
    match act {
        Act::Kill => {
            shared.kill();
            return Ok(());
        }
        Act::Answer(status) => {
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            return client.write_all(head.as_bytes());
        }
        Act::Pass | Act::KillAnswered | Act::Lose | Act::Cut => {}
    }
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    if act != Act::Pass {
        stream.set_read_timeout(Some(PAUSE))?;
    }
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(server.config.clone(), name).unwrap(), stream);
    let own = |line: &str| {
        let field = line.split(':').next().unwrap();
        ["connection", "authorization", ""].iter().any(|own| own.eq_ignore_ascii_case(field))
    };
    let headers: String = headers.lines().filter(|line| !own(line)).map(|line| format!("{line}\r\n")).collect();
    // Helm sends no token over HTTP.
    let head = format!("{line}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{headers}\r\n", server.token);
    stream.write_all(&[head.as_bytes(), &body].concat())?;
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    // At the end, after an error and after a pause there is no more.
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        match act {
            Act::Pass => client.write_all(&buffer[..read])?,
            _ => answer.extend_from_slice(&buffer[..read]),
        }
    }
    match act {
        Act::KillAnswered => shared.kill(),
        Act::Cut => client.write_all(&answer[..answer.len() / 2])?,
        _ => {}
    }
    Ok(())
}
