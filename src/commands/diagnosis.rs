//! What the verbs that diagnose have in common.

use crate::doctor;
use crate::plane::Snapshot;
use crate::term::{Exit, Term};

/// Warns where the end of a dump is missing: nothing is known for sure then.
pub fn cut_off(snapshot: &Snapshot, term: &Term) -> Exit {
    if !doctor::is_cut_off(snapshot) {
        return Exit::Done;
    }
    term.warn("the dump is cut off: what is missing in it may be there");
    Exit::Failed
}
