//! Pieces of the exchanges of running batches: what a unit of work left for the next stage.

use super::spool::{DiskBudget, Spill, Spool};
use super::{StoreError, Usage};
use bytes::{Buf, BufMut, Bytes};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, ExchangeId, JobId};
use tidemill_plan::{Partitioned, from_ipc, to_ipc};

/// Which piece: job, batch, exchange, and the order tag of the unit that made it.
pub type PieceKey = (JobId, BatchId, ExchangeId, u64);

/// The pieces held by one worker. `put` and `get` may do blocking file I/O.
pub struct ShuffleStore {
    spool: Spool<PieceKey, Arc<Partitioned>>,
}

impl Spill for Arc<Partitioned> {
    type Meta = ();

    fn meta(&self) {}

    fn size(&self) -> u64 {
        (self.batch.get_array_memory_size() + self.offsets.len() * size_of::<u32>()) as u64
    }

    fn encode(&self) -> Result<Bytes, StoreError> {
        let mut out = Vec::with_capacity(self.size() as usize);
        out.put_u32_le(self.offsets.len() as u32);
        self.offsets.iter().for_each(|offset| out.put_u32_le(*offset));
        let rows = to_ipc(std::slice::from_ref(&self.batch), &self.batch.schema())
            .map_err(|error| StoreError::Encode(error.to_string()))?;
        out.extend_from_slice(&rows);
        Ok(out.into())
    }

    fn decode(mut bytes: Bytes, (): &()) -> Result<Self, String> {
        let short = |_| "it is too short".to_owned();
        let parts = bytes.try_get_u32_le().map_err(short)?;
        let offsets = (0..parts).map(|_| bytes.try_get_u32_le()).collect::<Result<Vec<_>, _>>().map_err(short)?;
        let mut batches = from_ipc(&bytes).map_err(|error| error.to_string())?;
        match (batches.pop(), batches.is_empty()) {
            (Some(batch), true) => Ok(Arc::new(Partitioned { batch, offsets })),
            _ => Err("it is not one record batch".to_owned()),
        }
    }
}

impl ShuffleStore {
    /// An empty store with a memory budget in bytes; the oldest pieces beyond it go to Arrow IPC files
    /// in `spill_dir` (swept first), at most `disk_budget` bytes of them.
    ///
    /// # Errors
    /// When the spill directory cannot be made or swept.
    pub fn new(memory_budget: usize, spill_dir: PathBuf, disk_budget: u64) -> Result<Self, StoreError> {
        let disk = DiskBudget::new(disk_budget);
        Ok(Self { spool: Spool::new(spill_dir, memory_budget as u64, disk)? })
    }

    /// Holds a piece; one that is held already is left as it is.
    ///
    /// # Errors
    /// [`StoreError::OutOfSpace`] when memory and disk are full, or what went wrong with a spill file.
    pub fn put(&self, key: PieceKey, piece: Arc<Partitioned>) -> Result<(), StoreError> {
        self.spool.put(key, piece, None)
    }

    /// A piece. One that is on disk is read and stays there.
    ///
    /// # Errors
    /// When its file cannot be read or is damaged.
    pub fn get(&self, key: &PieceKey) -> Result<Option<Arc<Partitioned>>, StoreError> {
        self.spool.get(key)
    }

    /// Lets the pieces of a batch go.
    pub fn remove_batch(&self, job: JobId, batch: BatchId) {
        self.spool.remove_range(of_batches(job, batch..=batch));
    }

    /// Lets all pieces of a job go.
    pub fn remove_job(&self, job: JobId) {
        self.spool.remove_range(of_batches(job, BatchId(0)..=BatchId(u64::MAX)));
    }

    /// How much is held (`blocks` counts pieces).
    pub fn usage(&self) -> Usage {
        self.spool.usage()
    }
}

fn of_batches(job: JobId, batches: RangeInclusive<BatchId>) -> RangeInclusive<PieceKey> {
    let (first, last) = batches.into_inner();
    (job, first, ExchangeId(0), 0)..=(job, last, ExchangeId(u32::MAX), u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use tempfile::TempDir;

    fn piece(rows: i64) -> Arc<Partitioned> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let names: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|row| (row % 3 > 0).then_some("name"))));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("s", names, true)]).unwrap();
        Arc::new(Partitioned { batch, offsets: vec![0, rows as u32 / 2, rows as u32] })
    }

    fn key(batch: u64, order: u64) -> PieceKey {
        (JobId(1), BatchId(batch), ExchangeId(2), order)
    }

    #[test]
    fn spilled_pieces_come_back_as_they_were() {
        let dir = TempDir::new().unwrap();
        let budget = piece(100).size() as usize;
        let store = ShuffleStore::new(budget, dir.path().to_owned(), 1 << 20).unwrap();
        for order in 0..3 {
            store.put(key(1, order), piece(100)).unwrap();
        }
        store.put(key(2, 0), piece(0)).unwrap();
        assert!(store.usage().memory_bytes <= budget as u64 && store.usage().disk_bytes > 0);
        for (key, rows) in [(key(1, 0), 100), (key(1, 1), 100), (key(1, 2), 100), (key(2, 0), 0)] {
            let found = store.get(&key).unwrap().unwrap();
            assert_eq!((&found.batch, &found.offsets), (&piece(rows).batch, &piece(rows).offsets));
        }
    }

    #[test]
    fn batches_and_jobs_are_let_go() {
        let dir = TempDir::new().unwrap();
        let store = ShuffleStore::new(1000, dir.path().to_owned(), 1 << 20).unwrap();
        for batch in 1..4 {
            for order in 0..3 {
                store.put(key(batch, order), piece(10)).unwrap();
            }
        }
        store.remove_batch(JobId(1), BatchId(2));
        assert_eq!(store.usage().blocks, 6);
        assert!(store.get(&key(2, 1)).unwrap().is_none() && store.get(&key(3, 1)).unwrap().is_some());
        store.remove_job(JobId(1));
        assert_eq!(store.usage(), Usage::default());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
