//! Errors as text, with the hint of the one that has it.

use super::refusals::Refusal;
use crate::args::is_not_found;
use crate::paint;
use crate::term::{Exit, Term};
use crate::text::{program, visible};
use crate::{cluster, manifest, pki, plan, term};

/// `error: ...`, its causes, and the hint of the first error in the chain that has one.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = format!("{} {}", paint::bad("error:"), visible(&error.to_string()));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let reported = cause.to_string();
        // Many libraries repeat their cause in their own words.
        if !last.contains(&reported) {
            text.push_str(&format!("\n{} {}", paint::faint("caused by:"), visible(&reported)));
        }
        last = reported;
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str(&format!("\n\n{} {}", paint::good("hint:"), program(&hint)));
    }
    text
}

/// Reports the planes that don't exist or may not be read, and how that ends.
pub fn tell_missing(missing: &[anyhow::Error], term: &Term) -> Exit {
    missing.iter().for_each(|error| term.error(&text(error)));
    let exit = |error| if is_not_found(error) { Exit::NotFound } else { Exit::Failed };
    missing.iter().map(exit).fold(Exit::Done, Exit::and)
}

/// Says that there is nothing to show, as kubectl does.
pub fn none_found(term: &Term) {
    term.note("No resources found");
}

/// The hint of an error, if it is one that carries hints: all of them are listed here.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    macro_rules! first {
        ($($of:ty),*) => { None$(.or_else(|| error.downcast_ref::<$of>().and_then(<$of>::hint)))* };
    }
    first!(
        cluster::Error,
        crate::config::Error,
        manifest::Error,
        plan::Error,
        crate::args::NoPlaneCluster,
        crate::args::SeveralClusters,
        crate::args::Swapped,
        crate::args::NotInFiles,
        crate::args::Doubt,
        crate::args::WordsError,
        crate::args::NotCa,
        pki::StoreError,
        pki::AuthorityError,
        pki::IssueError,
        term::PromptError,
        crate::validate::CrdError,
        Refusal
    )
    .or_else(|| error.downcast_ref::<pki::KeyError>().and_then(|error| error.hint()))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::cluster::Error as Cluster;
    use crate::cluster::Target;
    use crate::manifest::Error as Manifest;
    use crate::pki::{AuthorityError, BundleError, IssueError, KeyError, StoreError};
    use crate::plan::Error as Plan;
    use crate::plane::Release;
    use crate::term::PromptError;
    use crate::validate::CrdError;

    fn s(text: &str) -> String {
        text.to_owned()
    }

    /// Every kind of error whose hint is promised, each wrapped as a command would.
    fn hinted() -> Vec<anyhow::Error> {
        let io = |kind| io::Error::from(kind);
        let broken = |error| Cluster::Unreachable { server: s("x"), source: Box::new(error), command: s("kubectl") };
        let tls = |error| io::Error::other(rustls::Error::InvalidCertificate(error));
        let mut all: Vec<anyhow::Error> = Vec::new();
        for error in [
            Cluster::NoKubeconfig,
            Cluster::NoContext { known: vec![s("a b")] },
            Cluster::NoContext { known: vec![] },
            Cluster::UnknownContext { context: s("x"), known: vec![] },
            Cluster::UnknownContext { context: s("x"), known: vec![s("y"), s("z")] },
            Cluster::UnknownUser { user: s("x") },
            Cluster::Kubeconfig { reason: s("x") },
            Cluster::Proxy { scheme: s("x") },
            Cluster::Credentials { reason: s("x") },
            broken(io(io::ErrorKind::ConnectionRefused)),
            broken(tls(rustls::CertificateError::Expired)),
            broken(tls(rustls::CertificateError::UnknownIssuer)),
            Cluster::TimedOut { server: s("x"), limit: Duration::ZERO },
            Cluster::TooLarge { server: s("x"), excess: s("y") },
            Cluster::Busy { server: s("x"), wait: Duration::from_secs(3600) },
            Cluster::OtherAnswer { server: s("x"), found: s("y"), expected: s("z"), command: s("kubectl") },
            Cluster::Unauthorized { server: s("x"), command: s("kubectl") },
            Cluster::Forbidden { message: s("x"), command: s("kubectl") },
            Cluster::NoSuchKind { kind: "x", renamed: Some("y"), command: s("kubectl") },
            Cluster::NoSuchKind { kind: "x", renamed: None, command: s("kubectl") },
            Cluster::NotFound { what: s("x"), similar: vec![], command: s("kubectl") },
            Cluster::NotFound { what: s("x"), similar: vec![s("y")], command: s("kubectl") },
            Cluster::NoSource { what: s("x"), command: s("kubectl") },
            Cluster::NoAgent { namespace: s("x"), plane_id: Some(s("y")), there: vec![s("z")], command: s("kubectl") },
            Cluster::NoAgent { namespace: s("x"), plane_id: None, there: vec![], command: s("kubectl") },
            Cluster::SeveralAgents { names: vec![s("x")] },
            Cluster::NoKey { what: s("x"), key: s("x"), keys: vec![s("y")] },
            Cluster::Exists { what: s("x") },
            Cluster::Owned { owned: vec![] },
            Cluster::Changed { what: "plane a".into() },
            Cluster::Outdated { field: "x" },
            Cluster::BothSources { owner: None, command: s("x") },
        ] {
            all.push(error.into());
        }
        for error in [
            Manifest::Missing { file: s("x") },
            Manifest::TooLarge { file: s("x") },
            Manifest::NotText { file: s("x"), offset: 0, line: 1 },
            Manifest::NoPlane { file: s("x") },
            Manifest::Binary { file: s("x"), offset: 0 },
            Manifest::Syntax { file: s("x"), line: 1, column: 1, message: s("x") },
        ] {
            all.push(error.into());
        }
        for error in [
            StoreError::Exists { path: s("x") },
            StoreError::NotFolder { path: s("x") },
            StoreError::NotFile { path: s("x") },
            StoreError::Symlink { path: s("x") },
            StoreError::NotOwned { path: s("x") },
            StoreError::Write { path: s("x"), source: io(io::ErrorKind::PermissionDenied) },
        ] {
            all.push(error.into());
        }
        let at = jiff::Timestamp::UNIX_EPOCH;
        for error in [
            AuthorityError::Key(KeyError::Encrypted),
            AuthorityError::NotCa { subject: s("x") },
            AuthorityError::Expired { subject: s("x"), at },
            AuthorityError::Mismatch,
            AuthorityError::NotYetValid { subject: s("x"), at },
        ] {
            all.push(IssueError::from(error).into());
        }
        for error in [
            Plan::TimedOut { waiting: s("x") },
            Plan::NotReconnected { waiting: s("x"), command: s("choreoctl") },
            Plan::Paused { agent: s("x"), command: s("kubectl") },
            Plan::OtherManager { plane: s("x"), what: s("y"), manager: s("z") },
            Plan::StillNeeded { why: s("x") },
            Plan::Meddled { secret: s("x") },
            Plan::CertManager { secret: s("x"), certificate: s("y"), command: s("kubectl") },
            Plan::OtherAgent { namespace: s("x"), plane: s("y"), plane_id: s("z") },
            Plan::NoWayBack { why: s("x") },
            Plan::NoCertManager { why: s("x"), command: s("kubectl") },
            Plan::InstalledOnce { release: s("x"), namespace: s("y"), what: "z", command: s("choreoctl") },
            Plan::AgentElsewhere { plane_id: s("x"), namespace: s("y") },
            Plan::UnderWay { staging: s("x") },
            Plan::OtherOwner { secret: s("x"), manager: s("y") },
            Plan::Differs { what: s("x") },
            Plan::NoRight { rights: vec![s("x")], command: s("kubectl") },
            Plan::Gateway { why: s("x"), hint: s("y") },
            Plan::NoCa { namespace: s("x") },
            Plan::OtherCa { secret: s("x") },
            Plan::OtherWay { under_way: "own" },
        ] {
            all.push(error.into());
        }
        all.push(crate::args::NoPlaneCluster.into());
        all.push(crate::args::SeveralClusters::of(&[]).into());
        all.push(crate::args::Swapped::of(&Target::default(), &Target::default(), "x").into());
        all.push(crate::args::NotInFiles { name: s("x"), similar: vec![s("y")] }.into());
        all.extend([
            IssueError::RequestKey.into(),
            IssueError::OldSubject.into(),
            IssueError::Subject.into(),
            KeyError::Unusable.into(),
        ]);
        all.extend([
            PromptError::NotAsked { action: s("x") }.into(),
            PromptError::Missing { what: s("x"), flag: s("y") }.into(),
            crate::args::NotCa { file: s("x"), source: BundleError::PrivateKey }.into(),
            crate::args::NotCa { file: s("x"), source: BundleError::Empty }.into(),
            Refusal::InvalidFiles { command: s("x") }.into(),
            Refusal::OtherKinds { kinds: s("x"), command: s("x") }.into(),
            Refusal::Lockout.into(),
            Refusal::NoName { place: s("x") }.into(),
            Refusal::Twice { name: s("x"), first: s("x"), second: s("x") }.into(),
            Refusal::ToTerminal { command: s("x") }.into(),
            Refusal::Unnamed.into(),
            Refusal::UnknownPlaneId { plane_id: s("x"), nouns: s("plane"), other: None }.into(),
            Refusal::SeveralAgents { kinds: vec![crate::plane::DEFAULT_KIND] }.into(),
            Refusal::NoManifest.into(),
            Refusal::NoPods { agent: s("x"), command: s("kubectl") }.into(),
            Refusal::FixStdin.into(),
            Refusal::NotInRelease { release: Release::V1, kind: "x", named: "y", command: s("z") }.into(),
            CrdError { place: s("x"), message: s("x"), hint: "x" }.into(),
        ]);
        all
    }

    #[test]
    fn every_hint_is_reached() {
        for error in hinted() {
            let text = text(&error.context("could not do it"));
            let plain = crate::render::plain(&text);
            assert!(plain.starts_with("error: could not do it\ncaused by: "), "{plain}");
            assert!(plain.split("\n\nhint: ").nth(1).is_some_and(|hint| !hint.is_empty()), "{plain}");
        }
    }

    #[test]
    fn causes_are_reported_once_and_visibly() {
        let error =
            anyhow::Error::new(io::Error::other("deep\u{1b}[2J")).context("outer: deep\u{1b}[2J").context("top\nline");
        let plain = crate::render::plain(&text(&error));
        assert_eq!(plain, "error: top\\nline\ncaused by: outer: deep\\u{1b}[2J");
    }
}
