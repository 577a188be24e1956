//! Planes: listed in pages, read, created and deleted.

use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tower::BoxError;

use super::connection::{Cluster, Namespaces};
use super::error::{Error, Rejection, Unlisted};
use super::explain::singular;
use crate::plane::{DryRun, KINDS, Kind, Plane, Selector, Unreadable};
use crate::text::visible;

/// Objects in one page of a list: few enough to keep memory low, many enough to keep the requests few.
const PAGE: u32 = 500;

/// Who owns the fields that are written here.
pub const MANAGER: &str = "choreoctl";

/// A path that something is written to, with the manager of the fields.
pub(super) fn written(path: &str, dry_run: DryRun) -> String {
    format!("{path}?fieldManager={MANAGER}{}", if dry_run.stores() { "" } else { "&dryRun=All" })
}

/// Parameters of a patch by the manager of the fields.
pub(super) fn patch_params(dry_run: DryRun) -> PatchParams {
    PatchParams { dry_run: !dry_run.stores(), field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// What the server is asked for where an object's metadata will do.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// What the server answers with then, for a list.
const METADATA_LIST: &str = "PartialObjectMetadataList";
const METADATA_VERSION: &str = "meta.k8s.io/v1";

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Whole,
    Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    /// Null is no item, as in Go.
    items: Option<Vec<T>>,
}

/// Returns the token of the next page where it is before the items, as the API server writes it: so the next page can be
/// asked for before this one is read.
fn token_ahead(page: &str) -> Option<String> {
    const ITEMS: &str = "\"items\":[";
    let (head, _) = page.split_once(ITEMS)?;
    let head: Page<IgnoredAny> = serde_json::from_str(&format!("{head}{ITEMS}]}}")).ok()?;
    head.metadata.continue_.filter(|token| !token.is_empty())
}

/// Objects to list.
pub struct ListOf<'l> {
    /// The collection's path on the API server.
    pub path: &'l str,
    pub api_version: &'l str,
    pub kind: &'l str,
    /// Labels and fields that they have, as the API server's selectors; empty for any.
    pub labels: &'l str,
    pub fields: &'l str,
    pub detail: Detail,
}

/// What a plane is read as: typed, or the server's own object.
pub trait PlaneObject: DeserializeOwned + Send + 'static {
    /// Returns the API version, the kind and the name that the object says it has.
    fn identity(&self) -> (&str, &str, &str);

    /// Returns the fields that are treated as unknown.
    fn unreadable(&self) -> &[Unreadable] {
        &[]
    }
}

impl PlaneObject for Plane {
    fn identity(&self) -> (&str, &str, &str) {
        let text = |field| self.other.get(field).and_then(Value::as_str).unwrap_or_default();
        (text("apiVersion"), text("kind"), self.name())
    }

    fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }
}

impl PlaneObject for Value {
    fn identity(&self) -> (&str, &str, &str) {
        let text = |pointer| self.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (text("/apiVersion"), text("/kind"), text("/metadata/name"))
    }
}

/// What is needed of a plane for its name.
#[derive(Deserialize)]
struct Named {
    metadata: ObjectMeta,
}

impl PlaneObject for Named {
    fn identity(&self) -> (&str, &str, &str) {
        ("", "", self.metadata.name.as_deref().unwrap_or_default())
    }
}

/// Planes of several kinds that were read, and the kinds that could not be.
pub struct Listed<T> {
    pub planes: Vec<T>,
    pub unlisted: Vec<Unlisted>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { planes: Vec::new(), unlisted: Vec::new() }
    }
}

impl<T> Listed<T> {
    /// Adds the planes of a kind, or the missing right to list them.
    ///
    /// # Errors
    /// Any other error.
    pub fn add(&mut self, kind: &'static Kind, list: Result<Vec<T>, Error>) -> Result<(), Error> {
        match list {
            Ok(planes) => self.planes.extend(planes),
            Err(error) => self.unlisted.push(Unlisted::of(kind, error)?),
        }
        Ok(())
    }

    /// Returns the planes where all are known.
    ///
    /// # Errors
    /// [`Error::Unlisted`].
    pub fn all(self) -> Result<Vec<T>, Error> {
        match self.unlisted.into_iter().next() {
            None => Ok(self.planes),
            Some(unlisted) => Err(unlisted.into()),
        }
    }
}

/// A kind with its article.
fn one(kind: &str) -> String {
    let article = if kind.starts_with(['A', 'E', 'I', 'O']) { "an" } else { "a" };
    format!("{article} {kind}")
}

impl Cluster {
    pub(super) fn api(&self) -> Api<Plane> {
        match &self.namespace {
            None => Api::all_with(self.client.clone(), &self.kind),
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &self.kind),
        }
    }

    /// All planes that the selector chooses, by name.
    pub async fn planes<T: PlaneObject>(&self, selector: Option<&Selector>) -> Result<Vec<T>, Error> {
        self.planes_as(selector, |plane| plane).await
    }

    /// The same, with each made into something smaller as soon as its page is there.
    pub async fn planes_as<T: PlaneObject, R>(
        &self,
        selector: Option<&Selector>,
        make: impl Fn(T) -> R,
    ) -> Result<Vec<R>, Error> {
        let list = ListOf {
            path: &self.path(),
            api_version: &self.kind.api_version(),
            kind: self.kind.kind,
            labels: selector.map(Selector::as_str).unwrap_or_default(),
            fields: "",
            detail: Detail::Whole,
        };
        let heeded = |plane: T| {
            self.heed(&plane);
            make(plane)
        };
        match self.collection(&list, heeded).await {
            Ok(planes) => Ok(planes),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Objects of any kind, each made into something smaller as soon as its page is there. All pages together may take as long
    /// as one request: a server that is slow to send each of many would be waited for without end.
    pub async fn collection<T: DeserializeOwned + Send + 'static, R>(
        &self,
        list: &ListOf<'_>,
        make: impl Fn(T) -> R,
    ) -> Result<Vec<R>, Error> {
        let all = async {
            // The list changed for so long that the server forgot how it was: begin anew, and at last ask for all of it at once.
            for limit in [PAGE, PAGE] {
                match self.pages(list, Some(limit), &make).await {
                    Err(Error::Refused { code: 410, .. }) => {}
                    objects => return objects,
                }
            }
            self.pages(list, None, &make).await
        };
        self.limited(all).await?
    }

    /// Reads the pages of a list, each on a thread of its own while the server makes the next one.
    async fn pages<T: DeserializeOwned + Send + 'static, R>(
        &self,
        list: &ListOf<'_>,
        limit: Option<u32>,
        make: impl Fn(T) -> R,
    ) -> Result<Vec<R>, Error> {
        let chosen = |selector: &str| Some(selector.to_owned()).filter(|selector| !selector.is_empty());
        let (label_selector, field_selector) = (chosen(list.labels), chosen(list.fields));
        let mut params = ListParams { limit, label_selector, field_selector, ..ListParams::default() };
        let (version, kind) = match list.detail {
            Detail::Whole => (list.api_version, format!("{}List", list.kind)),
            Detail::Metadata => (METADATA_VERSION, METADATA_LIST.to_owned()),
        };
        let ask = async |params: &ListParams| {
            let request = kube::core::Request::new(list.path);
            let request = match list.detail {
                Detail::Whole => request.list(params),
                Detail::Metadata => request.list_metadata(params),
            };
            self.ask(self.client.request_text(request.map_err(|source| self.unsendable(source))?)).await
        };
        let (mut objects, mut text) = (Vec::new(), ask(&params).await?);
        // The client bounds how many pages there are.
        loop {
            params.continue_token = token_ahead(&text);
            let (page, next) = if params.continue_token.is_some() {
                let read = tokio::task::spawn_blocking(move || serde_json::from_str(&text));
                let (read, next) = tokio::join!(read, ask(&params));
                (read.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic())), Some(next))
            } else {
                (serde_json::from_str(&text), None)
            };
            let page: Page<T> = page.map_err(|error| self.error(kube::Error::SerdeError(error)))?;
            self.expect((&page.api_version, &page.kind), (version, &kind))?;
            objects.extend(page.items.into_iter().flatten().map(&make));
            let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else {
                return Ok(objects);
            };
            text = match next {
                Some(next) => next?,
                // It is behind the items, where it is not looked for.
                None => {
                    params.continue_token = Some(token);
                    ask(&params).await?
                }
            };
        }
    }

    /// One plane, typed or as the server's own object. Where it doesn't exist, the error has similar names.
    pub async fn plane<T: PlaneObject>(&self, name: &str) -> Result<T, Error> {
        match self.exact_plane(name).await {
            Err(error) if error.is_not_found() => Err(error.with_similar(name, &self.names().await)),
            answer => answer,
        }
    }

    /// The names of all planes; none where planes can't be listed.
    pub async fn names(&self) -> Vec<String> {
        let names = self.planes_as(None, |named: Named| named.metadata.name.unwrap_or_default()).await;
        names.unwrap_or_default()
    }

    /// Like [`Cluster::plane`], without a look for similar names.
    pub async fn exact_plane<T: PlaneObject>(&self, name: &str) -> Result<T, Error> {
        let answer = self.request(Request::get(format!("{}/{name}", self.path())).body(Vec::new())).await;
        let plane: T = answer.map_err(|error| if error.is_not_found() { self.no_plane(name) } else { error })?;
        self.recognize(&plane)?;
        let (.., found) = plane.identity();
        if found != name {
            let found = format!("the {} {}", self.kind.kind, visible(found));
            return Err(Error::other_answer(&self.target, found, visible(name).into_owned()));
        }
        self.heed(&plane);
        Ok(plane)
    }

    /// Returns the error of a plane of this name that doesn't exist.
    pub fn no_plane(&self, name: &str) -> Error {
        let place = self.namespace.as_ref().map(|namespace| format!(" in the namespace {}", visible(namespace)));
        let what = format!("{} {}{}", singular(self.kind.plural, self.kind), visible(name), place.unwrap_or_default());
        Error::no_plane(&self.target, self.kind, what)
    }

    /// Returns the error of a cluster that has none of the kinds.
    pub fn no_kinds(&self) -> Error {
        let command = self.target.command("kubectl get crd");
        Error::NoSuchKind { kind: "CRD of a plane", renamed: None, command }
    }

    /// Fails where an object is no plane.
    pub(super) fn recognize(&self, plane: &impl PlaneObject) -> Result<(), Error> {
        let (version, kind, _) = plane.identity();
        self.expect((version, kind), (&self.kind.api_version(), self.kind.kind))
    }

    /// Fails where an answer has another API version or kind than the one that was asked for.
    fn expect(&self, (version, kind): (&str, &str), (of, expected): (&str, &str)) -> Result<(), Error> {
        if kind == expected && version == of {
            return Ok(());
        }
        let found = match (version, kind) {
            (_, "") => "an object without a kind".to_owned(),
            (version, kind) if kind == expected => format!("{} of {}", one(kind), visible(version)),
            (_, kind) => one(&visible(kind)),
        };
        Err(Error::other_answer(&self.target, found, one(expected)))
    }

    /// Warns of the fields of a plane that can't be read, each once.
    pub(super) fn heed(&self, plane: &impl PlaneObject) {
        let (.., name) = plane.identity();
        plane.unreadable().iter().for_each(|field| self.observed.heed(&field.warning(name)));
    }

    /// One plane, or none where it doesn't exist.
    pub async fn plane_if_any<T: PlaneObject>(&self, name: &str) -> Result<Option<T>, Error> {
        match self.exact_plane(name).await {
            Ok(plane) => Ok(Some(plane)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object as it is, strictly; fails where it exists.
    pub async fn create(&self, manifest: &Value, dry_run: DryRun) -> Result<Value, Error> {
        let uri = format!("{}&fieldValidation=Strict", written(&self.path(), dry_run));
        let request = Request::post(uri).header(http::header::CONTENT_TYPE, "application/json");
        let created = self.request(request.body(manifest.to_string().into_bytes())).await?;
        self.recognize(&created)?;
        Ok(created)
    }

    /// Whether the API server would take a manifest as it is written, in YAML or JSON, strictly: the reasons why not
    /// otherwise. Nothing is stored.
    pub async fn would_take(&self, manifest: &str, media_type: &'static str) -> Result<Option<Rejection>, Error> {
        let uri = format!("{}&fieldValidation=Strict", written(&self.path(), DryRun::Server));
        let request = Request::post(uri).header(http::header::CONTENT_TYPE, media_type);
        let request = request.body(manifest.as_bytes().to_vec());
        let request = request.map_err(|source| self.unsendable(source))?;
        match self.limited(self.client.request::<Value>(request)).await? {
            Ok(taken) => self.recognize(&taken).map(|()| None),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                let causes = causes.into_iter().map(Into::into).collect();
                Ok(Some(Rejection { message: status.message, causes }))
            }
            // It was found valid before it was found to exist.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            Err(error) => Err(self.explain(self.error(error)).await),
        }
    }

    /// Writes a plane's inline CA, if nobody wrote the plane since it was read.
    ///
    /// # Errors
    /// [`Error::Changed`] where somebody did.
    pub async fn set_client_ca(&self, plane: &Plane, text: &str, dry_run: DryRun) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"resourceVersion": plane.metadata.resource_version},
            "spec": {"clusterAgent": {"clientCA": {"value": text}}},
        });
        self.ask(self.api().patch(plane.name(), &patch_params(dry_run), &Patch::Merge(patch))).await.map(drop)
    }

    /// Deletes this very plane, not one of the same name that was made since.
    pub async fn delete(&self, plane: &Plane, dry_run: DryRun) -> Result<(), Error> {
        let preconditions = Preconditions { uid: plane.metadata.uid.clone(), ..Preconditions::default() };
        let params = DeleteParams {
            dry_run: !dry_run.stores(),
            preconditions: Some(preconditions),
            ..DeleteParams::background()
        };
        self.ask(self.around(&plane.key()).api().delete(plane.name(), &params)).await.map(drop)
    }

    /// Sends a request about planes, if it could be built.
    pub(super) async fn request<T: DeserializeOwned>(
        &self,
        built: Result<Request<Vec<u8>>, impl Into<BoxError>>,
    ) -> Result<T, Error> {
        match self.send(built).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        built: Result<Request<Vec<u8>>, impl Into<BoxError>>,
    ) -> Result<T, Error> {
        let request = built.map_err(|source| self.unsendable(source))?;
        self.ask(self.client.request(request)).await
    }

    /// An object of any kind by its path, as the server has it.
    pub async fn fetch(&self, path: &str, detail: Detail) -> Result<Value, Error> {
        let request = Request::get(path);
        let request = match detail {
            Detail::Whole => request,
            Detail::Metadata => request.header(http::header::ACCEPT, METADATA),
        };
        self.send(request.body(Vec::new())).await
    }

    fn unsendable(&self, source: impl Into<BoxError>) -> Error {
        Error::Unsendable { server: self.target.server.clone(), source: source.into() }
    }

    /// Returns the kinds of planes that the server has.
    pub async fn served_kinds(&self) -> Result<Vec<&'static Kind>, Error> {
        let list = match self.fetch(&format!("/apis/{}", self.kind.api_version()), Detail::Whole).await {
            Err(Error::NoSuchKind { .. } | Error::NoSource { .. } | Error::NotFound { .. }) => return Ok(Vec::new()),
            list => list?,
        };
        let (version, kind, _) = list.identity();
        self.expect((version, kind), (version, "APIResourceList"))?;
        let resources = list["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_served = |kind: &&Kind| resources.iter().any(|resource| resource["name"] == kind.plural);
        Ok(KINDS.iter().filter(is_served).collect())
    }

    /// Says of a missing kind whether the server has it under the name of another release.
    pub(super) async fn explain(&self, error: Error) -> Error {
        let Error::NoSuchKind { kind, command, .. } = error else {
            return error;
        };
        let other = self.kind.in_release(self.kind.release().other()).filter(|other| other.kind != kind);
        let served = self.served_kinds().await.unwrap_or_default();
        let renamed = other.filter(|other| served.contains(other));
        Error::NoSuchKind { kind, renamed: renamed.map(|other| other.kind), command }
    }

    /// Returns all planes of a kind, in all namespaces, each made into something smaller as soon as its page is there. A kind
    /// that the server lacks has none, also where RBAC, which comes first, knows no right to list it.
    pub async fn every<R>(&self, kind: &'static Kind, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Error> {
        match self.at(kind, &Namespaces::All).planes_as(None, make).await {
            Err(Error::NoSuchKind { .. }) => Ok(Vec::new()),
            Err(Error::Forbidden { .. })
                if self.served_kinds().await.is_ok_and(|served| !served.is_empty() && !served.contains(&kind)) =>
            {
                Ok(Vec::new())
            }
            planes => planes,
        }
    }

    /// Returns all planes of a kind's family, in both scopes, as far as they may be listed.
    pub async fn family(&self) -> Result<Listed<Plane>, Error> {
        self.family_as(|plane| plane).await
    }

    /// The same, with each made into something smaller as soon as its page is there.
    pub async fn family_as<R>(&self, make: impl Fn(Plane) -> R) -> Result<Listed<R>, Error> {
        let mut all = Listed::default();
        for kind in self.kind.family.kinds() {
            all.add(kind, self.every(kind, &make).await)?;
        }
        Ok(all)
    }

    /// The same; an error where those of either scope can't be listed.
    pub async fn whole_family_as<R>(&self, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Error> {
        self.family_as(make).await?.all()
    }

    /// The server's version, as `v1.36.3`.
    pub async fn version(&self) -> Result<String, Error> {
        let version = self.ask(self.client.apiserver_version()).await?.git_version;
        if version.is_empty() {
            return Err(Error::other_answer(&self.target, "an object without gitVersion".into(), "its version".into()));
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;

    fn object(name: &str) -> Value {
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name}, "spec": {}})
    }

    #[test]
    fn the_next_page_is_known_before_the_items_are_read() {
        let head = r#"{"kind":"L","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"abc"},"#;
        for (page, token) in [
            (format!(r#"{head}"items":[{{"metadata":{{"continue":"x"}}}}, not JSON"#), Some("abc")),
            (head.replace("abc", "") + r#""items":[]}"#, None),
            (r#"{"items":[{}],"metadata":{"continue":"abc"}}"#.into(), None),
            (r#"{"metadata":{"continue":"\"items\":["},"items":[]}"#.into(), Some("\"items\":[")),
            (head.into(), None),
        ] {
            assert_eq!(token_ahead(&page).as_deref(), token, "{page}");
        }
    }

    fn page(kind: &str, names: &[&str], token: &str) -> Value {
        let items: Vec<_> = names.iter().map(|name| object(name)).collect();
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"continue": token}, "items": items})
    }

    const PLANES: &str = "GET /apis/openchoreo.dev/v1alpha1/clusterbuildplanes";

    #[test]
    fn fuzzed_answers_are_read_or_refused() {
        let mut odd = object("b");
        odd["status"] = json!({"agentConnection": {"connected": true, "connectedAgents": 2, "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastDisconnectedTime": "9999-12-31T23:59:59Z", "message": "m"}, "observedGeneration": 1,
            "conditions": [{"type": "Created", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        odd["metadata"]["managedFields"] =
            json!([{"time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:clusterAgent": {"f:clientCA": {}}}}}]);
        odd["metadata"]["labels"] = json!({"a": "b"});
        odd["spec"]["clusterAgent"] = json!({"clientCA": {"secretRef": {"name": "a", "key": "b"}, "value": ""}});
        let now = jiff::Timestamp::UNIX_EPOCH;
        let take = |plane: Plane| {
            let (state, key) = (plane.state(now), plane.key().to_string());
            let reported =
                (state, key, plane.next_change(now), plane.since(now), plane.times().count(), plane.pruned_secret());
            // What is written is read as the same.
            let again: Plane = serde_json::from_value(plane.manifest()).unwrap();
            assert_eq!((again.state(now), again.key().to_string()), (reported.0, reported.1));
        };
        let items =
            serde_json::to_vec(&json!({"kind": "L", "metadata": {"continue": "x"}, "items": [object("a"), odd]}))
                .unwrap();
        let event = serde_json::to_vec(&json!({"type": "MODIFIED", "object": odd})).unwrap();
        let status = json!({"kind": "Status", "code": 410, "message": "m", "details": {"causes": [{"field": "a", "message": "b"}]}});
        let error = serde_json::to_vec(&json!({"type": "ERROR", "object": status})).unwrap();
        crate::fuzz::fuzz(&[&items, &event, &error], |answer| {
            if let Ok(page) = serde_json::from_slice::<Page<Plane>>(answer) {
                page.items.into_iter().flatten().for_each(take);
            }
            if let Ok(kube::api::WatchEvent::Modified(plane)) =
                serde_json::from_slice::<kube::api::WatchEvent<Plane>>(answer)
            {
                take(plane);
            }
            if let Ok(mut value) = serde_json::from_slice::<Value>(answer) {
                crate::cluster::soften(&mut value);
            }
        });
    }

    #[tokio::test]
    async fn a_list_comes_in_pages() {
        let fake = Fake::default();
        fake.answer(PLANES, 200, page("ClusterBuildPlaneList", &["a", "b"], "next"));
        fake.answer(&format!("{PLANES}?&limit=500&continue=next"), 200, page("ClusterBuildPlaneList", &["c"], ""));
        assert_eq!(fake.cluster().names().await, ["a", "b", "c"]);
        assert_eq!(fake.asked().len(), 2, "{:?}", fake.asked());
    }

    #[tokio::test]
    async fn a_list_that_the_server_forgot_is_asked_for_at_once() {
        let fake = Fake::of([object("a")]);
        let gone = json!({"status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
        fake.answer(&format!("{PLANES}?&limit"), 410, gone);
        assert_eq!(fake.cluster().names().await, ["a"]);
    }

    #[tokio::test]
    async fn an_answer_of_another_kind_is_no_plane() {
        let fake = Fake::default();
        fake.answer(PLANES, 200, page("SecretList", &["a"], ""));
        let error = fake.cluster().planes::<Plane>(None).await.unwrap_err();
        assert!(error.to_string().contains("a SecretList"), "{error}");
        fake.answer(&format!("{PLANES}/a"), 200, object("b"));
        let error = fake.cluster().plane::<Plane>("a").await.unwrap_err();
        assert!(error.to_string().contains("the ClusterBuildPlane b"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_names_no_version_is_no_api_server() {
        let fake = Fake::default();
        fake.answer("GET /version", 200, json!({"kind": "Status"}));
        let error = fake.cluster().version().await.unwrap_err();
        assert!(error.to_string().contains("gitVersion"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_has_similar_ones() {
        let fake = Fake::of([object("shared-builder")]);
        let error = fake.cluster().plane::<Plane>("shared-bilder").await.unwrap_err();
        assert!(error.hint().unwrap().contains("shared-builder"), "{error:?}");
        assert_eq!(fake.cluster().plane_if_any::<Plane>("other").await.unwrap(), None);
    }

    #[tokio::test]
    async fn planes_of_a_namespaced_kind_are_asked_for_in_their_namespace() {
        let fake = Fake::default();
        let cluster = fake.cluster().of_kind(Kind::of_word("dp").unwrap());
        cluster.names().await;
        assert!(fake.asked()[0].starts_with("GET /apis/openchoreo.dev/v1alpha1/namespaces/default/dataplanes?"));
        assert_eq!(cluster.key("a").to_string(), "default/a");
    }

    #[tokio::test]
    async fn a_family_is_the_planes_of_both_scopes_that_may_be_listed() {
        let of = |kind: &str, namespace: Option<&str>| {
            let mut plane = object("a");
            plane["kind"] = kind.into();
            if let Some(namespace) = namespace {
                plane["metadata"]["namespace"] = namespace.into();
            }
            plane
        };
        let fake = Fake::of([
            of("ClusterDataPlane", None),
            of("DataPlane", Some("m")),
            of("DataPlane", Some("n")),
            of("ClusterBuildPlane", None),
        ]);
        let [own, cluster] = ["dp", "cdp"].map(|word| fake.cluster().of_kind(Kind::of_word(word).unwrap()));
        let key = |plane: Plane| plane.key().to_string();
        for asked in [&own, &cluster] {
            assert_eq!(asked.whole_family_as(key).await.unwrap(), ["a", "m/a", "n/a"]);
        }
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1/dataplanes");
        for asked in [&own, &cluster] {
            let listed = asked.family_as(key).await.unwrap();
            assert_eq!((listed.planes, listed.unlisted[0].kind), (vec!["a".to_owned()], own.kind()));
            let error = asked.whole_family_as(key).await.unwrap_err();
            assert!(error.to_string().starts_with("could not list DataPlanes: not allowed: "), "{error}");
            assert!(error.hint().unwrap().starts_with("ask for the permission to list dataplanes.openchoreo.dev"));
        }
        let fake = Fake::of([of("ClusterDataPlane", None)]);
        fake.serve(&[cluster.kind()]);
        let cluster = fake.cluster().of_kind(cluster.kind());
        assert_eq!(cluster.whole_family_as(key).await.unwrap(), ["a"], "a kind that is not served has no planes");
        fake.forbid("GET /apis/openchoreo.dev/v1alpha1/dataplanes");
        assert_eq!(cluster.whole_family_as(key).await.unwrap(), ["a"], "nor has it where RBAC knows nothing of it");
    }

    #[tokio::test]
    async fn the_kinds_that_are_served_are_known_and_so_is_what_a_missing_one_became() {
        let fake = Fake::default();
        let kinds = |words: &[&str]| words.iter().map(|word| Kind::of_word(word).unwrap()).collect::<Vec<_>>();
        assert_eq!(fake.cluster().served_kinds().await.unwrap().len(), KINDS.len());
        fake.serve(&kinds(&["dp", "cwp"]));
        assert_eq!(fake.cluster().served_kinds().await.unwrap(), kinds(&["cwp", "dp"]));
        let error = fake.cluster().plane::<Plane>("a").await.unwrap_err();
        assert!(matches!(error, Error::NoSuchKind { renamed: Some("ClusterWorkflowPlane"), .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("`choreoctl get clusterworkflowplane`"), "{error:?}");
        fake.serve(&kinds(&["dp"]));
        let error = fake.cluster().plane::<Plane>("a").await.unwrap_err();
        assert!(matches!(error, Error::NoSuchKind { renamed: None, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn only_the_version_that_was_read_is_changed() {
        let fake = Fake::of([object("a")]);
        let cluster = fake.cluster();
        let plane: Plane = cluster.plane("a").await.unwrap();
        cluster.set_client_ca(&plane, "dry", DryRun::Server).await.unwrap();
        cluster.set_client_ca(&plane, "pem", DryRun::None).await.unwrap();
        let stored = fake.object("clusterbuildplanes/a").unwrap();
        assert_eq!(stored["spec"]["clusterAgent"]["clientCA"]["value"], "pem");
        let error = cluster.set_client_ca(&plane, "late", DryRun::None).await.unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_of_another_kind_is_no_success() {
        let fake = Fake::default();
        for answer in [json!({}), json!([]), json!({"kind": "Status", "apiVersion": "v1", "status": "Failure"})] {
            fake.answer("POST ", 200, answer);
            let error = fake.cluster().create(&object("a"), DryRun::None).await.unwrap_err();
            assert!(matches!(error, Error::OtherAnswer { .. }), "{error:?}");
            let error = fake.cluster().would_take("{}", "application/json").await.unwrap_err();
            assert!(matches!(error, Error::OtherAnswer { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_rejection_has_its_causes() {
        let fake = Fake::default();
        let causes = json!([{"field": "spec.planeID", "message": "too long"}]);
        let status = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "m", "details": {"causes": causes}});
        fake.answer("POST ", 422, status);
        let refusal = fake.cluster().would_take("{}", "application/json").await.unwrap().unwrap();
        assert_eq!((refusal.message.as_str(), refusal.causes[0].field.as_str()), ("m", "spec.planeID"));
    }
}
