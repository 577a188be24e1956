//! Who is reported the steps of a plan, and the wait for what takes time.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use crate::pki::PemPair;
use crate::plane::DryRun;

/// How a step came out. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was so already.
    Found,
    Done,
    Skipped,
    Failed,
}

pub trait Observer {
    /// A step begins: its name, and what it sees to.
    fn begin(&mut self, step: &'static str, about: &str);

    /// Whether what is there is to be replaced, and by what, in words; fails where the user declined.
    fn replaces(&mut self, what: &str, before: &str, after: &str) -> anyhow::Result<bool>;

    fn outcome(&mut self, step: &'static str, status: Status, message: &str);

    /// Keeps a CA with its key, unless it is only asked whether it would; whether there is a place for it.
    fn keep(&mut self, ca: &PemPair, dry_run: DryRun) -> anyhow::Result<bool>;

    /// Something takes time; repeated while it does.
    fn wait(&mut self, text: &str);

    /// A change of several runs is, or is no longer, unfinished.
    fn unfinished(&mut self, is_unfinished: bool);

    /// A manifest for somebody else to apply; where it was put.
    fn manifest(&mut self, name: &str, text: &str) -> anyhow::Result<String>;
}

/// How often what is waited for is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Looks until something is there, and says what is waited for.
pub async fn until<T>(
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    loop {
        match look().await? {
            Ok(found) => return Ok(found),
            Err(waiting) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(Error::TimedOut { waiting }.into());
            }
            Err(waiting) => observer.wait(&waiting),
        }
        tokio::time::sleep(EVERY).await;
    }
}
