//! One connection to a sender of lines, with the conversation around them if it is acknowledged.

use super::protocol::{FromReceiver, FromSender, MAX_CONTROL_LINE};
use crate::receiver::ConnectError;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// For a connection, an answer, or a line to the sender.
const PATIENCE: Duration = Duration::from_secs(5);

/// For the sender to close its side when we are through.
const FAREWELL: Duration = Duration::from_millis(500);

pub(super) struct Connection {
    /// The stream's lines. Large reads pass the small buffer, which the answer was read with, by.
    pub(super) reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    acknowledge: bool,
}

impl Connection {
    /// Connects; asks an acknowledging sender for the lines from `resume` on.
    pub(super) async fn open(address: &str, resume: Option<u64>) -> Result<Self, ConnectError> {
        let connect = async {
            let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        let stream = connect.await.map_err(|source| {
            let address = address.to_owned();
            ConnectError::Connect { address, source }
        })?;
        let (reader, writer) = stream.into_split();
        let acknowledge = resume.is_some();
        let mut connection = Self { reader: BufReader::new(reader), writer, acknowledge };
        if let Some(offset) = resume {
            connection.say(FromReceiver::Resume(offset)).await?;
            timeout(PATIENCE, connection.answer(offset))
                .await
                .map_err(|_| ConnectError::NoAnswer { waited: PATIENCE })??;
        }
        Ok(connection)
    }

    async fn answer(&mut self, wanted: u64) -> Result<(), ConnectError> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(MAX_CONTROL_LINE as u64)
            .read_until(b'\n', &mut line)
            .await
            .map_err(ConnectError::Broken)?;
        if line.is_empty() {
            return Err(ConnectError::Closed);
        }
        let line = String::from_utf8_lossy(&line);
        match line.parse() {
            Ok(FromSender::From(offset)) if offset == wanted => Ok(()),
            Ok(FromSender::From(answered)) => Err(ConnectError::WrongOffset { wanted, answered }),
            Ok(FromSender::Gap(available)) => Err(ConnectError::Gap { wanted, available }),
            Err(_) => Err(ConnectError::NotProtocol { line: line.trim_end().to_owned() }),
        }
    }

    /// Tells an acknowledging sender that all lines before `offset` are held.
    pub(super) async fn tell_held(&mut self, offset: u64) -> Result<(), ConnectError> {
        if self.acknowledge { self.say(FromReceiver::Held(offset)).await } else { Ok(()) }
    }

    async fn say(&mut self, line: FromReceiver) -> Result<(), ConnectError> {
        let line = format!("{line}\n");
        match timeout(PATIENCE, self.writer.write_all(line.as_bytes())).await {
            Ok(outcome) => outcome.map_err(ConnectError::Broken),
            Err(late) => Err(ConnectError::Broken(late.into())),
        }
    }

    /// Ends an acknowledged connection so that the last words arrive: closing with unread lines would reset it.
    pub(super) async fn farewell(mut self) {
        if !self.acknowledge {
            return;
        }
        let goodbye = async {
            self.writer.shutdown().await?;
            tokio::io::copy(&mut self.reader, &mut tokio::io::sink()).await
        };
        match timeout(FAREWELL, goodbye).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the sender broke the connection at its end"),
            Err(_) => tracing::debug!("the sender kept the connection open at its end"),
        }
    }
}
