//! `choreoctl bootstrap`: register planes, once it is known what is meant and said yes to.

mod args;
mod folder;
mod offline;
mod registration;

pub use args::Args;

use std::collections::BTreeMap;

use args::{given, refuse_one_agent_for_two};
use registration::Registration;

use crate::args::{Session, swapped, unless_swapped};
use crate::gateway::GatewayUrl;
use crate::plane::{DryRun, Plane};
use crate::term::{Exit, Term};
use crate::text::visible;

pub async fn run(mut args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let guess = if args.files.is_empty() { Some(args.plane.key()?) } else { None };
    let mut planes = args::planes(&args, guess.as_ref(), term)?;
    let given = given(&args, planes.len() > 1)?;
    if !args.build.is_named() {
        return offline::write(&args, &planes, session);
    }
    let (control, build) = args.build.connect_both(session).await?;
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
    let registration = Registration { args: &args, control, build, releases, given, several, session };
    if args.change.dry_run == DryRun::None {
        if term.asks() && !args.change.yes {
            registration.preview(&planes).await?;
        }
        let names: Vec<_> = planes.iter().map(|plane| visible(&plane.key().to_string()).into_owned()).collect();
        term.confirm(&format!("register {}", names.join(", ")), args.change.yes)?;
    }
    registration.of_all(planes).await
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
