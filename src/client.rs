//! Talking to a driver.

use crate::exit::{Failure, Outcome};
use std::time::Duration;
use tidemill_common::terminal;
use tidemill_proto::MAX_MESSAGE_BYTES;
use tidemill_proto::client::client_client::ClientClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// A connected client.
pub(crate) type Client = ClientClient<Channel>;

/// Connects, within a few seconds.
pub(crate) async fn connect(driver: &str) -> Result<Client, Failure> {
    let wrong = |why: String| Failure::usage(format!("--driver {driver}: {why}; write http://host:port"));
    let url = if driver.contains("://") { driver.to_string() } else { format!("http://{driver}") };
    let endpoint = Endpoint::from_shared(url).map_err(|error| wrong(error.to_string()))?;
    let channel = endpoint.connect_timeout(Duration::from_secs(3)).tcp_nodelay(true).connect().await;
    let channel = channel.map_err(|_| {
        Failure::unavailable(format!(
            "no driver answers at {driver}; start one with `tidemill driver`, or give its address with --driver"
        ))
    })?;
    Ok(ClientClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// A refusal of the driver as the user sees it.
pub(crate) fn refused(status: Status) -> Failure {
    let outcome = match status.code() {
        Code::InvalidArgument | Code::NotFound => Outcome::Usage,
        Code::Unavailable => Outcome::Unavailable,
        _ => Outcome::Failed,
    };
    Failure { outcome, message: terminal::lines(status.message()).into_owned() }
}
