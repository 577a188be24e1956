//! Who issues an agent's certificate.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// Who issues the agent's certificate from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Issuer {
    /// choreoctl, into a Secret of the operator's
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
    /// The certificate in the build cluster is used.
    Existing,
}

impl ValueEnum for AgentCertificate {
    fn value_variants<'v>() -> &'v [Self] {
        &[Self::Issued(Issuer::Own), Self::Issued(Issuer::CertManager), Self::Existing]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Issued(Issuer::Own) => Issuer::Own.to_possible_value(),
            Self::Issued(issuer) => Some(issuer.to_possible_value()?.help("cert-manager, from a CA that is made here")),
            Self::Existing => {
                let help = "Whoever did: the certificate in the build cluster is taken over";
                Some(PossibleValue::new("existing").help(help))
            }
        }
    }
}
