//! Receivers over real connections: cuts, fences, restarts, back-pressure.

use crate::sources::generate::{Generate, GenerateConfig};
use crate::sources::socket::protocol::{FromReceiver, FromSender};
use crate::sources::socket::{Socket, SocketConfig};
use crate::testkit::{Log, Running, config, context, in_time};
use crate::{Context, ReceiverEnd, ReceiverError, ReceiverState, Source};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use tidemill_rows::records::{MAX_RECORD, push_bad};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

mod positions;

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    in_time(listener.accept()).await.unwrap().0
}

/// A receiver of a socket source that knows the records before `start`.
fn receive(address: &str, acknowledge: bool, start: u64, log: &Arc<Log>) -> Running {
    let socket = SocketConfig { addresses: vec![address.to_owned()], acknowledge, receivers: 1 };
    Running::start(Source::new(Socket, socket), context(), config(start), log)
}

async fn stop(receiver: Running) -> ReceiverEnd {
    receiver.stop.cancel();
    receiver.end().await.unwrap().unwrap()
}

fn line(index: u64) -> String {
    format!("line {index}{}\n", "x".repeat(index as usize % 23))
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(line).collect()
}

/// Accepts one acknowledged connection; returns the offset asked for.
async fn answer(listener: &TcpListener) -> (BufReader<TcpStream>, u64) {
    let mut stream = BufReader::new(accept(listener).await);
    let FromReceiver::Resume(offset) = heard(&mut stream).await.unwrap() else { panic!() };
    let answer = format!("{}\n", FromSender::From(offset));
    stream.write_all(answer.as_bytes()).await.unwrap();
    (stream, offset)
}

async fn heard(stream: &mut BufReader<TcpStream>) -> Option<FromReceiver> {
    let mut said = String::new();
    in_time(stream.read_line(&mut said)).await.ok()?;
    if said.is_empty() { None } else { Some(said.parse().unwrap()) }
}

/// Sends `line(0..total)` by the protocol, in small pieces, cutting every connection after a while.
async fn cutting_sender(listener: TcpListener, total: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut forgotten = 0;
    loop {
        let (stream, offset) = answer(&listener).await;
        assert!(offset >= forgotten, "asked for line {offset}, forgotten up to {forgotten}");
        let text = lines(offset..total);
        let length = text.len().min(random.random_range(0..6000));
        let (reader, mut writer) = tokio::io::split(stream);
        let mut said = BufReader::new(reader).lines();
        let mut rest = &text.as_bytes()[..length];
        while !rest.is_empty() {
            let piece = &rest[..random.random_range(1..200).min(rest.len())];
            tokio::select! {
                outcome = writer.write(piece) => match outcome {
                    Ok(written) => rest = &rest[written..],
                    Err(_) => break,
                },
                line = said.next_line() => match line {
                    Ok(Some(line)) => forgotten = forgotten.max(held_in(&line)),
                    _ => break,
                },
            }
        }
        let mut ends = offset + (text[..length].matches('\n').count() as u64) < total;
        while !ends {
            match said.next_line().await {
                Ok(Some(line)) => forgotten = forgotten.max(held_in(&line)),
                _ => ends = true,
            }
        }
    }
}

fn held_in(line: &str) -> u64 {
    match line.parse().unwrap() {
        FromReceiver::Held(offset) => offset,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn acknowledged_lines_are_held_once_through_cuts_fences_and_kills() {
    const TOTAL: u64 = 3000;
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let (listener, address) = listen().await;
        let sender = tokio::spawn(cutting_sender(listener, TOTAL, seed));
        let log = Log::new();
        while log.end() < TOTAL {
            let target = (log.end() + random.random_range(1..800)).min(TOTAL);
            let receiver = receive(&address, true, log.end(), &log);
            log.reaches(target).await;
            match random.random_range(0..3) {
                0 => assert_eq!(stop(receiver).await, ReceiverEnd { offset: log.end(), finished: false }),
                1 => receiver.task.abort(),
                _ => {
                    drop(log.holder());
                    if log.end() < TOTAL {
                        assert_eq!(receiver.end().await.unwrap(), Err(ReceiverError::Fenced));
                    } else {
                        receiver.task.abort();
                    }
                }
            }
        }
        assert!(log.text() == lines(0..TOTAL), "seed {seed}");
        sender.abort();
    }
}

#[tokio::test]
async fn plain_lines_over_packet_borders_and_connections() {
    let (listener, address) = listen().await;
    let log = Log::at(10);
    let receiver = receive(&address, false, 10, &log);
    let mut stream = accept(&listener).await;
    for piece in ["on", "e\r", "\ntw", "o\nthr"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    log.reaches(12).await;
    stream.write_all(b"ee").await.unwrap();
    // The sender closes: what it began is a record.
    drop(stream);
    log.reaches(13).await;
    let mut stream = accept(&listener).await;
    stream.write_all(b"four\nfi").await.unwrap();
    log.reaches(14).await;
    let status = receiver.status.clone();
    assert_eq!(stop(receiver).await.offset, 14);
    assert_eq!(log.text(), "one\ntwo\nthree\nfour\n");
    let status = status.snapshot();
    assert_eq!(status.state, ReceiverState::Ended);
    assert_eq!((status.records, status.held_offset, status.unheld_bytes), (4, 14, 0));
    assert_eq!((status.reconnects, status.discarded_partial), (1, 1));
}

#[tokio::test]
async fn a_record_that_is_too_long_is_a_bad_one_in_its_place() {
    for acknowledge in [false, true] {
        let (listener, address) = listen().await;
        let log = Log::new();
        let receiver = receive(&address, acknowledge, 0, &log);
        let mut stream = if acknowledge { answer(&listener).await.0 } else { BufReader::new(accept(&listener).await) };
        stream.write_all(b"before\n").await.unwrap();
        stream.write_all(&vec![b'x'; MAX_RECORD + 1]).await.unwrap();
        stream.write_all(b"\nbehind\n").await.unwrap();
        log.reaches(3).await;
        let mut expected = b"before\n".to_vec();
        push_bad("longer than 8 MiB", &vec![b'x'; MAX_RECORD], &mut expected);
        expected.extend(b"behind\n");
        assert_eq!(log.bytes(), expected);
        receiver.task.abort();
    }
}

#[tokio::test]
async fn stopping_holds_what_was_read_and_says_so() {
    let (listener, address) = listen().await;
    let log = Log::new();
    log.pause();
    let receiver = receive(&address, true, 0, &log);
    let (mut stream, _) = answer(&listener).await;
    stream.write_all(b"one\ntwo\nthr").await.unwrap();
    while receiver.status.snapshot().records < 2 {
        tokio::task::yield_now().await;
    }
    receiver.stop.cancel();
    let draining = |state: &ReceiverState| *state == ReceiverState::Draining;
    in_time(receiver.status.watch().wait_for(draining)).await.unwrap();
    assert!(!receiver.task.is_finished());
    log.resume();
    let mut last = None;
    while let Some(said) = heard(&mut stream).await {
        last = Some(said);
    }
    assert_eq!(last, Some(FromReceiver::Held(2)));
    drop(stream);
    assert_eq!(receiver.end().await.unwrap(), Ok(ReceiverEnd { offset: 2, finished: false }));
}

#[tokio::test]
async fn reading_stops_while_too_much_is_not_held() {
    let (listener, address) = listen().await;
    let log = Log::new();
    log.pause();
    let receiver = receive(&address, false, 0, &log);
    let mut stream = accept(&listener).await;
    let text = lines(0..500_000);
    let expected = text.clone();
    let sender = tokio::spawn(async move { stream.write_all(text.as_bytes()).await.map(|()| stream) });
    while receiver.status.snapshot().unheld_bytes < 2000 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!(receiver.status.snapshot().unheld_bytes < 2000 + 300);
    }
    assert!(!sender.is_finished());
    log.resume();
    log.reaches(500_000).await;
    assert!(log.text() == expected);
    receiver.task.abort();
}

#[tokio::test]
async fn a_plain_sender_is_told_apart() {
    let (listener, address) = listen().await;
    let log = Log::new();
    let receiver = receive(&address, true, 0, &log);
    accept(&listener).await.write_all(b"James,iPad Cover,7.49\n").await.unwrap();
    let error = receiver.trouble().await;
    assert!(error.contains("does not speak") && error.contains("James,iPad Cover"), "{error}");
    // It goes on trying, and a sender that does is served.
    let mut stream = answer(&listener).await.0;
    stream.write_all(b"one\n").await.unwrap();
    log.reaches(1).await;
    receiver.task.abort();
}

#[tokio::test]
async fn a_gap_is_reported_and_nothing_is_skipped() {
    let (listener, address) = listen().await;
    let log = Log::new();
    let receiver = receive(&address, true, 5, &log);
    let mut stream = BufReader::new(accept(&listener).await);
    assert_eq!(heard(&mut stream).await, Some(FromReceiver::Resume(5)));
    stream.write_all(format!("{}\nlate\n", FromSender::Gap(9)).as_bytes()).await.unwrap();
    let error = receiver.trouble().await;
    assert!(error.contains("cannot go on at line 5") && error.contains("line 9"), "{error}");
    assert_eq!(answer(&listener).await.1, 5);
    assert_eq!(stop(receiver).await.offset, 5);
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn a_block_that_cannot_be_held_ends_the_receiver() {
    let (listener, address) = listen().await;
    let log = Log::new();
    let receiver = receive(&address, false, 0, &log);
    log.break_down();
    accept(&listener).await.write_all(b"one\n").await.unwrap();
    assert_eq!(receiver.end().await.unwrap(), Err(ReceiverError::Hold("no disk".into())));
}

#[tokio::test]
async fn generated_rows_go_on_where_they_were_held() {
    let generate = |start: u64, log: &Arc<Log>| {
        let rows = GenerateConfig { rows_per_second: 1_000_000, keys: 10, seed: 1, limit: Some(20_000), receivers: 2 };
        let context = Context { receiver: 1, ..context() };
        Running::start(Source::new(Generate, rows), context, config(start), log)
    };
    let whole = Log::new();
    let end = generate(0, &whole).end().await.unwrap();
    assert_eq!(end, Ok(ReceiverEnd { offset: 10_000, finished: true }));

    let log = Log::new();
    let first = generate(0, &log);
    log.reaches(1000).await;
    first.task.abort();
    let second = generate(log.end(), &log);
    log.reaches(log.end() + 1000).await;
    stop(second).await;
    let third = generate(log.end(), &log).end().await.unwrap();
    assert_eq!(third, Ok(ReceiverEnd { offset: 10_000, finished: true }));
    assert!(log.text() == whole.text());
}
