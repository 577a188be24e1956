//! Helm's values for the agent, and whether an agent runs with them.

use serde_json::{Value, json};

use super::wish::{Bootstrap, CHART_SECRET, OWN_SECRET, UNUSED_SECRET, ca_secret};
use crate::cluster::Agent;
use crate::gateway::GatewayUrl;
use crate::plan::issuer::Issuer;

/// Helm's values for the agent of a planeID.
pub fn values(plane_id: &str, url: Option<&GatewayUrl>, tls: Value) -> Value {
    let mut agent = json!({"planeID": plane_id, "tls": tls});
    if let Some(url) = url {
        agent["serverUrl"] = url.to_string().into();
    }
    json!({"clusterAgent": agent})
}

/// The values that name the Secret of an issuer.
pub fn tls(issuer: Issuer, plane_id: &str) -> Value {
    match issuer {
        Issuer::Own => json!({"enabled": true, "clientSecretName": OWN_SECRET}),
        Issuer::CertManager => json!({"enabled": true, "generateCerts": false, "caSecretName": ca_secret(plane_id)}),
    }
}

/// The values that name an existing Secret. One that cert-manager doesn't write has to be kept from the chart's
/// Certificate, which writes another one then, unused.
pub fn tls_of_existing(secret: Option<&str>, issuer: Issuer) -> Value {
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
    fn values_name_the_plane_the_secret_and_the_gateway() {
        let url = GatewayUrl::of_agent("wss://g:8443/ws").unwrap();
        let of = |url, issuer| values("id", url, tls(issuer, "id"));
        let own = json!({"planeID": "id", "tls": {"enabled": true, "clientSecretName": OWN_SECRET}, "serverUrl": "wss://g:8443/ws"});
        assert_eq!(of(Some(&url), Issuer::Own), json!({"clusterAgent": own}));
        let managed =
            json!({"planeID": "id", "tls": {"enabled": true, "generateCerts": false, "caSecretName": "id-agent-ca"}});
        assert_eq!(of(None, Issuer::CertManager), json!({"clusterAgent": managed}));
    }

    #[test]
    fn an_agent_fits_where_its_deployment_says_the_same() {
        let mut plan = registration();
        plan.gateway_url = Some(GatewayUrl::of_agent("wss://g:8443/ws").unwrap());
        let values = values("id", None, tls(Issuer::Own, "id"));
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
