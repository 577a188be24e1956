//! The CA that signs new certificates, out of files, and the files of what it signed.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use jiff::Timestamp;
use serde_json::json;

use crate::args::{NewFilesArgs, TextFormat};
use crate::commands::source::{read, read_key};
use crate::manifest::json_text;
use crate::pki::{self, Authority, Bundle, CA_CERTIFICATE, CA_PRIVATE_KEY, Certificate, Folder, KeyAlgorithm, NewFile};
use crate::render;
use crate::term::Term;
use crate::text::shown;

/// The CA that signs.
#[derive(Args, Clone, Debug)]
#[group(id = "ca", multiple = true)]
pub struct SignerArgs {
    /// Folder with the CA's ca.crt and ca.key
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["ca_cert", "ca_key"])]
    ca_dir: Option<PathBuf>,

    /// The CA's certificate
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ca_key")]
    ca_cert: Option<PathBuf>,

    /// The CA's private key, in PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ca_cert")]
    ca_key: Option<PathBuf>,
}

impl SignerArgs {
    /// A folder with the CA's certificate and its key.
    pub fn in_folder(folder: &Path) -> Self {
        Self { ca_dir: Some(folder.to_owned()), ca_cert: None, ca_key: None }
    }

    /// Where its certificate is, and its key.
    pub fn paths(&self) -> (PathBuf, PathBuf) {
        let folder = self.ca_dir.clone().unwrap_or_default();
        let path = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| folder.join(name));
        (path(&self.ca_cert, CA_CERTIFICATE), path(&self.ca_key, CA_PRIVATE_KEY))
    }

    pub fn read(&self, now: Timestamp) -> anyhow::Result<Authority> {
        let (certificate, key) = self.paths();
        Folder::new(&folder_of(&certificate)).settle()?;
        Ok(Authority::from_pem(&read(&certificate)?, &read_key(&key)?, now).map_err(pki::IssueError::from)?)
    }
}

/// The folder that a file is in.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The CA's certificate as a file beside the leaf, unless it is there already: with it the folder is all that the
/// agent's Secret needs.
pub fn ca_beside<'c>(folder: &Folder, source: &Path, ca: &'c str) -> Option<NewFile<'c>> {
    let path = folder.file(CA_CERTIFICATE);
    let canonical = |path: &Path| path.canonicalize().ok();
    let there = (path.exists() && canonical(&path) == canonical(source))
        || read(&path).is_ok_and(|text| Bundle::normalized(text.as_bytes()).is_ok_and(|bundle| bundle.pem() == ca));
    (!there).then_some(NewFile { name: CA_CERTIFICATE, content: ca, secret: false })
}

/// Writes new files and says what they are: first the one that is no secret, in words of the verb, then the key, if its
/// algorithm is given.
pub fn write(
    folder: &Folder,
    files: &[NewFile<'_>],
    args: &NewFilesArgs,
    about: &str,
    key: Option<KeyAlgorithm>,
    term: &Term,
) -> anyhow::Result<()> {
    folder.write(files, args.force)?;
    if key.is_some() {
        folder.remarks().iter().for_each(|remark| term.warn(remark));
    }
    let name = |secret| files.iter().find(|file| file.secret == secret).map_or("", |file| file.name);
    term.line(&format!("{}: {about}", shown(&folder.file(name(false)))))?;
    if let Some(key) = key {
        term.line(&format!("{}: private key ({}), readable only by you", shown(&folder.file(name(true))), key.name()))?;
    }
    Ok(())
}

/// The same, said in a format that scripts read as one object: the files, and the certificate as `certs inspect` has it.
pub fn write_as(
    format: TextFormat,
    folder: &Folder,
    files: &[NewFile<'_>],
    args: &NewFilesArgs,
    (about, key): (&str, KeyAlgorithm),
    term: &Term,
) -> anyhow::Result<()> {
    if format == TextFormat::Text {
        return write(folder, files, args, about, Some(key), term);
    }
    folder.write(files, args.force)?;
    folder.remarks().iter().for_each(|remark| term.warn(remark));
    let path = |file: &NewFile<'_>| folder.file(file.name).to_string_lossy().into_owned();
    let written = files.iter().map(|file| json!({"path": path(file), "private": file.secret}));
    // Of the files without a key the new certificate is the first.
    let certificate = files.iter().find(|file| !file.secret).and_then(|file| {
        let certificate = Certificate::all_in(file.content).into_iter().next()?;
        Some(render::certificates::object(&path(file), 0, &certificate, Timestamp::now()))
    });
    let object = json!({"files": written.collect::<Vec<_>>(), "certificate": certificate});
    term.line(&json_text(&render::redacted_json(object))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::parse;
    use crate::commands::tests::write_pairs;

    #[test]
    fn a_signer_is_a_folder_or_two_files() {
        let paths = |words: &[&str]| parse::<SignerArgs>(words).unwrap().paths();
        assert_eq!(paths(&["--ca-dir", "d"]), ("d/ca.crt".into(), "d/ca.key".into()));
        assert_eq!(paths(&["--ca-cert", "c", "--ca-key", "k"]), ("c".into(), "k".into()));
        assert!(parse::<SignerArgs>(&["--ca-cert", "c"]).unwrap_err().contains("--ca-key"));
        assert!(parse::<SignerArgs>(&["--ca-dir", "d", "--ca-key", "k"]).unwrap_err().contains("cannot be used with"));
        assert_eq!((folder_of(Path::new("a")), folder_of(Path::new("b/a"))), (".".into(), "b".into()));
    }

    #[test]
    fn the_ca_goes_beside_the_leaf_unless_it_is_there() {
        let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ca = write_pairs(with.path(), "a");
        assert!(SignerArgs::in_folder(with.path()).read(Timestamp::now()).is_ok());
        assert!(SignerArgs::in_folder(without.path()).read(Timestamp::now()).is_err());
        let source = with.path().join(CA_CERTIFICATE);
        let beside =
            |folder: &tempfile::TempDir, ca: &str| ca_beside(&Folder::new(folder.path()), &source, ca).is_some();
        assert!(!beside(&with, "other") && beside(&without, &ca));
        std::fs::write(without.path().join(CA_CERTIFICATE), &ca).unwrap();
        assert!(!beside(&without, &ca) && beside(&without, "other"));
    }
}
