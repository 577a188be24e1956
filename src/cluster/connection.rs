//! A connection to a cluster: whom to ask, about planes of which kind, and how long to wait.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use super::client::{self, Observed};
use super::error::Error;
use super::target::{Options, Target};
use crate::plane::{DEFAULT_KIND, Kind, PlaneKey, Scope};
use crate::term::Term;
use crate::text::shell_quoted;

/// Where planes of a namespaced kind are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// In that of the context, as with kubectl.
    #[default]
    Context,
    Named(String),
    All,
}

/// A cluster that can be asked. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: kube::Client,
    pub(super) kind: &'static Kind,
    /// Where planes of a namespaced kind are meant to be; none for all namespaces.
    pub(super) namespace: Option<String>,
    pub(super) target: Arc<Target>,
    pub(super) observed: Arc<Observed>,
}

impl Cluster {
    /// Reads the kubeconfig and prepares a client. Nothing is sent yet.
    pub async fn connect(options: Options, term: &Term) -> Result<Self, Error> {
        let (target, config) = Target::find(&options).await?;
        let observed = Arc::new(Observed::new(term.clone()));
        let client = client::client(config, &observed, options.request_timeout)?;
        let target = Arc::new(target);
        Ok(Self { client, kind: DEFAULT_KIND, namespace: None, target, observed })
    }

    /// The same cluster with credentials read afresh, after the old ones were refused.
    pub async fn reconnect(&self) -> Result<Self, Error> {
        let cluster = Self::connect(self.target.options.clone(), &self.observed.term).await?;
        Ok(Self { kind: self.kind, namespace: self.namespace.clone(), ..cluster })
    }

    /// Returns the same cluster, asked about planes of this kind: those of a namespaced one are in the namespace of the
    /// context, as with kubectl.
    pub fn of_kind(&self, kind: &'static Kind) -> Self {
        self.at(kind, &Namespaces::Context)
    }

    /// Returns the same cluster, asked about planes of this kind, those of a namespaced one in these namespaces.
    pub fn at(&self, kind: &'static Kind, namespaces: &Namespaces) -> Self {
        let namespace = match (kind.scope, namespaces) {
            (Scope::Cluster, _) | (_, Namespaces::All) => None,
            (_, Namespaces::Named(namespace)) => Some(namespace.clone()),
            (_, Namespaces::Context) => Some(self.target.namespace.clone()),
        };
        Self { kind, namespace, ..self.clone() }
    }

    /// Returns the same cluster, asked about planes of a plane's kind and namespace.
    pub fn around(&self, plane: &PlaneKey) -> Self {
        let cluster = self.of_kind(plane.kind);
        let namespace = cluster.namespace.map(|context| plane.namespace.clone().unwrap_or(context));
        Self { namespace, ..cluster }
    }

    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Whether a plane is one of those that it is asked about.
    pub fn covers(&self, plane: &PlaneKey) -> bool {
        plane.kind == self.kind && (self.namespace.is_none() || plane.namespace == self.namespace)
    }

    /// Whether it is asked about all planes of its kind.
    pub fn is_everywhere(&self) -> bool {
        self.kind.scope == Scope::Cluster || self.namespace.is_none()
    }

    /// Returns the flag that leads kubectl to the planes' namespace, with a leading blank; empty where there is none.
    pub(super) fn in_namespace(&self) -> String {
        let namespace = self.namespace.as_deref().map(|namespace| format!(" -n {}", shell_quoted(namespace)));
        namespace.unwrap_or_default()
    }

    /// Returns what identifies the plane of a name here.
    pub fn key(&self, name: &str) -> PlaneKey {
        PlaneKey { kind: self.kind, namespace: self.namespace.clone(), name: name.to_owned() }
    }

    /// Returns the path of the collection of planes.
    pub(super) fn path(&self) -> String {
        self.kind.path(self.namespace.as_deref())
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The API server's clock, by the `Date` of its last answers; this machine's before the first one.
    pub fn now(&self) -> Timestamp {
        self.observed.now()
    }

    /// Waits for one request's answer, as long as `--request-timeout` allows.
    pub(super) async fn ask<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        self.limited(request).await?.map_err(|error| self.error(error))
    }

    pub(super) async fn limited<T>(&self, request: impl Future<Output = T>) -> Result<T, Error> {
        let Some(limit) = self.target.options.request_timeout else {
            return Ok(request.await);
        };
        let answer = tokio::time::timeout(limit, request).await;
        answer.map_err(|_| Error::TimedOut { server: self.target.server.clone(), limit })
    }

    pub(super) fn error(&self, error: kube::Error) -> Error {
        Error::of(error, &self.target, self.kind)
    }
}
