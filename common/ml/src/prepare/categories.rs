//! Text as numbers.

use crate::{
    codec::Envelope,
    error::{DecodeError, SpecError, at_least_one},
    random::keyed,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The hashing trick: every (column, category) adds 1 or -1 to one of a fixed number of features, and nothing has to be learnt
/// (Weinberger et al., Feature hashing for large scale multitask learning, 2009).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureHasher {
    /// Number of features.
    pub features: u32,
    /// Key of the hash. Default 0.
    #[serde(default)]
    pub seed: u64,
}

impl FeatureHasher {
    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        at_least_one("features", self.features.into())
    }

    /// Adds a row's cell to its features; a slice of another length takes what fits.
    pub fn add(&self, column: u64, category: &str, features: &mut [f64]) {
        let start = keyed(self.seed, column);
        let hash = category.as_bytes().chunks(8).fold(keyed(start, category.len() as u64), |hash, chunk| {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            keyed(hash, u64::from_le_bytes(bytes))
        });
        let place = (hash >> 1) % u64::from(self.features.max(1));
        if let Some(feature) = usize::try_from(place).ok().and_then(|place| features.get_mut(place)) {
            *feature += if hash & 1 == 0 { 1.0 } else { -1.0 };
        }
    }
}

/// A column's categories, a feature each, in the order they are first learnt; at most a fixed number, so that the number of features
/// never changes. A category beyond that, or not learnt yet, has no feature: all are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneHot {
    state: Known,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    most: u32,
    places: BTreeMap<String, u32>,
    missed: u64,
}

const ONE_HOT: Envelope = Envelope { letters: *b"TMoh", what: "one-hot encoder", version: 1 };

impl OneHot {
    /// For at most so many categories.
    pub fn new(categories: u32) -> Result<OneHot, SpecError> {
        at_least_one("categories", categories.into())?;
        Ok(OneHot { state: Known { most: categories, places: BTreeMap::new(), missed: 0 } })
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.state.most as usize
    }

    /// The feature of a category.
    pub fn place(&self, category: &str) -> Option<usize> {
        self.state.places.get(category).map(|place| *place as usize)
    }

    /// Learns a category.
    pub fn learn(&mut self, category: &str) {
        let next = self.state.places.len();
        if self.state.places.contains_key(category) {
            return;
        }
        match u32::try_from(next) {
            Ok(place) if place < self.state.most => {
                self.state.places.insert(category.to_owned(), place);
            }
            _ => self.state.missed += 1,
        }
    }

    /// How often a category was learnt that found no place.
    pub fn missed(&self) -> u64 {
        self.state.missed
    }

    /// What was learnt, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        ONE_HOT.seal(&self.state)
    }

    /// What [`OneHot::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<OneHot, DecodeError> {
        let state: Known = ONE_HOT.open(bytes)?;
        if state.places.len() > state.most as usize || state.places.values().any(|place| *place >= state.most) {
            return Err(DecodeError::Content("more categories than places".to_owned()));
        }
        Ok(OneHot { state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_keeps_its_width() {
        let mut encoder = OneHot::new(2).unwrap();
        ["b", "a", "b", "c", "c"].into_iter().for_each(|category| encoder.learn(category));
        assert_eq!(["b", "a", "c"].map(|category| encoder.place(category)), [Some(0), Some(1), None]);
        assert_eq!((encoder.features(), encoder.missed()), (2, 2));
        assert_eq!(OneHot::from_bytes(&encoder.to_bytes()).unwrap(), encoder);
    }

    #[test]
    fn hashes_spread_and_never_change() {
        let hasher = FeatureHasher { features: 16, seed: 0 };
        let mut all = vec![0.0; 16];
        let mut used = [false; 16];
        for i in 0..200 {
            let mut row = vec![0.0; 16];
            hasher.add(i % 3, &format!("category number {i}"), &mut row);
            assert_eq!(row.iter().map(|x: &f64| x.abs()).sum::<f64>(), 1.0);
            (0..16).for_each(|place| used[place] |= row[place] != 0.0);
            all.iter_mut().zip(&row).for_each(|(all, row)| *all += row);
        }
        assert!(used.iter().all(|used| *used) && all.iter().all(|sum| sum.abs() < 15.0), "{all:?}");
        let [mut a, mut b] = [vec![0.0; 16], vec![0.0; 16]];
        hasher.add(0, "x", &mut a);
        hasher.add(1, "x", &mut b);
        assert_ne!(a, b);
    }
}
