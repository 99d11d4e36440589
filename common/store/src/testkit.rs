//! A store in memory whose requests can be made to fail, for tests of what is written into stores.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, RwLock};

/// A store in memory, of which one request, or all from one on, fail as if the store were away.
#[derive(Debug, Default)]
pub struct TestStore {
    objects: RwLock<Arc<InMemory>>,
    requests: AtomicUsize,
    failing: RwLock<std::ops::Range<usize>>,
}

impl TestStore {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Empties it and begins to count requests anew.
    pub fn clear(&self) {
        *self.objects.write().unwrap() = Arc::default();
        self.requests.store(0, SeqCst);
        *self.failing.write().unwrap() = 0..0;
    }

    /// The request after so many others fails.
    pub fn fail_at(&self, number: usize) {
        *self.failing.write().unwrap() = number..number + 1;
    }

    /// Whether all requests fail from now on.
    pub fn set_away(&self, away: bool) {
        *self.failing.write().unwrap() = if away { 0..usize::MAX } else { 0..0 };
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// All objects by their keys.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        let objects = self.inner();
        let read = async {
            let found: Vec<ObjectMeta> = objects.list(None).try_collect().await?;
            let mut contents = BTreeMap::new();
            for found in found {
                let bytes = objects.get(&found.location).await?.bytes().await?;
                contents.insert(found.location.to_string(), bytes);
            }
            Ok::<_, Error>(contents)
        };
        futures::executor::block_on(read).unwrap()
    }

    fn inner(&self) -> Arc<InMemory> {
        self.objects.read().unwrap().clone()
    }

    fn request(&self) -> Result<Arc<InMemory>> {
        let number = self.requests.fetch_add(1, SeqCst);
        if self.failing.read().unwrap().contains(&number) {
            return Err(Error::Generic { store: "test", source: "the store is away".into() });
        }
        Ok(self.inner())
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStore")
    }
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, location: &Key, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.request()?.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Key, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.request()?.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        self.request()?.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        match self.request() {
            Ok(objects) => objects.delete_stream(locations),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.request() {
            Ok(objects) => objects.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.request()?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.request()?.copy_opts(from, to, options).await
    }
}
