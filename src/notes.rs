//! What is said beside the rows of a job, on standard error: bad records, and that nothing is printed.

use std::collections::HashMap;
use tidemill_common::terminal::one_line;
use tidemill_proto::client::{BadRecords, BatchOutput, JobStatus};
use tidemill_proto::common::BadRecord;

/// Samples shown of a source; of what comes later, only how many.
const SAMPLES: usize = 10;
/// How `status` names the delivery of an output that watchers see.
const PRINTED: &str = "to whoever watches";

/// What has been said already.
#[derive(Default)]
pub(crate) struct Notes {
    /// Samples shown, by source.
    samples: HashMap<String, usize>,
    silence_noted: bool,
}

impl Notes {
    /// Says what is to be said of a batch; `printed` are the outputs that show rows.
    pub(crate) fn batch(&mut self, batch: &BatchOutput, printed: &[String]) {
        for bad in &batch.bad {
            note!("{}", self.bad(batch.batch, bad).trim_end());
        }
        if printed.is_empty() && !std::mem::replace(&mut self.silence_noted, true) {
            note!(
                "batch {} is complete ({} records); batches show nothing here, as no output of the job has `print`",
                batch.batch,
                batch.records
            );
        }
    }

    fn bad(&mut self, batch: u64, bad: &BadRecords) -> String {
        let mut text =
            format!("batch {batch}: {} of source `{}`, {} so far\n", records(bad.count), bad.source, bad.total);
        let shown = self.samples.entry(bad.source.clone()).or_default();
        for sample in bad.samples.iter().take(SAMPLES - *shown) {
            text += &format!("  {}\n", sample_line(sample));
            *shown += 1;
        }
        text
    }
}

fn records(count: u64) -> String {
    match count {
        1 => "1 bad record".into(),
        count => format!("{count} bad records"),
    }
}

/// A bad record in one line.
pub(crate) fn sample_line(bad: &BadRecord) -> String {
    format!("record {}: {} ({})", bad.offset, one_line(&bad.reason), one_line(&bad.text))
}

/// Bad records of a job, a line for each source that has any.
pub(crate) fn bad_by_source(job: &JobStatus) -> Vec<String> {
    let bad = job.sources.iter().filter(|source| source.bad_records > 0);
    bad.map(|source| format!("source `{}`: {} of {} records are bad", source.name, source.bad_records, source.records))
        .collect()
}

/// The outputs of a job that watchers see.
pub(crate) fn printed_outputs(job: &JobStatus) -> Vec<String> {
    let printed = job.outputs.iter().filter(|output| output.delivery == PRINTED);
    printed.map(|output| output.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_source_come_to_an_end() {
        let sample = |offset: u64| BadRecord {
            source: "in".into(),
            offset,
            text: "\u{1b}[31mx".into(),
            reason: "not\na number".into(),
        };
        let bad = BadRecords { source: "in".into(), count: 7, total: 7, samples: (0..5).map(sample).collect() };
        let mut notes = Notes::default();
        let first = notes.bad(1, &bad);
        let lines: Vec<_> = first.lines().collect();
        assert_eq!(lines[0], "batch 1: 7 bad records of source `in`, 7 so far");
        assert_eq!((lines.len(), lines[2]), (6, r"  record 1: not\na number (\u{1b}[31mx)"));
        assert_eq!(notes.bad(2, &bad).lines().count(), 6);
        assert_eq!(notes.bad(3, &bad).lines().count(), 1);
    }
}
