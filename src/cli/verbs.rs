//! Verbs that other tools have, and the command that does the same here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::text::program;

/// The words, and what to use instead.
type Verb = (&'static [&'static str], &'static str);

/// Words in the place of a command.
const VERBS: [Verb; 29] = [
    (&["state", "health"], "`choreoctl status` shows which planes need attention, `choreoctl get` the state of all"),
    (&["log", "tail"], "`choreoctl logs NAME --plane-context CONTEXT` shows the agent's log"),
    (
        &["edit"],
        "`kubectl edit clusterbuildplane NAME` edits a plane, `choreoctl apply -f FILE` applies an edited file",
    ),
    (
        &["update", "patch", "replace", "set", "sync"],
        "`choreoctl apply -f FILE` changes a plane, `choreoctl diff -f FILE` shows the changes first",
    ),
    (&["label"], "`kubectl label clusterbuildplane NAME KEY=VALUE` labels a plane"),
    (&["annotate"], "`kubectl annotate clusterbuildplane NAME KEY=VALUE` annotates a plane"),
    (
        &["event", "events", "history", "changes"],
        "`choreoctl describe NAME` shows the events of a plane, `choreoctl timeline NAME` what changed around it",
    ),
    (&["top"], "`kubectl top pods --namespace openchoreo-build-plane --context CONTEXT` shows what the agent uses"),
    (&["check", "test"], "`choreoctl doctor NAME` checks a plane, `choreoctl validate FILE` checks a manifest"),
    (
        &["diagnose", "debug", "troubleshoot", "why", "analyze", "preflight"],
        "`choreoctl doctor NAME` finds out why the agent is not connected",
    ),
    (&["lint", "vet"], "`choreoctl validate FILE` checks manifests"),
    (
        &["explain"],
        "`choreoctl validate --explain RULE` explains a rule, `choreoctl doctor --explain CHECK` a check, \
         `kubectl explain clusterbuildplane.spec` a field",
    ),
    (&["ls", "ps", "planes"], "`choreoctl get` lists planes"),
    (&["show", "inspect", "info"], "`choreoctl describe NAME` shows a plane, `choreoctl certs inspect` certificates"),
    (
        &["rm", "remove", "del", "destroy"],
        "`choreoctl delete NAME` deletes a plane, `choreoctl unregister NAME` also what was registered for it",
    ),
    (
        &["new", "add"],
        "`choreoctl create NAME` creates a plane, `choreoctl bootstrap NAME` registers a plane with all that it needs",
    ),
    (
        &["register", "init", "setup", "connect", "join", "onboard"],
        "`choreoctl bootstrap NAME` registers a plane: certificates, Secrets, plane and Helm values",
    ),
    (&["install", "deploy"], "`choreoctl bootstrap NAME --install` registers a plane and installs the agent's chart"),
    (&["uninstall"], "`choreoctl unregister NAME --helm` removes a plane, its agent and what was registered for it"),
    (&["upgrade"], "`helm upgrade` upgrades the agent's chart; `choreoctl version` shows the versions in use"),
    (&["rollout", "reload", "reboot"], "`choreoctl restart NAME --plane-context CONTEXT` restarts the agent"),
    (&["rotate", "rollover"], "`choreoctl certs rotate NAME` replaces the CA of a plane"),
    (&["renew"], "`choreoctl certs renew NAME` replaces the agent's certificate under the same CA"),
    (&["verify", "trust"], "`choreoctl certs verify --cert SOURCE` says whether planes authorize a certificate"),
    (
        &["cert", "certificate", "certificates", "ca", "keys", "pki"],
        "`choreoctl certs` creates, shows, renews and rotates certificates",
    ),
    (&["expiry", "expire", "predict"], "`choreoctl forecast` predicts when planes lose their connection"),
    (
        &["export", "backup", "collect"],
        "`choreoctl get -o yaml` prints planes, `choreoctl dump NAME -o FILE` saves what `doctor` reads",
    ),
    (&["follow", "monitor"], "`choreoctl watch` shows planes as they change"),
    (
        &["login", "auth", "context", "contexts", "use-context"],
        "choreoctl uses kubectl's kubeconfig: `kubectl config get-contexts` lists contexts, --context chooses one",
    ),
];

/// Words in the place of a command of `certs`.
const CERTS_VERBS: [Verb; 3] = [
    (&["list", "ls", "get", "show", "describe", "view", "expiry"], "`choreoctl certs inspect` shows certificates"),
    (
        &["create", "new", "generate", "issue", "make"],
        "`choreoctl certs ca` creates a CA, `choreoctl certs client` an agent's certificate",
    ),
    (&["check", "validate"], "`choreoctl certs verify` says whether planes authorize a certificate"),
];

/// Returns what to use instead of a verb of another tool; `before` are the words of the command line before it.
fn instead(before: &[String], verb: &str) -> Option<String> {
    let verbs = if before.iter().any(|word| word == "certs") { &CERTS_VERBS[..] } else { &VERBS[..] };
    let (_, tip) = verbs.iter().find(|(words, _)| words.contains(&verb))?;
    Some(program(tip).into_owned())
}

/// Replaces the similar command that an error proposes where the verb is known from other tools.
pub fn with_tip(mut error: clap::Error, line: &[String]) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let before = line.split(|word| word == verb).next().unwrap_or_default();
    if let Some(tip) = instead(before, verb) {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    /// The commands of choreoctl that a tip names, as lists of words.
    fn named(tip: &str) -> Vec<Vec<&str>> {
        let quoted = tip.split('`').skip(1).step_by(2);
        quoted.filter_map(|command| command.strip_prefix("choreoctl ")).map(|line| line.split(' ').collect()).collect()
    }

    #[test]
    fn every_tip_names_commands_that_exist() {
        let root = Cli::command();
        for (words, tip) in VERBS.iter().chain(&CERTS_VERBS) {
            for line in named(tip) {
                let mut command = &root;
                for word in line.iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())) {
                    command = command.find_subcommand(word).unwrap_or_else(|| panic!("{words:?}: no {word}"));
                }
                for flag in line.iter().filter_map(|word| word.strip_prefix("--")) {
                    let known = command.get_arguments().chain(root.get_arguments());
                    assert!(known.filter_map(|arg| arg.get_long()).any(|long| long == flag), "{words:?}: no --{flag}");
                }
            }
        }
    }

    #[test]
    fn no_verb_is_a_command_or_is_twice() {
        for (verbs, command) in
            [(&VERBS[..], Cli::command()), (&CERTS_VERBS, Cli::command().find_subcommand("certs").unwrap().clone())]
        {
            let words: Vec<_> = verbs.iter().flat_map(|(words, _)| words.iter()).collect();
            for (at, word) in words.iter().enumerate() {
                assert!(command.find_subcommand(word).is_none() && !words[..at].contains(word), "{word}");
            }
        }
    }
}
