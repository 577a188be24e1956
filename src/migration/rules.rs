//! What has to change in an object: its kind and fields, and what refers to planes.

use std::ops::Range;
use std::sync::LazyLock;

use crate::manifest::{Entry, Node, Object};
use crate::plane::{DEFAULT_KIND, Field, KINDS, Kind, Release};
use crate::text::visible;
use crate::validate::Fix;

/// The label that names the build plane of an object.
pub const LABEL: [&str; 2] = ["openchoreo.dev/build-plane", "openchoreo.dev/workflow-plane"];
/// The field that refers to the plane.
pub const REFERENCE: [&str; 2] = ["buildPlaneRef", "workflowPlaneRef"];
/// The field of data planes that v1.0 removed.
pub const PULL_SECRETS: &str = "imagePullSecretRefs";

/// What the API server and controllers write about a stored object. It is wrong of an object of another kind.
const OF_STORED: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A change that an object needs.
#[derive(Debug)]
pub struct Want {
    /// What is changed, as `kind`.
    pub noun: &'static str,
    pub place: Range<usize>,
    /// None where it takes a person.
    pub fix: Option<Fix>,
    /// What is lost with it, and what to do about it.
    pub loss: Option<(String, &'static str)>,
    /// What to do where it is not made.
    pub by_hand: String,
}

impl Want {
    fn rename(noun: &'static str, word: &Range<usize>, from: &str, name: &str) -> Self {
        let fix = Fix::Rename { word: word.clone(), from: from.to_owned(), name: name.to_owned() };
        Self { noun, place: word.clone(), fix: Some(fix), loss: None, by_hand: format!("write `{name}`") }
    }

    /// A key of a mapping, which may have the other one already.
    fn rename_key(noun: &'static str, mapping: &Node, [from, name]: [&str; 2]) -> Option<Self> {
        let mut want = Self::rename(noun, &mapping.entry(from)?.key_span, from, name);
        if mapping.entry(name).is_some() {
            want.fix = None;
            want.by_hand = format!("remove `{from}`: `{name}` already exists");
        }
        Some(want)
    }

    /// A field that has no successor.
    fn remove(object: Object<'_>, mapping: &Node, field: &str, help: &'static str) -> Option<Self> {
        let Entry { key_span: key, node, .. } = mapping.entry(field)?;
        let fix = Fix::Remove {
            key: key.clone(),
            name: field.to_owned(),
            value: node.span.clone(),
            mapping: mapping.span.clone(),
        };
        let (title, was) = (title(object), node.to_json());
        let loss = format!("{field} of {title} is removed, because v1.0 has no such field; it was {was}");
        Some(Self {
            noun: "removal",
            place: key.clone(),
            fix: (mapping.entries().len() > 1).then_some(fix),
            loss: Some((loss, help)),
            by_hand: format!("remove it; {help}"),
        })
    }
}

/// Returns the removals of all entries of a mapping that are meant, each with its neighbours that are removed, too: in one
/// line the commas of several would overlap.
fn removals<'n>(mapping: &'n Node, is_meant: impl Fn(&Entry) -> bool) -> impl Iterator<Item = Want> + 'n {
    let entries = mapping.entries();
    let flags: Vec<_> = entries.iter().map(is_meant).collect();
    let is_all = flags.iter().all(|is_meant| *is_meant);
    let runs = entries.iter().zip(flags).collect::<Vec<_>>();
    let runs: Vec<Vec<&Entry>> = runs
        .chunk_by(|a, b| a.1 == b.1)
        .filter(|run| run[0].1)
        .map(|run| run.iter().map(|(entry, _)| *entry).collect())
        .collect();
    runs.into_iter().flat_map(move |run| {
        let fix = Fix::Remove {
            key: run[0].key_span.clone(),
            name: run[0].key.clone(),
            value: run[run.len() - 1].node.span.clone(),
            mapping: mapping.span.clone(),
        };
        run.into_iter().map(move |entry| Want {
            noun: "removal",
            place: entry.key_span.clone(),
            fix: (!is_all).then(|| fix.clone()),
            loss: None,
            by_hand: "remove it: it belongs to the object of the old kind".into(),
        })
    })
}

/// Returns the kind that took the place of a kind of this name.
fn successor(kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|one| one.kind == kind)?.successor()
}

/// Whether it is of OpenChoreo, and no plane.
fn is_own(object: Object<'_>) -> bool {
    object.api_version() == DEFAULT_KIND.api_version()
}

/// Whether it is a Workflow of OpenChoreo.
pub fn is_workflow(object: Object<'_>) -> bool {
    object.kind() == "Workflow" && is_own(object)
}

/// Returns what an object is called in a message.
pub fn title(object: Object<'_>) -> String {
    match (object.kind(), object.name()) {
        ("", _) => "the document".to_owned(),
        (kind, name) => visible(format!("{kind} {name}").trim_end()).into_owned(),
    }
}

/// Returns the change that a list of one kind needs, apart from its items.
pub fn list(root: &Node) -> Option<Want> {
    let node = root.get("kind")?;
    let kind = node.as_str()?;
    let name = format!("{}List", successor(kind.strip_suffix("List")?)?.kind);
    Some(Want::rename("kind", &node.span, kind, &name))
}

/// Returns all changes that an object needs. A kustomization needs no kind to be one.
pub fn wants(object: Object<'_>, is_kustomization: bool) -> Vec<Want> {
    let node = object.node;
    let mut wants = Vec::new();
    wants.extend(node.at(&["metadata", "labels"]).and_then(|labels| Want::rename_key("label", labels, LABEL)));
    if let Some(kind) = object.plane_kind() {
        plane(object, kind, &mut wants);
        return wants;
    }
    let spec = node.get("spec");
    match object.kind() {
        "Workflow" if is_own(object) => wants.extend(spec.into_iter().flat_map(reference)),
        "Project" if is_own(object) => {
            let help = "reference the plane in the Workflows of the project's components";
            wants.extend(spec.and_then(|spec| Want::remove(object, spec, REFERENCE[0], help)));
        }
        "AuthzRole" | "AuthzClusterRole" | "ClusterAuthzRole" if is_own(object) => {
            wants.extend(texts(spec.and_then(|spec| spec.get("actions"))).filter_map(|(action, place)| {
                let (subject, verb) = action.split_once(':')?;
                let kind = of_lowercase(subject)?;
                Some(Want::rename("action", place, action, &format!("{}:{verb}", kind.kind.to_lowercase())))
            }));
        }
        "Role" | "ClusterRole" if object.api_version().starts_with("rbac.authorization.k8s.io/") => {
            node.get("rules").into_iter().flat_map(Node::items).for_each(|rule| resources(rule, &mut wants));
        }
        _ if is_kustomization => targets(node, &mut wants),
        _ => {}
    }
    wants
}

fn plane(object: Object<'_>, kind: &Kind, wants: &mut Vec<Want>) {
    let node = object.node;
    if let (Some(successor), Some(name)) = (kind.successor(), node.get("kind")) {
        wants.push(Want::rename("kind", &name.span, kind.kind, successor.kind));
    }
    stored(object, kind, wants);
    let fields = Release::ALL.map(Release::secret_field);
    let client_ca = node.at(&["spec", "clusterAgent", "clientCA"]);
    wants.extend(client_ca.and_then(|client_ca| Want::rename_key(fields[0], client_ca, fields)));
    if let Some(spec) = node.get("spec").filter(|_| kind.has(Field::Gateway)) {
        let help = "name the Secrets as imagePullSecrets in the Pod templates of your ComponentTypes";
        wants.extend(Want::remove(object, spec, PULL_SECRETS, help));
    }
}

/// What a stored plane has and one of another kind can't take over. No controller would ever remove the finalizer of another
/// kind.
fn stored(object: Object<'_>, kind: &Kind, wants: &mut Vec<Want>) {
    let own = kind.successor().unwrap_or(kind);
    let is_renamed = own != kind;
    let is_foreign = |finalizer: &Node| finalizer.as_str().is_some_and(|text| own.is_foreign_finalizer(text));
    let all_foreign = |list: &Node| !list.items().is_empty() && list.items().iter().all(is_foreign);
    if let Some(metadata) = object.node.get("metadata") {
        let at = wants.len();
        wants.extend(removals(metadata, |entry| match entry.key.as_str() {
            "finalizers" => all_foreign(&entry.node),
            key => is_renamed && OF_STORED.contains(&key),
        }));
        if let Some(going) = metadata.entry("deletionTimestamp").filter(|_| is_renamed)
            && let Some(want) = wants[at..].iter_mut().find(|want| want.place == going.key_span)
        {
            let loss = format!("{} was being deleted", title(object));
            want.loss = Some((loss, "remove it from the manifests if it is no longer needed"));
        }
        if let Some(list) = metadata.get("finalizers").filter(|list| !all_foreign(list)) {
            wants.extend(list.items().iter().filter(|item| is_foreign(item)).map(|item| Want {
                noun: "removal",
                place: item.span.clone(),
                fix: Some(Fix::Remove {
                    key: item.span.clone(),
                    name: item.as_str().unwrap_or_default().to_owned(),
                    value: item.span.clone(),
                    mapping: list.span.clone(),
                }),
                loss: None,
                by_hand: "remove it: no controller removes the finalizer of another kind".into(),
            }));
        }
    }
    if is_renamed {
        wants.extend(removals(object.node, |entry| entry.key == "status"));
    }
}

/// The reference to a plane, and the kind in it.
fn reference(spec: &Node) -> Vec<Want> {
    let Some(field) = Want::rename_key(REFERENCE[0], spec, REFERENCE) else {
        return Vec::new();
    };
    let kind = spec.at(&[REFERENCE[0], "kind"]).filter(|_| field.fix.is_some());
    let kind = kind.and_then(|kind| {
        let name = kind.as_str()?;
        Some(Want::rename("kind", &kind.span, name, successor(name)?.kind))
    });
    [Some(field), kind].into_iter().flatten().collect()
}

/// The texts of a list, with their places.
fn texts(list: Option<&Node>) -> impl Iterator<Item = (&str, &Range<usize>)> {
    list.into_iter().flat_map(Node::items).filter_map(|item| Some((item.as_str()?, &item.span)))
}

/// Returns the kind that took the place of the one that is written so in small letters.
fn of_lowercase(word: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind.to_lowercase() == word)?.successor()
}

/// The resources of a role's rule.
fn resources(rule: &Node, wants: &mut Vec<Want>) {
    if !texts(rule.get("apiGroups")).any(|(group, _)| group == DEFAULT_KIND.group || group == "*") {
        return;
    }
    let listed = || texts(rule.get("resources"));
    wants.extend(listed().filter_map(|(resource, place)| {
        let (plural, below) = resource.split_at(resource.find('/').unwrap_or(resource.len()));
        let successor = KINDS.iter().find(|kind| kind.plural == plural)?.successor()?;
        let name = format!("{}{below}", successor.plural);
        let mut want = Want::rename("resource", place, resource, &name);
        if listed().any(|(other, _)| other == name) {
            want.fix = None;
            want.by_hand = format!("remove it once no v0.x control plane runs: `{name}` already exists");
        }
        Some(want)
    }));
}

/// The kinds that a kustomization names: in the targets of patches, and in replacements.
fn targets(node: &Node, wants: &mut Vec<Want>) {
    let group = node.get("group").and_then(Node::as_str);
    for entry in node.entries() {
        let renamed = entry.node.as_str().filter(|_| entry.key == "kind");
        match renamed.and_then(|kind| Some((kind, successor(kind)?))) {
            Some((kind, successor)) if group.is_none_or(|group| group == successor.group) => {
                wants.push(Want::rename("kind", &entry.node.span, kind, successor.kind));
            }
            _ => targets(&entry.node, wants),
        }
    }
    node.items().iter().for_each(|item| targets(item, wants));
}

/// Whether the API server keeps another reference of a Workflow than the one that it gets now: a stored Workflow has the
/// default from the moment on at which the CRD has the field, and the field never changes.
pub fn is_kept(workflow: Object<'_>) -> bool {
    let reference = workflow.node.at(&["spec", REFERENCE[0]]);
    let field = |name| reference.and_then(|reference| reference.get(name)).and_then(Node::as_str);
    is_workflow(workflow)
        && field("name").is_some_and(|name| (field("kind"), name) != (Some(DEFAULT_KIND.kind), "default"))
}

/// Words that v1.0 has no longer, and what it calls the same.
static WORDS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let renamed = KINDS.iter().filter_map(|kind| Some((kind, kind.successor()?)));
    let of_kinds = renamed.flat_map(|pair| {
        let words: [fn(&Kind) -> String; 5] = [
            |kind| kind.kind.to_owned(),
            |kind| kind.plural.to_owned(),
            |kind| format!("{}:", kind.kind.to_lowercase()),
            |kind| kind.family.chart.to_owned(),
            |kind| format!("--plane-type={}", kind.family.plane_type),
        ];
        words.map(|word| (word(pair.0), word(pair.1)))
    });
    of_kinds.chain([LABEL, REFERENCE].map(|[old, new]| (old.to_owned(), new.to_owned()))).collect()
});

/// A word in a text that v1.0 has no longer: where, what, and what v1.0 calls the same.
pub fn mention<'t>(key: &str, text: &'t str) -> Option<(usize, &'t str, Option<&'static str>)> {
    let is_file = [".yaml", ".yml", ".json"].iter().any(|ending| text.ends_with(ending));
    if is_file && !text.contains('\n') {
        return None;
    }
    let family = |field: fn(&'static Kind) -> &'static str| {
        KINDS.iter().find(|kind| kind.successor().is_some() && field(kind) == text)?.successor().map(field)
    };
    let by_key = match key {
        "planeType" => family(|kind| kind.family.plane_type),
        "chart" => family(|kind| kind.family.helm_release),
        _ => None,
    };
    if by_key.is_some() {
        return Some((0, text, by_key));
    }
    let [old, new] = Release::ALL.map(Release::secret_field);
    let secret = text.contains("clientCA").then_some((old, Some(new)));
    let removed = text.contains("/spec/").then_some((PULL_SECRETS, None));
    let words = WORDS.iter().map(|(word, new)| (word.as_str(), Some(new.as_str()))).chain(secret).chain(removed);
    let found = |(word, new): (&str, _)| {
        let at = whole_word(text, word)?;
        Some((at, &text[at..at + word.len()], new))
    };
    words.filter_map(found).min_by_key(|(at, ..)| *at)
}

/// Where a word is in a text that is no part of a longer one or of a path.
fn whole_word(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let mut places = text.match_indices(word).map(|(at, _)| at);
    places.find(|at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let is_name = word.starts_with(char::is_lowercase) && !word.contains(char::is_uppercase);
        let in_path = is_name && before.is_some_and(|c| c == '.' || c == '/');
        !before.is_some_and(is_part) && !in_path && (word.ends_with(':') || !after.is_some_and(is_part))
    })
}
