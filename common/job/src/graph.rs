//! Looking around in a definition, and the defaults of its settings.

use super::{Durability, JobDef, OnUnderReplicated, Settings, SourceDef, StreamDef};
use std::time::Duration;

impl Settings {
    /// The defaults for this batch interval.
    pub fn with_batch_interval(batch_interval: Duration) -> Self {
        Self {
            batch_interval,
            block_interval: Duration::from_millis(200).min(batch_interval / 2),
            block_bytes: 4 << 20,
            replication: 2,
            durability: Durability::Replicated,
            on_under_replicated: OnUnderReplicated::Continue,
            key_groups: 64,
            checkpoint_interval: Duration::from_secs(5).max(batch_interval),
            cut_at_records: None,
            cut_at_bytes: None,
            max_batch_bytes: 1 << 30,
            max_task_failures: 4,
            backpressure: None,
        }
    }
}

impl JobDef {
    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&SourceDef> {
        self.sources.iter().find(|source| source.name.text == name)
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<&StreamDef> {
        self.streams.iter().find(|stream| stream.name.text == name)
    }

    /// Positions in `streams`, every stream after those it reads; otherwise in the order of the file.
    pub fn topological(&self) -> Vec<usize> {
        let position = |name: &str| self.streams.iter().position(|s| s.name.text == name);
        // Marking on the way up also ends the walk in a definition with a circle.
        let mut seen = vec![false; self.streams.len()];
        let mut order = Vec::with_capacity(self.streams.len());
        for start in 0..self.streams.len() {
            if std::mem::replace(&mut seen[start], true) {
                continue;
            }
            let mut path = vec![(start, self.streams[start].from.iter())];
            while let Some((at, rest)) = path.last_mut() {
                let Some(from) = rest.next() else {
                    order.push(*at);
                    path.pop();
                    continue;
                };
                if let Some(next) = position(&from.text).filter(|next| !std::mem::replace(&mut seen[*next], true)) {
                    path.push((next, self.streams[next].from.iter()));
                }
            }
        }
        order
    }
}
