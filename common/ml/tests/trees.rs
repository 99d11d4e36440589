//! Trees on streams whose labels turn round. River 0.26 on the same streams, over the last half of the rows: 0.95 to 0.99, and 0.90 where
//! leaves predict their majority.

use ndarray::{Array1, Array2, s};
use tidemill_ml::families::tree::{HoeffdingTree, HoeffdingTreeSpec, LeafPrediction};
use tidemill_ml::{Model, ModelSpec, Rows};

const ROWS: usize = 30_000;
const BATCH: usize = 500;

/// A uniform number from 0 to 1: a mix of a seed and a place.
fn unit(seed: u64, place: u64) -> f64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Three features and a class. From a third of the rows on every class is the other one.
fn stream(seed: u64, class: fn(&[f64]) -> bool) -> (Array2<f64>, Array1<f64>) {
    let x = Array2::from_shape_fn((ROWS, 3), |(i, j)| unit(seed, (i * 4 + j) as u64));
    let label = |i: usize| f64::from(u8::from(class(x.row(i).as_slice().unwrap()) != (i >= ROWS / 3)));
    let y = (0..ROWS).map(label).collect();
    (x, y)
}

/// Share of the last half of the rows that was predicted right before it was learnt.
fn accuracy(spec: HoeffdingTreeSpec, (x, y): &(Array2<f64>, Array1<f64>)) -> f64 {
    let mut model = Model::new(ModelSpec::of::<HoeffdingTree>(spec)).unwrap();
    let mut right = 0;
    for start in (0..ROWS).step_by(BATCH) {
        let rows = start..start + BATCH;
        let labels = y.slice(s![rows.clone()]);
        let batch = Rows { x: x.slice(s![rows, ..]), y: Some(labels), weight: None };
        let (predicted, _) = model.train_per_record(&batch).unwrap();
        let known = predicted.iter().zip(&labels).filter(|(predicted, label)| predicted == label).count();
        right += if start >= ROWS / 2 { known } else { 0 };
    }
    right as f64 / (ROWS / 2) as f64
}

fn side(x: &[f64]) -> bool {
    x[0] > 0.5
}

fn corner(x: &[f64]) -> bool {
    x[0] > 0.5 && x[1] > 0.5
}

#[test]
fn a_tree_goes_on_splitting_when_its_labels_turn_round() {
    let leaves = [
        (LeafPrediction::Majority, 0.89),
        (LeafPrediction::NaiveBayes, 0.95),
        (LeafPrediction::NaiveBayesAdaptive, 0.95),
    ];
    for (name, class) in [("side", side as fn(&[f64]) -> bool), ("corner", corner)] {
        for seed in [7, 8] {
            let stream = stream(seed, class);
            for (leaf_prediction, least) in leaves {
                for adaptive in [false, true] {
                    let spec = HoeffdingTreeSpec { leaf_prediction, adaptive, ..HoeffdingTreeSpec::default() };
                    let found = accuracy(spec, &stream);
                    assert!(found >= least, "{name} {seed} {leaf_prediction:?}, adaptive {adaptive}: {found}");
                }
            }
        }
    }
}
