//! The sources that come with Tidemill.

pub mod files;
pub mod generate;
pub mod queue;
pub mod receiver;
pub mod socket;

use crate::registry::Connectors;

/// All of them, in the order of the documentation. A new one is one line here.
pub(crate) fn register(connectors: &mut Connectors) {
    connectors.built_in(socket::Socket);
    connectors.built_in(generate::Generate);
    connectors.built_in(files::Files);
    connectors.built_in(queue::Queue);
    connectors.built_in(receiver::Registered);
}
