//! `choreoctl certs inspect`: what certificates say, wherever they are.

use std::collections::BTreeSet;

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::ArgValueCompleter;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rayon::prelude::*;

use crate::args::{
    AT_HELP, AtArgs, NamespacesArgs, NoPlaneCluster, OutputArgs, PlaneCluster, PlaneClusterArgs, Session,
};
use crate::cluster::{self, Namespaces};
use crate::commands::source::SourceReader;
use crate::commands::source::read_key;
use crate::complete;
use crate::doctor::Note;
use crate::estate::{self, AT_ONCE, AgentFacts, ClientCa};
use crate::manifest::json_text;
use crate::pki::{
    self, Bundle, CA_CERTIFICATE, CA_PRIVATE_KEY, Certificate, DefectKind, Issuer, Issuers, LEAF_CERTIFICATE,
    LEAF_PRIVATE_KEY, PrivateKey, Remaining,
};
use crate::plane::{DEFAULT_KIND, KINDS, NamespacedName, Plane, PlaneKey, Source};
use crate::render::certificates::{Sourced, Unread, json, table};
use crate::render::redacted_json;
use crate::term::Exit;

/// Show certificates, and find those that expire
///
/// Sources are shown in their order; if planes are among them, the certificate that expires first is at the top. Without a SOURCE it shows all planes of all kinds and, with
/// --plane-context, the agents. Exits 1 when a certificate expires within --expires-within, and 2 when a source can't be read.
///
/// SOURCE is one of:
///
/// - a file in PEM, DER or base64 (no manifest), or - for standard input
///
/// - TYPE/NAME: the CA of a plane, such as cdp/east; plane/NAME: of a ClusterBuildPlane or ClusterWorkflowPlane
///
/// - TYPE or TYPE/*: all planes of a kind; planes or planes/*: all planes of all kinds
///
/// - secret/NAMESPACE/NAME[:KEY] or configmap/NAMESPACE/NAME[:KEY] in the control plane
///
/// - agent: the agents' certificates in the plane's cluster
///
/// - https://HOST:PORT: the certificates that a server presents
#[derive(ClapArgs, Debug)]
#[command(mut_arg("at", |at| at.help(AT_HELP)), mut_arg("output", |format| format.default_value("table")), after_help = "Examples:
  choreoctl certs inspect certs/tls.crt
  choreoctl certs inspect --expires-within 30d
  choreoctl certs inspect agent --plane-context build --expires-within 33%
  choreoctl certs inspect plane/shared-builder https://gateway.example.com:8443 -o json")]
pub struct Args {
    /// Source of certificates
    #[arg(value_name = "SOURCE", add = ArgValueCompleter::new(complete::sources))]
    sources: Vec<Source>,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    /// Exit 1 when a certificate expires within this time, or within this share of its lifetime
    #[arg(long, value_name = "DURATION|PERCENT")]
    expires_within: Option<Remaining>,

    #[command(flatten)]
    at: AtArgs,

    #[command(flatten)]
    output: OutputArgs<Format>,

    #[command(flatten)]
    build: PlaneClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    /// With serial numbers, issuers and fingerprints
    Wide,
    Json,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let everything = args.sources.is_empty();
    let needed = everything || args.sources.iter().any(Source::needs_cluster);
    let namespaces = match args.namespaces.namespaces() {
        Namespaces::Context if everything => Namespaces::All,
        namespaces => namespaces,
    };
    let mut reader = SourceReader::to(needed, session).await?.with_planes_in(namespaces);
    if everything || args.sources.contains(&Source::Agent) {
        reader = reader.with_agents(&args.build, |_| true).await?;
    }
    let mut sources = args.sources.clone();
    if everything {
        sources.push(Source::Planes(Some(KINDS.iter().collect())));
        sources.extend((!reader.fleet.is_empty()).then_some(Source::Agent));
    }
    let reading = stream::iter(&sources).map(|source| of_source(source, &reader)).buffered(AT_ONCE);
    let read: Vec<Vec<_>> = reading.try_collect().await?;
    let now = args.at.from(reader.now());
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (source, certificates) in read.into_iter().flatten() {
        match certificates {
            Ok(certificates) => {
                found.extend(certificates.into_iter().enumerate().map(|(index, (certificate, remarks))| {
                    let expires =
                        args.expires_within.is_some_and(|remaining| certificate.expires_within(remaining, now));
                    Sourced { source: source.clone(), index, certificate, expires, signed_by: None, remarks }
                }))
            }
            Err(error) => problems.push(Unread { source, text: format!("{error:#}") }),
        }
    }
    if everything || sources.iter().any(|source| matches!(source, Source::Planes(_))) {
        found.sort_by_key(|sourced| sourced.certificate.not_after);
    }
    compare(&mut found);
    match args.output.format {
        Format::Json => session.term.line(&json_text(&redacted_json(json(&found, &problems, now)))?)?,
        Format::Table | Format::Wide if found.is_empty() => {}
        Format::Table | Format::Wide => session.term.print(&table(&found, args.output.format == Format::Wide, now))?,
    }
    if args.output.format != Format::Json {
        for sourced in &found {
            for remark in &sourced.remarks {
                session.term.warn(&format!("{}, certificate {}: {}", sourced.source, sourced.index, remark.text));
            }
        }
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

/// The certificates of one place, each with what there is to say of it there.
type Read = anyhow::Result<Vec<(Certificate, Vec<Note>)>>;

/// A source represents one place or, as all planes and all agents do, for several.
async fn of_source(source: &Source, reader: &SourceReader<'_>) -> anyhow::Result<Vec<(String, Read)>> {
    match source {
        Source::Planes(kinds) => {
            let (planes, unlisted) = reader.planes(kinds.as_deref()).await?;
            let cas = estate::client_cas(reader.cluster()?, &planes).await;
            estate::parse_all(&cas);
            let title = |plane: &Plane| {
                let kind = if plane.kind == DEFAULT_KIND { "plane".to_owned() } else { plane.kind.kind.to_lowercase() };
                format!("{kind}/{}", plane.key())
            };
            let known = planes.iter().zip(cas).map(|(plane, ca)| (title(plane), of_plane(ca)));
            let unknown = unlisted.into_iter().map(|error| {
                let source = match error.downcast_ref() {
                    Some(cluster::Error::Unlisted(unlisted)) => Source::Planes(Some(vec![unlisted.kind])),
                    _ => source.clone(),
                };
                (source.to_string(), Err(error))
            });
            Ok(known.chain(unknown).collect())
        }
        Source::Agent => {
            anyhow::ensure!(!reader.fleet.is_empty(), NoPlaneCluster);
            // An agent's name says in which cluster it is only where there are several.
            let is_one = reader.fleet.len() == 1;
            let read = reader.fleet.iter().map(async |group| match group.usable() {
                Some(build) if is_one => of_agents(build, "agent").await,
                Some(build) => {
                    let title = format!("agent in {}", build.cluster.target().title());
                    let read = of_agents(build, &title).await;
                    Ok(read.unwrap_or_else(|error| vec![(title, Err(error))]))
                }
                None => {
                    let planes: Vec<_> = group.planes.iter().map(PlaneKey::with_word).collect();
                    let error = group.error().map_or_else(|| NoPlaneCluster.into(), |why| anyhow::anyhow!("{why:#}"));
                    Ok(vec![(format!("agent of {}", planes.join(", ")), Err(error))])
                }
            });
            Ok(try_join_all(read).await?.into_iter().flatten().collect())
        }
        source => Ok(vec![(source.to_string(), of_place(source, reader).await)]),
    }
}

/// The certificates of all agents in a cluster.
async fn of_agents(build: &PlaneCluster, title: &str) -> anyhow::Result<Vec<(String, Read)>> {
    let namespaces: BTreeSet<_> = KINDS.iter().map(|kind| build.namespace(kind.family)).collect();
    let lists = namespaces.into_iter().map(|namespace| build.cluster.agents(namespace));
    let agents = try_join_all(lists).await?.concat();
    if agents.is_empty() {
        // The error says what there is instead.
        let family = DEFAULT_KIND.family;
        build.cluster.agent(build.namespace(family), family, None).await?;
    }
    let agents = estate::of_agents(&build.cluster, agents).await;
    Ok(agents.into_iter().map(|facts| (format!("{title}/{}", facts.agent.name.name), of_agent(facts))).collect())
}

async fn of_place(source: &Source, reader: &SourceReader<'_>) -> Read {
    match source {
        Source::Plane(name) => {
            let plane = reader.plane(name).await?;
            estate::client_cas(reader.cluster()?, &[plane]).await.pop().map_or_else(|| Ok(Vec::new()), of_plane)
        }
        Source::Server { .. } => {
            let parse = |der: &Vec<u8>| {
                Certificate::from_der(der)
                    .map(|certificate| (certificate, Vec::new()))
                    .ok_or_else(|| anyhow::anyhow!("a certificate that it presents can't be parsed"))
            };
            reader.presented(source, DEFAULT_KIND.family, None, None).await?.iter().map(parse).collect()
        }
        Source::Secret(name, None) => of_secret(name, reader).await,
        Source::File(path) => {
            let bytes = reader.bytes(source, &[]).await?;
            let beside = match path.file_name().and_then(|name| name.to_str()) {
                Some(LEAF_CERTIFICATE) => Some(LEAF_PRIVATE_KEY),
                Some(CA_CERTIFICATE) => Some(CA_PRIVATE_KEY),
                _ => None,
            };
            let key = beside.and_then(|name| read_key(&path.with_file_name(name)).ok());
            let text = String::from_utf8_lossy(&bytes);
            let key = key.as_deref().map_or(text.as_ref(), String::as_str);
            let folder = path.with_file_name("");
            Ok(with_key(parse(&bytes)?, key, &format!("{}", folder.join(beside.unwrap_or_default()).display())))
        }
        source => Ok(plain(parse(&reader.bytes(source, &[LEAF_CERTIFICATE, CA_CERTIFICATE]).await?)?)),
    }
}

fn plain(certificates: Vec<Certificate>) -> Vec<(Certificate, Vec<Note>)> {
    certificates.into_iter().map(|certificate| (certificate, Vec::new())).collect()
}

/// Certificates of which the first belongs, or should, to a key; where there is one.
fn with_key(certificates: Vec<Certificate>, key: &str, place: &str) -> Vec<(Certificate, Vec<Note>)> {
    let mut all = plain(certificates);
    if let (Ok(key), Some((first, remarks))) = (PrivateKey::from_pem(key), all.first_mut())
        && !pki::belong_together(&first.der, &key.public_key_info())
    {
        remarks.push(key_mismatch(place));
    }
    all
}

/// A defect, said of a certificate that is named beside it.
fn remark((kind, what): (DefectKind, String)) -> Note {
    Note::new(kind.id(), format!("it {what}"))
}

fn key_mismatch(place: &str) -> Note {
    Note::new("key-mismatch", format!("the key in {} does not belong to it", crate::text::visible(place)))
}

/// A Secret's certificates, and whether its key belongs to the first.
async fn of_secret(name: &NamespacedName, reader: &SourceReader<'_>) -> Read {
    let secret = reader.cluster()?.existing_secret(name).await?;
    let keys = [LEAF_CERTIFICATE, CA_CERTIFICATE];
    if keys.iter().all(|key| secret.bytes(key).is_empty()) {
        // The error says which keys there are.
        reader.cluster()?.secret_keys(name, &keys).await?;
    }
    let text = keys.map(|key| secret.bytes(key)).concat();
    Ok(with_key(parse(&text)?, &secret.text(LEAF_PRIVATE_KEY), &format!("Secret {name}")))
}

fn of_plane(ca: ClientCa) -> Read {
    let certificates = ca.certificates();
    let certificates = certificates.map_err(|problem| anyhow::anyhow!("{}: {problem}", ca.source()))?;
    let remarked = |certificate: &Certificate| {
        let pinned = || remark((DefectKind::PinnedLeaf, pki::pinned(certificate, Some(certificate.chart_renewal()))));
        (certificate.clone(), (!certificate.ca).then(pinned).into_iter().collect())
    };
    Ok(certificates.iter().map(remarked).collect())
}

fn of_agent(facts: AgentFacts) -> Read {
    let behind = facts.behind(&[]).into_iter().map(|text| Note::new("pod-behind", text));
    let pair = facts.pair.map_err(|problem| anyhow::Error::msg(problem.message))?;
    let mut all = plain(pair.certificates);
    if let Some((_, remarks)) = all.first_mut() {
        remarks.extend((!pair.fits).then(|| key_mismatch(&pair.source)));
        remarks.extend(behind);
    }
    Ok(all)
}

/// What there is to say of certificates beside others: what signed them, and what doesn't go together.
fn compare(found: &mut [Sourced]) {
    let issuers = Issuers::new(found.iter().map(|sourced| sourced.certificate.der.as_slice()));
    let signed: Vec<Issuer> = (0..found.len()).into_par_iter().map(|index| issuers.of(index)).collect();
    for (index, issuer) in signed.into_iter().enumerate() {
        found[index].signed_by = match issuer {
            Issuer::Found(parent) => Some(format!("{}#{}", found[parent].source, found[parent].index)),
            Issuer::Missing | Issuer::Unknown => None,
        };
        let weak = pki::weak_key(&found[index].certificate);
        found[index].remarks.extend(weak.map(remark));
        if issuer == Issuer::Unknown {
            let text = "it has more possible issuers of one name than are tried: signedBy is not known";
            found[index].remarks.push(Note::new("many-issuers", text));
        }
    }
    for (index, reported) in pki::same_name(found.iter().map(|sourced| &sourced.certificate).enumerate()) {
        found[index].remarks.push(remark(reported));
    }
}

/// The certificates in bytes of any form; other things beside them in a PEM are passed over.
fn parse(bytes: &[u8]) -> anyhow::Result<Vec<Certificate>> {
    let bundle = Bundle::read(bytes)?;
    let found = bundle.certificates();
    match bundle.begun().saturating_sub(found.len()) {
        0 => Ok(found.to_vec()),
        broken => anyhow::bail!("{broken} of its {} certificates can't be read", broken + found.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{authority, client};

    fn ids(remarks: &[Note]) -> Vec<&str> {
        remarks.iter().map(|remark| remark.id).collect()
    }

    #[test]
    fn a_key_beside_a_certificate_belongs_to_it() {
        let (one, ca, ca_key) = authority();
        let (leaf, key) = client(&one, "a");
        let remarks = |key: &str| with_key(parse(leaf.as_bytes()).unwrap(), key, "tls.key").remove(0).1;
        assert!(remarks(&key).is_empty() && remarks("no key").is_empty());
        assert_eq!(ids(&remarks(&ca_key)), ["key-mismatch"]);
        assert_eq!(parse(format!("{leaf}{ca}").as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_broken_certificate_is_an_error_and_not_passed_over() {
        let (_, ca, _) = authority();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = parse(format!("{ca}{broken}").as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "1 of its 2 certificates can't be read");
    }

    #[test]
    fn what_signed_a_certificate_is_found_among_those_shown() {
        let (one, ca, _) = authority();
        let (_, other, _) = authority();
        let texts = [client(&one, "a").0, ca, other];
        let mut found: Vec<_> = texts
            .iter()
            .map(|text| Sourced {
                source: "f".into(),
                index: 0,
                certificate: parse(text.as_bytes()).unwrap().remove(0),
                expires: false,
                signed_by: None,
                remarks: Vec::new(),
            })
            .enumerate()
            .map(|(index, sourced)| Sourced { index, ..sourced })
            .collect();
        compare(&mut found);
        assert_eq!(found[0].signed_by.as_deref(), Some("f#1"));
        // Of two CAs of one name the later one has a remark.
        assert_eq!(found.iter().map(|one| one.remarks.len()).collect::<Vec<_>>(), [0, 0, 1]);
    }
}
