//! A watch of many planes while statuses are written all the time, the API server is killed again and again, and etcd
//! forgets what was before: in the end each plane's last line is true.
//!
//! SIEGE=long takes half an hour: 5,000 planes, 200 writes a second, 20 kills and 5 compactions.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::SOON;
use crate::api::Api;
use crate::control_plane::ControlPlane;
use crate::planes::{by_secret, manifest};

stories!(
    Server:
        a_watch_outlives_kills_and_compactions;
);

const PLANES: &str = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes";
const WRITERS: usize = 4;
/// Most memory that a watch may take, in bytes.
const MEMORY: u64 = 256 << 20;

/// How much there is of all.
struct Form {
    planes: usize,
    kills: usize,
    compactions: usize,
    /// Status writes in a second.
    rate: u64,
    /// Between two disturbances.
    pause: Duration,
}

const SHORT: Form = Form { planes: 200, kills: 2, compactions: 1, rate: 50, pause: Duration::from_secs(5) };
const LONG: Form = Form { planes: 5_000, kills: 20, compactions: 5, rate: 200, pause: Duration::from_secs(70) };

/// What was written last of a plane: how many agents it has, which only grows, and when the server had it.
type Written = HashMap<String, (u64, Instant)>;

/// What a watch shows, as it comes.
#[derive(Default)]
struct Shown {
    /// How many agents each plane has.
    agents: HashMap<String, u64>,
    /// From a write to its line, in milliseconds.
    lags: Vec<u128>,
    lost: usize,
    resumed: usize,
}

fn status(agents: u64) -> Value {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let connection = json!({"connected": true, "connectedAgents": agents, "lastConnectedTime": time,
        "lastHeartbeatTime": time, "message": "connected"});
    json!({"status": {"agentConnection": connection}})
}

fn write_status(api: &Api, name: &str, agents: u64) -> bool {
    let path = format!("{PLANES}/{name}/status");
    let answer = api.try_send("PATCH", &path, "application/merge-patch+json", &status(agents));
    answer.is_some_and(|(code, _)| code == 200)
}

fn create(at: &ControlPlane, planes: usize) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let api = Api::of(at);
                for number in (writer..planes).step_by(WRITERS) {
                    let name = format!("plane-{number}");
                    let plane = serde_json::from_str(&manifest(&name, by_secret(&name, "none"))).unwrap();
                    api.write(&format!("{PLANES}/{name}"), &plane);
                    assert!(write_status(&api, &name, 1));
                }
            });
        }
    });
}

/// Reads what a watch shows until it ends.
fn read(child: &mut Child, written: Arc<RwLock<Written>>) -> Arc<Mutex<Shown>> {
    let shown = Arc::new(Mutex::new(Shown::default()));
    let (out, to) = (BufReader::new(child.stdout.take().unwrap()), shown.clone());
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let now = Instant::now();
            let event: Value = serde_json::from_str(&line).unwrap();
            let mut shown = to.lock().unwrap();
            match event["type"].as_str().unwrap() {
                "lost" => shown.lost += 1,
                "resumed" => shown.resumed += 1,
                _ => {}
            }
            if let (Some(name), Some(agents)) = (event["name"].as_str(), event["connectedAgents"].as_u64()) {
                shown.agents.insert(name.to_owned(), agents);
                if let Some((_, at)) = written.read().unwrap().get(name).filter(|(written, _)| *written == agents) {
                    shown.lags.push(now.saturating_duration_since(*at).as_millis());
                }
            }
        }
    });
    shown
}

/// The memory of a process, in bytes.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Bytes an hour by least squares, of samples of seconds and bytes.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| samples.iter().map(pick).sum::<f64>() / count;
    let (time, bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let products = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - bytes)).sum::<f64>();
    let squares = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum::<f64>();
    3600.0 * products / squares
}

fn a_watch_outlives_kills_and_compactions() {
    let form = if crate::is_long() { LONG } else { SHORT };
    let at = &ControlPlane::start();
    create(at, form.planes);
    let mut child = at.command(&["watch", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let written = Arc::new(RwLock::new(Written::new()));
    let shown = read(&mut child, written.clone());
    let started = Instant::now();
    while shown.lock().unwrap().agents.len() < form.planes {
        assert!(started.elapsed() < SOON, "the planes are not shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (written, done, count) = (written.clone(), &done, &count);
            scope.spawn(move || {
                let api = Api::of(at);
                let every = Duration::from_secs(WRITERS as u64) / u32::try_from(form.rate).unwrap();
                let mut next = Instant::now();
                for agents in 2.. {
                    for number in (writer..form.planes).step_by(WRITERS) {
                        if done.load(Ordering::SeqCst) {
                            return;
                        }
                        let name = format!("plane-{number}");
                        // One that was killed while it wrote may have written, or not.
                        while !write_status(&api, &name, agents) {
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        written.write().unwrap().insert(name, (agents, Instant::now()));
                        count.fetch_add(1, Ordering::SeqCst);
                        next = (next + every).max(Instant::now() - every);
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    }
                }
            });
        }
        let pause = |samples: &mut Vec<(f64, f64)>| {
            let until = Instant::now() + form.pause;
            while Instant::now() < until {
                samples.push((started.elapsed().as_secs_f64(), memory(child.id()) as f64));
                std::thread::sleep(Duration::from_millis(500));
            }
        };
        for kill in 0..form.kills {
            if kill * form.compactions / form.kills < (kill + 1) * form.compactions / form.kills {
                pause(&mut samples);
                at.compact();
            }
            pause(&mut samples);
            at.kill();
            at.up();
        }
        pause(&mut samples);
        done.store(true, Ordering::SeqCst);
    });
    let is_true = || {
        let (written, shown) = (written.read().unwrap(), shown.lock().unwrap());
        written.iter().all(|(name, (agents, _))| shown.agents.get(name) == Some(agents))
    };
    let deadline = Instant::now() + SOON;
    while !is_true() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let is_true = is_true();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut shown = shown.lock().unwrap();
    let peak = samples.iter().map(|(_, bytes)| *bytes as u64).max().unwrap();
    shown.lags.sort_unstable();
    let lag = |share: usize| shown.lags[(shown.lags.len() - 1) * share / 1000];
    println!(
        "{} planes, {} writes in {} s, {} kills ({} lost, {} resumed), {} compactions; lag p50 {} ms, p99 {} ms, most {} ms; memory at most {:.1} MiB, {:+.2} MiB an hour",
        form.planes,
        count.load(Ordering::SeqCst),
        started.elapsed().as_secs(),
        form.kills,
        shown.lost,
        shown.resumed,
        form.compactions,
        lag(500),
        lag(990),
        lag(1000),
        peak as f64 / f64::from(1 << 20),
        slope(&samples) / f64::from(1 << 20),
    );
    assert!(is_true, "a last state is missing");
    assert!(shown.resumed >= 1 && shown.lost == shown.resumed, "{} lost, {} resumed", shown.lost, shown.resumed);
    assert!(peak < MEMORY, "{peak} bytes");
}
