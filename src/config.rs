//! The configuration file: in which cluster the agents of planes run. It holds no secrets.
//!
//! ```yaml
//! controlPlanes:
//! - context: prod                 # as it was called when it was written
//!   identity: 6b8f8c1e-...        # UID of the namespace kube-system, which distinguishes clusters
//!   planes:
//!   - kind: DataPlane
//!     namespace: team             # of a namespaced kind
//!     name: east
//!     planeContext: east          # at least one of these two
//!     planeKubeconfig: /home/me/east.yaml
//!     planeNamespace: agents      # default: that of the kind
//!     gatewayURL: wss://gateway.example.com:8443/ws
//!     identity: 0d1c7a90-...      # of the plane's cluster
//! ```

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde_json::{Map, Value, json};

use crate::files::{self, Existing, Rights};
use crate::gateway::GatewayUrl;
use crate::manifest::{self, Input, Manifest, Node, to_yaml};
use crate::plane::{Kind, PlaneKey, PlaneName, Scope};
use crate::text::{shown, visible};

/// The variable that names the file.
const VARIABLE: &str = "CHOREOCTL_CONFIG";
const HEAD: &str = "# Written by `choreoctl config` and `choreoctl bootstrap`, which keep no comments.\n";

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not find the configuration: there is no home directory")]
    NoHome,
    #[error("could not use the configuration: {place}: {message}")]
    Invalid { place: String, message: String },
    #[error("could not write the configuration {path}")]
    Write { path: String, source: std::io::Error },
    #[error("{what} now points to another cluster than when the configuration was saved")]
    OtherCluster { what: String, command: String },
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHome => Some(format!("name the file with {VARIABLE}")),
            Self::Invalid { .. } => Some("fix the file, or ignore it with --no-config".into()),
            Self::OtherCluster { command, .. } => Some(format!("if that is right: {command}")),
            Self::Write { .. } => None,
        }
    }
}

/// Where a plane's agent is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub context: Option<String>,
    pub kubeconfig: Option<PathBuf>,
    pub namespace: Option<String>,
    pub gateway_url: Option<GatewayUrl>,
    /// The UID of the namespace kube-system of the plane's cluster.
    pub identity: Option<String>,
}

impl Place {
    /// Whether it names a cluster.
    pub fn is_named(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }
}

/// The planes of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlane {
    pub context: Option<String>,
    /// The UID of its namespace kube-system.
    pub identity: Option<String>,
    pub planes: Vec<(PlaneKey, Place)>,
}

impl ControlPlane {
    /// Returns the place of a plane; else that of the plane of the same name in the other release.
    pub fn place(&self, plane: &PlaneKey) -> Option<&Place> {
        let is_kin = |key: &PlaneKey| {
            key.kind.family.is_kin(plane.kind.family) && key.kind.scope == plane.kind.scope && key.name == plane.name
        };
        let exact = self.planes.iter().find(|(key, _)| key == plane);
        let kin = || self.planes.iter().find(|(key, _)| is_kin(key) && key.namespace == plane.namespace);
        exact.or_else(kin).map(|(_, place)| place)
    }

    /// Returns the planes of a name, and of its kind where one is given.
    pub fn named(&self, name: &PlaneName, namespace: Option<&str>) -> Vec<PlaneKey> {
        let is_meant = |key: &&PlaneKey| {
            name.is(key.kind, &key.name) && (namespace.is_none() || key.namespace.as_deref() == namespace)
        };
        self.planes.iter().map(|(key, _)| key).filter(is_meant).cloned().collect()
    }
}

/// All that the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub control_planes: Vec<ControlPlane>,
}

/// Returns the path of the file: that of the variable, else `choreoctl/config.yaml` in the user's folder for configurations.
pub fn path() -> Result<PathBuf, Error> {
    path_of(std::env::var_os(VARIABLE))
}

fn path_of(named: Option<OsString>) -> Result<PathBuf, Error> {
    if let Some(path) = named.filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let folders = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
    Ok(folders.config_dir().join("choreoctl").join("config.yaml"))
}

impl Config {
    /// Reads the file; one that does not exist says nothing.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = manifest::read_text(&Input::Path(path.to_owned()))?;
        let manifest = manifest::parse(shown(path), text);
        let reader = Reader(&manifest);
        if let Some(fault) = manifest.faults.first() {
            return Err(reader.invalid(&fault.span, &fault.message).into());
        }
        match manifest.documents.as_slice() {
            [] => Ok(Self::default()),
            [only] => Ok(reader.config(&only.root)?),
            [_, second, ..] => Err(reader.invalid(&second.root.span, "the file must have only one document").into()),
        }
    }

    /// Writes the file for its owner only.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = |source| Error::Write { path: shown(path), source };
        let text = format!("{HEAD}{}", to_yaml(&self.to_json())?);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        Ok(files::write(path, &text, Rights::Owner, Existing::Replace).map_err(failed)?)
    }

    /// Returns it as one object, as the file has it.
    pub fn to_json(&self) -> Value {
        let plane = |(key, place): &(PlaneKey, Place)| {
            let kubeconfig = place.kubeconfig.as_ref().map(|path| path.to_string_lossy().into_owned());
            given([
                ("kind", Some(key.kind.kind.to_owned())),
                ("namespace", key.namespace.clone()),
                ("name", Some(key.name.clone())),
                ("planeContext", place.context.clone()),
                ("planeKubeconfig", kubeconfig),
                ("planeNamespace", place.namespace.clone()),
                ("gatewayURL", place.gateway_url.as_ref().map(ToString::to_string)),
                ("identity", place.identity.clone()),
            ])
        };
        let control_plane = |one: &ControlPlane| {
            let mut object = given([("context", one.context.clone()), ("identity", one.identity.clone())]);
            object["planes"] = one.planes.iter().map(plane).collect();
            object
        };
        json!({"controlPlanes": self.control_planes.iter().map(control_plane).collect::<Vec<_>>()})
    }

    /// Returns the control plane of this identity; where that is unknown, the one of this context.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] where the context means another cluster than it did.
    pub fn control_plane(&self, context: Option<&str>, identity: Option<&str>) -> Result<Option<&ControlPlane>, Error> {
        let by_identity =
            self.control_planes.iter().find(|one| identity.is_some() && one.identity.as_deref() == identity);
        let by_context =
            || self.control_planes.iter().find(|one| context.is_some() && one.context.as_deref() == context);
        match (by_identity, by_context()) {
            (Some(known), _) => Ok(Some(known)),
            (None, Some(other)) if identity.is_some() && other.identity.is_some() => Err(Error::OtherCluster {
                what: format!("context {}", visible(context.unwrap_or_default())),
                command: "choreoctl config unset, and choreoctl config set for its planes".into(),
            }),
            (None, known) => Ok(known),
        }
    }

    /// Sets the place of a plane, and what its control plane is called now.
    pub fn set(&mut self, context: Option<&str>, identity: Option<&str>, plane: &PlaneKey, place: Place) {
        let is_it = |one: &ControlPlane| match identity {
            Some(_) => one.identity.as_deref() == identity,
            None => one.context.as_deref() == context,
        };
        let at = self.control_planes.iter().position(is_it).unwrap_or_else(|| {
            self.control_planes.push(ControlPlane::default());
            self.control_planes.len() - 1
        });
        let known = &mut self.control_planes[at];
        known.context = context.map(str::to_owned).or_else(|| known.context.take());
        known.identity = identity.map(str::to_owned).or_else(|| known.identity.take());
        known.planes.retain(|(key, _)| key != plane);
        known.planes.push((plane.clone(), place));
        known.planes.sort();
    }

    /// Forgets planes of a control plane, and that where none is left.
    pub fn unset(&mut self, context: Option<&str>, planes: &[PlaneKey]) {
        for one in self.control_planes.iter_mut().filter(|one| one.context.as_deref() == context) {
            one.planes.retain(|(key, _)| !planes.contains(key));
        }
        self.control_planes.retain(|one| !one.planes.is_empty());
    }
}

/// An object of the texts that are given.
fn given<const N: usize>(fields: [(&str, Option<String>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    fields.collect::<Map<_, _>>().into()
}

/// Reads a file, and says where it is wrong.
struct Reader<'m>(&'m Manifest);

impl Reader<'_> {
    fn invalid(&self, span: &Range<usize>, message: &str) -> Error {
        let (line, column) = self.0.position(span.start);
        Error::Invalid { place: format!("{}:{line}:{column}", self.0.file), message: visible(message).into_owned() }
    }

    /// Fails where a mapping is none, or has a field that is none of these.
    fn fields(&self, node: &Node, known: &[&str]) -> Result<(), Error> {
        if !matches!(node.value, manifest::Value::Mapping(_)) {
            return Err(self.invalid(&node.span, &format!("this is {}, but must be a mapping", node.type_name())));
        }
        match node.entries().iter().find(|entry| !known.contains(&entry.key.as_str())) {
            None => Ok(()),
            Some(entry) => {
                let message = format!("unknown field {}; the known fields are: {}", entry.key, known.join(", "));
                Err(self.invalid(&entry.key_span, &message))
            }
        }
    }

    fn text(&self, node: &Node, field: &str) -> Result<Option<String>, Error> {
        match node.get(field) {
            None => Ok(None),
            Some(found) => match found.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(self.invalid(&found.span, &format!("{field} must be a string"))),
            },
        }
    }

    fn items<'n>(&self, node: &'n Node, field: &str) -> Result<&'n [Node], Error> {
        match node.get(field) {
            None => Ok(&[]),
            Some(found) if matches!(found.value, manifest::Value::Sequence(_)) => Ok(found.items()),
            Some(found) => Err(self.invalid(&found.span, &format!("{field} must be a list"))),
        }
    }

    fn config(&self, root: &Node) -> Result<Config, Error> {
        self.fields(root, &["controlPlanes"])?;
        let control_planes = self.items(root, "controlPlanes")?.iter().map(|node| self.control_plane(node));
        Ok(Config { control_planes: control_planes.collect::<Result<_, _>>()? })
    }

    fn control_plane(&self, node: &Node) -> Result<ControlPlane, Error> {
        self.fields(node, &["context", "identity", "planes"])?;
        let planes = self.items(node, "planes")?.iter().map(|node| self.plane(node));
        Ok(ControlPlane {
            context: self.text(node, "context")?,
            identity: self.text(node, "identity")?,
            planes: planes.collect::<Result<_, _>>()?,
        })
    }

    fn plane(&self, node: &Node) -> Result<(PlaneKey, Place), Error> {
        let known = [
            "kind",
            "namespace",
            "name",
            "planeContext",
            "planeKubeconfig",
            "planeNamespace",
            "gatewayURL",
            "identity",
        ];
        self.fields(node, &known)?;
        let required = |field: &str| {
            self.text(node, field)?.ok_or_else(|| self.invalid(&node.span, &format!("the plane has no {field}")))
        };
        let kind = required("kind")?;
        let Some(kind) = Kind::of_word(&kind) else {
            let place = node.get("kind").map_or(&node.span, |node| &node.span);
            return Err(self.invalid(place, &format!("{kind} is not a kind of plane")));
        };
        let namespace = self.text(node, "namespace")?;
        if (kind.scope == Scope::Namespaced) != namespace.is_some() {
            let message = if namespace.is_some() { "has no namespace" } else { "needs a namespace" };
            return Err(self.invalid(&node.span, &format!("a {} {message}", kind.kind)));
        }
        let gateway_url = match self.text(node, "gatewayURL")?.as_deref().map(GatewayUrl::of_agent).transpose() {
            Ok(url) => url,
            Err(why) => {
                let place = node.get("gatewayURL").map_or(&node.span, |node| &node.span);
                return Err(self.invalid(place, &format!("gatewayURL: {why}")));
            }
        };
        let place = Place {
            context: self.text(node, "planeContext")?,
            kubeconfig: self.text(node, "planeKubeconfig")?.map(PathBuf::from),
            namespace: self.text(node, "planeNamespace")?,
            gateway_url,
            identity: self.text(node, "identity")?,
        };
        Ok((PlaneKey { kind, namespace, name: required("name")? }, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(word: &str, namespace: Option<&str>, name: &str) -> PlaneKey {
        PlaneKey { kind: Kind::of_word(word).unwrap(), namespace: namespace.map(str::to_owned), name: name.into() }
    }

    fn place(context: &str) -> Place {
        Place { context: Some(context.into()), ..Place::default() }
    }

    fn read(text: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn what_is_written_is_read_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.yaml");
        assert_eq!(Config::read(&path).unwrap(), Config::default());
        let mut config = Config::default();
        config.set(Some("prod"), Some("one"), &key("dp", Some("team"), "east"), place("east"));
        let whole = Place {
            kubeconfig: Some("/k".into()),
            namespace: Some("agents".into()),
            gateway_url: GatewayUrl::of_agent("wss://g:8443/ws").ok(),
            identity: Some("two".into()),
            ..place("build")
        };
        config.set(Some("prod"), Some("one"), &key("cwp", None, "shared"), whole);
        config.set(Some("test"), None, &key("cwp", None, "shared"), place("other"));
        config.write(&path).unwrap();
        assert_eq!(Config::read(&path).unwrap(), config);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777, 0o600);
        let names: Vec<_> = config.control_planes[0].planes.iter().map(|(key, _)| key.with_word()).collect();
        assert_eq!(names, ["cwp/shared", "dp/team/east"]);
        config.unset(Some("test"), &[key("cwp", None, "shared")]);
        assert_eq!(config.control_planes.len(), 1, "nothing is left of the other one");
    }

    #[test]
    fn a_control_plane_is_known_by_its_identity() {
        let mut config = Config::default();
        config.set(Some("prod"), Some("one"), &key("cbp", None, "a"), place("build"));
        config.set(Some("old"), None, &key("cbp", None, "a"), place("other"));
        let found = |context, identity| {
            let found = config.control_plane(context, identity).unwrap();
            found.and_then(|found| found.place(&key("cwp", None, "a"))?.context.clone())
        };
        assert_eq!(found(Some("renamed"), Some("one")).as_deref(), Some("build"));
        assert_eq!(found(Some("prod"), None).as_deref(), Some("build"), "the identity can't be read");
        assert_eq!(found(Some("old"), Some("three")).as_deref(), Some("other"), "none was kept");
        assert_eq!(found(Some("other"), Some("three")), None);
        let error = config.control_plane(Some("prod"), Some("two")).unwrap_err();
        assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
        let known = config.control_plane(Some("prod"), None).unwrap().unwrap();
        assert_eq!(known.named(&"cbp/a".parse().unwrap(), None).len(), 1);
        assert!(known.named(&"dp/a".parse().unwrap(), None).is_empty());
        assert!(known.place(&key("cwp", None, "b")).is_none());
    }

    #[test]
    fn what_is_wrong_is_reported_with_its_place() {
        let plane = |fields: &str| format!("controlPlanes:\n- planes:\n  - {fields}\n");
        for (text, reported) in [
            ("x: 1\n".to_owned(), ":1:1: unknown field x"),
            ("controlPlanes: 1\n".to_owned(), ":1:16: controlPlanes must be a list"),
            ("- a\n".to_owned(), "must be a mapping"),
            ("a: [\n".to_owned(), "config.yaml:"),
            ("{}\n---\n{}\n".to_owned(), "only one document"),
            (plane("{name: a}"), ":3:5: the plane has no kind"),
            (plane("{kind: Pod, name: a}"), ":3:12: Pod is not a kind of plane"),
            (plane("{kind: DataPlane, name: a}"), "a DataPlane needs a namespace"),
            (plane("{kind: cwp, namespace: team, name: a}"), "a ClusterWorkflowPlane has no namespace"),
            (plane("{kind: cwp, name: 1}"), ":3:23: name must be a string"),
            (plane("{kind: cwp, name: a, gatewayURL: ftp://x}"), ":3:38: gatewayURL: "),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(reported), "{text}{error}");
        }
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn the_file_is_where_the_variable_or_the_platform_says() {
        assert_eq!(path_of(Some("/x/y".into())).unwrap(), Path::new("/x/y"));
        assert!(path_of(Some(OsString::new())).unwrap().ends_with("choreoctl/config.yaml"));
    }
}
