//! The socket source: connects, reads, and connects again when the connection ends.

mod connection;
pub mod protocol;

use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::receiver::{Backoff, ConnectError, ReceiverError};
use crate::source::{Context, Ended, Payload, Records, SourceConfig, SourceConnector};
use crate::status::ReceiverState;
use connection::Connection;
use std::time::Duration;
use tidemill_common::definition::{Key, Name, RECEIVERS, Reader, Shape, Table, Value};
use tidemill_common::diag::Diagnostic;

/// Records from TCP servers.
#[derive(Debug)]
pub struct Socket;

/// What a definition says of a socket source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// `host:port` of each server; one receiver per address, or `receivers` for a single one.
    pub addresses: Vec<String>,
    /// Whether the sender speaks the acknowledged line protocol ([`protocol`]).
    pub acknowledge: bool,
    /// Receivers for a single address. Default 1; only 1 when `acknowledge`.
    pub receivers: u32,
}

impl SourceConfig for SocketConfig {
    fn delivery(&self) -> Delivery {
        if self.acknowledge { Delivery::Acknowledged } else { Delivery::AtMostOnce }
    }

    fn receivers(&self) -> u32 {
        if self.addresses.len() == 1 { self.receivers } else { self.addresses.len() as u32 }
    }
}

impl SourceConnector for Socket {
    type Config = SocketConfig;

    const NAME: &'static str = "socket";
    const DOC: &'static str = "Records from a TCP server, plain or with the acknowledged line protocol.";
    const KEYS: &'static [Key] = &[
        Key::new("address", Shape::Address, "host:port of the server that sends the lines."),
        Key::new("addresses", Shape::Addresses, "Several servers; one receiver for each."),
        Key::new(
            "acknowledge",
            Shape::Flag,
            "Whether the sender speaks the acknowledged line protocol. Default false.",
        ),
        Key::new("receivers", Shape::Count(RECEIVERS), "Connections to a single plain address. Default 1."),
    ];
    const ONE_OF: &'static [&'static str] = &["address", "addresses"];
    const PAYLOAD: Payload = Payload::Lines;

    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, records: &Records) -> Option<SocketConfig> {
        let addresses = read_addresses(r, table);
        let acknowledge = r.flag(table, "acknowledge");
        let receivers = r.receivers(table);
        if let (Some(2..), Some(value)) = (receivers, table.get("receivers")) {
            let mut refuse = |message: &str| r.push(Diagnostic::new(message).at(value.span()).label("expected 1"));
            if acknowledge == Some(true) {
                refuse("a source with `acknowledge` has one receiver per address");
            } else if addresses.as_ref().is_some_and(|addresses| addresses.len() > 1) {
                refuse("`receivers` is for a single address; several have one receiver each");
            }
        }
        if acknowledge == Some(true) && records.multi_line {
            let wrong = Diagnostic::new("`multi_line` does not go with `acknowledge`, whose protocol counts lines");
            r.push(wrong.at(table.key_span("multi_line")));
        }
        Some(SocketConfig { addresses: addresses?, acknowledge: acknowledge?, receivers: receivers? })
    }

    async fn run(config: &SocketConfig, context: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        let address = config.addresses.get(context.receiver as usize).or_else(|| config.addresses.first());
        let address = address.ok_or(ReceiverError::Internal("a socket source without an address"))?;
        receive(intake, address, config.acknowledge, context.reconnect).await?;
        Ok(Ended::Stopped)
    }
}

fn read_addresses<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Vec<String>> {
    match (table.get("address"), table.get("addresses")) {
        (Some(one), None) => Some(vec![read_address(r, one)?]),
        (None, Some(many)) => read_several(r, many),
        (None, None) => {
            r.missing(table, "`address` (or `addresses`)");
            None
        }
        (Some(_), Some(_)) => {
            let wrong = Diagnostic::new("`address` and `addresses` exclude each other");
            r.push(wrong.at(table.key_span("addresses")).help("list them all in `addresses`"));
            None
        }
    }
}

fn read_several<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<String>> {
    let items = r.array(value)?;
    if items.is_empty() {
        r.push(Diagnostic::new("expected at least one address").at(value.span()));
        return None;
    }
    let mut addresses = Vec::new();
    for item in items {
        let Some(address) = read_address(r, item) else { continue };
        if addresses.contains(&address) {
            let wrong = Diagnostic::new(format!("`{address}` is there twice")).at(item.span());
            r.push(wrong.help("several connections to one address are `receivers`"));
        }
        addresses.push(address);
    }
    (addresses.len() == items.len()).then_some(addresses)
}

/// `host:port`, with an IPv6 address in brackets.
fn read_address<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<String> {
    let Name { text, span } = r.text(value)?;
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_good = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let odd = |c: char| c.is_whitespace() || c.is_control() || ":/[]".contains(c);
                !host.is_empty() && !host.contains(odd)
            }
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        host_good && digits && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if !good {
        let wrong = Diagnostic::new(format!("`{text}` is not an address")).at(span);
        r.push(wrong.label("expected `host:port`").help("for example \"127.0.0.1:9999\""));
    }
    good.then_some(text)
}

/// Reads from `address` until stopped.
async fn receive(intake: &mut Intake, address: &str, acknowledge: bool, backoff: Backoff) -> Result<(), ReceiverError> {
    let mut wait = backoff.first;
    loop {
        // An acknowledging sender may forget what we ask to go on behind, so all of it has to be held.
        let resume = if acknowledge { Some(intake.drain().await?) } else { None };
        intake.status.set(ReceiverState::Connecting);
        let error = match intake.wait_for(Connection::open(address, resume)).await? {
            None => return Ok(()),
            Some(Err(error)) => error,
            Some(Ok(mut connection)) => {
                intake.status.set(ReceiverState::Connected);
                // Where an acknowledging sender goes on is no beginning: what it sends there is a record as any other.
                if resume.is_none_or(|offset| offset == 0) {
                    intake.lines.begin(0);
                }
                let before = intake.offset();
                let Some(error) = read(intake, &mut connection).await? else {
                    return end(intake, connection, acknowledge).await;
                };
                close_records(intake, acknowledge, &error);
                if intake.offset() > before {
                    wait = backoff.first;
                }
                intake.seal();
                match error {
                    ConnectError::Closed if !acknowledge && intake.offset() == before => {
                        ConnectError::ClosedWithoutLines
                    }
                    error => error,
                }
            }
        };
        let jittered = jitter(wait);
        wait = (wait * 2).min(backoff.most);
        tracing::warn!(address, %error, wait = ?jittered, "no connection to the sender");
        intake.status.back_off(&error, jittered);
        if intake.wait_for(tokio::time::sleep(jittered)).await?.is_none() {
            return Ok(());
        }
    }
}

/// Reads and seals until stopped (`None`) or the connection is lost.
async fn read(intake: &mut Intake, connection: &mut Connection) -> Result<Option<ConnectError>, ReceiverError> {
    loop {
        if intake.lines.is_full() && intake.is_sealable() {
            intake.seal();
        }
        let (open, sealable, allowed) = (intake.window.is_open(), intake.is_sealable(), intake.allowed());
        tokio::select! {
            biased;
            () = intake.stop.cancelled() => return Ok(None),
            held = intake.window.more_held() => {
                if let Err(error) = connection.tell_held(held?).await {
                    return Ok(Some(error));
                }
            }
            _ = intake.tick.tick(), if sealable => intake.seal(),
            () = intake.limiter.wait(), if open && allowed == 0 => {}
            read = intake.lines.read_from(&mut connection.reader, allowed), if open && allowed > 0 => match read {
                Ok(0) => return Ok(Some(ConnectError::Closed)),
                Ok(bytes) => intake.limiter.read(bytes),
                Err(error) => return Ok(Some(ConnectError::Broken(error))),
            },
        }
    }
}

/// Stopped: has all whole records held, and says so.
async fn end(intake: &mut Intake, mut connection: Connection, acknowledge: bool) -> Result<(), ReceiverError> {
    intake.status.set(ReceiverState::Draining);
    if intake.lines.discard_partial() && !acknowledge {
        intake.status.partial_discarded();
    }
    let held = intake.drain().await?;
    match connection.tell_held(held).await {
        Ok(()) => connection.farewell().await,
        Err(error) => tracing::debug!(%error, held, "could not tell the sender what is held"),
    }
    Ok(())
}

/// What becomes of a record that the connection ended in: an acknowledging sender sends it again; else it is a
/// record if the sender closed the connection, as in Spark, and lost if the connection broke.
fn close_records(intake: &mut Intake, acknowledge: bool, error: &ConnectError) {
    if !acknowledge && matches!(error, ConnectError::Closed) {
        intake.lines.end_record();
    } else if intake.lines.discard_partial() && !acknowledge {
        intake.status.partial_discarded();
    }
}

fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.75..1.25))
}
