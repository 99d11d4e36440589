//! Senders and receivers together, over real connections.

use super::*;
use futures::future::{BoxFuture, FutureExt};
use std::io::Write;
use std::time::Duration;
use tidemill_connect::sources::socket::{Socket, SocketConfig};
use tidemill_connect::testkit::{config, context, in_time};
use tidemill_connect::{
    BlockHolder, HoldError, PositionChange, ReceiverConfig, ReceiverEnd, ReceiverState, ReceiverStatus, SealedBlock,
    Source,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Holds everything at once.
#[derive(Default)]
struct Holds {
    text: watch::Sender<(u64, Vec<u8>)>,
}

impl BlockHolder for Holds {
    fn hold(self: Arc<Self>, block: SealedBlock) -> BoxFuture<'static, Result<(), HoldError>> {
        self.text.send_modify(|(end, text)| {
            assert_eq!(*end, block.first_offset);
            *end += block.records;
            text.extend_from_slice(&block.bytes);
        });
        std::future::ready(Ok(())).boxed()
    }

    fn remember(self: Arc<Self>, _: u64, _: Vec<PositionChange>) -> BoxFuture<'static, Result<(), HoldError>> {
        std::future::ready(Ok(())).boxed()
    }
}

impl Holds {
    async fn reaches(&self, records: u64) {
        in_time(self.text.subscribe().wait_for(|(end, _)| *end >= records)).await.unwrap();
    }

    fn end(&self) -> u64 {
        self.text.borrow().0
    }

    fn text(&self) -> String {
        String::from_utf8(self.text.borrow().1.clone()).unwrap()
    }
}

/// Receives into `holds` from where it is until `stop`.
async fn receive(address: SocketAddr, acknowledge: bool, holds: Arc<Holds>, stop: CancellationToken) -> u64 {
    receive_showing(address, acknowledge, holds, Arc::default(), stop).await.offset
}

async fn receive_showing(
    address: SocketAddr,
    acknowledge: bool,
    holds: Arc<Holds>,
    status: Arc<ReceiverStatus>,
    stop: CancellationToken,
) -> ReceiverEnd {
    let socket = SocketConfig { addresses: vec![address.to_string()], acknowledge, receivers: 1 };
    let source = Source::new(Socket, socket);
    let config = ReceiverConfig {
        block_bytes: Some(64 << 10),
        max_unheld_bytes: 1 << 20,
        block_interval: Duration::from_millis(2),
        ..config(holds.end())
    };
    let running = tidemill_connect::run(config, holds, status, stop, |intake| {
        async move { source.run(context(), intake).await }.boxed()
    });
    running.await.unwrap()
}

fn purchases(acknowledge: bool, total: Option<u64>) -> PurchasesConfig {
    PurchasesConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        pace: Pace::Unlimited,
        users: Users::Chapter,
        seed: 5,
        total,
        acknowledge,
    }
}

#[tokio::test]
async fn acknowledged_purchases_are_held_once_across_receivers() {
    const TOTAL: u64 = 30_000;
    let config = purchases(true, Some(TOTAL));
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stats, stop) = (Arc::<ProducerStats>::default(), CancellationToken::new());
    let producer = tokio::spawn(serve(listener, config.clone(), stats.clone(), stop.clone()));
    let holds = Arc::<Holds>::default();
    for target in [1, 10_000, TOTAL] {
        let stop = CancellationToken::new();
        let running = tokio::spawn(receive(address, true, holds.clone(), stop.clone()));
        holds.reaches(target).await;
        stop.cancel();
        assert_eq!(in_time(running).await.unwrap(), holds.end());
        in_time(stats.held_up_to(holds.end())).await;
    }
    assert_eq!((stats.sent(), stats.held()), (TOTAL, TOTAL));
    let mut expected = Vec::new();
    config.stream().write(0, TOTAL, &mut expected);
    assert!(holds.text().into_bytes() == expected);
    let bought: u64 = config.stream().totals(TOTAL).values().map(|(count, _)| count).sum();
    assert_eq!(bought, TOTAL);

    // Forgotten lines are not made up, nor are lines behind the end.
    for (offset, answer) in [(0, TOTAL), (TOTAL + 1, TOTAL)] {
        let mut stream = in_time(TcpStream::connect(address)).await.unwrap();
        stream.write_all(format!("TIDEMILL 1 RESUME {offset}\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        in_time(tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said)).await.unwrap();
        assert_eq!(said, format!("TIDEMILL 1 GAP {answer}\n"));
    }
    stop.cancel();
    in_time(producer).await.unwrap();
    assert_eq!(stats.connections(), 0);
}

#[tokio::test]
async fn plain_connections_share_the_stream() {
    let config = PurchasesConfig { pace: Pace::PerSecond(50_000.0), ..purchases(false, Some(3000)) };
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stats, stop) = (Arc::<ProducerStats>::default(), CancellationToken::new());
    let producer = tokio::spawn(serve(listener, config.clone(), stats, stop.clone()));
    let receivers: Vec<Arc<Holds>> = (0..2).map(|_| Arc::default()).collect();
    let running: Vec<_> =
        receivers.iter().map(|holds| tokio::spawn(receive(address, false, holds.clone(), stop.clone()))).collect();
    let mut ends: Vec<_> = receivers.iter().map(|holds| holds.text.subscribe()).collect();
    while receivers.iter().map(|holds| holds.end()).sum::<u64>() < 3000 {
        let changed = ends.iter_mut().map(|end| end.changed().boxed());
        in_time(futures::future::select_all(changed)).await.0.unwrap();
    }
    stop.cancel();
    for task in running {
        in_time(task).await.unwrap();
    }
    in_time(producer).await.unwrap();
    let mut got: Vec<String> =
        receivers.iter().flat_map(|holds| holds.text().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let mut expected: Vec<String> = (0..3000).map(|index| config.stream().line(index).trim_end().to_owned()).collect();
    got.sort();
    expected.sort();
    assert!(got == expected);
}

#[tokio::test]
async fn a_file_arrives_whole() {
    let text: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.trim_end().as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stats, stop) = (Arc::<ProducerStats>::default(), CancellationToken::new());
    let path = file.path().to_owned();
    let pace = FilePace::Even(Pace::Unlimited);
    let config = FileConfig { path, header: false, records: None, pace, acknowledge: true };
    let producer = tokio::spawn(serve_file(listener, config, stats.clone(), stop.clone()));
    let holds = Arc::<Holds>::default();
    for target in [20_000, 50_000] {
        let stop = CancellationToken::new();
        let running = tokio::spawn(receive(address, true, holds.clone(), stop.clone()));
        holds.reaches(target).await;
        stop.cancel();
        in_time(running).await.unwrap();
    }
    in_time(stats.held_up_to(50_000)).await;
    assert!(holds.text() == text);
    stop.cancel();
    in_time(producer).await.unwrap().unwrap();
}

/// Neither side waits in silence for the other, and each says what to do.
#[tokio::test]
async fn a_plain_receiver_does_not_wait_for_an_acknowledging_sender() {
    let config = purchases(true, None);
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stats, stop) = (Arc::<ProducerStats>::default(), CancellationToken::new());
    let producer = tokio::spawn(serve(listener, config, stats.clone(), stop.clone()));
    let (holds, status) = (Arc::<Holds>::default(), Arc::<ReceiverStatus>::default());
    let mut state = status.watch();
    let running = tokio::spawn(receive_showing(address, false, holds.clone(), status, stop.clone()));
    let backing_off = |state: &ReceiverState| matches!(state, ReceiverState::BackingOff { .. });
    let ReceiverState::BackingOff { error, .. } = in_time(state.wait_for(backing_off)).await.unwrap().clone() else {
        unreachable!("it was waited for");
    };
    assert!(error.contains("set `acknowledge = true`"), "{error}");
    assert_eq!((stats.sent(), holds.end()), (0, 0));
    stop.cancel();
    in_time(running).await.unwrap();
    in_time(producer).await.unwrap();
}
