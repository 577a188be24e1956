//! Where a diagnosis may look, and what gateways are asked for planes, each only as often as its answers may differ.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::case::{BuildCase, Heard, Shared};
use crate::estate::Source;
use crate::gateway::{
    API_PORT, Counted, GatewayUrl, Identity, PlaneTypes, ProbeError, Question, count, plane_types, presented, probe,
};
use crate::pki::{Certificate, LEAF_PRIVATE_KEY, PrivateKey, Remaining};
use crate::plane::{Family, Kind, Plane};

/// The two clusters, the gateway, and what is asked of them.
pub struct Reach<'r, S> {
    pub control: &'r S,
    pub control_namespace: &'r str,
    /// The kinds of the planes that are meant.
    pub kinds: Vec<&'static Kind>,
    /// The planes' cluster, and where in it the agents are.
    pub build: Option<(&'r S, AgentsIn<'r>)>,
    /// Whether the planes were named one by one, so that each is to have its agent there.
    pub named: bool,
    /// What is reported as expiring soon.
    pub soon: Remaining,
    /// How the gateway is asked; none where it is not to be.
    pub gateway: Option<GatewayReach<'r>>,
    /// Longest time for each cluster of agents; none for no limit but that of requests.
    pub bound: Option<Duration>,
}

/// The namespaces of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentsIn<'r> {
    /// Each family's in its own, by the names of the guides; but those of the successor of a family where a migration left
    /// them.
    Default(Option<&'static Family>),
    Named(&'r str),
    /// Wherever they are.
    All,
}

impl<'r> AgentsIn<'r> {
    /// Returns the namespace of a family's agents; none for all of them.
    pub fn namespace(self, family: &Family) -> Option<&'r str> {
        match self {
            Self::Default(former) => {
                let former = former.filter(|former| former.successor == Some(family));
                Some(former.unwrap_or(family).helm_release)
            }
            Self::Named(namespace) => Some(namespace),
            Self::All => None,
        }
    }
}

pub struct GatewayReach<'r> {
    /// Where it is, where that isn't to be read out of the agent's arguments.
    pub url: Option<&'r GatewayUrl>,
    /// The certificates and the key that are presented to it instead of those in the agent's Secret.
    pub identity: Option<(Vec<Vec<u8>>, String)>,
    /// Longest time for its answer.
    pub limit: Duration,
    pub question: Gateway,
}

/// What a diagnosis wants of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// Its answer to the agent's certificate.
    Word,
    /// Its own certificate.
    Certificate,
    /// Both.
    All,
}

/// What is known of gateways from the planes before, by URL: each of many planes would wait for it again.
#[derive(Default)]
pub struct Gateways(Mutex<BTreeMap<String, Once>>);

#[derive(Clone, Default)]
struct Once {
    /// Why it can't be reached.
    away: Option<Arc<ProbeError>>,
    /// Its own certificate, once it was looked at.
    certificate: Option<Option<Certificate>>,
    /// The plane types that it knows.
    types: Option<PlaneTypes>,
    /// Why its API can't be asked.
    no_api: Option<String>,
}

impl Gateways {
    fn known(&self, url: &GatewayUrl) -> Once {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&url.to_string()).cloned().unwrap_or_default()
    }

    fn learn(&self, url: &GatewayUrl, change: impl FnOnce(&mut Once)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(url.to_string()).or_default());
    }

    /// Asks the gateway of a plane: as its agent does it, where that is known. `url` is where the gateway is, if nothing else
    /// says so.
    pub async fn ask<S: Source>(
        &self,
        reach: &Reach<'_, S>,
        url: Option<&GatewayUrl>,
        plane: &Plane,
        build: Option<&BuildCase>,
        shared: &Shared,
    ) -> Heard {
        let of_agent = || build?.agent.agent.server_url.as_deref()?.parse().ok();
        let named = reach.gateway.as_ref().and_then(|gateway| gateway.url.or(url).cloned());
        let (Some(url), gateway) = (named.or_else(of_agent), &reach.gateway) else {
            return Heard::default();
        };
        let heard = match gateway {
            None => Heard::default(),
            Some(gateway) if gateway.question == Gateway::Certificate => {
                Heard { certificate: self.certificate(&url, gateway).await, ..Heard::default() }
            }
            Some(gateway) => {
                let word = self.word(&url, gateway, (plane, build), shared).await;
                let away = word.reply.as_ref().is_some_and(|reply| reply.as_ref().is_err_and(|error| error.is_away()));
                match gateway.question == Gateway::All && !away {
                    true => Heard { certificate: self.certificate(&url, gateway).await, ..word },
                    false => word,
                }
            }
        };
        Heard { url: Some(url), ..heard }
    }

    async fn certificate(&self, url: &GatewayUrl, gateway: &GatewayReach<'_>) -> Option<Certificate> {
        if let Some(certificate) = self.known(url).certificate {
            return certificate;
        }
        let presented = presented(&url.host, url.port, gateway.limit).await.unwrap_or_default();
        let certificate = presented.first().and_then(|leaf| Certificate::from_der(leaf));
        self.learn(url, |once| once.certificate = Some(certificate.clone()));
        certificate
    }

    /// A gateway's answer to what an agent presents, which planes it knows, and how many agents it has for this one.
    async fn word(
        &self,
        url: &GatewayUrl,
        gateway: &GatewayReach<'_>,
        (plane, build): (&Plane, Option<&BuildCase>),
        shared: &Shared,
    ) -> Heard {
        let own = build.and_then(|build| Some(&build.server_ca.as_ref().ok()?.text));
        let Some(server_ca) = own.or(shared.gateway_ca.as_ref().ok()) else {
            return Heard::default();
        };
        let types = match self.types(url, server_ca, gateway.limit).await {
            Ok(types) => types,
            Err(away) => return Heard { reply: Some(Err(away)), ..Heard::default() },
        };
        let identity = identity(gateway, build);
        let (presented, plane_type) = (identity.is_some(), plane.kind.family.plane_type);
        let question =
            |plane_id, identity| Question { url, plane_type, plane_id, identity, server_ca, limit: gateway.limit };
        let of_agent = build.and_then(|build| build.agent.agent.plane_id.as_deref());
        let reply = probe(question(of_agent.unwrap_or(plane.plane_id()), identity)).await.map_err(Arc::new);
        let counted = match &reply {
            Ok(_) => Some(self.count(question(plane.plane_id(), None), plane, shared).await),
            Err(error) => {
                self.learn_away(url, error);
                None
            }
        };
        Heard { reply: Some(reply), presented, types, counted, ..Heard::default() }
    }

    fn learn_away(&self, url: &GatewayUrl, error: &Arc<ProbeError>) {
        if error.is_away() {
            self.learn(url, |once| once.away = Some(error.clone()));
        }
    }

    /// The plane types that a gateway knows; none where it lists none. An error is why it can't be reached at all.
    async fn types(
        &self,
        url: &GatewayUrl,
        server_ca: &str,
        limit: Duration,
    ) -> Result<Option<PlaneTypes>, Arc<ProbeError>> {
        match self.known(url) {
            Once { away: Some(away), .. } => return Err(away),
            Once { types: Some(types), .. } => return Ok(Some(types)),
            Once { .. } => {}
        }
        match plane_types(url, server_ca, limit).await.map_err(Arc::new) {
            Ok(types) => {
                self.learn(url, |once| once.types.clone_from(&types));
                Ok(types)
            }
            Err(error) => {
                self.learn_away(url, &error);
                // What else is wrong is reported by the answer to the agent.
                if error.is_away() { Err(error) } else { Ok(None) }
            }
        }
    }

    /// How many agents a gateway has that a plane authorizes, or why it does not report them.
    async fn count(&self, question: Question<'_>, plane: &Plane, shared: &Shared) -> Result<Counted, String> {
        let url = question.url;
        if let Some(why) = self.known(url).no_api {
            return Err(why);
        }
        let deployed = shared.deployed.as_ref().ok().and_then(Option::as_ref);
        let port = deployed.map_or(API_PORT, |gateway| gateway.api_port.unwrap_or(url.port));
        let is_mutual = deployed.and_then(|gateway| gateway.arguments.as_ref()).is_some_and(|is| is.is_mutual);
        let mutual = "the gateway's API accepts only client certificates of its own CA (mutual TLS)";
        // From v1.2.0 on that is the default, and the port is not published where agents come from.
        let counted = if is_mutual {
            Err(mutual.to_owned())
        } else {
            match count(question, &plane.key(), port).await {
                Ok(Some(counted)) => return Ok(counted),
                Ok(None) => Err("the gateway's API was not found at the expected address".to_owned()),
                Err(ProbeError::Dropped(_)) => Err(mutual.to_owned()),
                Err(error) => Err(format!("its API can't be reached: {error}")),
            }
        };
        self.learn(url, |once| once.no_api = counted.as_ref().err().cloned());
        counted
    }
}

/// What is presented to a gateway: what was given, or what the agent's Secret holds.
fn identity(gateway: &GatewayReach<'_>, build: Option<&BuildCase>) -> Option<Identity> {
    if let Some((presented, key)) = &gateway.identity {
        return Some(Identity { presented: presented.clone(), key: PrivateKey::from_pem(key).ok()? });
    }
    let agent = &build?.agent;
    let pair = agent.pair.as_ref().ok()?;
    let key = PrivateKey::from_pem(&agent.secret.as_ref()?.text(LEAF_PRIVATE_KEY)).ok()?;
    Some(Identity { presented: pair.presented.clone(), key })
}
