//! Whether a controller runs that removes the finalizer of planes of a kind.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use serde_json::Value;

use super::controller::CONTROLLER;
use super::objects::{Collection, DEPLOYMENT, ObjectRef, POD, SERVICE};
use super::source::{Source, text};
use crate::plane::{CONTROL_NAMESPACE, GATEWAY_SERVICE, Kind, NamespacedName, Release};

/// Who removes the finalizer of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remover {
    /// The controller, as far as is known.
    #[default]
    Controller,
    /// Nobody: the release that runs has another kind instead.
    Nobody { release: Release, instead: &'static Kind },
    /// Which release runs is unknown, and that of the CRDs has another kind instead.
    Unknown { instead: &'static Kind },
}

impl Remover {
    /// By the release that runs; where that is unknown, by the kinds that are served. CRDs alone prove nothing: an upgrade
    /// applies them before it replaces the controller, and Helm never removes them.
    pub fn of(kind: &Kind, running: Option<Release>, served: &[&'static Kind]) -> Self {
        match running {
            Some(release) => match kind.in_release(release).filter(|other| *other != kind) {
                Some(instead) => Self::Nobody { release, instead },
                None => Self::Controller,
            },
            None => match kind.successor().filter(|kind| served.contains(kind)) {
                Some(instead) => Self::Unknown { instead },
                None => Self::Controller,
            },
        }
    }
}

/// Who removes the finalizers of kinds; of those that every release has it is the controller, and they are left out.
pub async fn removers(
    source: &impl Source,
    kinds: impl IntoIterator<Item = &'static Kind>,
) -> HashMap<&'static Kind, Remover> {
    let kinds: BTreeSet<_> = kinds.into_iter().filter(|kind| !kind.family.is_of_all_releases()).collect();
    if kinds.is_empty() {
        return HashMap::new();
    }
    let served = async |kind: &'static Kind| source.served(kind).await.is_ok().then_some(kind);
    let successors = join_all(kinds.iter().filter_map(|kind| kind.successor()).map(served));
    let (running, served) = tokio::join!(running_release(source, CONTROL_NAMESPACE), successors);
    let served: Vec<_> = served.into_iter().flatten().collect();
    kinds.into_iter().map(|kind| (kind, Remover::of(kind, running, &served))).collect()
}

/// The release of the controller in a namespace: by its pods, else by its Deployment, else by the gateway's Service. None
/// where none of them can be read, or says so.
pub async fn running_release(source: &impl Source, namespace: &str) -> Option<Release> {
    for kind in [POD, DEPLOYMENT] {
        let all = Collection::of(kind, Some(namespace)).labelled(CONTROLLER);
        // While an older one is left, it does its work.
        let oldest = source.list(&all, release_of).await.ok().and_then(|found| found.into_iter().min());
        if oldest.is_some() {
            return oldest;
        }
    }
    let gateway = NamespacedName { namespace: namespace.into(), name: GATEWAY_SERVICE.into() };
    release_of(&source.get(&ObjectRef::named(SERVICE, &gateway)).await.ok()?)
}

/// By the tags of the images, else by the chart's label.
fn release_of(object: &Value) -> Option<Release> {
    let containers = ["/spec/containers", "/spec/template/spec/containers"];
    let containers = containers.into_iter().filter_map(|place| object.pointer(place)?.as_array()).flatten();
    let tag = |container: &Value| {
        let (image, _) = text(container, "/image").split_once('@').unwrap_or((text(container, "/image"), ""));
        image.rsplit_once(':')?.1.parse().ok()
    };
    containers.filter_map(tag).min().or_else(|| {
        object["metadata"]["labels"]["app.kubernetes.io/version"].as_str().and_then(|text| text.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use serde_json::json;

    fn pod(name: &str, image: &str, version: &str) -> Value {
        let labels = json!({"app.kubernetes.io/component": "controller-manager", "app.kubernetes.io/version": version});
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": name, "labels": labels},
            "spec": {"containers": [{"name": "manager", "image": image}]},
        })
    }

    #[tokio::test]
    async fn the_release_is_that_of_what_runs() {
        let (old, new) = (pod("old", "h:5000/controller:v0.17.0@sha256:00", ""), pod("new", "controller:v1.2.3", ""));
        let mut deployment = pod("a", "", "");
        deployment["spec"] = json!({"template": {"spec": {"containers": [{"image": "x/controller:1.0.0"}]}}});
        (deployment["apiVersion"], deployment["kind"]) = ("apps/v1".into(), "Deployment".into());
        let labels = json!({"app.kubernetes.io/version": "0.17.0"});
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "n", "name": GATEWAY_SERVICE, "labels": labels},
        });
        let cases = [
            (vec![], None),
            (vec![new.clone()], Some(Release::V1)),
            // An upgrade is under way.
            (vec![new, old], Some(Release::V0)),
            (vec![pod("a", "controller:main", "1.2.0"), service.clone()], Some(Release::V1)),
            (vec![pod("a", "h:5000/controller", ""), deployment.clone(), service.clone()], Some(Release::V1)),
            (vec![service], Some(Release::V0)),
        ];
        for (objects, expected) in cases {
            assert_eq!(running_release(&Fake::of(objects.clone()).cluster(), "n").await, expected, "{objects:?}");
        }
    }

    #[test]
    fn a_served_kind_proves_nothing() {
        let [old, new] = ["cbp", "cwp"].map(|word| Kind::of_word(word).unwrap());
        let of = |running, served: &[&'static Kind]| Remover::of(old, running, served);
        assert_eq!(of(None, &[old]), Remover::Controller);
        assert_eq!(of(None, &[old, new]), Remover::Unknown { instead: new });
        assert_eq!(of(Some(Release::V0), &[old, new]), Remover::Controller);
        assert_eq!(of(Some(Release::V1), &[old]), Remover::Nobody { release: Release::V1, instead: new });
        assert_eq!(Remover::of(new, None, &[old, new]), Remover::Controller);
    }
}
