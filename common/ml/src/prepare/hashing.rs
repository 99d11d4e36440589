//! The hashing trick.

use crate::random::{hashed, keyed};

/// The hashing trick: every (column, category) adds 1 or -1 to one of a fixed number of features, and nothing has to be learnt
/// (Weinberger et al., Feature hashing for large scale multitask learning, 2009).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureHasher {
    /// Number of features.
    pub features: u32,
    /// Key of the hash.
    pub seed: u64,
}

impl FeatureHasher {
    /// Adds a row's cell to its features; a slice of another length takes what fits. A category counts 1; a number goes with its
    /// column alone (`category` empty) and counts as much as it is.
    pub fn add(&self, column: u64, category: &str, value: f64, features: &mut [f64]) {
        let hash = hashed(keyed(self.seed, column), category.as_bytes());
        let place = (hash >> 1) % u64::from(self.features.max(1));
        if let Some(feature) = usize::try_from(place).ok().and_then(|place| features.get_mut(place)) {
            *feature += if hash & 1 == 0 { value } else { -value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_spread_and_never_change() {
        let hasher = FeatureHasher { features: 16, seed: 0 };
        let mut all = vec![0.0; 16];
        let mut used = [false; 16];
        for i in 0..200 {
            let mut row = vec![0.0; 16];
            hasher.add(i % 3, &format!("category number {i}"), 1.0, &mut row);
            assert_eq!(row.iter().map(|x: &f64| x.abs()).sum::<f64>(), 1.0);
            (0..16).for_each(|place| used[place] |= row[place] != 0.0);
            all.iter_mut().zip(&row).for_each(|(all, row)| *all += row);
        }
        assert!(used.iter().all(|used| *used) && all.iter().all(|sum| sum.abs() < 15.0), "{all:?}");
        let [mut a, mut b] = [vec![0.0; 16], vec![0.0; 16]];
        hasher.add(0, "x", 1.0, &mut a);
        hasher.add(1, "x", 1.0, &mut b);
        assert_ne!(a, b);
    }
}
