//! Who issues an agent's certificate.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// Who issues the agent's certificate from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Issuer {
    /// choreoctl itself, in a Secret that Helm and cert-manager do not manage
    #[default]
    Own,
    /// cert-manager, from the CA's Secret
    CertManager,
}

impl Issuer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::CertManager => "cert-manager",
        }
    }
}

/// Where the certificate of a new plane's agent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentCertificate {
    Issued(Issuer),
    /// The certificate in the plane's cluster is used.
    Existing,
}

impl ValueEnum for AgentCertificate {
    fn value_variants<'v>() -> &'v [Self] {
        &[Self::Issued(Issuer::Own), Self::Issued(Issuer::CertManager), Self::Existing]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Issued(Issuer::Own) => Issuer::Own.to_possible_value(),
            Self::Issued(issuer) => {
                Some(issuer.to_possible_value()?.help("cert-manager, from a CA that choreoctl creates"))
            }
            Self::Existing => {
                let help = "Keep the certificate that is already in the plane's cluster";
                Some(PossibleValue::new("existing").help(help))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_have_names_and_words() {
        let shown = |value: Option<PossibleValue>| {
            let value = value.unwrap();
            format!("{}: {}", value.get_name(), value.get_help().unwrap())
        };
        let issuers: Vec<_> = Issuer::value_variants().iter().map(|value| shown(value.to_possible_value())).collect();
        let own = "own: choreoctl itself, in a Secret that Helm and cert-manager do not manage";
        assert_eq!(issuers, [own, "cert-manager: cert-manager, from the CA's Secret"]);
        let all = AgentCertificate::value_variants().iter().map(|value| shown(value.to_possible_value()));
        let existing = "existing: Keep the certificate that is already in the plane's cluster";
        assert_eq!(
            all.collect::<Vec<_>>(),
            [own, "cert-manager: cert-manager, from a CA that choreoctl creates", existing]
        );
        assert!(Issuer::value_variants().iter().all(|issuer| Issuer::from_str(issuer.name(), false) == Ok(*issuer)));
    }
}
