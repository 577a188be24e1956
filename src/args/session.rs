//! Flags that every command takes, and what they lead to: the terminal and the way to the cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use clap_complete::ArgValueCandidates;

use crate::cluster::{self, Cluster};
use crate::complete;
use crate::config::{self, Config};
use crate::plane::Span;
use crate::term::{self, Term};

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// Kubeconfig file of the control plane [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Global options")]
    kubeconfig: Option<PathBuf>,

    /// Context of the control plane's cluster in the kubeconfig
    #[arg(long, alias = "control-context", global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::contexts), help_heading = "Global options")]
    context: Option<String>,

    /// Control plane's cluster in the kubeconfig, instead of the context's
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::clusters), help_heading = "Global options")]
    cluster: Option<String>,

    /// User in the kubeconfig, instead of the context's
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::users), help_heading = "Global options")]
    user: Option<String>,

    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Global options")]
    impersonate: Option<String>,

    /// Group to impersonate (can be repeated)
    #[arg(long = "as-group", global = true, value_name = "GROUP", help_heading = "Global options")]
    impersonate_groups: Vec<String>,

    /// Timeout of each request except watches, and of each list with all its pages; 0 for no limit
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", help_heading = "Global options")]
    request_timeout: Span,

    /// Ignore the configuration file
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_config: bool,

    #[command(flatten)]
    term: term::Options,
}

impl GlobalArgs {
    pub fn term(&self) -> Term {
        Term::new(self.term)
    }

    pub fn cluster_options(&self) -> cluster::Options {
        cluster::Options {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_groups.clone(),
            request_timeout: (self.request_timeout.seconds() > 0).then(|| self.request_timeout.duration()),
        }
    }
}

/// What every command gets: the terminal, and the way to the cluster.
#[derive(Clone, Debug)]
pub struct Session {
    pub term: Term,
    pub options: cluster::Options,
    /// Whether the configuration file is ignored.
    pub no_config: bool,
}

/// How long a TLS server may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    /// How long a server that is no API server may take.
    pub fn patience(&self) -> Duration {
        self.options.request_timeout.map_or(PATIENCE, |limit| limit.min(PATIENCE))
    }

    /// Returns what the configuration file says; nothing where it is to be ignored.
    pub fn config(&self) -> anyhow::Result<Config> {
        if self.no_config {
            return Ok(Config::default());
        }
        match config::path() {
            Ok(path) => Config::read(&path),
            Err(_) => Ok(Config::default()),
        }
    }

    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        Ok(Cluster::connect(self.options.clone(), &self.term).await?)
    }

    /// Connects for a command that writes, and says to what.
    pub async fn connect_to_write(&self) -> anyhow::Result<Cluster> {
        let cluster = self.connect().await?;
        self.term.note(&format!("in {}", cluster.target().title()));
        Ok(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};

    #[test]
    fn a_request_may_take_half_a_minute_or_as_long_as_it_likes() {
        let limit = |words: &[&str]| parse::<GlobalArgs>(words).unwrap().cluster_options().request_timeout;
        assert_eq!(limit(&[]), Some(Duration::from_secs(30)));
        assert_eq!(limit(&["--request-timeout", "0"]), None);
        assert_eq!(limit(&["--request-timeout", "2s"]), Some(Duration::from_secs(2)));
    }

    #[test]
    fn other_servers_have_at_most_five_seconds() {
        let mut session = session();
        for (limit, patience) in [(None, 5), (Some(2), 2), (Some(60), 5)] {
            session.options.request_timeout = limit.map(Duration::from_secs);
            assert_eq!(session.patience(), Duration::from_secs(patience));
        }
    }

    #[test]
    fn flags_of_the_cluster_and_the_terminal_are_those_of_kubectl() {
        let args: GlobalArgs =
            parse(&["--control-context", "c", "--as", "a", "--as-group", "g", "--as-group", "h", "-q"]).unwrap();
        let options = args.cluster_options();
        assert_eq!((options.context.as_deref(), options.impersonate.as_deref()), (Some("c"), Some("a")));
        assert_eq!(options.impersonate_groups, ["g", "h"]);
        assert!(args.term().is_quiet() && !args.term().is_verbose());
    }
}
