//! What is known of the world: the objects of both clusters around planes, read in one way, whatever tells of them, each
//! part with its own error.
//!
//! Not here: the requests (cluster), and what is made of what was read (doctor, plan, render).

mod client_ca;
mod files;
mod live;
mod marks;
mod objects;
mod source;
mod unavailable;

pub use client_ca::{CaPlace, ClientCa, client_cas};
pub use files::Files;
pub use source::AT_ONCE;
pub use unavailable::{Cause, Unavailable};
