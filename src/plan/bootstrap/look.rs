//! What the steps of a registration look at: both clusters, and the gateway.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::certificates::{Certificates, foreign};
use super::decide::{self, CertManager, Difference, Question};
use super::facts::{Facts, Namespace, Observability, change, values};
use super::wish::{Bootstrap, CHART_SECRET, CaIn, Given};
use crate::cluster::{self, Agent, comparable, labelled};
use crate::estate::{self, client_cas};
use crate::gateway::{Answer, GatewayUrl, Identity, PlaneTypes, ProbeError, Reply, plane_types, probe};
use crate::manifest::to_yaml;
use crate::pki::{self, Bundle, KeyAlgorithm, PrivateKey};
use crate::plan::clusters::Clusters;
use crate::plan::error::Error;
use crate::plan::issuer::{AgentCertificate, Issuer};
use crate::plan::observer::{Observer, Status};
use crate::plane::{CA_KEY, CaSecret, DryRun, GATEWAY_CA, Kind, NamespacedName, Plane, Span};
use crate::secrets::redacted;
use crate::text::{shell_quoted, visible};

/// A CRD of Argo Workflows, which the chart brings along.
const ARGO_CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/workflows.argoproj.io";

/// A run over the steps.
pub struct Run<'r> {
    pub clusters: Clusters<'r>,
    pub plan: &'r Bootstrap,
    pub facts: Facts,
    /// Where the agent's certificate comes from.
    pub from: AgentCertificate,
    pub step: &'static str,
    pub observer: &'r mut dyn Observer,
}

impl Run<'_> {
    pub fn begin(&mut self, step: &'static str, about: &str) -> &mut Self {
        self.step = step;
        self.observer.begin(step, about);
        self
    }

    pub fn outcome(&mut self, status: Status, reported: &str) {
        self.observer.outcome(self.step, status, reported);
    }

    /// Reports what was done, or would be.
    pub fn done(&mut self, reported: &str) {
        self.outcome(Status::Done, &format!("{reported}{}", self.plan.dry_run.suffix()));
    }

    pub async fn contexts(&mut self) -> anyhow::Result<()> {
        let Clusters { control, build } = self.clusters;
        let (one, other) = tokio::join!(control.version(), build.version());
        let reported = format!("control plane: Kubernetes {}, plane's cluster: Kubernetes {}", one?, other?);
        let (one, other) = tokio::join!(control.identity(), build.identity());
        let same = if one.is_some() && one == other { "; both are the same cluster" } else { "" };
        self.outcome(Status::Found, &format!("{reported}{same}"));
        Ok(())
    }

    /// Whether all that may be done is allowed; and whether the agent's namespace is to be made.
    pub async fn rights(&mut self) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{}", self.plan.build_namespace);
        self.facts.namespace = match self.clusters.build.object_if_any(&path).await {
            Ok(None) => Namespace::New,
            // That it is forbidden is reported with the other rights.
            Ok(Some(_)) | Err(cluster::Error::Forbidden { .. }) => Namespace::Exists,
            Err(error) => return Err(error.into()),
        };
        if let Some(namespace) = &self.plan.plane.metadata.namespace {
            let path = format!("/api/v1/namespaces/{namespace}");
            if let Ok(None) = self.clusters.control.object_if_any(&path).await {
                let command = format!("kubectl create namespace {}", shell_quoted(namespace));
                let command = self.clusters.control.target().command(&command);
                return Err(Error::NoNamespace { namespace: namespace.clone(), command }.into());
            }
        }
        self.clusters.demand("bootstrap", &decide::rights(self.plan, self.facts.namespace)).await?;
        self.outcome(Status::Found, "all required permissions are granted");
        Ok(())
    }

    /// Whether the kind is served, and how its CRD names observability planes.
    pub async fn crd(&mut self) -> anyhow::Result<()> {
        let control = self.clusters.control;
        // A missing kind is an error of its own.
        control.plane_if_any::<Plane>(self.plan.plane.name()).await?;
        self.facts.observability = match control.served().await {
            Ok(served) if served.observability_by_name => Observability::ByName,
            // It takes a right of its own to read it.
            Ok(_) | Err(cluster::Error::Forbidden { .. }) => Observability::ByReference,
            Err(error) => return Err(error.into()),
        };
        let kind = self.plan.plane.kind.kind;
        let reported = match self.facts.observability {
            Observability::ByName => {
                format!("the control plane serves the {kind} of v0.14, whose gateway authorizes no agent through one")
            }
            Observability::ByReference => format!("the control plane serves {kind}"),
        };
        self.outcome(Status::Found, &reported);
        Ok(())
    }

    /// The gateway's CA out of its Secret: the ConfigMap of that name is a placeholder.
    pub async fn gateway_ca(&mut self) -> anyhow::Result<()> {
        let name = NamespacedName { namespace: self.plan.control_namespace.clone(), name: GATEWAY_CA.into() };
        let bytes = self.clusters.control.secret_keys(&name, &[CA_KEY]).await?.concat();
        let bundle = Bundle::normalized(&bytes).with_context(|| format!("Secret {name} can't be used"))?;
        self.facts.gateway_ca = bundle.pem().to_owned();
        self.outcome(Status::Found, &format!("Secret {name} holds the gateway's CA"));
        Ok(())
    }

    pub async fn gateway(&mut self) -> anyhow::Result<()> {
        let Some(url) = &self.plan.gateway_url else {
            self.outcome(Status::Skipped, "no --gateway-url is given: the gateway was not contacted");
            return Ok(());
        };
        match plane_types(url, &self.facts.gateway_ca, self.plan.limit).await {
            Ok(Some(types)) if !types.knows(self.plan.plane.kind.family.plane_type) => {
                Err(of_other_release(self.plan.plane.kind, &types).into())
            }
            Ok(_) | Err(ProbeError::Dropped(_)) => {
                let url = url.to_string();
                self.outcome(Status::Found, &format!("{} answers, with a valid certificate", visible(&url)));
                Ok(())
            }
            Err(error) => Err(unusable(url, &error).into()),
        }
    }

    /// Whether cert-manager works, where the agent's certificate comes from, and whether the agent can be there.
    pub async fn cert_manager(&mut self) -> anyhow::Result<()> {
        let (plan, Clusters { control, build }) = (self.plan, self.clusters);
        let manager = self.manager().await;
        let (status, reported) = manager.reported();
        self.outcome(status, &reported);
        self.facts.agent = self.agent().await?;
        self.facts.current = self.current().await;
        let secrets = if plan.certificate.is_none() && plan.given.is_none() {
            let (own, ca) = (plan.secret_of(Issuer::Own), plan.secret_of(Issuer::CertManager));
            tokio::try_join!(build.secret(&own), build.secret(&ca))?
        } else {
            (None, None)
        };
        self.from = match (&self.facts.current, plan.certificate, &plan.given) {
            (Some((issuer, _)), None, None) => AgentCertificate::Issued(*issuer),
            _ => decide::certificate(plan, &manager, secrets.0.as_ref(), secrets.1.as_ref(), control.now()),
        };
        if let (CertManager::Broken(why), AgentCertificate::Issued(Issuer::CertManager)) = (manager, self.from) {
            let command = build.target().command("kubectl get deployments -A -l app.kubernetes.io/name=cert-manager");
            return Err(Error::NoCertManager { why, command }.into());
        }
        self.facts.agent_name = self.agent_name().await?;
        Ok(())
    }

    /// Who issues the certificate of an existing agent, and the Secret that holds it, or its CA, where a registration or a
    /// rotation made that. A Secret that can't be read is reported where it is needed.
    async fn current(&self) -> Option<(Issuer, String)> {
        let (plan, Clusters { control, build }) = (self.plan, self.clusters);
        let name = self.facts.agent.as_ref()?.pair()?;
        let secret = build.secret(&name).await.ok()??;
        if secret.certificate().is_some() {
            let ca = estate::issuance(build, &name).await.ok()??.ca_secret?;
            let is_made = ca.starts_with(&plan.secret_of(Issuer::CertManager).name);
            return is_made.then_some((Issuer::CertManager, ca));
        }
        let is_ours = name.name != CHART_SECRET && foreign(plan.plane.plane_id(), &secret, control.now()).is_none();
        is_ours.then_some((Issuer::Own, name.name))
    }

    /// Whether cert-manager works, beyond its CRDs: its controller is available, or its webhook at least admits an Issuer.
    async fn manager(&self) -> CertManager {
        let build = self.clusters.build;
        if !matches!(build.object_if_any("/apis/cert-manager.io/v1").await, Ok(Some(_))) {
            return CertManager::Missing;
        }
        let controllers = "app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller";
        let list = build.object(&labelled("/apis/apps/v1/deployments", controllers)).await.unwrap_or_default();
        let controllers = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(judged) = CertManager::of_controllers(controllers) {
            return judged;
        }
        let issuer = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "Issuer",
            "metadata": {"generateName": "choreoctl-"},
            "spec": {"selfSigned": {}},
        });
        let issuers = "/apis/cert-manager.io/v1/namespaces/default/issuers";
        match build.create_object(issuers, &issuer, DryRun::Server).await {
            // A webhook that is down.
            Err(cluster::Error::Refused { message, .. }) => CertManager::Broken(message),
            Ok(_) => CertManager::Works("; its controller was not found, but its webhook accepts an Issuer"),
            Err(_) => CertManager::Works("; whether its controller runs is unknown"),
        }
    }

    async fn agent(&self) -> anyhow::Result<Option<Agent>> {
        let agents = match self.clusters.build.agents(&self.plan.build_namespace).await {
            Err(cluster::Error::Forbidden { .. })
                if self.plan.certificate != Some(AgentCertificate::Existing)
                    && self.plan.given.is_none()
                    && !self.plan.install =>
            {
                return Ok(None);
            }
            agents => agents?,
        };
        match decide::agent(self.plan, agents) {
            Ok(agent) => Ok(Some(agent)),
            Err(None) => Ok(None),
            Err(Some(other)) => {
                // Who may not list planes knows of none.
                let planes = self.clusters.control.family().await.unwrap_or_default().planes;
                decide::refuse_agent_of(self.plan, &other, &planes)?;
                Ok(None)
            }
        }
    }

    /// What the chart is to call the agent, where that is another name than its default.
    async fn agent_name(&self) -> anyhow::Result<Option<String>> {
        let Clusters { control, build } = self.clusters;
        if let Some(agent) = &self.facts.agent {
            return Ok(Some(agent.name.name.clone()).filter(|name| *name != self.plan.plane.kind.family.agent()));
        }
        let agents = match build.all_agents().await {
            // Helm says those who may not look.
            Err(cluster::Error::Forbidden { .. }) => return Ok(None),
            agents => agents?,
        };
        let argo = build.object_if_any(ARGO_CRD).await.ok().flatten();
        Ok(decide::agent_name(self.plan, &agents, argo.as_ref(), control.target())?)
    }

    /// Finds or makes the certificates, and asks all questions before the first write.
    pub async fn certificates(&mut self) -> anyhow::Result<()> {
        let (plan, Clusters { control, build }) = (self.plan, self.clusters);
        self.facts.certificates = match self.from {
            AgentCertificate::Issued(issuer) => {
                let stored = build.secret(&self.facts.secret_of(plan, issuer)).await?;
                Certificates::issued(plan, issuer, stored, control.now())?
            }
            AgentCertificate::Existing => {
                let mounted = self.facts.agent.as_ref().and_then(Agent::pair);
                let stored = build.existing_secret(&mounted.unwrap_or_else(|| plan.beside(CHART_SECRET))).await?;
                Certificates::existing(plan, &stored, self.given().await?)?
            }
        };
        if self.facts.certificates.new.is_none() {
            let reported = self.facts.certificates.reported.clone();
            self.outcome(Status::Found, &reported);
        }
        self.facts.certificates.check(plan.plane.name(), control.now())?;
        self.facts.values = values(plan, self.from, &self.facts);
        self.objects().await?;
        let mut is_asked = false;
        for Difference { what, before, after } in self.differences().await? {
            is_asked = true;
            if !plan.force && !self.observer.replaces(&what, &before, &after)? {
                return Err(Error::Differs { what }.into());
            }
        }
        if is_asked {
            // The answers may have taken their time.
            self.objects().await?;
        }
        self.keep()
    }

    /// The CA that was brought along.
    async fn given(&self) -> anyhow::Result<Option<String>> {
        Ok(match &self.plan.given {
            None => None,
            Some(Given::Value(text)) => Some(text.clone()),
            Some(Given::Secret(CaSecret { secret, key })) => {
                let bytes = self.clusters.control.secret_keys(secret, &[key]).await?.concat();
                Some(Bundle::normalized(&bytes)?.pem().to_owned())
            }
        })
    }

    /// The objects that may be there already.
    async fn objects(&mut self) -> anyhow::Result<()> {
        let (plan, facts, Clusters { control, build }) = (self.plan, &mut self.facts, self.clusters);
        let server_ca = build.object_if_any(&decide::server_ca_path(plan).0).await?;
        facts.server_ca = server_ca.map(|there| there["data"][CA_KEY].as_str().unwrap_or_default().to_owned());
        facts.plane = control.plane_if_any::<Plane>(plan.plane.name()).await?;
        let cas = client_cas(control, facts.plane.as_slice()).await;
        facts.plane_ca = cas.into_iter().next().and_then(|ca| ca.text().ok().map(str::to_owned));
        facts.client_ca = match plan.ca_in {
            CaIn::Secret if plan.given.is_none() && facts.trusting().is_none() => {
                control.secret(&plan.client_ca_secret()).await?
            }
            _ => None,
        };
        Ok(())
    }

    /// What exists and would be replaced: also the plane, as the API server would have it, and Helm's values.
    async fn differences(&self) -> anyhow::Result<Vec<Difference>> {
        let (plan, control) = (self.plan, self.clusters.control);
        let mut differences = decide::differences(plan, &self.facts, control.now());
        if let Some(manifest) = change(plan, &self.facts) {
            let predicted = control.apply(&manifest, true, DryRun::Server).await?;
            let shown = |object: &Value| to_yaml(&comparable(object)).map(|text| redacted(&text).into_owned());
            let before = predicted.before.as_ref().map(shown).transpose()?.unwrap_or_default();
            let (what, after) = (format!("the plane {}", plan.plane.key()), shown(&predicted.after)?);
            differences.push(Difference { what, before, after });
        }
        if let Some((what, Some(before))) = plan.values.clone() {
            let after = to_yaml(&self.facts.values)?;
            differences.extend((before != after).then_some(Difference { what, before, after }));
        }
        Ok(differences)
    }

    /// Keeps a CA that was made, and reports it.
    fn keep(&mut self) -> anyhow::Result<()> {
        let Certificates { new: Some(new), pair, reported, .. } = &self.facts.certificates else {
            return Ok(());
        };
        let mut reported = reported.clone();
        if let Some(ca) = &new.ca
            && !self.observer.keep(ca, self.plan.dry_run)?
            && pair.is_some()
        {
            reported
                .push_str("; without --out-dir the CA's key is not saved: the next certificate needs `certs rotate`");
        }
        self.done(&reported);
        Ok(())
    }

    /// What the gateway says to the agent's certificate; for cert-manager to one like those that it will issue.
    pub async fn probe(&mut self) -> anyhow::Result<()> {
        let (plan, control) = (self.plan, self.clusters.control);
        let (url, pair) = match decide::question(plan, &self.facts.certificates) {
            Question::None(why) => {
                self.outcome(Status::Skipped, &why);
                return Ok(());
            }
            Question::Pair(url, pair) => (url, pair.clone()),
            Question::IssuedBy(url, authority) => {
                let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
                let hour = Span::from_seconds(3600);
                let leaf = pki::client(plan.plane.plane_id(), authority, key, hour, control.now())?.pair;
                (url, leaf.into())
            }
        };
        let (presented, key) = (pki::certificates(&pair.certificate), PrivateKey::from_pem(&pair.key)?);
        let identity = Identity { presented, key };
        let why = match probe(plan.question(url, &self.facts.gateway_ca, Some(identity))).await {
            Ok(Reply { answer: Answer::Authorized, .. }) => {
                self.outcome(Status::Found, "the gateway authorizes the agent's certificate");
                return Ok(());
            }
            Ok(reply) => reply.answer.to_string(),
            Err(error) => error.to_string(),
        };
        let hint = control.target().command(&format!("choreoctl doctor {}", plan.plane.key().words()));
        Err(Error::Gateway { why, hint }.into())
    }
}

/// Why planes of a kind can't be registered at a gateway that doesn't know their type, with what helps.
fn of_other_release(kind: &Kind, types: &PlaneTypes) -> Error {
    let renamed = types.release().and_then(|release| kind.in_release(release));
    let hint = match renamed {
        Some(renamed) => format!("register a {}, which is the kind's name in this release", renamed.kind),
        None => format!("is this the gateway of a control plane that has {}s?", kind.kind),
    };
    Error::Gateway { why: format!("it is a gateway of {types}, which has no kind {}", kind.kind), hint }
}

/// Why the gateway can't be used, with what helps.
fn unusable(url: &GatewayUrl, error: &ProbeError) -> Error {
    let hint = match error {
        ProbeError::Expired(_) => "restart the gateway: it reads its certificate only when it starts".into(),
        ProbeError::WrongName { host, .. } if host.parse::<std::net::IpAddr>().is_ok() => {
            "use a host name: the chart can't put an address into the gateway's certificate".into()
        }
        ProbeError::WrongName { host, .. } => {
            format!("add {} to clusterGateway.tls.dnsNames, and restart the gateway", visible(host))
        }
        _ => format!("is {} right?", visible(&url.to_string())),
    };
    Error::Gateway { why: error.to_string(), hint }
}
