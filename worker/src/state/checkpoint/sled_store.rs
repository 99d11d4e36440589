//! Checkpoints in sled: one database per worker process.
//!
//! sled is used for what it does well: many small inserts into one log. Order of writing makes a crash
//! harmless: pending, chunks, manifest, then one sync. A log cut off anywhere leaves whole checkpoints and
//! chunks that `pending` names, which are removed at the next start.

use super::chain::{Links, chain, unneeded};
use super::record::{
    CHUNK, Manifest, chunk_key, job_prefix, manifest_key, parse_manifest_key, parse_write_key, partition_prefix,
    write_key,
};
use super::{CheckpointItem, CheckpointKey, DAMAGED, JobKey, StateStore, StoreError};
use bytes::Bytes;
use sled::{Db, Tree};
use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidemill_common::ids::BatchId;
use twox_hash::XxHash3_64;

#[cfg(test)]
mod tests;

/// Raised when the layout in [`super::record`] changes.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";

/// What sled keeps in memory, in bytes. Its default is 1 GiB.
const CACHE_BYTES: u64 = 32 << 20;

/// sled holds its lock for some time after it was dropped; a second in all is enough.
const LOCK_WAITS_MS: [u64; 7] = [10, 20, 40, 80, 160, 320, 400];

/// How many damaged directories are kept; with one more the store cannot be opened until someone looks.
const MOST_MOVED_ASIDE: usize = 100;

/// A [`StateStore`] in a directory of its own.
#[derive(Debug)]
pub struct CheckpointStore {
    path: PathBuf,
    db: Db,
    manifests: Tree,
    chunks: Tree,
    pending: Tree,
    damaged: AtomicU64,
}

impl CheckpointStore {
    /// Opens or creates the store in the directory `path`. Blocks for up to a second while it is locked.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(io_at(&path))?;
        let mut waits = LOCK_WAITS_MS.iter();
        loop {
            let result = Self::try_open(&path);
            match (result, waits.next()) {
                (Err(StoreError::Locked { .. }), Some(&wait)) => {
                    std::thread::sleep(Duration::from_millis(wait));
                }
                (Err(StoreError::Database(error)), _) => return Err(move_aside(path, error)),
                (result, _) => return result,
            }
        }
    }

    fn try_open(path: &Path) -> Result<Self, StoreError> {
        remove_half_made_snapshots(path)?;
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES);
        let db = open_sled(&config).map_err(|error| match error {
            sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
                StoreError::Locked { path: path.to_owned() }
            }
            sled::Error::Io(error) => io_at(path)(error),
            error => error.into(),
        })?;
        check_format(path, &db)?;
        let store = Self {
            path: path.to_owned(),
            manifests: db.open_tree("manifest")?,
            chunks: db.open_tree("chunk")?,
            pending: db.open_tree("pending")?,
            damaged: AtomicU64::new(0),
            db,
        };
        for write in store.pending.iter().keys() {
            store.settle(&write?)?;
        }
        Ok(store)
    }

    /// Bytes of the files, which never shrink but are reused.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.db.size_on_disk()?)
    }

    /// Writes one item without a sync. Returns the writes that have to be settled after it.
    fn write(&self, item: &CheckpointItem) -> Result<Vec<Vec<u8>>, StoreError> {
        let bytes = item.payload.bytes();
        let manifest = Manifest {
            on: item.payload.on(),
            write: self.db.generate_id()?,
            bytes: bytes.len() as u64,
            hash: XxHash3_64::oneshot(bytes),
        };
        let write = write_key(&item.key, manifest.write);
        self.pending.insert(&write, &[])?;
        for (number, chunk) in (0u32..).zip(bytes.chunks(CHUNK)) {
            self.chunks.insert(chunk_key(&write, number), chunk)?;
        }
        let encoded = manifest.encode().map_err(io::Error::other);
        let encoded = encoded.map_err(io_at(&self.path))?;
        let replaced = self.manifests.insert(manifest_key(&item.key), encoded)?;
        let mut writes = vec![write];
        if let Some(old) = replaced.and_then(|old| Manifest::decode(&old)) {
            let old = write_key(&item.key, old.write);
            self.pending.insert(&old, &[])?;
            writes.push(old);
        }
        Ok(writes)
    }

    /// Removes the chunks of a pending write, unless a manifest names it.
    fn settle(&self, write: &[u8]) -> Result<(), StoreError> {
        let counts = match parse_write_key(write) {
            Some((key, id)) => self.manifest(&key)?.is_some_and(|m| m.write == id),
            None => false,
        };
        if !counts {
            for chunk in self.chunks.scan_prefix(write).keys() {
                self.chunks.remove(chunk?)?;
            }
        }
        self.pending.remove(write)?;
        Ok(())
    }

    fn remove(&self, key: &CheckpointKey) -> Result<(), StoreError> {
        let Some(manifest) = self.manifest(key)? else {
            self.manifests.remove(manifest_key(key))?;
            return Ok(());
        };
        let write = write_key(key, manifest.write);
        self.pending.insert(&write, &[])?;
        self.manifests.remove(manifest_key(key))?;
        self.settle(&write)
    }

    fn manifest(&self, key: &CheckpointKey) -> Result<Option<Manifest>, StoreError> {
        let found = self.manifests.get(manifest_key(key))?;
        Ok(found.and_then(|bytes| Manifest::decode(&bytes)))
    }

    /// What the manifests below `prefix` say. One that cannot be read counts as a base, and never verifies.
    fn links(&self, prefix: &[u8]) -> Result<Links, StoreError> {
        let mut links = Links::new();
        for entry in self.manifests.scan_prefix(prefix) {
            let (key, manifest) = entry?;
            if let Some(key) = parse_manifest_key(&key) {
                let on = Manifest::decode(&manifest).and_then(|manifest| manifest.on);
                links.insert(key, on);
            }
        }
        Ok(links)
    }

    /// The bytes of one checkpoint, if they are what its manifest says.
    fn read(&self, key: &CheckpointKey) -> Result<Option<Bytes>, StoreError> {
        let whole = match self.manifest(key)? {
            Some(manifest) => self.read_write(&write_key(key, manifest.write), &manifest)?,
            None => None,
        };
        if whole.is_none() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            DAMAGED.add(1);
            tracing::warn!(
                job = key.job.job.0, stage = key.stage.0, group = key.group.0, version = key.version.0,
                path = %self.path.display(), "checkpoint is damaged and will not be used"
            );
        }
        Ok(whole)
    }

    fn read_write(&self, write: &[u8], manifest: &Manifest) -> Result<Option<Bytes>, StoreError> {
        let mut bytes = Vec::new();
        for (number, entry) in (0u32..).zip(self.chunks.scan_prefix(write)) {
            let (key, chunk) = match entry {
                Err(sled::Error::Corruption { .. }) => return Ok(None),
                entry => entry?,
            };
            bytes.extend_from_slice(&chunk);
            if *key != *chunk_key(write, number) || bytes.len() as u64 > manifest.bytes {
                return Ok(None);
            }
        }
        let whole = bytes.len() as u64 == manifest.bytes && XxHash3_64::oneshot(&bytes) == manifest.hash;
        Ok(whole.then(|| bytes.into()))
    }

    /// sled's own flush hands the log to the operating system, no more.
    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        let log = self.path.join("db");
        let synced = File::open(&log).and_then(|file| file.sync_all());
        synced.map_err(io_at(&log))
    }
}

impl StateStore for CheckpointStore {
    fn write_all(&self, items: &[CheckpointItem]) -> Result<(), StoreError> {
        let mut writes = Vec::new();
        for item in items {
            writes.extend(self.write(item)?);
        }
        self.sync()?;
        for write in writes {
            self.settle(&write)?;
        }
        Ok(())
    }

    fn load(&self, key: &CheckpointKey) -> Result<Option<Vec<Bytes>>, StoreError> {
        let links = self.links(&partition_prefix(key))?;
        let Some(keys) = chain(&links, *key) else {
            return Ok(None);
        };
        keys.iter().map(|key| self.read(key)).collect()
    }

    fn inventory(&self) -> Result<Vec<CheckpointKey>, StoreError> {
        let mut whole = Links::new();
        for (key, on) in self.links(&[])? {
            if self.read(&key)?.is_some() {
                whole.insert(key, on);
            }
        }
        let loadable = whole.keys().filter(|key| chain(&whole, **key).is_some());
        Ok(loadable.copied().collect())
    }

    fn retain(&self, job: &JobKey, keep: &[BatchId]) -> Result<(), StoreError> {
        let links = self.links(&job_prefix(job))?;
        let mut unneeded = unneeded(&links, keep).into_iter();
        unneeded.try_for_each(|key| self.remove(&key))
    }

    fn forget_job(&self, job: &JobKey) -> Result<(), StoreError> {
        let links = self.links(&job_prefix(job))?;
        links.keys().try_for_each(|key| self.remove(key))
    }

    fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

/// sled panics over some kinds of damage instead of reporting them.
fn open_sled(config: &sled::Config) -> sled::Result<Db> {
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
    opened.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        let text = text.unwrap_or_else(|| "sled panicked".to_owned());
        Err(sled::Error::ReportableBug(text))
    })
}

/// sled cannot open a directory in which it was killed while it made a snapshot of its page table.
/// Under its lock, so that no snapshot is taken away from a process that is just making one.
fn remove_half_made_snapshots(path: &Path) -> Result<(), StoreError> {
    let lock = match File::open(path.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_at(path)(error)),
    };
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => io_at(path)(error),
    })?;
    for entry in fs::read_dir(path).map_err(io_at(path))? {
        let entry = entry.map_err(io_at(path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(io_at(&entry.path()))?;
        }
    }
    Ok(())
}

fn check_format(path: &Path, db: &Db) -> Result<(), StoreError> {
    let found = match db.get(FORMAT_KEY)? {
        Some(bytes) => {
            let number = <[u8; 4]>::try_from(&*bytes).map(u32::from_be_bytes).ok().filter(|number| *number > 0);
            number.ok_or_else(|| sled::Error::ReportableBug("the number of its format does not read".into()))?
        }
        None => {
            db.insert(FORMAT_KEY, &FORMAT.to_be_bytes())?;
            FORMAT
        }
    };
    if found > FORMAT {
        return Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
    }
    Ok(())
}

/// Renames the directory, so that nothing is lost and the next attempt starts empty.
fn move_aside(path: PathBuf, error: sled::Error) -> StoreError {
    let candidates = (1u32..).map(|n| {
        let mut name = path.clone().into_os_string();
        name.push(format!(".corrupt-{n}"));
        PathBuf::from(name)
    });
    let free = candidates.take(MOST_MOVED_ASIDE).find(|to| !to.exists());
    let Some(moved_to) = free else {
        return StoreError::Database(error);
    };
    match fs::rename(&path, &moved_to) {
        Ok(()) => StoreError::Corrupt { path, moved_to, reason: error.to_string() },
        Err(error) => io_at(&path)(error),
    }
}
