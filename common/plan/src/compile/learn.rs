//! Models, and the operators that learn, evaluate, test and watch: each is a stage that folds its rows into a value per
//! key. A model is one key, so it lives in one key group.

use super::Compiler;
use super::declare::Declaration;
use super::expr::{Allowed, cast_to, check_names, parse, physical};
use super::stages::{Rows, column};
use crate::keys::{encode_keys, key_group};
use crate::learn::AskedModel;
use crate::learn::predict::asked_by;
use crate::learn::{ChooseFold, DriftFold, EvaluateFold, Fold, FoldOp, ModelPlan, TestFold, state_fields};
use crate::plan::{Stage, StageInput};
use crate::state::StageState;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::projection::ProjectionExpr;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{AbTest, Choose, DetectDrift, Evaluate, Name, Param, Span, Sql};
use tidemill_ml::SpecError;
use tidemill_ml::champion::ChampionSpec;
use tidemill_ml::drift::DetectorSpec;
use tidemill_ml::metrics::EvaluatorSpec;
use tidemill_ml::stats::StreamingTestSpec;
use tidemill_rows::type_name;

/// The hidden key of what has one value only.
pub(super) const ONLY: &str = "__only";

impl Compiler<'_> {
    /// Parameters as the struct they belong to; what is wrong is said where it stands.
    pub(super) fn params<T: DeserializeOwned>(
        &mut self,
        title: &str,
        place: &Span,
        kind: Option<&Param>,
        params: &[Param],
    ) -> Option<T> {
        let read = |params: &[&Param]| {
            let entries = params.iter().copied().chain(kind);
            let entries: Map<_, _> = entries.map(|p| (p.name.text.clone(), p.value.clone())).collect();
            serde_json::from_value::<T>(Value::Object(entries)).map_err(|error| error.to_string())
        };
        // Alone, a good parameter may lack others, but is never wrong in itself.
        let lacking = |wrong: &String| wrong.starts_with("missing field");
        let mut found = Vec::new();
        if kind.is_some() {
            found.extend(read(&[]).err().filter(|wrong| !lacking(wrong)).map(|wrong| said(&wrong, place, None)));
        }
        if found.is_empty() {
            let each = params.iter().filter_map(|param| {
                let wrong = read(&[param]).err().filter(|wrong| !lacking(wrong))?;
                Some(said(&wrong, &param.span, Some(param)))
            });
            found.extend(each);
        }
        if found.is_empty() {
            match read(&params.iter().collect::<Vec<_>>()) {
                Ok(value) => return Some(value),
                Err(wrong) => {
                    let wrong = wrong.replace("missing field", "there is no");
                    found.push(Diagnostic::new(format!("{title}: {wrong}")).at(place.clone()));
                }
            }
        }
        self.report(found);
        None
    }

    pub(super) fn valid<T>(&mut self, result: Result<T, SpecError>, place: &Span, params: &[Param]) -> Option<T> {
        self.reported(result.map_err(|error| wrong_spec(&error, place, params)))
    }

    /// An expression over one row that gives a number.
    pub(super) fn number(&mut self, sql: &Sql, schema: &SchemaRef, position: usize) -> Option<ProjectionExpr> {
        self.of_type(sql, schema, position, &DataType::Float64, |found| {
            found.is_numeric() || matches!(found, DataType::Boolean | DataType::Null)
        })
    }

    pub(super) fn of_type(
        &mut self,
        sql: &Sql,
        schema: &SchemaRef,
        position: usize,
        wanted: &DataType,
        fits: impl Fn(&DataType) -> bool,
    ) -> Option<ProjectionExpr> {
        let schema: DFSchema = self.df_schema(schema)?;
        let prepared = parse(&self.session, sql, &schema, Allowed::PerRow)
            .and_then(|expr| physical(&self.session, sql, expr, &schema))
            .and_then(|expr| {
                let found = expr.data_type(schema.as_arrow()).unwrap_or(DataType::Null);
                if !fits(&found) {
                    let wrong = format!("this is a {}, not a {}", type_name(&found), type_name(wanted));
                    return Err(Diagnostic::new(wrong).at(sql.span.clone()));
                }
                cast_to(expr, sql, schema.as_arrow(), wanted)
            });
        Some(ProjectionExpr { expr: self.reported(prepared)?, alias: hidden(position) })
    }

    /// `evaluate`
    pub(super) fn evaluate(&mut self, input: Rows, evaluate: &Evaluate, name: &Name) -> Option<Rows> {
        let place = self.place.clone();
        let spec: EvaluatorSpec = self.params("`evaluate`", &place, None, &evaluate.params)?;
        let spec = self.valid(spec.validate().map(|()| spec), &place, &evaluate.params)?;
        let clusters = spec.task == tidemill_ml::metrics::Task::Clustering;
        match &evaluate.label {
            None if !clusters => {
                let wrong = Diagnostic::new("there is no `label` to compare the prediction with").at(place);
                self.report([wrong.help("say what was true: `label = \"..\"`")]);
                return None;
            }
            Some(label) if clusters => {
                let wrong = Diagnostic::new("clusters have no label").at(label.span.clone());
                self.report([wrong.help("leave it out; `prediction` is the distance to the nearest centre")]);
                return None;
            }
            _ => {}
        }
        let spec = match &evaluate.score {
            Some(_) => spec,
            None => self.valid(spec.without_scores(), &place, &evaluate.params)?,
        };
        let schema = input.schema();
        let (mut exprs, key_fields) = self.fold_keys(&schema, &evaluate.key)?;
        exprs.push(self.number(&evaluate.prediction, &schema, exprs.len())?);
        for sql in [&evaluate.label, &evaluate.score, &evaluate.weight].into_iter().flatten() {
            exprs.push(self.number(sql, &schema, exprs.len())?);
        }
        let fold = EvaluateFold {
            spec,
            labelled: evaluate.label.is_some(),
            scored: evaluate.score.is_some(),
            weighted: evaluate.weight.is_some(),
        };
        let schema = fold.schema();
        self.measured(input, exprs, key_fields, !evaluate.key.is_empty(), schema, Box::new(fold), name)
    }

    /// `ab_test`
    pub(super) fn ab_test(&mut self, input: Rows, test: &AbTest, name: &Name) -> Option<Rows> {
        let place = self.place.clone();
        let spec: StreamingTestSpec = self.params("`ab_test`", &place, None, &test.params)?;
        let spec = self.valid(spec.validate().map(|()| spec), &place, &test.params)?;
        let schema = input.schema();
        let (mut exprs, key_fields) = self.fold_keys(&schema, &test.key)?;
        let boolean = |found: &DataType| matches!(found, DataType::Boolean | DataType::Null);
        exprs.push(self.of_type(&test.experiment, &schema, exprs.len(), &DataType::Boolean, boolean)?);
        exprs.push(self.number(&test.value, &schema, exprs.len())?);
        let fold = Box::new(TestFold { spec });
        self.measured(input, exprs, key_fields, !test.key.is_empty(), TestFold::schema(), fold, name)
    }

    /// `detect_drift`
    pub(super) fn detect_drift(&mut self, input: Rows, detect: &DetectDrift, name: &Name) -> Option<Rows> {
        let place = detect.detector.span.clone();
        let kind = kind_param(&detect.detector);
        let spec: DetectorSpec = self.params("`detect_drift`", &place, Some(&kind), &detect.params)?;
        let spec = self.valid(spec.validate().map(|()| spec), &place, &detect.params)?;
        let schema = input.schema();
        let (mut exprs, key_fields) = self.fold_keys(&schema, &detect.key)?;
        exprs.push(self.number(&detect.value, &schema, exprs.len())?);
        let fold = Box::new(DriftFold { spec });
        self.measured(input, exprs, key_fields, !detect.key.is_empty(), DriftFold::schema(), fold, name)
    }

    /// `choose`
    pub(super) fn choose(&mut self, input: Rows, choose: &Choose, name: &Name) -> Option<Rows> {
        let place = self.place.clone();
        let models = Param {
            name: Name { text: "models".into(), span: place.clone() },
            value: Value::from(choose.losses.len()),
            span: place.clone(),
        };
        let spec: ChampionSpec = self.params("`choose`", &place, Some(&models), &choose.params)?;
        let spec = self.valid(spec.validate().map(|()| spec), &place, &choose.params)?;
        let schema = input.schema();
        let (mut exprs, key_fields) = self.fold_keys(&schema, &choose.key)?;
        for loss in &choose.losses {
            exprs.push(self.number(&loss.sql, &schema, exprs.len())?);
        }
        let names = choose.losses.iter().map(|loss| loss.name.text.clone()).collect();
        let published = choose.publish.as_ref();
        let choice = published.and_then(|name| self.declared.iter().position(|model| model.name == name.text));
        let fold = ChooseFold { spec, names, choice };
        let schema = fold.schema();
        self.measured(input, exprs, key_fields, !choose.key.is_empty(), schema, Box::new(fold), name)
    }

    /// The key columns of a fold; a hidden constant for one value over all.
    fn fold_keys(&mut self, schema: &SchemaRef, key: &[Name]) -> Option<(Vec<ProjectionExpr>, Fields)> {
        if key.is_empty() {
            let field = Field::new(ONLY, DataType::Utf8, true);
            return Some((vec![constant_key("")], Fields::from(vec![field])));
        }
        let keys = self.keys(schema, key)?;
        let field = |&index: &usize| {
            let field = schema.field(index);
            Field::new(field.name(), field.data_type().clone(), true)
        };
        let fields: Fields = keys.iter().map(field).collect();
        Some((keys.iter().map(|&index| column(schema, index)).collect(), fields))
    }

    /// A fold that gives one row per key.
    #[allow(clippy::too_many_arguments)]
    fn measured(
        &mut self,
        input: Rows,
        exprs: Vec<ProjectionExpr>,
        key_fields: Fields,
        keys_visible: bool,
        schema: SchemaRef,
        fold: Box<dyn Fold>,
        name: &Name,
    ) -> Option<Rows> {
        let names = key_fields.iter().chain(schema.fields()).map(|field| (field.name().as_str(), &name.span));
        self.report(check_names(names));
        let op = FoldOp {
            key_fields,
            keys_visible,
            snapshot_fields: schema.fields().clone(),
            row_schema: schema,
            state_fields: state_fields(),
            initial: None,
            model: None,
            fold,
        };
        self.fold_stage(input, exprs, op, name)
    }

    /// A stage that folds these columns of the input, key columns first.
    pub(super) fn fold_stage(
        &mut self,
        input: Rows,
        exprs: Vec<ProjectionExpr>,
        op: FoldOp,
        name: &Name,
    ) -> Option<Rows> {
        let rows = self.each_lane(input, |it, lane| it.checked(lane.projected(exprs.clone())))?;
        let keys = (0..op.key_fields.len()).collect();
        let hashed = self.stages.hash(rows, keys, &name.text);
        let hashed = self.checked(hashed)?;
        let gives = op.schema();
        Some(self.stages.seal_with_state(hashed, StageState::Fold(op), &gives))
    }

    /// Where each model lives and who asks it, now that stages have their numbers.
    pub(super) fn homes(&mut self) -> Vec<ModelPlan> {
        let groups = self.def.settings.key_groups;
        let trains = |stage: &&Stage, model: usize| matches!(&stage.state, Some(StageState::Fold(op)) if op.model == Some(model));
        let stages = &self.stages.stages;
        let plan = |(number, model): (usize, Declaration)| {
            let stage = stages.iter().find(|stage| trains(stage, number)).map(|stage| stage.id);
            let key: ArrayRef = Arc::new(StringArray::from(vec![model.name.as_str()]));
            // Text can always be a key.
            let group = encode_keys(&[key]).map_or(0, |keys| key_group(keys.value(0), groups));
            let home = stage.map(|stage| (stage, group));
            let Declaration { name, spec, initial, features, candidates } = model;
            ModelPlan { name, spec, initial, features, home, candidates }
        };
        let models: Vec<_> = std::mem::take(&mut self.declared).into_iter().enumerate().map(plan).collect();
        for stage in &mut self.stages.stages {
            stage.models = asked(stage).into_iter().collect();
        }
        self.check_waiting(&models);
        models
    }

    /// Nobody can wait for a model that waits for him.
    fn check_waiting(&mut self, models: &[ModelPlan]) {
        for stage in &self.stages.stages {
            for asked in stage.models.iter().filter(|asked| asked.after_training) {
                let Some((home, _)) = models[asked.model].home else { continue };
                let mut before = BTreeSet::from([home]);
                let mut todo = vec![home];
                while let Some(at) = todo.pop() {
                    if let StageInput::Exchanges(inputs) = &self.stages.stages[at.0 as usize].input {
                        let producers = self.stages.exchanges.iter().filter(|e| inputs.contains(&e.id)).map(|e| e.from);
                        todo.extend(producers.filter(|producer| before.insert(*producer)));
                    }
                }
                if before.contains(&stage.id) {
                    let name = &models[asked.model].name;
                    let wrong =
                        format!("the training of `{name}` needs rows of this stream, which asks it after its training");
                    let wrong = Diagnostic::new(wrong);
                    let own = || self.def.streams.iter().find(|stream| stream.name.text == stage.name);
                    let place = self.stages.waits.place(stage.id, asked.model);
                    let wrong = match place.or_else(|| own().map(|stream| stream.operator_span.clone())) {
                        Some(place) => wrong.at(place).label("would wait for itself"),
                        None => wrong,
                    };
                    self.diagnostics.push(wrong.help(
                        "ask it as the batch before has left it (without `_after_training`), or from a stream over a source",
                    ));
                }
            }
        }
    }
}

/// The models that a stage asks, in its head, in its state operator, in shared rows or in a branch.
fn asked(stage: &Stage) -> BTreeSet<AskedModel> {
    let mut found = BTreeSet::new();
    let branches = stage.branches.iter().filter_map(|branch| branch.fragment.as_ref());
    let shared = stage.shared.iter().map(|shared| &shared.fragment);
    stage.head.iter().chain(shared).chain(branches).for_each(|fragment| fragment.asked(&mut found));
    if let Some(state) = &stage.state {
        state.exprs().into_iter().for_each(|expr| asked_by(expr, &mut found));
        state.fragments().into_iter().for_each(|fragment| fragment.asked(&mut found));
    }
    found
}

/// A kind as the parameter that tells specifications apart.
pub(super) fn kind_param(kind: &Name) -> Param {
    let name = Name { text: "kind".into(), span: kind.span.clone() };
    Param { name, value: Value::String(kind.text.clone()), span: kind.span.clone() }
}

pub(super) fn constant_key(key: &str) -> ProjectionExpr {
    let literal = Literal::new(ScalarValue::Utf8(Some(key.to_string())));
    ProjectionExpr { expr: Arc::new(literal), alias: ONLY.to_string() }
}

/// Users never see these columns.
pub(super) fn hidden(position: usize) -> String {
    format!("__{position}")
}

/// What serde says, at its place and in our words.
fn said(wrong: &str, place: &Span, param: Option<&Param>) -> Diagnostic {
    let quoted: Vec<&str> = wrong.split('`').skip(1).step_by(2).collect();
    let expected = quoted.get(1..).unwrap_or(&[]).iter().copied();
    if wrong.starts_with("unknown field") {
        let name = param.map_or("", |param| param.name.text.as_str());
        let span = param.map_or(place.clone(), |param| param.name.span.clone());
        return Diagnostic::new(format!("unknown parameter `{name}`"))
            .at(span)
            .label("unknown parameter")
            .did_you_mean(name, expected);
    }
    if let (true, Some(variant)) = (wrong.starts_with("unknown variant"), quoted.first()) {
        return Diagnostic::new(format!("`{variant}` is not among the choices"))
            .at(place.clone())
            .label(format!("expected {}", quoted[1..].join(", ")))
            .did_you_mean(variant, expected);
    }
    Diagnostic::new(wrong.to_string()).at(place.clone())
}

pub(super) fn wrong_spec(error: &SpecError, place: &Span, params: &[Param]) -> Diagnostic {
    let param = params.iter().find(|param| param.name.text == error.parameter);
    let place = param.map_or(place, |param| &param.span).clone();
    Diagnostic::new(format!("`{}` {}", error.parameter, error.problem)).at(place).help(error.mend.clone())
}
