//! `choreoctl certs renew`: a new client certificate under the same CA, in files or in the plane's cluster.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueHint};
use jiff::Timestamp;

use super::signer::SignerArgs;
use crate::args::{ChangeArgs, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, TextFormat, unless_swapped};
use crate::commands::source::{LEAF, new_pair, read, read_key};
use crate::commands::steps::Steps;
use crate::commands::waiting::deadline;
use crate::pki::{
    self, AuthorityError, CA_CERTIFICATE, Certificate, Folder, IssueError, KeyAlgorithm, KeyError, LEAF_CERTIFICATE,
    LEAF_PRIVATE_KEY, NewFile, PrivateKey,
};
use crate::plan::{self, Clusters, Observer as _, Renewal};
use crate::plane::{DryRun, Span, day};
use crate::term::{Exit, Term};
use crate::text::shown;

/// Renew an agent's client certificate under the same CA
///
/// With --dir, replaces the files tls.crt and tls.key together and keeps the old ones as *.old. With a plane's name,
/// replaces the agent's Secret in the plane's cluster, restarts the agent and waits until it has reconnected. The key is new,
/// of the same algorithm, and the certificate keeps its usages. Without a CA option, it uses the CA in --dir, or for a plane
/// the CA in a Secret of the agent's namespace.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl certs renew --dir certs
  choreoctl certs renew --dir agent --ca-dir ca
  choreoctl certs renew shared-builder --plane-context build --ca-dir certs")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    /// Folder with tls.crt and tls.key
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "words")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    ca: Option<SignerArgs>,

    /// With --dir, folder for the new tls.crt and tls.key [default: the same]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "dir")]
    out_dir: Option<PathBuf>,

    /// Overwrite existing files in --out-dir
    #[arg(long, requires = "out_dir")]
    force: bool,

    /// Algorithm of the new key [default: that of the old key]
    #[arg(long, value_name = "ALGORITHM")]
    key_algorithm: Option<KeyAlgorithm>,

    /// Validity of the certificate [default: that of the old one]
    #[arg(long, value_name = "DURATION")]
    valid_for: Option<Span>,

    #[command(flatten)]
    build: PlaneClusterArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    match &args.dir {
        Some(dir) => in_files(&args, dir, &session.term),
        None if args.plane.is_given() => in_cluster(&args, session).await,
        None => anyhow::bail!("name a plane, or a folder with --dir"),
    }
}

fn in_files(args: &Args, dir: &Path, term: &Term) -> anyhow::Result<Exit> {
    let from = Folder::new(dir);
    from.settle()?;
    let to = Folder::new(args.out_dir.as_deref().unwrap_or(dir));
    to.check(&LEAF, args.force || args.out_dir.is_none())?;
    let now = Timestamp::now();
    let ca = args.ca.clone().unwrap_or_else(|| SignerArgs::in_folder(dir));
    let authority = ca.read(now)?;
    let presented = pki::certificates(&read(&from.file(LEAF_CERTIFICATE))?);
    let old = presented.first().and_then(|der| Certificate::from_der(der));
    let old = old.ok_or(IssueError::from(AuthorityError::NoCertificate))?;
    if !pki::issued(&old.der, &authority.certificate.der) {
        let secret = from.file(LEAF_CERTIFICATE).to_string_lossy().into_owned();
        return Err(plan::Error::OtherCa { secret }.into());
    }
    let key = PrivateKey::from_pem(&read_key(&from.file(LEAF_PRIVATE_KEY))?)?;
    let algorithm = args.key_algorithm.or_else(|| key.algorithm()).ok_or(KeyError::Unusable)?;
    let valid_for = args.valid_for.unwrap_or_else(|| pki::lifetime(&old));
    let issued = pki::renewed(&old, &authority, PrivateKey::generate(algorithm)?, valid_for, now)?;
    let shown = shown(&to.file(LEAF_CERTIFICATE));
    let until = day(issued.pair.not_after);
    if args.change.dry_run == DryRun::None {
        let key = issued.pair.key.to_pem();
        let certificate = pki::with_chain(&issued.pair.certificate, &presented);
        let root = read(&from.file(CA_CERTIFICATE));
        let root = root.unwrap_or_else(|_| authority.certificate.to_pem());
        let mut files = Vec::from(new_pair(LEAF, &certificate, &key));
        // What is there may be the root of a chain.
        if !to.file(CA_CERTIFICATE).exists() {
            files.push(NewFile { name: CA_CERTIFICATE, content: &root, secret: false });
        }
        to.write(&files, true)?;
        to.remarks().iter().for_each(|remark| term.warn(remark));
    }
    let reported = format!("{shown}: renewed, valid until {until}{}", args.change.dry_run.suffix());
    match args.output.format {
        TextFormat::Text => term.line(&reported)?,
        TextFormat::Json => Steps::new(term, args.output.format).outcome("renew", plan::Status::Done, &reported),
    }
    if issued.shortened {
        term.warn(&format!("the certificate expires with its CA, at {}: renew the CA before", issued.pair.not_after));
    }
    Ok(Exit::Done)
}

async fn in_cluster(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    let authority = args.ca.as_ref().map(|ca| ca.read(Timestamp::now())).transpose()?;
    let (control, build, key) = args.build.connect_to_write(&args.plane, session).await?;
    let plane = unless_swapped(&control, Some(&build), control.plane(&key.name).await).await?;
    if args.change.dry_run == DryRun::None {
        term.confirm(&format!("renew the certificate of the agent of plane {key} and restart it"), args.change.yes)?;
    }
    let clusters = Clusters { control: &control, build: &build.cluster };
    let renewal = Renewal {
        namespace: build.namespace(key.kind.family).to_owned(),
        plane,
        authority,
        key_algorithm: args.key_algorithm,
        valid_for: args.valid_for,
        dry_run: args.change.dry_run,
        deadline: deadline(args.change.timeout),
    };
    let mut steps = Steps::new(term, args.output.format);
    let result = plan::renew(clusters, &renewal, &mut steps).await;
    steps.conclude(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{parse, session};
    use crate::commands::tests::write_pairs;

    #[test]
    fn a_certificate_of_another_ca_is_not_renewed() {
        let (agent, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_pairs(agent.path(), "a");
        write_pairs(other.path(), "a");
        let (dir, ca) = (agent.path().to_string_lossy(), other.path().to_string_lossy());
        let args: Args = parse(&["--dir", &dir, "--ca-dir", &ca]).unwrap();
        let before = std::fs::read(agent.path().join(LEAF_CERTIFICATE)).unwrap();
        let error = in_files(&args, agent.path(), &session().term).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(plan::Error::OtherCa { .. })), "{error}");
        assert_eq!(std::fs::read(agent.path().join(LEAF_CERTIFICATE)).unwrap(), before);
    }

    #[tokio::test]
    async fn a_renewal_is_of_a_plane_or_of_a_folder() {
        let error = run(parse(&[]).unwrap(), &session()).await.unwrap_err().to_string();
        assert_eq!(error, "name a plane, or a folder with --dir");
        assert!(parse::<Args>(&["a", "--dir", "d"]).unwrap_err().contains("cannot be used with"));
        assert!(parse::<Args>(&["--dir", "d", "--force"]).unwrap_err().contains("--out-dir"));
    }
}
