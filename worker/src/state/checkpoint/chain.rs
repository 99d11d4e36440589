//! Which checkpoints others stand on. Pure; shared by the stores.

use super::CheckpointKey;
use std::collections::{BTreeMap, HashSet};
use tidemill_common::ids::BatchId;

/// What each checkpoint is a delta on; none for a base.
pub(super) type Links = BTreeMap<CheckpointKey, Option<BatchId>>;

/// The checkpoint's base and what lies between, base first; none if one is missing.
pub(super) fn chain(links: &Links, key: CheckpointKey) -> Option<Vec<CheckpointKey>> {
    let mut chain = vec![key];
    let mut at = key;
    while let Some(on) = *links.get(&at)? {
        if on >= at.version {
            return None;
        }
        at = at.at(on);
        chain.push(at);
    }
    chain.reverse();
    Some(chain)
}

/// Checkpoints (of one job) that can go when the versions in `keep` stay, as [`StateStore::retain`](super::StateStore::retain) says.
pub(super) fn unneeded(links: &Links, keep: &[BatchId]) -> Vec<CheckpointKey> {
    let newest = keep.iter().max().copied();
    let stays = |key: &CheckpointKey| keep.contains(&key.version) || Some(key.version) > newest;
    let mut needed = HashSet::new();
    for &key in links.keys().filter(|key| stays(key)) {
        needed.insert(key);
        needed.extend(chain(links, key).into_iter().flatten());
    }
    let all = links.keys().copied();
    all.filter(|key| !needed.contains(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::JobKey;
    use super::*;
    use tidemill_common::ids::{JobId, KeyGroup, StageId};

    fn key(version: u64) -> CheckpointKey {
        CheckpointKey {
            job: JobKey::new("c", JobId(1)),
            stage: StageId(0),
            group: KeyGroup(0),
            version: BatchId(version),
        }
    }

    fn links(of: &[(u64, Option<u64>)]) -> Links {
        let link = |&(version, on): &(u64, Option<u64>)| (key(version), on.map(BatchId));
        of.iter().map(link).collect()
    }

    fn versions(keys: Vec<CheckpointKey>) -> Vec<u64> {
        keys.into_iter().map(|key| key.version.0).collect()
    }

    #[test]
    fn chain_ends_at_the_base() {
        let links = links(&[(1, None), (3, Some(1)), (5, Some(3)), (7, None)]);
        assert_eq!(chain(&links, key(5)).map(versions), Some(vec![1, 3, 5]));
        assert_eq!(chain(&links, key(7)).map(versions), Some(vec![7]));
        assert_eq!(chain(&links, key(2)), None);
    }

    #[test]
    fn broken_or_circular_chain_is_none() {
        let links = links(&[(3, Some(1)), (5, Some(5))]);
        assert_eq!(chain(&links, key(3)), None);
        assert_eq!(chain(&links, key(5)), None);
    }

    #[test]
    fn bases_of_kept_versions_and_newer_versions_stay() {
        let links = links(&[(1, None), (2, Some(1)), (3, None), (4, Some(3)), (5, Some(4)), (6, None)]);
        assert_eq!(versions(unneeded(&links, &[BatchId(5)])), [1, 2]);
        assert_eq!(versions(unneeded(&links, &[BatchId(4)])), [1, 2]);
        assert_eq!(versions(unneeded(&links, &[BatchId(6)])), [1, 2, 3, 4, 5]);
        assert!(unneeded(&links, &[]).is_empty());
    }
}
