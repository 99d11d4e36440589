//! Models of a job written in Rust, and the operators of [`DStream`] that learn, evaluate, test and watch.

use super::text::Toml;
use super::{DStream, Graph, ModelNode, Origin, Output, StreamingContext};
use std::cell::RefCell;
use std::rc::Rc;

/// A model of a job. Clones are the same model.
#[derive(Debug, Clone)]
pub struct Model {
    graph: Rc<RefCell<Graph>>,
    at: usize,
}

/// What a model learns from: this needs no output, since the model is what comes of it.
#[derive(Debug, Clone)]
pub struct Training(DStream);

impl Training {
    /// What comes out beside the model: a report per batch, or each record with its prediction for models that learn
    /// record by record.
    pub fn stream(&self) -> DStream {
        self.0.clone()
    }
}

impl StreamingContext {
    /// A model of this name and kind with its parameters, as `[model.NAME]` of the job definition has them, for example
    /// `ctx.model("price", "linear_regression", &[("step_size", 0.01.into())])`.
    pub fn model(&self, name: &str, kind: &str, parameters: &[(&str, Toml)]) -> Model {
        let mut keys = vec![("kind".to_string(), kind.into())];
        keys.extend(owned(parameters));
        let models = &mut self.graph.borrow_mut().models;
        models.push(ModelNode { name: name.to_string(), keys });
        Model { graph: self.graph.clone(), at: models.len() - 1 }
    }
}

impl Model {
    /// Its name, by which expressions know it: `predict('price', x)`.
    pub fn name(&self) -> String {
        self.graph.borrow().models[self.at].name.clone()
    }

    /// Ends what the model has learnt, one row per batch, in any sink of the job definition.
    pub fn output(&self, sink: &'static str, value: impl Into<Toml>) {
        self.graph.borrow_mut().outputs.push(Output { from: Origin::Model(self.at), sink: (sink, value.into()) });
    }

    /// Shows what the model has learnt after every batch: weights or centres, and counters.
    pub fn print(&self) {
        self.output("print", true);
    }
}

impl DStream {
    /// The model learns from every batch: feature columns (numbers, or one vector), and the label. Spark's `trainOn`.
    pub fn train(&self, model: &Model, features: &[&str], label: &str) -> Training {
        self.learn(model, features, &[("label", label.into())])
    }

    /// The same, where rows count by a weight.
    pub fn train_weighted(&self, model: &Model, features: &[&str], label: &str, weight: &str) -> Training {
        self.learn(model, features, &[("label", label.into()), ("weight", weight.into())])
    }

    /// A model that learns without labels, such as k-means, learns from every batch.
    pub fn train_unlabelled(&self, model: &Model, features: &[&str]) -> Training {
        self.learn(model, features, &[])
    }

    fn learn(&self, model: &Model, features: &[&str], others: &[(&str, Toml)]) -> Training {
        if !Rc::ptr_eq(&self.graph, &model.graph) {
            let wrong = "the model belongs to a different context";
            self.graph.borrow_mut().wrong("train", self.at, wrong);
            return Training(self.clone());
        }
        let made = self.with_parameters(
            "train",
            &[("model", model.name().into()), ("features", Toml::texts(features))],
            others,
        );
        made.check_some("train", features.len(), "feature column");
        Training(made)
    }

    /// How good predictions are, over all batches, a window, or with fading, by the parameters of `evaluate`, for example
    /// `[("task", "regression".into()), ("metrics", vec!["mse", "rmse"].into())]`.
    pub fn evaluate(&self, prediction: &str, label: &str, parameters: &[(&str, Toml)]) -> Self {
        self.with_parameters("evaluate", &[("prediction", prediction.into()), ("label", label.into())], parameters)
    }

    /// Whether rows for which `experiment` is true differ from the others in `value`. Spark's `StreamingTest`.
    pub fn ab_test(&self, experiment: &str, value: &str, parameters: &[(&str, Toml)]) -> Self {
        self.with_parameters("ab_test", &[("experiment", experiment.into()), ("value", value.into())], parameters)
    }

    /// The best of several, by their losses: the first is the champion at the beginning, and is replaced only by one
    /// that a test finds better.
    pub fn choose(&self, losses: &[(&str, &str)], parameters: &[(&str, Toml)]) -> Self {
        let made = self.with_parameters("choose", &[("losses", Toml::named(losses))], parameters);
        made.check_some("choose", losses.len(), "loss");
        made
    }

    /// Where a stream of numbers changes.
    pub fn detect_drift(&self, value: &str, detector: &str, parameters: &[(&str, Toml)]) -> Self {
        self.with_parameters("detect_drift", &[("value", value.into()), ("detector", detector.into())], parameters)
    }

    fn with_parameters(&self, operator: &'static str, own: &[(&str, Toml)], others: &[(&str, Toml)]) -> Self {
        self.operator(operator, Toml::Table(owned(own).chain(owned(others)).collect()))
    }
}

fn owned<'a>(pairs: &'a [(&str, Toml)]) -> impl Iterator<Item = (String, Toml)> + 'a {
    pairs.iter().map(|(key, value)| (key.to_string(), value.clone()))
}
