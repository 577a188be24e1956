//! One file a verb: its flags, and what it does with them, read from top to bottom.
//!
//! A verb imports no other verb. What several of them need has a file of its own below them: `steps`, `waiting` and
//! `watching`, `manifests` and what they lead to, `source`; and below these the errors as text.

pub mod apply;
pub mod bootstrap;
pub mod certs;
pub mod config;
pub mod crd;
pub mod create;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod doctor;
pub mod dump;
pub mod forecast;
pub mod get;
pub mod logs;
pub mod migrate;
pub mod restart;
pub mod status;
pub mod timeline;
pub mod unregister;
pub mod validate;
pub mod version;
pub mod wait;
pub mod watch;

mod diagnosis;
mod helm;
mod manifests;
mod objects;
mod remains;
mod remembered;
mod replaced;
mod source;
mod steps;
mod waiting;
mod warnings;
mod watched;
mod watching;

mod error;
mod refusals;

pub use error::text as error_text;

#[cfg(test)]
pub(crate) mod tests;
