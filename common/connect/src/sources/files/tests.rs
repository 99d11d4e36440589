//! Watching over a log that survives the receiver.

use super::read::Content;
use super::watch::{Watched, run as watch};
use super::*;
use crate::receiver::{ReceiverConfig, ReceiverEnd, run as run_receiver};
use crate::status::{ReceiverState, ReceiverStatus};
use crate::testkit::{Log, config};
use futures::FutureExt;
use parquet::arrow::ArrowWriter;
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;
use tidemill_common::positions::{PositionChange, Positions};
use tidemill_rows::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use tidemill_rows::arrow::datatypes::{DataType, Field, Schema};
use tidemill_rows::records::Framing;
use tidemill_store::Objects;
use tidemill_store::testkit::TestStore;
use tokio_util::sync::CancellationToken;

struct Folder {
    folder: tempfile::TempDir,
    directory: Directory,
    content: Content,
    framing: Framing,
    pattern: &'static str,
    max_files: usize,
    log: Arc<Log>,
    status: Arc<ReceiverStatus>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::Local(folder.path().to_path_buf());
        let content = Content::Lines { header: false };
        Self {
            folder,
            directory,
            content,
            framing: Framing::Lines,
            pattern: "*.txt",
            max_files: MAX_FILES,
            log: Log::new(),
            status: Arc::default(),
        }
    }

    /// Writes a file that was changed so many seconds after some time.
    fn put(&self, name: &str, text: &str, second: u64) {
        self.put_bytes(name, text.as_bytes(), second);
    }

    fn put_bytes(&self, name: &str, bytes: &[u8], second: u64) {
        // Under a hidden name, so that it appears once, as it is meant to be.
        let hidden = self.folder.path().join(format!(".{name}"));
        fs::write(&hidden, bytes).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second);
        fs::File::options().write(true).open(&hidden).unwrap().set_modified(time).unwrap();
        fs::rename(hidden, self.folder.path().join(name)).unwrap();
    }

    /// A receiver that goes on behind what the log holds.
    fn start(&self, new_files_only: bool) -> (CancellationToken, tokio::task::JoinHandle<ReceiverEnd>) {
        let watched = Watched {
            directory: self.directory.clone(),
            pattern: self.pattern.into(),
            new_files_only,
            poll_interval: Duration::from_millis(5),
            max_files: self.max_files,
            content: self.content.clone(),
        };
        // Every record of two bytes in a block of its own, so that the log may end behind any of them.
        let block_bytes = Some(2);
        let positions = self.log.positions();
        let config = ReceiverConfig { framing: self.framing, positions, block_bytes, ..config(self.log.end()) };
        let (stop, status, holder) = (CancellationToken::new(), self.status.clone(), self.log.holder());
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            let running = run_receiver(config, holder, status, stopped, |intake| {
                async move { watch(intake, watched).await.map(|()| Ended::Stopped) }.boxed()
            });
            running.await.unwrap()
        });
        (stop, running)
    }
}

#[tokio::test]
async fn files_are_read_once_by_time_and_name() {
    let folder = Folder::new();
    folder.put("b.txt", "3\n4", 2);
    folder.put("z.txt", "1\n2\n", 1);
    folder.put("c.txt", "5\n", 2);
    folder.put("_c.txt", "no\n", 2);
    folder.put("c.csv", "no\n", 2);
    let (stop, running) = folder.start(false);
    folder.log.reaches(5).await;
    // An old time does not hide a file that comes late.
    folder.put("late.txt", "6\n", 0);
    folder.log.reaches(6).await;
    stop.cancel();
    assert_eq!(running.await.unwrap().offset, 6);
    assert_eq!(folder.log.text(), "1\n2\n3\n4\n5\n6\n");
    assert_eq!(folder.status.snapshot().bad_files, 0);
}

#[tokio::test]
async fn a_receiver_goes_on_in_the_middle_of_a_file() {
    let folder = Folder::new();
    folder.put("a.txt", "1\n2\n3\n", 1);
    folder.put("b.txt", "4\n5\n", 2);
    let (stop, running) = folder.start(false);
    folder.log.reaches(5).await;
    stop.cancel();
    running.await.unwrap();
    for held in 0..=5 {
        // As if only so many records had been logged.
        let again = Folder { log: folder.log.up_to(held), ..Folder::new() };
        assert_eq!(again.log.end(), held);
        again.put("a.txt", "1\n2\n3\n", 1);
        again.put("b.txt", "4\n5\n", 2);
        again.put("c.txt", "6\n", 3);
        let (stop, running) = again.start(false);
        again.log.reaches(6).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!(again.log.text(), "1\n2\n3\n4\n5\n6\n", "from {held}");
    }
}

/// A log of version 3 says of all files that were begun that they are open.
#[tokio::test]
async fn of_several_files_that_are_open_the_last_that_has_begun_is_read_on() {
    let stamp = |text: &str, second: u64| Stamp {
        size: text.len() as u64,
        modified_ns: 1_000_000_000 * (1_000_000 + second as i64),
    };
    for held in 0..=6 {
        let folder = Folder::new();
        let files = [("d.txt", "1\n2\n3\n", 0), ("c.txt", "", 3), ("b.txt", "4\n5\n", 3), ("a.txt", "6\n", 5)];
        let mut positions = Positions::default();
        for (second, (name, text, first_offset)) in files.into_iter().enumerate() {
            folder.put(name, text, second as u64);
            let open = Progress::Open { stamp: stamp(text, second as u64), first_offset };
            positions.apply(&PositionChange { name: name.into(), to: Some(open.to_bytes()) }).unwrap();
        }
        let log = Log::at(held);
        log.holder().remember(held, changes(&positions)).await.unwrap();
        let folder = Folder { log, ..folder };
        let (stop, running) = folder.start(false);
        folder.log.reaches(6).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!(folder.log.text(), "1\n2\n3\n4\n5\n6\n"[2 * held as usize..], "from {held}");
    }
}

fn changes(positions: &Positions) -> Vec<PositionChange> {
    let change = |(name, to): (&str, &[u8])| PositionChange { name: name.into(), to: Some(to.to_vec()) };
    positions.iter().map(change).collect()
}

/// The directory has many files without records, and the log has all of them.
#[tokio::test]
async fn files_without_records_are_remembered() {
    let folder = Folder::new();
    (0..2500).for_each(|n| folder.put(&format!("{n:04}.txt"), "", 1));
    let (stop, running) = folder.start(false);
    while folder.log.positions().len() < 2500 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    folder.put("last.txt", "1\n", 2);
    let read = |(_, position): (&str, &[u8])| matches!(Progress::from_bytes(position), Some(Progress::Read(_)));
    while folder.log.positions().len() < 2501 || !folder.log.positions().iter().all(read) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(folder.log.end(), 1);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn csv_files_are_gone_on_with_by_records() {
    let files = [
        ("a.txt", "\u{feff}s\n\"1\n\",a\n\u{feff}2,\"b\n\"\n"),
        ("b.txt", "\u{feff}s\n3,\"c\nd\n"),
        ("c.txt", "s\n4,d\n"),
    ];
    let expected = [&b"\"1\xff\",a\n"[..], b"\xef\xbb\xbf2,\"b\xff\"\n", b"3,\"c\xffd\xff\n", b"4,d\n"];
    let content = Content::Lines { header: true };
    let framing = Framing::Csv { delimiter: b',' };
    let mut first: Option<Arc<Log>> = None;
    for held in 0..=4 {
        // At first all of it; then as if only so many records had been logged.
        let log = first.as_ref().map_or_else(Log::new, |log| log.up_to(held));
        let folder = Folder { framing, content: content.clone(), log, ..Folder::new() };
        for (second, (name, text)) in files.iter().enumerate() {
            folder.put(name, text, second as u64);
        }
        let (stop, running) = folder.start(false);
        folder.log.reaches(4).await;
        stop.cancel();
        assert_eq!(running.await.unwrap().offset, 4);
        assert_eq!(folder.log.bytes(), expected.concat(), "from {held}");
        first.get_or_insert(folder.log);
    }
}

#[tokio::test]
async fn compressed_files_are_read_and_what_is_damaged_is_counted() {
    let compressed = |text: &str| {
        let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap()
    };
    let long: String = (0..100_000).map(|line| format!("{line}\n")).collect();
    let (whole, mut short) = (compressed("1\n2\n"), compressed(&long));
    short.truncate(short.len() / 2);
    let folder = Folder { pattern: "*", ..Folder::new() };
    folder.put_bytes("a.txt.gz", &whole, 1);
    folder.put_bytes("b.gz", b"no\n", 2);
    folder.put_bytes("c.txt", b"3\n", 3);
    folder.put_bytes("d.gz", &short, 4);
    folder.put_bytes("e", &whole, 5);
    let (stop, running) = folder.start(false);
    while folder.status.snapshot().bad_files < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = folder.log.text().len();
    folder.put_bytes("f.txt", b"last\n", 6);
    while !folder.log.text().ends_with("1\n2\nlast\n") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let text = folder.log.text();
    // What comes before the damage counts, by whole records.
    let damaged = text.strip_prefix("1\n2\n3\n").and_then(|text| text.strip_suffix("1\n2\nlast\n")).unwrap();
    assert!(before <= text.len() && long.starts_with(damaged) && damaged.ends_with('\n'), "{}", damaged.len());
}

#[tokio::test]
async fn a_changed_file_is_counted_and_not_read_again() {
    let folder = Folder::new();
    folder.put("a.txt", "1\n", 1);
    let (stop, running) = folder.start(false);
    folder.log.reaches(1).await;
    folder.put("a.txt", "1\n2\n", 5);
    while folder.status.snapshot().bad_files == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    folder.put("b.txt", "3\n", 6);
    folder.log.reaches(2).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!((folder.log.text().as_str(), folder.status.snapshot().bad_files), ("1\n3\n", 1));
}

#[tokio::test]
async fn a_link_to_itself_is_counted_once_and_hides_no_file() {
    let folder = Folder::new();
    std::os::unix::fs::symlink("loop.txt", folder.folder.path().join("loop.txt")).unwrap();
    folder.put("a.txt", "1\n", 1);
    let (stop, running) = folder.start(false);
    folder.log.reaches(1).await;
    folder.put("b.txt", "2\n", 2);
    folder.log.reaches(2).await;
    stop.cancel();
    running.await.unwrap();
    let status = folder.status.snapshot();
    assert_eq!((folder.log.text().as_str(), status.bad_files), ("1\n2\n", 1));
    assert!(status.reported.starts_with("file `loop.txt`: "), "{}", status.reported);
}

#[tokio::test]
async fn more_files_than_may_be_known_are_told() {
    let folder = Folder { max_files: 2, ..Folder::new() };
    for (second, name) in ["a.txt", "b.txt", "c.txt", "d.txt"].into_iter().enumerate() {
        folder.put(name, "x\n", second as u64);
    }
    let (stop, running) = folder.start(false);
    folder.log.reaches(2).await;
    while !folder.status.snapshot().reported.starts_with("2 files are not read: ") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for name in ["a.txt", "b.txt"] {
        fs::remove_file(folder.folder.path().join(name)).unwrap();
    }
    folder.log.reaches(4).await;
    while !folder.status.snapshot().reported.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn only_new_files() {
    let folder = Folder::new();
    folder.put("old.txt", "0\n", 1);
    let (stop, running) = folder.start(true);
    while folder.log.positions().get(LOOKED_AT).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    running.await.unwrap();
    folder.put("new.txt", "1\n", 2);
    let (stop, running) = folder.start(true);
    folder.log.reaches(1).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(folder.log.text(), "1\n");
}

/// A watched directory in a store.
fn in_a_store() -> (Arc<TestStore>, Objects, Folder) {
    let store = TestStore::new();
    let Ok(Location::Object(url)) = Location::parse("s3://bucket/in") else { panic!("a URL") };
    let objects = Objects::over(store.clone(), url);
    let folder = Folder { directory: Directory::Objects(objects.clone()), ..Folder::new() };
    (store, objects, folder)
}

#[tokio::test]
async fn objects_are_read_once_and_gone_on_with() {
    let (_store, objects, folder) = in_a_store();
    objects.put("a.txt", "1\n2\n3").unwrap();
    objects.put("_b.txt", "no\n").unwrap();
    objects.put("below/c.txt", "no\n").unwrap();
    let (stop, running) = folder.start(false);
    folder.log.reaches(3).await;
    objects.put("d.txt", "4\n5\n").unwrap();
    folder.log.reaches(5).await;
    stop.cancel();
    running.await.unwrap();
    // As if only so many records had been logged.
    for held in 0..=4 {
        let again = Folder { directory: folder.directory.clone(), log: folder.log.up_to(held), ..Folder::new() };
        let (stop, running) = again.start(false);
        again.log.reaches(5).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!(again.log.text(), "1\n2\n3\n4\n5\n", "from {held}");
    }
}

#[tokio::test]
async fn parquet_objects_become_lines() {
    let (_store, objects, folder) = in_a_store();
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let rows = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    writer.write(&rows).unwrap();
    objects.put("a.txt", writer.into_inner().unwrap()).unwrap();
    let folder = Folder { content: Content::Parquet(schema), framing: Framing::Block, ..folder };
    let (stop, running) = folder.start(false);
    folder.log.reaches(3).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(folder.log.text(), "{\"a\":1}\n{\"a\":null}\n{\"a\":3}\n");
}

#[tokio::test]
async fn an_object_that_was_replaced_is_counted() {
    let (_store, objects, folder) = in_a_store();
    objects.put("a.txt", "1\n2\n").unwrap();
    let (stop, running) = folder.start(false);
    folder.log.reaches(2).await;
    objects.put("a.txt", "3\n").unwrap();
    while folder.status.snapshot().bad_files == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    running.await.unwrap();
    // One that was replaced before all of its records were in cannot be gone on with.
    let again = Folder { directory: folder.directory.clone(), log: folder.log.up_to(1), ..Folder::new() };
    objects.put("b.txt", "4\n").unwrap();
    let (stop, running) = again.start(false);
    again.log.reaches(2).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(again.log.text(), "1\n4\n");
    assert!(again.status.snapshot().bad_files > 0);
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for() {
    let (store, objects, folder) = in_a_store();
    objects.put("a.txt", "1\n2\n").unwrap();
    store.set_away(true);
    let (stop, running) = folder.start(false);
    let mut state = folder.status.watch();
    let waits = |state: &ReceiverState| matches!(state, ReceiverState::BackingOff { error, .. } if error == "s3://bucket/in: the store is away");
    state.wait_for(waits).await.unwrap();
    store.set_away(false);
    folder.log.reaches(2).await;
    objects.put("b.txt", "3\n").unwrap();
    folder.log.reaches(3).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!((folder.log.text().as_str(), folder.status.snapshot().bad_files), ("1\n2\n3\n", 0));
}

#[tokio::test]
async fn a_file_is_not_lost_when_any_request_fails() {
    for number in 0..6 {
        let (store, objects, folder) = in_a_store();
        objects.put("a.txt", "1\n2\n").unwrap();
        store.fail_at(number + 1);
        let (stop, running) = folder.start(false);
        folder.log.reaches(2).await;
        stop.cancel();
        running.await.unwrap();
        assert_eq!((folder.log.text().as_str(), folder.status.snapshot().bad_files), ("1\n2\n", 0), "{number}");
    }
}
