//! Registering a build cluster: certificates, what the agent's cluster needs, the plane, the gateway's word, Helm's values.
//! Each step looks first, so that a rerun writes nothing that is right and goes on where a run was cut off.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::agent::{pair_data, pair_of};
use super::{Error, Observer, Status};
use crate::cluster::Cluster;
use crate::doctor::GATEWAY_CA;
use crate::gateway::{Answer, GatewayUrl, Identity, ProbeError, Question, probe};
use crate::manifest::to_yaml;
use crate::pki::{
    self, Authority, CA_CERTIFICATE, Certificate, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey, Verdict,
};
use crate::plane::{CA_KEY, CLUSTER_BUILD_PLANE, NamespacedName, Plane, Span};
use crate::term::visible;

/// The Secret of an agent's own pair: another one than the chart's cert-manager writes.
const OWN_SECRET: &str = "cluster-agent-own-tls";
/// The Secret that the chart's cert-manager writes.
const CHART_SECRET: &str = "cluster-agent-tls";
/// How long what is made is valid.
const CA_VALID_FOR: Span = Span::from_seconds(5 * 365 * 86_400);
const VALID_FOR: Span = Span::from_seconds(365 * 86_400);

/// Who issues the agent's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Issuer {
    /// choreoctl, into a Secret of the operator's
    Own,
    /// cert-manager, from a CA that is made here
    CertManager,
    /// Whoever did: the certificate in the build cluster is taken over
    Existing,
}

/// Where the plane has its CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CaIn {
    /// In the plane itself
    #[default]
    Value,
    /// In a Secret beside the gateway
    Secret,
}

/// What is to be registered, and where.
pub struct Bootstrap {
    pub control: Cluster,
    pub control_namespace: String,
    pub build: Cluster,
    pub build_namespace: String,
    /// The plane without its CA.
    pub plane: Plane,
    /// As the build cluster suggests, unless given.
    pub issuer: Option<Issuer>,
    pub ca_in: CaIn,
    pub gateway_url: Option<GatewayUrl>,
    pub key_algorithm: KeyAlgorithm,
    /// A CA that is at hand with its key.
    pub authority: Option<Authority>,
    /// Whether what is there and differs is replaced.
    pub force: bool,
    /// Longest time for the gateway's answer.
    pub limit: Duration,
}

/// What came of it.
pub struct Files {
    /// Helm's values for the agent, as YAML.
    pub values: String,
    /// A CA that was made, with its key.
    pub ca: Option<(String, zeroize::Zeroizing<String>)>,
    /// An agent's pair that was made.
    pub pair: Option<(String, zeroize::Zeroizing<String>)>,
    /// The plane as it was written.
    pub plane: Value,
}

/// What the agent is to present, and the CA that the plane is to trust.
struct Certificates {
    ca: String,
    authority: Option<Authority>,
    /// What is to stand in the agent's Secret, or does.
    pair: Option<(String, zeroize::Zeroizing<String>)>,
    made_ca: Option<(String, zeroize::Zeroizing<String>)>,
    made_pair: bool,
}

/// A CA for the agents of a planeID, and its certificate and key in PEM.
fn new_authority(
    id: &str,
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> Result<(Authority, (String, zeroize::Zeroizing<String>)), pki::IssueError> {
    let name: String = format!("build plane agents of {id}").chars().take(64).collect();
    let ca = pki::ca(&name, algorithm, CA_VALID_FOR, now)?;
    let key = ca.key.to_pem();
    let authority = Authority::from_pem(&ca.certificate, &key, now)?;
    Ok((authority, (ca.certificate, key)))
}

/// The same as files alone, for a cluster that isn't at hand: certificates are always made.
///
/// # Errors
/// Those of making certificates.
pub fn files(
    mut plane: Plane,
    url: Option<&GatewayUrl>,
    algorithm: KeyAlgorithm,
    now: Timestamp,
) -> anyhow::Result<Files> {
    let id = plane.plane_id().to_owned();
    let (authority, ca) = new_authority(&id, algorithm, now)?;
    let leaf = pki::client(&id, &authority, PrivateKey::generate(algorithm)?, VALID_FOR, now)?;
    plane.spec.cluster_agent.client_ca.value = Some(ca.0.clone());
    Ok(Files {
        values: values(&id, url, Issuer::Own)?,
        pair: Some((leaf.pair.certificate.clone(), leaf.pair.key.to_pem())),
        ca: Some(ca),
        plane: plane.manifest(&CLUSTER_BUILD_PLANE),
    })
}

/// The steps in their order, as they are told.
pub const STEPS: [&str; 13] = [
    "contexts",
    "rights",
    "crd",
    "gateway-ca",
    "gateway",
    "certificates",
    "namespace",
    "server-ca",
    "agent-secret",
    "plane",
    "probe",
    "values",
    "helm",
];

/// Registers a build cluster.
///
/// # Errors
/// [`Error`], and those of the clusters; whatever stands is right, and a rerun goes on.
pub async fn bootstrap(plan: &Bootstrap, observer: &mut dyn Observer) -> anyhow::Result<Files> {
    plan.contexts(observer).await?;
    plan.rights(observer).await?;
    plan.crd(observer).await?;
    let gateway_ca = plan.gateway_ca(observer).await?;
    plan.gateway(&gateway_ca, observer).await?;
    let issuer = plan.issuer(observer).await?;
    let certificates = plan.certificates(issuer, observer).await?;
    plan.namespace(observer).await?;
    plan.server_ca(&gateway_ca, observer).await?;
    plan.agent_secret(issuer, &certificates, observer).await?;
    let plane = plan.plane(&certificates.ca, observer).await?;
    plan.probe(&gateway_ca, &certificates, observer).await?;
    Ok(Files {
        values: values(plan.plane.plane_id(), plan.gateway_url.as_ref(), issuer)?,
        ca: certificates.made_ca,
        pair: certificates.pair.filter(|_| certificates.made_pair),
        plane,
    })
}

/// Helm's values for the agent.
fn values(plane_id: &str, url: Option<&GatewayUrl>, issuer: Issuer) -> anyhow::Result<String> {
    let tls = match issuer {
        Issuer::Own => json!({"enabled": true, "clientSecretName": OWN_SECRET}),
        Issuer::CertManager => json!({"enabled": true, "generateCerts": false, "caSecretName": ca_secret(plane_id)}),
        Issuer::Existing => json!({"enabled": true}),
    };
    let mut agent = json!({"planeID": plane_id, "tls": tls});
    if let Some(url) = url {
        agent["serverUrl"] = url.to_string().into();
    }
    to_yaml(&json!({"clusterAgent": agent}))
}

fn ca_secret(plane_id: &str) -> String {
    format!("{plane_id}-agent-ca")
}

impl Bootstrap {
    async fn contexts(&self, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let (control, build) = tokio::join!(self.control.version(), self.build.version());
        let told = format!("control plane {}, build cluster {}", control?, build?);
        let (one, other) = tokio::join!(self.control.identity(), self.build.identity());
        let same = if one.is_some() && one == other { "; both are one and the same cluster" } else { "" };
        observer.tell("contexts", Status::Found, &format!("{told}{same}"));
        Ok(())
    }

    async fn rights(&self, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let group = CLUSTER_BUILD_PLANE.group;
        let control = Some(self.control_namespace.as_str());
        let build = Some(self.build_namespace.as_str());
        let mut needed = vec![
            (&self.control, "get", group, CLUSTER_BUILD_PLANE.plural, None),
            (&self.control, "create", group, CLUSTER_BUILD_PLANE.plural, None),
            (&self.control, "patch", group, CLUSTER_BUILD_PLANE.plural, None),
            (&self.control, "get", "", "secrets", control),
            (&self.build, "get", "", "secrets", build),
            (&self.build, "create", "", "secrets", build),
            (&self.build, "patch", "", "secrets", build),
            (&self.build, "get", "", "configmaps", build),
            (&self.build, "create", "", "configmaps", build),
        ];
        if self.ca_in == CaIn::Secret {
            needed.push((&self.control, "create", "", "secrets", control));
        }
        let asked = needed
            .iter()
            .map(|(cluster, verb, group, resource, namespace)| cluster.may(verb, group, resource, *namespace));
        let answers = futures::future::join_all(asked).await;
        if let Some(((cluster, verb, _, resource, _), _)) = needed.iter().zip(answers).find(|(_, may)| !may) {
            return Err(Error::NoRight { verb, resource, place: cluster.target().title() }.into());
        }
        observer.tell("rights", Status::Found, "all that it takes is allowed");
        Ok(())
    }

    async fn crd(&self, observer: &mut dyn Observer) -> anyhow::Result<()> {
        // A missing kind is an error of its own.
        self.control.plane_if_any::<Plane>(self.plane.name()).await?;
        observer.tell("crd", Status::Found, &format!("the control plane serves {}", CLUSTER_BUILD_PLANE.kind));
        Ok(())
    }

    /// The gateway's CA out of its Secret: the ConfigMap of that name is a placeholder.
    async fn gateway_ca(&self, observer: &mut dyn Observer) -> anyhow::Result<String> {
        let name = NamespacedName { namespace: self.control_namespace.clone(), name: GATEWAY_CA.into() };
        let bytes = self.control.secret_keys(&name, &[CA_KEY]).await?.concat();
        let ca = pki::bundle(&bytes)?;
        observer.tell("gateway-ca", Status::Found, &format!("Secret {name} holds the gateway's CA"));
        Ok(ca)
    }

    async fn gateway(&self, ca: &str, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let Some(url) = &self.gateway_url else {
            observer.tell("gateway", Status::Skipped, "no --gateway-url is given: it is not asked");
            return Ok(());
        };
        match self.ask(url, ca, None).await {
            Ok(_) | Err(ProbeError::Dropped(_)) => {
                observer.tell(
                    "gateway",
                    Status::Found,
                    &format!("{} answers, with a valid certificate", visible(&url.to_string())),
                );
                Ok(())
            }
            Err(error) => {
                let hint = match &error {
                    ProbeError::WrongName { host, .. } => {
                        format!("add {} to clusterGateway.tls.dnsNames, and restart the gateway", visible(host))
                    }
                    _ => format!("is {} right?", visible(&url.to_string())),
                };
                Err(Error::Gateway { why: error.to_string(), hint }.into())
            }
        }
    }

    async fn ask(&self, url: &GatewayUrl, ca: &str, identity: Option<Identity>) -> Result<Answer, ProbeError> {
        let question = Question {
            url,
            plane_type: CLUSTER_BUILD_PLANE.plane_type,
            plane_id: self.plane.plane_id(),
            identity,
            server_ca: ca,
            limit: self.limit,
        };
        probe(question).await.map(|reply| reply.answer)
    }

    /// cert-manager where its CRDs are, unless said otherwise.
    async fn issuer(&self, observer: &mut dyn Observer) -> anyhow::Result<Issuer> {
        let has = self.build.object_if_any("/apis/cert-manager.io/v1").await.ok().flatten().is_some();
        let issuer = self.issuer.unwrap_or(if has { Issuer::CertManager } else { Issuer::Own });
        if !has {
            let told = "the build cluster has no cert-manager.io/v1, which the chart needs in any case";
            observer.tell("cert-manager", Status::Skipped, told);
        }
        Ok(issuer)
    }

    fn beside(&self, name: &str) -> NamespacedName {
        NamespacedName { namespace: self.build_namespace.clone(), name: name.to_owned() }
    }

    /// What there is, and else what is made.
    async fn certificates(&self, issuer: Issuer, observer: &mut dyn Observer) -> anyhow::Result<Certificates> {
        let id = self.plane.plane_id();
        let now = self.control.now();
        let name = match issuer {
            Issuer::Own => OWN_SECRET.to_owned(),
            Issuer::CertManager => ca_secret(id),
            Issuer::Existing => CHART_SECRET.to_owned(),
        };
        let there = self.build.secret(&self.beside(&name)).await?;
        if let Some(secret) = there {
            let pair = pair_of(&secret)?;
            let named = pair.leaf().common_name.as_deref();
            if issuer == Issuer::Own && named != Some(id) && !self.force {
                let what = format!("Secret {}, with a certificate of {}", secret.name, named.unwrap_or("nobody"));
                return Err(Error::Differs { what }.into());
            }
            observer.tell("certificates", Status::Found, &format!("Secret {} holds them", secret.name));
            let (certificate, key) = (secret.text(LEAF_CERTIFICATE), secret.text(LEAF_PRIVATE_KEY));
            let ca = if issuer == Issuer::CertManager {
                certificate.to_string()
            } else {
                secret.text(CA_CERTIFICATE).to_string()
            };
            // Without a CA of its own a self-signed certificate is what is trusted.
            let ca = if ca.is_empty() { pki::encode("CERTIFICATE", &pair.leaf().der) } else { ca };
            let authority = Authority::from_pem(&certificate, &key, now).ok().filter(|_| issuer == Issuer::CertManager);
            let pair = (issuer != Issuer::CertManager).then(|| (certificate.to_string(), key));
            return Ok(Certificates { ca, authority, pair, made_ca: None, made_pair: false });
        }
        if issuer == Issuer::Existing {
            self.build.existing_secret(&self.beside(&name)).await?;
        }
        let (authority, made_ca) = match &self.authority {
            Some(authority) => {
                let ca = pki::encode("CERTIFICATE", &authority.certificate.der);
                // cert-manager signs with it, wherever else it is kept.
                let key = (issuer == Issuer::CertManager).then(|| (ca, authority.key_to_pem()));
                (authority.again()?, key)
            }
            None => {
                let (authority, ca) = new_authority(id, self.key_algorithm, now)?;
                (authority, Some(ca))
            }
        };
        let ca = pki::encode("CERTIFICATE", &authority.certificate.der);
        let mut told = format!("the CA is valid until {}", authority.certificate.not_after.strftime("%Y-%m-%d"));
        let pair = if issuer == Issuer::Own {
            let leaf = pki::client(id, &authority, PrivateKey::generate(self.key_algorithm)?, VALID_FOR, now)?;
            let until = leaf.pair.not_after.strftime("%Y-%m-%d");
            told.push_str(&format!(", the agent's certificate until {until}: renew it by then"));
            Some((leaf.pair.certificate, leaf.pair.key.to_pem()))
        } else {
            None
        };
        observer.tell("certificates", Status::Done, &told);
        let made_pair = pair.is_some();
        Ok(Certificates { ca, authority: Some(authority), pair, made_ca, made_pair })
    }

    async fn namespace(&self, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let name = &self.build_namespace;
        if self.build.object_if_any(&format!("/api/v1/namespaces/{name}")).await?.is_some() {
            observer.tell("namespace", Status::Found, &format!("{name} exists"));
            return Ok(());
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.build.create_object("/api/v1/namespaces", &object).await?;
        observer.tell("namespace", Status::Done, &format!("{name} created"));
        Ok(())
    }

    /// The gateway's CA in the agent's namespace.
    async fn server_ca(&self, ca: &str, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let collection = format!("/api/v1/namespaces/{}/configmaps", self.build_namespace);
        let path = format!("{collection}/{GATEWAY_CA}");
        let told = format!("ConfigMap {}/{GATEWAY_CA} holds the gateway's CA", self.build_namespace);
        let data = json!({"data": {CA_KEY: ca}});
        match self.build.object_if_any(&path).await? {
            None => {
                let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": GATEWAY_CA}});
                object["data"] = data["data"].clone();
                self.build.create_object(&collection, &object).await?;
                observer.tell("server-ca", Status::Done, &told);
            }
            Some(there) => {
                let text = there["data"][CA_KEY].as_str().unwrap_or_default();
                let (held, wanted) = (pki::certificates(text), pki::certificates(ca));
                if wanted.iter().all(|der| held.contains(der)) {
                    observer.tell("server-ca", Status::Found, &told);
                } else if held.is_empty() || self.force {
                    // A placeholder is nobody's.
                    self.build.merge_object(&path, &data).await?;
                    observer.tell("server-ca", Status::Done, &told);
                } else {
                    let what = format!("ConfigMap {}/{GATEWAY_CA}", self.build_namespace);
                    return Err(Error::Differs { what }.into());
                }
            }
        }
        Ok(())
    }

    /// The agent's pair, or the CA for cert-manager, in its Secret.
    async fn agent_secret(
        &self,
        issuer: Issuer,
        certificates: &Certificates,
        observer: &mut dyn Observer,
    ) -> anyhow::Result<()> {
        let (name, data) = match (issuer, &certificates.pair, &certificates.made_ca) {
            (Issuer::Own, Some((certificate, key)), _) if certificates.made_pair => {
                (self.beside(OWN_SECRET), pair_data(certificate, key, &certificates.ca))
            }
            (Issuer::CertManager, _, Some((certificate, key))) => {
                (self.beside(&ca_secret(self.plane.plane_id())), pair_data(certificate, key, ""))
            }
            _ => {
                observer.tell("agent-secret", Status::Found, "the agent's Secret is there");
                return Ok(());
            }
        };
        self.build.create_secret(&name, "kubernetes.io/tls", data, false).await?;
        observer.tell("agent-secret", Status::Done, &format!("Secret {name} created"));
        Ok(())
    }

    /// The plane, with the CA in it or in a Secret.
    async fn plane(&self, ca: &str, observer: &mut dyn Observer) -> anyhow::Result<Value> {
        let name = self.plane.name();
        let mut wanted = self.plane.clone();
        match self.ca_in {
            CaIn::Value => wanted.spec.cluster_agent.client_ca.value = Some(ca.to_owned()),
            CaIn::Secret => {
                let secret =
                    NamespacedName { namespace: self.control_namespace.clone(), name: format!("{name}-agent-ca") };
                self.ca_secret(&secret, ca, observer).await?;
                wanted.spec.cluster_agent.client_ca.secret_ref = Some(crate::plane::SecretKeyRef {
                    name: secret.name,
                    namespace: Some(secret.namespace),
                    key: CA_KEY.into(),
                });
            }
        }
        let manifest = wanted.manifest(&CLUSTER_BUILD_PLANE);
        let Some(there) = self.control.plane_if_any::<Plane>(name).await? else {
            let created = self.control.create(&manifest, false).await?;
            observer.tell("plane", Status::Done, &format!("{} {name} created", CLUSTER_BUILD_PLANE.kind));
            return Ok(created);
        };
        // What lets the agent in is right, however it came there.
        let leads =
            |ca: &str, text: &str| pki::certificates(ca).iter().all(|der| pki::certificates(text).contains(der));
        let cas = crate::doctor::client_cas(&self.control, std::slice::from_ref(&there)).await;
        let trusted = cas.first().and_then(|ca| ca.text.clone().ok()).is_some_and(|text| leads(ca, &text));
        if trusted && there.plane_id() == self.plane.plane_id() {
            observer.tell(
                "plane",
                Status::Found,
                &format!("{name} trusts the CA, with planeID {}", visible(there.plane_id())),
            );
            return Ok(there.manifest(&CLUSTER_BUILD_PLANE));
        }
        if !self.force {
            return Err(Error::Differs { what: format!("the plane {name}") }.into());
        }
        let applied = self.control.apply(&manifest, true, false).await?;
        observer.tell("plane", Status::Done, &format!("{name} {}", applied.change.word()));
        Ok(applied.after)
    }

    async fn ca_secret(&self, name: &NamespacedName, ca: &str, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let data = [(CA_KEY.to_owned(), ca.as_bytes().to_vec().into())].into();
        let told = format!("Secret {name} holds the CA");
        match self.control.secret(name).await? {
            None => {
                self.control.create_secret(name, "Opaque", data, false).await?;
                observer.tell("client-ca", Status::Done, &told);
            }
            Some(there) if there.text(CA_KEY).as_str() == ca => observer.tell("client-ca", Status::Found, &told),
            Some(there) if self.force => {
                self.control.update_secret(&there, data, false).await?;
                observer.tell("client-ca", Status::Done, &told);
            }
            Some(_) => return Err(Error::Differs { what: format!("Secret {name}") }.into()),
        }
        Ok(())
    }

    /// What the gateway says to the agent's certificate; for cert-manager to one like those that it will issue.
    async fn probe(&self, ca: &str, certificates: &Certificates, observer: &mut dyn Observer) -> anyhow::Result<()> {
        let now = self.control.now();
        let made;
        let (certificate, key) = match (&certificates.pair, &certificates.authority) {
            (Some((certificate, key)), _) => (certificate.as_str(), key.as_str()),
            (None, Some(authority)) => {
                let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
                let leaf = pki::client(self.plane.plane_id(), authority, key, Span::from_seconds(3600), now)?;
                made = (leaf.pair.certificate, leaf.pair.key.to_pem());
                (made.0.as_str(), made.1.as_str())
            }
            (None, None) => {
                observer.tell("probe", Status::Skipped, "there is no certificate to ask with");
                return Ok(());
            }
        };
        let presented = pki::certificates(certificate);
        if let Verdict::Refused(refusal) = pki::verify(&presented, &certificates.ca, now) {
            return Err(Error::NotTrusted { plane: self.plane.name().into(), why: refusal.message }.into());
        }
        let Some(url) = &self.gateway_url else {
            let until = presented.first().and_then(|der| Certificate::from_der(der)).map(|leaf| leaf.not_after);
            let until = until.map(|until| format!(" until {}", until.strftime("%Y-%m-%d"))).unwrap_or_default();
            observer.tell("probe", Status::Skipped, &format!("foretold: the plane lets the agent in{until}"));
            return Ok(());
        };
        let key = PrivateKey::from_pem(key)?;
        let why = match self.ask(url, ca, Some(Identity { presented, key })).await {
            Ok(Answer::Authorized) => {
                observer.tell("probe", Status::Done, "the gateway authorizes the agent's certificate");
                return Ok(());
            }
            Ok(answer) => format!("it answers {answer:?}"),
            Err(error) => error.to_string(),
        };
        let name = self.plane.name();
        let hint = self.control.target().command(&format!("choreoctl doctor {name}"));
        Err(Error::Gateway { why, hint }.into())
    }
}
