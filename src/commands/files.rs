//! Certificates and keys read from files.

use std::path::Path;

use zeroize::Zeroizing;

use crate::manifest::{self, Input};

/// A file's text, which is wiped when it goes.
pub fn read_key(path: &Path) -> Result<Zeroizing<String>, manifest::Error> {
    let bytes = Zeroizing::new(manifest::read_bytes(&Input::Path(path.to_owned()))?);
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// A file's text. What isn't text holds no PEM.
pub fn read(path: &Path) -> Result<String, manifest::Error> {
    let bytes = manifest::read_bytes(&Input::Path(path.to_owned()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
