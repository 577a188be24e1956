//! What v1.0 breaks of what is there, worst first, and what helps: pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::prepare::{Change, Meant, Prepared, Swap, Work};
use super::seen::Seen;
use crate::cluster::Target;
use crate::estate::{CaPlace, Few};
use crate::migration::{PULL_SECRETS, REFERENCE, Record, default_plane, is_of_chart, is_outdated, is_own, renamed};
use crate::plane::{DEFAULT_KIND, PlaneKey, day};
use crate::text::{count, shell_quoted, visible};

/// The record's name in its folder, and those of what is made of it.
pub const RECORD_FILE: &str = "before.yaml";
pub const PLANES_FILE: &str = "planes.yaml";
pub const WORKFLOWS_FILE: &str = "workflows.yaml";
pub const DEFAULT_PLANE_FILE: &str = "default-plane.yaml";

/// Something that breaks, or is broken already.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub id: &'static str,
    pub plane: Option<PlaneKey>,
    /// A sentence.
    pub message: String,
    /// A command, or one action.
    pub fix: String,
    /// Whether the stage `switch` solves it.
    pub is_solved_by_switch: bool,
}

/// Where commands are run, and on which files.
pub struct Commands<'c> {
    pub control: &'c Target,
    pub build: Option<&'c Target>,
    /// The folder of the record, as a shell takes it.
    pub folder: &'c str,
}

impl Commands<'_> {
    fn control(&self, command: &str) -> String {
        self.control.command(command)
    }

    /// A command of choreoctl for both clusters.
    fn both(&self, command: &str) -> String {
        let build = self.build.map(|build| build.by_context("plane-")).unwrap_or_default();
        format!("{}{build}", self.control.command(command))
    }
}

/// Lists all of them, worst first.
pub fn problems(seen: &Seen, record: &Record, prepared: &Prepared, meant: &Meant, at: &Commands<'_>) -> Vec<Problem> {
    let mut problems = of_planes(seen, prepared, at);
    problems.sort_by_key(|problem| problem.is_solved_by_switch);
    problems.extend(seen.pending.iter().map(|release| {
        let (name, namespace) = (shell_quoted(&release.name), shell_quoted(&release.namespace));
        let rollback = format!("helm rollback {name} --namespace {namespace}");
        Problem {
            id: "helm-pending",
            plane: None,
            message: format!(
                "an upgrade of Helm release {} was interrupted: Helm refuses further upgrades",
                visible(&release.to_string())
            ),
            fix: format!(
                "{}, then run this command again",
                at.build.map_or(rollback.clone(), |build| build.command(&rollback))
            ),
            is_solved_by_switch: false,
        }
    }));
    problems.extend(of_certificates(seen, prepared, at));
    problems.extend(of_workflows(seen, record, prepared, at));
    problems.extend(of_others(seen, at));
    problems.extend(seen.secrets.iter().map(|left| Problem {
        id: "run-secrets",
        plane: None,
        message: format!(
            "{} for workflow runs ({}) in the namespace {} of the plane's cluster, and v1.0 runs workflows in {}",
            count(left.names.len(), "Secret"),
            Few::of(&left.names),
            visible(&left.namespace),
            visible(&left.since)
        ),
        fix: format!("create them in the namespace {}, too", visible(&left.since)),
        is_solved_by_switch: false,
    }));
    problems.extend(pull_secrets(seen, prepared));
    let is_named = !meant.names.is_empty() || prepared.swaps.is_empty();
    problems.extend(prepared.without_agent.iter().filter(|_| is_named).map(|plane| Problem {
        id: "agent-unknown",
        plane: Some(plane.clone()),
        message: format!(
            "the agent of {} was not found in {}",
            plane.title(),
            at.build.map(Target::title).unwrap_or_default()
        ),
        fix: "name the cluster of its agent with --plane-context, and its namespace with --plane-namespace".into(),
        is_solved_by_switch: false,
    }));
    problems
}

/// References to Secrets, of planes whose kind stays.
fn of_planes(seen: &Seen, prepared: &Prepared, at: &Commands<'_>) -> Vec<Problem> {
    let migrate = at.both(&format!("choreoctl migrate --out-dir {}", at.folder));
    let problem = |id, plane: &PlaneKey, message, fix, is_solved_by_switch| Problem {
        id,
        plane: Some(plane.clone()),
        message,
        fix,
        is_solved_by_switch,
    };
    let of_change = |change: &Change| {
        let plane = &change.new;
        let name = plane.title();
        match (&change.work, seen.plane(plane)) {
            (Work::Lost, _) => Some(problem(
                "reference-lost",
                plane,
                format!(
                    "{name} has no CA any more: the CRD of v1.0 dropped its secretRef, and no record has it; the gateway refuses its agents"
                ),
                format!("{migrate} --record FILE  (a dump, or the plane's manifest from Git)"),
                false,
            )),
            (Work::Restore(_), _) => Some(problem(
                "secret-ref",
                plane,
                format!("{name} has no CA any more: the CRD of v1.0 dropped its secretRef, which the record has"),
                format!("once the gateway runs v1.0: {migrate}"),
                true,
            )),
            (Work::None, Some(live)) if !seen.is_pruned() => match CaPlace::of(live) {
                CaPlace::Secret(secret) => Some(problem(
                    "secret-ref",
                    plane,
                    format!(
                        "{name} refers to its CA in Secret {secret} with secretRef, which the CRD of v1.0 drops: its agents are refused until the reference is restored as secretKeyRef"
                    ),
                    format!("once the gateway runs v1.0: {migrate}"),
                    true,
                )),
                _ => None,
            },
            _ => None,
        }
    };
    prepared.changes.iter().filter(|change| change.old == change.new).filter_map(of_change).collect()
}

/// Self-signed certificates of agents, which a plane trusts one by one. cert-manager would issue another one for the new
/// chart, so the values keep the one there is.
fn of_certificates(seen: &Seen, prepared: &Prepared, at: &Commands<'_>) -> Vec<Problem> {
    let of_swap = |swap: &Swap| {
        let facts = seen.agents.iter().flatten().find(|facts| facts.agent.name == swap.agent.name)?;
        let leaf = facts.pair.as_ref().ok()?.certificates.first()?;
        if leaf.subject != leaf.issuer {
            return None;
        }
        let change = prepared.changes.iter().find(|change| change.new == swap.plane)?;
        let is_late = swap.is_done || seen.running.is_late();
        let plane = if is_late { &change.new } else { &change.old };
        let namespace = shell_quoted(&swap.agent.name.namespace);
        let rotate = at.both(&format!("choreoctl certs rotate {} --to own", plane.words()));
        let first = if is_late && !swap.is_done { "once the agent has v1.0: " } else { "" };
        Some(Problem {
            id: "pinned-certificate",
            plane: Some(swap.plane.clone()),
            message: format!(
                "{} trusts one self-signed certificate of its agent, and would refuse the one that cert-manager issues for the new chart; the agent keeps the old one, which is not renewed: it is valid until {}",
                plane.title(),
                day(leaf.not_after)
            ),
            fix: format!("{first}{rotate} --plane-namespace {namespace}"),
            is_solved_by_switch: false,
        })
    };
    prepared.swaps.iter().filter_map(of_swap).collect()
}

/// Workflows, by the plane that they need.
fn of_workflows(seen: &Seen, record: &Record, prepared: &Prepared, at: &Commands<'_>) -> Vec<Problem> {
    let mut by_plane = BTreeMap::<&PlaneKey, Vec<&str>>::new();
    for moved in &prepared.moved {
        by_plane.entry(&moved.on).or_default().push(&moved.name);
    }
    let default = default_plane();
    let old_default = PlaneKey { kind: DEFAULT_KIND, ..default.clone() };
    let exists = seen.plane(&default).is_some() || record.has(&old_default);
    let of_group = |(plane, names): (&PlaneKey, Vec<&str>)| {
        let workflows = format!("{} ({})", count(names.len(), "Workflow"), Few::of(&names));
        let (verb, it) = if names.len() == 1 { ("runs", "it") } else { ("run", "them") };
        let rest = if exists { "" } else { ", which does not exist" };
        let command = match &prepared.default_plane {
            Some(_) => format!("choreoctl apply -f {}/{DEFAULT_PLANE_FILE}", at.folder),
            None => format!("kubectl replace --force -f {}/{WORKFLOWS_FILE}", at.folder),
        };
        Problem {
            id: if exists { "workflow-moved" } else { "workflow-plane-missing" },
            plane: Some(renamed(plane)),
            message: format!(
                "{workflows} {verb} on {}, and v1.0 runs {it} on {}{rest}",
                plane.title(),
                default.title()
            ),
            fix: format!("once the CRDs of v1.0 are installed: {}", at.control(&command)),
            is_solved_by_switch: false,
        }
    };
    by_plane.into_iter().map(of_group).collect()
}

/// Projects and roles, but for those of OpenChoreo's own chart, which the upgrade replaces.
fn of_others(seen: &Seen, at: &Commands<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for object in &seen.objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
        let key = [namespace, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let key = visible(&key);
        if is_own(object, "Project") && !object["spec"][REFERENCE[0]].is_null() {
            problems.push(Problem {
                id: "project-plane",
                plane: None,
                message: format!("Project {key} references a build plane, which a Project of v1.0 can't"),
                fix: "reference the plane in the Workflows of the Project's Components".into(),
                is_solved_by_switch: false,
            });
        } else if kind.contains("Role") && !is_of_chart(object) && is_outdated(object) {
            let place = if namespace.is_empty() { String::new() } else { format!(" -n {}", shell_quoted(namespace)) };
            let get = at.control(&format!("kubectl get {} {}{place} -o yaml", kind.to_lowercase(), shell_quoted(name)));
            problems.push(Problem {
                id: "role",
                plane: None,
                message: format!(
                    "{kind} {key} has permissions only on kinds that v1.0 renamed: it grants nothing on workflow planes"
                ),
                fix: format!(
                    "once the control plane has v1.0: {get} | choreoctl migrate -f - | {}",
                    at.control("kubectl apply -f -")
                ),
                is_solved_by_switch: false,
            });
        }
    }
    problems.sort_by_key(|problem| problem.id);
    problems
}

fn pull_secrets(seen: &Seen, prepared: &Prepared) -> Vec<Problem> {
    let of_change = |change: &Change| {
        let plane = seen.plane(&change.old)?;
        let names = plane.spec.other.get(PULL_SECRETS)?;
        Some(Problem {
            id: "pull-secrets",
            plane: Some(change.old.clone()),
            message: format!(
                "{} has {PULL_SECRETS} {}, a field that v1.0 removed",
                change.old.title(),
                visible(&names.to_string())
            ),
            fix: "name the Secrets as imagePullSecrets in the Pod templates of your ComponentTypes".into(),
            is_solved_by_switch: false,
        })
    };
    prepared.changes.iter().filter_map(of_change).collect()
}
