//! The source that a user wrote: runs it, takes in what it stores, starts it again when it fails.

use super::generate::take_in;
use super::intake::Intake;
use super::{Backoff, ConnectError, ReceiverError, ReceiverState};
use std::collections::VecDeque;
use tidemill_plan::registry::{ReceiverFactory, ReceiverOptions, Restart, Store, StoreRequest};
use tokio::sync::{mpsc, oneshot};

/// Runs a receiver, made anew for every start, until stopped (false) or it has no more records (true).
pub(super) async fn run(
    intake: &mut Intake,
    factory: &ReceiverFactory,
    options: &ReceiverOptions,
    backoff: Backoff,
) -> Result<bool, ReceiverError> {
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
                    None => return Ok(false),
                    Some(Ok(())) => return Ok(true),
                    Some(Err(restart)) => restart,
                }
            }
        };
        if intake.position() > held {
            wait = backoff.first;
        }
        let delay = restart.after.unwrap_or(wait);
        wait = (wait * 2).min(backoff.most);
        tracing::warn!(reason = restart.reason, ?delay, "a receiver starts again");
        intake.status.back_off(&ConnectError::Failed(restart.reason), delay);
        if intake.meanwhile(tokio::time::sleep(delay)).await?.is_none() {
            return Ok(false);
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
                    take_in(intake, record.as_bytes()).await?;
                    take_in(intake, b"\n").await?;
                }
                self.waiting.extend(done.map(|done| (intake.position(), done)));
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
    use crate::receiver::tests::{Log, config};
    use crate::receiver::{ReceiverConfig, ReceiverEnd, ReceiverKind, ReceiverStatus, run};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tidemill_plan::registry::{Functions, Receiver, ReceiverOptions, Restart, Store, StoreError};
    use tokio_util::sync::CancellationToken;

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

    /// Configuration, starts, stops.
    fn numbers(last: u64) -> (ReceiverConfig, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (starts, stops) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (counted, ended) = (starts.clone(), stops.clone());
        let mut functions = Functions::new();
        let make = move |options: &ReceiverOptions| {
            let last = options.get("last")?.parse().map_err(|_| "`last` is a number")?;
            Ok(Numbers { last, starts: counted.clone(), stops: ended.clone() })
        };
        functions.receiver("numbers", make).unwrap();
        let factory = functions.receiver_factory("numbers").unwrap().clone();
        let options = BTreeMap::from([("last".to_string(), last.to_string())]);
        let kind = ReceiverKind::User { factory, options: ReceiverOptions { options, receiver: 0, of: 1 } };
        (config(kind, 0), starts, stops)
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_behind_what_is_held_and_ends() {
        let (config, starts, stops) = numbers(7);
        let (log, status) = (Log::new(), Arc::<ReceiverStatus>::default());
        let end = run(config, log.sink(), status.clone(), CancellationToken::new()).await.unwrap();
        assert_eq!(end, ReceiverEnd { offset: 7, finished: true });
        assert_eq!(log.text(), "0\n1\n2\n3\n4\n5\n6\n");
        assert_eq!((starts.load(Ordering::SeqCst), stops.load(Ordering::SeqCst)), (2, 2));
        let snapshot = status.snapshot();
        assert_eq!((snapshot.reported.as_str(), snapshot.reconnects), ("six is too many", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn stores_no_faster_than_its_rate() {
        let (config, ..) = numbers(7);
        config.rate.set(2.0);
        let (log, start) = (Log::new(), tokio::time::Instant::now());
        run(config, log.sink(), Arc::default(), CancellationToken::new()).await.unwrap();
        assert_eq!(log.text(), "0\n1\n2\n3\n4\n5\n6\n");
        // The last one comes when it has a token; what ends the receiver takes none.
        assert!((3000..4500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_keeps_what_was_stored() {
        let (config, _, stops) = numbers(9);
        let (log, stop) = (Log::new(), CancellationToken::new());
        let task = tokio::spawn(run(config, log.sink(), Arc::default(), stop.clone()));
        log.reaches(9).await;
        stop.cancel();
        assert_eq!(task.await.unwrap().unwrap(), ReceiverEnd { offset: 9, finished: false });
        assert_eq!(stops.load(Ordering::SeqCst), 2);
    }
}
