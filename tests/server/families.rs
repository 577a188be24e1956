//! Three planes of three families in one cluster, at a gateway of OpenChoreo 1.x: each is registered from nothing until it is
//! connected, one of them gets a new CA, and the others notice nothing of it.

use serde_json::{Value, json};

use super::control_plane::Output;
use super::estate::{Estate, names};
use super::helm::cert_manager;
use super::hints::paste;

stories!(
    Go:
        planes_of_three_families_are_registered_and_one_is_rotated;
);

/// A plane: the agent's plane type, the words that name it, and what its registration takes beside.
struct Plane {
    plane_type: &'static str,
    words: &'static str,
    more: &'static str,
}

/// All of one planeID, which the gateway takes for three.
const PLANES: [Plane; 3] = [
    Plane { plane_type: "workflowplane", words: "cwp/one", more: "" },
    Plane { plane_type: "dataplane", words: "dp/one -n team", more: "" },
    Plane { plane_type: "observabilityplane", words: "cop/one", more: " --observer-url https://observer.example.com" },
];

/// The object of a plane without its status, and that of its agent's Secrets, as they are stored.
fn stored(at: &Estate, plane: &Plane) -> (Value, Value) {
    let words: Vec<_> = plane.words.split(' ').collect();
    let mut object = at
        .control
        .kubectl(&[&["get"], words.as_slice(), &["-o", "json", "--show-managed-fields=false"]].concat(), "")
        .json();
    object.as_object_mut().unwrap().remove("status");
    object["metadata"].as_object_mut().unwrap().retain(|field, _| field == "generation" || field == "uid");
    let namespace = names(plane.plane_type).0;
    let secrets = at.build.kubectl(&["get", "secrets", "-n", &namespace, "-o", "json"], "").json();
    let version = |secret: &Value| [secret["metadata"]["name"].clone(), secret["metadata"]["resourceVersion"].clone()];
    (
        object,
        secrets["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(version)
            .collect::<Vec<_>>()
            .into_iter()
            .map(Value::from_iter)
            .collect(),
    )
}

/// Registers a plane with a certificate of its own and installs its chart.
fn register(at: &Estate, plane: &Plane, build: &str) -> Output {
    let url = format!("wss://localhost:{}/ws", at.port);
    let flags = format!("--plane-id one --gateway-url {url} --agent-certificate own --install --yes -o json {build}");
    paste(at, &format!("choreoctl bootstrap {} {flags}{} --out-dir {}", plane.words, plane.more, plane.plane_type))
}

pub fn planes_of_three_families_are_registered_and_one_is_rotated() {
    let mut at = Estate::of(&PLANES.map(|plane| (plane.plane_type, "one")));
    at.order("era v1");
    at.control.kubectl(&["create", "namespace", "team"], "");
    at.control_namespace();
    let kinds = ["cwp", "workflowplane", "cdp", "dp", "cop", "observabilityplane"];
    for kind in kinds.into_iter().filter(|_| !at.is_real()) {
        let crd = at.control.run(&["crd", kind, "--release", "v1.2"]).expect(0).stdout;
        at.control.kubectl(&["apply", "-f", "-"], &crd);
    }
    at.control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    cert_manager(&at);
    // From nothing: the double's agents come with the chart.
    for plane in &PLANES {
        let (namespace, _) = names(plane.plane_type);
        at.build.kubectl(&["delete", "deployment,secret,configmap", "--all", "-n", &namespace], "");
    }
    let build = format!("--plane-kubeconfig {}", at.build.kubeconfig().display());
    for plane in &PLANES {
        let reported = register(&at, plane, &build).expect(0).stdout;
        let last: Value = serde_json::from_str(reported.lines().last().unwrap()).unwrap();
        assert_eq!([&last["step"], &last["status"]], ["wait", "done"], "{reported}");
    }
    // Once more nothing is done.
    let before: Vec<_> = PLANES.iter().map(|plane| stored(&at, plane)).collect();
    for plane in &PLANES {
        let again = register(&at, plane, &build).expect(0).stdout;
        assert!(!again.contains("\"done\""), "{again}");
    }
    assert_eq!(PLANES.iter().map(|plane| stored(&at, plane)).collect::<Vec<_>>(), before);
    let fleet = paste(&at, "choreoctl get planes -A -o json").expect(0).json();
    let connected =
        fleet["items"].as_array().unwrap().iter().filter(|it| it["status"]["agentConnection"]["connected"] == true);
    assert_eq!(connected.count(), 3, "{fleet}");

    at.settle();
    let rotate = format!("choreoctl certs rotate {} --again --out-dir new -o json {build}", PLANES[1].words);
    let reported = paste(&at, &rotate).expect(0).stdout;
    assert!(reported.contains("\"finish\""), "{reported}");
    at.nobody_was_refused();
    let after: Vec<_> = PLANES.iter().map(|plane| stored(&at, plane)).collect();
    assert_ne!(after[1], before[1]);
    assert_eq!([&after[0], &after[2]], [&before[0], &before[2]], "the others are as they were");
    let spec = json!(after[1].0["spec"]["clusterAgent"]["clientCA"]["value"]);
    assert_eq!(spec, json!(at.control.read("new/ca.crt")));
    let again = register(&at, &PLANES[1], &build).expect(0).stdout;
    assert!(!again.contains("\"done\""), "{again}");
    for plane in &PLANES {
        let verify = format!("choreoctl certs verify --cert agent --plane {} {build}", plane.words);
        paste(&at, &verify).expect(0);
    }
}
