//! `choreoctl crd`: the CRDs that the program carries.

use clap::Args as ClapArgs;
use clap_complete::ArgValueCandidates;

use super::refusals::Refusal;
use crate::args::Session;
use crate::complete;
use crate::plane::{DEFAULT_KIND, Kind, KindWord, Release};
use crate::term::Exit;

/// Print the CustomResourceDefinition of a kind of plane
///
/// For tests only: OpenChoreo's chart installs the CRDs of a control plane. The CRD of
/// ClusterBuildPlane always follows OpenChoreo's published API reference, which requires less than the CRDs of v0.15 to
/// v0.17.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl crd | kubectl apply -f -
  choreoctl crd dataplane --release v0.17")]
pub struct Args {
    /// Kind, plural or short name [default: clusterbuildplane]
    #[arg(value_name = "TYPE", add = ArgValueCandidates::new(complete::kind_words))]
    kind: Option<KindWord>,

    /// Release of the CRD: v0.17 (also for v0.15 and v0.16) or v1.2 (also for v1.0 and v1.1) [default: the latest that has
    /// the kind]
    #[arg(long, value_name = "VERSION", add = ArgValueCandidates::new(complete::releases))]
    release: Option<Release>,
}

pub fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let kind = args.kind.map_or(DEFAULT_KIND, |word| word.0);
    let release = args.release.unwrap_or(kind.release());
    let text = kind.crd(release).ok_or_else(|| not_in_release(kind, release))?;
    session.term.note("for tests only: OpenChoreo's chart installs the CRDs of a control plane");
    session.term.print(&text)?;
    Ok(Exit::Done)
}

fn not_in_release(kind: &'static Kind, release: Release) -> Refusal {
    let named = kind.in_release(release).unwrap_or(kind).kind;
    let command = format!("choreoctl crd {} --release {release}", named.to_lowercase());
    Refusal::NotInRelease { release, kind: kind.kind, named, command }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};

    #[test]
    fn a_kind_that_a_release_does_not_have_is_refused_with_its_name_there() {
        for (words, reported, hint) in [
            (
                &["--release", "v1.0"][..],
                "v1.2 has no ClusterBuildPlane: the kind is called ClusterWorkflowPlane there",
                "choreoctl crd clusterworkflowplane --release v1.2",
            ),
            (
                &["workflowplanes", "--release", "0.16"],
                "v0.17 has no WorkflowPlane: the kind is called BuildPlane there",
                "choreoctl crd buildplane --release v0.17",
            ),
        ] {
            let error = run(&parse(words).unwrap(), &session()).unwrap_err();
            assert_eq!(error.to_string(), reported);
            assert_eq!(error.downcast_ref::<Refusal>().unwrap().hint().as_deref(), Some(hint));
        }
    }
}
