//! `tidemill produce`: senders of lines for demos, tests and benchmarks.
//!
//! [`serve`] makes purchases as the chapter's `StreamingProducer` does, [`serve_file`] sends a file. Both listen;
//! receivers connect. The lines of either are a function of their index, so a sender can go on anywhere
//! without keeping anything, and can say afterwards what it sent.

mod background;
mod file;
mod pace;
mod points;
mod purchases;
mod recorded;
mod sender;
mod stats;
#[cfg(test)]
mod tests;

pub use background::{clusters_in_background, points_in_background, purchases_in_background};
pub use pace::Pace;
pub use points::{ClusterPoints, LinearPoints};
pub use purchases::{PurchaseStream, Totals, Users};
pub use recorded::{Recorded, TimeColumn};
pub use stats::ProducerStats;

use file::LineFile;
use pace::Timing;
use sender::{Content, Sender};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What `tidemill produce purchases` sends, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PurchasesConfig {
    /// Where to listen; port 0 for any.
    pub listen: SocketAddr,
    /// How fast, on each connection.
    pub pace: Pace,
    /// Who buys.
    pub users: Users,
    /// Another seed, other purchases.
    pub seed: u64,
    /// Lines in all; none for no end.
    pub total: Option<u64>,
    /// Whether to speak the acknowledged line protocol.
    pub acknowledge: bool,
}

impl PurchasesConfig {
    /// The stream these settings describe.
    pub fn stream(&self) -> PurchaseStream {
        PurchaseStream::new(&self.users, self.seed)
    }
}

/// What `tidemill produce file` sends, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct FileConfig {
    /// The file; every line is a record. It is unpacked before it is sent if its name ends in `.gz`.
    pub path: PathBuf,
    /// Whether the first line has the names of the columns, and is not sent.
    pub header: bool,
    /// At most so many records.
    pub records: Option<u64>,
    /// How fast, on each connection.
    pub pace: FilePace,
    /// Whether to speak the acknowledged line protocol; else every connection gets the file from its start.
    pub acknowledge: bool,
}

/// How fast a file is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum FilePace {
    /// At a pace of one's own.
    Even(Pace),
    /// As its records happened.
    Recorded(Recorded),
}

/// Sends purchases to whoever connects, until `stop`.
///
/// On plain connections every line goes to one of them: a new one goes on where the producer is. On
/// acknowledged ones there is one stream, and the newest connection has it.
pub async fn serve(listener: TcpListener, config: PurchasesConfig, stats: Arc<ProducerStats>, stop: CancellationToken) {
    let PurchasesConfig { pace, seed, total, acknowledge, .. } = config;
    let lines = Arc::new(config.stream());
    serve_lines(listener, lines, MadeConfig { pace, seed, total, acknowledge }, stats, stop).await;
}

/// Lines that are a function of their index.
pub trait Lines: Send + Sync {
    /// Appends the lines `from..from + count`, each with its newline.
    fn write(&self, from: u64, count: u64, out: &mut Vec<u8>);
}

/// How lines that are made are sent.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeConfig {
    /// How fast, on each connection.
    pub pace: Pace,
    /// Seed of an uneven pace.
    pub seed: u64,
    /// Lines in all; none for no end.
    pub total: Option<u64>,
    /// Whether to speak the acknowledged line protocol.
    pub acknowledge: bool,
}

/// Sends lines that are made to whoever connects, until `stop`; like [`serve`].
pub async fn serve_lines(
    listener: TcpListener,
    lines: Arc<dyn Lines>,
    config: MadeConfig,
    stats: Arc<ProducerStats>,
    stop: CancellationToken,
) {
    let content = Content::Made { lines, total: config.total };
    let timing = Timing::Pace(config.pace, config.seed);
    Sender::new(content, timing, config.acknowledge, stats).serve(listener, stop).await;
}

/// Sends the lines of a file to whoever connects, until `stop`. Connections stay open behind the last line.
///
/// # Errors
/// When the file cannot be read to count its lines, or a line does not say its time where that is asked for.
pub async fn serve_file(
    listener: TcpListener,
    config: FileConfig,
    stats: Arc<ProducerStats>,
    stop: CancellationToken,
) -> io::Result<()> {
    let acknowledge = config.acknowledge;
    let (file, timing) = tokio::task::spawn_blocking(move || LineFile::open(&config)).await??;
    Sender::new(Content::File(Arc::new(file)), timing, acknowledge, stats).serve(listener, stop).await;
    Ok(())
}
