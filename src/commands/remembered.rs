//! The cluster of a plane's agent, as the configuration keeps it.

use crate::args::Session;
use crate::cluster::Cluster;
use crate::config::{self, Config, Place};
use crate::plane::PlaneKey;
use crate::text::{shown, visible};

/// Writes where a plane's agent is, over what was known of it; in words.
pub async fn remember(control: &Cluster, key: &PlaneKey, new: Place) -> anyhow::Result<String> {
    let path = config::path()?;
    let mut config = Config::read(&path)?;
    let (context, identity) = (control.target().context.clone(), control.identity().await);
    let (context, identity) = (context.as_deref(), identity.as_deref());
    let known =
        config.control_plane(context, identity)?.and_then(|known| known.place(key).cloned()).unwrap_or_default();
    // Another cluster has another namespace.
    let old = if new.is_named() { Place { gateway_url: known.gateway_url.clone(), ..Place::default() } } else { known };
    let place = Place {
        namespace: new.namespace.or(old.namespace),
        gateway_url: new.gateway_url.or(old.gateway_url),
        identity: new.identity.or(old.identity),
        context: new.context.or(old.context),
        kubeconfig: new.kubeconfig.or(old.kubeconfig),
    };
    config.set(context, identity, key, place);
    config.write(&path)?;
    Ok(format!("{} set in {}", visible(&key.with_word()), shown(&path)))
}

/// Whether the configuration says so already.
pub async fn is_remembered(control: &Cluster, key: &PlaneKey, place: &Place) -> anyhow::Result<bool> {
    let config = Config::read(&config::path()?)?;
    let identity = control.identity().await;
    let known = config.control_plane(control.target().context.as_deref(), identity.as_deref())?;
    let covers = |known: &Place| {
        let fits = known.context == place.context && known.kubeconfig == place.kubeconfig;
        fits && known.identity == place.identity && (place.namespace.is_none() || known.namespace == place.namespace)
    };
    Ok(known.and_then(|known| known.place(key)).is_some_and(covers))
}

/// Forgets the cluster of a plane's agent; in words, where it was known.
pub async fn forget(session: &Session, control: &Cluster, key: &PlaneKey) -> anyhow::Result<Option<String>> {
    let mut config = session.config()?;
    if config.control_planes.is_empty() {
        return Ok(None);
    }
    let identity = control.identity().await;
    let known = config.control_plane(control.target().context.as_deref(), identity.as_deref())?;
    let Some(context) = known.filter(|known| known.planes.iter().any(|(known, _)| known == key)) else {
        return Ok(None);
    };
    let context = context.context.clone();
    config.unset(context.as_deref(), std::slice::from_ref(key));
    let path = config::path()?;
    config.write(&path)?;
    Ok(Some(format!("{} removed from {}", visible(&key.with_word()), shown(&path))))
}
