//! Flags for the namespaces of namespaced planes.

use clap::Args;
use clap_complete::ArgValueCandidates;

use crate::cluster::Namespaces;
use crate::complete;
use crate::plane::is_dns_label;

/// The namespaces of planes of a namespaced kind.
#[derive(Args, Clone, Debug, Default)]
pub struct NamespaceArgs {
    /// Namespace of namespaced planes [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = namespace, add = ArgValueCandidates::new(complete::namespaces))]
    namespace: Option<String>,
}

/// The same, of several planes.
#[derive(Args, Clone, Debug, Default)]
pub struct NamespacesArgs {
    #[command(flatten)]
    one: NamespaceArgs,

    /// Namespaced planes of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
}

impl NamespaceArgs {
    /// Returns the namespace that is given.
    pub fn given(&self) -> Option<String> {
        self.namespace.clone()
    }

    pub fn namespaces(&self) -> Namespaces {
        self.namespace.clone().map_or(Namespaces::Context, Namespaces::Named)
    }
}

impl NamespacesArgs {
    /// Returns the one namespace that is given.
    pub fn one(&self) -> Option<String> {
        self.one.given()
    }

    /// Whether all namespaces are meant.
    pub fn are_all(&self) -> bool {
        self.all_namespaces
    }

    pub fn namespaces(&self) -> Namespaces {
        if self.all_namespaces { Namespaces::All } else { self.one.namespaces() }
    }
}

/// The name of a namespace on the command line.
pub fn namespace(text: &str) -> Result<String, String> {
    let fits = is_dns_label(text).then(|| text.to_owned());
    fits.ok_or_else(|| "a namespace has lower-case letters, digits and hyphens".into())
}
