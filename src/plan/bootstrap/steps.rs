//! The steps of a registration in their order, and what carries them out.

use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::decide::{self, Action, Write};
use super::facts::Facts;
use super::look::Run;
use super::values::fits;
use super::wish::Bootstrap;
use crate::cluster::{self, Agent};
use crate::gateway::count;
use crate::pki::{self, LEAF_CERTIFICATE, Verdict};
use crate::plan::clusters::Clusters;
use crate::plan::issuer::AgentCertificate;
use crate::plan::observer::{Observer, Status, until};
use crate::plane::{Plane, State};

/// A step: its name, what it sees to, and what it does.
struct Step {
    id: &'static str,
    about: &'static str,
    work: Work,
}

/// What a step does.
enum Work {
    /// It looks, adds to the facts and reports them.
    Look(Look),
    /// It writes what is decided by the facts.
    Write(Decide),
    /// It is the caller's, who has the files and Helm.
    Caller,
}

type Look = for<'a> fn(&'a mut Run<'_>) -> LocalBoxFuture<'a, anyhow::Result<()>>;
type Decide = for<'f> fn(&Bootstrap, &'f Facts) -> Action<'f>;

const fn look(id: &'static str, about: &'static str, look: Look) -> Step {
    Step { id, about, work: Work::Look(look) }
}

const fn write(id: &'static str, about: &'static str, decide: Decide) -> Step {
    Step { id, about, work: Work::Write(decide) }
}

const fn caller(id: &'static str, about: &'static str) -> Step {
    Step { id, about, work: Work::Caller }
}

/// The steps in their order.
static STEPS: &[Step] = &[
    look("contexts", "both clusters answer, and are two", |run| Box::pin(run.contexts())),
    look("rights", "all that it takes is allowed", |run| Box::pin(run.rights())),
    look("crd", "the control plane serves the kind", |run| Box::pin(run.crd())),
    look("gateway-ca", "the gateway's CA is in its Secret", |run| Box::pin(run.gateway_ca())),
    look("gateway", "the gateway answers, with a certificate for its name", |run| Box::pin(run.gateway())),
    look("cert-manager", "the build cluster has what the chart needs", |run| Box::pin(run.cert_manager())),
    look("certificates", "a CA and the agent's certificate: made, or taken over", |run| Box::pin(run.certificates())),
    write("namespace", "the agent's namespace", decide::namespace),
    write("server-ca", "the ConfigMap with the gateway's CA beside the agent", decide::server_ca),
    write("agent-secret", "the Secret beside the agent", decide::agent_secret),
    write("client-ca", "the CA beside the gateway, where it isn't in the plane", decide::client_ca),
    write("plane", "the plane", decide::plane),
    look("probe", "the gateway authorizes the agent's certificate", |run| Box::pin(run.probe())),
    caller("values", "Helm's values"),
    caller("helm", "the agent's chart"),
    caller("wait", "the agent is connected, and authorized for this plane"),
];

/// What came of it.
pub struct Made {
    /// Helm's values for the agent.
    pub values: Value,
    /// The Helm release of an existing agent.
    pub release: Option<String>,
    /// The CA that the plane trusts, in PEM.
    ca: String,
    /// What the agent verifies the gateway against, in PEM.
    gateway_ca: String,
}

/// Begins a step of the caller.
pub fn begin(step: &'static str, observer: &mut dyn Observer) {
    if let Some(step) = STEPS.iter().find(|known| known.id == step) {
        observer.begin(step.id, step.about);
    }
}

/// Registers a build cluster.
///
/// # Errors
/// [`Error`](crate::plan::Error), and those of the clusters; what was written is right, and a rerun continues.
pub async fn bootstrap(clusters: Clusters<'_>, plan: &Bootstrap, observer: &mut dyn Observer) -> anyhow::Result<Made> {
    let mut run = Run { clusters, plan, facts: Facts::default(), from: AgentCertificate::Existing, step: "", observer };
    for step in STEPS {
        match step.work {
            Work::Caller => break,
            Work::Look(look) => look(run.begin(step.id, step.about)).await?,
            Work::Write(decide) => {
                run.begin(step.id, step.about);
                let Action { status, told, write } = decide(plan, &run.facts);
                if let Some(write) = write.filter(|_| plan.dry_run.sends()) {
                    carry_out(clusters, plan, write).await?;
                }
                match status {
                    Status::Done => run.done(&told),
                    status => run.tell(status, &told),
                }
            }
        }
    }
    let Facts { values, agent, certificates, gateway_ca, .. } = run.facts;
    Ok(Made { values, release: agent.and_then(|agent| agent.release), ca: certificates.ca, gateway_ca })
}

async fn carry_out(clusters: Clusters<'_>, plan: &Bootstrap, write: Write<'_>) -> Result<(), cluster::Error> {
    let (Clusters { control, build }, dry_run) = (clusters, plan.dry_run);
    match write {
        Write::Object(path, object) => build.create_object(&path, &object, dry_run).await.map(drop),
        Write::Fields(path, fields) => build.merge_object(&path, &fields, dry_run).await.map(drop),
        Write::NewSecret { side, name, kind, data } => {
            clusters.of(side).create_secret(&name, kind, data, dry_run).await.map(drop)
        }
        Write::Secret { side, there, data } => clusters.of(side).update_secret(there, data, dry_run).await.map(drop),
        Write::NewPlane(manifest) => control.create(&manifest, dry_run).await.map(drop),
        Write::Plane(manifest) => control.apply(&manifest, true, dry_run).await.map(drop),
    }
}

/// Whether an agent runs with these values already: as its Deployment says, and with a certificate that the plane trusts.
///
/// # Errors
/// Those of the build cluster.
pub async fn installed(
    Clusters { control, build }: Clusters<'_>,
    plan: &Bootstrap,
    made: &Made,
    version: &str,
) -> Result<bool, cluster::Error> {
    let agents = build.agents(&plan.build_namespace).await?;
    let Some(name) = agents.iter().find(|agent| fits(plan, agent, &made.values, version)).and_then(Agent::pair) else {
        return Ok(false);
    };
    let presented = build.secret(&name).await?.map(|secret| pki::certificates(&secret.text(LEAF_CERTIFICATE)));
    let trusted = |held: Vec<_>| matches!(pki::verify(&held, &made.ca, control.now()), Verdict::Authorized { .. });
    Ok(presented.is_some_and(trusted))
}

/// Waits until the agent is connected, and authorized for this very plane.
///
/// # Errors
/// [`Error::TimedOut`](crate::plan::Error::TimedOut), and those of the clusters.
pub async fn authorized(
    Clusters { control, .. }: Clusters<'_>,
    plan: &Bootstrap,
    made: &Made,
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    begin("wait", observer);
    let name = plan.plane.name();
    let mut looks = 0;
    let told = until(deadline, observer, async || {
        looks += 1;
        let plane: Plane = control.plane(name).await?;
        let state = plane.state(control.now());
        if state != State::Connected {
            return Ok(Err(format!("{name} is {}, and the control plane tells of it once a minute", state.name())));
        }
        let Some(url) = &plan.gateway_url else {
            return Ok(Ok("an agent of the planeID is connected".to_owned()));
        };
        let question = plan.question(url, &made.gateway_ca, None);
        Ok(match count(question, name).await.ok().flatten().map(|counted| counted.connected_agents) {
            None => Ok("an agent of the planeID is connected; the gateway doesn't tell for which plane".to_owned()),
            Some(0) => Err(format!("an agent of the planeID is connected, and none that {name} lets in")),
            Some(agents) => Ok(format!("connected, and the gateway counts {agents} for {name}")),
        })
    })
    .await?;
    observer.tell("wait", if looks > 1 { Status::Done } else { Status::Found }, &told);
    Ok(())
}
