//! The binary against a real kube-apiserver and etcd. Where these can't be had, every story counts as skipped.
//!
//! This file is the harness: each module of stories lists its own in a line of `stories!`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

/// A module's stories, by what they need: `stories!(Server: a, b; Go: c);`.
macro_rules! stories {
    ($($needs:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        pub const STORIES: &[crate::Story] = &[$($(crate::Story {
            name: concat!(module_path!(), "::", stringify!($name)),
            needs: crate::Needs::$needs,
            run: $name,
        }),+),+];
    };
}

mod agents;
mod api;
mod apply;
mod bootstrap;
mod certs;
mod completion;
mod conformance;
mod control_plane;
#[allow(dead_code, reason = "the verdicts on servers are compared where they are made, in src/pki")]
mod corpus;
mod delete;
mod diagnosis;
mod differential;
mod double;
mod endurance;
mod eras;
mod errors;
mod estate;
mod families;
mod faults;
mod fleet;
mod gate;
mod get;
mod helm;
mod hints;
mod kinds;
mod lockout;
mod migration;
mod moments;
mod oddities;
mod openchoreo;
mod patient;
mod peers;
mod planes;
mod proxy;
mod readme;
mod recorded;
mod rotation;
mod store;
mod terminal;
mod timeline;
mod unlisted;
mod unregister;
mod validate;
mod verdicts;
mod wait;
mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use libtest_mimic::{Arguments, Completion, Trial};

/// All stories, those that take longest first.
const STORIES: &[&[Story]] = &[
    openchoreo::STORIES,
    moments::STORIES,
    endurance::STORIES,
    conformance::STORIES,
    oddities::STORIES,
    faults::STORIES,
    families::STORIES,
    fleet::STORIES,
    migration::STORIES,
    eras::STORIES,
    helm::STORIES,
    unregister::STORIES,
    rotation::STORIES,
    agents::STORIES,
    timeline::STORIES,
    bootstrap::STORIES,
    diagnosis::STORIES,
    double::STORIES,
    verdicts::STORIES,
    validate::STORIES,
    watch::STORIES,
    readme::STORIES,
    peers::STORIES,
    errors::STORIES,
    certs::STORIES,
    completion::STORIES,
    lockout::STORIES,
    get::STORIES,
    recorded::STORIES,
    delete::STORIES,
    apply::STORIES,
    wait::STORIES,
    kinds::STORIES,
    unlisted::STORIES,
];

/// How long something that is about to happen may take.
const SOON: Duration = Duration::from_secs(15);

/// How many stories run at once for each processor: most of their time they wait.
const AT_ONCE: usize = 2;

/// How many of the slowest stories are reported.
const SLOWEST: usize = 10;

/// What a story needs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// An API server.
    Server,
    /// And Go: its own crypto judges, or a program in Go replaces gateway and agents.
    Go,
    /// And OpenChoreo's own programs, which tests/openchoreo/build builds.
    OpenChoreo,
}

#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// With its module: `server::watch::changes_are_watched`.
    pub name: &'static str,
    pub needs: Needs,
    pub run: fn(),
}

/// Whether the environment asks for the long form of the stories that have one.
fn is_long() -> bool {
    std::env::var_os("SIEGE").is_some_and(|form| form == "long")
}

fn stories() -> impl Iterator<Item = Story> {
    STORIES.iter().copied().flatten().copied()
}

/// Functions without arguments and results, as stories are: the names of those in a source file.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("fn ")?.strip_suffix("() {"))
}

/// Fails where a function of a file beside this one looks like a story and is none of the list, or the other way round.
fn every_story_is_in_the_list() {
    assert_eq!(functions("fn a() {\n}\npub fn b() {\nfn c() -> u8 {\n    fn d() {").collect::<Vec<_>>(), ["a", "b"]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server");
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Beside the stories are the transcripts of some.
        if path.is_dir() {
            continue;
        }
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if module != "main" {
            let source = fs::read_to_string(&path).unwrap();
            written.extend(functions(&source).map(|name| format!("server::{module}::{name}")));
        }
    }
    let listed: BTreeSet<_> = stories().map(|story| story.name.to_owned()).collect();
    let odd: Vec<_> = listed.symmetric_difference(&written).collect();
    assert!(odd.is_empty() && listed.len() == stories().count(), "not written or not listed: {odd:?}");
}

/// What is missing on this machine for a story that needs so much.
struct Missing {
    server: Option<String>,
    go: Option<String>,
    openchoreo: Option<String>,
}

impl Missing {
    fn look() -> Self {
        let server = control_plane::available().err();
        let go = Command::new("go").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
        let go = server.clone().or_else(|| (!go).then(|| "Go is not on this machine".to_owned()));
        Self { openchoreo: go.clone().or_else(|| openchoreo::available().err()), go, server }
    }

    fn of(&self, needs: Needs) -> Option<String> {
        match needs {
            Needs::Server => self.server.clone(),
            Needs::Go => self.go.clone(),
            Needs::OpenChoreo => self.openchoreo.clone(),
        }
    }
}

/// How long each story took.
type Times = Arc<Mutex<Vec<(Duration, &'static str)>>>;

fn trial(story: Story, missing: Option<String>, times: Times) -> Trial {
    let name = story.name.trim_start_matches("server::");
    Trial::ignorable_test(name, move || {
        if let Some(why) = missing {
            return Ok(Completion::ignored_with(why));
        }
        let started = Instant::now();
        (story.run)();
        times.lock().unwrap().push((started.elapsed(), name));
        Ok(Completion::Completed)
    })
}

fn tell_slowest(times: &Times) {
    let mut times = times.lock().unwrap();
    times.sort_unstable_by(|one, other| other.cmp(one));
    for (time, name) in times.iter().take(SLOWEST) {
        println!("{:6.1} s  {name}", time.as_secs_f32());
    }
}

fn main() {
    let mut args = Arguments::from_args();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    args.test_threads.get_or_insert(AT_ONCE * processors);
    let missing = if args.list { Missing { server: None, go: None, openchoreo: None } } else { Missing::look() };
    if let Some(why) = &missing.server {
        println!("skipped, {why}");
    } else if let Some(why) = &missing.openchoreo {
        println!("skipped on OpenChoreo's own programs, {why}");
    }
    let times = Times::default();
    let list = Trial::test("every_story_is_in_the_list", || {
        every_story_is_in_the_list();
        Ok(())
    });
    let trials = stories().map(|story| trial(story, missing.of(story.needs), times.clone()));
    let conclusion = libtest_mimic::run(&args, std::iter::once(list).chain(trials).collect());
    tell_slowest(&times);
    ControlPlane::end_all();
    conclusion.exit();
}
