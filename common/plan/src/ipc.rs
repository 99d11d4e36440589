//! Record batches as bytes: the Arrow IPC stream format, one schema for all batches, and a checksum behind it.

use crate::error::PlanError;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::root_as_message;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::record_batch::RecordBatch;
use std::io::Cursor;
use tidemill_rows::caught;
use twox_hash::XxHash3_64;

/// Writes batches of one schema.
///
/// # Errors
/// When a batch does not have that schema.
pub fn to_ipc(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<u8>, PlanError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    let mut bytes = writer.into_inner()?;
    let checksum = XxHash3_64::oneshot(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// Reads what [`to_ipc`] wrote; a batch without rows stays one.
///
/// # Errors
/// [`PlanError::Malformed`] for any other bytes.
pub fn from_ipc(bytes: &[u8]) -> Result<Vec<RecordBatch>, PlanError> {
    let (stream, checksum) = bytes.split_last_chunk().ok_or_else(cut_short)?;
    if XxHash3_64::oneshot(stream) != u64::from_le_bytes(*checksum) {
        return Err(PlanError::Malformed("rows do not have their checksum".into()));
    }
    // A right checksum does not make sense of bytes that make none: the reader believes the lengths it finds, and panics over
    // some of the rest.
    check_lengths(stream).ok_or_else(cut_short)?;
    let read = || StreamReader::try_new(Cursor::new(stream), None)?.collect::<Result<_, _>>();
    let rows = caught(read).ok_or_else(|| PlanError::Malformed("no rows that Arrow reads".into()))?;
    Ok(rows?)
}

/// Whether every message of a stream ends within it. A message is the length of its head after four bytes of `ff`, the head, and
/// as many bytes as that says; one with a head of no bytes is the last.
fn check_lengths(stream: &[u8]) -> Option<()> {
    let mut rest = stream;
    while !rest.is_empty() {
        let (mark, after) = rest.split_first_chunk::<4>()?;
        // Streams of before there was a mark are not written here.
        let (length, after) = after.split_first_chunk::<4>().filter(|_| *mark == [0xff; 4])?;
        let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
        if length == 0 {
            return Some(());
        }
        let (head, after) = after.split_at_checked(length)?;
        let body = root_as_message(head).ok()?.bodyLength();
        rest = after.get(usize::try_from(body).ok()?..)?;
    }
    Some(())
}

fn cut_short() -> PlanError {
    PlanError::Malformed("rows are cut short".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some(""), None]));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap()
    }

    #[test]
    fn round_trip() {
        let batches = vec![batch(), batch().slice(1, 2), batch().slice(0, 0)];
        let bytes = to_ipc(&batches, &batch().schema()).unwrap();
        assert_eq!(from_ipc(&bytes).unwrap(), batches);
        let none = to_ipc(&[], &batch().schema()).unwrap();
        assert_eq!(from_ipc(&none).unwrap(), Vec::<RecordBatch>::new());
    }

    #[test]
    fn a_right_checksum_does_not_help() {
        let good = to_ipc(&[batch()], &batch().schema()).unwrap();
        let stream = &good[..good.len() - 8];
        let mut refused = 0;
        for (at, byte) in (0..stream.len()).flat_map(|at| [0, 1, 0x7f, 0xff].map(|byte| (at, byte))) {
            let mut stream = stream.to_vec();
            stream[at] = byte;
            let checksum = XxHash3_64::oneshot(&stream).to_le_bytes();
            refused += u32::from(from_ipc(&[&stream[..], &checksum].concat()).is_err());
        }
        assert!(refused > 100);
    }

    proptest! {
        #[test]
        fn bad_bytes_are_refused(at in 0usize..10_000, byte: u8, cut in prop_oneof![0usize..2_000, Just(usize::MAX)]) {
            let good = to_ipc(&[batch()], &batch().schema()).unwrap();
            let mut bytes = good.clone();
            bytes[at % good.len()] = byte;
            bytes.truncate(cut.min(good.len()));
            prop_assert_eq!(from_ipc(&bytes).is_ok(), bytes == good);
        }
    }
}
