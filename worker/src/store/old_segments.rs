//! Block segments of before there were frames: records `length u32 | crc32 u32 | body`.

use super::segments::{HEADER, decode_header};
use tidemill_common::frame::{self, Step, is_torn};

/// Bytes of a record's header.
const OLD_FRAME: usize = 8;

/// The record that begins at `at`. As with frames, torn is only what a crash can leave, and whole records behind damage are found.
pub(super) fn old_step(content: &[u8], at: usize) -> Step<'_> {
    if at >= content.len() {
        return Step::End;
    }
    if let Some((body, end)) = whole(content, at) {
        return Step::Whole { kind: 0, body, end };
    }
    let end = end_of(content, at);
    // Where the length is right, the next record is where it says.
    let next = end.filter(|end| whole(content, *end).is_some());
    let is_next = |at: &usize| is_likely(content, *at) && whole(content, *at).is_some();
    let next = next.or_else(|| (at + 1..content.len()).find(is_next));
    if next.is_none() && is_torn(content, at, end.unwrap_or(usize::MAX)) {
        return Step::Torn;
    }
    Step::Damaged { what: "a block does not match its checksum", end: None, next }
}

/// Whether a file without a header that reads is such a segment, and no file of frames whose beginning is damaged.
pub(super) fn is_old(content: &[u8]) -> bool {
    match old_step(content, 0) {
        Step::Whole { .. } | Step::Damaged { next: Some(_), .. } => true,
        Step::Damaged { .. } | Step::Torn | Step::End => {
            !matches!(frame::step(content, 0), Step::Whole { .. } | Step::Damaged { next: Some(_), .. })
        }
    }
}

/// Where the record at `at` says that it ends.
fn end_of(content: &[u8], at: usize) -> Option<usize> {
    let length = content.get(at..)?.first_chunk().map(|length| u32::from_le_bytes(*length))?;
    (at + OLD_FRAME).checked_add(length as usize)
}

fn whole(content: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let end = end_of(content, at)?;
    let body = content.get(at + OLD_FRAME..end)?;
    let crc = u32::from_le_bytes(*content.get(at + 4..)?.first_chunk()?);
    (body.len() >= HEADER && crc32fast::hash(body) == crc).then_some((body, end))
}

/// Whether the numbers of the block at `at` are such as there are, so that few places are looked at in full.
fn is_likely(content: &[u8], at: usize) -> bool {
    let header = content.get(at + OLD_FRAME..).and_then(decode_header);
    header.is_some_and(|(id, records)| {
        let numbers = [id.job.0, id.epoch, records, u64::from(id.source.0) << 16, u64::from(id.receiver) << 16];
        numbers.iter().all(|number| number >> 40 == 0) && id.first_offset >> 56 == 0
    })
}
