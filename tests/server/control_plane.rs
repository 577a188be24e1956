//! A control plane of a test's own: etcd and kube-apiserver in a folder that goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::Api;
use crate::store::{Restored, Store};

const BINARY: &str = env!("CARGO_BIN_EXE_choreoctl");

/// The control plane of all stories that don't break theirs. Each has planes of its own names.
pub static SHARED: LazyLock<ControlPlane> = LazyLock::new(ControlPlane::start);

/// The folders of all control planes that were started.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control-plane").join(name)
}

/// Whether a control plane can be had: the reason why not, otherwise.
pub fn available() -> Result<(), String> {
    let build = Command::new(script("build"))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .map_err(|error| error.to_string())?;
    match build.code() {
        Some(0) => Ok(()),
        Some(3) => Err("neither kube-apiserver and etcd nor Go are on this machine".into()),
        _ => panic!("the control plane could not be built"),
    }
}

/// Servers that run and are as they were at their start.
static IDLE: Mutex<Vec<Server>> = Mutex::new(Vec::new());

/// An etcd and a kube-apiserver.
struct Server {
    folder: tempfile::TempDir,
    tools: PathBuf,
    store: Store,
    /// What lies in the folder at the start.
    files: BTreeSet<OsString>,
}

impl Server {
    fn start() -> Self {
        let build = Command::new(script("build")).output().unwrap();
        let tools = String::from_utf8(build.stdout).unwrap().trim().into();
        let folder = tempfile::tempdir().unwrap();
        FOLDERS.lock().unwrap().push(folder.path().to_owned());
        up(folder.path());
        let port = fs::read_to_string(folder.path().join("etcd-port")).unwrap().trim().parse().unwrap();
        let files = entries(folder.path()).map(|entry| entry.file_name()).collect();
        Self { folder, tools, store: Store::of(port), files }
    }

    /// Makes all as it was at the start, as far as that is possible.
    fn restore(&self) -> Restored {
        fs::write(self.folder.path().join("audit.log"), "").unwrap();
        for entry in entries(self.folder.path()).filter(|entry| !self.files.contains(&entry.file_name())) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        self.store.restore()
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).unwrap().map(Result::unwrap)
}

/// Starts what isn't running of a folder's servers.
fn up(folder: &Path) {
    let up = Command::new(script("up")).arg(folder).output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
}

/// A story's own, until it ends.
pub struct ControlPlane {
    /// Always there, until it is dropped.
    server: Option<Server>,
    was_killed: AtomicBool,
    api: OnceLock<Api>,
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Waits for a process; the code of one that was killed is -1.
    pub fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless standard error has each of the words.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "{word} in {}", self.stderr);
        }
    }

    /// The output, if the exit code is the one that is expected.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl ControlPlane {
    /// One that is as new.
    pub fn start() -> Self {
        let idle = IDLE.lock().unwrap().pop();
        let server = Some(idle.unwrap_or_else(Server::start));
        Self { server, was_killed: AtomicBool::default(), api: OnceLock::default() }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Ends all that still run: statics are never dropped.
    pub fn end_all() {
        for folder in FOLDERS.lock().unwrap().drain(..).filter(|folder| folder.exists()) {
            let _ = Command::new(script("down")).arg(folder).status();
        }
    }

    /// Starts what isn't running.
    pub fn up(&self) {
        up(self.path());
    }

    pub fn path(&self) -> &Path {
        self.server().folder.path()
    }

    /// The API without a process for each request.
    pub fn api(&self) -> &Api {
        self.api.get_or_init(|| Api::of(self))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.path().join("kubeconfig")
    }

    /// The API server's port.
    pub fn port(&self) -> u16 {
        fs::read_to_string(self.path().join("api-port")).unwrap().trim().parse().unwrap()
    }

    /// Ends the API server as a power cut would.
    pub fn kill(&self) {
        self.was_killed.store(true, Ordering::Relaxed);
        let pid = fs::read_to_string(self.path().join("kube-apiserver.pid")).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        // `up` takes a process that is about to end for one that runs: its port may be closed by then.
        let status = format!("/proc/{}/status", pid.trim());
        let runs = || fs::read_to_string(&status).is_ok_and(|status| !status.contains("\nState:\tZ"));
        let started = Instant::now();
        while runs() || std::net::TcpStream::connect(("127.0.0.1", self.port())).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(10), "the API server doesn't die");
        }
    }

    /// Makes etcd forget what was before.
    pub fn compact(&self) {
        self.server().store.compact();
    }

    /// The binary, for this control plane.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    pub fn run_with(&self, args: &[&str], input: &str) -> Output {
        finish(self.command(args), input)
    }

    pub fn kubectl(&self, args: &[&str], input: &str) -> Output {
        finish(self.kubectl_command(args), input).expect(0)
    }

    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.server().tools.join("kubectl"));
        command.args(args).env("KUBECONFIG", self.kubeconfig()).current_dir(self.path());
        command
    }

    /// Creates a plane whose CA is a Secret that isn't there.
    pub fn plane(&self, name: &str) {
        self.run(&["create", name, "--client-ca-secret", "default/none"]).expect(0);
    }

    /// Writes agentConnection as the controller would. Times are seconds before now.
    pub fn status(&self, name: &str, connected: bool, agents: u32, times: &[(&str, i64)], message: &str) {
        let mut connection = serde_json::json!({"connected": connected, "connectedAgents": agents, "message": message});
        for (field, ago) in times {
            let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(*ago);
            connection[*field] = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        }
        let status = serde_json::json!({"status": {"agentConnection": connection}});
        self.kubectl(
            &["patch", "clusterbuildplane", name, "--subresource=status", "--type=merge", "-p", &status.to_string()],
            "",
        );
    }

    pub fn connect(&self, name: &str) {
        self.status(name, true, 1, &[("lastConnectedTime", 60), ("lastHeartbeatTime", 1)], "1 agent connected");
    }

    /// Starts the binary and reads its lines as they come.
    pub fn spawn(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// A new CA in a folder of the control plane; its certificate's path.
    pub fn ca(&self, folder: &str) -> String {
        self.run(&["certs", "ca", "--out-dir", folder]).expect(0);
        format!("{folder}/ca.crt")
    }

    /// A plane as it is stored.
    pub fn object(&self, name: &str) -> Value {
        self.kubectl(&["get", "cbp", name, "-o", "json", "--show-managed-fields"], "").json()
    }

    /// The states of all planes, by name.
    pub fn states(&self) -> BTreeMap<String, String> {
        let reported = self.run(&["describe", "-o", "json"]).expect(0).json();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let planes = reported["planes"].as_array().unwrap().iter();
        planes.map(|plane| (word(&plane["name"]), word(&plane["connection"]["state"]))).collect()
    }

    /// A file of the control plane's folder.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let Some(server) = self.server.take() else { return };
        let is_used_up = std::thread::panicking() || self.was_killed.load(Ordering::Relaxed);
        if !is_used_up && server.restore() == Restored::Wholly {
            IDLE.lock().unwrap().push(server);
        } else {
            let _ = Command::new(script("down")).arg(server.folder.path()).status();
        }
    }
}

pub fn finish(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails before it reads closes the pipe: that is its right.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Output::of(child)
}

/// A command that goes on.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads lines until one fits; fails after the time.
    #[track_caller]
    pub fn until(&mut self, what: &str, limit: Duration, fits: impl Fn(&str) -> bool) -> String {
        match self.next_that(limit, fits) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no {what} within {limit:?}; seen: {:#?}", self.seen),
            Err(RecvTimeoutError::Disconnected) => {
                let stderr = self.stderr();
                panic!("ended without {what}; seen: {:#?}\n{stderr}", self.seen);
            }
        }
    }

    /// Whether there is another line that fits before the end; fails after the time.
    #[track_caller]
    pub fn comes_to(&mut self, limit: Duration, fits: impl Fn(&str) -> bool) -> bool {
        match self.next_that(limit, fits) {
            Ok(_) => true,
            Err(RecvTimeoutError::Timeout) => panic!("no end within {limit:?}; seen: {:#?}", self.seen),
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn next_that(&mut self, limit: Duration, fits: impl Fn(&str) -> bool) -> Result<String, RecvTimeoutError> {
        let deadline = Instant::now() + limit;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
            self.seen.push(line.clone());
            if fits(&line) {
                return Ok(line);
            }
        }
    }

    /// Reads JSON lines until one has a type and a name; fails after the time.
    #[track_caller]
    pub fn event(&mut self, kind: &str, name: &str, limit: Duration) -> Value {
        let fits = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["type"] == kind && (name.is_empty() || event["name"] == name)
        };
        let line = self.until(&format!("{kind} of {name}"), limit, fits);
        serde_json::from_str(&line).unwrap()
    }

    /// The last line about each plane so far, as (name, type, state).
    pub fn last(&self, name: &str) -> (String, String) {
        let events = self.seen.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let last = events.rev().find(|event| event["name"] == name).unwrap_or_else(|| panic!("nothing of {name}"));
        (last["type"].as_str().unwrap().into(), last["state"].as_str().unwrap_or_default().into())
    }

    pub fn stderr(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut err) = self.child.stderr.take() {
            let _ = err.read_to_string(&mut text);
        }
        text
    }

    pub fn signal(&mut self, signal: &str) -> i32 {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
        self.wait()
    }

    pub fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
