//! `durability = "disk"`: everything is lost but the disks.

use crate::processes::Cluster;
use crate::revenue::{JOB, Revenue, counter, number};

#[test]
fn all_processes_killed() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "durability = \"disk\"\ncheckpoint_interval = \"400ms\"");
    cluster.wait_status(JOB, "a checkpoint", |status| number(status, "checkpoint") > 0);
    revenue.wait_records(&cluster, 4000);
    let slots = cluster.slots();
    cluster.kill_driver();
    slots.iter().for_each(|slot| cluster.kill_worker(*slot));
    cluster.start_driver();
    slots.iter().for_each(|slot| cluster.start_worker(*slot));
    let ended = revenue.finish(&cluster);
    revenue.wait_held();
    assert!(counter(&ended, "rewinds") >= 1, "{ended:#}");
    cluster.end(&[]);
}

/// Nearly all of the state comes from the blocks.
#[test]
fn all_processes_killed_long_after_a_checkpoint() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "durability = \"disk\"\ncheckpoint_interval = \"1h\"");
    let before = revenue.wait_records(&cluster, 4000);
    assert!(number(&before, "replay_depth") >= 3, "{before:#}");
    let slots = cluster.slots();
    slots.iter().for_each(|slot| cluster.kill_worker(*slot));
    cluster.kill_driver();
    cluster.start_driver();
    slots.iter().for_each(|slot| cluster.start_worker(*slot));
    let ended = revenue.finish(&cluster);
    assert!(counter(&ended, "batches_replayed") >= 3, "{ended:#}");
    cluster.end(&[]);
}
