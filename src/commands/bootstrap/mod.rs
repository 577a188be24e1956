//! `choreoctl bootstrap`: register build clusters, once it is known what is meant and said yes to.

mod args;
mod folder;
mod offline;
mod registration;

pub use args::Args;

use args::{given, planes, refuse_one_agent_for_two};
use registration::Registration;

use crate::args::{Session, swapped};
use crate::gateway::GatewayUrl;
use crate::plane::{DryRun, Plane};
use crate::term::{Exit, Term};
use crate::text::visible;

pub async fn run(mut args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let planes = planes(&args, term)?;
    let given = given(&args, planes.len() > 1)?;
    if !args.build.is_named() {
        return offline::write(&args, &planes, session);
    }
    refuse_one_agent_for_two(&planes)?;
    let (control, build) = args.build.connect_to_write(session).await?;
    let control = planes.first().map_or(control.clone(), |plane| control.around(&plane.key()));
    if let Some(plane) = planes.first()
        && let Err(error) = control.plane_if_any::<Plane>(plane.name()).await
        && let Some(swapped) = swapped(&control, Some(&build), &error).await
    {
        return Err(swapped.into());
    }
    ask_for_url(&mut args, term)?;
    let registration = Registration { args: &args, control, build, given, several: planes.len() > 1, session };
    if args.change.dry_run == DryRun::None {
        if term.asks() && !args.change.yes {
            registration.preview(&planes).await?;
        }
        let names: Vec<_> = planes.iter().map(|plane| visible(plane.name())).collect();
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
