//! Changes of several steps over two clusters: registering one, renewing and rotating what its agent presents. Each
//! step looks first, acts where something is to be done and looks again, so that a run that was cut off is finished by
//! the next one.
//!
//! Not here: the command line, and how steps are shown.

mod agent;
mod bootstrap;
mod renew;
mod rotate;
mod trust;

pub use bootstrap::{
    AGENT_SECRETS, Bootstrap, CaIn, Given, Issuer, Made, Offline, Pem, authorized, begin, bootstrap, installed, offline,
};
pub use renew::{Renewal, renew};
pub use rotate::{Keeper, Outlook, Phase, Rotation, Way, outlook, rotate};

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{self, Cluster};
use crate::plane::DryRun;
use crate::text::{shell_quoted, visible};

/// How a step came out. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was so already.
    Found,
    Done,
    Skipped,
    Failed,
}

/// Who is told of the steps.
pub trait Observer {
    /// A step begins: its name, and what it sees to.
    fn begin(&mut self, step: &'static str, about: &str);

    /// Whether what is there is to be replaced, and by what, in words.
    ///
    /// # Errors
    /// Where whoever was asked said no.
    fn replaces(&mut self, what: &str, before: &str, after: &str) -> anyhow::Result<bool>;

    fn tell(&mut self, step: &'static str, status: Status, message: &str);

    /// Keeps a CA with its key, unless it is only asked whether it would; whether there is a place for it.
    fn keep(&mut self, ca: &Pem, dry_run: DryRun) -> anyhow::Result<bool>;

    /// Something takes time; told again while it does.
    fn wait(&mut self, text: &str);

    /// A change of several runs is, or is no longer, unfinished.
    fn unfinished(&mut self, is_unfinished: bool);

    /// A manifest for somebody else to apply; where it was put.
    fn manifest(&mut self, name: &str, text: &str) -> anyhow::Result<String>;
}

/// Why a change was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the time ran out: {waiting}")]
    TimedOut { waiting: String },
    #[error("the CA of {} can't be written: {}", visible(.plane), visible(.why))]
    Unwritable { plane: String, why: String },
    #[error("{} of {} belongs to {}", .what, visible(.plane), visible(.manager))]
    OtherManager { plane: String, what: String, manager: String },
    #[error("there is no way back: the agent would be refused with what it had before: {}", visible(.why))]
    NoWayBack { why: String },
    #[error("a rotation of its CA is under way, by Secret {}", visible(.staging))]
    UnderWay { staging: String },
    #[error("somebody else puts back what is in Secret {}: {}", visible(.secret), visible(.manager))]
    OtherOwner { secret: String, manager: String },
    #[error("the plane {} would not let in an agent with the new certificate: {}", visible(.plane), visible(.why))]
    NotTrusted { plane: String, why: String },
    #[error("the old CA is still needed: {}", visible(.why))]
    StillNeeded { why: String },
    #[error("the agent's Secret {} was changed since the rotation began", visible(.secret))]
    Meddled { secret: String },
    #[error("the agent {} mounts no Secret as client-certs", visible(.0))]
    NoSecret(String),
    #[error("the certificate in {} can't be used: {}", visible(.secret), visible(.why))]
    Pair { secret: String, why: String },
    #[error("cert-manager writes {} (Certificate {}), and would undo a renewal", visible(.secret), visible(.certificate))]
    CertManager { secret: String, certificate: String, command: String },
    #[error("the CA at hand did not issue the agent's certificate in {}", visible(.secret))]
    OtherCa { secret: String },
    #[error("no Secret in the namespace {} holds the CA of the agent's certificate with its key", visible(.namespace))]
    NoCa { namespace: String },
    #[error("{} is there already, and differs from what it would become", visible(.what))]
    Differs { what: String },
    #[error("these rights are missing, and nothing was changed: {}", .rights.join(", "))]
    NoRight { rights: Vec<String>, command: String },
    #[error("the gateway can't be used: {}", visible(.why))]
    Gateway { why: String, hint: String },
    #[error("the namespace {} has the agent of plane {} already (planeID {}), and a namespace has one", visible(.namespace), visible(.plane), visible(.plane_id))]
    OtherAgent { namespace: String, plane: String, plane_id: String },
    #[error("cert-manager does not work in the build cluster: {}", visible(.why))]
    NoCertManager { why: String, command: String },
    #[error("Helm release {} in the namespace {} has already installed {}, which the agent's chart installs too: Helm would refuse a second one in this cluster", visible(.release), visible(.namespace), .what)]
    InstalledOnce { release: String, namespace: String, what: &'static str, command: String },
    #[error("the agent of planeID {} is in the namespace {} of this cluster", visible(.plane_id), visible(.namespace))]
    AgentElsewhere { plane_id: String, namespace: String },
    #[error("a rotation to {} is under way", .under_way)]
    OtherWay { under_way: &'static str },
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TimedOut { .. } => Some("run it again: it goes on from where it stands".into()),
            Self::OtherManager { .. } => Some(
                "name a folder for the manifest with --out-dir, or take the field over with --force-conflicts".into(),
            ),
            Self::StillNeeded { .. } => Some("run it again once that is over, or --rollback".into()),
            Self::Meddled { .. } => {
                Some("--rollback brings the Secret back to what it was; keep a copy of what it holds now".into())
            }
            Self::CertManager { command, .. } => Some(command.clone()),
            Self::Differs { .. } => Some("look at it, and add --force to replace it".into()),
            Self::Gateway { hint, .. } => Some(hint.clone()),
            Self::NoCa { .. } => {
                Some("give the CA with --ca-dir, or move to a new one with `choreoctl certs rotate`".into())
            }
            Self::OtherCa { .. } => {
                Some("give the CA that did, or move to a new one with `choreoctl certs rotate`".into())
            }
            Self::NoRight { command, .. } => {
                Some(format!("an administrator grants them to USER with\n{command}"))
            }
            Self::OtherAgent { .. } => Some("name another one with --build-namespace".into()),
            Self::NoCertManager { command, .. } => {
                Some(format!("start it, or choose --agent-certificate own: {command}"))
            }
            Self::InstalledOnce { command, .. } => {
                Some(format!("let the plane share the agent that is there, by its planeID: {command}"))
            }
            Self::AgentElsewhere { namespace, .. } => Some(format!("--build-namespace {}", shell_quoted(namespace))),
            Self::NoWayBack { .. } => Some("go forward instead: run it without --rollback".into()),
            Self::UnderWay { .. } => Some("finish it with `choreoctl certs rotate`, which makes a new certificate".into()),
            Self::OtherOwner { .. } => Some("renew it where that takes it from, or move to a Secret of your own with `choreoctl certs rotate --to own`".into()),
            Self::OtherWay { under_way } => Some(format!("finish it with --to {under_way}, or --rollback")),
            Self::Unwritable { .. } | Self::NotTrusted { .. } | Self::NoSecret(_) | Self::Pair { .. } => None,
        }
    }
}

/// A right that a plan needs: verb, API group, resource, and the namespace where it is of one.
type Right<'r> = (&'r Cluster, &'static str, &'static str, &'static str, Option<&'r str>);

/// Fails where rights that a verb needs are missing, and names all of them.
async fn demand(verb: &str, rights: &[Right<'_>]) -> Result<(), Error> {
    let asked =
        rights.iter().map(|(cluster, verb, group, resource, namespace)| cluster.may(verb, group, resource, *namespace));
    let answers = futures_util::future::join_all(asked).await;
    let missing: Vec<_> = rights.iter().zip(answers).filter(|(_, may)| !may).map(|(right, _)| right).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // By cluster, as each has roles of its own; with all that is needed, so that the roles stay when more is missing later.
    let mut by_cluster: Vec<(String, Vec<cluster::Right>)> = Vec::new();
    for (cluster, verb, group, resource, namespace) in rights {
        let kubectl = cluster.target().for_another("kubectl apply");
        let right = cluster::Right::new(verb, group, resource, *namespace);
        match by_cluster.iter_mut().find(|(known, _)| *known == kubectl) {
            Some((_, rights)) => rights.push(right),
            None => by_cluster.push((kubectl, vec![right])),
        }
    }
    let is_missing = |kubectl: &str| missing.iter().any(|(of, ..)| of.target().for_another("kubectl apply") == kubectl);
    by_cluster.retain(|(kubectl, _)| is_missing(kubectl));
    let role = format!("choreoctl-{verb}");
    let commands = by_cluster.iter().filter_map(|(kubectl, rights)| cluster::grant(&role, kubectl, rights.iter()));
    let command = commands.collect::<Vec<_>>().join("\n");
    let told = |(cluster, verb, _, resource, namespace): &Right<'_>| {
        let place = namespace.map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default();
        format!("{verb} {resource}{place} of {}", cluster.target().title())
    };
    Err(Error::NoRight { rights: missing.into_iter().map(told).collect(), command })
}

/// How often what is waited for is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Looks until something is there, and says what is waited for.
async fn until<T>(
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    loop {
        match look().await? {
            Ok(found) => return Ok(found),
            Err(waiting) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(Error::TimedOut { waiting }.into());
            }
            Err(waiting) => observer.wait(&waiting),
        }
        tokio::time::sleep(EVERY).await;
    }
}
