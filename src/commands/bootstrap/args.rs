//! The flags of `choreoctl bootstrap`, and the planes, CA and folders that they mean.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};

use crate::args::{
    CaArgs, ChangeArgs, ChartArgs, ControlArgs, KeyArgs, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, SpecArgs,
    TextFormat, read_cas, read_manifests,
};
use crate::commands::manifests::check_manifest;
use crate::gateway::GatewayUrl;
use crate::manifest::{Input, objects};
use crate::plan::{AgentCertificate, Bootstrap, CaIn, Given};
use crate::plane::{CA_KEY, Plane, PlaneKey, Release, Scope, SecretKeyRef};
use crate::term::Term;
use crate::text::visible;

/// Longest name of a plane whose Secrets can be called after it.
const LONGEST: usize = 240;

/// Register a plane: certificates, Secrets, the plane itself and Helm values
///
/// Reads both clusters, issues certificates or uses the existing ones, creates the agent's objects in the plane's cluster
/// and the plane in the control plane, and asks the gateway whether it authorizes the agent. A second run changes nothing
/// that is correct, and completes an interrupted run. If no plane's cluster is known, neither by --plane-context nor by the
/// configuration file (--no-config ignores it), it writes manifests, keys and Helm values to --out-dir, and a README.md
/// with the commands that apply them and create the other objects.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl bootstrap shared-builder --plane-context build --gateway-url wss://gateway.example.com:8443/ws --out-dir shared
  choreoctl bootstrap shared-builder --out-dir shared
  choreoctl bootstrap cdp default --plane-context data --install
  choreoctl bootstrap cop default --observer-url https://observer.example.com --plane-context observability
  choreoctl bootstrap -f planes.yaml --plane-context build --yes")]
pub struct Args {
    #[command(flatten)]
    pub plane: PlaneArgs,

    #[command(flatten)]
    pub spec: SpecArgs,

    #[command(flatten)]
    pub ca: CaArgs,

    /// Manifest of one or more planes, whose clientCA is empty: bootstrap sets it (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with = "words")]
    pub files: Vec<Input>,

    /// URL at which agents connect to the gateway [default: that in the configuration file; without one the gateway is not
    /// asked, and the Helm values lack serverUrl]
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent)]
    pub gateway_url: Option<GatewayUrl>,

    /// Who issues the agent's certificate [default: existing with --client-ca-file or --client-ca-secret, else cert-manager
    /// if it is in the plane's cluster, else own]
    #[arg(long, value_name = "WAY")]
    pub agent_certificate: Option<AgentCertificate>,

    /// Where the CA is stored
    #[arg(long, value_name = "WHERE", default_value = "value")]
    pub client_ca_in: CaIn,

    /// Folder for the Helm values, the CA and its private key; an existing ca.crt and ca.key in it are used (without a
    /// plane's cluster: in its subfolder private). Without a folder, the CA's private key is kept only if cert-manager uses
    /// it, and otherwise a new certificate needs a new CA
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out_dir: Option<PathBuf>,

    #[command(flatten)]
    pub key: KeyArgs,

    /// Overwrite existing objects that differ, without asking
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub chart: ChartArgs,

    /// Wait until the agent is connected and authorized; --install waits, too
    #[arg(long)]
    pub wait: bool,

    /// Save the plane's cluster in the configuration file, without asking
    #[arg(long)]
    pub remember: bool,

    #[command(flatten)]
    pub control: ControlArgs,

    #[command(flatten)]
    pub output: OutputArgs<TextFormat>,

    #[command(flatten)]
    pub change: ChangeArgs,

    #[command(flatten)]
    pub build: PlaneClusterArgs,
}

/// The planes that are meant, each without a CA, valid but for that.
pub fn planes(args: &Args, key: Option<&PlaneKey>, term: &Term) -> anyhow::Result<Vec<Plane>> {
    let planes = match key {
        Some(key) => vec![args.spec.plane(key)?],
        None => planes_in_files(args)?,
    };
    for plane in &planes {
        let mut plane = plane.clone();
        let name = plane.name().to_owned();
        // Any CA will do to see whether the rest is right.
        let secret = SecretKeyRef { name: "ca".into(), namespace: Some("default".into()), key: CA_KEY.into() };
        plane.spec.cluster_agent.client_ca.secret_ref = Some((plane.kind.release(), secret));
        check_manifest(&plane.manifest(), term)?;
        anyhow::ensure!(
            name.len() <= LONGEST,
            "the name {} is too long: Secrets are named after the plane",
            visible(&name)
        );
    }
    Ok(planes)
}

fn planes_in_files(args: &Args) -> anyhow::Result<Vec<Plane>> {
    anyhow::ensure!(
        args.spec == SpecArgs::default(),
        "with -f the manifests describe the planes: omit the other flags"
    );
    let manifests = read_manifests(&args.files, false)?;
    let mut planes = Vec::new();
    for object in manifests.iter().flat_map(objects) {
        let name = visible(object.name());
        anyhow::ensure!(object.is_plane(), "{name} is not a plane, and only planes can be registered");
        let mut plane: Plane = serde_json::from_value(object.node.to_json())
            .with_context(|| format!("could not read the plane {name}"))?;
        let is_twice = planes.iter().any(|other: &Plane| other.is(&plane));
        anyhow::ensure!(!is_twice, "the plane {name} is duplicated");
        let ca = &plane.spec.cluster_agent.client_ca;
        anyhow::ensure!(
            ca.value.is_none() && ca.secret_ref.is_none(),
            "the plane {name} has a CA already: choreoctl apply registers it"
        );
        plane.spec.plane_id = Some(plane.plane_id().to_owned());
        // What a server wrote is no wish.
        let metadata = std::mem::take(&mut plane.metadata);
        plane.metadata.namespace = metadata.namespace.filter(|_| plane.kind.scope == Scope::Namespaced);
        (plane.metadata.name, plane.metadata.labels, plane.metadata.annotations) =
            (metadata.name, metadata.labels, metadata.annotations);
        plane.status = None;
        plane.other.retain(|field, _| !matches!(field.as_str(), "apiVersion" | "kind"));
        planes.push(plane);
    }
    anyhow::ensure!(!planes.is_empty(), "there is no plane in the files");
    Ok(planes)
}

/// The CA that is brought along.
pub fn given(args: &Args, several: bool) -> anyhow::Result<Option<Given>> {
    let given = match &args.ca {
        CaArgs { client_ca_secret: Some(secret), .. } => Given::Secret(secret.clone()),
        CaArgs { client_ca_files, .. } if !client_ca_files.is_empty() => Given::Value(read_cas(client_ca_files)?),
        _ => return Ok(None),
    };
    anyhow::ensure!(!several, "with one CA for several planes, the agent of one could connect as the agent of another");
    anyhow::ensure!(
        matches!(args.agent_certificate, None | Some(AgentCertificate::Existing)),
        "a CA without its key can't issue certificates: omit it, or use --agent-certificate existing"
    );
    Ok(Some(given))
}

/// One namespace of a cluster has one agent, which has one plane type and one planeID: the chart's Secrets have fixed names.
pub fn refuse_one_agent_for_two(args: &Args, planes: &[Plane]) -> anyhow::Result<()> {
    let namespace = |plane: &Plane| args.build.namespace(plane.kind.family);
    for (index, plane) in planes.iter().enumerate() {
        let differs = |other: &&Plane| {
            namespace(plane) == namespace(other)
                && (plane.kind.family != other.kind.family || plane.plane_id() != other.plane_id())
        };
        if let Some(other) = planes[index + 1..].iter().find(differs) {
            let agent = |plane: &Plane| format!("{} of {}", plane.plane_id(), plane.kind.family.plane_type);
            anyhow::bail!(
                "{} has the planeID {}, and {} {}: a namespace has one agent, of one planeID; register each plane separately, with its own --plane-namespace",
                plane.key(),
                agent(plane),
                other.key(),
                agent(other)
            );
        }
    }
    Ok(())
}

/// Where a plane's files go.
pub fn folder(args: &Args, plane: &Plane, several: bool) -> Option<PathBuf> {
    let folder = args.out_dir.clone()?;
    Some(if several { folder.join(plane.key().to_string().replace('/', "-")) } else { folder })
}

/// What is to be registered for a plane, as far as the command line says it.
pub fn planned(args: &Args, plane: Plane, release: Release, given: Option<Given>, session: &Session) -> Bootstrap {
    Bootstrap {
        control_namespace: args.control.control_namespace.clone(),
        build_namespace: args.build.namespace(plane.kind.family).to_owned(),
        release,
        plane,
        certificate: args.agent_certificate,
        given,
        ca_in: args.client_ca_in,
        gateway_url: args.gateway_url.clone(),
        key_algorithm: args.key.key_algorithm,
        authority: None,
        pair: None,
        force: args.force,
        install: args.chart.install,
        values: None,
        dry_run: args.change.dry_run,
        limit: session.patience(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{files, parse, session};
    use crate::commands::tests::authority;

    const TWO: &str = "apiVersion: openchoreo.dev/v1alpha1
kind: ClusterBuildPlane
metadata: {name: a, generation: 3, labels: {k: v}}
status: {observedGeneration: 3}
---
apiVersion: openchoreo.dev/v1alpha1
kind: ClusterBuildPlane
metadata: {name: b}
spec: {planeID: x}
";

    fn read(text: &str) -> anyhow::Result<Vec<Plane>> {
        let (_folder, inputs) = files(&[("planes.yaml", text)]);
        planes(&parse(&["-f", &inputs[0].to_string()]).unwrap(), None, &session().term)
    }

    #[test]
    fn planes_of_files_are_what_is_wanted_and_not_what_a_server_wrote() {
        let planes = read(TWO).unwrap();
        assert_eq!(planes.iter().map(Plane::plane_id).collect::<Vec<_>>(), ["a", "x"]);
        assert!(planes[0].metadata.generation.is_none() && planes[0].status.is_none());
        assert_eq!(planes[0].labels().len(), 1);
        let args: Args = parse(&["-f", "x"]).unwrap();
        let error = refuse_one_agent_for_two(&args, &planes).unwrap_err().to_string();
        assert!(
            error.starts_with("a has the planeID a of buildplane, and b x of buildplane: a namespace has one agent"),
            "{error}"
        );
        refuse_one_agent_for_two(&args, &planes[..1]).unwrap();
    }

    #[test]
    fn planes_of_several_families_have_agents_in_namespaces_of_their_own() {
        let planes = read(&TWO.replace(
            "kind: ClusterBuildPlane\nmetadata: {name: b}",
            "kind: DataPlane\nmetadata: {name: b, namespace: team}",
        ));
        let planes = planes.unwrap();
        assert_eq!(planes.iter().map(|plane| plane.key().to_string()).collect::<Vec<_>>(), ["a", "team/b"]);
        refuse_one_agent_for_two(&parse(&["-f", "x"]).unwrap(), &planes).unwrap();
        let one = parse(&["-f", "x", "--plane-namespace", "one"]).unwrap();
        let error = refuse_one_agent_for_two(&one, &planes).unwrap_err().to_string();
        assert!(error.starts_with("a has the planeID a of buildplane, and team/b x of dataplane:"), "{error}");
        // One agent serves planes of both scopes.
        let both = read(&TWO.replace("planeID: x", "planeID: a").replace(
            "kind: ClusterBuildPlane\nmetadata: {name: b}",
            "kind: BuildPlane\nmetadata: {name: a, namespace: team}",
        ));
        refuse_one_agent_for_two(&one, &both.unwrap()).unwrap();
    }

    #[test]
    fn what_cannot_be_registered_is_refused() {
        for (text, why) in [
            (TWO.replace("name: b", "name: a"), "the plane a is duplicated"),
            (
                TWO.replace("kind: ClusterBuildPlane\nmetadata: {name: b}", "kind: Secret\nmetadata: {name: b}"),
                "b is not a plane, and only planes can be registered",
            ),
            (
                TWO.replace("planeID: x", "planeID: x, clusterAgent: {clientCA: {value: x}}"),
                "the plane b has a CA already: choreoctl apply registers it",
            ),
            (
                TWO.replace("name: b", &format!("name: {}", "b".repeat(241))),
                "is too long: Secrets are named after the plane",
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.ends_with(why), "{error}");
        }
        let args: Args = parse(&["-f", "x", "--plane-id", "y"]).unwrap();
        assert!(planes(&args, None, &session().term).unwrap_err().to_string().contains("omit the other flags"));
    }

    #[test]
    fn a_ca_that_is_given_is_for_one_plane_and_issues_nothing() {
        let (_, ca, _) = authority();
        let (_folder, inputs) = files(&[("ca.crt", &ca)]);
        let file = inputs[0].to_string();
        let of = |words: &[&str], several| given(&parse([&["a"], words].concat().as_slice()).unwrap(), several);
        assert!(of(&[], true).unwrap().is_none());
        assert!(matches!(of(&["--client-ca-file", &file], false), Ok(Some(Given::Value(_)))));
        assert!(matches!(of(&["--client-ca-secret", "n/s"], false), Ok(Some(Given::Secret(_)))));
        assert!(of(&["--client-ca-secret", "n/s"], true).is_err());
        assert!(of(&["--client-ca-secret", "n/s", "--agent-certificate", "own"], false).is_err());
    }

    #[test]
    fn each_of_several_planes_has_a_folder_of_its_own() {
        let planes = read(TWO).unwrap();
        let args: Args = parse(&["a", "--out-dir", "d"]).unwrap();
        assert_eq!(folder(&args, &planes[1], true), Some("d/b".into()));
        assert_eq!(folder(&args, &planes[1], false), Some("d".into()));
        assert_eq!(folder(&parse(&["a"]).unwrap(), &planes[1], false), None);
        let mut namespaced = planes[1].clone();
        namespaced.metadata.namespace = Some("n".into());
        assert_eq!(folder(&args, &namespaced, true), Some("d/n-b".into()));
    }
}
