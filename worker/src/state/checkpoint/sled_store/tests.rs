use super::*;
use crate::state::checkpoint::{LazyStore, MemoryStore, Payload};
use proptest::prelude::*;
use std::fs::OpenOptions;
use tempfile::TempDir;
use tidemill_common::ids::{JobId, KeyGroup, StageId};

fn key(group: u32, version: u64) -> CheckpointKey {
    CheckpointKey {
        job: JobKey::new("cluster", JobId(1)),
        stage: StageId(2),
        group: KeyGroup(group),
        version: BatchId(version),
    }
}

/// Bytes that compress badly and differ between seeds.
fn noise(seed: u64, len: usize) -> Bytes {
    let words = (0..len as u64 / 8 + 1).map(|n| XxHash3_64::oneshot_with_seed(seed, &n.to_le_bytes()));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.truncate(len);
    bytes.into()
}

fn base(key: CheckpointKey, len: usize) -> CheckpointItem {
    let payload = Payload::Base(noise(key.version.0, len));
    CheckpointItem { key, payload }
}

fn delta(key: CheckpointKey, on: u64, len: usize) -> CheckpointItem {
    let payload = Payload::Delta { on: BatchId(on), bytes: noise(key.version.0, len) };
    CheckpointItem { key, payload }
}

fn open(dir: &TempDir) -> CheckpointStore {
    CheckpointStore::open(dir.path().join("state")).unwrap()
}

/// What a killed process leaves: the files as they are, without a close.
fn killed(dir: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    let to = copy.path().join("state");
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(dir.path().join("state")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn chunks_of(store: &CheckpointStore, key: &CheckpointKey) -> Vec<Vec<u8>> {
    let prefix = manifest_key(key);
    let keys = store.chunks.scan_prefix(prefix).keys();
    keys.map(|key| key.unwrap().to_vec()).collect()
}

/// Files that sled made for nodes that were too big, and leaks.
fn blobs(dir: &TempDir) -> usize {
    fs::read_dir(dir.path().join("state").join("blobs")).unwrap().count()
}

#[test]
fn chain_is_loaded_base_first_and_after_a_reopen() {
    let dir = TempDir::new().unwrap();
    let items = [base(key(0, 1), 20_000), delta(key(0, 2), 1, 100), delta(key(0, 3), 2, 0), base(key(1, 3), CHUNK)];
    let store = open(&dir);
    store.write_all(&items).unwrap();
    let expected = vec![noise(1, 20_000), noise(2, 100), Bytes::new()];
    assert_eq!(store.load(&key(0, 3)).unwrap(), Some(expected.clone()));
    assert_eq!(store.load(&key(0, 4)).unwrap(), None);
    drop(store);

    let store = open(&dir);
    assert_eq!(store.load(&key(0, 3)).unwrap(), Some(expected));
    assert_eq!(store.inventory().unwrap(), items.map(|item| item.key));
    assert!(store.pending.is_empty());
}

#[test]
fn big_values_make_no_blobs() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.write_all(&[base(key(0, 1), 10 << 20)]).unwrap();
    assert_eq!(store.load(&key(0, 1)).unwrap(), Some(vec![noise(1, 10 << 20)]));
    assert_eq!(blobs(&dir), 0);
}

#[test]
fn what_was_written_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.write_all(&[base(key(0, 1), 50_000), base(key(1, 1), 9)]).unwrap();
    let crashed = open(&killed(&dir));
    assert_eq!(crashed.inventory().unwrap(), [key(0, 1), key(1, 1)]);
    assert_eq!(crashed.load(&key(0, 1)).unwrap(), Some(vec![noise(1, 50_000)]));
}

#[test]
fn a_write_cut_short_is_cleared_away() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.write_all(&[base(key(0, 1), 100)]).unwrap();
    let half = write_key(&key(0, 2), 77);
    store.pending.insert(&half, &[]).unwrap();
    store.chunks.insert(chunk_key(&half, 0), &b"half"[..]).unwrap();
    drop(store);

    let store = open(&dir);
    assert_eq!(store.inventory().unwrap(), [key(0, 1)]);
    assert_eq!((store.chunks.len(), store.pending.len()), (1, 0));
}

#[test]
fn damage_takes_a_version_and_all_on_it_out() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let items = [
        base(key(0, 1), 100),
        delta(key(0, 2), 1, 3 * CHUNK),
        delta(key(0, 3), 2, 10),
        base(key(0, 4), 3 * CHUNK),
        base(key(0, 5), 3 * CHUNK),
        delta(key(0, 7), 6, 10),
    ];
    store.write_all(&items).unwrap();
    let torn = &chunks_of(&store, &key(0, 2))[1];
    store.chunks.insert(torn, &b"other bytes"[..]).unwrap();
    let lost = &chunks_of(&store, &key(0, 4))[2];
    store.chunks.remove(lost).unwrap();

    assert_eq!(store.inventory().unwrap(), [key(0, 1), key(0, 5)]);
    for version in [2, 3, 4, 7] {
        assert_eq!(store.load(&key(0, version)).unwrap(), None);
    }
}

#[test]
fn an_item_is_replaced_as_a_whole() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.write_all(&[base(key(0, 1), 5 * CHUNK)]).unwrap();
    let new = CheckpointItem { key: key(0, 1), payload: Payload::Base(noise(9, CHUNK + 1)) };
    store.write_all(&[new]).unwrap();
    assert_eq!(store.load(&key(0, 1)).unwrap(), Some(vec![noise(9, CHUNK + 1)]));
    assert_eq!((store.chunks.len(), store.pending.len()), (2, 0));
}

#[test]
fn a_half_made_snapshot_is_no_obstacle() {
    let dir = TempDir::new().unwrap();
    open(&dir).write_all(&[base(key(0, 1), 100)]).unwrap();
    let rest = dir.path().join("state").join("snap.0000000000000001.generating");
    fs::write(&rest, b"half").unwrap();
    assert_eq!(open(&dir).inventory().unwrap(), [key(0, 1)]);
    assert!(!rest.exists());
}

#[test]
fn a_second_opener_is_locked_out() {
    let dir = TempDir::new().unwrap();
    let _first = open(&dir);
    let second = CheckpointStore::open(dir.path().join("state"));
    assert!(matches!(second, Err(StoreError::Locked { .. })));
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.db.insert(FORMAT_KEY, &(FORMAT + 1).to_be_bytes()).unwrap();
    drop(store);
    let refused = CheckpointStore::open(dir.path().join("state"));
    assert!(matches!(refused, Err(StoreError::NewerFormat { found: 2, known: 1, .. })));
}

#[test]
fn a_damaged_directory_is_moved_aside() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    open(&dir).write_all(&[base(key(0, 1), 100)]).unwrap();
    fs::write(path.join("conf"), b"no configuration").unwrap();

    let store = LazyStore::new(&path);
    assert_eq!(store.inventory().unwrap(), []);
    store.write_all(&[base(key(0, 2), 100)]).unwrap();
    assert_eq!(store.inventory().unwrap(), [key(0, 2)]);
    assert!(dir.path().join("state.corrupt-1").join("db").exists());
}

#[test]
fn a_lazy_store_touches_nothing_until_it_writes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let store = LazyStore::new(&path);
    assert_eq!(store.inventory().unwrap(), []);
    assert_eq!(store.load(&key(0, 1)).unwrap(), None);
    store.retain(&key(0, 1).job, &[BatchId(1)]).unwrap();
    store.forget_job(&key(0, 1).job).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_log_cut_off_anywhere_leaves_whole_checkpoints() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for version in 1..=20 {
        store.write_all(&[base(key(0, version), 60_000)]).unwrap();
    }
    let len = fs::metadata(dir.path().join("state").join("db")).unwrap().len();
    for eighths in 1..8 {
        let copy = killed(&dir);
        let path = copy.path().join("state");
        let log = OpenOptions::new().write(true).open(path.join("db")).unwrap();
        log.set_len(len * eighths / 8).unwrap();
        match CheckpointStore::open(&path) {
            Ok(store) => {
                for key in store.inventory().unwrap() {
                    let whole = Some(vec![noise(key.version.0, 60_000)]);
                    assert_eq!(store.load(&key).unwrap(), whole);
                }
            }
            Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error}"),
        }
    }
}

#[test]
fn noise_in_any_file_is_no_panic() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    open(&dir).write_all(&[base(key(0, 1), 60_000)]).unwrap();
    let files = fs::read_dir(dir.path().join("state")).unwrap();
    let files = files.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    for file in files {
        for len in [0, 3, 5_000] {
            let copy = killed(&dir);
            let path = copy.path().join("state");
            fs::write(path.join(file.file_name()), noise(7, len)).unwrap();
            let opened = CheckpointStore::open(&path);
            let inventory = opened.and_then(|store| store.inventory());
            let refused = matches!(inventory, Err(StoreError::Corrupt { .. }));
            assert!(refused || inventory.is_ok(), "{file:?} {len}: {inventory:?}");
        }
    }
}

#[test]
fn disk_use_levels_off() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for version in 1..=50 {
        let items: Vec<_> = (0..8).map(|group| base(key(group, version), 100_000)).collect();
        store.write_all(&items).unwrap();
        let keep = [BatchId(version - 1), BatchId(version)];
        store.retain(&key(0, 1).job, &keep).unwrap();
    }
    assert_eq!(store.inventory().unwrap().len(), 16);
    assert_eq!((store.pending.len(), blobs(&dir)), (0, 0));
    // 40 MB were written, 1.6 MB are live; sled's cleaner runs twice a second and lags behind a test.
    let bytes = store.disk_bytes().unwrap();
    assert!(bytes < 20_000_000, "{bytes}");
}

#[test]
fn a_forgotten_job_leaves_the_others() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut other = key(0, 1);
    other.job.job = JobId(2);
    store.write_all(&[base(key(0, 1), 10), base(other, 10)]).unwrap();
    store.forget_job(&key(0, 1).job).unwrap();
    assert_eq!(store.inventory().unwrap(), [other]);
    assert_eq!(store.chunks.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Writes, replacements and retention leave the same as in the store that cannot fail.
    #[test]
    fn behaves_like_the_store_in_memory(
        steps in prop::collection::vec((0u32..2, 1u64..8, 0u64..4, any::<bool>()), 1..25)
    ) {
        let dir = TempDir::new().unwrap();
        let (store, model) = (open(&dir), MemoryStore::default());
        for (group, version, back, retain) in steps {
            let key = key(group, version);
            let item = match back {
                0 => base(key, 100),
                back => delta(key, version.saturating_sub(back), 50),
            };
            for store in [&store as &dyn StateStore, &model] {
                store.write_all(std::slice::from_ref(&item)).unwrap();
                if retain {
                    store.retain(&key.job, &[BatchId(version)]).unwrap();
                }
            }
            prop_assert_eq!(store.inventory().unwrap(), model.inventory().unwrap());
            prop_assert_eq!(store.load(&key).unwrap(), model.load(&key).unwrap());
        }
        prop_assert!(store.pending.is_empty());
    }
}
