//! Blocks of input this worker holds: what its receivers sealed and what others copied here.

use super::segments::SegmentLog;
use super::spool::{Backing, DiskBudget, Spill, Spool};
use super::{BlockId, DAMAGED, StoreError, Usage};
use bytes::Bytes;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidemill_common::ids::{JobId, SourceIdx};

/// Where blocks may lie and how many bytes of them.
#[derive(Debug, Clone)]
pub struct BlockStoreConfig {
    /// Bytes of blocks in memory; beyond it the oldest go to disk.
    pub memory_budget: usize,
    /// Directory of spill files. Those of an earlier process are deleted.
    pub spill_dir: PathBuf,
    /// Directory of the log of durable blocks; made when first needed.
    pub log_dir: PathBuf,
    /// Bytes in both directories together.
    pub disk_budget: u64,
}

/// A block: whole records, each ending in a newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which.
    pub id: BlockId,
    /// How many records.
    pub records: u64,
    /// The records.
    pub bytes: Bytes,
}

/// The blocks of one worker.
///
/// `put*`, `get` and `recover` may do blocking file I/O; call them where that is allowed.
pub struct BlockStore {
    spool: Spool<BlockId, Held>,
    log: Arc<SegmentLog>,
    /// Blocks that were asked for and did not read as they were written.
    damaged: AtomicU64,
}

#[derive(Clone)]
struct Held {
    records: u64,
    bytes: Bytes,
}

impl Spill for Held {
    type Meta = u64;

    fn meta(&self) -> u64 {
        self.records
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn encode(&self) -> Result<Bytes, StoreError> {
        Ok(self.bytes.clone())
    }

    fn decode(bytes: Bytes, records: &u64) -> Result<Self, String> {
        Ok(Self { records: *records, bytes })
    }
}

impl BlockStore {
    /// An empty store. Blocks of an earlier process's log are read by [`recover`](Self::recover).
    ///
    /// # Errors
    /// When the spill directory cannot be made or swept.
    pub fn new(config: BlockStoreConfig) -> Result<Self, StoreError> {
        let disk = DiskBudget::new(config.disk_budget);
        let spool = Spool::new(config.spill_dir, config.memory_budget as u64, disk.clone())?;
        Ok(Self { spool, log: SegmentLog::new(config.log_dir, disk), damaged: AtomicU64::new(0) })
    }

    /// Reads the log of durable blocks and holds what is whole in it, on disk. Blocks that were removed
    /// while others of their segment were not are among them; the caller knows which it wants.
    ///
    /// # Errors
    /// When the log cannot be read; a torn end is no error.
    pub fn recover(&self) -> Result<Vec<BlockId>, StoreError> {
        let found = self.log.recover()?;
        let mut ids = Vec::with_capacity(found.len());
        for block in found {
            if !self.spool.contains(&block.id) {
                ids.push(block.id);
            }
            self.spool.found(block.id, block.records, block.bytes, block.record);
        }
        Ok(ids)
    }

    /// Holds a block; one that is held already is left as it is.
    ///
    /// # Errors
    /// [`StoreError::OutOfSpace`] when memory and disk are full, or what went wrong with a spill file;
    /// the block is then not held.
    pub fn put(&self, block: Block) -> Result<(), StoreError> {
        let Block { id, records, bytes } = block;
        self.spool.put(id, Held { records, bytes }, None)
    }

    /// Holds a block, in the log too; returns when it is synced. Concurrent calls share a sync.
    ///
    /// # Errors
    /// As [`put`](Self::put), and when the log cannot be written or synced.
    pub fn put_durable(&self, block: Block) -> Result<(), StoreError> {
        let Block { id, records, bytes } = block;
        let record = self.log.append(&id, records, &bytes)?;
        self.spool.put(id, Held { records, bytes }, Some(record.clone())).inspect_err(|_| record.removed())
    }

    /// A block. One that is on disk is read and stays there; one that is damaged is not held any more.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn get(&self, id: &BlockId) -> Result<Option<Block>, StoreError> {
        let held = match self.spool.get(id) {
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(%error, "a block is damaged; its copies on other workers are used");
                self.spool.remove([id]);
                self.damaged.fetch_add(1, Ordering::Relaxed);
                DAMAGED.add(1);
                None
            }
            held => held?,
        };
        Ok(held.map(|Held { records, bytes }| Block { id: *id, records, bytes }))
    }

    /// Lets blocks go; those not held are passed over.
    pub fn remove(&self, ids: &[BlockId]) {
        self.spool.remove(ids);
    }

    /// Lets all blocks of a job go.
    pub fn remove_job(&self, job: JobId) {
        self.spool.remove_range(of_job(job));
    }

    /// The job's blocks in order, each with its number of records and bytes.
    pub fn list(&self, job: JobId) -> Vec<(BlockId, u64, u64)> {
        self.spool.list(of_job(job))
    }

    /// Blocks on disk that did not read as they were written, so far.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed) + self.log.damaged()
    }

    /// How much is held.
    pub fn usage(&self) -> Usage {
        self.spool.usage()
    }
}

fn of_job(job: JobId) -> RangeInclusive<BlockId> {
    let id =
        |source, receiver, rest| BlockId { job, source: SourceIdx(source), receiver, epoch: rest, first_offset: rest };
    id(0, 0, 0)..=id(u32::MAX, u32::MAX, u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::path::Path;
    use std::sync::Barrier;
    use tempfile::TempDir;

    fn open(dir: &Path, memory_budget: usize, disk_budget: u64) -> BlockStore {
        let (spill_dir, log_dir) = (dir.join("spill"), dir.join("log"));
        BlockStore::new(BlockStoreConfig { memory_budget, spill_dir, log_dir, disk_budget }).unwrap()
    }

    fn block(job: u64, first_offset: u64) -> Block {
        let text = format!("{first_offset:099}\n");
        let id = BlockId { job: JobId(job), source: SourceIdx(1), receiver: 2, epoch: 3, first_offset };
        Block { id, records: 1, bytes: text.into() }
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn usage(blocks: u64, memory_bytes: u64, disk_bytes: u64) -> Usage {
        Usage { blocks, memory_bytes, disk_bytes }
    }

    #[test]
    fn the_oldest_go_to_disk_and_come_back() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 250, 1000);
        for offset in 0..5 {
            store.put(block(1, offset)).unwrap();
        }
        assert_eq!(store.usage(), usage(5, 200, 300));
        assert_eq!(files(&dir.path().join("spill")).len(), 3);
        for offset in 0..5 {
            assert_eq!(store.get(&block(1, offset).id).unwrap(), Some(block(1, offset)));
        }
        assert_eq!(store.usage(), usage(5, 200, 300));
        store.put(block(1, 0)).unwrap();
        assert_eq!(store.usage(), usage(5, 200, 300));
        store.remove(&[block(1, 0).id, block(1, 4).id, block(1, 9).id]);
        assert_eq!(store.get(&block(1, 0).id).unwrap(), None);
        assert_eq!(store.usage(), usage(3, 100, 200));
        let listed: Vec<u64> = store.list(JobId(1)).iter().map(|(id, ..)| id.first_offset).collect();
        assert_eq!(listed, [1, 2, 3]);
    }

    #[test]
    fn jobs_go_one_by_one_and_files_with_the_store() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 100, 1000);
        for offset in 0..3 {
            store.put(block(1, offset)).unwrap();
            store.put(block(2, offset)).unwrap();
        }
        store.remove_job(JobId(1));
        assert_eq!((store.list(JobId(1)).len(), store.list(JobId(2)).len()), (0, 3));
        assert_eq!(store.list(JobId(2))[0], (block(2, 0).id, 1, 100));
        drop(store);
        assert_eq!(files(&dir.path().join("spill")), [] as [PathBuf; 0]);
    }

    #[test]
    fn what_an_earlier_process_spilled_is_swept() {
        let dir = TempDir::new().unwrap();
        let left = dir.path().join("spill").join("0000000000000000.spill");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, "old").unwrap();
        open(dir.path(), 100, 1000);
        assert!(!left.exists());
    }

    #[test]
    fn a_full_store_says_so_and_changes_nothing() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 100, 100);
        store.put(block(1, 0)).unwrap();
        store.put(block(1, 1)).unwrap();
        let full = store.put(block(1, 2)).unwrap_err();
        assert!(matches!(full, StoreError::OutOfSpace { needed: 100, used: 100, budget: 100 }));
        assert_eq!(store.usage(), usage(2, 100, 100));
        assert_eq!(store.get(&block(1, 2).id).unwrap(), None);
        store.remove(&[block(1, 0).id]);
        store.put(block(1, 2)).unwrap();
    }

    #[test]
    fn a_block_larger_than_memory_goes_straight_to_disk() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 99, 1000);
        store.put(block(1, 0)).unwrap();
        assert_eq!(store.usage(), usage(1, 0, 100));
        assert_eq!(store.get(&block(1, 0).id).unwrap(), Some(block(1, 0)));
    }

    #[test]
    fn a_damaged_file_is_noticed() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 0, 1000);
        store.put(block(1, 0)).unwrap();
        fs::write(&files(&dir.path().join("spill"))[0], "x".repeat(100)).unwrap();
        assert_eq!(store.get(&block(1, 0).id).unwrap(), None);
        assert_eq!((store.damaged(), store.usage().blocks), (1, 0));
        // A copy from elsewhere takes its place.
        store.put(block(1, 0)).unwrap();
        assert_eq!(store.get(&block(1, 0).id).unwrap(), Some(block(1, 0)));
    }

    #[test]
    fn durable_blocks_come_back_but_for_a_torn_end() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        let store = open(dir.path(), 1000, 10_000);
        for offset in 0..3 {
            store.put_durable(block(1, offset)).unwrap();
        }
        drop(store);
        let segment = &files(&log)[0];
        let whole = fs::metadata(segment).unwrap().len();
        for torn in [1, 60, 155] {
            File::options().write(true).open(segment).unwrap().set_len(whole - torn).unwrap();
            let store = open(dir.path(), 1000, 10_000);
            assert_eq!(store.recover().unwrap(), [block(1, 0).id, block(1, 1).id]);
            assert_eq!(store.usage(), usage(2, 0, whole - torn));
            assert_eq!(store.get(&block(1, 1).id).unwrap(), Some(block(1, 1)));
        }
        let store = open(dir.path(), 1000, 10_000);
        // Not recovered yet: what is there must survive this too.
        store.put_durable(block(1, 7)).unwrap();
        assert_eq!(store.recover().unwrap(), [block(1, 0).id, block(1, 1).id]);
        assert_eq!(files(&log).len(), 2);
        store.remove(&[block(1, 0).id]);
        assert_eq!(files(&log).len(), 2);
        store.remove(&[block(1, 1).id]);
        assert_eq!(files(&log).len(), 1);
        assert_eq!(store.list(JobId(1)), [(block(1, 7).id, 1, 100)]);
    }

    #[test]
    fn a_flipped_bit_costs_one_block() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 1000, 10_000);
        for offset in 0..3 {
            store.put_durable(block(1, offset)).unwrap();
        }
        drop(store);
        let log = dir.path().join("log");
        let segment = &files(&log)[0];
        let whole = fs::read(segment).unwrap();
        for at in [0, 10, 24, 31, 24 + 156 + 3, 24 + 156 + 100, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(segment, bytes).unwrap();
            let store = open(dir.path(), 1000, 10_000);
            let lost = at.checked_sub(24).map(|at| at as u64 / 156);
            let left: Vec<BlockId> = (0..3).filter(|n| Some(*n) != lost).map(|n| block(1, n).id).collect();
            assert_eq!(store.recover().unwrap(), left, "byte {at}");
            assert_eq!(store.damaged(), 1, "byte {at}");
            drop(store);
        }
        // What is damaged is not deleted with the blocks around it.
        let store = open(dir.path(), 1000, 10_000);
        store.recover().unwrap();
        store.remove_job(JobId(1));
        assert_eq!(files(&log), [segment.with_extension("damaged")]);
    }

    #[test]
    fn segments_of_before_there_were_frames_are_read() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        fs::create_dir_all(&log).unwrap();
        let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored/blocks-0");
        fs::copy(stored, log.join("0000000000000000.blocks")).unwrap();
        let store = open(dir.path(), 1000, 10_000);
        assert_eq!(store.recover().unwrap(), [block(1, 0).id, block(1, 1).id]);
        assert_eq!(store.get(&block(1, 1).id).unwrap(), Some(block(1, 1)));
    }

    /// Records of before there were frames.
    fn old_segment(offsets: std::ops::Range<u64>) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        for offset in offsets {
            let Block { id, records, bytes: text } = block(1, offset);
            let mut body = Vec::new();
            [id.job.0, id.epoch, id.first_offset, records].iter().for_each(|n| body.extend(n.to_le_bytes()));
            body.extend(id.source.0.to_le_bytes());
            body.extend(id.receiver.to_le_bytes());
            body.extend_from_slice(&text);
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(crc32fast::hash(&body).to_le_bytes());
            bytes.extend(body);
        }
        let record = bytes.len() / 3;
        (bytes, record)
    }

    #[test]
    fn damage_in_an_old_segment_costs_one_block() {
        let (whole, record) = old_segment(0..3);
        for at in 0..whole.len() {
            let dir = TempDir::new().unwrap();
            let log = dir.path().join("log");
            fs::create_dir(&log).unwrap();
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(log.join("0000000000000000.blocks"), &bytes).unwrap();
            let store = open(dir.path(), 1000, 10_000);
            let left: Vec<BlockId> =
                (0..3).filter(|n| *n != at as u64 / record as u64).map(|n| block(1, n).id).collect();
            assert_eq!(store.recover().unwrap(), left, "byte {at}");
            // A length of the last record that goes beyond the end looks as if it had not been written to its end.
            let torn = store.damaged() == 0;
            assert!(!torn || (2 * record..2 * record + 4).contains(&at), "byte {at}");
            store.remove_job(JobId(1));
            assert!(torn || fs::read(log.join("0000000000000000.damaged")).unwrap() == bytes, "byte {at}");
        }
    }

    /// Blocks are found behind a beginning that is no header at all any more.
    #[test]
    fn a_segment_whose_first_sector_is_lost_gives_the_blocks_behind_it() {
        for fill in [0, 0xff, 7] {
            let dir = TempDir::new().unwrap();
            let store = open(dir.path(), 1000, 10_000);
            (0..6).for_each(|offset| store.put_durable(block(1, offset)).unwrap());
            drop(store);
            let segment = &files(&dir.path().join("log"))[0];
            let mut bytes = fs::read(segment).unwrap();
            bytes[..512].fill(fill);
            fs::write(segment, bytes).unwrap();
            let store = open(dir.path(), 1000, 10_000);
            assert_eq!(store.recover().unwrap(), [block(1, 4).id, block(1, 5).id], "{fill}");
            assert!(store.damaged() > 0);
        }
    }

    /// After an upgrade and a downgrade the newer version finds what it wrote.
    #[test]
    fn a_segment_of_another_version_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let log = dir.path().join("log");
        fs::create_dir(&log).unwrap();
        let mut bytes = tidemill_common::frame::file_header(*b"blks", 9).to_vec();
        tidemill_common::frame::push(&mut bytes, 1, b"who knows");
        let other = log.join("0000000000000004.blocks");
        fs::write(&other, &bytes).unwrap();
        let store = open(dir.path(), 1000, 10_000);
        assert_eq!(store.recover().unwrap(), []);
        store.put_durable(block(1, 0)).unwrap();
        store.remove_job(JobId(1));
        drop(store);
        assert_eq!(fs::read(&other).unwrap(), bytes);
        assert!(files(&log).contains(&log.join("0000000000000005.blocks")), "numbers go on behind it");
    }

    #[test]
    fn durable_blocks_leave_memory_without_a_spill_file() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 100, 10_000);
        store.put(block(1, 0)).unwrap();
        // The same block again, and durable this time.
        store.put_durable(block(1, 0)).unwrap();
        store.put_durable(block(1, 1)).unwrap();
        assert_eq!(files(&dir.path().join("spill")), [] as [PathBuf; 0]);
        assert_eq!(store.usage(), usage(2, 100, 24 + 2 * 156));
        assert_eq!(store.get(&block(1, 0).id).unwrap(), Some(block(1, 0)));
    }

    #[test]
    fn many_threads_put_durably() {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path(), 300, 1 << 20);
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (store, together) = (&store, &together);
                scope.spawn(move || {
                    together.wait();
                    for offset in 0..10 {
                        store.put_durable(block(thread, offset)).unwrap();
                        store.put(block(thread, 100 + offset)).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.usage().blocks, 160);
        assert!(store.usage().memory_bytes <= 300);
        drop(store);
        let store = open(dir.path(), 300, 1 << 20);
        assert_eq!(store.recover().unwrap().len(), 80);
        assert_eq!(store.get(&block(7, 9).id).unwrap(), Some(block(7, 9)));
    }
}
