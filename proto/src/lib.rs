//! Tidemill's wire: the messages and services of `proto/*.proto`, and how typed errors travel in a
//! [`tonic::Status`]. Nothing here knows what the messages are for.

#![allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::large_enum_variant)]

/// Version of the session protocol between driver and workers; both ends must have the same.
pub const PROTOCOL_VERSION: u32 = 2;

/// Largest message that any service accepts, in bytes: the state of a key group has to fit into one.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;

mod tidemill {
    pub mod common {
        pub mod v1 {
            tonic::include_proto!("tidemill.common.v1");
        }
    }
    pub mod control {
        pub mod v1 {
            tonic::include_proto!("tidemill.control.v1");
        }
    }
    pub mod data {
        pub mod v1 {
            tonic::include_proto!("tidemill.data.v1");
        }
    }
    pub mod client {
        pub mod v1 {
            tonic::include_proto!("tidemill.client.v1");
        }
    }
}

pub use tidemill::client::v1 as client;
pub use tidemill::common::v1 as common;
pub use tidemill::control::v1 as control;
pub use tidemill::data::v1 as data;

use common::ErrorKind;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

const KIND_HEADER: &str = "tidemill-error-kind";

/// Puts a typed error into a status, as a number in a trailer beside the text.
pub fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let code = match kind {
        ErrorKind::ErrorNotFound => Code::NotFound,
        ErrorKind::ErrorInvalid => Code::InvalidArgument,
        ErrorKind::ErrorResources => Code::ResourceExhausted,
        ErrorKind::ErrorNotReady => Code::Unavailable,
        ErrorKind::ErrorInternal | ErrorKind::ErrorUnspecified => Code::Internal,
        ErrorKind::ErrorWrongCluster
        | ErrorKind::ErrorFenced
        | ErrorKind::ErrorProtocolVersion
        | ErrorKind::ErrorArithmetic
        | ErrorKind::ErrorStateVersion => Code::FailedPrecondition,
    };
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(KIND_HEADER, MetadataValue::from(kind as i32));
    status
}

/// The typed error in a status, if it carries one.
pub fn error_kind(status: &Status) -> Option<ErrorKind> {
    let number = status.metadata().get(KIND_HEADER)?.to_str().ok()?.parse::<i32>().ok()?;
    ErrorKind::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_wire() {
        let sent = status(ErrorKind::ErrorFenced, "worker 3 is no member");
        assert_eq!(error_kind(&sent), Some(ErrorKind::ErrorFenced));
        assert_eq!(error_kind(&Status::internal("x")), None);
    }
}
