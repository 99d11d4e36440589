//! The source that a user wrote: runs it, takes in what it stores, starts it again when it fails.

mod user;

pub use user::{
    AnyReceiver, FunctionError, Receiver, ReceiverFactory, ReceiverOptions, Restart, Store, StoreError, StoreRequest,
};

use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::receiver::{Backoff, ConnectError, ReceiverError};
use crate::source::{Context, Ended, Payload, Records, SourceConfig, SourceConnector};
use crate::status::ReceiverState;
use std::collections::VecDeque;
use tidemill_common::definition::{Key, Name, RECEIVERS, Reader, Shape, Table, Value};
use tokio::sync::{mpsc, oneshot};

/// Records of a registered receiver.
#[derive(Debug)]
pub struct Registered;

/// What a definition says of such a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredConfig {
    /// The name of the receiver.
    pub function: Name,
    /// What it is told.
    pub options: Vec<(String, String)>,
    /// How many of it. Default 1.
    pub receivers: u32,
}

impl SourceConfig for RegisteredConfig {
    fn delivery(&self) -> Delivery {
        Delivery::Acknowledged
    }

    fn receivers(&self) -> u32 {
        self.receivers
    }

    fn function(&self) -> Option<&Name> {
        Some(&self.function)
    }
}

impl SourceConnector for Registered {
    type Config = RegisteredConfig;

    const NAME: &'static str = "receiver";
    const DOC: &'static str = "Records of a receiver that a program has registered.";
    const KEYS: &'static [Key] = &[
        Key::new("function", Shape::Text, "The name under which the receiver is registered.").required(),
        Key::new("options", Shape::TextByName, "What it is told. Default nothing."),
        Key::new("receivers", Shape::Count(RECEIVERS), "How many of it. Default 1."),
    ];
    const PAYLOAD: Payload = Payload::Records;

    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, _: &Records) -> Option<RegisteredConfig> {
        let function = table.get("function").and_then(|v| r.text(v));
        let options = match table.get("options") {
            Some(value) => read_options(r, value),
            None => Some(Vec::new()),
        };
        let receivers = r.receivers(table);
        Some(RegisteredConfig { function: function?, options: options?, receivers: receivers? })
    }

    async fn run(config: &RegisteredConfig, context: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        let factory = context.factory.ok_or(ReceiverError::Internal("the receiver is not known here"))?;
        let options = ReceiverOptions {
            options: config.options.iter().cloned().collect(),
            receiver: context.receiver,
            of: config.receivers,
        };
        receive(intake, &factory, &options, context.reconnect).await
    }
}

fn read_options<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<(String, String)>> {
    let entries = r.entries(value)?;
    let options: Vec<_> = entries.into_iter().map(|(name, value)| Some((name.text, r.text(value)?.text))).collect();
    options.into_iter().collect()
}

/// Runs a receiver, made anew for every start, until stopped or it has no more records.
async fn receive(
    intake: &mut Intake,
    factory: &ReceiverFactory,
    options: &ReceiverOptions,
    backoff: Backoff,
) -> Result<Ended, ReceiverError> {
    let mut wait = backoff.first;
    loop {
        // It may go on behind what is held, so all that it stored has to be.
        let held = intake.drain().await?;
        let restart = match factory.make(options) {
            Err(error) => Restart::from(error),
            Ok(mut receiver) => {
                let (store, requests) = Store::new(held);
                intake.status.set(ReceiverState::Connected);
                let stored = Stored { requests, waiting: VecDeque::new() };
                let ended = stored.take(intake, receiver.start(store)).await;
                receiver.stop().await;
                match ended? {
                    None => return Ok(Ended::Stopped),
                    Some(Ok(())) => return Ok(Ended::Finished),
                    Some(Err(restart)) => restart,
                }
            }
        };
        if intake.offset() > held {
            wait = backoff.first;
        }
        let delay = restart.after.unwrap_or(wait);
        wait = (wait * 2).min(backoff.most);
        tracing::warn!(reason = restart.reason, ?delay, "a receiver starts again");
        intake.status.back_off(&ConnectError::Failed(restart.reason), delay);
        if intake.wait_for(tokio::time::sleep(delay)).await?.is_none() {
            return Ok(Ended::Stopped);
        }
    }
}

/// What a receiver stores.
struct Stored {
    requests: mpsc::Receiver<StoreRequest>,
    /// Who waits until all records before an offset are held, in order.
    waiting: VecDeque<(u64, oneshot::Sender<u64>)>,
}

impl Stored {
    /// Takes in what comes until the receiver ends or is stopped (`None`).
    async fn take(
        mut self,
        intake: &mut Intake,
        mut running: impl Future<Output = Result<(), Restart>> + Unpin,
    ) -> Result<Option<Result<(), Restart>>, ReceiverError> {
        let ended = loop {
            let (open, sealable, allowed) = (intake.window.is_open(), intake.is_sealable(), intake.allowed() > 0);
            tokio::select! {
                biased;
                () = intake.stop.cancelled() => break None,
                held = intake.window.more_held() => self.tell(held?),
                _ = intake.tick.tick(), if sealable => intake.seal(),
                () = intake.limiter.wait(), if open && !allowed => {}
                Some(request) = self.requests.recv(), if open && allowed => self.request(intake, request).await?,
                ended = &mut running => break Some(ended),
            }
        };
        // What it stored before it ended counts.
        while let Ok(request) = self.requests.try_recv() {
            self.request(intake, request).await?;
        }
        Ok(ended)
    }

    async fn request(&mut self, intake: &mut Intake, request: StoreRequest) -> Result<(), ReceiverError> {
        match request {
            StoreRequest::Records(records, done) => {
                for record in records {
                    intake.take_in(record.as_bytes()).await?;
                    intake.take_in(b"\n").await?;
                }
                self.waiting.extend(done.map(|done| (intake.offset(), done)));
            }
            StoreRequest::Error(error) => {
                tracing::warn!(error, "a receiver reports an error");
                intake.status.report(error);
            }
        }
        Ok(())
    }

    fn tell(&mut self, held: u64) {
        while self.waiting.front().is_some_and(|(offset, _)| *offset <= held) {
            if let Some((offset, done)) = self.waiting.pop_front() {
                // Whoever waited may have been dropped.
                let _ = done.send(offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::{ReceiverConfig, ReceiverEnd};
    use crate::source::Source;
    use crate::testkit::{Log, Running, config, context};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The numbers up to a last one, failing once after the fifth.
    struct Numbers {
        last: u64,
        starts: Arc<AtomicU64>,
        stops: Arc<AtomicU64>,
    }

    impl Receiver for Numbers {
        async fn on_start(&mut self, store: Store) -> Result<(), Restart> {
            let first = self.starts.fetch_add(1, Ordering::SeqCst) == 0;
            for number in store.offset()..self.last {
                if number % 2 == 0 {
                    store.store(number.to_string()).await?;
                } else {
                    assert_eq!(store.store_reliable(vec![number.to_string()]).await?, number + 1);
                }
                if first && number == 5 {
                    store.report_error("six is too many").await;
                    return Err(Restart { reason: "six".into(), after: None });
                }
            }
            assert_eq!(store.store("a\nb").await, Err(StoreError::LineBreak));
            match self.last {
                7 => Ok(()),
                _ => std::future::pending().await,
            }
        }

        async fn on_stop(&mut self) {
            self.stops.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A receiver of the numbers, its starts and stops.
    fn numbers(last: u64, config: ReceiverConfig, log: &Arc<Log>) -> (Running, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (starts, stops) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (counted, ended) = (starts.clone(), stops.clone());
        let factory = ReceiverFactory::new(move |options: &ReceiverOptions| {
            let last = options.get("last")?.parse().map_err(|_| "`last` is a number")?;
            Ok(Numbers { last, starts: counted.clone(), stops: ended.clone() })
        });
        let source = RegisteredConfig {
            function: Name { text: "numbers".into(), span: 0..0 },
            options: vec![("last".into(), last.to_string())],
            receivers: 1,
        };
        let context = Context { factory: Some(factory), ..context() };
        (Running::start(Source::new(Registered, source), context, config, log), starts, stops)
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_behind_what_is_held_and_ends() {
        let log = Log::new();
        let (running, starts, stops) = numbers(7, config(0), &log);
        let status = running.status.clone();
        assert_eq!(running.end().await.unwrap(), Ok(ReceiverEnd { offset: 7, finished: true }));
        assert_eq!(log.text(), "0\n1\n2\n3\n4\n5\n6\n");
        assert_eq!((starts.load(Ordering::SeqCst), stops.load(Ordering::SeqCst)), (2, 2));
        let snapshot = status.snapshot();
        assert_eq!((snapshot.reported.as_str(), snapshot.reconnects), ("six is too many", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn stores_no_faster_than_its_rate() {
        let config = config(0);
        config.rate.set(2.0);
        let (log, start) = (Log::new(), tokio::time::Instant::now());
        numbers(7, config, &log).0.end().await.unwrap().unwrap();
        assert_eq!(log.text(), "0\n1\n2\n3\n4\n5\n6\n");
        // The last one comes when it has a token; what ends the receiver takes none.
        assert!((3000..4500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_keeps_what_was_stored() {
        let log = Log::new();
        let (running, _, stops) = numbers(9, config(0), &log);
        log.reaches(9).await;
        running.stop.cancel();
        assert_eq!(running.end().await.unwrap().unwrap(), ReceiverEnd { offset: 9, finished: false });
        assert_eq!(stops.load(Ordering::SeqCst), 2);
    }
}
