//! What is to be rotated and how far, and who keeps the new CA and runs Helm.

use tokio::time::Instant;

use crate::cluster::{Agent, StoredSecret, Writer};
use crate::pki::{KeyAlgorithm, LEAF_CERTIFICATE};
use crate::plan::issuer::Issuer;
use crate::plane::{DryRun, Family, NamespacedName, Plane, Span};

/// How far a rotation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Phase {
    /// Only the first stage: the planes trust the old CA and the new one
    Stage,
    /// Also the second: the agent presents the new certificate
    Switch,
    /// All: the old CA is removed from the planes
    #[default]
    Finish,
}

/// Where a run is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To the end of a phase.
    Until(Phase),
    /// To what was before.
    Back,
}

pub struct Rotation {
    /// Where the agent is.
    pub namespace: String,
    pub plane: Plane,
    /// None: as it is now.
    pub issuer: Option<Issuer>,
    pub goal: Goal,
    pub key_algorithm: KeyAlgorithm,
    pub valid_for: Span,
    pub ca_valid_for: Span,
    /// Whether manifests can be written for other managers.
    pub manifests: bool,
    pub force_conflicts: bool,
    /// Whether a CA that was just made is replaced, too.
    pub again: bool,
    /// The end of the names of Secrets that are made.
    pub suffix: String,
    pub dry_run: DryRun,
    pub deadline: Option<Instant>,
}

impl Rotation {
    /// A name in the agent's namespace.
    pub fn beside(&self, name: &str) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: name.to_owned() }
    }

    /// The Secret that the agent, or cert-manager, is to read after the present one.
    pub fn target(&self, issuer: Issuer, secret: &StoredSecret) -> String {
        let from = &secret.name.name;
        let is_restored =
            || secret.certificate().is_some() || secret.writers(LEAF_CERTIFICATE).iter().any(Writer::restores);
        match issuer {
            // What cert-manager or another manager would put back stays theirs.
            Issuer::Own if is_restored() => format!("{from}-{}", self.suffix),
            Issuer::Own => from.to_owned(),
            Issuer::CertManager => format!("{}-agent-ca-{}", self.plane.plane_id(), self.suffix),
        }
    }
}

/// The common name of a CA that a rotation makes, as far as there is room (RFC 5280, `ub-common-name`).
pub fn ca_name(family: &Family, plane_id: &str) -> String {
    let name = format!("{} agents of {plane_id}", family.noun());
    if name.len() > 64 { plane_id.to_owned() } else { name }
}

/// Values of the chart by which it reads a Secret.
pub fn values(issuer: Issuer, from: &str, to: &str) -> Vec<String> {
    match issuer {
        Issuer::Own if to != from => vec![format!("clusterAgent.tls.clientSecretName={to}")],
        Issuer::Own => Vec::new(),
        Issuer::CertManager => {
            vec!["clusterAgent.tls.generateCerts=false".to_owned(), format!("clusterAgent.tls.caSecretName={to}")]
        }
    }
}

/// What a rotation is going to do beyond the clusters' objects.
pub struct Outlook {
    pub agent: Agent,
    pub issuer: Issuer,
    /// Values that the agent's Helm release must have for good, as Helm's `--set` takes them; empty where none change.
    pub values: Vec<String>,
    pub is_under_way: bool,
}

/// What is done outside of the clusters: where the new CA and its key are kept, and Helm.
pub trait Keeper {
    /// Fails where another CA is kept there already.
    fn check(&self, ca: Option<&str>) -> anyhow::Result<()>;

    /// Keeps them; where. None where nothing is to be kept.
    fn keep(&mut self, ca: &str, key: &str) -> anyhow::Result<Option<String>>;

    /// Gives the agent's release these values, if that is wanted; whether it was done.
    fn install(&mut self, agent: &Agent, values: &[String]) -> anyhow::Result<bool>;

    /// The command that does so.
    fn command(&self, agent: &Agent, values: &[String]) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::{leaf, of_cert_manager, pair_secret, root, rotation, stored, written_by};
    use crate::plane::DEFAULT_KIND;

    #[test]
    fn a_secret_that_another_manager_would_put_back_stays_theirs() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let plain = pair_secret("s", &leaf("id", &root("ca", now), now), "");
        let target = |issuer, secret: &serde_json::Value| rotation().target(issuer, &stored(secret));
        assert_eq!(target(Issuer::Own, &plain), "s");
        assert_eq!(target(Issuer::Own, &written_by(plain.clone(), "kubectl")), "s");
        assert_eq!(target(Issuer::Own, &written_by(plain.clone(), "argocd")), "s-x1");
        assert_eq!(target(Issuer::Own, &of_cert_manager(plain.clone())), "s-x1");
        assert_eq!(target(Issuer::CertManager, &plain), "id-agent-ca-x1");
    }

    #[test]
    fn values_are_given_where_the_chart_reads_another_secret() {
        assert_eq!(values(Issuer::Own, "s", "s"), Vec::<String>::new());
        assert_eq!(values(Issuer::Own, "s", "t"), ["clusterAgent.tls.clientSecretName=t"]);
        let managed = ["clusterAgent.tls.generateCerts=false", "clusterAgent.tls.caSecretName=t"];
        assert_eq!(values(Issuer::CertManager, "s", "t"), managed);
    }

    #[test]
    fn a_name_that_is_too_long_for_a_certificate_is_the_plane_id_alone() {
        assert_eq!(ca_name(DEFAULT_KIND.family, "id"), "build plane agents of id");
        let long = "x".repeat(60);
        assert_eq!(ca_name(DEFAULT_KIND.family, &long), long);
    }
}
