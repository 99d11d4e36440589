//! What goes wrong with files that are elsewhere, and what is to be done about it.

use crate::requests::Failed;
use std::error::Error;
use std::io;
use tidemill_common::location::ObjectUrl;

/// The address of a cloud machine's own credentials: asked when the environment has none.
const METADATA: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];
/// How stores say that there is no such bucket.
const NO_BUCKET: [&str; 4] =
    ["NoSuchBucket", "specified bucket does not exist", "ContainerNotFound", "specified container does not exist"];
/// How the client says that it does not talk without encryption.
const PLAIN_HTTP: &str = "URL scheme is not allowed";
/// Bytes of a store's answer that are shown.
const ANSWER_BYTES: usize = 300;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not there.
    #[error("{url}: there is no such object")]
    NotFound {
        /// Of the object.
        url: String,
    },
    /// The bucket is not there.
    #[error("{url}: there is no such bucket; create it, or look at the endpoint and the region in the environment")]
    NoBucket {
        /// Of the object that was asked for.
        url: String,
    },
    /// Nobody has said who asks.
    #[error(
        "{url}: there are no credentials; set {variables} in the environment of the driver and of every worker ({reason})"
    )]
    NoCredentials {
        /// Of the object that was asked for.
        url: String,
        /// What to set.
        variables: &'static str,
        /// What happened without.
        reason: String,
    },
    /// Who asks must not.
    #[error("{url}: access is refused; the credentials in the environment do not allow it ({reason})")]
    Refused {
        /// Of the object that was asked for.
        url: String,
        /// The store's answer.
        reason: String,
    },
    /// It was replaced since it was looked at.
    #[error("{url}: it has changed since it was chosen")]
    Changed {
        /// Of the object.
        url: String,
    },
    /// It has more bytes than may be read at once.
    #[error("{url}: it has {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// Of the file.
        url: String,
        /// Its bytes.
        bytes: u64,
        /// How many may be read.
        limit: u64,
    },
    /// What the environment says cannot be used.
    #[error("{url}: the settings in the environment cannot be used: {reason}")]
    Settings {
        /// Of the bucket.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The URL names a bucket, not an object.
    #[error("{url}: this is a bucket, not an object")]
    NoObject {
        /// Of the bucket.
        url: String,
    },
    /// The store cannot be reached, or cannot answer now; another attempt may succeed.
    #[error("{url}: {reason}")]
    Away {
        /// Of the object that was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The store has refused the request for another reason.
    #[error("{url}: {reason}")]
    Other {
        /// Of the object that was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A file on this side.
    #[error("{path}: {error}")]
    Local {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        error: io::Error,
    },
}

impl StoreError {
    /// Whether another attempt may succeed without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// What a failed step at an object was.
    pub(crate) fn of(url: &ObjectUrl, failed: Failed) -> Self {
        let shown = url.to_string();
        let error = match failed {
            Failed::Store(error) => error,
            Failed::Local(error) => return Self::Local { path: shown, error },
            Failed::Late => return Self::Away { url: shown, reason: Failed::Late.to_string() },
        };
        let all = error.to_string();
        let reason = reason(&error);
        if NO_BUCKET.iter().any(|words| all.contains(words)) {
            return Self::NoBucket { url: shown };
        }
        if METADATA.iter().any(|address| all.contains(address)) {
            return Self::NoCredentials { url: shown, variables: variables(url), reason };
        }
        if all.contains(PLAIN_HTTP) {
            let reason = format!("an endpoint that begins with `http://` has to be allowed: set {}", allow_http(url));
            return Self::Settings { url: shown, reason };
        }
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound { url: shown },
            object_store::Error::Precondition { .. } => Self::Changed { url: shown },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Refused { url: shown, reason }
            }
            // What is left of these are servers that fail, and connections that end.
            object_store::Error::Generic { .. } if !is_answer(&all) => Self::Away { url: shown, reason },
            _ => Self::Other { url: shown, reason },
        }
    }
}

/// Whether the store has understood the request and does not want it: another attempt has the same answer.
fn is_answer(error: &str) -> bool {
    let status = error.split("status code: ").nth(1);
    status.is_some_and(|status| status.starts_with('4') && !status.starts_with("408") && !status.starts_with("429"))
}

/// What the innermost error says: without how long it took and how often it was tried, so that it is the same each time.
fn reason(error: &object_store::Error) -> String {
    let mut inner: &(dyn Error + 'static) = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let mut text = inner.to_string();
    let end = (0..=ANSWER_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    if end < text.len() {
        text.truncate(end);
        text.push_str("..");
    }
    text
}

fn allow_http(url: &ObjectUrl) -> &'static str {
    match url.scheme() {
        "s3" => "AWS_ALLOW_HTTP=true",
        "gs" => "GOOGLE_ALLOW_HTTP=true",
        _ => "AZURE_ALLOW_HTTP=true",
    }
}

fn variables(url: &ObjectUrl) -> &'static str {
    match url.scheme() {
        "s3" => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        "gs" => "GOOGLE_SERVICE_ACCOUNT",
        _ => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tidemill_common::location::Location;

    fn of(error: object_store::Error) -> StoreError {
        let Location::Object(url) = Location::resolve(Path::new(""), "s3://bucket/key") else { panic!("a URL") };
        StoreError::of(&url, error.into())
    }

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn each_says_what_to_do() {
        let (path, source) = (|| "key".to_string(), |text: &str| text.into());
        for (error, passing, text) in [
            (generic("Connection refused"), true, "s3://bucket/key: Connection refused"),
            (generic("status code: 503 Slow Down: later"), true, "s3://bucket/key: status code: 503"),
            (generic("status code: 429 Too Many Requests: later"), true, "s3://bucket/key: status code: 429"),
            (generic("status code: 400 Bad Request: ExpiredToken"), false, "s3://bucket/key: status code: 400"),
            (generic("PUT http://169.254.169.254/latest/api/token"), false, "set AWS_ACCESS_KEY_ID and"),
            (generic("URL scheme is not allowed"), false, "set AWS_ALLOW_HTTP=true"),
            (
                object_store::Error::NotFound { path: path(), source: source("<Code>NoSuchBucket</Code>") },
                false,
                "there is no such bucket",
            ),
            (object_store::Error::NotFound { path: path(), source: source("404") }, false, "there is no such object"),
            (
                object_store::Error::PermissionDenied { path: path(), source: source("403 AccessDenied") },
                false,
                "access is refused; the credentials in the environment do not allow it (403 AccessDenied)",
            ),
            (object_store::Error::Precondition { path: path(), source: source("412") }, false, "it has changed"),
        ] {
            let error = of(error);
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.is_passing(), passing, "{error}");
        }
    }

    #[test]
    fn long_answers_are_cut() {
        let text = of(generic(&"\u{e9}".repeat(1000))).to_string();
        assert!(text.len() < 330 && text.ends_with(".."), "{text}");
    }
}
