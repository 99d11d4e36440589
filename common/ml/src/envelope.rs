//! Stored bytes: four letters, the format's number, the content, and a CRC-32 of all before it.

use crate::error::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

/// Counts of what was seen beyond this one are not believed: they are added up for ever.
pub(crate) const HIGHEST_COUNT: u64 = 1 << 48;

/// Whether these can be counts of what was seen.
pub(crate) fn are_counts(counts: &[u64]) -> bool {
    counts.iter().all(|count| *count <= HIGHEST_COUNT)
}

/// A kind of stored bytes.
pub(crate) struct Envelope {
    pub(crate) letters: [u8; 4],
    pub(crate) what: &'static str,
    /// The format that is written, and the newest that is read.
    pub(crate) version: u8,
}

/// Plain structs, lists and numbers as postcard, which cannot fail on them.
pub(crate) fn encode(content: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(content).expect("plain data in memory always encodes")
}

/// The whole of `content` as one value.
pub(crate) fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = take(content)?;
    nothing_left(rest).map(|()| value)
}

/// The value at the beginning of `content`, and what comes behind it.
pub(crate) fn take<T: DeserializeOwned>(content: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    postcard::take_from_bytes(content).map_err(|e| DecodeError::Content(e.to_string()))
}

/// Refuses bytes behind the content.
pub(crate) fn nothing_left(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(DecodeError::Content(format!("{} bytes too many", rest.len()))) }
}

impl Envelope {
    /// `content` as postcard, framed.
    pub(crate) fn seal(&self, content: &impl Serialize) -> Vec<u8> {
        self.frame(&encode(content))
    }

    /// `content` framed.
    pub(crate) fn frame(&self, content: &[u8]) -> Vec<u8> {
        let mut bytes = self.letters.to_vec();
        bytes.push(self.version);
        bytes.extend(content);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// What [`Envelope::seal`] was given.
    pub(crate) fn open<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        self.content(bytes, self.version).and_then(|(_, content)| decode(content))
    }

    /// Format and content of framed bytes, if the format is from `oldest` to the one that is written.
    pub(crate) fn content<'a>(&self, bytes: &'a [u8], oldest: u8) -> Result<(u8, &'a [u8]), DecodeError> {
        let foreign = DecodeError::Foreign { expected: self.what };
        let (checked, crc) = bytes.split_last_chunk::<4>().ok_or(foreign.clone())?;
        let content = checked.strip_prefix(&self.letters[..]).ok_or(foreign.clone())?;
        let (&version, content) = content.split_first().ok_or(foreign)?;
        if !(oldest..=self.version).contains(&version) {
            return Err(DecodeError::Version { expected: self.version.into(), found: version.into() });
        }
        if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return Err(DecodeError::Damaged);
        }
        Ok((version, content))
    }
}

/// A definition as JSON text (its form is tagged, which postcard is not made for).
pub(crate) fn spec_text(spec: &impl Serialize) -> String {
    serde_json::to_string(spec).expect("a definition holds only finite numbers, names and lists")
}

/// The definition that [`spec_text`] wrote.
pub(crate) fn read_spec<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|e| DecodeError::Content(e.to_string()))
}
