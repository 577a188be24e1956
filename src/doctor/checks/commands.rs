//! The commands that hints hold, for the clusters that were looked at.

use super::outcome::Hint;
use crate::cluster::Target;
use crate::doctor::case::Case;
use crate::plane::{PlaneKey, State};
use crate::text::shell_quoted;

impl Case {
    /// The plane as words of a command line.
    pub fn words(&self) -> String {
        self.facts.plane.key().words()
    }

    /// Whether the control plane says that an agent is there, or was a moment ago.
    pub fn is_connected(&self) -> bool {
        matches!(self.facts.plane.state(self.facts.now), State::Connected | State::Late)
    }

    /// A command line for the control plane's cluster.
    pub fn control(&self, command: &str) -> String {
        self.shared.control.command(command)
    }

    /// A kubectl command in the control plane's namespace.
    pub fn kubectl(&self, command: &str) -> String {
        self.control(&format!("kubectl -n {} {command}", shell_quoted(&self.shared.control_namespace)))
    }

    /// The command that starts a pod of a Deployment of the control plane.
    pub fn scale(&self, deployment: &str) -> Hint {
        Hint::Fix(self.kubectl(&format!("scale deployment {} --replicas=1", shell_quoted(deployment))))
    }

    pub fn build_command(&self, command: &str) -> String {
        self.shared.build_target.as_ref().map_or_else(|| command.to_owned(), |target| target.command(command))
    }

    /// A command for the plane that needs both clusters; advice where the agent's is a placeholder.
    pub fn with_both(&self, verb: &str, flags: &str, hint: fn(String) -> Hint) -> Hint {
        let line = self.control(&format!("choreoctl {verb} {}{flags}", self.words()));
        match &self.shared.build_target {
            // Without an agent there is nothing to change.
            Some(target) if matches!(self.build, Some(Ok(_))) || verb == "doctor" => {
                let default = self.facts.plane.kind.family.helm_release;
                let named = self.shared.build_namespace.as_deref().filter(|namespace| *namespace != default);
                let namespace = named.map(|namespace| format!(" --plane-namespace {}", shell_quoted(namespace)));
                let namespace = namespace.unwrap_or_default();
                hint(format!("{line}{}{namespace}", target.plane_flags()))
            }
            _ => Hint::Advice(format!("{line} --plane-context CONTEXT")),
        }
    }

    /// The command that migrates a plane of v0.17, with a placeholder for the folder of its record.
    pub fn migrate(&self, plane: &PlaneKey, flags: &str) -> Hint {
        let build = self.shared.build_target.as_ref().map(Target::plane_flags).unwrap_or_default();
        Hint::Advice(format!("{}{build} --out-dir DIR{flags}", self.control(&plane.migrate_command())))
    }

    /// The same, and replaces an agent of v0.17 in its cluster.
    pub fn replace_agent(&self, plane: &PlaneKey, namespace: &str) -> Hint {
        let named = Some(namespace).filter(|namespace| *namespace != plane.kind.family.helm_release);
        let named = named.map(|namespace| format!(" --plane-namespace {}", shell_quoted(namespace)));
        self.migrate(plane, &format!("{} --install", named.unwrap_or_default()))
    }

    /// The command that gives the plane and its agent a new CA, and keeps the CA's key.
    pub fn rotate(&self) -> Hint {
        let is_issued = self.pair().is_some_and(|pair| pair.cert_manager.is_some());
        // Helm can be run where its release and the chart's version are known.
        let release =
            self.agent().and_then(|agent| agent.agent.release.as_ref().zip(agent.agent.chart_version.as_ref()));
        let out_dir = || format!(" --out-dir {}", shell_quoted(&format!("{}-ca", self.facts.plane.name())));
        let to_file = match (is_issued, release) {
            // The CA's key is in the Secret that cert-manager reads.
            (true, Some(_)) => " --install".to_owned(),
            (true, None) => format!(" --to own{}", out_dir()),
            (false, _) => out_dir(),
        };
        self.with_both("certs rotate", &to_file, Hint::Fix)
    }
}
