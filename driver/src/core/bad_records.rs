//! Records that do not parse: counted by source, told with samples, and bounded.

use super::job::Job;
use super::run::BatchRun;
use super::topology::{SourceShape, Topology};
use crate::record::{STRETCH_RECORDS, SourceTotals};
use tidemill_job::MaxBadRecords;
use tidemill_proto::client as client_pb;
use tidemill_proto::common as common_pb;

/// Samples that are told of a source and batch.
const SAMPLES_TOLD: usize = 5;
/// Samples that are kept for `status`.
const SAMPLES_KEPT: usize = 10;

/// Bad records of a source in a batch, as the tasks that decode it have found them.
#[derive(Debug, Default)]
pub(crate) struct Found {
    count: u64,
    samples: Vec<common_pb::BadRecord>,
}

impl BatchRun {
    /// By source; samples in order of offset.
    pub(crate) fn bad_records(&self, topology: &Topology) -> Vec<Found> {
        let mut found: Vec<Found> = topology.sources.iter().map(|_| Found::default()).collect();
        for result in &self.results {
            let source = topology.stages.get(result.stage).and_then(|stage| stage.source);
            if let Some(found) = source.and_then(|source| found.get_mut(source.0 as usize)) {
                found.count += result.done.bad_records;
                found.samples.extend(result.done.bad_samples.iter().cloned());
            }
        }
        for found in &mut found {
            found.samples.sort_by(|a, b| (a.offset, &a.text).cmp(&(b.offset, &b.text)));
            found.samples.truncate(SAMPLES_TOLD);
        }
        found
    }
}

impl Job {
    /// Why the batch at hand has more bad records than a source of the job may have, if it has.
    pub(crate) fn too_many_bad_records(&self, run: &BatchRun) -> Option<String> {
        let found = run.bad_records(&self.topology);
        found.iter().zip(&self.topology.sources).enumerate().find_map(|(number, (found, source))| {
            let before = self.durable.totals.sources.get(number).copied().unwrap_or_default();
            beyond(source, before.with(run.source_records[number], found.count), found)
        })
    }

    /// Counts of the batch for the log, and what is told of it. Keeps samples for `status`.
    pub(crate) fn count_bad_records(&mut self, run: &BatchRun) -> (Vec<SourceTotals>, Vec<client_pb::BadRecords>) {
        let (mut counts, mut told) = (Vec::new(), Vec::new());
        for (number, found) in run.bad_records(&self.topology).into_iter().enumerate() {
            let of_batch = SourceTotals::default().with(run.source_records[number], found.count);
            let before = self.durable.totals.sources.get(number).copied().unwrap_or_default();
            counts.push(of_batch);
            if found.count > 0 {
                let room = SAMPLES_KEPT.saturating_sub(self.bad_samples.len());
                self.bad_samples.extend(found.samples.iter().take(room).cloned());
                told.push(client_pb::BadRecords {
                    source: self.topology.sources[number].name.clone(),
                    count: found.count,
                    total: before.bad + found.count,
                    samples: found.samples,
                });
            }
        }
        (counts, told)
    }
}

/// Why these counts are beyond the bound of the source, if they are.
fn beyond(source: &SourceShape, counts: SourceTotals, found: &Found) -> Option<String> {
    let said = match source.max_bad_records? {
        MaxBadRecords::Count(most) if counts.bad > most => {
            format!("{} of {} records are bad, and `max_bad_records` is {most}", counts.bad, counts.records)
        }
        MaxBadRecords::PerMille(most)
            if counts.stretch_is_over()
                && u128::from(counts.stretch_bad) * 1000 > u128::from(most) * u128::from(counts.stretch_records) =>
        {
            format!(
                "{} of {} records are bad, and `max_bad_records` is {most} per mille (of {STRETCH_RECORDS} records or more)",
                counts.stretch_bad, counts.stretch_records
            )
        }
        _ => return None,
    };
    let sample = found.samples.first();
    let sample = sample.map(|bad| format!("; for example record {}: {} ({})", bad.offset, bad.reason, bad.text));
    Some(format!("source `{}`: {said}{}", source.name, sample.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_connect::Delivery;

    fn judged(max_bad_records: MaxBadRecords, batches: &[(u64, u64)]) -> Vec<bool> {
        let source = SourceShape {
            name: "lines".into(),
            receivers: 1,
            one_block_per_batch: false,
            delivery: Delivery::ExactlyOnce,
            max_rate: None,
            max_bad_records: Some(max_bad_records),
        };
        let mut totals = crate::record::Totals::default();
        let judge = |&(records, bad): &(u64, u64)| {
            let before = totals.sources.first().copied().unwrap_or_default();
            let wrong = beyond(&source, before.with(records, bad), &Found::default()).is_some();
            let sources = vec![SourceTotals::default().with(records, bad)];
            totals.add(&crate::record::Totals { sources, ..Default::default() });
            wrong
        };
        batches.iter().map(judge).collect()
    }

    #[test]
    fn a_count_goes_over_the_whole_job() {
        let batches = [(10, 2), (10, 0), (10, 1), (10, 1), (10, 0)];
        assert_eq!(judged(MaxBadRecords::Count(3), &batches), [false, false, false, true, true]);
        assert_eq!(judged(MaxBadRecords::Count(0), &batches[1..3]), [false, true]);
    }

    #[test]
    fn a_share_goes_over_a_thousand_records_or_more() {
        let most = MaxBadRecords::PerMille(10);
        // Not enough records to say anything; then exactly the share; then a stretch of its own.
        assert_eq!(judged(most, &[(500, 15), (500, 0), (1000, 5), (999, 999)]), [false, true, false, false]);
        assert_eq!(judged(most, &[(500, 10), (500, 0), (2000, 20), (2000, 21)]), [false, false, false, true]);
    }
}
