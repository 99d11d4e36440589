//! Reading an object piece by piece.

use crate::requests::in_time;
use crate::{Entry, Objects, StoreError};
use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore};

/// Bytes that are asked for at once.
const PIECE: u64 = 4 << 20;

/// Reads one version of an object: if it is replaced meanwhile, that is an error and no other content.
#[derive(Debug)]
pub struct ObjectReader {
    objects: Objects,
    entry: Entry,
    tag: Option<String>,
    /// What was read.
    read: u64,
}

impl ObjectReader {
    pub(crate) fn new(objects: Objects, entry: Entry, tag: Option<String>) -> Self {
        Self { objects, entry, tag, read: 0 }
    }

    /// The object that is read.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The next bytes; none at the end. After an error that [passes](StoreError::is_passing) it goes on where it was.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn next_bytes(&mut self) -> Result<Option<Bytes>, StoreError> {
        let end = self.entry.size.min(self.read + PIECE);
        if self.read == end {
            return Ok(None);
        }
        let range = GetRange::Bounded(self.read..end);
        let options = GetOptions { range: Some(range), if_match: self.tag.clone(), ..GetOptions::default() };
        let bytes = self.objects.at(&self.entry.name, |store, key| async move {
            in_time(async { store.get_opts(&key, options).await?.bytes().await }).await
        })?;
        // A store without tags may have another, shorter object by now.
        if bytes.len() as u64 != end - self.read {
            return Err(StoreError::Changed { url: self.objects.url().child(&self.entry.name).to_string() });
        }
        self.read = end;
        Ok(Some(bytes))
    }
}
