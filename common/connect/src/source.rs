//! What a source is: what it reads of a definition, and how it runs.

use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::receiver::{Backoff, ReceiverError};
use crate::sources::receiver::ReceiverFactory;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::definition::{ColumnType, FormatKind, Key, Name, Reader, Table};
use tidemill_rows::arrow::datatypes::SchemaRef;

/// A kind of source: `connector = "NAME"`.
pub trait SourceConnector: Send + Sync + 'static {
    /// What a definition says of one such source.
    type Config: SourceConfig;

    /// The word behind `connector`.
    const NAME: &'static str;
    /// One sentence, for the documentation.
    const DOC: &'static str;
    /// Its keys, beside those of every source and of its [payload](Self::PAYLOAD).
    const KEYS: &'static [Key];
    /// Keys of which exactly one has to be there, if any.
    const ONE_OF: &'static [&'static str] = &[];
    /// What it gives, and so which keys say how that is read.
    const PAYLOAD: Payload;
    /// Whether it can be slowed down: `max_rate`, back-pressure.
    const PACED: bool = true;

    /// Reads its keys. None after noting in the reader what is wrong, and where.
    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, records: &Records) -> Option<Self::Config>;

    /// Runs one receiver: puts records into the intake until that says stop, or there are no more. It goes on behind record
    /// [`Intake::offset`], or where [`Intake::positions`] say; what was put in and not held counts as never read when the future
    /// is dropped.
    ///
    /// # Errors
    /// Those of the intake. Trouble with the source is no error: it shows in the status, and the receiver tries again.
    fn run(
        config: &Self::Config,
        context: Context,
        intake: &mut Intake,
    ) -> impl Future<Output = Result<Ended, ReceiverError>> + Send;
}

/// What a definition says of one source.
pub trait SourceConfig: fmt::Debug + PartialEq + Send + Sync + 'static {
    /// How often a record arrives, whatever fails.
    fn delivery(&self) -> Delivery;

    /// Receivers that run at the same time, each with a stream of its own.
    fn receivers(&self) -> u32 {
        1
    }

    /// Whether every block is a batch of its own.
    fn is_block_per_batch(&self) -> bool {
        false
    }

    /// The registered receiver that it runs.
    fn function(&self) -> Option<&Name> {
        None
    }
}

/// What a source gives, and so which keys of a definition say how that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Bytes in which the intake finds where records end: text, csv or JSON; `multi_line` is false by default.
    Lines,
    /// Bytes of whole files: the same, or Parquet; `multi_line` is true by default.
    Files,
    /// Whole records: text, csv or JSON.
    Records,
    /// Csv lines of these columns.
    Rows(&'static [(&'static str, ColumnType)]),
}

/// What a definition says of the records of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records {
    /// Their format; none if it is wrong.
    pub format: Option<FormatKind>,
    /// Whether a quoted field may hold line breaks.
    pub multi_line: bool,
}

/// How a receiver ended that was not stopped by a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The intake said stop.
    Stopped,
    /// The source has no more records.
    Finished,
}

/// Where and as which of its source's receivers one runs.
#[derive(Debug, Clone)]
pub struct Context {
    /// Which of them, from 0.
    pub receiver: u32,
    /// What paths are relative to.
    pub base_dir: PathBuf,
    /// Length of a batch.
    pub batch_interval: Duration,
    /// The declared columns.
    pub schema: SchemaRef,
    /// Waits between tries.
    pub reconnect: Backoff,
    /// What makes receivers of [`SourceConfig::function`].
    pub factory: Option<ReceiverFactory>,
}

/// A source as a definition configures it.
#[derive(Clone)]
pub struct Source {
    connector: Arc<dyn AnyConnector>,
    config: Config,
}

/// What a definition says of one source of any kind.
#[derive(Clone)]
pub(crate) struct Config(Arc<dyn AnyConfig>);

impl Source {
    /// Of this kind, as configured.
    pub fn new<C: SourceConnector>(connector: C, config: C::Config) -> Self {
        Self { connector: Arc::new(connector), config: Config(Arc::new(config)) }
    }

    pub(crate) fn read<'t>(
        connector: &Arc<dyn AnyConnector>,
        r: &mut Reader<'t>,
        table: &Table<'t>,
        records: &Records,
    ) -> Option<Self> {
        let config = connector.read(r, table, records)?;
        Some(Self { connector: connector.clone(), config })
    }

    /// The word behind `connector`.
    pub fn name(&self) -> &'static str {
        self.connector.description().name
    }

    /// Receivers that run at the same time.
    pub fn receivers(&self) -> u32 {
        self.config.0.receivers()
    }

    /// How often a record arrives, whatever fails.
    pub fn delivery(&self) -> Delivery {
        self.config.0.delivery()
    }

    /// Whether every block is a batch of its own.
    pub fn is_block_per_batch(&self) -> bool {
        self.config.0.is_block_per_batch()
    }

    /// The registered receiver that it runs.
    pub fn function(&self) -> Option<&Name> {
        self.config.0.function()
    }

    /// Runs one of its receivers.
    ///
    /// # Errors
    /// See [`SourceConnector::run`].
    pub async fn run(&self, context: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        self.connector.run(&self.config, context, intake).await
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name(), self.config.0)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.config.0.is_equal(&*other.config.0)
    }
}

/// A connector as the registry, the schema and the documentation see it.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The word behind `connector`.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Keys of which exactly one has to be there, if any.
    pub one_of: &'static [&'static str],
    /// What it gives.
    pub payload: Payload,
    /// Whether it can be slowed down.
    pub paced: bool,
}

/// A connector of any type.
pub(crate) trait AnyConnector: Send + Sync {
    fn description(&self) -> Description;
    fn read<'t>(&self, r: &mut Reader<'t>, table: &Table<'t>, records: &Records) -> Option<Config>;
    fn run<'a>(
        &'a self,
        config: &'a Config,
        context: Context,
        intake: &'a mut Intake,
    ) -> BoxFuture<'a, Result<Ended, ReceiverError>>;
}

impl<C: SourceConnector> AnyConnector for C {
    fn description(&self) -> Description {
        Description {
            name: C::NAME,
            doc: C::DOC,
            keys: C::KEYS,
            one_of: C::ONE_OF,
            payload: C::PAYLOAD,
            paced: C::PACED,
        }
    }

    fn read<'t>(&self, r: &mut Reader<'t>, table: &Table<'t>, records: &Records) -> Option<Config> {
        C::read(r, table, records).map(|config| Config(Arc::new(config)))
    }

    fn run<'a>(
        &'a self,
        config: &'a Config,
        context: Context,
        intake: &'a mut Intake,
    ) -> BoxFuture<'a, Result<Ended, ReceiverError>> {
        match config.0.as_any().downcast_ref::<C::Config>() {
            Some(config) => C::run(config, context, intake).boxed(),
            // A source is only ever made with the config that its connector reads.
            None => async { Err(ReceiverError::Internal("the configuration of another connector")) }.boxed(),
        }
    }
}

/// A configuration of any type.
trait AnyConfig: fmt::Debug + Send + Sync {
    fn delivery(&self) -> Delivery;
    fn receivers(&self) -> u32;
    fn is_block_per_batch(&self) -> bool;
    fn function(&self) -> Option<&Name>;
    fn as_any(&self) -> &dyn Any;
    fn is_equal(&self, other: &dyn AnyConfig) -> bool;
}

impl<T: SourceConfig> AnyConfig for T {
    fn delivery(&self) -> Delivery {
        SourceConfig::delivery(self)
    }

    fn receivers(&self) -> u32 {
        SourceConfig::receivers(self)
    }

    fn is_block_per_batch(&self) -> bool {
        SourceConfig::is_block_per_batch(self)
    }

    fn function(&self) -> Option<&Name> {
        SourceConfig::function(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is_equal(&self, other: &dyn AnyConfig) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }
}
