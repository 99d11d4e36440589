//! What a task brings for an output: rows, each with its place in the order of the whole batch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};

/// Longest row or key that is believed; beyond it a part is damaged.
const MAX_ROW_BYTES: u32 = 1 << 30;

/// A row of a part. The rows of a part are ascending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartRow {
    /// The lane of the output it came by.
    pub lane: u32,
    /// Order tag of its unit; 0 where rows have keys.
    pub order: u64,
    /// Its encoded key; empty where rows have none.
    pub key: Vec<u8>,
    /// The row.
    pub row: Vec<u8>,
}

/// Writes a part.
///
/// # Errors
/// Those of `out`, and [`io::ErrorKind::InvalidInput`] for a row of more than 1 GiB.
pub fn write_part(out: &mut impl Write, rows: &[PartRow]) -> io::Result<()> {
    out.write_all(&(rows.len() as u64).to_le_bytes())?;
    for PartRow { lane, order, key, row } in rows {
        out.write_all(&lane.to_le_bytes())?;
        out.write_all(&order.to_le_bytes())?;
        write_bytes(out, key)?;
        write_bytes(out, row)?;
    }
    Ok(())
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_ROW_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a row of more than 1 GiB"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads a part, row by row.
///
/// # Errors
/// Those of `part`; [`io::ErrorKind::UnexpectedEof`] for one that is cut short.
pub fn read_part<R: Read>(mut part: R) -> io::Result<impl Iterator<Item = io::Result<PartRow>>> {
    let mut left = u64::from_le_bytes(read_array(&mut part)?);
    Ok(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        Some(read_row(&mut part))
    }))
}

fn read_row(part: &mut impl Read) -> io::Result<PartRow> {
    let lane = u32::from_le_bytes(read_array(part)?);
    let order = u64::from_le_bytes(read_array(part)?);
    Ok(PartRow { lane, order, key: read_bytes(part)?, row: read_bytes(part)? })
}

fn read_array<const N: usize>(part: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    part.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_bytes(part: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = u32::from_le_bytes(read_array(part)?);
    if length > MAX_ROW_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a part is damaged"));
    }
    // Room for what is there, not for what the length says.
    let mut bytes = Vec::new();
    part.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// All rows of some parts in one order: by lane, unit and key. `parts` are ascending each. One row of every part is in
/// memory.
///
/// # Errors
/// The first one of a part ends the rows.
pub fn merge<I: Iterator<Item = io::Result<PartRow>>>(parts: Vec<I>) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut parts = parts;
    let mut heads = BinaryHeap::new();
    let mut failure = None;
    let pull = move |parts: &mut Vec<I>, number: usize, heads: &mut BinaryHeap<_>| -> io::Result<()> {
        if let Some(PartRow { lane, order, key, row }) = parts[number].next().transpose()? {
            heads.push(Reverse((lane, order, key, number, row)));
        }
        Ok(())
    };
    for number in 0..parts.len() {
        failure = failure.or(pull(&mut parts, number, &mut heads).err());
    }
    std::iter::from_fn(move || {
        if let Some(error) = failure.take() {
            heads.clear();
            return Some(Err(error));
        }
        let Reverse((_, _, _, number, row)) = heads.pop()?;
        failure = pull(&mut parts, number, &mut heads).err();
        Some(Ok(row))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_row() -> impl Strategy<Value = PartRow> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..4);
        (0..4_u64, bytes(), bytes()).prop_map(|(order, key, row)| PartRow { lane: 0, order, key, row })
    }

    fn any_place() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
        (0..2_u32, 0..4_u64, prop::collection::vec(any::<u8>(), 0..4))
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let mut bytes = Vec::new();
        let row = PartRow { lane: 0, order: 0, key: b"key".to_vec(), row: b"row".to_vec() };
        write_part(&mut bytes, &[row]).unwrap();
        bytes[20..24].copy_from_slice(&MAX_ROW_BYTES.to_le_bytes());
        let held = allocation_counter::measure(|| {
            let read = read_part(io::Cursor::new(&bytes)).unwrap().next().unwrap();
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
        assert!(held.bytes_max < 10_000);
    }

    proptest! {
        /// However rows are spread over parts, the order is the same.
        #[test]
        fn merging_undoes_spreading(
            rows in prop::collection::btree_map(any_place(), any::<[u8; 2]>(), 0..40),
            spread in prop::collection::vec(0..5_usize, 40),
        ) {
            let mut parts = vec![Vec::new(); 5];
            for (((lane, order, key), row), part) in rows.iter().zip(spread) {
                parts[part].push(PartRow { lane: *lane, order: *order, key: key.clone(), row: row.to_vec() });
            }
            let parts = parts.iter().map(|part| {
                let mut bytes = Vec::new();
                write_part(&mut bytes, part).unwrap();
                read_part(io::Cursor::new(bytes)).unwrap()
            });
            let merged: Vec<Vec<u8>> = merge(parts.collect()).map(Result::unwrap).collect();
            prop_assert_eq!(merged, rows.values().map(|row| row.to_vec()).collect::<Vec<_>>());
        }

        #[test]
        fn a_part_cut_short_is_noticed(rows in prop::collection::vec(any_row(), 1..10), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            write_part(&mut bytes, &rows).unwrap();
            bytes.truncate(cut.index(bytes.len()));
            let read = read_part(io::Cursor::new(bytes)).map(|part| part.collect::<io::Result<Vec<_>>>());
            prop_assert!(!matches!(read, Ok(Ok(_))));
        }
    }
}
