//! What is known of the world: the objects of both clusters around planes, read in one way, whatever reports them, each
//! part with its own error.
//!
//! Not here: the requests (cluster), and what is made of what was read (doctor, plan, render).

mod agents;
mod client_ca;
mod control;
mod controller;
mod facts;
mod files;
mod gateway;
mod history;
mod issuance;
pub mod marks;
mod neighbours;
mod objects;
mod recording;
mod remover;
mod source;
mod unavailable;

pub use agents::{AgentFacts, Pair, Presents, Running, ServerCa, deployed, log, of_agents, secret, server_ca};
pub use client_ca::{CaPlace, ClientCa, client_cas, parse_all};
pub use control::{Events, PlaneEvent, gateway_ca, lease, scaled_to_zero};
pub use controller::{CONTROLLER, Controller};
pub use facts::{Extent, Facts, Secrets, Surroundings, facts};
pub use files::Files;
pub use gateway::{DeployedGateway, GatewayLines, GatewayLog};
pub use history::{History, Missing};
pub use issuance::{ISSUE, Issuance, issuance, reissue};
pub use neighbours::{Few, Neighbours, Peers};
pub use objects::{CERTIFICATE, CERTIFICATE_REQUEST, ISSUER};
pub use recording::{Record, Recording};
pub use remover::{Remover, removers, running_release};
pub use source::{AT_ONCE, Coverage, Source, grouped, time};
pub use unavailable::{Cause, Unavailable};
