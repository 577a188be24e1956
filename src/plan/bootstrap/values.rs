//! Helm's values for the agent, and whether an agent runs with them.

use serde_json::{Value, json};

use super::facts::Facts;
use super::wish::{Bootstrap, CHART_SECRET, UNUSED_SECRET};
use crate::cluster::Agent;
use crate::plan::issuer::{AgentCertificate, Issuer};

/// Helm's values for the agent.
pub fn values(plan: &Bootstrap, from: AgentCertificate, facts: &Facts) -> Value {
    let held = facts.agent.as_ref().and_then(|agent| agent.secret.as_deref());
    let tls = match from {
        AgentCertificate::Issued(issuer) => {
            let secret = plan.secret_of(issuer).name;
            match issuer {
                Issuer::Own => json!({"enabled": true, "clientSecretName": secret}),
                Issuer::CertManager => json!({"enabled": true, "generateCerts": false, "caSecretName": secret}),
            }
        }
        AgentCertificate::Existing => tls_of_existing(held, facts.certificates.issuer),
    };
    let mut agent = json!({"planeID": plan.plane.plane_id(), "tls": tls});
    if let Some(url) = &plan.gateway_url {
        agent["serverUrl"] = url.to_string().into();
    }
    if let Some(name) = &facts.agent_name {
        agent["name"] = name.as_str().into();
    }
    json!({"clusterAgent": agent})
}

/// The values that name an existing Secret. One that cert-manager doesn't write has to be kept from the chart's
/// Certificate, which writes another one then, unused.
fn tls_of_existing(secret: Option<&str>, issuer: Issuer) -> Value {
    let secret = secret.unwrap_or(CHART_SECRET);
    let mut tls = json!({"enabled": true});
    if issuer == Issuer::Own || secret != CHART_SECRET {
        tls["clientSecretName"] = secret.into();
    }
    if issuer == Issuer::Own && secret == CHART_SECRET {
        tls["secretName"] = UNUSED_SECRET.into();
    }
    tls
}

/// Whether an agent's Deployment says what the values do, by a version of the chart.
pub fn fits(plan: &Bootstrap, agent: &Agent, values: &Value, version: &str) -> bool {
    let url = plan.gateway_url.as_ref().map(ToString::to_string);
    let secret = values["clusterAgent"]["tls"]["clientSecretName"].as_str();
    agent.plane_id.as_deref() == Some(plan.plane.plane_id())
        && (url.is_none() || agent.server_url == url)
        && (secret.is_none() || agent.secret.as_deref() == secret)
        && agent.chart_version.as_deref().is_none_or(|there| there == version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::GatewayUrl;
    use crate::plan::bootstrap::wish::OWN_SECRET;
    use crate::plan::fixtures::{BUILD, agent, registration};

    #[test]
    fn a_secret_that_cert_manager_does_not_write_is_kept_from_the_chart() {
        for (secret, issuer, expected) in [
            (None, Issuer::CertManager, json!({"enabled": true})),
            (Some("mine"), Issuer::CertManager, json!({"enabled": true, "clientSecretName": "mine"})),
            (Some("mine"), Issuer::Own, json!({"enabled": true, "clientSecretName": "mine"})),
            (
                None,
                Issuer::Own,
                json!({"enabled": true, "clientSecretName": CHART_SECRET, "secretName": UNUSED_SECRET}),
            ),
        ] {
            assert_eq!(tls_of_existing(secret, issuer), expected);
        }
    }

    #[test]
    fn values_name_the_plane_the_secret_the_gateway_and_the_agent() {
        let url = GatewayUrl::of_agent("wss://g:8443/ws").unwrap();
        let of = |gateway_url, from, facts: &Facts| {
            values(&Bootstrap { gateway_url, ..registration() }, from, facts)["clusterAgent"].clone()
        };
        let facts = Facts { agent: Some(agent(BUILD, "mine", "id", "held")), ..Facts::default() };
        let own = json!({"planeID": "id", "tls": {"enabled": true, "clientSecretName": "cluster-agent-own-tls"}, "serverUrl": "wss://g:8443/ws"});
        assert_eq!(of(Some(url), AgentCertificate::Issued(Issuer::Own), &facts), own);
        let managed =
            json!({"planeID": "id", "tls": {"enabled": true, "generateCerts": false, "caSecretName": "id-agent-ca"}});
        assert_eq!(of(None, AgentCertificate::Issued(Issuer::CertManager), &facts), managed);
        let facts = Facts { agent_name: Some("mine".into()), ..facts };
        let existing = json!({"planeID": "id", "tls": {"enabled": true, "clientSecretName": "held"}, "name": "mine"});
        assert_eq!(of(None, AgentCertificate::Existing, &facts), existing);
    }

    #[test]
    fn an_agent_fits_where_its_deployment_says_the_same() {
        let mut plan = registration();
        plan.gateway_url = Some(GatewayUrl::of_agent("wss://g:8443/ws").unwrap());
        let values = values(&registration(), AgentCertificate::Issued(Issuer::Own), &Facts::default());
        let ours = || agent(BUILD, "a", "id", OWN_SECRET);
        let mut other_url = ours();
        other_url.server_url = None;
        let mut other_chart = ours();
        other_chart.chart_version = Some("0".into());
        for (agent, does_fit) in [
            (ours(), true),
            (agent(BUILD, "a", "other", OWN_SECRET), false),
            (agent(BUILD, "a", "id", "other"), false),
            (other_url, false),
            (other_chart, false),
        ] {
            assert_eq!(fits(&plan, &agent, &values, "1"), does_fit, "{agent:?}");
        }
    }
}
