//! Where files are: local directories and object stores, behind one interface.
//!
//! [`Objects`] is a directory in an object store (S3, Google Cloud Storage, Azure Blob Storage, and what speaks as they
//! do) with the few steps that outputs, sources of files and saved models take. Credentials and settings are those of
//! the process's environment, never of a job's definition. Whole files, wherever they are, go through [`read()`],
//! [`write()`] and [`stamp`]; local ones that have to appear as a whole through [`replace`].
//!
//! All calls wait for their end, on whichever thread they are made: requests run on threads of their own. Every request
//! has a deadline and a bounded number of attempts; what fails after these says whether it may pass.

mod connect;
mod error;
mod local;
mod objects;
mod reader;
mod requests;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod whole;

pub use error::StoreError;
pub use local::{replace, sync_dir};
pub use objects::{Entry, Objects};
pub use reader::ObjectReader;
pub use whole::{read, stamp, write};
