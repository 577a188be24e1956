//! What a diagnosis looks at: planes, the clusters around them and the gateway, or files.

use clap::Args;

use crate::args::{BuildArgs, BuildCluster, ChoiceArgs, ControlArgs, FromFiles, Session};
use crate::cluster::Cluster;
use crate::doctor::{self, Gateway, Gathered, Reach};
use crate::gateway::GatewayUrl;
use crate::pki::Remaining;
use crate::term::{Exit, Term};

/// The clusters of a diagnosis.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    #[command(flatten)]
    control: ControlArgs,

    #[command(flatten)]
    pub build: BuildArgs,
}

impl ClusterArgs {
    /// Where a diagnosis of named planes may look, with nothing that soon expires.
    pub fn reach<'r>(&'r self, control: &'r Cluster, build: Option<&'r BuildCluster>, session: &Session) -> Reach<'r> {
        Reach {
            control,
            control_namespace: &self.control.control_namespace,
            build: build.map(|build| (&build.cluster, build.namespace.as_str())),
            gateway_url: None,
            identity: None,
            limit: session.patience(),
            soon: Remaining::Share(0.0),
            named: true,
            gateway: Gateway::Word,
        }
    }
}

/// Planes that are diagnosed.
#[derive(Args, Debug)]
pub struct DiagnosisArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,

    /// Where the gateway is; where the agent's arguments say, unless given
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent, conflicts_with = "files")]
    pub gateway_url: Option<GatewayUrl>,

    #[command(flatten)]
    clusters: ClusterArgs,
}

impl DiagnosisArgs {
    pub fn build(&self) -> &BuildArgs {
        &self.clusters.build
    }

    /// Where their diagnosis may look, with nothing that soon expires.
    pub fn reach<'r>(&'r self, control: &'r Cluster, build: Option<&'r BuildCluster>, session: &Session) -> Reach<'r> {
        Reach {
            gateway_url: self.gateway_url.as_ref(),
            named: !self.choice.names.is_empty(),
            ..self.clusters.reach(control, build, session)
        }
    }

    /// Gathers from files what there is to diagnose; with an error for each plane that is missing, and with whether they
    /// are whole: in a dump that is cut off nothing is known for sure.
    pub async fn of_files(
        &self,
        files: &FromFiles,
        soon: Remaining,
        term: &Term,
    ) -> (Gathered, Vec<anyhow::Error>, Exit) {
        let (names, missing) = self.choice.in_files(&files.snapshot.planes);
        let (namespace, named) = (&self.clusters.control.control_namespace, !self.choice.names.is_empty());
        let gathered = doctor::gather_of_files(&files.snapshot, &names, namespace, soon, named).await;
        if !doctor::is_cut_off(&files.snapshot) {
            return (gathered, missing, Exit::Done);
        }
        term.warn("the dump is cut off: what is missing in it may be there");
        (gathered, missing, Exit::Failed)
    }

    /// Refuses files together with a cluster.
    pub fn refuse_clusters(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.build().is_named(), "with -f no cluster is asked: leave --build-context out");
        Ok(())
    }
}
