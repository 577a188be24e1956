//! What of an object goes into a dump: lists of what is kept, since anything may stand beside it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cluster::{CERT_MANAGER, CONTAINER, REVISION, StoredSecret};
use crate::estate::{CERTIFICATE, CERTIFICATE_REQUEST, ISSUE, ISSUER, Pair};
use crate::pki::{Bundle, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY};
use crate::plane::{CA_KEY, DESCRIPTION, DISPLAY_NAME, GATEWAY_CONTAINER, KEY_FITS, KINDS, ROTATION};
use crate::secrets::without_tokens;

const METADATA: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "finalizers",
];
/// Annotation of a pod template by which `kubectl rollout restart` makes new pods.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
const ANNOTATIONS: [&str; 7] = [DISPLAY_NAME, DESCRIPTION, CERT_MANAGER, REVISION, ISSUE, ROTATION, RESTARTED];
/// Fields of a plane's spec: earlier releases have credentials in others.
const SPEC: [&str; 5] = ["planeID", "secretStoreRef", "observabilityPlaneRef", "observerURL", "gateway"];
/// Arguments of the agent and of the gateway.
const ARGUMENTS: [&str; 8] = [
    "--server-url",
    "--plane-type",
    "--plane-id",
    "--tls-enabled",
    "--internal-mtls",
    "--internal-client-ca-cert",
    "--agent-auth-mode",
    "--forwarded-header-name",
];
/// The containers of the agent, the gateway and the controller.
const CONTAINERS: [&str; 3] = [CONTAINER, GATEWAY_CONTAINER, "manager"];
/// What is in a dump for a text that holds no certificate.
const LEFT_OUT: &str = "(left out of the dump: it holds no certificate)";

/// An object as it goes into a dump; of a Secret or ConfigMap with certificates and with one more key.
pub fn kept(object: &Value, key: Option<&str>) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut kept = fields(object, &["apiVersion", "kind", "type"]);
    kept["metadata"] = metadata(object);
    let spec = &object["spec"];
    let is_plane = KINDS.iter().any(|known| known.kind == kind);
    match kind {
        _ if is_plane => {
            kept["metadata"]["managedFields"] = object["metadata"]["managedFields"].clone();
            // Of an observability plane that others refer to no more than its metadata was read.
            if !spec.is_null() {
                let mut own = fields(spec, &SPEC);
                own["clusterAgent"] = fields(&spec["clusterAgent"], &["clientCA"]);
                kept["spec"] = with_certificates_only(own);
                kept["status"] = object["status"].clone();
            }
        }
        "Secret" => secret(object, key, &mut kept),
        "ConfigMap" => {
            if let Some(text) = object["data"][CA_KEY].as_str() {
                kept["data"] = json!({CA_KEY: certificates(text)});
                kept["metadata"]["managedFields"] = writers_of(object, &[CA_KEY]);
            }
        }
        "Lease" => kept["spec"] = fields(spec, &["renewTime", "acquireTime"]),
        "Service" => {
            kept["spec"] = fields(spec, &["selector", "type"]);
            let ports = spec["ports"].as_array().into_iter().flatten();
            kept["spec"]["ports"] = ports.map(|port| fields(port, &["name", "port"])).collect();
        }
        "Event" => {
            let event = fields(object, &["type", "reason", "message", "lastTimestamp", "eventTime", "count"]);
            merge(&mut kept, event);
            kept["involvedObject"] = fields(&object["involvedObject"], &["kind", "namespace", "name"]);
            kept["source"] = fields(&object["source"], &["component"]);
        }
        "Deployment" => {
            let template = &spec["template"];
            kept["spec"] = fields(spec, &["replicas", "selector"]);
            kept["metadata"]["managedFields"] = writers_of_parts(object);
            kept["spec"]["template"] = json!({"metadata": metadata(template), "spec": pod(&template["spec"])});
        }
        "Pod" => {
            kept["spec"] = pod(spec);
            kept["status"] = pod_status(&object["status"]);
        }
        _ if kind == CERTIFICATE.kind => {
            kept["spec"] = fields(spec, &["secretName", "issuerRef"]);
            kept["metadata"]["managedFields"] = writers_of_parts(object);
            kept["status"] = fields(&object["status"], &["conditions", "renewalTime"]);
        }
        _ if kind == ISSUER.kind => {
            kept["spec"] = json!({"ca": fields(&spec["ca"], &["secretName"])});
            kept["status"] = fields(&object["status"], &["conditions"]);
        }
        _ if kind == CERTIFICATE_REQUEST.kind => {
            kept["status"] = fields(&object["status"], &["conditions"]);
            kept["status"]["certificate"] = in_base64(&object["status"]["certificate"]);
        }
        "CustomResourceDefinition" => kept["spec"] = crd(spec),
        _ => {}
    }
    kept
}

/// These fields of an object, as far as they are there.
fn fields(object: &Value, names: &[&str]) -> Value {
    let field = |name: &&str| Some(((*name).to_owned(), object.get(*name)?.clone()));
    Value::Object(names.iter().filter_map(field).collect::<Map<_, _>>())
}

fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

fn metadata(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = fields(metadata, &METADATA);
    kept["annotations"] = fields(&metadata["annotations"], &ANNOTATIONS);
    kept
}

/// The certificates of a text, and what kind of text it was.
fn certificates(text: &str) -> String {
    let found = Bundle::from(text);
    if !found.ders().is_empty() {
        return Bundle::from_iter(found.ders()).pem().to_owned();
    }
    match Bundle::normalized(text.as_bytes()) {
        // Not raw PEM there, and so not here.
        Ok(bundle) => STANDARD.encode(bundle.pem()),
        Err(_) if text.trim().is_empty() => text.to_owned(),
        Err(_) => LEFT_OUT.into(),
    }
}

/// The certificates of a text in base64, in base64.
fn in_base64(text: &Value) -> Value {
    let bytes = text.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    STANDARD.encode(certificates(&String::from_utf8_lossy(&bytes))).into()
}

/// A plane's spec, whose inline CA may have anything around its certificates.
fn with_certificates_only(mut spec: Value) -> Value {
    if let Some(value) = spec.pointer_mut("/clusterAgent/clientCA/value")
        && let Some(text) = value.as_str()
    {
        *value = certificates(text).into();
    }
    spec
}

/// Of a Secret its certificates, whether its key belongs to them, and when they were written.
fn secret(object: &Value, key: Option<&str>, kept: &mut Value) {
    let Some(secret) = StoredSecret::of_object(object) else {
        return;
    };
    let (mut data, mut names) = (Map::new(), Vec::new());
    for name in [LEAF_CERTIFICATE, CA_KEY].into_iter().chain(key) {
        if object["data"].get(name).is_some() && name != LEAF_PRIVATE_KEY {
            data.insert(name.to_owned(), STANDARD.encode(certificates(&secret.text(name))).into());
            names.push(name);
        }
    }
    kept["data"] = data.into();
    if !secret.bytes(LEAF_PRIVATE_KEY).is_empty() {
        let fits = Pair::of(&secret).is_ok_and(|pair| pair.fits);
        kept["metadata"]["annotations"][KEY_FITS] = fits.to_string().into();
    }
    // Of a revision of a Helm release nothing is kept but when it was made and by whom.
    let is_release = object["metadata"]["labels"]["owner"] == "helm";
    kept["metadata"]["managedFields"] =
        if is_release { writers(object, |_| Some(json!({"f:metadata": {}}))) } else { writers_of(object, &names) };
}

/// Who wrote keys of a Secret or ConfigMap, and when.
fn writers_of(object: &Value, keys: &[&str]) -> Value {
    let names: Vec<_> = keys.iter().map(|key| format!("f:{key}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    writers(object, |owned| {
        let data = fields(&owned["f:data"], &names);
        data.as_object().is_some_and(|data| !data.is_empty()).then(|| json!({"f:data": data}))
    })
}

/// Who wrote which parts of a spec, and when.
fn writers_of_parts(object: &Value) -> Value {
    writers(object, |owned| {
        let parts = owned["f:spec"].as_object()?.keys();
        let parts: Map<_, _> =
            parts.filter(|part| part.starts_with("f:")).map(|part| (part.clone(), json!({}))).collect();
        Some(json!({"f:spec": parts}))
    })
}

/// Who wrote an object, and when, with what is kept of the fields that each owns.
fn writers(object: &Value, of: impl Fn(&Value) -> Option<Value>) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let entries = entries.filter_map(|entry| {
        let mut kept = fields(entry, &["manager", "operation", "apiVersion", "time", "fieldsType"]);
        kept["fieldsV1"] = of(&entry["fieldsV1"])?;
        Some(kept)
    });
    entries.collect()
}

/// Whether it is a container that is looked at.
fn is_known(container: &&Value) -> bool {
    CONTAINERS.iter().any(|name| container["name"] == *name)
}

/// Of a pod what its program runs with: no environment, no other container, no argument that isn't known.
fn pod(spec: &Value) -> Value {
    let containers = spec["containers"].as_array().into_iter().flatten().filter(is_known).map(|container| {
        let words = ["command", "args"].map(|field| container[field].as_array().cloned().unwrap_or_default()).concat();
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        json!({"name": container["name"], "image": container["image"], "args": arguments(&words)})
    });
    let volumes = spec["volumes"].as_array().into_iter().flatten().map(|volume| {
        let mut kept = fields(volume, &["name"]);
        if let Some(secret) = volume.get("secret") {
            kept["secret"] = fields(secret, &["secretName"]);
        }
        if let Some(map) = volume.get("configMap") {
            kept["configMap"] = fields(map, &["name"]);
        }
        kept
    });
    json!({"containers": containers.collect::<Vec<_>>(), "volumes": volumes.collect::<Vec<_>>()})
}

/// The known ones of the agent's arguments, each as one word.
fn arguments(words: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        if ARGUMENTS.contains(&name) {
            let value = if word.contains('=') { value } else { words.next().copied().unwrap_or_default() };
            kept.push(format!("{name}={}", without_user(value)));
        }
    }
    kept
}

/// Takes tokens out of every text of an object, wherever it came from: bearer and basic credentials, JSON Web Tokens, and
/// what is assigned to a name that says that it is secret.
pub fn hide_tokens(object: &mut Value) {
    match object {
        Value::String(text) => {
            if let Cow::Owned(hidden) = without_tokens(text) {
                *text = hidden;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_tokens),
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| hide_tokens(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A URL whose user, and password, nobody else may see.
pub fn without_user(url: &str) -> String {
    let hidden = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
        Some(format!("{scheme}://user{}", &rest[user.len()..]))
    });
    hidden.unwrap_or_else(|| url.to_owned())
}

fn pod_status(status: &Value) -> Value {
    let state = |state: &Value| {
        let of = |kind: &str| {
            let known = ["reason", "startedAt", "finishedAt", "exitCode"];
            Some((kind.to_owned(), fields(state.get(kind)?, &known)))
        };
        Value::Object(["waiting", "running", "terminated"].into_iter().filter_map(of).collect())
    };
    let container = |container: &Value| {
        let mut kept = fields(container, &["name", "ready", "restartCount"]);
        merge(&mut kept, json!({"image": "", "imageID": ""}));
        (kept["state"], kept["lastState"]) = (state(&container["state"]), state(&container["lastState"]));
        kept
    };
    let containers = |field: &str| status[field].as_array().into_iter().flatten();
    let own = containers("containerStatuses").filter(is_known).map(container);
    let conditions = containers("conditions").map(|condition| fields(condition, &["type", "status", "reason"]));
    let mut kept = fields(status, &["phase"]);
    kept["conditions"] = conditions.collect();
    kept["containerStatuses"] = own.collect();
    kept["initContainerStatuses"] = containers("initContainerStatuses").map(container).collect();
    kept
}

/// Of a CRD what it says of a plane's spec, without the texts.
fn crd(spec: &Value) -> Value {
    const SPEC: &str = "/schema/openAPIV3Schema/properties/spec";
    let versions = spec["versions"].as_array().into_iter().flatten().map(|version| {
        let mut spec = version.pointer(SPEC).cloned().unwrap_or_default();
        without_descriptions(&mut spec);
        let mut kept = fields(version, &["name", "served"]);
        kept["schema"] = json!({"openAPIV3Schema": {"properties": {"spec": spec}}});
        kept
    });
    json!({"versions": versions.collect::<Vec<_>>()})
}

fn without_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(without_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_hidden_in_every_text() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
        let mut object = json!({
            "message": format!("401 for Authorization: Bearer {jwt}, retry"),
            "list": [jwt, "basic dXNlcjpwYXNzd29yZA== was refused", {"url": "wss://user:hunter2@host/ws"}],
            "assigned": "token=abcdef123 password: 'hunter2' API_KEY=hunter2;",
        });
        hide_tokens(&mut object);
        let text = object.to_string();
        for secret in [jwt, "dXNlcjpwYXNz", "hunter2", "abcdef123"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("Bearer (token), retry") && text.contains("wss://(token)@host/ws"), "{text}");
        let harmless = [
            "MountVolume.SetUp failed for volume \"client-certs\" : secret \"cluster-agent-tls\" not found",
            "secret/openchoreo-control-plane/buildplane-agent-ca:ca.crt",
            "Basic authentication failed; the token expired",
            "wss://gateway.example.com:8443/ws",
        ];
        for text in harmless {
            assert_eq!(without_tokens(text), text);
        }
    }

    #[test]
    fn who_wrote_a_ca_and_when_is_kept() {
        let entry = |manager: &str, data: Value| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": data}})
        };
        let ours = entry("kubectl", json!({"f:ca.crt": {}}));
        let written =
            json!([entry("kubectl", json!({"f:ca.crt": {}, "f:other": {}})), entry("x", json!({"f:other": {}}))]);
        let map =
            json!({"kind": "ConfigMap", "metadata": {"name": "a", "managedFields": written}, "data": {"ca.crt": ""}});
        assert_eq!(kept(&map, None)["metadata"]["managedFields"], json!([ours]));
    }

    #[test]
    fn nothing_is_kept_that_is_not_looked_at() {
        let certificate =
            rcgen::CertificateParams::default().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let (pem, key) = (certificate.pem(), rcgen::KeyPair::generate().unwrap().serialize_pem());
        let encoded = |text: &str| STANDARD.encode(text);
        let tls = format!("token: SECRET\n{pem}password=SECRET\n");
        let status = json!({"name": "other", "ready": true, "restartCount": 1, "lastState": {"terminated": {"exitCode": 1, "message": "SECRET"}}});
        let mut agent = status.clone();
        agent["name"] = "agent".into();
        let pod = json!({
            "containers": [
                {"name": "agent", "env": [{"name": "A", "value": "SECRET"}], "args": ["--server-url", "wss://a:SECRET@h/ws", "--plane-id=x", "--token=SECRET"]},
                {"name": "other", "args": ["SECRET"]},
            ],
            "volumes": [{"name": "v", "csi": {"volumeAttributes": {"a": "SECRET"}}}, {"name": "client-certs", "secret": {"secretName": "s", "items": [{"key": "SECRET"}]}}],
        });
        let annotations =
            json!({"kubectl.kubernetes.io/last-applied-configuration": "SECRET", "argocd.token": "SECRET"});
        let auth = json!({"planeID": "x", "kubernetesCluster": {"bearerToken": "SECRET"}, "clusterAgent": {"clientCA": {"value": tls}, "x": "SECRET"}});
        let objects = [
            json!({"kind": "Secret", "data": {"tls.crt": encoded(&tls), "tls.key": encoded(&key), "token": encoded("SECRET"), "own": encoded(&tls)}}),
            json!({"kind": "ConfigMap", "data": {"ca.crt": tls, "token": "SECRET", "kubeconfig": "SECRET"}}),
            json!({"kind": "BuildPlane", "spec": auth}),
            json!({"kind": "ClusterDataPlane", "spec": auth}),
            json!({"kind": "ClusterBuildPlane", "spec": {"clusterAgent": {"clientCA": {"value": tls}}}}),
            json!({"kind": "ClusterObservabilityPlane", "spec": {"basicAuth": {"password": "SECRET"}}}),
            json!({"kind": "Pod", "spec": pod, "status": {"containerStatuses": [agent, status], "initContainerStatuses": [status], "message": "SECRET"}}),
            json!({"kind": "Deployment", "spec": {"template": {"metadata": {"annotations": annotations}, "spec": pod}}}),
            json!({"kind": "Lease", "spec": {"renewTime": "x", "holderIdentity": "SECRET"}}),
            json!({"kind": "Service", "spec": {"selector": {}, "externalName": "SECRET"}}),
        ];
        for mut object in objects {
            object["metadata"] = json!({"name": "a", "namespace": "b", "annotations": annotations});
            let text = kept(&object, Some("own")).to_string();
            assert!(!text.contains("SECRET") && !text.contains(&encoded("SECRET")), "{text}");
            let data = &kept(&object, Some("own"))["data"];
            for value in data.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_str) {
                let text =
                    STANDARD.decode(value).map_or_else(|_| value.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
                assert!(text.starts_with("-----BEGIN CERTIFICATE") && !text.contains("SECRET"), "{text}");
            }
        }
        assert_eq!(
            arguments(&["--server-url", "wss://a:b@h/ws", "--x", "--plane-id=y"]),
            ["--server-url=wss://user@h/ws", "--plane-id=y"]
        );
        let base64 = encoded(&pem);
        for (text, kept) in [("", ""), ("hello", LEFT_OUT), (base64.as_str(), base64.as_str())] {
            assert_eq!(certificates(text), kept);
        }
    }
}
