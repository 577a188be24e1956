//! Rights of RBAC, and the roles that grant them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::manifest::to_yaml;

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub verb: &'static str,
    /// API group, empty for the core one.
    pub group: &'static str,
    pub resource: &'static str,
    /// None for a right in the whole cluster.
    pub namespace: Option<String>,
}

impl Right {
    pub fn new(verb: &'static str, group: &'static str, resource: &'static str, namespace: Option<&str>) -> Self {
        Self { verb, group, resource, namespace: namespace.map(str::to_owned) }
    }
}

/// Verbs by API group and resource.
type Rules<'r> = BTreeMap<(&'r str, &'r str), BTreeSet<&'r str>>;

/// The roles that grant rights, and a binding for each to a user that is yet to be filled in, as YAML documents.
fn roles<'r>(name: &str, rights: impl Iterator<Item = &'r Right>) -> anyhow::Result<String> {
    let mut rules: BTreeMap<Option<&str>, Rules<'_>> = BTreeMap::new();
    for right in rights {
        let verbs = rules.entry(right.namespace.as_deref()).or_default().entry((right.group, right.resource));
        verbs.or_default().insert(right.verb);
    }
    let documents = rules.into_iter().flat_map(|(namespace, rules)| {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        let rule = |((group, resource), verbs): ((&str, &str), BTreeSet<&str>)| -> Value {
            json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
        };
        let rules: Vec<_> = rules.into_iter().map(rule).collect();
        let group = "rbac.authorization.k8s.io";
        let version = format!("{group}/v1");
        [
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules}),
            json!({
                "apiVersion": version,
                "kind": format!("{kind}Binding"),
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": name},
                "subjects": [{"apiGroup": group, "kind": "User", "name": "USER"}],
            }),
        ]
    });
    let documents = documents.map(|document| to_yaml(&document)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(documents.join("---\n"))
}

/// The command by which an administrator grants rights through roles of this name, where `kubectl` is the start of the
/// command line; none without any rights.
pub fn grant<'r>(name: &str, kubectl: &str, rights: impl Iterator<Item = &'r Right>) -> Option<String> {
    let roles = roles(name, rights).ok().filter(|roles| !roles.is_empty())?;
    Some(format!("{kubectl} -f - <<'EOF'\n{roles}EOF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_become_roles() {
        let rights = [
            Right::new("list", "apps", "deployments", Some("agents")),
            Right::new("get", "", "secrets", Some("agents")),
            Right::new("list", "openchoreo.dev", "clusterbuildplanes", None),
            Right::new("get", "openchoreo.dev", "clusterbuildplanes", None),
        ];
        let granted = grant("choreoctl", "kubectl apply --context a", rights.iter()).unwrap();
        let expected = "\
kubectl apply --context a -f - <<'EOF'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: choreoctl
rules:
- apiGroups:
  - openchoreo.dev
  resources:
  - clusterbuildplanes
  verbs:
  - get
  - list
---
";
        assert!(granted.starts_with(expected), "{granted}");
        assert_eq!(granted.matches("kind: Role\n").count(), 2, "{granted}");
        assert!(granted.contains("namespace: agents") && granted.ends_with("name: USER\nEOF"), "{granted}");
        assert_eq!(grant("choreoctl", "kubectl apply", [].iter()), None);
    }
}
