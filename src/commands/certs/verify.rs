//! `choreoctl certs verify`: whether the cluster gateway would let an agent in, and until when.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use clap::Args as ClapArgs;
use clap_complete::{ArgValueCandidates, ArgValueCompleter};
use jiff::Timestamp;
use rayon::prelude::*;

use crate::args::{AtArgs, FileArgs, FromFiles, NamespaceArgs, OutputArgs, PlaneClusterArgs, Session, TextFormat};
use crate::cluster::{self, Cluster, Unlisted};
use crate::commands::refusals::Refusal;
use crate::commands::source::SourceReader;
use crate::complete;
use crate::estate::{ClientCa, Files, client_cas};
use crate::manifest::{Input, json_text};
use crate::pki::{Bundle, CA_CERTIFICATE, Certificate, Presented, Verdict};
use crate::plane::{DEFAULT_KIND, KINDS, Kind, KindWord, Plane, PlaneKey, PlaneName, Scope, Source};
use crate::render::verdicts::{self, Judge, PlaneVerdict};
use crate::term::Exit;
use crate::text::{shell_quoted, visible};

/// Predict whether the gateway authorizes an agent's certificate
///
/// Checks every plane with the certificate's planeID. Reports which planes would authorize it and until when, and why
/// others would not. Exits 0 when all planes (with --any, at least one) would authorize the certificate, 1 when not, and 2
/// when choreoctl can't tell. `choreoctl certs inspect --help` explains SOURCE.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl certs verify --cert certs/tls.crt
  choreoctl certs verify --cert certs/tls.crt --plane shared-builder --at +30d
  choreoctl certs verify --cert certs/tls.crt --ca certs/ca.crt -o json
  choreoctl certs verify --cert agent --plane-context build")]
pub struct Args {
    /// Type of the planes [default: ClusterBuildPlane and ClusterWorkflowPlane, as far as the server has them]
    #[arg(value_name = "TYPE", conflicts_with = "plane")]
    kind: Option<KindWord>,

    #[command(flatten)]
    namespace: NamespaceArgs,

    /// Agent's certificate and its chain, in this order; `agent` reads the agent's Secret in the plane's cluster, also
    /// with -f
    #[arg(long, value_name = "SOURCE", add = ArgValueCompleter::new(complete::sources))]
    cert: Source,

    /// planeID of the planes to check [default: the certificate's common name]
    #[arg(long, value_name = "ID", conflicts_with_all = ["plane", "ca"])]
    plane_id: Option<String>,

    /// Check only this plane
    #[arg(long, value_name = "NAME", conflicts_with = "ca", add = ArgValueCandidates::new(complete::planes))]
    plane: Option<PlaneName>,

    /// CA to check against, instead of planes
    #[arg(long, value_name = "SOURCE", conflicts_with = "files", add = ArgValueCompleter::new(complete::sources))]
    ca: Option<Source>,

    #[command(flatten)]
    files: FileArgs,

    /// Succeed if at least one plane authorizes the certificate
    #[arg(long)]
    any: bool,

    #[command(flatten)]
    at: AtArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    build: PlaneClusterArgs,
}

impl Args {
    /// Whether the agent of a plane of the configuration may be the one to judge.
    fn means(&self, key: &PlaneKey) -> bool {
        let is_named = |name: &PlaneName| name.is(key.kind, &key.name);
        let namespace = self.namespace.given();
        let is_there = key.namespace.is_none() || namespace.is_none() || namespace == key.namespace;
        let is_of_kind = |kind: &KindWord| kind.0.family == key.kind.family;
        is_there && self.plane.as_ref().is_none_or(is_named) && self.kind.as_ref().is_none_or(is_of_kind)
    }
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let of_stdin = args.ca.iter().chain([&args.cert]).filter(|source| **source == Source::Stdin).count()
        + args.files.files.iter().filter(|file| **file == Input::Stdin).count();
    if of_stdin > 1 {
        return Err(Refusal::StdinTwice.into());
    }
    let of_cluster = !args.files.given() && args.ca.is_none();
    let needed = of_cluster || args.cert.needs_cluster() || args.ca.as_ref().is_some_and(Source::needs_cluster);
    let mut reader = SourceReader::to(needed, session).await?.with_planes_in(args.namespace.namespaces());
    if args.cert == Source::Agent {
        reader = reader.with_agents(&args.build, |plane| args.means(plane)).await?;
    }
    let named: Option<Plane> = match (&args.plane, &reader.cluster) {
        (Some(name), Some(_)) if !args.files.given() => Some(reader.plane(name).await?),
        _ => None,
    };
    let kinds = match (&named, &args.kind, &reader.cluster) {
        (Some(plane), ..) => vec![plane.kind],
        (None, Some(kind), _) => vec![kind.0],
        (None, None, Some(cluster)) if of_cluster => build_kinds(cluster).await?,
        _ => vec![args.plane.as_ref().and_then(|name| name.kind).unwrap_or_default()],
    };
    let plane_id = args.plane_id.as_deref().or(named.as_ref().map(Plane::plane_id));
    let key = named.as_ref().map(Plane::key);
    let (presented, kinds) = presented(&reader, &args.cert, kinds, key.as_ref(), plane_id).await?;
    if presented.is_empty() {
        return Err(Refusal::NoCertificate(args.cert.to_string()).into());
    }
    let files = if args.files.given() { Some(args.files.read(args.at, &session.term)?) } else { None };
    let now = match (&files, &reader.cluster) {
        (Some(files), _) => files.snapshot.now,
        (None, Some(cluster)) => cluster.now(),
        (None, None) => Timestamp::now(),
    };
    let at = args.at.from(now);
    let (plane_id, verdicts) = match &args.ca {
        Some(ca) => (None, vec![of_ca(ca, &presented, &reader, at).await?]),
        None => {
            let wanted = wanted(&args, &presented, session)?;
            let verdicts = Verdicts::on(&presented, at);
            let (planes, unlisted) =
                planes(&args, &kinds, wanted.as_deref(), named, reader.cluster.as_ref(), files, &verdicts).await?;
            let plane_id = wanted.or_else(|| planes.first().map(|(plane, _)| plane.plane_id().to_owned()));
            let mut verdicts = verdicts.of_planes(&planes);
            verdicts.extend(unlisted.iter().map(PlaneVerdict::from));
            (plane_id, verdicts)
        }
    };
    match args.output.format {
        TextFormat::Json => {
            session.term.line(&json_text(&verdicts::json(
                plane_id.as_deref(),
                &verdicts,
                exit(&verdicts, args.any) == Exit::Done,
            ))?)?;
        }
        TextFormat::Text => session.term.print(&verdicts::text(&verdicts, at))?,
    }
    Ok(exit(&verdicts, args.any))
}

/// The build kinds that a server has: both while it is being upgraded.
async fn build_kinds(cluster: &Cluster) -> anyhow::Result<Vec<&'static Kind>> {
    let served = cluster.served_kinds().await?;
    let kinds = [Some(DEFAULT_KIND), DEFAULT_KIND.successor()].into_iter().flatten();
    let kinds: Vec<_> = kinds.filter(|kind| served.contains(kind)).collect();
    Ok(if kinds.is_empty() { vec![DEFAULT_KIND] } else { kinds })
}

/// What the agent presents, and the kinds whose agent it may be.
async fn presented(
    reader: &SourceReader<'_>,
    cert: &Source,
    kinds: Vec<&'static Kind>,
    plane: Option<&PlaneKey>,
    plane_id: Option<&str>,
) -> anyhow::Result<(Vec<Vec<u8>>, Vec<&'static Kind>)> {
    if *cert != Source::Agent || kinds.len() == 1 {
        return Ok((reader.presented(cert, kinds[0].family, plane, plane_id).await?, kinds));
    }
    let (mut found, mut missing) = (Vec::new(), None);
    for kind in kinds {
        match reader.presented(cert, kind.family, plane, plane_id).await {
            Ok(presented) => found.push((presented, kind)),
            Err(error) if matches!(error.downcast_ref(), Some(cluster::Error::NoAgent { .. })) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    let kinds: Vec<_> = found.iter().map(|(_, kind)| *kind).collect();
    if found.windows(2).any(|two| two[0].0 != two[1].0) {
        return Err(Refusal::SeveralAgents { kinds }.into());
    }
    match (found.pop(), missing) {
        (Some((presented, _)), _) => Ok((presented, kinds)),
        (None, Some(missing)) => Err(missing),
        (None, None) => anyhow::bail!("no kind of plane is selected"),
    }
}

/// A plane of another plane type that has a planeID, if one is known.
async fn elsewhere(cluster: &Cluster, kinds: &[&'static Kind], plane_id: &str) -> Option<PlaneKey> {
    let is_other = |kind: &&Kind| kind.scope == Scope::Cluster && kinds.iter().all(|own| own.family != kind.family);
    for kind in KINDS.iter().filter(is_other) {
        let of_id = |plane: Plane| (plane.plane_id() == plane_id).then(|| plane.key());
        let found = cluster.of_kind(kind).family_as(of_id).await.ok();
        if let Some(key) = found.into_iter().flat_map(|family| family.planes).flatten().next() {
            return Some(key);
        }
    }
    None
}

fn exit(verdicts: &[PlaneVerdict], any: bool) -> Exit {
    let authorized = |one: &&PlaneVerdict| matches!(one.verdict, Verdict::Authorized { .. });
    let unknown = verdicts.iter().any(|one| matches!(one.verdict, Verdict::Unknown(_)));
    match verdicts.iter().filter(authorized).count() {
        count if count == verdicts.len() || (any && count > 0) => Exit::Done,
        _ if unknown => Exit::Failed,
        _ => Exit::No,
    }
}

/// How many CAs a core takes at once: to wake one up for each takes longer than a verdict.
const BATCH: usize = 100;

/// The verdict on a CA, once a core has made it.
type Pending = Arc<OnceLock<Verdict>>;

/// Verdicts on what an agent presents: one for all planes that have the same CA, made on all cores.
struct Verdicts {
    on: Arc<(Presented, Timestamp)>,
    by_ca: RefCell<HashMap<Arc<str>, Pending>>,
    /// Those that no core was asked for yet.
    waiting: RefCell<Vec<(Arc<str>, Pending)>>,
}

impl Verdicts {
    fn on(presented: &[Vec<u8>], at: Timestamp) -> Self {
        let on = Arc::new((Presented::of_agent(presented), at));
        Self { on, by_ca: RefCell::default(), waiting: RefCell::default() }
    }

    /// Begins with a CA on another core: the next planes are listed meanwhile.
    fn begin(&self, ca: &str) -> Pending {
        let (mut by_ca, mut waiting) = (self.by_ca.borrow_mut(), self.waiting.borrow_mut());
        if let Some(begun) = by_ca.get(ca) {
            return begun.clone();
        }
        let (ca, verdict) = (Arc::<str>::from(ca), Pending::default());
        by_ca.insert(ca.clone(), verdict.clone());
        waiting.push((ca, verdict.clone()));
        if waiting.len() == BATCH {
            let (batch, on) = (std::mem::take(&mut *waiting), self.on.clone());
            rayon::spawn(move || batch.iter().for_each(|(ca, verdict)| drop(judged(&on, ca, verdict))));
        }
        verdict
    }

    /// The verdict of each plane.
    fn of_planes(&self, planes: &[(Plane, ClientCa)]) -> Vec<PlaneVerdict> {
        let begun: Vec<_> = planes.iter().map(|(_, ca)| ca.text().map(|ca| (ca, self.begin(ca)))).collect();
        let on = &*self.on;
        let verdicts = planes.par_iter().zip(begun).map(|((plane, ca), begun)| PlaneVerdict {
            by: Judge::Plane(plane.key()),
            verdict: match begun {
                Ok((ca, verdict)) => judged(on, ca, &verdict),
                // Where a CA can't be read, what is presented doesn't count.
                Err(_) => ca.verdict(&[], on.1),
            },
        });
        verdicts.collect()
    }
}

fn judged(on: &(Presented, Timestamp), ca: &str, verdict: &OnceLock<Verdict>) -> Verdict {
    verdict.get_or_init(|| Bundle::from(ca).verdict_on(&on.0, on.1)).clone()
}

async fn of_ca(
    ca: &Source,
    presented: &[Vec<u8>],
    reader: &SourceReader<'_>,
    at: Timestamp,
) -> anyhow::Result<PlaneVerdict> {
    let verdict = match ca {
        Source::Plane(name) => {
            let plane = reader.plane(name).await?;
            let cas = client_cas(reader.cluster()?, &[plane]).await;
            cas.first().map_or_else(|| Verdict::Unknown("its CA can't be read".into()), |ca| ca.verdict(presented, at))
        }
        _ => {
            let bytes = reader.bytes(ca, &[CA_CERTIFICATE]).await?;
            Bundle::from(String::from_utf8_lossy(&bytes).into_owned()).verdict(presented, at)
        }
    };
    Ok(PlaneVerdict { by: Judge::Ca, verdict })
}

/// The planeID whose planes are looked at; none where one plane is named.
fn wanted(args: &Args, presented: &[Vec<u8>], session: &Session) -> anyhow::Result<Option<String>> {
    if args.plane.is_some() || args.plane_id.is_some() {
        return Ok(args.plane_id.clone());
    }
    let leaf = presented.first().and_then(|der| Certificate::from_der(der));
    let name = leaf.and_then(|leaf| leaf.common_name).ok_or(Refusal::Unnamed)?;
    session.term.note(&format!("planeID {}, the certificate's common name", visible(&name)));
    Ok(Some(name))
}

/// The planes to look at, each with its CA, and the kinds that could not be listed.
async fn planes(
    args: &Args,
    kinds: &[&'static Kind],
    wanted: Option<&str>,
    named: Option<Plane>,
    cluster: Option<&Cluster>,
    files: Option<FromFiles>,
    verdicts: &Verdicts,
) -> anyhow::Result<(Vec<(Plane, ClientCa)>, Vec<Unlisted>)> {
    let mut unlisted = Vec::new();
    let of_files = files.is_some();
    let of_wanted = |plane: &Plane| match &args.plane {
        Some(name) => name.names(plane),
        // The gateway knows planeIDs by their plane type. Files that no kind is named for hold those that are meant.
        None => {
            let is_of_kind = kinds.iter().any(|kind| kind.family == plane.kind.family);
            let is_meant = is_of_kind || (of_files && args.kind.is_none());
            wanted == Some(plane.plane_id()) && is_meant
        }
    };
    let found: Vec<_> = match (files, cluster) {
        (Some(files), _) => {
            let cas = client_cas(&Files::control(&files.snapshot), &files.snapshot.planes).await;
            files.snapshot.planes.into_iter().zip(cas).filter(|(plane, _)| of_wanted(plane)).collect()
        }
        (None, Some(cluster)) => {
            let planes = match named {
                Some(plane) => vec![plane],
                None => {
                    let wanted = |plane: Plane| {
                        let plane = of_wanted(&plane).then_some(plane)?.without_history();
                        if let Some(ca) = &plane.spec.cluster_agent.client_ca.value {
                            verdicts.begin(ca);
                        }
                        Some(plane)
                    };
                    let mut planes = Vec::new();
                    for kind in kinds {
                        let family = cluster.of_kind(kind).family_as(wanted).await?;
                        unlisted.extend(family.unlisted);
                        planes.extend(family.planes.into_iter().flatten());
                    }
                    planes
                }
            };
            let cas = client_cas(cluster, &planes).await;
            planes.into_iter().zip(cas).collect()
        }
        (None, None) => anyhow::bail!("there is no cluster to ask"),
    };
    match (found.is_empty() && unlisted.is_empty(), &args.plane) {
        (false, _) => Ok((found, unlisted)),
        (true, Some(name)) => anyhow::bail!("there is no plane {name} in the files"),
        (true, None) => {
            let plane_id = wanted.unwrap_or_default().to_owned();
            let cluster = cluster.filter(|_| !of_files);
            let (mut nouns, mut other) = ("plane".to_owned(), None);
            if cluster.is_some() || args.kind.is_some() {
                nouns = kinds.iter().map(|kind| kind.family.noun()).collect::<Vec<_>>().join(" or ");
            }
            if let Some(cluster) = cluster {
                let key = elsewhere(cluster, kinds, &plane_id).await;
                other = key.map(|key| {
                    let cert = if args.cert == Source::Stdin { "-".into() } else { args.cert.to_string() };
                    let (word, cert) = (key.kind.word(), shell_quoted(&cert).into_owned());
                    let id = args.plane_id.as_ref().map(|id| format!(" --plane-id {id}")).unwrap_or_default();
                    (
                        format!("{} {key}", key.kind.kind),
                        cluster.target().command(&format!("choreoctl certs verify {word} --cert {cert}{id}")),
                    )
                });
            }
            Err(Refusal::UnknownPlaneId { plane_id, nouns, other }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};
    use crate::cluster::Fake;
    use crate::commands::tests::{authority, client};
    use crate::estate::Unavailable;
    use crate::pki::certificates;

    #[test]
    fn all_have_to_authorize_or_any_where_that_is_enough() {
        let verdict = |verdict| PlaneVerdict { by: Judge::Ca, verdict };
        let yes = || verdict(Verdict::Authorized { until: None });
        let unknown = || verdict(Verdict::Unknown("why".into()));
        let (_, ca, _) = authority();
        let no = || verdict(Bundle::from(ca.as_str()).verdict(&[], Timestamp::now()));
        assert_eq!(exit(&[yes(), yes()], false), Exit::Done);
        assert_eq!(exit(&[yes(), no()], false), Exit::No);
        assert_eq!(exit(&[yes(), no()], true), Exit::Done);
        assert_eq!(exit(&[no(), unknown()], true), Exit::Failed);
        assert_eq!(exit(&[], true), Exit::Done);
    }

    #[test]
    fn a_plane_is_judged_by_its_ca_and_unknown_without_one() {
        let (one, ca, _) = authority();
        let (_, other, _) = authority();
        let presented = certificates(&client(&one, "a").0);
        let trusting = |text: &str| ClientCa::new("ca".into(), Ok(text.as_bytes().to_vec()));
        let plane = Plane::default;
        let planes = [
            (plane(), trusting(&ca)),
            (plane(), trusting(&other)),
            (plane(), ClientCa::unread(Unavailable::missing("it is gone"))),
        ];
        let verdicts = Verdicts::on(&presented, Timestamp::now());
        verdicts.begin(&other);
        let verdicts = verdicts.of_planes(&planes);
        assert!(matches!(verdicts[0].verdict, Verdict::Authorized { until: Some(_) }));
        assert!(matches!(verdicts[1].verdict, Verdict::Refused(_)));
        assert!(!matches!(verdicts[2].verdict, Verdict::Authorized { .. }));
    }

    #[test]
    fn the_common_name_is_the_plane_id_unless_one_is_named() {
        let (one, ..) = authority();
        let presented = certificates(&client(&one, "x").0);
        let of = |words: &[&str]| {
            let words = [&["--cert", "tls.crt"], words].concat();
            wanted(&parse(&words).unwrap(), &presented, &session())
        };
        assert_eq!(of(&[]).unwrap().as_deref(), Some("x"));
        assert_eq!(of(&["--plane-id", "y"]).unwrap().as_deref(), Some("y"));
        assert_eq!(of(&["--plane", "p"]).unwrap(), None);
        let args = parse(&["--cert", "tls.crt"]).unwrap();
        assert!(wanted(&args, &[], &session()).unwrap_err().is::<Refusal>());
    }

    #[tokio::test]
    async fn a_plane_id_of_another_plane_type_is_found_and_both_build_kinds_are_meant() {
        let kind = |word: &str| Kind::of_word(word).unwrap();
        let fake = Fake::of([serde_json::json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterDataPlane", "metadata": {"name": "d"}, "spec": {"planeID": "x"},
        })]);
        let kinds = build_kinds(&fake.cluster()).await.unwrap();
        assert_eq!(kinds, [kind("cbp"), kind("cwp")]);
        let found = async |id: &str| elsewhere(&fake.cluster(), &kinds, id).await.map(|key| key.words());
        assert_eq!((found("x").await.as_deref(), found("y").await), (Some("cdp/d"), None));
        fake.serve(&[kind("cwp"), kind("dp")]);
        assert_eq!(build_kinds(&fake.cluster()).await.unwrap(), [kind("cwp")]);
        fake.serve(&[kind("dp")]);
        assert_eq!(build_kinds(&fake.cluster()).await.unwrap(), [kind("cbp")]);
    }

    #[tokio::test]
    async fn standard_input_is_read_once() {
        let args = parse(&["--cert", "-", "--ca", "-"]).unwrap();
        let error = run(args, &session()).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Refusal::StdinTwice)), "{error}");
    }
}
