//! Hoeffding trees for classes: Domingos, Hulten, Mining high-speed data streams, 2000; adaptive: Bifet, Gavaldà, Adaptive learning from
//! evolving data streams, 2009.
//!
//! A leaf gathers what it sees. When the best split of it is better than the second best by more than chance allows
//! (`sqrt(R^2 ln(1 / delta) / (2 n))`, `R` the binary logarithm of the classes), or the two are as good as equal, it splits.
//! An adaptive tree watches the errors of every branch with ADWIN; where they rise it grows another branch beside it, and takes that once
//! it errs less.

mod leaf;

use crate::{
    classes::{check_classes, class_of, likeliest},
    drift::{Adwin, AdwinSpec, Drift},
    envelope::are_counts,
    error::{SpecError, at_least_one, number},
    exact,
    family::{Answers, Family, Learns},
    parameters::{parameters, words},
    report::{Learned, LearnedKind, Shape},
    rows::Row,
};
use leaf::Leaf;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;

parameters! {
    /// Parameters of a Hoeffding tree; the defaults are River's where it has them.
    pub struct HoeffdingTreeSpec {
        /// Number of classes; labels are 0 to `classes - 1`. Default 2.
        pub classes: u32 = 2,
        /// A leaf looks for a split after so many rows (by weight). Default 200.
        pub grace_period: f64 = 200.0,
        /// Chance that a split is not the best one. Default 1e-7.
        pub delta: f64 = 1e-7,
        /// Below this bound the two best splits count as equal. Default 0.05.
        pub tau: f64 = 0.05,
        /// What a leaf predicts with. Default `naive_bayes_adaptive`.
        pub leaf_prediction: LeafPrediction = LeafPrediction::NaiveBayesAdaptive,
        /// Places between the least and the largest value at which a feature may be split. Default 10.
        pub split_points: u32 = 10,
        /// Each side of a split has to have more than this share of the rows. Default 0.01.
        pub min_branch_fraction: f64 = 0.01,
        /// A leaf with more than this share of one class is not split. Default 0.99.
        pub max_share_to_split: f64 = 0.99,
        /// Splits on the way to a leaf at most, up to 50. Default 30.
        pub max_depth: u32 = 30,
        /// Leaves at most, those of branches that grow aside included. Default 1000.
        pub max_leaves: u32 = 1000,
        /// Whether branches are replaced when their errors rise. Default false.
        pub adaptive: bool = false,
        /// Adaptive only: ADWIN's `delta`. Default 0.002.
        pub drift_delta: f64 = 0.002,
    }
}

/// What a leaf predicts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeafPrediction {
    /// The share of every class among its rows.
    Majority,
    /// Naive Bayes with normal features.
    NaiveBayes,
    /// Whichever of the two was right more often in this leaf (Holmes, Kirkby, Pfahringer, Stress-testing Hoeffding trees, 2005).
    #[default]
    NaiveBayesAdaptive,
}

words!(LeafPrediction: Majority, NaiveBayes, NaiveBayesAdaptive);

impl HoeffdingTreeSpec {
    fn validate(&self) -> Result<(), SpecError> {
        check_classes(self.classes)?;
        number("grace_period", self.grace_period, |g| g >= 1.0, "use at least 1")?;
        let chance = |name, value| number(name, value, |v| 0.0 < v && v < 1.0, "use a chance between 0 and 1");
        chance("delta", self.delta)?;
        chance("drift_delta", self.drift_delta)?;
        number("tau", self.tau, |t| t >= 0.0, "use 0 or more")?;
        number("min_branch_fraction", self.min_branch_fraction, |f| (0.0..0.5).contains(&f), "use 0 to below 0.5")?;
        number("max_share_to_split", self.max_share_to_split, |f| 0.0 < f && f <= 1.0, "use a share up to 1")?;
        at_least_one("split_points", self.split_points.into())?;
        at_least_one("max_leaves", self.max_leaves.into())?;
        if !(1..=DEEPEST).contains(&self.max_depth) {
            return Err(SpecError::new("max_depth", format!("is {}", self.max_depth), format!("use 1 to {DEEPEST}")));
        }
        Ok(())
    }

    fn watch(&self) -> AdwinSpec {
        AdwinSpec { delta: self.drift_delta, ..AdwinSpec::default() }
    }
}

/// A tree is walked by recursion, and JSON readers take about 128 levels: two per split.
const DEEPEST: u32 = 50;

/// A branch and the one beside it are compared once both have seen so many rows (as MOA and River).
const COMPARED_FROM: u64 = 300;

/// Chance of taking the branch beside though it is not better (as MOA and River).
const SWAPPED_WRONGLY: f64 = 0.05;

/// Several classes, a tree that splits where it is sure enough; adaptive or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoeffdingTree {
    dimension: usize,
    root: Node,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    leaves: u64,
    /// Branches begun beside others, taken, and given up.
    begun: u64,
    taken: u64,
    dropped: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    Leaf(Leaf),
    #[serde(deserialize_with = "read_split")]
    Split(Box<Split>),
}

/// Reads a split, unless it is within more of them than a tree can have: a branch that grows beside another one repeats its
/// depth once.
fn read_split<'de, D: Deserializer<'de>>(from: D) -> Result<Box<Split>, D::Error> {
    thread_local!(static WITHIN: Cell<u32> = const { Cell::new(0) });
    let within = WITHIN.get();
    if within > DEEPEST {
        return Err(D::Error::custom(format!("a tree has at most {DEEPEST} splits on the way to a leaf")));
    }
    WITHIN.set(within + 1);
    let split = Box::deserialize(from);
    WITHIN.set(within);
    split
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Split {
    feature: usize,
    /// Rows up to here go left, all others right.
    #[serde(with = "exact::number")]
    threshold: f64,
    left: Node,
    right: Node,
    /// Adaptive trees: the errors of this branch.
    watch: Option<Adwin>,
    beside: Option<Beside>,
}

/// A branch that grows beside another, and its errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Beside {
    node: Node,
    errors: Adwin,
}

/// A row to learn, and what the tree allows.
struct Lesson<'a> {
    spec: &'a HoeffdingTreeSpec,
    row: &'a Row<'a>,
    label: usize,
    /// Whether the branch grows beside another. Beside it no further ones are begun.
    aside: bool,
}

impl Node {
    fn leaf(&self, x: &[f64]) -> &Leaf {
        match self {
            Node::Leaf(leaf) => leaf,
            Node::Split(split) if x[split.feature] <= split.threshold => split.left.leaf(x),
            Node::Split(split) => split.right.leaf(x),
        }
    }

    fn wrong(&self, lesson: &Lesson<'_>) -> f64 {
        let said = likeliest(&self.leaf(lesson.row.x).probabilities(lesson.spec, lesson.row.x));
        f64::from(u8::from(said != lesson.label as f64))
    }

    fn learn(&mut self, lesson: &Lesson<'_>, depth: u32, counts: &mut Counts) {
        match self {
            Node::Leaf(leaf) => {
                leaf.learn(lesson.spec, lesson.row, lesson.label);
                let room = depth < lesson.spec.max_depth && counts.leaves < lesson.spec.max_leaves.into();
                let Some((feature, threshold, [left, right])) = room.then(|| leaf.split(lesson.spec)).flatten() else {
                    return;
                };
                let watch = lesson.spec.adaptive.then(Adwin::default);
                let (left, right) = (Node::Leaf(left), Node::Leaf(right));
                *self = Node::Split(Box::new(Split { feature, threshold, left, right, watch, beside: None }));
                counts.leaves += 1;
            }
            Node::Split(split) => {
                if let Some(better) = split.adapt(lesson, depth, counts) {
                    *self = better;
                    return self.learn(lesson, depth, counts);
                }
                let child =
                    if lesson.row.x[split.feature] <= split.threshold { &mut split.left } else { &mut split.right };
                child.learn(lesson, depth + 1, counts);
            }
        }
    }

    /// Leaves of this branch and those beside it.
    fn leaves(&self) -> u64 {
        match self {
            Node::Leaf(_) => 1,
            Node::Split(split) => {
                let beside = split.beside.as_ref().map_or(0, |beside| beside.node.leaves());
                split.left.leaves() + split.right.leaves() + beside
            }
        }
    }

    fn finite(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.finite(),
            Node::Split(split) => {
                let beside = split.beside.as_ref().is_none_or(|beside| beside.node.finite());
                beside && split.left.finite() && split.right.finite()
            }
        }
    }

    fn depth(&self) -> u64 {
        match self {
            Node::Leaf(_) => 0,
            Node::Split(split) => 1 + split.left.depth().max(split.right.depth()),
        }
    }

    fn consistent(&self, spec: &HoeffdingTreeSpec, dimension: usize, depth: u32) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.consistent(spec, dimension),
            Node::Split(split) => {
                let beside = split.beside.as_ref().is_none_or(|b| b.node.consistent(spec, dimension, depth));
                let watch = spec.watch();
                let watches = split.watch.iter().chain(split.beside.iter().map(|beside| &beside.errors));
                let watches = watches.into_iter().all(|errors| errors.consistent(&watch));
                let children = || [&split.left, &split.right].iter().all(|n| n.consistent(spec, dimension, depth + 1));
                split.feature < dimension && depth < DEEPEST && watches && beside && children()
            }
        }
    }

    fn describe(&self, indent: usize, text: &mut String) {
        let line = match self {
            Node::Leaf(leaf) => format!("{:indent$}{}\n", "", leaf.describe()),
            Node::Split(split) => format!("{:indent$}x[{}] <= {}\n", "", split.feature, split.threshold),
        };
        text.push_str(&line);
        if let Node::Split(split) = self {
            split.left.describe(indent + 2, text);
            split.right.describe(indent + 2, text);
        }
    }
}

impl Split {
    /// Watches the errors; gives the branch beside if it is to take this one's place.
    fn adapt(&mut self, lesson: &Lesson<'_>, depth: u32, counts: &mut Counts) -> Option<Node> {
        let spec = lesson.spec.watch();
        let side = if lesson.row.x[self.feature] <= self.threshold { &self.left } else { &self.right };
        let wrong = self.watch.is_some().then(|| side.wrong(lesson))?;
        let watch = self.watch.as_mut()?;
        let before = watch.estimate().unwrap_or(0.0);
        let drift = watch.update(&spec, wrong) == Drift::Detected;
        let now = watch.estimate().unwrap_or(0.0);
        if let Some(beside) = &mut self.beside {
            beside.errors.update(&spec, beside.node.wrong(lesson));
            beside.node.learn(&Lesson { aside: true, ..*lesson }, depth, counts);
            let [own, other] = [(now, watch.width()), (beside.errors.estimate().unwrap_or(1.0), beside.errors.width())];
            match compare(own, other) {
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => {
                    counts.taken += 1;
                    counts.leaves -= self.left.leaves() + self.right.leaves();
                    return self.beside.take().map(|beside| beside.node);
                }
                std::cmp::Ordering::Less => {
                    counts.dropped += 1;
                    counts.leaves -= beside.node.leaves();
                    self.beside = None;
                }
            }
        } else if drift && now > before && !lesson.aside && counts.leaves < lesson.spec.max_leaves.into() {
            counts.begun += 1;
            counts.leaves += 1;
            let width = lesson.row.x.len();
            self.beside = Some(Beside { node: Node::Leaf(Leaf::new(lesson.spec, width)), errors: Adwin::default() });
        }
        None
    }
}

/// Whether a branch (error and number of rows) errs more than the one beside it, or less, by more than chance allows.
fn compare(own: (f64, u64), other: (f64, u64)) -> std::cmp::Ordering {
    if own.1 <= COMPARED_FROM || other.1 <= COMPARED_FROM {
        return std::cmp::Ordering::Equal;
    }
    let rows = 1.0 / own.1 as f64 + 1.0 / other.1 as f64;
    let bound = libm::sqrt(2.0 * own.0 * (1.0 - own.0) * libm::log(2.0 / SWAPPED_WRONGLY) * rows);
    if own.0 - other.0 > bound {
        std::cmp::Ordering::Greater
    } else if other.0 - own.0 > bound {
        std::cmp::Ordering::Less
    } else {
        std::cmp::Ordering::Equal
    }
}

impl Family for HoeffdingTree {
    type Spec = HoeffdingTreeSpec;
    const NAME: &'static str = "hoeffding_tree";
    const SHAPE: Shape = &[
        ("leaves", LearnedKind::Count),
        ("depth", LearnedKind::Count),
        ("branches_begun", LearnedKind::Count),
        ("branches_taken", LearnedKind::Count),
        ("tree", LearnedKind::Text),
    ];

    fn validate(spec: &HoeffdingTreeSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(spec: &HoeffdingTreeSpec) -> Answers<'_> {
        Answers::Class { classes: spec.classes as usize }
    }

    fn learns(_: &HoeffdingTreeSpec, _: usize) -> Learns {
        Learns::ByRecord
    }

    fn new(spec: &HoeffdingTreeSpec, dimension: usize) -> Self {
        let counts = Counts { leaves: 1, ..Counts::default() };
        HoeffdingTree { dimension, root: Node::Leaf(Leaf::new(spec, dimension)), counts }
    }

    fn features(&self) -> usize {
        self.dimension
    }

    /// Rows that are not finite are not learnt, but squares of very large numbers are not finite either.
    fn finite(&self) -> bool {
        self.root.finite()
    }

    fn consistent(&self, spec: &HoeffdingTreeSpec) -> bool {
        let Counts { leaves, begun, taken, dropped } = self.counts;
        are_counts(&[begun, taken, dropped])
            && leaves == self.root.leaves()
            && self.root.consistent(spec, self.dimension, 0)
    }

    fn predict(&self, spec: &HoeffdingTreeSpec, x: &[f64]) -> f64 {
        likeliest(&self.root.leaf(x).probabilities(spec, x))
    }

    fn probabilities(&self, spec: &HoeffdingTreeSpec, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.root.leaf(x).probabilities(spec, x))
    }

    fn record(&mut self, spec: &HoeffdingTreeSpec, row: &Row<'_>) -> Option<f64> {
        let label = class_of(row.y, spec.classes as usize)?;
        if !row.counts() || !crate::kernel::all_finite(row.x) {
            return None;
        }
        let p = self.root.leaf(row.x).probabilities(spec, row.x)[label];
        self.root.learn(&Lesson { spec, row, label, aside: false }, 0, &mut self.counts);
        Some(-libm::log(p.clamp(1e-15, 1.0)))
    }

    fn learned(&self) -> Vec<Learned> {
        let mut text = String::new();
        self.root.describe(0, &mut text);
        vec![
            Learned::Count(self.counts.leaves),
            Learned::Count(self.root.depth()),
            Learned::Count(self.counts.begun),
            Learned::Count(self.counts.taken),
            Learned::Text(text),
        ]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        let eager = |leaf, adaptive| serde_json::json!({ "classes": 3, "grace_period": 5, "tau": 2.0, "leaf_prediction": leaf, "adaptive": adaptive });
        vec![eager("majority", false), eager("naive_bayes", true), eager("naive_bayes_adaptive", true)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_is_too_deep_is_refused_before_the_stack_ends() {
        let split = [&[1, 0][..], &0.5_f64.to_le_bytes()].concat();
        let deep = [vec![2], split.repeat(100_000)].concat();
        let why = postcard::from_bytes::<HoeffdingTree>(&deep).unwrap_err();
        assert_eq!(why, postcard::Error::SerdeDeCustom);
        let short = [vec![2], split.repeat(DEEPEST as usize)].concat();
        let why = postcard::from_bytes::<HoeffdingTree>(&short).unwrap_err();
        assert_eq!(why, postcard::Error::DeserializeUnexpectedEnd);
    }
}
