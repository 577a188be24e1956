//! New files of certificates, and what is said of them.

use crate::args::NewFilesArgs;
use crate::pki::{Folder, KeyAlgorithm, NewFile};
use crate::term::Term;
use crate::text::shown;

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
        term.line(&format!("{}: its private key, {}, for you only", shown(&folder.file(name(true))), key.name()))?;
    }
    Ok(())
}
