//! Tables whose files change.

use crate::{Driver, Sent, compiled};
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_common::location::Location;
use tidemill_driver::core::topology::{TableShape, Topology};
use tidemill_driver::core::{Compiled, Event, NewJob, RequestId, SessionId};
use tidemill_driver::record::{Durable, DurableJob, JobRecord, TableContent};
use tidemill_proto::control::{self as pb, driver_message, task_report};

/// A job with a table, which was submitted as `a` and follows a file.
fn with_a_table(stateful: bool) -> (Driver, u64) {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let text = "name = \"j\"\nbatch_interval = \"1s\"\n[source.s]\nconnector = \"socket\"\naddress = \"127.0.0.1:1\"\n\
        [table.t]\npath = \"t.csv\"\nformat = \"csv\"\ncolumns = { a = \"string\" }\n\
        [stream.o]\nfrom = [\"s\", \"t\"]\nsql = \"select a from t\"\n[[output]]\nfrom = \"o\"\nprint = true";
    let def = Arc::new(tidemill_job::parse(text).unwrap().tables.remove(0));
    let compiled = compiled(stateful);
    let mut topology = Topology::clone(&compiled.topology);
    topology.tables =
        vec![TableShape { def, watched: Some((Location::Local("/t.csv".into()), Duration::from_secs(1))) }];
    let compiled = Compiled { topology: Arc::new(topology), ..compiled };
    let durable = DurableJob { name: "j".into(), stateful, attachments: vec![b"a".to_vec()], ..DurableJob::default() };
    driver.event(Event::Submit { request: RequestId(1), job: Box::new(NewJob { durable, compiled }) });
    let hash = driver.core.watched_tables()[0].hash;
    (driver, hash)
}

/// Contents of tables as they were told: session, batch, content.
fn told(sent: &Sent) -> Vec<(u64, u64, String)> {
    let told = |(session, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::ReloadedTable(told) => {
            Some((session.0, told.batch, String::from_utf8(told.bytes.to_vec()).unwrap()))
        }
        _ => None,
    };
    sent.iter().filter_map(told).collect()
}

fn found(driver: &mut Driver, found: Result<&'static str, &str>) {
    let content =
        |text: &'static str| TableContent { hash: tidemill_plan::content_hash(text.as_bytes()), bytes: text.into() };
    let found = found.map(content).map_err(str::to_owned);
    driver.event(Event::Table { job: JobId(1), table: 0, found });
}

#[test]
fn a_table_changes_with_the_next_batch_and_batches_are_told_what_they_see() {
    let (mut driver, submitted) = with_a_table(false);
    let mut seen = Vec::new();
    for batch in 0..4 {
        match batch {
            // The newest of several counts.
            1 => ["b", "c"].into_iter().for_each(|text| found(&mut driver, Ok(text))),
            2 => found(&mut driver, Err("line 3: no")),
            // What is known changes nothing.
            3 => found(&mut driver, Ok("c")),
            _ => {}
        }
        let status = driver.core.job_status(driver.now(), "j").remove(0);
        assert_eq!(status.tables[0].wrong, if batch == 2 { "line 3: no" } else { "" });
        assert_eq!(driver.core.watched_tables()[0].wrong, batch == 2);
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let sent = driver.take();
        let expected = if batch == 1 { vec![(1, 2, "c".to_string())] } else { vec![] };
        assert_eq!(told(&sent), expected, "batch {batch}");
        driver.sent = sent;
        let (session, task) = driver.tasks().remove(0);
        seen.push(task.tables.first().map(|at| at.since));
        driver.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
    }
    assert_eq!(seen, [None, Some(2), Some(2), Some(2)]);
    let reloads = driver.of_job().filter(|record| matches!(record, JobRecord::Reloaded { .. })).count();
    assert_eq!(reloads, 2, "one for each content");
    driver.join(2, None);
    assert_eq!(told(&driver.take()), [(2, 2, "c".to_string())]);
    assert_ne!(driver.core.watched_tables()[0].hash, submitted);
    // Back to what was submitted is a change like any other.
    found(&mut driver, Ok("a"));
    assert_eq!(driver.core.watched_tables()[0].hash, submitted);
}

#[test]
fn contents_are_kept_while_batches_may_see_them() {
    let (mut driver, _) = with_a_table(true);
    let big = "x".repeat(30 << 20).leak();
    let kept = |driver: &Driver| driver.core.durable().jobs[&JobId(1)].reloaded_bytes() >> 20;
    let wrong = |driver: &mut Driver| driver.core.job_status(driver.now(), "j").remove(0).tables.remove(0).wrong;
    let mut job = driver.core.durable().jobs[&JobId(1)].clone();
    found(&mut driver, Ok(big));
    assert_eq!((kept(&driver), wrong(&mut driver)), (30, String::new()));
    found(&mut driver, Ok("y".repeat(33 << 20).leak()));
    assert!(wrong(&mut driver).contains("at most 32 MiB"));
    // Folded from the log: what waits is replaced, what was seen is kept until a checkpoint.
    let content = |text: &'static str| TableContent { hash: text.len() as u64, bytes: text.into() };
    let frozen = |batch| JobRecord::Frozen { batch: BatchId(batch), time_ms: batch as i64, counts: Vec::new() };
    for record in [
        JobRecord::Reloaded { table: 0, content: content("1") },
        frozen(1),
        JobRecord::Reloaded { table: 0, content: content("22") },
        JobRecord::Reloaded { table: 0, content: content("333") },
        frozen(2),
        frozen(3),
    ] {
        job.apply(&record);
    }
    let at = |job: &DurableJob| [1, 2, 3].map(|batch| job.reloaded_at(0, BatchId(batch)).map(|at| at.0));
    assert_eq!((at(&job), job.reloaded_bytes()), ([Some(1), Some(2), Some(2)], 4));
    job.apply(&JobRecord::Checkpoint(BatchId(1)));
    assert_eq!((at(&job), job.reloaded_bytes()), ([Some(1), Some(2), Some(2)], 4), "no other is in its place yet");
    job.apply(&JobRecord::Checkpoint(BatchId(3)));
    assert_eq!((at(&job), job.reloaded_bytes()), ([None, Some(2), Some(2)], 3));
}
