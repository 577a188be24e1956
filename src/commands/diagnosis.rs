//! What a diagnosis looks at: planes, the clusters around them and the gateway, or files.

use std::collections::{BTreeSet, HashMap};

use clap::Args;

use crate::args::{ChoiceArgs, ControlArgs, FromFiles, Group, Lookup, PlaneCluster, PlaneClusterArgs, Session};
use crate::cluster::Cluster;
use crate::doctor::{self, AgentsIn, Gateway, GatewayReach, Gathered, Reach};
use crate::estate::{Cause, Extent, Files, Unavailable, marks};
use crate::gateway::GatewayUrl;
use crate::pki::Remaining;
use crate::plane::{DEFAULT_KIND, Family, Kind, Plane, Side, Snapshot};
use crate::term::{Exit, Term};

/// The clusters of a diagnosis.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    #[command(flatten)]
    control: ControlArgs,

    #[command(flatten)]
    pub build: PlaneClusterArgs,
}

impl ClusterArgs {
    /// Where a diagnosis of named planes may look, with nothing that soon expires, and without the gateway.
    pub fn reach<'r>(
        &'r self,
        control: &'r Cluster,
        kinds: Vec<&'static Kind>,
        build: Option<&'r PlaneCluster>,
    ) -> Reach<'r, Cluster> {
        Reach {
            control,
            control_namespace: &self.control.control_namespace,
            kinds,
            build: build.map(|build| (&build.cluster, build.agents_in())),
            named: true,
            soon: Remaining::Share(0.0),
            gateway: None,
            bound: None,
        }
    }
}

/// Planes that are diagnosed.
#[derive(Args, Debug)]
pub struct DiagnosisArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,

    /// URL of the gateway [default: that in the configuration file, else that in the agent's Deployment]
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent, conflicts_with = "files")]
    pub gateway_url: Option<GatewayUrl>,

    #[command(flatten)]
    clusters: ClusterArgs,
}

impl DiagnosisArgs {
    pub fn build(&self) -> &PlaneClusterArgs {
        &self.clusters.build
    }

    /// Where their diagnosis may look, with nothing that soon expires.
    pub fn reach<'r>(&'r self, lookup: &'r Lookup, question: Gateway, session: &Session) -> Reach<'r, Cluster> {
        let gateway =
            GatewayReach { url: self.gateway_url.as_ref(), identity: None, limit: session.patience(), question };
        let named = !lookup.names().is_empty();
        let reach = self.clusters.reach(&lookup.cluster, lookup.kinds(), None);
        Reach { named, gateway: Some(gateway), ..reach }
    }

    /// Gathers what there is to diagnose of planes, each with the agents of its cluster: that which is named, else that of the
    /// configuration.
    pub async fn gather(
        &self,
        reach: &Reach<'_, Cluster>,
        planes: Vec<Plane>,
        extent: &Extent,
        fleet: &[Group],
    ) -> Gathered {
        let order: HashMap<_, _> = planes.iter().enumerate().map(|(at, plane)| (plane.key(), at)).collect();
        let of_plane: HashMap<_, _> =
            fleet.iter().enumerate().flat_map(|(at, group)| group.planes.iter().map(move |key| (key, at))).collect();
        let mut groups: Vec<_> = fleet
            .iter()
            .map(|group| {
                let build = group.cluster.as_ref().map(|cluster| match cluster {
                    Ok(build) => Ok((&build.cluster, build.agents_in())),
                    Err(error) => Err(Unavailable::new(Cause::Unknown, format!("{error:#}"))),
                });
                doctor::Group { build, gateway_url: group.gateway_url.clone(), planes: Vec::new() }
            })
            .collect();
        for plane in planes {
            let at = of_plane.get(&plane.key()).copied().unwrap_or_default();
            groups[at].planes.push(plane);
        }
        let mut gathered = doctor::gather_groups(reach, groups, extent).await;
        gathered.cases.sort_by_key(|case| order.get(&case.facts.plane.key()).copied());
        gathered
    }

    /// Gathers from files what there is to diagnose; with an error for each plane that is missing, and with whether they
    /// are whole: in a dump that is cut off nothing is known for sure.
    pub async fn read_files(
        &self,
        files: &FromFiles,
        soon: Remaining,
        term: &Term,
    ) -> anyhow::Result<(Gathered, Vec<anyhow::Error>, Exit)> {
        let (names, missing) = self.choice.in_files(&files.snapshot.planes)?;
        let snapshot = &files.snapshot;
        let (control, build) = (Files::control(snapshot), Files::build(snapshot));
        let namespace = marks::namespace(snapshot, Side::Control);
        let planes: Vec<_> = snapshot.planes.iter().filter(|plane| names.contains(&plane.key())).cloned().collect();
        let reach = Reach {
            control: &control,
            control_namespace: namespace.unwrap_or(&self.clusters.control.control_namespace),
            kinds: planes.iter().map(|plane| plane.kind).collect::<BTreeSet<_>>().into_iter().collect(),
            build: build.as_ref().map(|build| (build, agents_in(snapshot))),
            named: !self.choice.names()?.is_empty(),
            soon,
            gateway: None,
            bound: None,
        };
        let gathered = doctor::gather(&reach, planes, &Extent::default()).await;
        if !marks::is_cut_off(snapshot) {
            return Ok((gathered, missing, Exit::Done));
        }
        term.warn("the dump is truncated: objects that are missing in it may exist in the cluster");
        Ok((gathered, missing, Exit::Failed))
    }

    /// Refuses files together with a cluster.
    pub fn refuse_clusters(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.build().is_named(), "with -f no cluster is read: omit --plane-context");
        Ok(())
    }
}

/// Where agents are in files: in the namespace of a dump, or wherever they are.
pub fn agents_in(snapshot: &Snapshot) -> AgentsIn<'_> {
    match marks::namespaces(snapshot, Side::Build).as_slice() {
        [] => AgentsIn::All,
        [one] => AgentsIn::Named(one),
        all => {
            let family = DEFAULT_KIND.family;
            let has = |family: &Family| all.contains(&family.helm_release);
            AgentsIn::Default(Some(family).filter(|family| has(family) && !family.successor.is_some_and(has)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{PLANE, files, parse, session};
    use crate::args::{AtArgs, FileArgs};
    use crate::cluster::Fake;
    use serde_json::json;

    /// The flags of a verb that reads files, too.
    #[derive(Args, Debug)]
    struct Both {
        #[command(flatten)]
        diagnosis: DiagnosisArgs,

        #[command(flatten)]
        files: FileArgs,
    }

    #[tokio::test]
    async fn a_diagnosis_looks_where_its_flags_say() {
        let both: Both = parse(&["a", "--gateway-url", "wss://g:1/ws", "--control-namespace", "c"]).unwrap();
        let (cluster, session) = (Fake::default().cluster(), session());
        let lookup = async |both: &Both| both.diagnosis.choice.look(cluster.clone()).await.unwrap();
        let named = lookup(&both).await;
        let agents_in =
            |namespace| PlaneCluster::new(cluster.clone(), namespace).agents_in() == AgentsIn::Default(None);
        assert!(agents_in(None) && !agents_in(Some("n")));
        let reach = both.diagnosis.reach(&named, Gateway::Word, &session);
        assert_eq!((reach.control_namespace, reach.named, reach.build.is_none()), ("c", true, true));
        let gateway = reach.gateway.unwrap();
        assert!(gateway.url.is_some() && gateway.identity.is_none());
        let all: Both = parse(&[]).unwrap();
        assert!(!all.diagnosis.reach(&lookup(&all).await, Gateway::Word, &session).named);
    }

    #[tokio::test]
    async fn a_cluster_that_cannot_be_used_hides_only_its_own_agents() {
        let plane = |name: &str| -> Plane {
            let spec = json!({"planeID": name, "clusterAgent": {"clientCA": {"value": "x"}}});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let labels = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent"});
        let container = json!({"name": "agent", "args": ["--plane-id=b"]});
        let agent = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "n", "name": "agent", "labels": labels},
            "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}},
        });
        let (control, build) = (Fake::default(), Fake::of([agent]));
        let both: Both = parse(&[]).unwrap();
        let cluster = control.cluster();
        let lookup = both.diagnosis.choice.look(cluster.clone()).await.unwrap();
        let reach = both.diagnosis.reach(&lookup, Gateway::Word, &session());
        let group = |cluster, name: &str| Group { cluster, planes: vec![plane(name).key()], gateway_url: None };
        let fleet = [
            group(Some(Ok(PlaneCluster::new(build.cluster(), Some("n")))), "b"),
            group(Some(Err(anyhow::anyhow!("it is another cluster"))), "a"),
            group(None, "c"),
        ];
        let planes = ["a", "b", "c"].map(plane).to_vec();
        let gathered = both.diagnosis.gather(&reach, planes, &Extent::default(), &fleet).await;
        let reported = |case: &doctor::Case| match &case.build {
            None => "unknown".to_owned(),
            Some(Ok(build)) => build.agent.agent.name.name.clone(),
            Some(Err(why)) => why.message.clone(),
        };
        let reported: Vec<_> = gathered.cases.iter().map(reported).collect();
        assert_eq!(reported, ["it is another cluster", "agent", "unknown"]);
        // What is served explains each CRD that is missing here.
        let asked: Vec<_> = control.asked().into_iter().filter(|path| !path.ends_with("/v1alpha1")).collect();
        let once: BTreeSet<_> = asked.iter().collect();
        assert_eq!(once.len(), asked.len(), "nothing is asked twice: {asked:#?}");
    }

    #[tokio::test]
    async fn files_stand_for_clusters_and_a_missing_plane_is_an_error() {
        let (_folder, inputs) = files(&[("a.yaml", PLANE)]);
        let both: Both = parse(&["a", "b", "-f", &inputs[0].to_string()]).unwrap();
        let term = session().term;
        let read = both.files.read(AtArgs::default(), &term).unwrap();
        let (gathered, missing, exit) = both.diagnosis.read_files(&read, Remaining::Share(0.0), &term).await.unwrap();
        assert_eq!((gathered.cases.len(), missing.len(), exit), (1, 1, Exit::Done));
        let both: Both = parse(&["-f", "x", "--plane-context", "b"]).unwrap();
        assert!(both.diagnosis.refuse_clusters().is_err());
        assert!(parse::<Both>(&["-f", "x", "--gateway-url", "wss://g"]).is_err());
    }
}
