//! Variance and its like: means and sums of squared deviations, updated by Welford's method and merged by Chan's.
//!
//! A mean carries its rounding with it, in a second double, so that deviations of values far from zero keep their
//! digits however rows are split (B. P. Welford, Technometrics 4 (1962); T. F. Chan, G. H. Golub, R. J. LeVeque, The
//! American Statistician 37 (1983); the second double after D. E. Knuth, The Art of Computer Programming 2, 4.2.2).

use super::frame::{Frame, double, each_row, rows};
use super::no_distinct;
use super::one::{Doubles, distinct_field};
use datafusion::arrow::array::types::{Float64Type, UInt64Type};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use std::sync::Arc;
use tidemill_rows::canonical;

/// What is made of the moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Of one column: the variance or its root, of a sample or of all there is.
    Spread {
        root: bool,
        sample: bool,
    },
    /// Of two columns, of a sample or of all there is.
    Covariance {
        sample: bool,
    },
    Correlation,
    /// Of y over x.
    Line(Line),
}

/// What is asked of a line through pairs of y and x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Line {
    Slope,
    Intercept,
    Count,
    R2,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
}

/// An aggregate of moments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Moments {
    kind: Kind,
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
}

impl Moments {
    /// All of them, under the names that DataFusion has for them.
    pub(super) fn all() -> [Self; 16] {
        let spread = |root, sample| Kind::Spread { root, sample };
        [
            Self::new(spread(false, true), "var", &["var_sample", "var_samp"]),
            Self::new(spread(false, false), "var_pop", &["var_population"]),
            Self::new(spread(true, true), "stddev", &["stddev_samp"]),
            Self::new(spread(true, false), "stddev_pop", &[]),
            Self::new(Kind::Covariance { sample: true }, "covar_samp", &["covar"]),
            Self::new(Kind::Covariance { sample: false }, "covar_pop", &[]),
            Self::new(Kind::Correlation, "corr", &[]),
            Self::new(Kind::Line(Line::Slope), "regr_slope", &[]),
            Self::new(Kind::Line(Line::Intercept), "regr_intercept", &[]),
            Self::new(Kind::Line(Line::Count), "regr_count", &[]),
            Self::new(Kind::Line(Line::R2), "regr_r2", &[]),
            Self::new(Kind::Line(Line::AvgX), "regr_avgx", &[]),
            Self::new(Kind::Line(Line::AvgY), "regr_avgy", &[]),
            Self::new(Kind::Line(Line::Sxx), "regr_sxx", &[]),
            Self::new(Kind::Line(Line::Syy), "regr_syy", &[]),
            Self::new(Kind::Line(Line::Sxy), "regr_sxy", &[]),
        ]
    }

    fn new(kind: Kind, name: &'static str, aliases: &[&str]) -> Self {
        let columns = if matches!(kind, Kind::Spread { .. }) { 1 } else { 2 };
        let signature = Signature::exact(vec![DataType::Float64; columns], Volatility::Immutable);
        Self { kind, name, aliases: aliases.iter().map(|alias| (*alias).to_string()).collect(), signature }
    }
}

/// Moments of rows of `N` values.
trait State<const N: usize>: Clone + Default + Send + Sync + std::fmt::Debug + 'static {
    /// The names of its columns behind the count.
    const COLUMNS: &'static [&'static str];

    fn update(&mut self, row: [f64; N]);
    fn merge(&mut self, other: &Self);
    fn count(&self) -> u64;
    /// The columns behind the count.
    fn values(&self) -> Vec<f64>;
    fn from_values(count: u64, values: impl Fn(usize) -> f64) -> Self;
    fn finish(&self, kind: Kind) -> Option<f64>;
}

/// A mean, and what its rounding has cut off.
#[derive(Debug, Clone, Copy, Default)]
struct Centre {
    mean: f64,
    rest: f64,
}

impl Centre {
    /// How far a value is from it.
    fn distance(self, value: f64) -> f64 {
        (value - self.mean) - self.rest
    }

    /// How far another one is from it.
    fn to(self, other: Self) -> f64 {
        (other.mean - self.mean) + (other.rest - self.rest)
    }

    /// Moves it by a share of a distance to another one.
    fn moved(self, distance: f64, share: f64, other: f64) -> Self {
        if !distance.is_finite() {
            // Beyond the greatest double, or not a number.
            return Self { mean: self.mean * (1.0 - share) + other * share, rest: 0.0 };
        }
        let step = distance * share + self.rest;
        let mean = self.mean + step;
        let added = mean - self.mean;
        Self { mean, rest: (self.mean - (mean - added)) + (step - added) }
    }
}

/// Of one column.
#[derive(Debug, Clone, Copy, Default)]
struct Single {
    count: u64,
    centre: Centre,
    /// The sum of the squared deviations.
    squares: f64,
}

impl State<1> for Single {
    const COLUMNS: &'static [&'static str] = &["mean", "rest", "m2"];

    #[inline]
    fn update(&mut self, [value]: [f64; 1]) {
        self.count += 1;
        let distance = self.centre.distance(value);
        self.centre = self.centre.moved(distance, 1.0 / self.count as f64, value);
        self.squares += distance * self.centre.distance(value);
    }

    fn merge(&mut self, other: &Self) {
        if self.count == 0 || other.count == 0 {
            if self.count == 0 {
                *self = *other;
            }
            return;
        }
        let (count, distance) = (self.count + other.count, self.centre.to(other.centre));
        let share = other.count as f64 / count as f64;
        self.squares += other.squares + between(distance, distance, self.count as f64 * share);
        self.centre = self.centre.moved(distance, share, other.centre.mean);
        self.count = count;
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn values(&self) -> Vec<f64> {
        vec![self.centre.mean, self.centre.rest, self.squares]
    }

    fn from_values(count: u64, values: impl Fn(usize) -> f64) -> Self {
        Self { count, centre: Centre { mean: values(0), rest: values(1) }, squares: values(2) }
    }

    fn finish(&self, kind: Kind) -> Option<f64> {
        let Kind::Spread { root, sample } = kind else { return None };
        let variance = self.squares / degrees(self.count, sample)?;
        Some(if root { variance.sqrt() } else { variance })
    }
}

/// Of pairs. The columns are called y and x, as those of `regr_slope(y, x)` are.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    count: u64,
    y: Centre,
    x: Centre,
    /// The sums of the products of deviations.
    yy: f64,
    xx: f64,
    xy: f64,
}

impl State<2> for Pair {
    const COLUMNS: &'static [&'static str] = &["mean_y", "rest_y", "mean_x", "rest_x", "m2_y", "m2_x", "m_xy"];

    #[inline]
    fn update(&mut self, [y, x]: [f64; 2]) {
        self.count += 1;
        let share = 1.0 / self.count as f64;
        let (dy, dx) = (self.y.distance(y), self.x.distance(x));
        self.y = self.y.moved(dy, share, y);
        self.x = self.x.moved(dx, share, x);
        let rest = self.x.distance(x);
        self.yy += dy * self.y.distance(y);
        self.xx += dx * rest;
        self.xy += dy * rest;
    }

    fn merge(&mut self, other: &Self) {
        if self.count == 0 || other.count == 0 {
            if self.count == 0 {
                *self = *other;
            }
            return;
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let weight = self.count as f64 * share;
        let (dy, dx) = (self.y.to(other.y), self.x.to(other.x));
        self.yy += other.yy + between(dy, dy, weight);
        self.xx += other.xx + between(dx, dx, weight);
        self.xy += other.xy + between(dy, dx, weight);
        self.y = self.y.moved(dy, share, other.y.mean);
        self.x = self.x.moved(dx, share, other.x.mean);
        self.count = count;
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn values(&self) -> Vec<f64> {
        vec![self.y.mean, self.y.rest, self.x.mean, self.x.rest, self.yy, self.xx, self.xy]
    }

    fn from_values(count: u64, values: impl Fn(usize) -> f64) -> Self {
        let centre = |at| Centre { mean: values(at), rest: values(at + 1) };
        Self { count, y: centre(0), x: centre(2), yy: values(4), xx: values(5), xy: values(6) }
    }

    fn finish(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Spread { .. } => None,
            Kind::Covariance { sample } => Some(self.xy / degrees(self.count, sample)?),
            Kind::Correlation => self.correlation(),
            Kind::Line(line) => self.line(line),
        }
    }
}

impl Pair {
    /// None where a column is constant.
    fn correlation(&self) -> Option<f64> {
        if self.count == 0 || self.yy == 0.0 || self.xx == 0.0 {
            return None;
        }
        let product = self.yy * self.xx;
        let found = match product.is_normal() {
            true => self.xy / product.sqrt(),
            false => self.xy / self.yy.sqrt() / self.xx.sqrt(),
        };
        Some(found.clamp(-1.0, 1.0))
    }

    fn line(&self, line: Line) -> Option<f64> {
        let slope = (self.count > 0 && self.xx != 0.0).then(|| self.xy / self.xx);
        let some = |value| (self.count > 0).then_some(value);
        match line {
            Line::Slope => slope,
            Line::Intercept => slope.map(|slope| self.y.mean - slope * self.x.mean),
            Line::Count => Some(self.count as f64),
            // A line without a slope says all about values that are all the same.
            Line::R2 => slope.and_then(|_| if self.yy == 0.0 { Some(1.0) } else { self.correlation().map(|r| r * r) }),
            Line::AvgX => some(self.x.mean),
            Line::AvgY => some(self.y.mean),
            Line::Sxx => some(self.xx),
            Line::Syy => some(self.yy),
            Line::Sxy => some(self.xy),
        }
    }
}

/// What a distance between two means adds to the sum of products. Nothing if there is none, however great the means.
fn between(a: f64, b: f64, weight: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * weight * b }
}

/// What a sum of squares is divided by.
fn degrees(count: u64, sample: bool) -> Option<f64> {
    match (sample, count) {
        (_, 0) | (true, 1) => None,
        (true, count) => Some((count - 1) as f64),
        (false, count) => Some(count as f64),
    }
}

/// The aggregate of a state.
fn scalar<S: State<N>, const N: usize>(state: &S, kind: Kind) -> ScalarValue {
    match kind {
        Kind::Line(Line::Count) => ScalarValue::UInt64(Some(state.count())),
        kind => double(state.finish(kind)),
    }
}

/// The aggregate of rows.
fn over<S: State<N>, const N: usize>(kind: Kind) -> impl Fn(&mut dyn Iterator<Item = [f64; N]>) -> ScalarValue {
    move |rows| {
        let mut state = S::default();
        rows.for_each(|row| state.update(row));
        scalar(&state, kind)
    }
}

/// The states that rows of state columns hold.
fn states<S: State<N>, const N: usize>(columns: &[ArrayRef]) -> impl Iterator<Item = S> + '_ {
    let counts = columns[0].as_primitive::<UInt64Type>();
    let values: Vec<_> = columns[1..].iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    (0..counts.len()).map(move |row| {
        let count = if counts.is_null(row) { 0 } else { counts.value(row) };
        S::from_values(count, |column| values[column].value(row))
    })
}

impl AggregateUDFImpl for Moments {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Line(Line::Count) => DataType::UInt64,
            _ => DataType::Float64,
        })
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(scalar(&Pair::default(), self.kind))
    }

    fn is_nullable(&self) -> bool {
        self.kind != Kind::Line(Line::Count)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            return Ok(vec![distinct_field(format_state_name(args.name, "distinct"), &DataType::Float64)]);
        }
        let columns = match self.kind {
            Kind::Spread { .. } => Single::COLUMNS,
            _ => Pair::COLUMNS,
        };
        let field = |name, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        let values = columns.iter().map(|name| field(name, DataType::Float64));
        Ok(std::iter::once(field("count", DataType::UInt64)).chain(values).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (self.kind, args.is_distinct) {
            (kind @ Kind::Spread { .. }, true) => Ok(Doubles::boxed(over::<Single, 1>(kind))),
            (kind @ Kind::Spread { .. }, false) => Ok(Box::new(One::<Single, 1> { kind, state: Single::default() })),
            (_, true) => no_distinct(self.name),
            (kind, false) => Ok(Box::new(One::<Pair, 2> { kind, state: Pair::default() })),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match self.kind {
            kind @ Kind::Spread { .. } => Box::new(Groups::<Single, 1> { kind, states: Vec::new() }),
            kind => Box::new(Groups::<Pair, 2> { kind, states: Vec::new() }),
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (self.kind, args.is_distinct) {
            (_, true) => self.accumulator(args),
            (kind @ Kind::Spread { .. }, false) => Ok(Frame::boxed(over::<Single, 1>(kind))),
            (kind, false) => Ok(Frame::boxed(over::<Pair, 2>(kind))),
        }
    }
}

/// The moments of all rows.
#[derive(Debug)]
struct One<S, const N: usize> {
    kind: Kind,
    state: S,
}

/// The moments of the rows of each group.
struct Groups<S, const N: usize> {
    kind: Kind,
    states: Vec<S>,
}

impl<S: State<N>, const N: usize> Accumulator for One<S, N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows::<N>(values).flatten().for_each(|row| self.state.update(row));
        Ok(())
    }

    fn merge_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        states::<S, N>(columns).for_each(|state| self.state.merge(&state));
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.state.values().into_iter().map(|value| ScalarValue::Float64(Some(value)));
        Ok(std::iter::once(ScalarValue::UInt64(Some(self.state.count()))).chain(values).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(scalar(&self.state, self.kind))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

impl<S: State<N>, const N: usize> GroupsAccumulator for Groups<S, N> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.states.resize(count, S::default());
        let taken = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (values, group)) in rows::<N>(values).zip(groups).enumerate() {
            if let Some(values) = values.filter(|_| taken(row)) {
                self.states[*group].update(values);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, columns: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.states.resize(count, S::default());
        states::<S, N>(columns).zip(groups).for_each(|(s, group)| self.states[*group].merge(&s));
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = emit_to.take_needed(&mut self.states);
        Ok(match self.kind {
            Kind::Line(Line::Count) => Arc::new(UInt64Array::from_iter_values(states.iter().map(State::count))),
            kind => Arc::new(Float64Array::from_iter(states.iter().map(|s| s.finish(kind).map(canonical)))),
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = emit_to.take_needed(&mut self.states);
        let rows: Vec<_> = states.iter().map(State::values).collect();
        let column = |at: usize| Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row[at]))) as ArrayRef;
        let counts: ArrayRef = Arc::new(UInt64Array::from_iter_values(states.iter().map(State::count)));
        let columns = S::COLUMNS.len();
        Ok(std::iter::once(counts).chain((0..columns).map(column)).collect())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        each_row(Self { kind: self.kind, states: Vec::new() }, values, filter)
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S>()
    }
}
