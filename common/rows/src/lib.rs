//! Records and rows as they are received, stored and written: where the records of a stream end, how a block holds
//! them, rows as JSON lines and in Parquet files, compressed files. Arrow, and no query engine.

mod caught;
mod compression;
mod days;
mod error;
mod floats;
mod json;
mod parquet;
pub mod records;
mod types;

pub use arrow;
pub use caught::caught;
pub use compression::{Compression, Compressor, decompressed};
pub use days::{CALENDAR, DAY, NoDate, beginning, day_beginning, day_of_text, timestamp_of_text};
pub use error::RowError;
pub use floats::{canonical, canonical_array, canonical_rows, canonical_single, has_floats};
pub use json::rows_to_json;
pub use parquet::{BadRow, ParquetRows, parquet_rows};
pub use types::type_name;
