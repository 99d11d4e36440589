//! How far sources were read, in their own words: what a file, a partition of a topic or a log was read to. A source alone
//! knows what its positions mean; blocks, messages and the driver's log carry them as bytes.

use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// Bytes of a name.
pub const MAX_NAME_BYTES: usize = 1 << 10;
/// Bytes of a position.
pub const MAX_POSITION_BYTES: usize = 16 << 10;
/// Positions of one receiver.
pub const MAX_POSITIONS: usize = 200_000;
/// Bytes of the names and positions of one receiver.
pub const MAX_BYTES: usize = 32 << 20;
/// Changes that are logged at once.
pub const MAX_CHANGES: usize = 4096;

/// The positions of one receiver, each by the name of what it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, Vec<u8>>")]
pub struct Positions {
    by_name: BTreeMap<String, Vec<u8>>,
    /// Of all names and positions.
    bytes: usize,
}

/// A position that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionChange {
    /// What it is in.
    pub name: String,
    /// The position now; none if it is not needed any more.
    pub to: Option<Vec<u8>>,
}

/// Why a change cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Of the name.
    #[error("the name of a position has {0} bytes, more than {MAX_NAME_BYTES}")]
    LongName(usize),
    /// Of the position.
    #[error("a position has {0} bytes, more than {MAX_POSITION_BYTES}")]
    Long(usize),
    /// Of one receiver.
    #[error("a receiver has more than {MAX_POSITIONS} positions; let go of those that are not needed any more")]
    TooMany,
    /// Of one receiver.
    #[error("the positions of a receiver have more than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
}

impl PositionChange {
    /// Whether it keeps to the bounds.
    ///
    /// # Errors
    /// Which it does not keep to.
    pub fn check(&self) -> Result<(), PositionError> {
        match (self.name.len(), self.to.as_ref().map_or(0, Vec::len)) {
            (name, _) if name > MAX_NAME_BYTES => Err(PositionError::LongName(name)),
            (_, position) if position > MAX_POSITION_BYTES => Err(PositionError::Long(position)),
            _ => Ok(()),
        }
    }
}

impl Positions {
    /// The position in `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.by_name.iter().map(|(name, position)| (name.as_str(), position.as_slice()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Folds a change in.
    ///
    /// # Errors
    /// When it does not keep to the bounds; then nothing changes.
    pub fn apply(&mut self, change: &PositionChange) -> Result<(), PositionError> {
        change.check()?;
        let size = |position: Option<&Vec<u8>>| position.map_or(0, |position| change.name.len() + position.len());
        let before = self.by_name.get(&change.name);
        let bytes = self.bytes - size(before) + size(change.to.as_ref());
        match &change.to {
            None => _ = self.by_name.remove(&change.name),
            Some(_) if before.is_none() && self.by_name.len() >= MAX_POSITIONS => return Err(PositionError::TooMany),
            Some(_) if bytes > MAX_BYTES => return Err(PositionError::TooLarge),
            Some(to) => _ = self.by_name.insert(change.name.clone(), to.clone()),
        }
        self.bytes = bytes;
        Ok(())
    }
}

/// As it is without the sum.
impl Serialize for Positions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_name.serialize(serializer)
    }
}

impl From<BTreeMap<String, Vec<u8>>> for Positions {
    fn from(by_name: BTreeMap<String, Vec<u8>>) -> Self {
        let bytes = by_name.iter().map(|(name, position)| name.len() + position.len()).sum();
        Self { by_name, bytes }
    }
}

impl FromIterator<(String, Vec<u8>)> for Positions {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(positions: I) -> Self {
        positions.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, to: Option<&[u8]>) -> PositionChange {
        PositionChange { name: name.into(), to: to.map(<[u8]>::to_vec) }
    }

    #[test]
    fn changes_fold_in_and_keep_to_the_bounds() {
        let mut positions = Positions::default();
        for (name, to) in [("a", Some(&b"1"[..])), ("b", Some(b"")), ("a", Some(b"2")), ("b", None), ("c", None)] {
            assert_eq!(positions.apply(&change(name, to)), Ok(()));
        }
        assert_eq!(positions.iter().collect::<Vec<_>>(), [("a", &b"2"[..])]);
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(positions.apply(&change(&long, Some(b"1"))), Err(PositionError::LongName(MAX_NAME_BYTES + 1)));
        let long = vec![0; MAX_POSITION_BYTES + 1];
        assert_eq!(positions.apply(&change("a", Some(&long))), Err(PositionError::Long(MAX_POSITION_BYTES + 1)));
        assert_eq!(positions.get("a"), Some(&b"2"[..]));
        let mut many: Positions = (0..MAX_POSITIONS).map(|n| (n.to_string(), Vec::new())).collect();
        assert_eq!(many.apply(&change("a", Some(b"1"))), Err(PositionError::TooMany));
        assert_eq!(many.apply(&change("7", Some(b"1"))), Ok(()));
        assert_eq!((many.len(), many.get("7")), (MAX_POSITIONS, Some(&b"1"[..])));
    }

    #[test]
    fn all_together_keep_to_a_bound() {
        let large = vec![0; MAX_POSITION_BYTES];
        let fit = MAX_BYTES / (MAX_POSITION_BYTES + 4);
        let mut positions: Positions = (0..fit).map(|n| (format!("{n:04}"), large.clone())).collect();
        assert_eq!(positions.apply(&change("more", Some(&large))), Err(PositionError::TooLarge));
        assert_eq!(positions.apply(&change("0007", Some(&large))), Ok(()));
        assert_eq!(positions.apply(&change("0007", None)), Ok(()));
        assert_eq!(positions.apply(&change("more", Some(&large))), Ok(()));
        assert_eq!(positions.len(), fit);
    }
}
