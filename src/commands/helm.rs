//! Helm's command line for the agent's chart: printed for people, or run.

use anyhow::Context as _;

use crate::cluster::{Agent, Target};
use crate::plane::{Family, Span};
use crate::term::Term;
use crate::text::shell_quoted;

pub const VALUES: &str = "values.yaml";

/// A `helm upgrade` of an agent's release.
#[derive(Clone, Debug)]
pub struct Helm {
    words: Vec<String>,
}

impl Helm {
    /// One that keeps the values of the release that installed an agent, or installs a first one.
    pub fn upgrade(family: &Family, release: Option<&str>, chart: &str, version: &str, namespace: &str) -> Self {
        let mut words = ["upgrade", "--install", release.unwrap_or(family.helm_release)].map(str::to_owned).to_vec();
        words.extend(release.map(|_| "--reuse-values".to_owned()));
        words.extend([chart.to_owned(), "--version".into(), version.to_owned()]);
        words.extend(["--namespace".into(), namespace.to_owned()]);
        Self { words }
    }

    /// One that puts another chart in the place of a release's: with the values that it was given, and that chart's defaults.
    pub fn replace(release: &str, chart: &str, version: &str, namespace: &str) -> Self {
        let words = ["upgrade", "--install", release, "--reset-then-reuse-values", chart, "--version", version];
        Self { words: words.into_iter().chain(["--namespace", namespace]).map(str::to_owned).collect() }
    }

    /// One that uninstalls a release, and waits until what it had is gone.
    pub fn uninstall(release: &str, namespace: &str, timeout: Span) -> Self {
        let words = ["uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait"];
        // Helm knows no endless wait.
        let limit = if timeout.seconds() > 0 { timeout.seconds() } else { 365 * 86_400 };
        Self { words: words.into_iter().map(str::to_owned).chain([format!("--timeout={limit}s")]).collect() }
    }

    /// One of the release of an agent; none where the agent's labels do not name it and its chart's version.
    pub fn of_agent(agent: &Agent, family: &Family, chart: &str, version: Option<&str>) -> Option<Self> {
        let version = version.or(agent.chart_version.as_deref())?;
        let release = agent.release.as_deref()?;
        Some(Self::upgrade(family, Some(release), chart, version, &agent.name.namespace))
    }

    pub fn with(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.words.extend(words);
        self
    }

    /// In the cluster of a target, by the kubeconfig that was named.
    pub fn in_cluster(self, target: &Target) -> Self {
        let kubeconfig = target.named_kubeconfig();
        let context = target.context.iter().flat_map(|context| ["--kube-context".to_owned(), context.clone()]);
        let kubeconfig = kubeconfig.map(|path| format!("--kubeconfig={}", path.to_string_lossy()));
        self.with(context.chain(kubeconfig))
    }

    /// As a shell takes it.
    pub fn line(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| shell_quoted(word)).collect();
        format!("helm {}", words.join(" "))
    }

    pub fn run(&self) -> anyhow::Result<()> {
        let status = std::process::Command::new("helm").args(&self.words).stdout(Term::for_others()).status();
        let status = status.context("could not run helm: is it on the PATH?")?;
        anyhow::ensure!(
            status.success(),
            "helm failed with {status}; run this command again to continue, or first: {}",
            self.line()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::DEFAULT_KIND;

    #[test]
    fn a_release_keeps_its_values_and_words_are_quoted() {
        let mut target = Target::default();
        target.context = Some("a b".into());
        target.name_kubeconfig("k");
        let line = |release| {
            let helm = Helm::upgrade(DEFAULT_KIND.family, release, "chart", "1.2.3", "ns");
            helm.with(["--set".into(), "a=b c".into()]).in_cluster(&target).line()
        };
        let rest = "chart --version 1.2.3 --namespace ns --set 'a=b c' --kube-context 'a b' --kubeconfig=k";
        assert_eq!(line(Some("r")), format!("helm upgrade --install r --reuse-values {rest}"));
        let line_of = |timeout| Helm::uninstall("a b", "ns", Span::from_seconds(timeout)).line();
        let uninstall = "helm uninstall 'a b' --namespace ns --ignore-not-found --wait --timeout=";
        assert_eq!((line_of(60), line_of(0)), (format!("{uninstall}60s"), format!("{uninstall}31536000s")));
        let release = DEFAULT_KIND.family.helm_release;
        assert_eq!(line(None), format!("helm upgrade --install {release} {rest}"));
    }
}
