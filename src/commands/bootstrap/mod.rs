//! `choreoctl bootstrap`: register planes, once it is known what is meant and said yes to.

mod args;
mod folder;
mod offline;
mod registration;

pub use args::Args;

use std::collections::BTreeMap;

use args::{given, refuse_one_agent_for_two};
use registration::Registration;

use crate::args::{PlaneCluster, Session, swapped, unless_swapped};
use crate::cluster::Cluster;
use crate::commands::remembered::{is_remembered, remember};
use crate::config::Place;
use crate::gateway::GatewayUrl;
use crate::plane::{DryRun, Plane, PlaneKey};
use crate::term::{Exit, PromptError, Term};
use crate::text::visible;

pub async fn run(mut args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let guess = if args.files.is_empty() { Some(args.plane.key()?) } else { None };
    let mut planes = args::planes(&args, guess.as_ref(), term)?;
    let given = given(&args, planes.len() > 1)?;
    let Some((control, build)) = clusters(&mut args, &planes, session).await? else {
        return offline::write(&args, &planes, session);
    };
    // Only the server says which kind and namespace are meant where no word does.
    if guess.is_some() {
        let found = unless_swapped(&control, Some(&build), args.plane.at(control.clone()).await).await?;
        planes = args::planes(&args, Some(&found.1), term)?;
    }
    planes.iter_mut().for_each(|plane| plane.metadata.namespace = control.around(&plane.key()).key("").namespace);
    refuse_one_agent_for_two(&args, &planes)?;
    let mut releases = BTreeMap::new();
    for plane in &planes {
        let control = control.around(&plane.key());
        // Another fault is reported by the step that meets it.
        if let Err(error) = control.plane_if_any::<Plane>(plane.name()).await
            && let Some(swapped) = swapped(&control, Some(&build), &error).await
        {
            return Err(swapped.into());
        }
        if !releases.contains_key(plane.kind) {
            args.build.announce(&control, &build, plane.kind.family, session).await;
            releases.insert(plane.kind, control.release().await.unwrap_or(plane.kind.release()));
        }
    }
    ask_for_url(&mut args, term)?;
    let several = planes.len() > 1;
    let place = args.build.place(session).await?;
    let registration = Registration { args: &args, control, build, releases, given, several, session };
    if args.change.dry_run == DryRun::None {
        if term.asks() && !args.change.yes {
            registration.preview(&planes).await?;
        }
        let names: Vec<_> = planes.iter().map(|plane| visible(&plane.key().to_string()).into_owned()).collect();
        term.confirm(&format!("register {}", names.join(", ")), args.change.yes)?;
    }
    let keys: Vec<_> = planes.iter().map(Plane::key).collect();
    let exit = registration.of_all(planes).await?;
    if exit == Exit::Done && args.change.dry_run.stores() {
        let place = Place { gateway_url: args.gateway_url.clone(), ..place };
        remember_all(&args, &registration.control, &keys, &place, session).await?;
    }
    Ok(exit)
}

/// Both clusters: that of the agents by a flag, or by the configuration, where it has the plane; none where neither names it.
async fn clusters(
    args: &mut Args,
    planes: &[Plane],
    session: &Session,
) -> anyhow::Result<Option<(Cluster, PlaneCluster)>> {
    if args.build.is_named() {
        return args.build.connect_both(session).await.map(Some);
    }
    let config = session.config()?;
    // Files for others are written without any cluster.
    let Some(control) = session.connect().await.ok().filter(|_| !config.control_planes.is_empty()) else {
        return Ok(None);
    };
    let known = config.control_plane(control.target().context.as_deref(), None)?;
    let place = |plane: &Plane| known.and_then(|known| known.place(&plane.key())).filter(|place| place.is_named());
    let Some(places) = planes.iter().map(place).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    if let Some(url) = places.iter().find_map(|place| place.gateway_url.clone()) {
        args.gateway_url.get_or_insert(url);
    }
    let keys: Vec<_> = planes.iter().map(Plane::key).collect();
    let build = args.build.of_planes(session, &control, None, &keys).await?;
    Ok(build.map(|build| (control, build)))
}

/// Writes into the configuration where the agents are, if that is wanted.
async fn remember_all(
    args: &Args,
    control: &Cluster,
    keys: &[PlaneKey],
    place: &Place,
    session: &Session,
) -> anyhow::Result<()> {
    let term = &session.term;
    if !place.is_named() || session.no_config || !(args.remember || (term.asks() && !args.change.yes)) {
        return Ok(());
    }
    for key in keys {
        if is_remembered(control, key, place).await? {
            continue;
        }
        let question = format!("save the cluster of the agent of {} in the configuration", visible(&key.with_word()));
        match term.confirm(&question, args.remember) {
            Err(error) if error.is::<PromptError>() => {}
            answer => {
                answer?;
                term.note(&remember(control, key, place.clone()).await?);
            }
        }
    }
    Ok(())
}

/// Asks where the gateway is, unless that is given or nothing may be asked.
fn ask_for_url(args: &mut Args, term: &Term) -> anyhow::Result<()> {
    if args.gateway_url.is_some() || args.change.yes || !term.asks() {
        return Ok(());
    }
    let url = term.ask("Where agents reach the gateway, as wss://HOST:PORT/ws (may be empty)", None, |text| {
        if text.is_empty() { Ok(()) } else { GatewayUrl::of_agent(text).map(drop) }
    })?;
    args.gateway_url = url.parse().ok();
    Ok(())
}
