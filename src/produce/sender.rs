//! Listening, and sending lines on each connection.

use super::Lines;
use super::file::{FileCursor, LineFile};
use super::pace::Timing;
use super::stats::ProducerStats;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidemill_connect::sources::socket::protocol::{FromReceiver, FromSender, MAX_CONTROL_LINE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; more have to wait.
const MAX_CONNECTIONS: usize = 64;
/// Lines written together.
const CHUNK: u64 = 8192;
/// For a receiver's first words; Tidemill's says them at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before listening again after a failure.
const PAUSE: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Clone)]
pub(super) enum Content {
    Made { lines: Arc<dyn Lines>, total: Option<u64> },
    File(Arc<LineFile>),
}

enum Cursor {
    Made(Arc<dyn Lines>),
    File(FileCursor),
}

impl Content {
    fn total(&self) -> u64 {
        match self {
            Self::Made { total, .. } => total.unwrap_or(u64::MAX),
            Self::File(file) => file.lines(),
        }
    }

    async fn at(&self, line: u64) -> io::Result<Cursor> {
        Ok(match self {
            Self::Made { lines, .. } => Cursor::Made(lines.clone()),
            Self::File(file) => Cursor::File(file.at(line).await?),
        })
    }
}

impl Cursor {
    /// Appends at most `most` lines from `from` on (for a file: from where it is); returns how many.
    async fn write(&mut self, from: u64, most: u64, out: &mut Vec<u8>) -> io::Result<u64> {
        match self {
            Self::Made(lines) => {
                lines.write(from, most, out);
                Ok(most)
            }
            Self::File(cursor) => cursor.read(most, out).await,
        }
    }
}

/// Where a connection's next line comes from.
#[derive(Debug, Clone, Copy)]
enum Position {
    /// Whatever the stream's next line is: plain connections share it.
    Shared,
    /// This line.
    At(u64),
}

/// A stream and everybody who gets it.
pub(super) struct Sender {
    content: Content,
    timing: Timing,
    acknowledge: bool,
    stats: Arc<ProducerStats>,
    /// Ends the acknowledged connection that has the stream.
    newest: Mutex<CancellationToken>,
}

impl Sender {
    pub(super) fn new(content: Content, timing: Timing, acknowledge: bool, stats: Arc<ProducerStats>) -> Arc<Self> {
        Arc::new(Self { content, timing, acknowledge, stats, newest: Mutex::default() })
    }

    /// Accepts connections until `stop`, then ends them.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        let accept = async {
            // The semaphore is never closed.
            while let Ok(permit) = room.clone().acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let (sender, stop) = (self.clone(), stop.child_token());
                        connections.spawn(async move {
                            sender.stats.connected();
                            match sender.converse(stream, &stop).await {
                                Ok(()) => tracing::info!(%peer, "connection ended"),
                                Err(error) => tracing::warn!(%peer, %error, "connection broke"),
                            }
                            sender.stats.disconnected();
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accept).await;
        connections.close();
        connections.wait().await;
    }

    async fn converse(&self, stream: TcpStream, stop: &CancellationToken) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut ear = Ear { reader, heard: Vec::new(), listens: self.acknowledge };
        if !self.acknowledge {
            let position = match self.content {
                Content::Made { .. } => Position::Shared,
                Content::File(_) => Position::At(0),
            };
            return self.send(position, &mut ear, &mut writer, stop).await;
        }
        let first = stop.run_until_cancelled(timeout(PATIENCE, ear.hear())).await;
        let offset = match first {
            None => return Ok(()),
            Some(Err(_)) => return Err(silent()),
            Some(Ok(said)) => match said? {
                Some(FromReceiver::Resume(offset)) => offset,
                Some(other) => return Err(unexpected(other)),
                None => return Ok(()),
            },
        };
        let available = offset.max(self.stats.held()).min(self.content.total());
        if offset != available {
            let answer = format!("{}\n", FromSender::Gap(available));
            return writer.write_all(answer.as_bytes()).await;
        }
        let superseded = self.take_over(stop);
        // After a restart of this process the receiver knows better what was sent.
        self.stats.sent_up_to(offset);
        let answer = format!("{}\n", FromSender::From(offset));
        writer.write_all(answer.as_bytes()).await?;
        self.send(Position::At(offset), &mut ear, &mut writer, &superseded).await
    }

    /// The stream has one acknowledged connection: the newest.
    fn take_over(&self, stop: &CancellationToken) -> CancellationToken {
        let mine = stop.child_token();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *newest, mine.clone()).cancel();
        mine
    }

    /// Sends until stopped or the receiver closes its side.
    async fn send(
        &self,
        mut position: Position,
        ear: &mut Ear,
        writer: &mut OwnedWriteHalf,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let start = if let Position::At(line) = position { line } else { 0 };
        let mut cursor = self.content.at(start).await?;
        let mut beat = self.timing.start(start + self.sent_before(position));
        let mut chunk = Vec::new();
        let mut written = 0;
        loop {
            if written == chunk.len() {
                chunk.clear();
                written = 0;
                let again = self.sent_before(position);
                let most = again.saturating_add(beat.due()).min(CHUNK);
                let sent = self.fill(&mut position, &mut cursor, most, &mut chunk).await?;
                beat.spend(sent.saturating_sub(again));
            }
            let idle = chunk.is_empty();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                said = ear.hear() => match said? {
                    None => return Ok(()),
                    Some(FromReceiver::Held(offset)) if offset <= self.stats.sent() => self.stats.set_held(offset),
                    Some(other) => return Err(unexpected(other)),
                },
                outcome = writer.write(&chunk[written..]), if !idle => written += outcome?,
                () = sleep(beat.wait().max(Duration::from_millis(1))), if idle => {}
            }
        }
    }

    /// How many lines from here on were sent before; the pace does not hold them back.
    fn sent_before(&self, position: Position) -> u64 {
        match position {
            Position::At(line) if self.acknowledge => self.stats.sent().saturating_sub(line),
            _ => 0,
        }
    }

    async fn fill(
        &self,
        position: &mut Position,
        cursor: &mut Cursor,
        most: u64,
        chunk: &mut Vec<u8>,
    ) -> io::Result<u64> {
        let total = self.content.total();
        match position {
            Position::Shared => {
                let (from, count) = self.stats.claim(most, total);
                cursor.write(from, count, chunk).await
            }
            Position::At(line) => {
                let count = most.min(total.saturating_sub(*line));
                if count == 0 {
                    return Ok(0);
                }
                let lines = cursor.write(*line, count, chunk).await?;
                *line += lines;
                self.stats.sent_up_to(*line);
                Ok(lines)
            }
        }
    }
}

fn silent() -> io::Error {
    let what = format!(
        "a receiver has connected and said nothing for {PATIENCE:?}: it does not speak the acknowledged line protocol; \
         start the producer with --plain, or set `acknowledge = true` in the source"
    );
    io::Error::new(io::ErrorKind::TimedOut, what)
}

fn unexpected(said: FromReceiver) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("did not expect `{said}` from the receiver here"))
}

/// Reads what the receiver says.
struct Ear {
    reader: OwnedReadHalf,
    heard: Vec<u8>,
    /// A plain receiver has nothing to say; only the end of it counts.
    listens: bool,
}

impl Ear {
    /// The next line; none when the receiver closed its side. Cancel safe: what was heard is kept.
    async fn hear(&mut self) -> io::Result<Option<FromReceiver>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.heard) {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let said = line.parse().map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: {error}", line.trim_end()))
                })?;
                return Ok(Some(said));
            }
            if self.heard.len() > MAX_CONTROL_LINE {
                let what = "the receiver's line is too long for the acknowledged line protocol";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if self.reader.read_buf(&mut self.heard).await? == 0 {
                return Ok(None);
            }
            if !self.listens {
                self.heard.clear();
            }
        }
    }
}
