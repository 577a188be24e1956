//! A person at a terminal: the binary in a pseudo-terminal that `script` makes, and keys that are typed.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::control_plane::ControlPlane;

const SOON: Duration = Duration::from_secs(30);

pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much of the screen was read already.
    read: usize,
}

impl Terminal {
    /// Whether there is a `script` to make a pseudo-terminal.
    pub fn available() -> bool {
        Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok()
    }

    /// The configuration of the person at the terminal.
    pub fn config(at: &ControlPlane) -> std::path::PathBuf {
        at.path().join("choreoctl.yaml")
    }

    /// The binary with these words, which need no quotes.
    pub fn start(at: &ControlPlane, args: &[&str]) -> Self {
        Self::start_after(at, "true", args)
    }

    /// Runs the binary after another command at that terminal.
    pub fn start_after(at: &ControlPlane, before: &str, args: &[&str]) -> Self {
        let binary = env!("CARGO_BIN_EXE_choreoctl");
        let line = format!("stty rows 50 cols 200; {before}; {binary} {}", args.join(" "));
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]).current_dir(at.path());
        command.env("KUBECONFIG", at.kubeconfig()).env("NO_COLOR", "1").env("TERM", "xterm");
        command.env("CHOREOCTL_CONFIG", Self::config(at));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, seen) = (child.stdout.take().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                seen.lock().unwrap().extend(&buffer[..count]);
            }
        });
        let keys = child.stdin.take().unwrap();
        Self { child, keys, screen, read: 0 }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until a text appears behind what was read before.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + SOON;
        loop {
            let screen = self.text();
            if let Some(at) = screen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", &screen[self.read..]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the end: the exit code, and the whole screen.
    #[track_caller]
    pub fn ends(mut self) -> (i32, String) {
        let deadline = Instant::now() + SOON;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("it does not end: {:?}", self.text());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        std::thread::sleep(Duration::from_millis(100));
        (code, self.text())
    }
}
