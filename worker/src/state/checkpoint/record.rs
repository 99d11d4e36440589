//! How checkpoints are laid out in the database.
//!
//! tree `manifest`: cluster u64 | job u64 | stage u32 | group u32 | version u64 -> [`Manifest`]
//! tree `chunk`:    the same | write u64 | number u32 -> at most [`CHUNK`] bytes
//! tree `pending`:  the same | write u64 -> nothing
//!
//! Numbers in keys are big endian. A *write* is one attempt to store a checkpoint; the manifest names the
//! one that counts. `pending` lists writes whose chunks may have to be removed.

use super::{CheckpointKey, JobKey};
use serde::{Deserialize, Serialize};
use tidemill_common::ids::{BatchId, JobId, KeyGroup, StageId};

/// Longest value, in bytes. sled puts nodes above 128 KiB into files of their own, which it neither syncs nor
/// removes. A node has up to 17 values until it splits, and 20 and more when it was merged with a shrinking neighbour.
pub(super) const CHUNK: usize = 5 << 10;

/// What proves a checkpoint whole. Written after its chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The checkpoint it is a delta on; none for a base.
    pub(crate) on: Option<BatchId>,
    /// The write whose chunks count.
    pub(crate) write: u64,
    /// Bytes in all chunks together.
    pub(crate) bytes: u64,
    /// xxh3 of them.
    pub(crate) hash: u64,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Prefix of all keys of a job.
pub(super) fn job_prefix(job: &JobKey) -> Vec<u8> {
    let mut out = job.cluster.to_be_bytes().to_vec();
    out.extend(job.job.0.to_be_bytes());
    out
}

/// Prefix of all keys of the partition.
pub(super) fn partition_prefix(key: &CheckpointKey) -> Vec<u8> {
    let mut out = job_prefix(&key.job);
    out.extend(key.stage.0.to_be_bytes());
    out.extend(key.group.0.to_be_bytes());
    out
}

/// Key of a manifest.
pub(crate) fn manifest_key(key: &CheckpointKey) -> Vec<u8> {
    let mut out = partition_prefix(key);
    out.extend(key.version.0.to_be_bytes());
    out
}

/// Prefix of a write's chunks, and its key among the pending ones.
pub(crate) fn write_key(key: &CheckpointKey, write: u64) -> Vec<u8> {
    let mut out = manifest_key(key);
    out.extend(write.to_be_bytes());
    out
}

/// Key of a chunk.
pub(super) fn chunk_key(write_key: &[u8], number: u32) -> Vec<u8> {
    let mut out = write_key.to_vec();
    out.extend(number.to_be_bytes());
    out
}

/// Reads a manifest's key.
pub(crate) fn parse_manifest_key(bytes: &[u8]) -> Option<CheckpointKey> {
    let (cluster, rest) = split_u64(bytes)?;
    let (job, rest) = split_u64(rest)?;
    let (stage, rest) = split_u32(rest)?;
    let (group, rest) = split_u32(rest)?;
    let (version, rest) = split_u64(rest)?;
    let job = JobId(job);
    rest.is_empty().then_some(CheckpointKey {
        job: JobKey { cluster, job },
        stage: StageId(stage),
        group: KeyGroup(group),
        version: BatchId(version),
    })
}

/// Reads the key of a pending write.
pub(crate) fn parse_write_key(bytes: &[u8]) -> Option<(CheckpointKey, u64)> {
    let (key, write) = bytes.split_last_chunk::<8>()?;
    Some((parse_manifest_key(key)?, u64::from_be_bytes(*write)))
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_read_back() {
        let key = CheckpointKey {
            job: JobKey::new("cluster", JobId(3)),
            stage: StageId(1),
            group: KeyGroup(63),
            version: BatchId(1 << 40),
        };
        assert_eq!(parse_manifest_key(&manifest_key(&key)), Some(key));
        assert_eq!(parse_write_key(&write_key(&key, 9)), Some((key, 9)));
        assert_eq!(parse_manifest_key(&write_key(&key, 9)), None);
        assert_eq!(parse_write_key(b"short"), None);
    }

    proptest! {
        #[test]
        fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (Manifest::decode(&noise), parse_manifest_key(&noise), parse_write_key(&noise));
        }
    }
}
