//! `choreoctl create`: make a plane from flags, or from answers.

use std::collections::BTreeSet;

use clap::{Args as ClapArgs, ValueHint};
use serde::Deserialize as _;
use serde_json::Value;

use super::apply::{Refusal, check_manifest};
use super::{object_name, print_object};
use super::{sharing, wait};
use crate::args::{Session, WriteArgs};
use crate::cluster::{Cluster, Error};
use crate::manifest::{self, Input};
use crate::pki::{self, BundleError};
use crate::plane::{
    CaSecret, DESCRIPTION, DISPLAY_NAME, DryRun, OBSERVABILITY_KIND, ObservabilityPlaneRef, Plane, PlaneName,
    SecretKeyRef, SecretStoreRef, is_dns_label, is_label_value, is_qualified_name,
};
use crate::term::{Exit, PromptError, Term};
use crate::text::visible;

/// Create a build plane
///
/// Prompts for what is missing when there is a terminal, and validates the plane before it is sent. An existing plane is
/// never changed: it is an error, or with --if-not-exists a success.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl create shared-builder --client-ca-secret openchoreo-system/buildplane-agent-ca
  choreoctl create shared-builder --client-ca-file certs/ca.crt --wait
  choreoctl create shared-builder --client-ca-file certs/ca.crt --if-not-exists
  choreoctl create shared-builder --client-ca-file certs/ca.crt --dry-run client -o yaml | choreoctl apply -f -")]
pub struct Args {
    /// Name of the plane
    name: Option<PlaneName>,

    #[command(flatten)]
    ca: CaArgs,

    #[command(flatten)]
    spec: SpecArgs,

    /// Succeed if the plane exists, without a change
    #[arg(long)]
    if_not_exists: bool,

    #[command(flatten)]
    write: WriteArgs,
}

/// Where the CA of a plane comes from.
#[derive(ClapArgs, Clone, Debug)]
pub struct CaArgs {
    /// File with the CA's certificates, in PEM, DER or base64; - for standard input (can be repeated)
    #[arg(long = "client-ca-file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub client_ca_files: Vec<Input>,

    /// Secret of the control plane with the CA's certificates; the key is ca.crt, unless given
    #[arg(long, value_name = "NAMESPACE/NAME[:KEY]", conflicts_with = "client_ca_files")]
    pub client_ca_secret: Option<CaSecret>,
}

/// What a plane says beside its CA.
#[derive(ClapArgs, Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecArgs {
    /// Logical plane that the agent belongs to; the name, unless given
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    plane_id: Option<String>,

    /// ClusterSecretStore in the build cluster
    #[arg(long, value_name = "NAME")]
    secret_store: Option<String>,

    /// ClusterObservabilityPlane that takes the builds' logs
    #[arg(long, value_name = "NAME", value_parser = plane_id)]
    observability_plane: Option<String>,

    /// Name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,

    /// Description for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Labels (can be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,

    /// Annotation (can be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
}

impl SpecArgs {
    /// The plane without a CA. planeID is always written.
    pub fn plane(&self, name: &str) -> Plane {
        let mut plane = Plane::default();
        plane.metadata.name = Some(name.to_owned());
        plane.metadata.labels = some(self.labels.iter().cloned().collect());
        let words = [(DISPLAY_NAME, &self.display_name), (DESCRIPTION, &self.description)];
        let words = words.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text.clone()?)));
        plane.metadata.annotations = some(self.annotations.iter().cloned().chain(words).collect());
        plane.spec.plane_id = Some(self.plane_id.clone().unwrap_or_else(|| name.to_owned()));
        plane.spec.secret_store_ref = self.secret_store.clone().map(|name| SecretStoreRef { name });
        plane.spec.observability_plane_ref = self
            .observability_plane
            .clone()
            .map(|name| ObservabilityPlaneRef::Object { kind: Some(OBSERVABILITY_KIND.into()), name });
        plane
    }
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let Session { term, .. } = session;
    let args = complete(args, term)?;
    let manifest = manifest(&args)?;
    check_manifest(&manifest, term)?;
    let name = args.name.as_ref().map(PlaneName::as_str).unwrap_or_default();
    if args.write.dry_run == DryRun::Client {
        report(term, name, &manifest, "created", &args)?;
        return Ok(Exit::Done);
    }
    let cluster = session.connect_to_write().await?;
    match cluster.create(&manifest, args.write.dry_run).await {
        Err(Error::Exists { .. }) if args.if_not_exists => leave(&cluster, name, &manifest, &args, term).await?,
        created => {
            let mut created = created?;
            super::without_managed_fields(&mut created);
            report(term, name, &created, "created", &args)?;
            let planes: Vec<_> = Plane::deserialize(&created).into_iter().collect();
            sharing::warn(&cluster, &planes, term).await;
        }
    }
    wait::if_asked(&args.write, &cluster, vec![name.to_owned()], term).await
}

/// Leaves the existing plane as it is, and says what would have been created otherwise.
async fn leave(cluster: &Cluster, name: &str, manifest: &Value, args: &Args, term: &Term) -> anyhow::Result<()> {
    let mut existing: Value = cluster.plane(name).await?;
    super::without_managed_fields(&mut existing);
    if existing.pointer("/metadata/deletionTimestamp").is_some() {
        term.warn(&format!("{} exists, but it is being deleted", object_name(name)));
    }
    let different = differences(manifest, &existing);
    if !different.is_empty() {
        term.warn(&format!("{} exists and differs: {}; left as it is", object_name(name), different.join(", ")));
    }
    report(term, name, &existing, "unchanged", args)
}

/// The fields in which an existing plane is not what a manifest says. Labels and annotations that only the existing
/// one has are no difference: other tools write them.
fn differences(manifest: &Value, existing: &Value) -> Vec<String> {
    let mut different = Vec::new();
    for field in ["labels", "annotations"] {
        let wanted = manifest.pointer(&format!("/metadata/{field}")).and_then(Value::as_object).into_iter().flatten();
        let other = wanted.filter(|(key, value)| existing["metadata"][field].get(key.as_str()) != Some(value));
        different.extend(other.map(|(key, _)| format!("metadata.{field}[{}]", visible(key))));
    }
    compare("spec", &manifest["spec"], &existing["spec"], &mut different);
    different
}

/// Collects the paths below `path` at which two values differ.
fn compare(path: &str, wanted: &Value, existing: &Value, different: &mut Vec<String>) {
    let (Some(one), Some(other)) = (wanted.as_object(), existing.as_object()) else {
        if wanted != existing {
            different.push(path.to_owned());
        }
        return;
    };
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    for key in keys {
        compare(&format!("{path}.{}", visible(key)), &wanted[key], &existing[key], different);
    }
}

fn report(term: &Term, name: &str, object: &Value, done: &str, args: &Args) -> anyhow::Result<()> {
    match args.write.output {
        Some(format) => print_object(term, object, format),
        None => term.line(&format!("{} {done}{}", object_name(name), args.write.dry_run.suffix())),
    }
}

/// Asks for the name and for the CA where they are missing.
fn complete(mut args: Args, term: &Term) -> anyhow::Result<Args> {
    let missing = |what: &str, flag: &str| PromptError::Missing { what: what.into(), flag: flag.into() };
    if args.name.is_none() {
        if !term.asks() {
            return Err(missing("the plane's name", "NAME").into());
        }
        let name = term.ask("Name of the plane", None, |text| text.parse::<PlaneName>().map(drop))?;
        args.spec.plane_id = match args.spec.plane_id {
            Some(id) => Some(id),
            None => Some(term.ask("planeID of its agent", Some(&name), |text| plane_id(text).map(drop))?),
        };
        args.name = name.parse().ok();
    }
    if args.ca.client_ca_files.is_empty() && args.ca.client_ca_secret.is_none() {
        if !term.asks() {
            return Err(missing(
                "the CA that the agent's certificate is verified against",
                "--client-ca-file FILE, or --client-ca-secret NAMESPACE/NAME",
            )
            .into());
        }
        match term.choose(
            "The CA that the agent's certificate is verified against is",
            &["in a file", "in a Secret of the control plane"],
        )? {
            0 => {
                let file = term.ask("File with the CA's certificates", None, |path| {
                    if path.is_empty() {
                        return Err("write the path of a file".into());
                    }
                    read_ca(&Input::Path(path.into())).map(drop).map_err(|error| error.to_string())
                })?;
                args.ca.client_ca_files.push(Input::Path(file.into()));
            }
            _ => {
                let secret = term.ask("Secret, as NAMESPACE/NAME or NAMESPACE/NAME:KEY", None, |text| {
                    text.parse::<CaSecret>().map(drop)
                })?;
                args.ca.client_ca_secret = secret.parse().ok();
            }
        }
    }
    Ok(args)
}

fn manifest(args: &Args) -> anyhow::Result<Value> {
    let name = args.name.as_ref().map(PlaneName::as_str).unwrap_or_default();
    let mut plane = args.spec.plane(name);
    let ca = &mut plane.spec.cluster_agent.client_ca;
    match &args.ca.client_ca_secret {
        Some(CaSecret { secret, key }) => {
            ca.secret_ref = Some(SecretKeyRef {
                name: secret.name.clone(),
                namespace: Some(secret.namespace.clone()),
                key: key.clone(),
            });
        }
        None => ca.value = Some(read_cas(&args.ca.client_ca_files)?),
    }
    Ok(plane.manifest())
}

fn some<K: Ord, V>(map: std::collections::BTreeMap<K, V>) -> Option<std::collections::BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}

/// The CA certificates in files, as raw PEM without doubles.
pub fn read_cas(files: &[Input]) -> anyhow::Result<String> {
    let parts = files.iter().map(read_ca).collect::<anyhow::Result<Vec<_>>>()?;
    pki::bundle(parts.concat().as_bytes()).map_err(|source| Refusal::Bundle { file: "the CA".into(), source }.into())
}

fn read_ca(file: &Input) -> anyhow::Result<String> {
    let bytes = manifest::read_bytes(file)?;
    pki::bundle(&bytes).map_err(|source: BundleError| Refusal::Bundle { file: file.to_string(), source }.into())
}

pub fn plane_id(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends".into())
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_qualified_name(key) && is_label_value(value) => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE, of letters, digits, `-`, `_` and `.`".into()),
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if is_qualified_name(&key.to_lowercase()) => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE, the key of letters, digits, `-`, `_` and `.`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_manifest_means_is_a_difference() {
        let manifest = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"planeID": "a", "clusterAgent": {"clientCA": {"value": "x"}}},
        });
        let same = json!({
            "metadata": {"labels": {"a": "1", "b": "2", "c": "3"}, "uid": "u"},
            "spec": {"planeID": "a", "clusterAgent": {"clientCA": {"value": "x"}}},
            "status": {},
        });
        assert!(differences(&manifest, &same).is_empty());
        let other = json!({
            "metadata": {"labels": {"a": "1", "b": "3"}},
            "spec": {"planeID": "b", "clusterAgent": {"clientCA": {"secretRef": {}}}, "secretStoreRef": {"name": "v"}},
        });
        let fields = [
            "metadata.labels[b]",
            "spec.clusterAgent.clientCA.secretRef",
            "spec.clusterAgent.clientCA.value",
            "spec.planeID",
            "spec.secretStoreRef",
        ];
        assert_eq!(differences(&manifest, &other), fields);
    }
}
