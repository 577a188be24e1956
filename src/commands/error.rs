//! Errors as text, with the hint of the one that has it.

use super::apply::Refusal;
use super::certs::ToTerminal;
use crate::term::{paint, visible};
use crate::{cluster, manifest, pki, term};

/// `error: ...`, its causes, and the hint of the first error in the chain that has one.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = format!("{} {}", paint::bad("error:"), visible(&error.to_string()));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let told = cause.to_string();
        // Many libraries repeat their cause in their own words.
        if !last.contains(&told) {
            text.push_str(&format!("\n{} {}", paint::faint("caused by:"), visible(&told)));
        }
        last = told;
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str(&format!("\n\n{} {hint}", paint::good("hint:")));
    }
    text
}

/// The hint of an error, if it is one that carries hints: all of them are listed here.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    macro_rules! first {
        ($($of:ty),*) => { None$(.or_else(|| error.downcast_ref::<$of>().and_then(<$of>::hint)))* };
    }
    first!(
        cluster::Error,
        manifest::Error,
        pki::StoreError,
        pki::AuthorityError,
        pki::IssueError,
        term::PromptError,
        Refusal,
        ToTerminal
    )
    .or_else(|| error.downcast_ref::<pki::KeyError>().and_then(|error| error.hint()))
}
