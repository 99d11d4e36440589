use super::*;
use crate::{Model, ModelError, ModelSpec, Rows};
use ndarray::{Array1, Array2, s};

fn arms() -> Vec<String> {
    ["a", "b", "c"].map(str::to_owned).to_vec()
}

fn specs() -> Vec<ModelSpec> {
    vec![
        ModelSpec::of::<EpsilonGreedy>(EpsilonGreedySpec { arms: arms(), seed: 5, ..Default::default() }),
        ModelSpec::of::<Ucb1>(Ucb1Spec { arms: arms(), seed: 5, ..Default::default() }),
        thompson(Rewards::Unit),
        thompson(Rewards::Normal),
        ModelSpec::of::<LinUcb>(LinUcbSpec { arms: arms(), ..Default::default() }),
    ]
}

fn thompson(rewards: Rewards) -> ModelSpec {
    ModelSpec::of::<ThompsonSampling>(ThompsonSamplingSpec { arms: arms(), rewards, seed: 5, ..Default::default() })
}

fn context(spec: &ModelSpec, rows: usize) -> Array2<f64> {
    let width = if spec.contextual() { 2 } else { 0 };
    Array2::from_shape_fn((rows, width), |(_, j)| if j == 0 { 1.0 } else { 0.5 })
}

fn learn(model: &mut Model, chosen: &[usize], reward: &[f64], context: &Array2<f64>) -> (u64, u64) {
    let shape = (chosen.len(), 1 + context.ncols());
    let x = Array2::from_shape_fn(shape, |(i, j)| if j == 0 { chosen[i] as f64 } else { context[(i, j - 1)] });
    let y = Array1::from_vec(reward.to_vec());
    let trained = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
    (trained.rows, trained.skipped)
}

/// Plays `batches` of 20 rows: arm 1 wins in 8 of 10 cases, the others in 3. Gives the share of arm 1 in the last half.
fn play(model: &mut Model, batches: u64) -> f64 {
    let (mut good, mut all) = (0.0, 0.0);
    for batch in 0..batches {
        let context = context(model.spec(), 20);
        let ids: Vec<u64> = (0..20).map(|i| batch * 20 + i).collect();
        let chosen = model.choose(&ids, context.view()).unwrap();
        let mut luck = Stream::new(1000 + batch);
        let won = |arm: &usize| f64::from(u8::from(luck.unit() < if *arm == 1 { 0.8 } else { 0.3 }));
        let reward: Vec<f64> = chosen.iter().map(won).collect();
        learn(model, &chosen, &reward, &context);
        if batch >= batches / 2 {
            good += chosen.iter().filter(|arm| **arm == 1).count() as f64;
            all += 20.0;
        }
    }
    good / all
}

#[test]
fn every_policy_finds_the_best_arm() {
    for spec in specs() {
        let share = play(&mut Model::new(spec.clone()).unwrap(), 60);
        assert!(share > 0.85, "{spec:?}: {share}");
    }
}

#[test]
fn a_choice_depends_on_the_id_and_not_on_how_the_rows_are_cut() {
    for spec in specs() {
        let mut model = Model::new(spec.clone()).unwrap();
        play(&mut model, 3);
        let (contexts, ids) = (context(&spec, 30), (0..30).collect::<Vec<u64>>());
        let part = |from: usize, to: usize| model.choose(&ids[from..to], contexts.slice(s![from..to, ..])).unwrap();
        assert_eq!(part(0, 30), [part(0, 11), part(11, 30)].concat());
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
        assert_eq!(Model::from_json(&model.to_json()).unwrap(), model);
        assert!(matches!(model.predict(contexts.view()), Err(ModelError::NotGiven { .. })));
        assert!(model.choose(&ids, Array2::zeros((30, 7)).view()).is_err());
        assert!(model.choose(&ids, contexts.slice(s![..3, ..])).is_err());
    }
}

#[test]
fn contexts_decide_for_linucb() {
    let spec = LinUcbSpec { arms: arms(), alpha: 0.1, ..Default::default() };
    let mut model = Model::new(ModelSpec::of::<LinUcb>(spec)).unwrap();
    let context = Array2::from_shape_fn((60, 2), |(i, j)| f64::from(u8::from(i % 2 == j)));
    let chosen: Vec<usize> = (0..60).map(|i| i / 20).collect();
    // Arm 0 pays in the first context, arm 2 in the second.
    let pays = |i: usize| if i.is_multiple_of(2) { i < 20 } else { i >= 40 };
    let reward: Vec<f64> = (0..60).map(|i| f64::from(u8::from(pays(i)))).collect();
    assert_eq!(learn(&mut model, &chosen, &reward, &context), (60, 0));
    assert_eq!(model.choose(&[1, 2], context.slice(s![..2, ..])).unwrap(), [0, 2]);
}

#[test]
fn what_is_no_reward_is_skipped_and_a_definition_that_cannot_be_is_named() {
    let mut model = Model::new(thompson(Rewards::Unit)).unwrap();
    let x = Array2::from_shape_vec((6, 1), vec![0.0, 3.0, -1.0, 0.5, 1.0, 1.0]).unwrap();
    let y = Array1::from_vec(vec![1.0, 1.0, 1.0, 1.0, 2.0, f64::NAN]);
    let trained = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
    assert_eq!((trained.rows, trained.skipped), (1, 5));
    for (name, spec) in [
        ("arms", ModelSpec::of::<Ucb1>(Ucb1Spec::default())),
        ("arms", ModelSpec::of::<Ucb1>(Ucb1Spec { arms: vec!["a".into(), "a".into()], ..Default::default() })),
        ("decay", ModelSpec::of::<Ucb1>(Ucb1Spec { arms: arms(), decay: 0.0, ..Default::default() })),
        (
            "epsilon",
            ModelSpec::of::<EpsilonGreedy>(EpsilonGreedySpec { arms: arms(), epsilon: 2.0, ..Default::default() }),
        ),
        ("ridge", ModelSpec::of::<LinUcb>(LinUcbSpec { arms: arms(), ridge: 0.0, ..Default::default() })),
    ] {
        assert_eq!(spec.validate().unwrap_err().parameter, name);
    }
}

#[test]
fn forgetting_follows_an_arm_that_turns_bad() {
    for (decay, expected) in [(1.0, 0), (0.5, 2)] {
        let spec = EpsilonGreedySpec { arms: arms(), epsilon: 0.0, decay, ..Default::default() };
        let mut model = Model::new(ModelSpec::of::<EpsilonGreedy>(spec)).unwrap();
        let nothing = Array2::zeros((3, 0));
        for _ in 0..10 {
            learn(&mut model, &[0, 1, 2], &[1.0, 0.0, 0.2], &nothing);
        }
        for _ in 0..5 {
            learn(&mut model, &[0, 1, 2], &[0.0, 0.0, 1.0], &nothing);
        }
        assert_eq!(model.choose(&[0], nothing.slice(s![..1, ..])).unwrap(), [expected], "decay {decay}");
    }
}

#[test]
fn shares_and_regret() {
    let mut model = Model::new(thompson(Rewards::Unit)).unwrap();
    learn(&mut model, &[0, 0, 0, 1], &[1.0, 0.0, 0.5, 1.0], &Array2::zeros((4, 0)));
    let list = |values: [f64; 3]| Learned::List(values.to_vec());
    let expected = vec![
        ("counts", list([3.0, 1.0, 0.0])),
        ("shares", list([0.75, 0.25, 0.0])),
        ("means", list([0.5, 1.0, 0.0])),
        ("regret", Learned::Number(1.5)),
    ];
    assert_eq!(model.learned(), expected);
}

#[test]
fn ucb1_shares_a_batch_between_arms_that_are_nearly_as_good() {
    let spec = Ucb1Spec { arms: arms(), exploration: 1.0, ..Default::default() };
    let mut model = Model::new(ModelSpec::of::<Ucb1>(spec)).unwrap();
    let nothing = Array2::zeros((200, 0));
    let chosen: Vec<usize> = (0..200).map(|i| i % 3).collect();
    let reward: Vec<f64> = chosen.iter().map(|arm| [0.5, 0.51, 0.0][*arm]).collect();
    learn(&mut model, &chosen, &reward, &nothing);
    let chosen = model.choose(&(0..200).collect::<Vec<_>>(), nothing.view()).unwrap();
    let count = |of: usize| chosen.iter().filter(|arm| **arm == of).count();
    assert!(count(0) > 60 && count(1) > 60 && count(2) == 0, "{} {} {}", count(0), count(1), count(2));
}

#[test]
fn ucb1_is_the_papers_where_a_batch_has_one_row() {
    let spec = Ucb1Spec { arms: arms(), ..Default::default() };
    let (mut model, nothing) = (Model::new(ModelSpec::of::<Ucb1>(spec)).unwrap(), Array2::zeros((1, 0)));
    let (mut counts, mut sums) = ([0.0_f64; 3], [0.0; 3]);
    let bound = |count: f64, sum: f64, all: f64| sum / count + (2.0 * all.ln() / count).sqrt();
    for row in 0..300 {
        let arm = model.choose(&[row], nothing.view()).unwrap()[0];
        let all: f64 = counts.iter().sum();
        let bounds: Vec<f64> = (0..3).map(|arm| bound(counts[arm], sums[arm], all)).collect();
        let untried = counts.contains(&0.0);
        assert!(if untried { counts[arm] == 0.0 } else { bounds.iter().all(|other| *other <= bounds[arm] + 1e-9) });
        let reward = [0.2, 0.9, 0.4][arm];
        learn(&mut model, &[arm], &[reward], &nothing);
        counts[arm] += 1.0;
        sums[arm] += reward;
    }
}
