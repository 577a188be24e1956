//! The steps of a registration in their order, and what carries them out.

use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::decide::{self, Action, Write};
use super::facts::{Facts, fits};
use super::look::Run;
use super::wish::Bootstrap;
use crate::cluster::{self, Agent};
use crate::gateway::{API_PORT, count};
use crate::pki::{self, Bundle, LEAF_CERTIFICATE};
use crate::plan::clusters::Clusters;
use crate::plan::issuer::AgentCertificate;
use crate::plan::observer::{Observer, Status, until};
use crate::plane::{Plane, Scope, State};

/// A step: its name, what it sees to, and what it does.
struct Step {
    id: &'static str,
    about: &'static str,
    work: Work,
}

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

static STEPS: &[Step] = &[
    look("contexts", "both API servers answer", |run| Box::pin(run.contexts())),
    look("rights", "all required permissions are granted", |run| Box::pin(run.rights())),
    look("crd", "the control plane serves the kind", |run| Box::pin(run.crd())),
    look("gateway-ca", "the gateway's CA is in its Secret", |run| Box::pin(run.gateway_ca())),
    look("gateway", "the gateway answers, with a certificate for its name", |run| Box::pin(run.gateway())),
    look("cert-manager", "the plane's cluster has cert-manager", |run| Box::pin(run.cert_manager())),
    look("certificates", "a CA and the agent's certificate: created, or already there", |run| {
        Box::pin(run.certificates())
    }),
    write("namespace", "the agent's namespace", decide::namespace),
    write("server-ca", "the ConfigMap with the gateway's CA in the agent's namespace", decide::server_ca),
    write("agent-secret", "the Secret with the agent's certificate", decide::agent_secret),
    write("client-ca", "the Secret with the CA in the control plane", decide::client_ca),
    write("plane", "the plane", decide::plane),
    look("probe", "the gateway authorizes the agent's certificate", |run| Box::pin(run.probe())),
    caller("values", "Helm's values"),
    caller("helm", "the agent's chart"),
    caller("wait", "the agent is connected, and authorized for this plane"),
];

/// What came of it.
pub struct Made {
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

/// Registers a plane.
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
                let Action { status, reported, write } = decide(plan, &run.facts);
                if let Some(write) = write.filter(|_| plan.dry_run.sends()) {
                    carry_out(clusters, plan, write).await?;
                }
                match status {
                    Status::Done => run.done(&reported),
                    status => run.outcome(status, &reported),
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
        Write::NewSecret(side, name, kind, data) => {
            clusters.of(side).create_secret(&name, kind, data, dry_run).await.map(drop)
        }
        Write::Secret(side, there, data) => clusters.of(side).update_secret(there, data, dry_run).await.map(drop),
        Write::NewPlane(manifest) => control.create(&manifest, dry_run).await.map(drop),
        Write::Plane(manifest) => control.apply(&manifest, true, dry_run).await.map(drop),
    }
}

/// Whether an agent runs with these values already: as its Deployment says, and with a certificate that the plane trusts.
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
    let trusted = |held: Vec<_>| Bundle::from(made.ca.as_str()).verdict(&held, control.now()).is_authorized();
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
    let reported = until(deadline, observer, async || {
        looks += 1;
        let plane: Plane = control.plane(name).await?;
        let state = plane.state(control.now());
        if state != State::Connected {
            return Ok(Err(format!("{name} is {}, and the control plane reports changes once a minute", state.name())));
        }
        if plane.kind.scope == Scope::Namespaced {
            // Its status counts the agents that it authorizes itself.
            return Ok(Ok(format!("an agent is connected that {name} authorizes")));
        }
        let Some(url) = &plan.gateway_url else {
            return Ok(Ok("an agent of the planeID is connected".to_owned()));
        };
        let question = plan.question(url, &made.gateway_ca, None);
        Ok(match count(question, &plane.key(), API_PORT).await.ok().flatten().map(|counted| counted.connected_agents) {
            None => Ok("an agent of the planeID is connected; for which plane is not known: the gateway's API can't be asked from here".to_owned()),
            Some(0) => Err(format!("an agent of the planeID is connected, and none that {name} authorizes")),
            Some(agents) => Ok(format!("connected, and the gateway counts {agents} for {name}")),
        })
    })
    .await?;
    observer.outcome("wait", if looks > 1 { Status::Done } else { Status::Found }, &reported);
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::plan::error::Error;
    use crate::plan::fixtures::{
        BUILD, CONTROL, Estate, Reports, config_map, deployment, leaf, namespace, pair_secret, plane_object,
        registration, root, secret,
    };
    use crate::plan::issuer::Issuer;
    use crate::plane::{DEFAULT_KIND, DryRun, Release};

    /// A control plane with the gateway's CA, and a plane's cluster.
    fn estate(build: Vec<Value>) -> Estate {
        let crd: Value = serde_yaml::from_str(&DEFAULT_KIND.crd(Release::V0).unwrap()).unwrap();
        let gateway = root("gateway-ca", Timestamp::now()).certificate;
        let at = Estate::of([crd, secret(CONTROL, "cluster-gateway-ca", &[("ca.crt", &gateway)])], build);
        let missing =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        at.build.answer("GET /apis/cert-manager.io/v1", 404, missing);
        at
    }

    async fn run(at: &Estate, plan: &Bootstrap, reported: &mut Reports) -> anyhow::Result<Made> {
        bootstrap(at.clusters(), plan, reported).await
    }

    #[test]
    fn the_steps_have_names_and_words() {
        let words: Vec<_> = STEPS.iter().map(|step| format!("{}: {}", step.id, step.about)).collect();
        snapbox::assert_data_eq!(
            words.join("\n"),
            snapbox::str![[r#"
contexts: both API servers answer
rights: all required permissions are granted
crd: the control plane serves the kind
gateway-ca: the gateway's CA is in its Secret
gateway: the gateway answers, with a certificate for its name
cert-manager: the plane's cluster has cert-manager
certificates: a CA and the agent's certificate: created, or already there
namespace: the agent's namespace
server-ca: the ConfigMap with the gateway's CA in the agent's namespace
agent-secret: the Secret with the agent's certificate
client-ca: the Secret with the CA in the control plane
plane: the plane
probe: the gateway authorizes the agent's certificate
values: Helm's values
helm: the agent's chart
wait: the agent is connected, and authorized for this plane
"#]]
        );
    }

    #[tokio::test]
    async fn a_registration_goes_through_all_steps_and_a_rerun_writes_nothing() {
        let at = estate(vec![]);
        for dry_run in [DryRun::Client, DryRun::Server] {
            let mut reported = Reports::default();
            run(&at, &Bootstrap { dry_run, ..registration() }, &mut reported).await.unwrap();
            assert!(
                reported.says("agent-secret", &format!("own-tls created{}", dry_run.suffix())),
                "{:?}",
                reported.steps
            );
            assert_eq!(at.writes(), 0, "{dry_run:?}");
        }
        let mut reported = Reports::default();
        let made = run(&at, &registration(), &mut reported).await.unwrap();
        let begun: Vec<_> = reported.begun.iter().map(|(step, _)| *step).collect();
        assert_eq!(begun, STEPS[..13].iter().map(|step| step.id).collect::<Vec<_>>());
        let (found, done, skipped) = (Status::Found, Status::Done, Status::Skipped);
        let expected = [found, found, found, found, skipped, skipped, done, done, done, done, skipped, done, skipped];
        assert_eq!(reported.outcomes(), begun.into_iter().zip(expected).collect::<Vec<_>>());
        assert_eq!(reported.kept, std::slice::from_ref(&made.ca));
        assert_eq!(
            at.control.object("clusterbuildplanes/p").unwrap()["spec"]["clusterAgent"]["clientCA"]["value"],
            made.ca
        );
        let writes = at.writes();
        let mut reported = Reports::default();
        run(&at, &registration(), &mut reported).await.unwrap();
        assert!(reported.steps.iter().all(|(_, status, _)| *status != Status::Done), "{:?}", reported.steps);
        assert_eq!(at.writes(), writes);
    }

    #[tokio::test]
    async fn a_ca_for_cert_manager_and_one_beside_the_gateway_are_written_to_their_secrets() {
        let at = estate(vec![namespace(BUILD)]);
        at.build.answer("GET /apis/cert-manager.io/v1", 200, json!({"kind": "APIResourceList"}));
        at.build.answer("POST /apis/cert-manager.io/v1", 201, json!({}));
        let plan = Bootstrap { ca_in: crate::plan::bootstrap::wish::CaIn::Secret, ..registration() };
        let mut reported = Reports::default();
        run(&at, &plan, &mut reported).await.unwrap();
        assert!(reported.says("cert-manager", "its controller was not found, but its webhook accepts an Issuer"));
        assert!(at.build.object("secrets/id-agent-ca").is_some());
        assert!(at.control.object("secrets/p-client-ca").is_some());
        // Its webhook is down.
        at.build.answer(
            "POST /apis/cert-manager.io/v1",
            500,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no webhook", "reason": "InternalError", "code": 500}),
        );
        let certificate = Some(AgentCertificate::Issued(Issuer::CertManager));
        let plan = Bootstrap { certificate, ..plan };
        let outcome = run(&at, &plan, &mut Reports::default()).await;
        assert!(
            matches!(outcome.err().unwrap().downcast_ref(), Some(Error::NoCertManager { .. })),
            "a broken one is refused"
        );
    }

    #[tokio::test]
    async fn what_differs_is_replaced_only_with_a_yes() {
        let now = Timestamp::now();
        let other = root("other", now).certificate;
        let differing = || {
            let at = estate(vec![namespace(BUILD), config_map(&other)]);
            at.control.put(plane_object("p", "id", &other, now));
            at
        };
        let at = differing();
        let mut reported = Reports::default();
        let plan = Bootstrap { values: Some(("values.yaml".into(), Some("mine: 1\n".into()))), ..registration() };
        let error = run(&at, &plan, &mut reported).await.err().unwrap();
        assert!(matches!(error.downcast_ref(), Some(Error::Differs { .. })));
        assert_eq!((at.writes(), reported.kept.len()), (0, 0), "all questions come before the first write");
        let mut reported = Reports { agrees: true, ..Reports::default() };
        run(&at, &plan, &mut reported).await.unwrap();
        assert_eq!(reported.asked, ["ConfigMap builders/cluster-gateway-ca", "the plane p", "values.yaml"]);
        assert!(reported.says("plane", "p configured") && reported.says("server-ca", "holds the gateway's CA"));
        let mut reported = Reports::default();
        run(&differing(), &Bootstrap { force: true, ..registration() }, &mut reported).await.unwrap();
        assert_eq!(reported.asked.len(), 0, "--force asks nothing");
    }

    #[tokio::test]
    async fn an_existing_agent_is_taken_over() {
        let now = Timestamp::now();
        let ca = root("ca", now);
        let pair = leaf("id", &ca, now);
        let at = estate(vec![
            namespace(BUILD),
            deployment(BUILD, "agent", "id", "held"),
            pair_secret("held", &pair, &ca.certificate),
        ]);
        let plan = Bootstrap { certificate: Some(AgentCertificate::Existing), ..registration() };
        let mut reported = Reports::default();
        let made = run(&at, &plan, &mut reported).await.unwrap();
        assert!(reported.says("certificates", "Secret builders/held holds them"));
        assert_eq!(made.release.as_deref(), Some("release"));
        assert_eq!(made.values["clusterAgent"]["name"], "agent");
        assert!(installed(at.clusters(), &plan, &made, "1").await.unwrap());
        let elsewhere = Bootstrap { build_namespace: "elsewhere".into(), ..registration() };
        let error = run(&at, &elsewhere, &mut Reports::default()).await.err().unwrap();
        assert!(matches!(error.downcast_ref(), Some(Error::AgentElsewhere { .. })));
        assert!(at.build.object("deployments/agent").is_some());
    }

    #[tokio::test]
    async fn nothing_is_written_without_the_rights() {
        let at = estate(vec![]);
        let denied = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {}, "status": {"allowed": false}});
        at.build.answer("POST /apis/authorization.k8s.io", 201, denied);
        let error = run(&at, &registration(), &mut Reports::default()).await.err().unwrap();
        let Some(Error::NoRight { rights, command }) = error.downcast_ref() else {
            panic!("{error}");
        };
        assert!(rights.iter().all(|right| !right.contains("clusterbuildplanes")), "{rights:?}");
        assert!(command.contains("kind: ClusterRole") && command.contains("choreoctl-bootstrap"), "{command}");
        assert_eq!(at.writes(), 0);
    }

    #[tokio::test]
    async fn a_connected_agent_ends_the_wait_and_time_does_otherwise() {
        let now = Timestamp::now();
        let at = estate(vec![]);
        let mut plan = registration();
        let made = run(&at, &plan, &mut Reports::default()).await.unwrap();
        let wait = async |plan: &Bootstrap, reported: &mut Reports| {
            authorized(at.clusters(), plan, &made, Some(Instant::now()), reported).await
        };
        let error = wait(&plan, &mut Reports::default()).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::TimedOut { waiting }) if waiting.starts_with("p is ")));
        at.control.put(plane_object("p", "id", &made.ca, now));
        let mut reported = Reports::default();
        wait(&plan, &mut reported).await.unwrap();
        assert_eq!(reported.steps, [("wait", Status::Found, "an agent of the planeID is connected".to_owned())]);
        plan.gateway_url = Some(crate::gateway::GatewayUrl::of_agent("wss://localhost:1/ws").unwrap());
        let mut reported = Reports::default();
        wait(&plan, &mut reported).await.unwrap();
        assert!(reported.says("wait", "for which plane is not known"));
    }
}
