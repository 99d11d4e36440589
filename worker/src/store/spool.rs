//! An ordered map with a memory budget: the oldest values go to spill files, one each.
//!
//! File I/O happens outside the map's lock. A value's file goes with the last use of it, so a reader
//! never races with a removal.

use super::{StoreError, Usage, lock};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const SPILL_SUFFIX: &str = "spill";

/// A value that can go to disk and come back.
pub(super) trait Spill: Clone {
    /// What stays in memory when the value does not.
    type Meta: Clone;
    /// The part that stays in memory.
    fn meta(&self) -> Self::Meta;
    /// Bytes in memory.
    fn size(&self) -> u64;
    /// As bytes.
    fn encode(&self) -> Result<Bytes, StoreError>;
    /// From what [`encode`](Self::encode) gave; the error says what is wrong.
    fn decode(bytes: Bytes, meta: &Self::Meta) -> Result<Self, String>;
}

/// A copy of a value on disk.
pub(super) trait Backing: Send + Sync {
    /// Its bytes, checked.
    fn read(&self) -> Result<Bytes, StoreError>;
    /// Where it is, for errors.
    fn path(&self) -> &Path;
    /// The value was removed from the store (and not merely let go at shutdown).
    fn removed(&self) {}
}

/// Bytes that may be on disk, shared by everything of one store.
pub(super) struct DiskBudget {
    limit: u64,
    used: AtomicU64,
}

impl DiskBudget {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Takes `bytes`, or says that there is no room.
    pub(super) fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(used) => Err(StoreError::OutOfSpace { needed: bytes, used, budget: self.limit }),
        }
    }

    /// Counts bytes that are there already, budget or not.
    pub(super) fn found(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

pub(super) struct Spool<K, V: Spill> {
    dir: PathBuf,
    memory_budget: u64,
    disk: Arc<DiskBudget>,
    next_file: AtomicU64,
    /// Held while spilling, so that no two threads choose the same value.
    spilling: Mutex<()>,
    map: Mutex<Map<K, V>>,
}

struct Map<K, V: Spill> {
    entries: BTreeMap<K, Entry<V>>,
    /// Keys of values in memory, oldest first.
    resident: BTreeMap<u64, K>,
    arrivals: u64,
    /// Bytes of values in memory and of values about to be.
    memory: u64,
}

struct Entry<V: Spill> {
    meta: V::Meta,
    size: u64,
    arrival: u64,
    value: Option<V>,
    backing: Option<Arc<dyn Backing>>,
}

impl<K: Ord + Clone, V: Spill> Spool<K, V> {
    /// Opens `dir` for spill files and deletes those of an earlier process.
    pub(super) fn new(dir: PathBuf, memory_budget: u64, disk: Arc<DiskBudget>) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        sweep(&dir)?;
        let map = Map { entries: BTreeMap::new(), resident: BTreeMap::new(), arrivals: 0, memory: 0 };
        Ok(Self {
            dir,
            memory_budget,
            disk,
            next_file: AtomicU64::new(0),
            spilling: Mutex::new(()),
            map: Mutex::new(map),
        })
    }

    /// Holds a value. If the key is there already the old value stays, but a `backing` replaces its old one.
    pub(super) fn put(&self, key: K, value: V, backing: Option<Arc<dyn Backing>>) -> Result<(), StoreError> {
        if backing.is_none() && lock(&self.map).entries.contains_key(&key) {
            return Ok(());
        }
        let size = value.size();
        let (meta, value, backing) = if self.make_room(size)? {
            (value.meta(), Some(value), backing)
        } else {
            let backing = match backing {
                Some(backing) => backing,
                None => self.spill(&value)?,
            };
            (value.meta(), None, Some(backing))
        };
        // A replaced backing is told, and dropped, after the lock is free: both may touch the disk.
        if let Some(old) = lock(&self.map).insert(key, meta, size, value, backing) {
            old.removed();
        }
        Ok(())
    }

    /// Adds a value that is on disk only.
    pub(super) fn found(&self, key: K, meta: V::Meta, size: u64, backing: Arc<dyn Backing>) {
        if let Some(old) = lock(&self.map).insert(key, meta, size, None, Some(backing)) {
            old.removed();
        }
    }

    /// A value, read back from disk if that is where it is; it stays there.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, StoreError> {
        let (meta, backing) = {
            let map = lock(&self.map);
            match map.entries.get(key) {
                None => return Ok(None),
                Some(Entry { value: Some(value), .. }) => return Ok(Some(value.clone())),
                Some(Entry { backing: Some(backing), meta, .. }) => (meta.clone(), backing.clone()),
                Some(_) => return Ok(None),
            }
        };
        V::decode(backing.read()?, &meta)
            .map(Some)
            .map_err(|what| StoreError::Damaged { path: backing.path().to_owned(), what })
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        lock(&self.map).entries.contains_key(key)
    }

    pub(super) fn remove<'a>(&self, keys: impl IntoIterator<Item = &'a K>)
    where
        K: 'a,
    {
        let gone: Vec<_> = {
            let mut map = lock(&self.map);
            keys.into_iter().filter_map(|key| map.remove(key)).collect()
        };
        for entry in gone {
            entry.removed();
        }
    }

    pub(super) fn remove_range(&self, range: RangeInclusive<K>) {
        let gone: Vec<_> = {
            let mut map = lock(&self.map);
            let keys: Vec<K> = map.entries.range(range).map(|(key, _)| key.clone()).collect();
            keys.iter().filter_map(|key| map.remove(key)).collect()
        };
        for entry in gone {
            entry.removed();
        }
    }

    /// Key, memory part and size of the values in a range, in key order.
    pub(super) fn list(&self, range: RangeInclusive<K>) -> Vec<(K, V::Meta, u64)> {
        let map = lock(&self.map);
        map.entries.range(range).map(|(key, entry)| (key.clone(), entry.meta.clone(), entry.size)).collect()
    }

    pub(super) fn usage(&self) -> Usage {
        let map = lock(&self.map);
        Usage { blocks: map.entries.len() as u64, memory_bytes: map.memory, disk_bytes: self.disk.used() }
    }

    /// Reserves memory for a new value, spilling the oldest ones until there is room. False if there is
    /// none to be had: then the value has to go to disk itself.
    fn make_room(&self, size: u64) -> Result<bool, StoreError> {
        if size > self.memory_budget {
            return Ok(false);
        }
        if lock(&self.map).reserve(size, self.memory_budget) {
            return Ok(true);
        }
        let _only_one = lock(&self.spilling);
        loop {
            let oldest = {
                let mut map = lock(&self.map);
                if map.reserve(size, self.memory_budget) {
                    return Ok(true);
                }
                map.oldest()
            };
            let Some((key, arrival, value, backing)) = oldest else { return Ok(false) };
            let backing = match backing {
                Some(backing) => backing,
                None => self.spill(&value)?,
            };
            lock(&self.map).evict(&key, arrival, backing);
        }
    }

    fn spill(&self, value: &V) -> Result<Arc<dyn Backing>, StoreError> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number:016}.{SPILL_SUFFIX}"));
        Ok(Arc::new(SpillFile::write(path, &value.encode()?, self.disk.clone())?))
    }
}

impl<K: Ord + Clone, V: Spill> Map<K, V> {
    fn reserve(&mut self, size: u64, budget: u64) -> bool {
        let fits = self.memory.saturating_add(size) <= budget;
        if fits {
            self.memory += size;
        }
        fits
    }

    /// Puts in a value whose memory is reserved (if it has any). Gives back the backing that is not needed any more.
    fn insert(
        &mut self,
        key: K,
        meta: V::Meta,
        size: u64,
        value: Option<V>,
        backing: Option<Arc<dyn Backing>>,
    ) -> Option<Arc<dyn Backing>> {
        if let Some(present) = self.entries.get_mut(&key) {
            if value.is_some() {
                self.memory -= size;
            }
            return backing.and_then(|new| present.backing.replace(new));
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        if value.is_some() {
            self.resident.insert(arrival, key.clone());
        }
        self.entries.insert(key, Entry { meta, size, arrival, value, backing });
        None
    }

    #[allow(clippy::type_complexity, reason = "taken apart at the one place of use")]
    fn oldest(&self) -> Option<(K, u64, V, Option<Arc<dyn Backing>>)> {
        let (arrival, key) = self.resident.first_key_value()?;
        let entry = self.entries.get(key)?;
        Some((key.clone(), *arrival, entry.value.clone()?, entry.backing.clone()))
    }

    /// Drops a value from memory, now that `backing` has it; unless it was removed meanwhile.
    fn evict(&mut self, key: &K, arrival: u64, backing: Arc<dyn Backing>) {
        let Some(entry) = self.entries.get_mut(key).filter(|e| e.arrival == arrival) else {
            return;
        };
        entry.backing.get_or_insert(backing);
        if entry.value.take().is_some() {
            self.memory -= entry.size;
            self.resident.remove(&arrival);
        }
    }

    fn remove(&mut self, key: &K) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        if entry.value.is_some() {
            self.memory -= entry.size;
            self.resident.remove(&entry.arrival);
        }
        Some(entry)
    }
}

impl<V: Spill> Entry<V> {
    fn removed(self) {
        if let Some(backing) = self.backing {
            backing.removed();
        }
    }
}

/// One value in a file of its own, deleted when nobody uses it any more.
struct SpillFile {
    path: PathBuf,
    len: u64,
    crc: u32,
    disk: Arc<DiskBudget>,
}

impl SpillFile {
    fn write(path: PathBuf, bytes: &[u8], disk: Arc<DiskBudget>) -> Result<Self, StoreError> {
        let len = bytes.len() as u64;
        disk.take(len)?;
        // From here on dropping it cleans up.
        let file = Self { path, len, crc: crc32fast::hash(bytes), disk };
        File::create_new(&file.path)
            .and_then(|mut out| out.write_all(bytes))
            .map_err(StoreError::io("write", &file.path))?;
        Ok(file)
    }
}

impl Backing for SpillFile {
    fn read(&self) -> Result<Bytes, StoreError> {
        let mut bytes = Vec::with_capacity(self.len as usize);
        File::open(&self.path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(StoreError::io("read", &self.path))?;
        if bytes.len() as u64 != self.len || crc32fast::hash(&bytes) != self.crc {
            let what = format!("{} bytes with another checksum than was written", bytes.len());
            return Err(StoreError::Damaged { path: self.path.clone(), what });
        }
        Ok(bytes.into())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot delete a spill file");
        }
        self.disk.give_back(self.len);
    }
}

/// Deletes what an earlier process spilled: nobody knows it any more.
fn sweep(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let path = entry.map_err(StoreError::io("list", dir))?.path();
        if path.extension().is_some_and(|suffix| suffix == SPILL_SUFFIX) {
            fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
        }
    }
    Ok(())
}
