//! The same without clusters at hand: all of it as files.

use jiff::Timestamp;
use serde_json::json;

use super::{Args, KEYS, VALUES, folder, keys, shown, write as write_file};
use crate::args::{DryRun, NoBuildCluster, Session};
use crate::commands::steps::write_keys;
use crate::manifest::to_yaml;
use crate::pki::CA_PRIVATE_KEY;
use crate::plan::{self, Issuer, Offline};
use crate::plane::Plane;
use crate::term::Exit;

pub fn write(args: &Args, planes: &[Plane], session: &Session) -> anyhow::Result<Exit> {
    let needs_cluster = [
        (args.out_dir.is_none(), "without --out-dir it"),
        (args.install, "--install"),
        (args.wait, "--wait"),
        (args.dry_run == DryRun::Server, "--dry-run server"),
        (args.force, "--force"),
        (args.agent_certificate == Some(Issuer::Existing), "--agent-certificate existing"),
        (!args.ca.client_ca_files.is_empty(), "--client-ca-file"),
        (args.ca.client_ca_secret.is_some(), "--client-ca-secret"),
    ];
    if let Some((_, what)) = needs_cluster.into_iter().find(|(given, _)| *given) {
        return Err(anyhow::Error::new(NoBuildCluster).context(format!("{what} needs both clusters at hand")));
    }
    for plane in planes {
        let folder = folder(args, plane, planes.len() > 1).unwrap_or_default();
        let keys = keys(&folder);
        if keys.file(CA_PRIVATE_KEY).exists() {
            let path = shown(keys.path());
            anyhow::bail!("{path} holds the keys of a run before: name another --out-dir");
        }
        let way = (args.agent_certificate.unwrap_or(Issuer::Own), args.client_ca_in);
        let place = (args.gateway_url.as_ref(), args.control.control_namespace.as_str());
        let made = plan::offline(plane, way, place, args.key_algorithm, Timestamp::now())?;
        if args.dry_run == DryRun::None {
            write_keys(&keys, Some(&made.ca), made.pair.as_ref())?;
        }
        for (name, text) in files(args, plane, &made)? {
            if args.dry_run == DryRun::None {
                write_file(&folder, &name, &text)?;
            }
        }
        let suffix = args.dry_run.suffix();
        session.term.line(&format!("{}: what to apply where is in its README.md{suffix}", shown(&folder)))?;
    }
    Ok(Exit::Done)
}

/// What may be committed.
fn files(args: &Args, plane: &Plane, made: &Offline) -> anyhow::Result<Vec<(String, String)>> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": args.build.namespace()}});
    let mut files = vec![
        ("build-plane/namespace.yaml".to_owned(), to_yaml(&namespace)?),
        (VALUES.to_owned(), to_yaml(&made.values)?),
        ("README.md".to_owned(), readme(args, plane, made)),
    ];
    for object in &made.objects {
        let name = if object["kind"] == "Secret" { "client-ca" } else { "plane" };
        files.push((format!("control-plane/{name}.yaml"), to_yaml(object)?));
    }
    Ok(files)
}

/// What to apply where.
fn readme(args: &Args, plane: &Plane, made: &Offline) -> String {
    let (name, namespace, control) = (plane.name(), args.build.namespace(), &args.control.control_namespace);
    let (secret, life) = if made.pair.is_none() {
        let ca = format!("{}-agent-ca", plane.plane_id());
        (
            format!("kubectl --context build -n {namespace} create secret tls {ca} --cert {KEYS}/ca.crt --key {KEYS}/ca.key"),
            "cert-manager renews the agent's certificate; the agent has to be restarted between a renewal and the old one's end.".to_owned(),
        )
    } else {
        (
            format!(
                "choreoctl certs secret {KEYS} -n {namespace} --name cluster-agent-own-tls | kubectl --context build apply -f -"
            ),
            format!("The agent's certificate ends in a year: `choreoctl certs renew --dir {KEYS}` makes the next one."),
        )
    };
    format!(
        "# Registering the build plane {name}

`{KEYS}` holds private keys: keep it out of version control. With kubectl's contexts `control` and `build`:

    kubectl --context control apply -f control-plane
    kubectl --context build apply -f build-plane
    {secret}
    kubectl --context control -n {control} get secret cluster-gateway-ca -o 'go-template={{{{index .data \"ca.crt\" | base64decode}}}}' > gateway-ca.crt
    kubectl --context build -n {namespace} create configmap cluster-gateway-ca --from-file=ca.crt=gateway-ca.crt
    helm upgrade --install openchoreo-build-plane {chart} --version {version} --namespace {namespace} --values {VALUES} --kube-context build
    choreoctl wait {name} --for connected --context control

{life}
",
        chart = args.chart,
        version = args.chart_version,
    )
}
