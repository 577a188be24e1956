//! `choreoctl certs inspect`: what certificates say, wherever they are.

use clap::{Args as ClapArgs, ValueEnum, ValueHint};
use jiff::Timestamp;

use super::source;
use crate::args::Session;
use crate::cluster::Cluster;
use crate::doctor;
use crate::manifest::json_text;
use crate::pki::{self, CA_CERTIFICATE, Certificate, LEAF_CERTIFICATE, Remaining};
use crate::plane::{Moment, Plane, Source};
use crate::render::certificates::{Sourced, Unread, json, table};
use crate::render::redacted_json;
use crate::term::Exit;

/// Show certificates, and find those that expire
///
/// SOURCE is a file, - (standard input), secret/NAMESPACE/NAME[:KEY], configmap/NAMESPACE/NAME[:KEY], plane/NAME, or
/// https://HOST:PORT. Without one, every plane's CA. Exits 1 when a certificate expires within --expires-within, and 2
/// when a source can't be read.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl certs inspect certs/tls.crt
  choreoctl certs inspect --expires-within 30d
  choreoctl certs inspect plane/shared-builder https://gateway.example.com:8443 -o json")]
pub struct Args {
    /// Where certificates are
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    sources: Vec<Source>,

    /// Exit 1 when one expires within a length of time, or within a share of its lifetime
    #[arg(long, value_name = "DURATION|%")]
    expires_within: Option<Remaining>,

    /// Look as if it were this time: 2026-11-22T12:00:00Z, or +30d
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let cluster = if args.sources.is_empty() || args.sources.iter().any(Source::needs_cluster) {
        Some(session.connect().await?)
    } else {
        None
    };
    let mut read = Vec::new();
    for source in &args.sources {
        read.push((source.to_string(), certificates(source, cluster.as_ref(), session).await));
    }
    if let (Some(cluster), true) = (&cluster, args.sources.is_empty()) {
        read = of_all_planes(cluster).await?;
    }
    let now = args.at.map_or_else(Timestamp::now, |moment| moment.from(Timestamp::now()));
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (source, certificates) in read {
        match certificates {
            Ok(certificates) => found.extend(certificates.into_iter().enumerate().map(|(index, certificate)| {
                let expires = args.expires_within.is_some_and(|remaining| certificate.expires_within(remaining, now));
                Sourced { source: source.clone(), index, certificate, expires }
            })),
            Err(error) => problems.push(Unread { source, text: format!("{error:#}") }),
        }
    }
    match args.output {
        Format::Json => session.term.line(&json_text(&redacted_json(json(&found, &problems, now)))?)?,
        Format::Table if found.is_empty() => {}
        Format::Table => session.term.print(&table(&found, now))?,
    }
    for problem in &problems {
        let named = problem.text.contains(&problem.source);
        let text = if named { problem.text.clone() } else { format!("{}: {}", problem.source, problem.text) };
        session.term.error(&crate::commands::error_text(&anyhow::Error::msg(text)));
    }
    let expiring = found.iter().filter(|sourced| sourced.expires).count();
    if let Some(remaining) = args.expires_within.filter(|_| expiring > 0) {
        session.term.note(&format!("{expiring} of {} expire within {remaining}", found.len()));
    }
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Failed };
    Ok(if expiring > 0 { exit.and(Exit::No) } else { exit })
}

type Read = anyhow::Result<Vec<Certificate>>;

async fn of_all_planes(cluster: &Cluster) -> anyhow::Result<Vec<(String, Read)>> {
    let planes = cluster.planes::<Plane>(None).await?;
    let cas = doctor::client_cas(cluster, &planes).await;
    let read = planes.iter().zip(cas).map(|(plane, ca)| (format!("plane/{}", plane.name()), of_plane(ca)));
    let mut read: Vec<_> = read.collect();
    // What ends first stands first; what could not be read is told in the end.
    let end = |read: &Read| {
        read.as_ref().ok().and_then(|certificates| certificates.iter().map(|certificate| certificate.not_after).min())
    };
    read.sort_by_key(|(_, read)| end(read).unwrap_or(Timestamp::MAX));
    Ok(read)
}

fn of_plane(ca: doctor::ClientCa) -> Read {
    ca.certificates.map_err(|problem| anyhow::anyhow!("{}: {}", ca.source, problem.text))
}

async fn certificates(source: &Source, cluster: Option<&Cluster>, session: &Session) -> Read {
    match (source, cluster) {
        (Source::Plane(name), Some(cluster)) => {
            let plane = cluster.plane::<Plane>(name.as_str()).await?;
            doctor::client_cas(cluster, &[plane]).await.pop().map_or_else(|| Ok(Vec::new()), of_plane)
        }
        (Source::Server { .. }, _) => {
            let parse = |der: &Vec<u8>| {
                Certificate::from_der(der)
                    .ok_or_else(|| anyhow::anyhow!("a certificate that it presents can't be parsed"))
            };
            source::presented(source, cluster, session).await?.iter().map(parse).collect()
        }
        _ => parse(&source::bytes(source, &[LEAF_CERTIFICATE, CA_CERTIFICATE], cluster).await?),
    }
}

/// The certificates in bytes of any form; other things beside them in a PEM are passed over.
fn parse(bytes: &[u8]) -> Read {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if pki::certificates(&text).is_empty() {
        text = pki::bundle(bytes)?;
    }
    let found = Certificate::all_in(&text);
    match pki::begun_certificates(&text).saturating_sub(found.len()) {
        0 => Ok(found),
        broken => anyhow::bail!("{broken} of its {} certificates can't be read", broken + found.len()),
    }
}
