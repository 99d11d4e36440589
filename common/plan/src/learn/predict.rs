//! The functions that ask a model: `predict('price', x)`, `predict_proba`, `cluster`, `distance`, `transform`, `choose_arm`.
//!
//! Each sees the model as the batch before left it (test, then train); with `_after_training` behind its name it sees
//! what the batch itself has made of it. The models of a task are in a task-local, as the batch's time is.

use super::Partial;
use super::arms::chosen;
use super::matrix::{columns_of, matrix, width};
use super::prepare::{transformed, transformed_type};
use crate::exec::OverExec;
use crate::keys::is_encodable;
use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, ListBuilder, PrimitiveBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{
    DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err, internal_err, plan_datafusion_err, plan_err,
};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tidemill_ml::{Model, ModelSpec};

tokio::task_local! {
    static MODELS: Models;
}

/// A model that expressions of a stage ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskedModel {
    /// Its position among the job's models.
    pub model: usize,
    /// Whether what the batch itself has made of it is asked, and not what the batch before left.
    pub after_training: bool,
}

/// The models that a task may ask.
#[derive(Debug, Clone, Default)]
pub struct Models(BTreeMap<AskedModel, Arc<Model>>);

impl Models {
    /// These models.
    pub fn new(models: impl IntoIterator<Item = (AskedModel, Arc<Model>)>) -> Self {
        Self(models.into_iter().collect())
    }

    /// Runs a future whose expressions may ask these models.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        MODELS.scope(self, future).await
    }
}

/// What is known of the job's models when expressions are read, by position.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declared(pub(crate) Arc<Vec<Known>>);

/// What is known of a model when expressions are read.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) spec: ModelSpec,
    /// It is the champion of other models.
    pub(crate) choice: bool,
    /// How many features it was made for, if the definition says so.
    pub(crate) features: Option<usize>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    Predict,
    Probability,
    Cluster,
    Distance,
    Transform,
    Choose,
}

const QUESTIONS: [(&str, Question); 6] = [
    ("predict", Question::Predict),
    ("predict_proba", Question::Probability),
    ("cluster", Question::Cluster),
    ("distance", Question::Distance),
    ("transform", Question::Transform),
    ("choose_arm", Question::Choose),
];

/// The functions, for a job with these models.
pub(crate) fn functions(declared: &Declared) -> Vec<Arc<ScalarUDF>> {
    let function = |(name, question): (&str, Question), after_training: bool| {
        let name = format!("{name}{}", if after_training { "_after_training" } else { "" });
        let signature = Signature::variadic_any(Volatility::Volatile);
        let ask = Ask { name, question, after_training, signature, declared: declared.clone() };
        Arc::new(ScalarUDF::from(ask))
    };
    QUESTIONS.into_iter().flat_map(|question| [false, true].map(|after| function(question, after))).collect()
}

/// Whether the expression asks a model: repeatable, though not immutable.
pub(crate) fn asks(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().is::<Ask>())
}

/// A model of the task that runs; None outside of one.
pub(super) fn model_of_task(asked: &AskedModel) -> Option<Arc<Model>> {
    MODELS.try_with(|models| models.0.get(asked).cloned()).ok().flatten()
}

/// The models that a plan asks, in expressions or to learn.
pub(crate) fn asked_by_plan(plan: &Arc<dyn ExecutionPlan>, found: &mut BTreeSet<AskedModel>) {
    use datafusion::common::tree_node::TreeNodeRecursion;
    found.extend(plan.downcast_ref::<OverExec<Partial>>().map(|partial| partial.operation().asked().clone()));
    // The walk itself cannot fail.
    let _ = plan.apply_expressions(&mut |expr| {
        asked_by(expr, found);
        Ok(TreeNodeRecursion::Continue)
    });
    plan.children().into_iter().for_each(|child| asked_by_plan(child, found));
}

/// The models that an expression asks.
pub(crate) fn asked_by(expr: &Arc<dyn PhysicalExpr>, found: &mut BTreeSet<AskedModel>) {
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>()
        && let Some(ask) = call.fun().inner().downcast_ref::<Ask>()
    {
        let name = call.args().first().and_then(|name| {
            let literal = name.downcast_ref::<datafusion::physical_expr::expressions::Literal>()?;
            literal.value().try_as_str().flatten()
        });
        let model = name.and_then(|name| ask.declared.position(name));
        found.extend(model.map(|model| AskedModel { model, after_training: ask.after_training }));
    }
    expr.children().into_iter().for_each(|child| asked_by(child, found));
}

impl Declared {
    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known.name == name)
    }
}

#[derive(Debug)]
struct Ask {
    name: String,
    question: Question,
    after_training: bool,
    signature: Signature,
    declared: Declared,
}

impl PartialEq for Ask {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.declared.0, &other.declared.0)
    }
}

impl Eq for Ask {}

impl Hash for Ask {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Ask {
    /// The model that is meant: the first argument is its name, in quotes.
    fn model(&self, name: Option<&ScalarValue>) -> Result<(usize, &ModelSpec)> {
        let Some(name) = name.and_then(|name| name.try_as_str().flatten()) else {
            return plan_err!("`{}` begins with a model's name in single quotes: {0}('name', features)", self.name);
        };
        let position = self.declared.position(name).ok_or_else(|| {
            let known: Vec<_> = self.declared.0.iter().map(|known| known.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            plan_datafusion_err!("there is no model called `{name}`; the job's models: {known}")
        })?;
        let Known { spec, choice, .. } = &self.declared.0[position];
        if self.after_training && *choice {
            return plan_err!(
                "a champion is asked as the batch before has left it: `{}` is not for `{name}`",
                self.name
            );
        }
        Ok((position, spec))
    }

    /// The type of the answer to these arguments.
    fn answer_type(&self, spec: &ModelSpec, features: &[FieldRef]) -> Result<DataType> {
        let clusters = spec.clusters();
        let classifies = spec.classes().is_some();
        match self.question {
            Question::Predict if clusters => Ok(DataType::Int64),
            Question::Predict if spec.predicts() => Ok(DataType::Float64),
            Question::Probability if spec.classes() == Some(2) => Ok(DataType::Float64),
            Question::Probability if classifies => {
                Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true))))
            }
            Question::Cluster if clusters => Ok(DataType::Int64),
            Question::Distance if clusters => Ok(DataType::Float64),
            Question::Transform if spec.transforms() => transformed_type(&self.name, spec, features),
            Question::Choose if spec.arms().is_some() => Ok(DataType::Utf8),
            _ => plan_err!("`{}` does not go with a model of kind {}", self.name, spec.kind()),
        }
    }
}

impl ScalarUDFImpl for Ask {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of `{}` depends on the model", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let (position, spec) = self.model(args.scalar_arguments.first().copied().flatten())?;
        let features = args.arg_fields.get(self.before_features()..).unwrap_or_default();
        let data_type = self.answer_type(spec, features)?;
        match (self.question, args.arg_fields.get(1)) {
            (Question::Choose, None) => return plan_err!("`{}` needs the row's id: {0}('name', id)", self.name),
            (Question::Choose, Some(id)) if !is_encodable(id.data_type()) => {
                return plan_err!("`{}` is a {}, which is no id", id.name(), id.data_type());
            }
            (Question::Choose, _) if spec.contextual() == features.is_empty() => {
                let wants = if spec.contextual() { "needs the row's features" } else { "looks at no features" };
                return plan_err!("a model of kind {} {wants}", spec.kind());
            }
            (_, None) => return plan_err!("`{}` needs features: {0}('name', features)", self.name),
            (Question::Transform, _) => {}
            _ => {
                let (found, known) = (columns_of(features)?, &self.declared.0[position]);
                // The first feature of a bandit is the arm itself.
                let arm = usize::from(spec.arms().is_some());
                if let Some(expected) = known.features.map(|all| all - arm).filter(|expected| *expected != found) {
                    return plan_err!("the model `{}` has {expected} features, here are {found}", known.name);
                }
            }
        }
        Ok(Arc::new(Field::new(&self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(name)) => Some(name),
            _ => None,
        };
        let (model, _) = self.model(name)?;
        let asked = AskedModel { model, after_training: self.after_training };
        let Some(model) = model_of_task(&asked) else {
            return exec_err!("`{}` outside of a batch", self.name);
        };
        let rows = args.number_rows;
        let as_text = model.spec().takes_text();
        let features = args.args.get(self.before_features()..).unwrap_or_default().iter().map(|argument| {
            let array = argument.to_array(rows)?;
            match width(array.data_type()) {
                None if !as_text => Ok(cast(&array, &DataType::Float64)?),
                _ => Ok(array),
            }
        });
        let features: Vec<ArrayRef> = features.collect::<Result<_>>()?;
        let answer = match (self.question, args.args.get(1)) {
            (Question::Choose, Some(id)) => {
                chosen(&model, &id.to_array(rows)?, &features, rows).map(|names| Arc::new(names) as ArrayRef)
            }
            (Question::Transform, _) => transformed(&model, &features, rows),
            _ => self.answer(&model, &features, rows, args.return_field.data_type()),
        };
        let named = |error| match error {
            DataFusionError::Execution(why) => exec_datafusion_err!("`{}`: {why}", self.name),
            other => other,
        };
        Ok(ColumnarValue::Array(answer.map_err(named)?))
    }
}

impl Ask {
    /// Arguments that stand before the features.
    fn before_features(&self) -> usize {
        if self.question == Question::Choose { 2 } else { 1 }
    }

    fn answer(&self, model: &Model, features: &[ArrayRef], rows: usize, data_type: &DataType) -> Result<ArrayRef> {
        let found = matrix(features, rows, |_| true)?;
        let x = found.x.view();
        let wrong = |error: tidemill_ml::ModelError| exec_datafusion_err!("{error}");
        // Before the first data some models have nothing to say.
        if model.dimension().is_none() && model.spec().clusters() {
            return Ok(datafusion::arrow::array::new_null_array(data_type, rows));
        }
        match self.question {
            Question::Transform | Question::Choose => internal_err!("`{}` has an answer of its own", self.name),
            Question::Predict | Question::Cluster => {
                let values = model.predict(x).map_err(wrong)?;
                Ok(match data_type {
                    DataType::Int64 => {
                        let values = values.iter().map(|value| *value as i64);
                        Arc::new(spread(&found.places, rows, values).collect::<Int64Array>())
                    }
                    _ => Arc::new(spread(&found.places, rows, values.iter().copied()).collect::<Float64Array>()),
                })
            }
            Question::Distance => {
                let values = model.distance(x).map_err(wrong)?;
                Ok(Arc::new(spread(&found.places, rows, values.iter().copied()).collect::<Float64Array>()))
            }
            Question::Probability => {
                let values = model.predict_proba(x).map_err(wrong)?;
                if *data_type == DataType::Float64 {
                    let of_one = values.column(1).to_vec();
                    return Ok(Arc::new(spread(&found.places, rows, of_one.into_iter()).collect::<Float64Array>()));
                }
                let mut lists = ListBuilder::new(PrimitiveBuilder::<Float64Type>::new());
                for row in spread(&found.places, rows, values.rows().into_iter()) {
                    if let Some(row) = &row {
                        row.iter().for_each(|value| lists.values().append_value(*value));
                    }
                    lists.append(row.is_some());
                }
                Ok(Arc::new(lists.finish()))
            }
        }
    }
}

/// The values at their places, null elsewhere.
pub(super) fn spread<'a, T: 'a>(
    places: &'a [usize],
    rows: usize,
    values: impl Iterator<Item = T> + 'a,
) -> impl Iterator<Item = Option<T>> + 'a {
    let mut values = places.iter().zip(values).peekable();
    (0..rows).map(move |row| values.next_if(|(place, _)| **place == row).map(|(_, value)| value))
}
