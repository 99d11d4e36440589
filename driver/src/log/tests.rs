mod order;

use super::*;
use crate::record::{
    BlockKey, BlockMeta, DurableJob, Ending, GroupPlaces, Import, JobRecord, ReceiverKey, SourceTotals, TableContent,
    Totals,
};
use proptest::prelude::*;
use tidemill_common::frame::{FILE_HEADER, FRAME_HEADER};
use tidemill_common::ids::{BatchId, JobId, SourceIdx, Term, WorkerId};
use tidemill_common::positions::PositionChange;
use tidemill_connect::sources::files::{LOOKED_AT, Progress, Stamp};

fn joined(worker: u64) -> Record {
    Record::WorkerJoined(WorkerId(worker))
}

fn submitted(id: u64, name: &str) -> Record {
    Record::Submitted(Box::new(DurableJob { id: JobId(id), name: name.into(), ..DurableJob::default() }))
}

/// A log with these records; gives back its newest segment.
fn written(dir: &Path, records: &[Record]) -> PathBuf {
    let (mut log, _) = Log::open(dir).unwrap();
    records.iter().for_each(|record| log.append(std::slice::from_ref(record), false).unwrap());
    segment_path(dir, log.number)
}

fn folded(records: &[Record]) -> Durable {
    let mut durable = Durable::default();
    records.iter().for_each(|record| durable.apply(record));
    durable
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, &bytes).unwrap();
    bytes
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

#[test]
fn what_was_appended_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, durable) = Log::open(dir.path()).unwrap();
    assert_eq!(durable, Durable::default());
    log.append(&[Record::Cluster { id: "c".into() }, Record::Started { term: Term(1) }], false).unwrap();
    log.append(&[joined(7)], true).unwrap();
    drop(log);
    let (_, durable) = Log::open(dir.path()).unwrap();
    assert_eq!(durable.cluster_id, "c");
    assert_eq!(durable.last_worker, WorkerId(7));
}

#[test]
fn a_torn_tail_is_cut_off_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[submitted(1, "a"), joined(2)]);
    let bytes = change(&path, |bytes| bytes.truncate(bytes.len() - 1));
    let (_, durable) = Log::open(dir.path()).unwrap();
    assert_eq!((durable.last_job, durable.last_worker), (JobId(1), WorkerId(0)));
    assert_eq!(durable.doubtful, [JobId(1)].into());
    assert_eq!(names(dir.path()), ["log-000000000001.torn-1", "log-000000000002"]);
    assert_eq!(fs::read(dir.path().join("log-000000000001.torn-1")).unwrap(), bytes);
    // Everybody who opens it later finds it whole.
    assert_eq!(Log::open(dir.path()).unwrap().1, durable);
}

#[test]
fn rotation_keeps_the_state_and_the_segment_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut durable) = Log::open(dir.path()).unwrap();
    for n in 1..=5 {
        durable.apply(&joined(n));
        log.append(&[joined(n)], false).unwrap();
        log.rotate(&durable).unwrap();
    }
    assert_eq!(segment_numbers(dir.path()).unwrap(), [5, 6]);
    drop(log);
    assert_eq!(Log::open(dir.path()).unwrap().1, durable);
}

#[test]
fn a_second_driver_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _log = Log::open(dir.path()).unwrap();
    assert!(matches!(Log::open(dir.path()), Err(LogError::Locked { .. })));
    assert!(matches!(repair(dir.path()), Err(LogError::Locked { .. })));
}

#[test]
fn another_version_is_named_whatever_the_bodies_are() {
    let dir = tempfile::tempdir().unwrap();
    for version in [0, VERSION + 1] {
        let mut bytes = frame::file_header(KIND, version).to_vec();
        frame::push(&mut bytes, 200, b"nobody knows");
        fs::write(segment_path(dir.path(), 1), bytes).unwrap();
        let error = Log::open(dir.path()).unwrap_err();
        assert!(matches!(error, LogError::OtherVersion { found, .. } if found == version), "{error}");
        assert!(error.to_string().contains(&format!("version {version} of the log, this program reads versions 1 to")));
        assert!(matches!(repair(dir.path()), Err(LogError::OtherVersion { .. })));
        assert_eq!(names(dir.path()), ["log-000000000001"]);
    }
}

/// Damage in the middle: nothing is changed before people say so; then all that reads is there, and all is said that does not.
#[test]
fn damage_is_refused_and_repaired_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let key = ReceiverKey { source: SourceIdx(0), receiver: 0 };
    let block = BlockMeta { key: BlockKey { receiver: key, first_offset: 0 }, epoch: 1, records: 30, bytes: 300 };
    let of_first = |record| Record::Job(JobId(1), record);
    let complete = JobRecord::Completed { batch: BatchId(1), totals: Totals::default() };
    let records = [
        joined(1),
        submitted(1, "first"),
        joined(2),
        submitted(2, "second"),
        of_first(JobRecord::Block(block, Vec::new())),
        of_first(complete),
    ];
    let path = written(dir.path(), &records);
    let whole = fs::read(&path).unwrap();
    let before = fs::metadata(written_up_to(&records[..2])).unwrap().len() as usize;
    change(&path, |bytes| bytes[before + FRAME_HEADER] ^= 4);
    let damaged = fs::read(&path).unwrap();

    let error = Log::open(dir.path()).unwrap_err().to_string();
    let expected = format!(
        "log-000000000001 is damaged at byte {before}: an entry does not match its checksum; 3 entries before it are whole, and 3 after it."
    );
    assert!(error.contains(&expected) && error.contains("tidemill driver --repair"), "{error}");
    assert_eq!(names(dir.path()), ["log-000000000001"]);
    assert_eq!(fs::read(&path).unwrap(), damaged);

    let done = repair(dir.path()).unwrap().unwrap();
    assert_eq!(names(dir.path()), ["log-000000000001.damaged-1", "log-000000000002"]);
    assert_eq!(fs::read(kept_as(&done)).unwrap(), damaged);
    assert_eq!(lost(&done), (whole.len() - before, 3));
    let said = done.to_string();
    let first = "job 1 `first`: goes back from batch 1 to batch 0; lost: 2 entries, 30 received records";
    assert!(said.contains(first), "{said}");
    assert!(said.contains("job 2 `second`: it is not known any more; lost: 1 entries"), "{said}");

    let (log, durable) = Log::open(dir.path()).unwrap();
    assert_eq!(durable.jobs.keys().collect::<Vec<_>>(), [&JobId(1)]);
    assert_eq!(durable.doubtful, [JobId(1)].into());
    assert!(durable.last_job > JobId(2) && durable.last_worker > WorkerId(2), "no number is given out again");
    assert_eq!(durable.standing(JobId(2)), crate::record::Standing::Unknown);
    drop(log);
    assert_eq!(repair(dir.path()).unwrap(), None);

    // The file as it was: nothing was lost.
    segment_numbers(dir.path()).unwrap().iter().for_each(|number| remove(&segment_path(dir.path(), *number)).unwrap());
    fs::write(&path, &whole).unwrap();
    assert_eq!(Log::open(dir.path()).unwrap().1, folded(&records));
}

/// Bytes and entries that a repair says are lost.
fn lost(done: &Repair) -> (usize, u64) {
    match &done.loss {
        Loss::Damaged { bytes, entries, .. } => (*bytes as usize, *entries),
        other => panic!("{other:?}"),
    }
}

fn kept_as(done: &Repair) -> &Path {
    match &done.loss {
        Loss::Damaged { kept_as, .. } => kept_as,
        other => panic!("{other:?}"),
    }
}

/// A file with these records, to look at its length.
fn written_up_to(records: &[Record]) -> PathBuf {
    let dir = tempfile::tempdir().unwrap().keep();
    written(&dir, records)
}

#[test]
fn the_segment_before_stands_in_for_a_damaged_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &[submitted(1, "a"), joined(1)]);
    let path = written(dir.path(), &[joined(2), joined(3)]);
    let head_ends = head_ends(&fs::read(&path).unwrap());
    // The header of the file, the head, and the snapshot.
    for at in [3, FILE_HEADER + FRAME_HEADER + 2, head_ends + FRAME_HEADER + 2] {
        let copy = tempfile::tempdir().unwrap();
        for name in names(dir.path()) {
            fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
        }
        let path = copy.path().join(path.file_name().unwrap());
        change(&path, |bytes| bytes[at] ^= 1);
        assert!(matches!(Log::open(copy.path()), Err(LogError::Damaged(_))));
        let done = repair(copy.path()).unwrap().unwrap();
        assert_eq!(lost(&done), (0, 0), "{done}");
        assert!(done.to_string().contains("nothing is lost") && done.jobs.is_empty(), "{done}");
        let (_, durable) = Log::open(copy.path()).unwrap();
        assert_eq!((durable.jobs.len(), durable.members.len()), (1, 3));
    }
    // Without it there is nothing to build on.
    remove(&segment_path(dir.path(), 1)).unwrap();
    let damaged = change(&path, |bytes| bytes[head_ends + FRAME_HEADER + 2] ^= 1);
    let error = repair(dir.path()).unwrap_err().to_string();
    assert!(error.contains("there is no segment before it"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let record = prop_oneof![
        (1..9_u64).prop_map(joined),
        (1..9_u64, "[a-z]{0,700}").prop_map(|(id, name)| submitted(id, &name)),
        (1..9_u64, 1..9_u64).prop_map(|(job, batch)| Record::Job(JobId(job), JobRecord::Checkpoint(BatchId(batch)))),
    ];
    prop::collection::vec(record, 1..8)
}

fn head_ends(bytes: &[u8]) -> usize {
    match frame::step(bytes, FILE_HEADER) {
        frame::Step::Whole { kind: HEAD, end, .. } => end,
        other => panic!("{other:?}"),
    }
}

/// Where the entries of a segment end, from the snapshot on.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = head_ends(bytes);
    while let frame::Step::Whole { end, .. } = frame::step(bytes, at) {
        ends.push(end);
        at = end;
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A log that is cut off anywhere says exactly what is whole in it.
    #[test]
    fn a_cut_loses_the_entry_it_is_in(records in any_records(), cut in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), &records);
        let ends = ends(&fs::read(&path).unwrap());
        prop_assert_eq!(ends.len(), records.len() + 1);
        let cut = ends[0] + cut.index(ends[ends.len() - 1] - ends[0] + 1);
        change(&path, |bytes| bytes.truncate(cut));
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let mut expected = folded(&records[..whole]);
        if !ends.contains(&cut) {
            expected.doubt();
        }
        prop_assert_eq!(Log::open(dir.path()).unwrap().1, expected);
    }

    /// A disk wrote zeros for the end of the last entry, and maybe behind it.
    #[test]
    fn zeros_at_the_end_are_torn(records in any_records(), zeros in any::<prop::sample::Index>(), behind in 0..3000_usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), &records);
        let ends = ends(&fs::read(&path).unwrap());
        let [.., before, end] = ends[..] else { return Ok(()) };
        let from = before + zeros.index(end - before);
        change(&path, |bytes| {
            bytes[from..].fill(0);
            bytes.resize(end + behind, 0);
        });
        let mut expected = folded(&records[..records.len() - 1]);
        expected.doubt();
        prop_assert_eq!(Log::open(dir.path()).unwrap().1, expected);
    }

    /// A bit that is wrong anywhere is refused, and a repair keeps what is before it.
    #[test]
    fn a_flipped_bit_is_never_silent(records in any_records(), bit in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path(), &records);
        let bytes = fs::read(&path).unwrap();
        let (ends, bit) = (ends(&bytes), bit.index(bytes.len() * 8));
        let damaged = change(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let whole = ends.iter().filter(|end| **end <= bit / 8).count();
        match Log::open(dir.path()) {
            Err(LogError::Damaged(damage)) => prop_assert!(damage.offset as usize <= bit / 8),
            other => prop_assert!(false, "{other:?}"),
        }
        prop_assert_eq!(fs::read(&path).unwrap(), damaged.clone());
        match repair(dir.path()) {
            Ok(Some(done)) => {
                prop_assert_eq!(fs::read(kept_as(&done)).unwrap(), damaged);
                let kept = if whole == 0 { records.len() } else { whole - 1 };
                let mut expected = folded(&records[..kept]);
                expected.after_a_loss();
                prop_assert_eq!(Log::open(dir.path()).unwrap().1, expected);
            }
            Err(LogError::BeyondRepair { .. }) => prop_assert_eq!(whole, 0),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..400), head in 0..4_usize, kind in 0..6_u8) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = frame::file_header(KIND, VERSION).to_vec();
        match head {
            0 => bytes.clear(),
            1 => {}
            _ => {
                encode(&mut bytes, HEAD, &super::head(&Durable::default(), 1, None)).unwrap();
                encode(&mut bytes, SNAPSHOT, &Durable::default()).unwrap();
            }
        }
        // A right checksum does not make sense of it.
        if head == 3 { frame::push(&mut bytes, kind, &noise); } else { bytes.extend_from_slice(&noise) }
        fs::write(segment_path(dir.path(), 1), &bytes).unwrap();
        let _ = Log::open(dir.path());
        let _ = repair(dir.path());
    }
}

// Stored logs. They are read for ever: a version that was once released stays readable.

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs").join(name)
}

fn open_stored(name: &str) -> Durable {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 9);
    fs::copy(stored(name), &path).unwrap();
    match Log::open(dir.path()) {
        Ok((_, durable)) => durable,
        // It says that there is a next one.
        Err(LogError::Missing { .. }) => read_segment(&path, &fs::read(&path).unwrap()).unwrap().durable.unwrap(),
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Written by the program of before version 2: two workers, a job that runs and one that was stopped.
#[test]
fn version_1_is_read() {
    let durable = open_stored("version-1");
    assert_eq!(durable.cluster_id, "cb9ed8cc401915b9");
    assert_eq!((durable.last_job, durable.members.len()), (JobId(2), 2));
    let names: Vec<&str> = durable.jobs.values().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["counts", "second"]);
    let counts = &durable.jobs[&JobId(1)];
    assert_eq!((counts.ending.is_none(), counts.groups.len(), counts.stateful), (true, 4, true));
    assert_eq!((counts.received_records, counts.completed, counts.checkpoint), (171, BatchId(18), BatchId(18)));
    assert_eq!(durable.jobs[&JobId(2)].ending, Some(Ending::Stopped));
    assert_eq!(durable.doubtful.len() + durable.unknown_jobs.len(), 0);
}

#[test]
fn damage_in_version_1_is_refused_and_its_tail_may_be_torn() {
    let bytes = fs::read(stored("version-1")).unwrap();
    let open = |bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment_path(dir.path(), 1), bytes).unwrap();
        Log::open(dir.path()).map(|(_, durable)| durable)
    };
    let torn = open(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(torn.doubtful, [JobId(1)].into());
    for at in (200..bytes.len() - 100).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 16;
        assert!(matches!(open(&damaged), Err(LogError::Damaged(_))), "byte {at}");
    }
}

/// One of everything that the log can say.
fn everything() -> Vec<Record> {
    let key = ReceiverKey { source: SourceIdx(1), receiver: 2 };
    let block = BlockMeta { key: BlockKey { receiver: key, first_offset: 0 }, epoch: 3, records: 40, bytes: 500 };
    let moved = PositionChange { name: "f.csv".into(), to: Some(vec![1, 2]) };
    let gone = PositionChange { name: "g".into(), to: None };
    let counted = SourceTotals { records: 40, bad: 1, stretch_records: 40, stretch_bad: 1 };
    let totals = Totals { records: 40, bad_records: 1, output_rows: vec![39], sources: vec![counted] };
    let places = GroupPlaces { owner: Some(WorkerId(1)), followers: vec![WorkerId(2)] };
    let job = DurableJob {
        id: JobId(1),
        name: "j".into(),
        definition: "name = \"j\"".into(),
        file_name: "j.toml".into(),
        attachments: vec![vec![1, 2, 3]],
        base_dir: "/data".into(),
        stateful: true,
        last_time_ms: 1000,
        ..DurableJob::default()
    };
    let other = DurableJob { id: JobId(2), name: "k".into(), capture: true, ..DurableJob::default() };
    let of_job = [
        JobRecord::Receiver { key, epoch: 3 },
        JobRecord::Assigned(vec![places]),
        JobRecord::Positions(key, vec![moved.clone(), gone]),
        JobRecord::Block(block, vec![moved]),
        JobRecord::Imported { model: 0, import: Import { trained: false, bytes: vec![8].into() } },
        JobRecord::Reloaded { table: 0, content: TableContent { hash: 9, bytes: vec![10].into() } },
        JobRecord::Frozen { batch: BatchId(1), time_ms: 2000, counts: vec![(key, 1)] },
        JobRecord::Chosen { model: 3, champion: 4 },
        JobRecord::Completed { batch: BatchId(1), totals },
        JobRecord::Checkpoint(BatchId(1)),
        JobRecord::ReceiverFinished(key),
        JobRecord::Frozen { batch: BatchId(2), time_ms: 3000, counts: vec![] },
        JobRecord::Block(BlockMeta { key: BlockKey { receiver: key, first_offset: 40 }, ..block }, Vec::new()),
        JobRecord::Imported { model: 1, import: Import { trained: true, bytes: vec![11].into() } },
        JobRecord::Reloaded { table: 1, content: TableContent { hash: 12, bytes: vec![13].into() } },
    ];
    let mut records = vec![
        Record::Cluster { id: "c".into() },
        Record::Started { term: Term(1) },
        joined(1),
        joined(2),
        Record::WorkerLost(WorkerId(1)),
        Record::Submitted(Box::new(job)),
        Record::Submitted(Box::new(other)),
    ];
    records.extend(of_job.map(|record| Record::Job(JobId(1), record)));
    let incomplete = JobRecord::Ended(Ending::StoppedIncomplete("left".into()));
    records.push(Record::Job(JobId(2), incomplete));
    records.push(Record::JobsUnknown { through: JobId(9) });
    records.push(Record::JobForgotten(JobId(5)));
    records.push(Record::JobDoubtful(JobId(1)));
    records
}

/// The layout of the present version, byte for byte. If this fails, the layout has changed: raise `VERSION`, write how to read
/// the old one (as `version1` does) and store a file of the new one (`STORE=1`), beside the old ones.
#[test]
fn the_layout_is_as_it_was_stored() {
    let mut bytes = frame::file_header(KIND, VERSION).to_vec();
    let before = Before::of(8, b"the segment before");
    encode(&mut bytes, HEAD, &head(&folded(&everything()), 9, Some(before))).unwrap();
    encode(&mut bytes, SNAPSHOT, &folded(&everything())).unwrap();
    for record in everything().into_iter().chain([Record::Job(JobId(1), JobRecord::Ended(Ending::Failed("f".into())))])
    {
        encode(&mut bytes, RECORD, &record).unwrap();
    }
    encode(&mut bytes, CLOSED, &10_u64).unwrap();
    let name = format!("version-{VERSION}");
    if std::env::var_os("STORE").is_some() {
        fs::write(stored(&name), &bytes).unwrap();
    }
    assert!(fs::read(stored(&name)).unwrap() == bytes, "the layout of the log has changed");
}

/// What versions 2 and 3 said of files are positions now.
#[test]
fn the_files_of_version_3_are_positions() {
    for name in ["version-2", "version-3"] {
        let (path, bytes) = (stored(name), fs::read(stored(name)).unwrap());
        let mut entries = segment::Entries::of(&path, &bytes).unwrap();
        let durable = loop {
            match entries.item() {
                segment::Item::Entry { entry: segment::Entry::Snapshot(durable), .. } => break durable,
                segment::Item::Entry { end, .. } => entries.at = end,
                other => panic!("{name}: {other:?}"),
            }
        };
        let key = ReceiverKey { source: SourceIdx(1), receiver: 2 };
        let positions = &durable.jobs[&JobId(1)].positions[&key];
        let stamp = Stamp { size: 6, modified_ns: 7 };
        let open = Progress::Open { stamp, first_offset: 40 }.to_bytes();
        assert_eq!(positions.iter().collect::<Vec<_>>(), [(LOOKED_AT, &[][..]), ("f.csv", &open[..])], "{name}");
    }
}

#[test]
fn every_stored_version_is_read() {
    let files = fs::read_dir(stored("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<String> = files.collect();
    assert!(files.len() >= 4);
    for file in files {
        assert!(!open_stored(&file).jobs.is_empty(), "{file}");
    }
}
