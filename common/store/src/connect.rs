//! Clients of object stores, one per bucket, with the settings of the environment.

use crate::StoreError;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tidemill_common::location::ObjectUrl;

/// Attempts at a request after the first one.
const RETRIES: usize = 5;
/// No attempt begins later.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Clients that are kept; each has a pool of connections.
const CLIENTS: usize = 64;

/// The client of the URL's bucket; the same one every time.
pub(crate) fn client(url: &ObjectUrl) -> Result<Arc<dyn ObjectStore>, StoreError> {
    static CLIENTS_BY_BUCKET: OnceLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = OnceLock::new();
    let mut clients = CLIENTS_BY_BUCKET.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(url.bucket()) {
        return Ok(client.clone());
    }
    let client = connect(url)
        .map_err(|error| StoreError::Settings { url: url.bucket().to_owned(), reason: error.to_string() })?;
    if clients.len() >= CLIENTS {
        clients.clear();
    }
    clients.insert(url.bucket().to_owned(), client.clone());
    Ok(client)
}

fn connect(url: &ObjectUrl) -> object_store::Result<Arc<dyn ObjectStore>> {
    let bucket = url.bucket();
    let backoff = BackoffConfig { max_backoff: LONGEST_WAIT, ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
    Ok(match url.scheme() {
        "s3" => Arc::new(AmazonS3Builder::from_env().with_url(bucket).with_retry(retry).build()?),
        "gs" => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(bucket).with_retry(retry).build()?),
        _ => Arc::new(MicrosoftAzureBuilder::from_env().with_url(bucket).with_retry(retry).build()?),
    })
}
