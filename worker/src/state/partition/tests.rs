use super::super::test_rows::{Change, Row, any_change, any_key, columns, dropped, keys, schema};
use super::*;
use bytes::Bytes;
use datafusion::arrow::array::{Float64Array, Int64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Rows = BTreeMap<Vec<u8>, Row>;

/// An owner, a follower that gets its deltas as bytes, and what both have to be.
struct World {
    owner: StatePartition,
    follower: StatePartition,
    rows: Vec<Rows>,
    snapshots: Vec<Bytes>,
    undoable: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Change),
    RollBack(u64),
    Forget(u64),
    Restart,
    Fill,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_change().prop_map(Step::Apply),
        2 => (0u64..4).prop_map(Step::RollBack),
        1 => (0u64..3).prop_map(Step::Forget),
        1 => Just(Step::Restart),
        1 => Just(Step::Fill),
    ]
}

fn encoded(partition: &StatePartition) -> Bytes {
    partition.snapshot().unwrap().encode().unwrap()
}

fn key_list(array: &BinaryArray) -> Vec<Vec<u8>> {
    values(array).map(<[u8]>::to_vec).collect()
}

impl World {
    fn new() -> Self {
        let owner = StatePartition::new(schema());
        Self {
            snapshots: vec![encoded(&owner)],
            follower: StatePartition::new(schema()),
            owner,
            rows: vec![Rows::new()],
            undoable: 0,
        }
    }

    fn version(&self) -> BatchId {
        BatchId(self.rows.len() as u64 - 1)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(change) => self.apply(&change),
            Step::RollBack(by) => self.roll_back(by),
            Step::Forget(ago) => {
                let batch = BatchId(self.version().0.saturating_sub(ago));
                self.owner.forget_undo_before(batch);
                self.follower.forget_undo_before(batch);
                self.undoable = self.undoable.min(ago as usize + 1);
            }
            Step::Restart => {
                let snapshot = Snapshot::decode(encoded(&self.owner)).unwrap();
                self.owner = StatePartition::from_snapshot(schema(), &snapshot).unwrap();
                self.follower = StatePartition::from_snapshot(schema(), &snapshot).unwrap();
                self.undoable = 0;
            }
            Step::Fill => {
                let snapshot = Snapshot::decode(encoded(&self.owner)).unwrap();
                let undo = self.owner.undo().map(|delta| Delta::decode(delta.encode().unwrap()).unwrap());
                self.follower = StatePartition::from_snapshot(schema(), &snapshot).unwrap();
                self.follower.set_undo(undo.collect()).unwrap();
            }
        }
        self.check();
    }

    fn apply(&mut self, change: &Change) {
        let old = self.rows.last().unwrap();
        let mut new = old.clone();
        for (key, row) in change {
            match row {
                Some(row) => new.insert(key.clone(), row.clone()),
                None => new.remove(key),
            };
        }
        let differs = |key: &&Vec<u8>| old.get(*key) != new.get(*key);
        let expected: Vec<Vec<u8>> = change.keys().filter(differs).cloned().collect();

        let batch = self.version().next();
        let columns = columns(change.values().map(Option::as_ref));
        let keys = keys(change.keys());
        let result = self.owner.apply(batch, &keys, &columns, Some(&dropped(change)));
        let delta = result.unwrap();
        assert_eq!(key_list(delta.rows.column(0).as_binary()), expected);
        let delta = Delta::decode(delta.encode().unwrap()).unwrap();
        self.follower.apply_delta(&delta).unwrap();

        self.rows.push(new);
        self.snapshots.push(encoded(&self.owner));
        self.undoable = (self.undoable + 1).min(UNDO_BATCHES);
    }

    fn roll_back(&mut self, by: u64) {
        let wanted = BatchId(self.version().0.saturating_sub(by));
        let steps = self.version().0 - wanted.0;
        for partition in [&mut self.owner, &mut self.follower] {
            let result = partition.roll_back_to(wanted);
            let kept = steps as usize <= self.undoable;
            assert_eq!(result.is_ok(), kept, "{result:?}");
        }
        if steps as usize <= self.undoable {
            self.undoable -= steps as usize;
            self.rows.truncate(wanted.0 as usize + 1);
            self.snapshots.truncate(wanted.0 as usize + 1);
        }
    }

    fn check(&self) {
        let rows = self.rows.last().unwrap();
        let mut expected: Vec<ArrayRef> = vec![Arc::new(keys(rows.keys()))];
        expected.extend(columns(rows.values().map(Some)));
        for partition in [&self.owner, &self.follower] {
            assert_eq!(partition.version(), self.version());
            assert_eq!(partition.len(), rows.len());
            assert_eq!(partition.all().unwrap().columns(), expected);
            assert_eq!(encoded(partition), *self.snapshots.last().unwrap());
        }
    }

    fn check_look_up(&self, asked: &[Vec<u8>]) {
        let rows = self.rows.last().unwrap();
        let absent = (None, None, None, None);
        let gathered = self.owner.gather(&keys(asked)).unwrap();
        let found = asked.iter().map(|key| rows.get(key).or(Some(&absent)));
        assert_eq!(gathered.columns, columns(found));
        let present = asked.iter().map(|key| Some(rows.contains_key(key)));
        assert_eq!(gathered.present, present.collect::<BooleanArray>());

        let rest = rows.keys().filter(|key| !asked.contains(key));
        assert_eq!(self.owner.untouched(&keys(asked)), keys(rest));
    }
}

proptest! {
    #[test]
    fn owner_and_follower_are_what_the_model_says(
        steps in prop::collection::vec(any_step(), 1..30),
        asked in prop::collection::vec(any_key(), 0..20),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.check_look_up(&asked);
    }
}

fn ints(values: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(values.to_vec()))]
}

fn counts() -> StatePartition {
    let field = Field::new("count", DataType::Int64, true);
    StatePartition::new(Arc::new(Schema::new(vec![field])))
}

fn letters(keys: &[&str]) -> BinaryArray {
    BinaryArray::from_iter_values(keys)
}

#[test]
fn batches_must_follow_each_other() {
    let mut state = counts();
    let refused = state.apply(BatchId(2), &letters(&["a"]), &ints(&[1]), None);
    assert!(matches!(refused, Err(StateError::NotNext { .. })));
    let delta = state.apply(BatchId(1), &letters(&["a"]), &ints(&[1]), None);
    let again = state.apply_delta(&delta.unwrap());
    assert!(matches!(again, Err(StateError::NotNext { .. })));
}

#[test]
fn a_refused_change_leaves_no_trace() {
    let mut state = counts();
    let first = letters(&["a", "b"]);
    state.apply(BatchId(1), &first, &ints(&[1, 2]), None).unwrap();
    let before = encoded(&state);

    for repeated in [letters(&["c", "a", "a"]), letters(&["c", "d", "c"])] {
        let refused = state.apply(BatchId(2), &repeated, &ints(&[7, 8, 9]), None);
        assert!(matches!(refused, Err(StateError::RepeatedKey { row: 2 })));
    }
    let doubles: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![1.0, 2.0]))];
    let wrong_type = state.apply(BatchId(2), &first, &doubles, None);
    assert!(matches!(wrong_type, Err(StateError::Shape(_))));
    let too_short = state.apply(BatchId(2), &first, &ints(&[1]), None);
    assert!(matches!(too_short, Err(StateError::Shape(_))));
    let null_key = BinaryArray::from(vec![Some(&b"a"[..]), None]);
    let null_key = state.apply(BatchId(2), &null_key, &ints(&[1, 2]), None);
    assert!(matches!(null_key, Err(StateError::Shape(_))));
    assert_eq!(encoded(&state), before);
}

#[test]
fn a_delta_of_another_shape_is_refused() {
    let mut other = StatePartition::new(schema());
    let row = (Some(1), None, None, None);
    let columns = columns([Some(&row)]);
    let delta = other.apply(BatchId(1), &letters(&["a"]), &columns, None);
    let refused = counts().apply_delta(&delta.unwrap());
    assert!(matches!(refused, Err(StateError::Shape(_))));
}

#[test]
fn initial_rows_come_before_the_first_batch_and_only_once() {
    let mut state = counts();
    state.load_initial(&letters(&["b"]), &ints(&[2])).unwrap();
    state.load_initial(&letters(&["a"]), &ints(&[1])).unwrap();
    let again = state.load_initial(&letters(&["c", "a"]), &ints(&[3, 4]));
    assert!(matches!(again, Err(StateError::RepeatedKey { row: 1 })));
    assert_eq!((state.version(), state.len()), (BatchId(0), 2));

    state.apply(BatchId(1), &letters(&[]), &ints(&[]), None).unwrap();
    let late = state.load_initial(&letters(&["c"]), &ints(&[3]));
    assert!(matches!(late, Err(StateError::NotNext { .. })));
    assert_eq!(state.len(), 2);
}

#[test]
fn small_numbers_are_found_in_a_column() {
    let mut state = counts();
    state.load_initial(&letters(&["d", "a", "b"]), &ints(&[1, 2, 3])).unwrap();
    let some = vec![Arc::new(Int64Array::from(vec![None, Some(0)])) as ArrayRef];
    state.apply(BatchId(1), &letters(&["n", "z"]), &some, None).unwrap();
    let below =
        |state: &StatePartition, limit, keys: &[&str]| key_list(&state.untouched_below(0, limit, &letters(keys)));
    assert_eq!(below(&state, 3, &["x"]), [b"a", b"d", b"n", b"z"]);
    assert_eq!(below(&state, 3, &["a", "n"]), [b"d", b"z"]);
    assert_eq!(below(&state, 0, &[]), [b"n"]);
    state.apply(BatchId(2), &letters(&["d"]), &ints(&[9]), Some(&vec![true].into())).unwrap();
    assert_eq!(below(&state, 3, &[]), [b"a", b"n", b"z"]);
    assert_eq!(state.untouched_below(1, 3, &letters(&[])).len(), 0);
}

#[test]
fn churn_does_not_fill_the_memory() {
    let mut state = counts();
    let mut gone: Vec<Vec<u8>> = Vec::new();
    let mut most = 0;
    for batch in 1..=200u64 {
        let new = (0..500u64).map(|n| format!("session-{batch}-{n}").into_bytes());
        let mut all: Vec<Vec<u8>> = new.collect();
        let dropped = [vec![false; all.len()], vec![true; gone.len()]].concat();
        let values = vec![batch as i64; dropped.len()];
        let fresh = all.clone();
        all.append(&mut gone);
        gone = fresh;
        let dropped = BooleanArray::from(dropped);
        let applied = state.apply(BatchId(batch), &keys(&all), &ints(&values), Some(&dropped));
        applied.unwrap();
        if batch == 50 {
            most = state.memory_bytes();
        }
    }
    assert_eq!(state.len(), 500);
    assert!(state.memory_bytes() < 2 * most);
}

#[test]
fn lists_are_kept_and_compared() {
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    let field = Field::new("recent", DataType::List(item), true);
    let mut state = StatePartition::new(Arc::new(Schema::new(vec![field])));
    let lists = |lists: &[&[i64]]| -> Vec<ArrayRef> {
        let lists = lists.iter().map(|l| Some(l.iter().copied().map(Some)));
        vec![Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))]
    };
    let keys = letters(&["a", "b"]);
    state.apply(BatchId(1), &keys, &lists(&[&[1, 2], &[]]), None).unwrap();
    let delta = state.apply(BatchId(2), &keys, &lists(&[&[1, 2], &[3]]), None);
    assert_eq!(delta.unwrap().rows.num_rows(), 1);
    let gathered = state.gather(&keys).unwrap();
    assert_eq!(gathered.columns, lists(&[&[1, 2], &[3]]));
    assert_eq!(state.gather(&letters(&[])).unwrap().columns[0].len(), 0);
}
