//! Every id that a diagnosis, a page, a prediction or an inspection prints, with why it matters.

use super::checks::CHECKS;
use super::forecast::Reason;
use super::notes::{NOTES, REMARKS};

/// An id, and what is said of it.
pub struct Explained {
    pub id: &'static str,
    /// What it is, in a line.
    pub about: String,
    pub why: &'static str,
    /// The checks without which it means nothing.
    pub needs: &'static [&'static str],
}

/// Remarks of `certs inspect` on certificates, beside the defects that a page has notes on.
static CERTIFICATES: &[(&str, &str)] = &[
    ("key-mismatch", "An agent with a key that does not belong to its certificate does not start."),
    ("pod-behind", "The agent reads its certificate once, when it starts: after a renewal it needs a restart."),
    ("many-issuers", "Too many CA certificates have the issuer's name, so only some of them were checked."),
];

/// All of them, checks first, in their order.
pub fn explained() -> Vec<Explained> {
    let other = |kind: &str, id, why| Explained { id, about: kind.to_owned(), why, needs: &[] };
    let checks = CHECKS.iter().map(|check| Explained {
        id: check.id,
        about: format!("requires that {}", check.about),
        why: check.why,
        needs: check.needs,
    });
    let notes = NOTES.iter().map(|noted| other("a note of `choreoctl describe`", noted.id, noted.why));
    let remarks = REMARKS.iter().map(|noted| other("a remark of `choreoctl describe`", noted.id, noted.why));
    let certificates = CERTIFICATES.iter().map(|(id, why)| other("a remark of `choreoctl certs inspect`", id, why));
    let reasons =
        Reason::ALL.iter().map(|reason| other("a reason of `choreoctl forecast`", reason.name(), reason.why()));
    let mut all: Vec<Explained> = Vec::new();
    for one in checks.chain(notes).chain(remarks).chain(certificates).chain(reasons) {
        // An id means the same wherever it is printed, and is explained once.
        if all.iter().all(|known| known.id != one.id) {
            all.push(one);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_that_is_printed_is_explained() {
        let all = explained();
        let has = |id: &str| all.iter().any(|one| one.id == id && one.why.ends_with('.'));
        let mut found = 0;
        for id in include_str!("../commands/certs/inspect.rs").split("Note::new(\"").skip(1) {
            let id = id.split('"').next().unwrap();
            assert!(has(id), "{id} is not explained");
            found += 1;
        }
        assert!(found >= 3, "{found}");
        for id in [
            "ca-pinned-leaf",
            "weak-key",
            "same-name",
            "agent-trusted",
            "generation-behind",
            "rotation-unfinished",
            "running-certificate-unknown",
        ] {
            assert!(has(id), "{id} is not explained");
        }
    }
}
