//! Which cluster is meant: the kubeconfig as kubectl reads it, or the service account of a pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::error::Error;
use crate::text::shell_quoted;

/// What the command line says about the cluster.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    pub impersonate: Option<String>,
    pub impersonate_groups: Vec<String>,
    /// Longest time for one request; none for no limit.
    pub request_timeout: Option<Duration>,
}

impl Options {
    /// A command line with the flags that lead to the same cluster, for hints: kubectl has the same ones.
    pub fn command(&self, command: &str) -> String {
        let mut line = command.to_owned();
        let mut flag = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                line.push_str(&format!(" --{name} {}", shell_quoted(value)));
            }
        };
        flag("kubeconfig", self.kubeconfig.as_deref().map(|path| path.to_string_lossy()).as_deref());
        flag("context", self.context.as_deref());
        flag("cluster", self.cluster.as_deref());
        flag("user", self.user.as_deref());
        flag("as", self.impersonate.as_deref());
        for group in &self.impersonate_groups {
            flag("as-group", Some(group));
        }
        line
    }
}

/// The cluster that was found.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The context's name; none inside of a cluster.
    pub context: Option<String>,
    /// The API server's URL.
    pub server: String,
    /// The context's namespace.
    pub namespace: String,
    /// What led to it.
    pub(super) options: Options,
    /// Its kubeconfig, where that is a single file.
    kubeconfig: Option<PathBuf>,
}

impl Target {
    pub(super) async fn find(options: &Options) -> Result<(Self, Config), Error> {
        let Some(kubeconfig) = read(options)? else {
            let config = Config::incluster().map_err(|_| Error::NoKubeconfig)?;
            return Ok((Self::new(None, &config, options), config));
        };
        let context =
            options.context.clone().or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
        let Some(context) = context else {
            return Err(Error::NoContext { known: names(&kubeconfig) });
        };
        if !kubeconfig.contexts.iter().any(|named| named.name == context) {
            return Err(Error::UnknownContext { context, known: names(&kubeconfig) });
        }
        if let Some(user) =
            options.user.clone().filter(|user| kubeconfig.auth_infos.iter().all(|named| named.name != *user))
        {
            return Err(Error::UnknownUser { user });
        }
        let chosen = KubeConfigOptions {
            context: Some(context.clone()),
            cluster: options.cluster.clone(),
            user: options.user.clone(),
        };
        let proxy = proxy_of(&kubeconfig, &chosen);
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &chosen)
            .await
            .map_err(|error| Error::of_kubeconfig(&error, None))?;
        // The loader also takes the proxy of the environment, which is judged with NO_PROXY when connecting.
        config.proxy_url = proxy;
        if options.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&options.impersonate);
        }
        if !options.impersonate_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
        }
        Ok((Self::new(Some(context), &config, options), config))
    }

    fn new(context: Option<String>, config: &Config, options: &Options) -> Self {
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let kubeconfig = options.kubeconfig.clone().or_else(|| match default_paths().as_slice() {
            [path] if path.exists() => Some(path.clone()),
            _ => None,
        });
        let namespace = config.default_namespace.clone();
        Self { context, server, namespace, options: options.clone(), kubeconfig }
    }

    /// A command line for this cluster: `kubectl get ...` or `choreoctl get ...` with the flags in use, or `helm ...`,
    /// which has another name for the context.
    pub fn command(&self, command: &str) -> String {
        if command.starts_with("helm ") {
            return format!("{command}{}", self.flags().replace(" --context ", " --kube-context "));
        }
        self.options.command(command)
    }

    /// A command line for this cluster and another user than the one in use.
    pub fn for_another(&self, command: &str) -> String {
        let options = self.options.clone();
        Options { user: None, impersonate: None, impersonate_groups: Vec::new(), ..options }.command(command)
    }

    /// The flags that lead to the same cluster, each with a leading blank.
    fn flags(&self) -> String {
        self.options.command("")
    }

    /// The flags that lead to this cluster as the plane's cluster, each with a leading blank.
    pub fn plane_flags(&self) -> String {
        self.flags().replace(" --context ", " --plane-context ").replace(" --kubeconfig ", " --plane-kubeconfig ")
    }

    /// The flags that lead to this cluster by its kubeconfig and context, with a prefix before their names, such as
    /// `plane-`.
    pub fn by_context(&self, prefix: &str) -> String {
        let named = |flag: &str, value: &str| format!(" --{prefix}{flag} {}", shell_quoted(value));
        let kubeconfig = self.kubeconfig.as_deref().map(|path| named("kubeconfig", &path.to_string_lossy()));
        let context = self.context.as_deref().map(|context| named("context", context));
        kubeconfig.into_iter().chain(context).collect()
    }

    /// The kubeconfig that was named, unlike one of the environment.
    pub fn named_kubeconfig(&self) -> Option<&Path> {
        self.options.kubeconfig.as_deref()
    }

    #[cfg(test)]
    pub fn name_kubeconfig(&mut self, path: &str) {
        self.options.kubeconfig = Some(path.into());
    }

    /// How the cluster is named in prompts and first lines.
    pub fn title(&self) -> String {
        let server = crate::text::visible(&self.server);
        match &self.context {
            Some(context) => format!("context {} ({server})", crate::text::visible(context)),
            None => format!("this cluster ({server})"),
        }
    }
}

/// The merged kubeconfig: the file that was named, or those of KUBECONFIG, of which some may be missing, or ~/.kube/config.
fn read(options: &Options) -> Result<Option<Kubeconfig>, Error> {
    let read = |path: &PathBuf| Kubeconfig::read_from(path).map_err(|error| Error::of_kubeconfig(&error, Some(path)));
    if let Some(path) = &options.kubeconfig {
        return read(path).map(Some);
    }
    let mut merged: Option<Kubeconfig> = None;
    for path in default_paths().iter().filter(|path| path.exists()) {
        let mut next = read(path)?;
        next.current_context = next.current_context.filter(|name| !name.is_empty());
        merged = Some(match merged {
            Some(before) => before.merge(next).map_err(|error| Error::of_kubeconfig(&error, None))?,
            None => next,
        });
    }
    Ok(merged)
}

/// The kubeconfigs that are meant where none is named.
fn default_paths() -> Vec<PathBuf> {
    match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    }
}

/// The proxy that the chosen cluster's entry names.
fn proxy_of(kubeconfig: &Kubeconfig, chosen: &KubeConfigOptions) -> Option<http::Uri> {
    let named = kubeconfig.contexts.iter().find(|named| Some(&named.name) == chosen.context.as_ref());
    let cluster = chosen.cluster.as_deref().or_else(|| Some(named?.context.as_ref()?.cluster.as_str()))?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == cluster)?.cluster.as_ref()?;
    cluster.proxy_url.as_deref().filter(|url| !url.is_empty())?.parse().ok()
}

fn names(kubeconfig: &Kubeconfig) -> Vec<String> {
    kubeconfig.contexts.iter().map(|named| named.name.clone()).collect()
}

/// The names of the contexts that could be meant, for completion.
pub fn contexts(options: &Options) -> Vec<String> {
    read(options).ok().flatten().map(|kubeconfig| names(&kubeconfig)).unwrap_or_default()
}

/// The names of the clusters that could be meant, for completion.
pub fn clusters(options: &Options) -> Vec<String> {
    let named = read(options).ok().flatten().map(|kubeconfig| kubeconfig.clusters).unwrap_or_default();
    named.into_iter().map(|named| named.name).collect()
}

/// The names of the users that could be meant, for completion.
pub fn users(options: &Options) -> Vec<String> {
    let named = read(options).ok().flatten().map(|kubeconfig| kubeconfig.auth_infos).unwrap_or_default();
    named.into_iter().map(|named| named.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(context: &str) -> Target {
        let options = Options {
            kubeconfig: Some("my config".into()),
            context: Some(context.into()),
            impersonate: Some("bob".into()),
            ..Options::default()
        };
        let config = Config::new("https://server:6443/".parse().unwrap());
        Target::new(options.context.clone(), &config, &options)
    }

    #[test]
    fn commands_lead_to_the_same_cluster() {
        let target = target("prod");
        assert_eq!(
            target.command("kubectl get nodes"),
            "kubectl get nodes --kubeconfig 'my config' --context prod --as bob"
        );
        assert!(target.command("helm list").contains(" --kube-context prod"));
        assert_eq!(target.for_another("kubectl"), "kubectl --kubeconfig 'my config' --context prod");
        assert_eq!(target.plane_flags(), " --plane-kubeconfig 'my config' --plane-context prod --as bob");
        assert_eq!(target.by_context("plane-"), " --plane-kubeconfig 'my config' --plane-context prod");
        assert_eq!(
            (target.title().as_str(), target.namespace.as_str()),
            ("context prod (https://server:6443)", "default")
        );
    }

    #[test]
    fn a_hostile_name_is_harmless() {
        let target = target("a b\u{1b}");
        assert!(target.title().contains(r"\u{1b}"));
        assert!(target.command("kubectl").contains("$'a b\\x1b'"), "{}", target.command("kubectl"));
    }

    #[test]
    fn the_proxy_of_the_chosen_cluster_is_used() {
        let kubeconfig = Kubeconfig::from_yaml(
            "clusters:\n- {name: c, cluster: {server: 'https://s', proxy-url: 'http://p:1'}}\n- {name: d, cluster: {server: 'https://s'}}\ncontexts:\n- {name: x, context: {cluster: c, user: u}}\n",
        )
        .unwrap();
        let chosen = |cluster: Option<&str>| KubeConfigOptions {
            context: Some("x".into()),
            cluster: cluster.map(str::to_owned),
            user: None,
        };
        assert_eq!(proxy_of(&kubeconfig, &chosen(None)).unwrap().to_string(), "http://p:1/");
        assert_eq!(proxy_of(&kubeconfig, &chosen(Some("d"))), None);
    }
}
