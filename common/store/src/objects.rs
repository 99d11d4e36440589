//! A directory in an object store: objects whose names begin with the same prefix and `/`.

use crate::StoreError;
use crate::connect;
use crate::reader::ObjectReader;
use crate::requests::{Failed, in_time, wait};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tidemill_common::location::ObjectUrl;
use twox_hash::XxHash3_64;

/// What is longer is sent in pieces of this many bytes.
const PIECE: usize = 16 << 20;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A directory in an object store. Names are relative to it and may have several parts.
#[derive(Debug, Clone)]
pub struct Objects {
    /// None for the client that all directories of the bucket share.
    store: Option<Arc<dyn ObjectStore>>,
    url: ObjectUrl,
}

/// An object as it is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name within the directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970. Of an object that is a whole second, and what is left of it
    /// stands for the object's tag: stores tell times by the second, so only the tag tells two contents of one second
    /// apart.
    pub modified_ns: i64,
}

impl Entry {
    /// A file of this side. One whose time the system does not tell is taken for one of 1970.
    pub fn of_file(name: String, found: &Metadata) -> Self {
        let since = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Self { name, size: found.len(), modified_ns }
    }

    /// When it was changed last, in seconds since 1970: what objects can be ordered by.
    pub fn modified_s(&self) -> i64 {
        self.modified_ns / NANOS_PER_SECOND
    }
}

impl Objects {
    /// The directory at a URL. Nothing is asked yet.
    pub fn new(url: ObjectUrl) -> Self {
        Self { store: None, url }
    }

    /// The directory at a URL of a store that is open already.
    pub fn over(store: Arc<dyn ObjectStore>, url: ObjectUrl) -> Self {
        Self { store: Some(store), url }
    }

    /// Where this is.
    pub fn url(&self) -> &ObjectUrl {
        &self.url
    }

    /// Puts an object in place, as a whole or not at all.
    ///
    /// # Errors
    /// All but [`StoreError::NotFound`].
    pub fn put(&self, name: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let bytes = bytes.into();
        self.upload(name, bytes.len() as u64, Cursor::new(bytes))
    }

    /// Puts a file in place, as a whole or not at all.
    ///
    /// # Errors
    /// All but [`StoreError::NotFound`].
    pub fn put_file(&self, name: &str, file: &Path) -> Result<(), StoreError> {
        let open = || Ok::<_, io::Error>((File::open(file)?, std::fs::metadata(file)?.len()));
        let (from, size) = open().map_err(|error| StoreError::Local { path: file.display().to_string(), error })?;
        self.upload(name, size, from)
    }

    /// An object as it is now; none if it is not there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, StoreError> {
        let found = self.at(name, |store, key| async move { in_time(store.head(&key)).await });
        match found {
            Ok(found) => Ok(Some(entry(name.to_owned(), &found))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Objects in the directory, but for those in directories of their own, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let found = self.at("", |store, key| async move { in_time(store.list_with_delimiter(Some(&key))).await })?;
        let mut entries: Vec<Entry> =
            found.objects.iter().filter_map(|found| Some(entry(self.name_of(found)?, found))).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Names of all objects below a directory within this one, ascending.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn names_below(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let found = self.at(name, |store, key| async move {
            in_time(store.list(Some(&key)).try_collect::<Vec<ObjectMeta>>()).await
        })?;
        let mut names: Vec<String> = found.iter().filter_map(|found| self.name_of(found)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Begins to read an object.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn reader(&self, name: &str) -> Result<ObjectReader, StoreError> {
        let found = self.at(name, |store, key| async move { in_time(store.head(&key)).await })?;
        Ok(ObjectReader::new(self.clone(), entry(name.to_owned(), &found), found.e_tag))
    }

    /// All of an object.
    ///
    /// # Errors
    /// See [`StoreError`]; among them that it has more than `limit` bytes.
    pub fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        // One request, so that what is replaced all the time can be read, too.
        let found = self.at(name, move |store, key| async move {
            in_time(async {
                let found = store.get_opts(&key, GetOptions::default()).await?;
                let size = found.meta.size;
                Ok::<_, Failed>(if size > limit { Err(size) } else { Ok(found.bytes().await?) })
            })
            .await
        })?;
        found.map_err(|bytes| StoreError::TooLong { url: self.url.child(name).to_string(), bytes, limit })
    }

    /// Removes objects. That one of them is not there is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn remove(&self, names: Vec<String>) -> Result<(), StoreError> {
        let keys = names.iter().map(|name| Key::parse(self.url.child(name).key()).map_err(object_store::Error::from));
        let keys: Vec<object_store::Result<Key>> = keys.collect();
        self.at("", |store, _| async move {
            let mut removed = store.delete_stream(futures::stream::iter(keys).boxed());
            while let Some(removed) = in_time(async { removed.next().await.transpose() }).await.transpose() {
                match removed {
                    Ok(_) | Err(Failed::Store(object_store::Error::NotFound { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    /// Does something at a name, and says of it what failed.
    pub(crate) fn at<T: Send + 'static, F: Future<Output = Result<T, Failed>> + Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(Arc<dyn ObjectStore>, Key) -> F,
    ) -> Result<T, StoreError> {
        let url = if name.is_empty() { self.url.clone() } else { self.url.child(name) };
        let key =
            Key::parse(url.key()).map_err(|error| StoreError::of(&url, object_store::Error::from(error).into()))?;
        let store = match &self.store {
            Some(store) => store.clone(),
            None => connect::client(&url)?,
        };
        wait(work(store, key)).map_err(|failed| StoreError::of(&url, failed))
    }

    fn upload(&self, name: &str, size: u64, mut from: impl Read + Send + 'static) -> Result<(), StoreError> {
        self.at(name, move |store, key| async move {
            if size <= PIECE as u64 {
                let mut bytes = Vec::with_capacity(size as usize);
                from.read_to_end(&mut bytes)?;
                in_time(store.put(&key, PutPayload::from(bytes))).await?;
                return Ok(());
            }
            let mut upload = in_time(store.put_multipart(&key)).await?;
            let sent = async {
                loop {
                    let mut piece = Vec::with_capacity(PIECE);
                    from.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
                    if piece.is_empty() {
                        break;
                    }
                    in_time(upload.put_part(PutPayload::from(piece))).await?;
                }
                in_time(upload.complete()).await.map(|_| ())
            };
            let sent: Result<(), Failed> = sent.await;
            if sent.is_err() {
                // Pieces that stay would cost money. That it failed is known already.
                let _ = in_time(upload.abort()).await;
            }
            sent
        })
    }

    /// A found object's name within the directory; none for one outside, as the marker of the directory itself.
    fn name_of(&self, found: &ObjectMeta) -> Option<String> {
        let key = found.location.as_ref();
        let name = match self.url.key() {
            "" => key,
            prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        (!name.is_empty()).then(|| name.to_owned())
    }
}

fn entry(name: String, found: &ObjectMeta) -> Entry {
    let modified_ns = found.last_modified.timestamp().saturating_mul(NANOS_PER_SECOND);
    Entry { name, size: found.size, modified_ns: modified_ns.saturating_add(tag_number(found.e_tag.as_deref())) }
}

/// A number below 10^9 for a tag, for ever the same: it is in the driver's log. Listings and answers differ in whether the tag has quotes.
fn tag_number(tag: Option<&str>) -> i64 {
    let Some(tag) = tag else { return 0 };
    let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
    (XxHash3_64::oneshot(tag.as_bytes()) % NANOS_PER_SECOND as u64) as i64
}

#[cfg(test)]
mod tests;
