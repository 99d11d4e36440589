//! Champions and imports.

use crate::{Driver, Sent, compiled};
use std::sync::Arc;
use std::time::Duration;
use tidemill_driver::core::topology::{AskedShape, ModelShape, Topology};
use tidemill_driver::core::{Action, Compiled, Event, NewModel, RequestId, SessionId};
use tidemill_driver::record::{Durable, JobRecord};
use tidemill_ml::{Model, ModelSpec};
use tidemill_proto::control::{self as pb, driver_message, task_report};

/// Models `a` and `b`, and `best` for the champion of both, which the source's stage asks.
fn with_a_choice() -> Compiled {
    let spec: ModelSpec = serde_json::from_value(serde_json::json!({ "kind": "linear_regression" })).unwrap();
    let shape = |name: &str, candidates: &[usize]| ModelShape {
        name: name.into(),
        spec: spec.clone(),
        initial: Arc::new(Model::new(spec.clone()).unwrap()),
        features: None,
        home: None,
        candidates: candidates.to_vec(),
        keep: 1,
        save: None,
    };
    let compiled = compiled(false);
    let mut topology = Topology::clone(&compiled.topology);
    topology.models = vec![shape("a", &[]), shape("b", &[]), shape("best", &[0, 1])];
    topology.stages[0].models = vec![AskedShape { model: 2, after_training: false }];
    Compiled { topology: Arc::new(topology), ..compiled }
}

#[test]
fn a_champion_answers_from_the_next_batch_on_and_is_published() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(with_a_choice());
    let trained = |model: u32| pb::TrainedModel { model, bytes: vec![model as u8].into() };
    let mut answers = Vec::new();
    for (batch, champion) in [(0, 0), (1, 1), (2, 1), (3, 0)] {
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let (session, task) = driver.tasks().remove(0);
        answers.push((task.models[0].model, task.models[0].answers));
        let champions = vec![pb::Champion { model: 2, champion }];
        let done = pb::TaskDone { champions, models: vec![trained(0), trained(1)], ..pb::TaskDone::default() };
        driver.report(session, &task, task_report::Result::Done(done));
    }
    assert_eq!(answers, [(2, 0), (2, 0), (2, 1), (2, 1)]);
    let published = driver.published.iter().flat_map(|publication| &publication.models);
    let best: Vec<u8> = published.filter(|model| model.name == "best").map(|model| model.bytes[0]).collect();
    assert_eq!(best, [0, 1, 1, 0]);
    let chosen = |record: &&JobRecord| matches!(record, JobRecord::Chosen { .. });
    assert_eq!(driver.of_job().filter(chosen).count(), 3, "only changes are logged, and the first");
}

#[test]
fn who_is_no_candidate_is_never_the_champion() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(with_a_choice());
    let mut answers = Vec::new();
    // A position that is no model, one that is no candidate, and a model that is no choice.
    let told = [(2, 1), (2, 9999), (2, 2), (2, u32::MAX), (0, 1), (7, 0)];
    for (batch, (model, champion)) in told.into_iter().enumerate() {
        driver.block(1, 0, batch as u64, 10);
        driver.pass(Duration::from_millis(100));
        let (session, task) = driver.tasks().remove(0);
        answers.push((task.models[0].model, task.models[0].answers));
        let champions = vec![pb::Champion { model, champion }];
        let done = pb::TaskDone { champions, ..pb::TaskDone::default() };
        driver.report(session, &task, task_report::Result::Done(done));
    }
    assert_eq!(answers, [(2, 0), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1)]);
    let chosen = |record: &&JobRecord| matches!(record, JobRecord::Chosen { .. });
    assert_eq!(driver.of_job().filter(chosen).count(), 1, "what is no candidate is not logged");
}

#[test]
fn an_import_is_asked_from_the_next_batch_on_and_told_to_whoever_joins() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(with_a_choice());
    let document = serde_json::json!({
        "format": "tidemill-model", "version": 1, "spec": { "kind": "linear_regression" },
        "state": { "linear_regression": { "weights": [1.5], "intercept": 0.0, "updates": 1 } },
    });
    let import = |driver: &mut Driver, model: &str| {
        let new = NewModel { job: String::new(), model: model.into(), document: document.to_string() };
        let event = Event::Import { request: RequestId(9), new: Box::new(new) };
        let actions = driver.core.on_event(driver.now(), event);
        let refusal = actions.iter().find_map(|action| match action {
            Action::Reply { result: Err(error), .. } => Some(error.to_string()),
            _ => None,
        });
        driver.carry_out(actions);
        refusal
    };
    assert_eq!(import(&mut driver, "a"), None);
    assert!(import(&mut driver, "best").unwrap().contains("it stands for the best of a, b"));
    assert!(import(&mut driver, "c").unwrap().contains("there are: a, b, best"));
    let imports = |sent: &Sent| -> Vec<(u64, u32, u64)> {
        let told = |(session, message): &(SessionId, driver_message::Kind)| match message {
            driver_message::Kind::ImportedModel(told) => Some((session.0, told.model, told.batch)),
            _ => None,
        };
        sent.iter().filter_map(told).collect()
    };
    let mut versions = Vec::new();
    for batch in 0..2 {
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let sent = driver.take();
        assert_eq!(imports(&sent), if batch == 0 { vec![(1, 0, 1)] } else { vec![] }, "batch {batch}");
        driver.sent = sent;
        let (session, task) = driver.tasks().remove(0);
        versions.push((task.models[0].owner, task.models[0].version));
        driver.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
    }
    assert_eq!(versions, [(0, 1), (0, 1)]);
    driver.join(2, None);
    assert_eq!(imports(&driver.take()), [(2, 0, 1)], "a model that nothing trains is needed for ever");
}

#[test]
fn what_a_batch_has_not_changed_is_not_published_but_for_a_new_champion() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(with_a_choice());
    let trained = |model: u32| pb::TrainedModel { model, bytes: vec![model as u8].into() };
    for (batch, champion, idle_models) in [(0, 0, vec![]), (1, 0, vec![0, 1]), (2, 1, vec![0, 1]), (3, 1, vec![1])] {
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let (session, task) = driver.tasks().remove(0);
        let champions = vec![pb::Champion { model: 2, champion }];
        let models = vec![trained(0), trained(1)];
        let done = pb::TaskDone { champions, models, idle_models, ..pb::TaskDone::default() };
        driver.report(session, &task, task_report::Result::Done(done));
    }
    let published: Vec<(u64, &str, u8)> = driver
        .published
        .iter()
        .flat_map(|of| of.models.iter().map(|model| (of.batch.0, model.name.as_str(), model.bytes[0])))
        .collect();
    assert_eq!(published, [(1, "a", 0), (1, "b", 1), (1, "best", 0), (3, "best", 1), (4, "a", 0)]);
}
