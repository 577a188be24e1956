//! The commands that hints hold, for the clusters that were looked at.

use super::outcome::Hint;
use crate::doctor::case::Case;
use crate::plane::State;
use crate::text::shell_quoted;

impl Case {
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

    pub fn build_command(&self, command: &str) -> String {
        self.shared.build_target.as_ref().map_or_else(|| command.to_owned(), |target| target.command(command))
    }

    /// A command for the plane that needs both clusters; advice where the agent's is a placeholder.
    pub fn with_both(&self, verb: &str, flags: &str, hint: fn(String) -> Hint) -> Hint {
        let name = shell_quoted(self.facts.plane.name());
        let line = self.control(&format!("choreoctl {verb} {name}{flags}"));
        match &self.shared.build_target {
            // Without an agent there is nothing to change.
            Some(target) if matches!(self.build, Some(Ok(_))) || verb == "doctor" => {
                let default = format!(" --build-namespace {}", shell_quoted(&self.shared.build_namespace));
                let namespace = if self.shared.build_namespace == self.facts.plane.kind.family.helm_release {
                    ""
                } else {
                    &default
                };
                hint(format!("{line}{}{namespace}", target.build_flags()))
            }
            _ => Hint::Advice(format!("{line} --build-context CONTEXT")),
        }
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
