//! The files of a plane that is registered: private keys, Helm's values, manifests.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::commands::helm::VALUES;
use crate::gateway::GatewayUrl;
use crate::manifest;
use crate::pki::{
    Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, IssueError, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PemPair,
};
use crate::plane::DryRun;
use crate::text::{shown, visible};

/// Private keys, apart from what may be committed.
pub const KEYS: &str = "private";

/// The folder of private keys.
pub fn keys(folder: &Path) -> Folder {
    Folder::new(&folder.join(KEYS))
}

/// What a run before left in the folder: a CA, and an agent's pair.
pub fn at_hand(keys: &Folder, plane_id: &str, dry_run: DryRun) -> anyhow::Result<(Option<Authority>, Option<PemPair>)> {
    keys.refuse_foreign()?;
    if dry_run == DryRun::None {
        keys.settle()?;
    }
    let pair = |certificate, key| -> Option<PemPair> {
        let read = |name| std::fs::read_to_string(keys.file(name)).ok();
        Some(PemPair { certificate: read(certificate)?, key: Zeroizing::new(read(key)?) })
    };
    let authority = pair(CA_CERTIFICATE, CA_PRIVATE_KEY)
        .map(|ca| Authority::from_pem(&ca.certificate, &ca.key, Timestamp::now()).map_err(IssueError::from));
    let pair = pair(LEAF_CERTIFICATE, LEAF_PRIVATE_KEY);
    let leaf = pair.as_ref().and_then(PemPair::leaf);
    if let Some(other) = leaf.and_then(|leaf| leaf.common_name).filter(|name| name != plane_id) {
        anyhow::bail!(
            "{} holds the certificate of planeID {}: name another --out-dir",
            shown(keys.path()),
            visible(&other)
        );
    }
    Ok((authority.transpose()?, pair))
}

/// The gateway's URL in Helm's values of a run before.
pub fn url_of(folder: &Path) -> Option<GatewayUrl> {
    let text = std::fs::read_to_string(folder.join(VALUES)).ok()?;
    let values = manifest::parse(VALUES.into(), text);
    let values = values.documents.first()?.root.to_json();
    GatewayUrl::of_agent(values["clusterAgent"]["serverUrl"].as_str()?).ok()
}

/// What a file says, where there is one.
pub fn there(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Writes a file, unless it is so already.
pub fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    if there(&path).is_some_and(|there| there == text) {
        return Ok(());
    }
    let failed = || format!("could not write {}", shown(&path));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(failed)?;
    }
    Ok(manifest::write(&path, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::write_pairs;

    #[test]
    fn pairs_of_a_run_before_are_taken_over_for_the_same_plane_id_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let (authority, pair) = at_hand(&keys, "a", DryRun::None).unwrap();
        assert!(authority.is_none() && pair.is_none());
        write_pairs(keys.path(), "a");
        let (authority, pair) = at_hand(&keys, "a", DryRun::Client).unwrap();
        assert!(authority.is_some() && pair.is_some());
        let error = at_hand(&keys, "b", DryRun::None).err().unwrap().to_string();
        assert!(error.ends_with("holds the certificate of planeID a: name another --out-dir"), "{error}");
    }

    #[test]
    fn the_url_in_the_values_of_a_run_before_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(url_of(folder.path()).is_none());
        for (text, found) in [
            ("clusterAgent: {serverUrl: 'wss://g:8443/ws'}\n", true),
            ("clusterAgent: {serverUrl: no url}\n", false),
            ("clusterAgent: {}\n", false),
            ("", false),
        ] {
            write(folder.path(), VALUES, text).unwrap();
            assert_eq!(url_of(folder.path()).is_some(), found, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_so_already_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write(folder.path(), "a/b", "text").unwrap();
        let before = path.metadata().unwrap().modified().unwrap();
        write(folder.path(), "a/b", "text").unwrap();
        assert_eq!((there(&path).as_deref(), path.metadata().unwrap().modified().unwrap()), (Some("text"), before));
    }
}
