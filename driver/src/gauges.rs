//! What there is now, for `GET /metrics`: taken from what the core says of workers and jobs, when somebody asks.

use tidemill_metrics::{Family, Gauge, metric};
use tidemill_proto::client::{JobStatus, StatusReply};

metric! {
    static WORKERS: Gauge = Gauge::new("tidemill_workers", "Live workers.");
    static JOBS: Family<Gauge, 1> =
        Gauge::new("tidemill_jobs", "Jobs by state; ended ones as long as `status` shows them.").by(["state"]);
    static WAITING_RECORDS: Family<Gauge, 1> =
        Gauge::new("tidemill_waiting_records", "Records that are received and in no complete batch yet.").by(["job"]);
    static RETAINED_BLOCKS: Family<Gauge, 1> =
        Gauge::new("tidemill_retained_blocks", "Blocks that the log still refers to.").by(["job"]);
    static STATE_KEYS: Family<Gauge, 1> =
        Gauge::new("tidemill_state_keys", "Keys in the state, as of the last complete batch.").by(["job"]);
    static BATCH_TIME: Family<Gauge, 1> = Gauge::new(
        "tidemill_last_batch_timestamp_seconds",
        "Batch time of the last complete batch, in seconds since 1970.",
    )
    .by(["job"]);
    static CHECKPOINT_AGE: Family<Gauge, 1> = Gauge::new(
        "tidemill_replay_depth_batches",
        "Batches that a rewind to the last checkpoint would run again.",
    )
    .by(["job"]);
    static TO_FILL: Family<Gauge, 1> = Gauge::new(
        "tidemill_key_groups_to_fill",
        "Key groups of which fewer copies are complete than there can be.",
    )
    .by(["job"]);
}

/// Sets all of them.
pub(crate) fn set(status: &StatusReply) {
    WORKERS.set(f64::from(status.workers));
    JOBS.replace(status.jobs.iter().map(|job| ([job.state.clone()], 1.0)));
    // What has ended has nothing any more.
    let running: Vec<&JobStatus> =
        status.jobs.iter().filter(|job| !matches!(job.state.as_str(), "STOPPED" | "FAILED")).collect();
    let by_job = |gauges: &Family<Gauge, 1>, value: fn(&JobStatus) -> f64| {
        gauges.replace(running.iter().map(|job| ([job.name.clone()], value(job))));
    };
    by_job(&WAITING_RECORDS, |job| job.received_records.saturating_sub(job.records) as f64);
    by_job(&RETAINED_BLOCKS, |job| job.retained_blocks as f64);
    by_job(&STATE_KEYS, |job| job.state_keys as f64);
    by_job(&BATCH_TIME, |job| job.batch_time_ms as f64 / 1e3);
    by_job(&CHECKPOINT_AGE, |job| job.replay_depth as f64);
    by_job(&TO_FILL, |job| job.groups_to_fill as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_have_ended_are_counted_and_have_nothing_else() {
        let job = |name: &str, state: &str| JobStatus {
            name: name.into(),
            state: state.into(),
            received_records: 10,
            records: 7,
            ..JobStatus::default()
        };
        let jobs = vec![job("a", "RUNNING"), job("b", "RUNNING"), job("a", "STOPPED"), job("c", "FAILED")];
        set(&StatusReply { workers: 3, jobs, ..StatusReply::default() });
        let page = tidemill_metrics::page(|module| module == "tidemill_driver::gauges");
        let values: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        for line in [
            "tidemill_workers 3",
            "tidemill_jobs{state=\"RUNNING\"} 2",
            "tidemill_jobs{state=\"STOPPED\"} 1",
            "tidemill_jobs{state=\"FAILED\"} 1",
            "tidemill_waiting_records{job=\"a\"} 3",
            "tidemill_waiting_records{job=\"b\"} 3",
        ] {
            assert!(values.contains(&line), "{line}\n{page}");
        }
        assert_eq!(values.iter().filter(|line| line.starts_with("tidemill_waiting")).count(), 2, "{page}");
    }
}
