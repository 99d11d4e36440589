//! Points to learn from, as a function of (seed, index): the chapter's `StreamingModelProducer`, and clusters.

use super::Lines;
use rand::TryRng;
use rand_distr::{Distribution, StandardNormal};
use std::convert::Infallible;
use std::io::Write;
use tidemill_connect::sources::generate::mix;

/// Points of a linear model: `label<TAB>x1,x2,..`, the label being `w.x + b` with noise.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearPoints {
    seed: u64,
    weights: Vec<f64>,
    direction: Vec<f64>,
    intercept: f64,
    noise: f64,
    drift: f64,
}

/// Lines after which drift has moved the truth by its whole amount.
const DRIFT_LINES: f64 = 1000.0;

impl LinearPoints {
    /// `features` weights and an intercept (ten times as wide) from a normal distribution, as in the chapter.
    ///
    /// `noise` is the standard deviation of what is added to labels; `drift` how far the weights move per 1,000 lines, in a
    /// direction of its own of length 1.
    pub fn new(features: usize, seed: u64, noise: f64, drift: f64) -> Self {
        let mut random = Mixed::new(seed, u64::MAX);
        let weights = random.normals(features);
        let intercept = random.normal() * 10.0;
        let mut direction = random.normals(features);
        let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
        direction.iter_mut().for_each(|d| *d /= length);
        Self { seed, weights, direction, intercept, noise, drift }
    }

    /// The weights that hold at a line, and the intercept.
    pub fn truth(&self, index: u64) -> (Vec<f64>, f64) {
        let moved = self.drift * index as f64 / DRIFT_LINES;
        (self.weights.iter().zip(&self.direction).map(|(w, d)| w + moved * d).collect(), self.intercept)
    }
}

impl Lines for LinearPoints {
    fn write(&self, from: u64, count: u64, out: &mut Vec<u8>) {
        for index in from..from.saturating_add(count) {
            let mut random = Mixed::new(self.seed, index);
            let x = random.normals(self.weights.len());
            let moved = self.drift * index as f64 / DRIFT_LINES;
            let weights = self.weights.iter().zip(&self.direction).map(|(w, d)| w + moved * d);
            let y = x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + self.intercept;
            push(out, y + self.noise * random.normal());
            out.push(b'\t');
            vector(out, &x);
        }
    }
}

/// Points around centres: `cluster<TAB>x1,x2,..`, the cluster being the one it was drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPoints {
    seed: u64,
    centres: Vec<Vec<f64>>,
    directions: Vec<Vec<f64>>,
    spread: f64,
    drift: f64,
}

impl ClusterPoints {
    /// `clusters` centres of `features` numbers, ten times as wide as a normal distribution; points lie around them with a
    /// standard deviation of `spread`. `drift` is how far each centre moves per 1,000 lines.
    pub fn new(clusters: usize, features: usize, seed: u64, spread: f64, drift: f64) -> Self {
        let mut random = Mixed::new(seed, u64::MAX);
        let mut many = |scale: f64| -> Vec<Vec<f64>> {
            let one = |random: &mut Mixed| random.normals(features).into_iter().map(|x| x * scale).collect();
            (0..clusters).map(|_| one(&mut random)).collect()
        };
        let (centres, mut directions) = (many(10.0), many(1.0));
        for direction in &mut directions {
            let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
            direction.iter_mut().for_each(|d| *d /= length);
        }
        Self { seed, centres, directions, spread, drift }
    }

    /// The centres that hold at a line.
    pub fn truth(&self, index: u64) -> Vec<Vec<f64>> {
        let moved = self.drift * index as f64 / DRIFT_LINES;
        let centre = |(c, d): (&Vec<f64>, &Vec<f64>)| c.iter().zip(d).map(|(c, d)| c + moved * d).collect();
        self.centres.iter().zip(&self.directions).map(centre).collect()
    }
}

impl Lines for ClusterPoints {
    fn write(&self, from: u64, count: u64, out: &mut Vec<u8>) {
        for index in from..from.saturating_add(count) {
            let mut random = Mixed::new(self.seed, index);
            // Scaled, not the remainder of a division.
            let cluster = ((u128::from(random.next()) * self.centres.len() as u128) >> 64) as usize;
            let moved = self.drift * index as f64 / DRIFT_LINES;
            let centre = self.centres[cluster].iter().zip(&self.directions[cluster]).map(|(c, d)| c + moved * d);
            let x: Vec<f64> = centre.map(|centre| centre + self.spread * random.normal()).collect();
            out.extend_from_slice(cluster.to_string().as_bytes());
            out.push(b'\t');
            vector(out, &x);
        }
    }
}

fn push(out: &mut Vec<u8>, number: f64) {
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

fn vector(out: &mut Vec<u8>, x: &[f64]) {
    for (place, number) in x.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push(out, *number);
    }
    out.push(b'\n');
}

/// Random numbers that belong to one line.
struct Mixed {
    seed: u64,
    drawn: u64,
}

impl Mixed {
    fn new(seed: u64, index: u64) -> Self {
        Self { seed: mix(seed, index), drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, self.drawn)
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(self)
    }

    fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }
}

impl TryRng for Mixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &dyn Lines, from: u64, count: u64) -> Vec<(f64, Vec<f64>)> {
        let mut out = Vec::new();
        lines.write(from, count, &mut out);
        let parse = |line: &str| {
            let (first, rest) = line.split_once('\t').unwrap();
            (first.parse().unwrap(), rest.split(',').map(|x| x.parse().unwrap()).collect())
        };
        String::from_utf8(out).unwrap().lines().map(parse).collect()
    }

    #[test]
    fn labels_follow_from_the_weights() {
        let points = LinearPoints::new(5, 3, 0.0, 0.5);
        for (index, (y, x)) in (400..420).zip(rows(&points, 400, 20)) {
            let (weights, intercept) = points.truth(index);
            let expected = x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + intercept;
            assert!((y - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn features_are_normal() {
        let all: Vec<f64> = rows(&LinearPoints::new(10, 1, 0.0, 0.0), 0, 2000).into_iter().flat_map(|r| r.1).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn points_lie_around_their_centre() {
        let points = ClusterPoints::new(3, 2, 7, 0.5, 0.0);
        let centres = points.truth(0);
        let found = rows(&points, 0, 3000);
        for (cluster, centre) in centres.iter().enumerate() {
            let of: Vec<_> = found.iter().filter(|(c, _)| *c == cluster as f64).collect();
            assert!((800..1200).contains(&of.len()));
            for axis in 0..2 {
                let mean = of.iter().map(|(_, x)| x[axis]).sum::<f64>() / of.len() as f64;
                assert!((mean - centre[axis]).abs() < 0.1);
            }
        }
    }
}
