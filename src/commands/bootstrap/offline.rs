//! Registers planes without access to clusters: everything as files.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::args::{Args, folder, planned};
use super::folder::{KEYS, at_hand, keys, there, write as write_file};
use crate::args::{NoPlaneCluster, Session, TextFormat};
use crate::commands::helm::VALUES;
use crate::commands::steps::{Steps, write_keys};
use crate::manifest::to_yaml;
use crate::plan::{self, AgentCertificate, Bootstrap, Files, Issuer, Observer as _, Status};
use crate::plane::{DEFAULT_KIND, DryRun, Plane};
use crate::term::Exit;
use crate::text::{shell_quoted, shown, visible};

pub fn write(args: &Args, planes: &[Plane], session: &Session) -> anyhow::Result<Exit> {
    let needs_cluster = [
        (args.out_dir.is_none(), "without --out-dir it"),
        (args.chart.install, "--install"),
        (args.wait, "--wait"),
        (args.change.dry_run == DryRun::Server, "--dry-run server"),
        (args.agent_certificate == Some(AgentCertificate::Existing), "--agent-certificate existing"),
        (!args.ca.client_ca_files.is_empty(), "--client-ca-file"),
        (args.ca.client_ca_secret.is_some(), "--client-ca-secret"),
    ];
    if let Some((_, what)) = needs_cluster.into_iter().find(|(given, _)| *given) {
        return Err(anyhow::Error::new(NoPlaneCluster).context(format!("{what} needs access to both clusters")));
    }
    let mut ids = BTreeSet::new();
    for plane in planes {
        anyhow::ensure!(
            ids.insert((plane.kind.family.plane_type, plane.plane_id())),
            "two planes have the planeID {}, and so one agent: register them with access to both clusters",
            visible(plane.plane_id())
        );
    }
    if let ([plane], true, Some(later)) = (planes, args.files.is_empty(), DEFAULT_KIND.successor())
        && !args.plane.names_kind()
    {
        session.term.note(&format!(
            "without a cluster, {} becomes a {}, the kind of {}; for 1.0 and later use {}: choreoctl bootstrap {}/{}",
            visible(plane.name()),
            plane.kind.kind,
            plane.kind.release(),
            later.kind,
            later.word(),
            shell_quoted(plane.name())
        ));
    }
    let mut steps = Steps::new(&session.term, args.output.format);
    for plane in planes {
        steps.plane = (planes.len() > 1).then(|| plane.key().to_string());
        let folder = folder(args, plane, planes.len() > 1).unwrap_or_default();
        let reported = one(args, plane, &folder, session)?;
        match args.output.format {
            TextFormat::Json => steps.outcome("values", Status::Done, &reported),
            TextFormat::Text => session.term.line(&reported)?,
        }
    }
    Ok(Exit::Done)
}

/// One plane's folder. Keys of a run before are taken over, and what others wrote is left alone.
fn one(args: &Args, plane: &Plane, folder: &Path, session: &Session) -> anyhow::Result<String> {
    let keys = keys(folder);
    let (authority, pair) = at_hand(&keys, plane.plane_id(), args.change.dry_run)?;
    let is_new = (authority.is_none(), pair.is_none());
    let issuer = match args.agent_certificate {
        Some(AgentCertificate::Issued(issuer)) => issuer,
        None | Some(AgentCertificate::Existing) => Issuer::Own,
    };
    let plan = Bootstrap { authority, pair, ..planned(args, plane.clone(), plane.kind.release(), None, session) };
    let made = plan::offline(&plan, issuer, Timestamp::now())?;
    let files = files(args, plane, &made)?;
    if !args.force {
        let other = |(name, text): &&(String, String)| there(&folder.join(name)).is_some_and(|there| there != *text);
        if let Some((name, _)) = files.iter().find(other) {
            return Err(plan::Error::Differs { what: shown(&folder.join(name)) }.into());
        }
    }
    if args.change.dry_run == DryRun::None {
        let pair = made.pair.as_ref().filter(|_| is_new.1);
        if is_new.0 || pair.is_some() {
            write_keys(&keys, Some(&made.ca).filter(|_| is_new.0), pair)?;
        }
        for (name, text) in files {
            write_file(folder, &name, &text)?;
        }
    }
    let lists = "lists the commands to run in each cluster";
    Ok(match args.change.dry_run {
        DryRun::None => format!("{} {lists}", shown(&folder.join("README.md"))),
        dry_run => format!("{}: its README.md {lists}{}", shown(folder), dry_run.suffix()),
    })
}

/// What may be committed.
fn files(args: &Args, plane: &Plane, made: &Files) -> anyhow::Result<Vec<(String, String)>> {
    let family = plane.kind.family;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": args.build.namespace(family)}});
    let mut files = vec![
        (format!("{}/namespace.yaml", own_folder(plane)), to_yaml(&namespace)?),
        (VALUES.to_owned(), to_yaml(&made.values)?),
        ("README.md".to_owned(), readme(args, plane, made)),
    ];
    for object in &made.objects {
        let name = if object["kind"] == "Secret" { "client-ca" } else { "plane" };
        files.push((format!("control-plane/{name}.yaml"), to_yaml(object)?));
    }
    Ok(files)
}

/// The folder of what is applied to the plane's cluster, such as `build-plane`.
fn own_folder(plane: &Plane) -> String {
    plane.kind.family.noun().replace(' ', "-")
}

/// What to apply where.
fn readme(args: &Args, plane: &Plane, made: &Files) -> String {
    let family = plane.kind.family;
    let (name, namespace, control) = (plane.key(), args.build.namespace(family), &args.control.control_namespace);
    let (words, noun, folder, release) = (name.words(), family.noun(), own_folder(plane), family.helm_release);
    let url = match &args.gateway_url {
        Some(_) => "",
        None => {
            "\nBefore helm, add `clusterAgent.serverUrl: wss://HOST:PORT/ws` to values.yaml: where agents reach the gateway.\n"
        }
    };
    let of_agent = &made.secret;
    let (secret, life) = if made.pair.is_none() {
        (
            format!("kubectl --context build -n {namespace} create secret tls {of_agent} --cert {KEYS}/ca.crt --key {KEYS}/ca.key --dry-run=client -o yaml | kubectl --context build apply -f -"),
            "cert-manager renews the agent's certificate. After each renewal restart the agent, before the old certificate expires.".to_owned(),
        )
    } else {
        (
            format!(
                "choreoctl certs secret {KEYS} -n {namespace} --name {of_agent} | kubectl --context build apply -f -"
            ),
            format!(
                "The agent's certificate expires in a year. Issue the next one with `choreoctl certs renew --dir {KEYS}`, then apply its Secret again and restart the agent."
            ),
        )
    };
    format!(
        "# Registering the {noun} {name}

`{KEYS}` holds private keys: keep it out of version control. With kubectl's contexts `control` and `build`:

    kubectl --context control apply -f control-plane
    kubectl --context build apply -f {folder}
    {secret}
    kubectl --context control -n {control} get secret cluster-gateway-ca -o 'go-template={{{{index .data \"ca.crt\" | base64decode}}}}' > gateway-ca.crt
    kubectl --context build -n {namespace} create configmap cluster-gateway-ca --from-file=ca.crt=gateway-ca.crt --dry-run=client -o yaml | kubectl --context build apply -f -
    helm upgrade --install {release} {chart} --version {version} --namespace {namespace} --values {VALUES} --kube-context build
    choreoctl wait {words} --for connected --context control
{url}
{life}
",
        chart = shell_quoted(args.chart.chart.as_deref().unwrap_or(family.chart)),
        version = shell_quoted(args.chart.chart_version.as_deref().unwrap_or(plane.kind.release().chart_version())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};

    fn plane() -> Plane {
        let text = json!({"metadata": {"name": "a"}, "spec": {"planeID": "a"}});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_needs_clusters_is_refused_without_them() {
        for words in [
            &["a"] as &[&str],
            &["a", "--out-dir", "d", "--install"],
            &["a", "--out-dir", "d", "--wait"],
            &["a", "--out-dir", "d", "--dry-run", "server"],
            &["a", "--out-dir", "d", "--agent-certificate", "existing"],
            &["a", "--out-dir", "d", "--client-ca-secret", "n/s"],
        ] {
            let error = write(&parse(words).unwrap(), &[plane()], &session()).unwrap_err();
            assert!(error.to_string().ends_with("needs access to both clusters"), "{error}");
            assert!(error.is::<NoPlaneCluster>());
        }
        let args = parse(&["a", "--out-dir", "d"]).unwrap();
        let error = write(&args, &[plane(), plane()], &session()).unwrap_err().to_string();
        assert!(error.starts_with("two planes have the planeID a, and so one agent"), "{error}");
    }

    #[test]
    fn a_second_run_changes_nothing_and_what_others_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_string_lossy();
        let args: Args = parse(&["a", "--out-dir", &path]).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        one(&args, &plane(), folder.path(), &session()).unwrap();
        let before = ["README.md", VALUES, "control-plane/plane.yaml"].map(read);
        assert!(before[0].contains("wss://HOST:PORT/ws") && before[2].contains("planeID: a"));
        one(&args, &plane(), folder.path(), &session()).unwrap();
        assert_eq!(["README.md", VALUES, "control-plane/plane.yaml"].map(read), before);
        std::fs::write(folder.path().join(VALUES), "mine: true\n").unwrap();
        let error = one(&args, &plane(), folder.path(), &session()).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(plan::Error::Differs { .. })), "{error}");
        let args: Args = parse(&["a", "--out-dir", &path, "--force"]).unwrap();
        one(&args, &plane(), folder.path(), &session()).unwrap();
        assert_eq!(read(VALUES), before[1]);
    }

    #[test]
    fn a_dry_run_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("d");
        let args: Args = parse(&["a", "--out-dir", &into.to_string_lossy(), "--dry-run", "client"]).unwrap();
        assert!(one(&args, &plane(), &into, &session()).unwrap().ends_with(" (dry run)"));
        assert!(!into.exists());
    }
}
