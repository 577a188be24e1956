//! `choreoctl create`: make a plane from flags, or from answers.

use std::collections::BTreeSet;

use clap::Args as ClapArgs;
use serde::Deserialize as _;
use serde_json::Value;

use super::manifests::check_manifest;
use super::objects::{object_name, report};
use super::waiting::if_asked;
use super::warnings;
use crate::args::{CaArgs, PlaneArgs, Session, SpecArgs, WriteArgs, plane_id, read_ca, read_cas};
use crate::cluster::{Cluster, Error};
use crate::manifest::Input;
use crate::plane::{CaSecret, DryRun, Plane, PlaneKey, PlaneName, Release, SecretKeyRef, without_managed_fields};
use crate::term::{Exit, PromptError, Term};
use crate::text::visible;

/// Create a plane
///
/// Prompts for missing values on a terminal, and validates the plane before it is sent. An existing plane is
/// never changed: the command fails, or succeeds with --if-not-exists.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl create shared-builder --client-ca-secret openchoreo-control-plane/buildplane-agent-ca
  choreoctl create shared-builder --client-ca-file certs/ca.crt --wait
  choreoctl create cwp default --client-ca-file certs/ca.crt
  choreoctl create dp production -n team --client-ca-file certs/ca.crt
  choreoctl create cop default --observer-url https://observer.example.com --client-ca-file certs/ca.crt
  choreoctl create shared-builder --client-ca-file certs/ca.crt --if-not-exists
  choreoctl create shared-builder --client-ca-file certs/ca.crt --dry-run client -o yaml | choreoctl apply -f -")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    #[command(flatten)]
    ca: CaArgs,

    #[command(flatten)]
    spec: SpecArgs,

    /// Succeed without a change if the plane already exists
    #[arg(long)]
    if_not_exists: bool,

    #[command(flatten)]
    write: WriteArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let Session { term, .. } = session;
    let args = complete(args, term)?;
    let guess = args.plane.key()?;
    let made = manifest(&args, &guess, guess.kind.release())?;
    check_manifest(&made, term)?;
    if args.write.dry_run == DryRun::Client {
        report(term, &args.write, &[(made, "created")])?;
        return Ok(Exit::Done);
    }
    let (cluster, key) = args.plane.at(session.connect_to_write().await?).await?;
    // Only the server says which kind and release are meant where no word does.
    let made = manifest(&args, &key, cluster.release().await?)?;
    if key.kind != guess.kind {
        check_manifest(&made, term)?;
    }
    match cluster.create(&made, args.write.dry_run).await {
        Err(Error::Exists { .. }) if args.if_not_exists => leave(&cluster, &key.name, &made, &args, term).await?,
        created => {
            let created = without_managed_fields(created?);
            let planes: Vec<_> = Plane::deserialize(&created).into_iter().collect();
            report(term, &args.write, &[(created, "created")])?;
            warnings::of_sharing(&cluster, &planes, term).await;
        }
    }
    if_asked(&args.write, &cluster, vec![key], term).await
}

/// Leaves the existing plane as it is, and says what would have been created otherwise.
async fn leave(cluster: &Cluster, name: &str, manifest: &Value, args: &Args, term: &Term) -> anyhow::Result<()> {
    let existing = without_managed_fields(cluster.plane(name).await?);
    let title = object_name(&PlaneKey::of_object(&existing));
    if existing.pointer("/metadata/deletionTimestamp").is_some() {
        term.warn(&format!("{title} exists, but it is being deleted"));
    }
    let different = differences(manifest, &existing);
    if !different.is_empty() {
        term.warn(&format!("{title} exists and differs: {}; left as it is", different.join(", ")));
    }
    report(term, &args.write, &[(existing, "unchanged")])
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

/// Asks for the name and for the CA where they are missing.
fn complete(mut args: Args, term: &Term) -> anyhow::Result<Args> {
    let missing = |what: &str, flag: &str| PromptError::Missing { what: what.into(), flag: flag.into() };
    let (name, wanted) = args.plane.name()?;
    if name.is_none() {
        if !term.asks() {
            let missing = missing("the plane's name", "NAME");
            return Err(match wanted.explain() {
                Some(more) => anyhow::Error::from(missing).context(more),
                None => missing.into(),
            });
        }
        let name = term.ask("Name of the plane", None, |text| text.parse::<PlaneName>().map(drop))?;
        args.spec.plane_id = match args.spec.plane_id {
            Some(id) => Some(id),
            None => Some(term.ask("planeID of its agent", Some(&name), |text| plane_id(text).map(drop))?),
        };
        args.plane.set_name(&name);
    }
    if term.asks() && args.spec.lacks_observer(args.plane.key()?.kind) {
        let url = term.ask("URL of the Observer's API", None, |url| {
            if url.is_empty() { Err("write a URL".into()) } else { Ok(()) }
        })?;
        args.spec.set_observer(url);
    }
    if args.ca.client_ca_files.is_empty() && args.ca.client_ca_secret.is_none() {
        if !term.asks() {
            return Err(missing(
                "the CA that verifies the agent's certificate",
                "--client-ca-file FILE, or --client-ca-secret NAMESPACE/NAME",
            )
            .into());
        }
        match term.choose(
            "The CA that verifies the agent's certificate is",
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

fn manifest(args: &Args, key: &PlaneKey, release: Release) -> anyhow::Result<Value> {
    let mut plane = args.spec.plane(key)?;
    let ca = &mut plane.spec.cluster_agent.client_ca;
    match &args.ca.client_ca_secret {
        Some(CaSecret { secret, key }) => {
            let (name, namespace) = (secret.name.clone(), Some(secret.namespace.clone()));
            ca.secret_ref = Some((release, SecretKeyRef { name, namespace, key: key.clone() }));
        }
        None => ca.value = Some(read_cas(&args.ca.client_ca_files)?),
    }
    Ok(plane.manifest())
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
