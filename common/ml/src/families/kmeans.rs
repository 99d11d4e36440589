//! Streaming k-means as Spark's `StreamingKMeans`: mini-batch k-means (Sculley, Web-scale k-means clustering, 2010) with forgetting.
//!
//! For every centre `c` of weight `w` and the rows nearest to it, of weight `n` and mean `m`:
//! `w' = w * discount + n`, `c' = c + n / w' * (m - c)`.

use crate::{
    error::{SpecError, at_least_one, number},
    exact,
    family::{Answers, Family, Fixed, Learns, OnePass, Sums},
    kernel,
    parameters::{parameters, words},
    partial::Partial,
    random::Stream,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::{Row, Table},
};
use serde::{Deserialize, Serialize};

parameters! {
    /// Parameters of streaming k-means; the defaults are Spark's.
    pub struct KMeansSpec {
        /// Number of clusters. Default 2.
        pub k: u32 = 2,
        /// What is left of a centre's weight after a unit of time, from 0 (only the newest batch counts) to 1 (all count alike). Default 1.
        pub decay_factor: f64 = 1.0,
        /// Instead of `decay_factor`: after how many units of time half of a weight is left.
        pub half_life: Option<f64> = None,
        /// The unit of time. Default `batches`.
        pub time_unit: TimeUnit = TimeUnit::Batches,
        /// Centres before the first batch, `k` lists; they fix the number of features. Default: random, every coordinate from N(0, 1).
        pub initial_centers: Option<Vec<Vec<f64>>> = None,
        /// Weights of the centres before the first batch, `k` numbers. Default 1 each.
        pub initial_weights: Option<Vec<f64>> = None,
        /// Key of the random centres. Default 0.
        pub seed: u64 = 0,
    }
}

/// What makes centres forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Every batch, also an empty one.
    #[default]
    Batches,
    /// Every row (by its weight) of the batch, whichever centre it is nearest to.
    Points,
}

words!(TimeUnit: Batches, Points);

impl KMeansSpec {
    fn validate(&self) -> Result<(), SpecError> {
        at_least_one("k", self.k.into())?;
        number("decay_factor", self.decay_factor, |a| (0.0..=1.0).contains(&a), "use a number from 0 to 1")?;
        if let Some(half_life) = self.half_life {
            number("half_life", half_life, |h| h > 0.0, "use a positive number")?;
            if self.decay_factor != 1.0 {
                return Err(SpecError::new("half_life", "is given beside `decay_factor`", "give only one of them"));
            }
        }
        self.validate_start()
    }

    fn validate_start(&self) -> Result<(), SpecError> {
        let k = self.k as usize;
        if let Some(centers) = &self.initial_centers {
            let dimension = centers.first().map_or(0, Vec::len);
            if centers.len() != k {
                let problem = format!("holds {} centres, `k` is {k}", centers.len());
                return Err(SpecError::new("initial_centers", problem, "give one per cluster"));
            }
            if dimension == 0 || centers.iter().any(|center| center.len() != dimension) {
                let mend = "give as many coordinates to each, at least one";
                return Err(SpecError::new("initial_centers", "holds centres of different or no dimension", mend));
            }
            if !centers.iter().all(|center| kernel::all_finite(center)) {
                return Err(SpecError::new(
                    "initial_centers",
                    "holds a number that is not finite",
                    "give finite numbers",
                ));
            }
        }
        match &self.initial_weights {
            Some(weights) if weights.len() != k => {
                let problem = format!("holds {} weights, `k` is {k}", weights.len());
                Err(SpecError::new("initial_weights", problem, "give one per cluster"))
            }
            Some(weights) if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) => {
                Err(SpecError::new("initial_weights", "holds a number below 0 or not finite", "give 0 or more"))
            }
            _ => Ok(()),
        }
    }

    fn decay(&self) -> f64 {
        match self.half_life {
            Some(half_life) => libm::exp(libm::log(0.5) / half_life),
            None => self.decay_factor,
        }
    }
}

/// k centres that forget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KMeans {
    #[serde(with = "exact::lists")]
    centers: Vec<Vec<f64>>,
    #[serde(with = "exact::list")]
    weights: Vec<f64>,
}

impl Family for KMeans {
    type Spec = KMeansSpec;
    const NAME: &'static str = "kmeans";
    const SHAPE: Shape = &[("centers", LearnedKind::Lists), ("weights", LearnedKind::List)];
    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &KMeansSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(_: &KMeansSpec) -> Answers<'_> {
        Answers::Cluster
    }

    fn learns(_: &KMeansSpec, _: usize) -> Learns {
        Learns::FromSums
    }

    fn new(spec: &KMeansSpec, dimension: usize) -> KMeans {
        let k = spec.k as usize;
        let centers = spec.initial_centers.clone().unwrap_or_else(|| {
            let mut numbers = Stream::new(spec.seed);
            (0..k).map(|_| (0..dimension).map(|_| numbers.normal()).collect()).collect()
        });
        let weights = spec.initial_weights.clone().unwrap_or_else(|| vec![1.0; k]);
        KMeans { centers, weights }
    }

    fn fixed(spec: &KMeansSpec) -> Option<Fixed> {
        let center = spec.initial_centers.as_ref()?.first()?;
        Some(Fixed { parameter: "initial_centers", features: center.len() })
    }

    fn features(&self) -> usize {
        self.centers.first().map_or(0, Vec::len)
    }

    fn finite(&self) -> bool {
        self.centers.iter().all(|center| kernel::all_finite(center)) && kernel::all_finite(&self.weights)
    }

    fn consistent(&self, spec: &KMeansSpec) -> bool {
        let (k, dimension) = (spec.k as usize, self.features());
        let lists = self.centers.iter().all(|center| center.len() == dimension);
        lists && self.centers.len() == k && self.weights.len() == k
    }

    fn predict(&self, _: &KMeansSpec, x: &[f64]) -> f64 {
        self.nearest(x).0 as f64
    }

    fn distances(&self, _: &KMeansSpec, x: &[f64]) -> Option<[f64; 2]> {
        Some(self.nearest_two(x))
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::Lists(self.centers.clone()), Learned::List(self.weights.clone())]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        ["batches", "points"].map(|unit| serde_json::json!({ "k": 3, "decay_factor": 0.5, "time_unit": unit })).into()
    }
}

impl OnePass for KMeans {
    /// A list per centre: the sum of its rows and, last, their weight.
    fn nothing(&self, _: &KMeansSpec) -> Partial {
        let dimension = self.features();
        Partial::zeros(dimension, self.centers.iter().map(|_| dimension + 1))
    }

    fn gather(&self, _: &KMeansSpec, split: &Table<'_>, sums: &mut Partial) {
        self.gather_assigned(split, sums, |_, row| self.nearest(row.x));
    }

    fn learn(&mut self, spec: &KMeansSpec, sums: &Partial) -> Trained {
        let weight = sums.lists.iter().filter_map(|list| list.last()).fold(0.0, |sum, weight| sum + weight);
        self.move_centers(spec, &sums.lists, weight);
        sums.trained_once(0.0)
    }
}

impl KMeans {
    /// The nearest centre, the first of equals, and the squared distance to it. Of a row that is not near to any: centre 0.
    fn nearest(&self, x: &[f64]) -> (usize, f64) {
        let mut best = (0, f64::INFINITY);
        for (index, center) in self.centers.iter().enumerate() {
            let distance = kernel::squared_distance(center, x);
            if distance < best.1 {
                best = (index, distance);
            }
        }
        // Not one comparison held: something is infinite or not a number, and so is the distance.
        if best.1 == f64::INFINITY { (0, kernel::squared_distance(&self.centers[0], x)) } else { best }
    }

    /// Distances to the nearest and to the second nearest centre, which is as far as can be if there is only one.
    fn nearest_two(&self, x: &[f64]) -> [f64; 2] {
        let (nearest, squared) = self.nearest(x);
        let others = self.centers.iter().enumerate().filter(|(index, _)| *index != nearest);
        let second = others.fold(f64::INFINITY, |least, (_, center)| least.min(kernel::squared_distance(center, x)));
        [libm::sqrt(squared), libm::sqrt(second)]
    }

    /// `assign` says which centre a row (its place in the split, the row) belongs to and how far it is.
    fn gather_assigned(&self, split: &Table<'_>, sums: &mut Partial, assign: impl Fn(usize, &Row<'_>) -> (usize, f64)) {
        for (place, row) in split.rows().enumerate() {
            if !row.counts() {
                sums.skipped += 1;
                continue;
            }
            let (index, distance) = assign(place, &row);
            if let Some((weight, sum)) = sums.lists[index].split_last_mut() {
                kernel::add_scaled(sum, row.weight, row.x);
                *weight += row.weight;
            }
            sums.rows += 1;
            sums.weight += row.weight;
            sums.loss += distance * row.weight;
        }
    }

    /// Moves every centre by the sum and the weight of its rows.
    fn move_centers(&mut self, spec: &KMeansSpec, gathered: &[Vec<f64>], points: f64) {
        let discount = match spec.time_unit {
            TimeUnit::Batches => spec.decay(),
            TimeUnit::Points => libm::pow(spec.decay(), points),
        };
        for ((center, weight), gathered) in self.centers.iter_mut().zip(&mut self.weights).zip(gathered) {
            *weight *= discount;
            if let Some((of_rows, sum)) = gathered.split_last().filter(|(of_rows, _)| **of_rows > 0.0) {
                *weight += of_rows;
                let share = of_rows / weight.max(1e-16);
                center.iter_mut().for_each(|c| *c *= 1.0 - share);
                kernel::add_scaled(center, share / of_rows, sum);
            }
        }
        self.split_largest_if_one_dies();
    }

    /// A cluster of next to no weight gives up its place and takes half of the largest, a hair's breadth beside it.
    fn split_largest_if_one_dies(&mut self) {
        let (mut largest, mut smallest) = (0, 0);
        for (index, weight) in self.weights.iter().enumerate() {
            if *weight > self.weights[largest] {
                largest = index;
            }
            if *weight < self.weights[smallest] {
                smallest = index;
            }
        }
        let (most, least) = (self.weights[largest], self.weights[smallest]);
        if least >= 1e-8 * most || !most.is_finite() {
            return;
        }
        self.weights[largest] = (most + least) / 2.0;
        self.weights[smallest] = (most + least) / 2.0;
        let place = self.centers[largest].clone();
        for (j, x) in place.into_iter().enumerate() {
            let apart = 1e-14 * x.abs().max(1.0);
            self.centers[largest][j] = x + apart;
            self.centers[smallest][j] = x - apart;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use serde_json::Value;

    fn lists(value: &Value) -> Vec<Vec<f64>> {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// By how much the nearest centre is nearer than the next.
    fn margin(state: &KMeans, x: &[f64]) -> f64 {
        let mut distances: Vec<f64> = state.centers.iter().map(|center| kernel::squared_distance(center, x)).collect();
        distances.sort_by(f64::total_cmp);
        distances[1] - distances[0]
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-3), "{found:?}, Spark has {expected:?}");
        }
    }

    fn as_spark(text: &str, spec: impl Fn(&Value) -> KMeansSpec) {
        let case: Value = serde_json::from_str(text).unwrap();
        let mut spec = spec(&case["params"]);
        spec.initial_centers = Some(lists(&case["params"]["initialCenters"]));
        spec.initial_weights = serde_json::from_value(case["params"]["initialWeights"].clone()).unwrap();
        spec.validate().unwrap();
        let mut state = KMeans::new(&spec, 2);
        for batch in case["batches"].as_array().unwrap() {
            let x = lists(&batch["input"]["x"]);
            let table = Array2::from_shape_vec((x.len(), 2), x.concat()).unwrap();
            let table = Table::of(table.view());
            let spark = &batch["spark"];
            let given: Vec<usize> = serde_json::from_value(spark["assignments_with_previous_model"].clone()).unwrap();
            let ours: Vec<usize> = x.iter().map(|x| state.nearest(x).0).collect();
            // Where centres lie 1e-14 apart, rounding decides: Spark's assignments are taken as they are.
            if spark["ambiguous"].as_bool() != Some(true) {
                assert_eq!(ours, given);
            }
            let mut sums = state.nothing(&spec);
            state.gather_assigned(&table, &mut sums, |place, _| (given[place], 0.0));
            state.learn(&spec, &sums);
            close(&state.weights, &serde_json::from_value::<Vec<f64>>(spark["weights"].clone()).unwrap());
            close(&state.centers.concat(), &lists(&spark["centers"]).concat());
            let probes: Vec<usize> = lists(&case["probe"]).iter().map(|x| state.nearest(x).0).collect();
            let expected: Vec<usize> = serde_json::from_value(spark["probe_predictions"].clone()).unwrap();
            // The origin lies between the two groups of the dying suite, as far from both up to rounding.
            let decided: Vec<usize> =
                (0..probes.len()).filter(|&i| margin(&state, &lists(&case["probe"])[i]) > 1e-9).collect();
            assert!(decided.iter().all(|&i| probes[i] == expected[i]), "{probes:?}, Spark has {expected:?}");
        }
    }

    #[test]
    fn forgets_as_spark_forgets() {
        as_spark(include_str!("../../tests/vectors/kmeans_decay05.json"), |params| KMeansSpec {
            k: 3,
            decay_factor: params["decayFactor"].as_f64().unwrap(),
            ..KMeansSpec::default()
        });
    }

    #[test]
    fn a_dying_cluster_splits_the_largest_as_in_spark() {
        as_spark(include_str!("../../tests/vectors/kmeans_dying_suite.json"), |params| KMeansSpec {
            half_life: params["halfLife"].as_f64(),
            time_unit: TimeUnit::Points,
            ..KMeansSpec::default()
        });
    }

    #[test]
    fn an_empty_batch_forgets_by_batches_and_not_by_points() {
        let spec = |time_unit| KMeansSpec { decay_factor: 0.5, time_unit, ..KMeansSpec::default() };
        let x = Array2::zeros((0, 2));
        for (unit, left) in [(TimeUnit::Batches, 0.5), (TimeUnit::Points, 1.0)] {
            let mut state = KMeans::new(&spec(unit), 2);
            let mut sums = state.nothing(&spec(unit));
            state.gather(&spec(unit), &Table::of(x.view()), &mut sums);
            let trained = state.learn(&spec(unit), &sums);
            assert_eq!((state.weights, trained.loss), (vec![left, left], None));
        }
    }
}
