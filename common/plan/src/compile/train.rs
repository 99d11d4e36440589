//! `train`: which rows a model learns from, and whether they travel to it or only sums over them.

use super::Compiler;
use super::declare::Declaration;
use super::expr::{check_names, find};
use super::learn::{ONLY, constant_key, hidden, kind_param};
use super::stages::{Lane, Part, Rows, column};
use crate::exec::OverExec;
use crate::learn::matrix::width;
use crate::learn::prepare::is_category;
use crate::learn::{Comes, FoldOp, Lesson, Partial, Takes, TrainFold, WATCHED, Watch, state_fields};
use datafusion::arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Name, OnDrift, Train};
use tidemill_ml::drift::DetectorSpec;
use tidemill_ml::{Answers, DriftAction, ModelError, ModelSpec};
use tidemill_rows::type_name;

impl Compiler<'_> {
    /// `train`
    pub(super) fn train(&mut self, input: Rows, train: &Train, name: &Name) -> Option<Rows> {
        let model = self.declared.iter().position(|model| model.name == train.model.text)?;
        let spec = self.declared[model].spec.clone();
        let schema = input.schema();
        let takes = match spec.answers() {
            Answers::Arm { arms, .. } => Takes::Arms(arms.into()),
            Answers::FeaturesOfText => Takes::Texts,
            Answers::Features => Takes::Gaps,
            Answers::Number | Answers::Class { .. } | Answers::Cluster => Takes::Numbers,
        };
        let mut exprs: Vec<_> = self.arm(train, &spec, &schema)?.into_iter().collect();
        self.features_given(train, &spec)?;
        for column in &train.features {
            exprs.push(match takes {
                Takes::Texts => self.category(&schema, column, exprs.len())?,
                _ => self.feature(&schema, column, exprs.len())?,
            });
        }
        let features = exprs.len();
        let dimension_of = |feature: &ProjectionExpr| Some(width(&feature.expr.data_type(&schema).ok()?).unwrap_or(1));
        let dimension = exprs.iter().filter_map(dimension_of).sum();
        self.made_for(train, model, dimension)?;
        self.declared[model].features = Some(dimension);
        let labelled = self.label(train, &spec, &schema, &mut exprs)?;
        if let Some(weight) = &train.weight {
            exprs.push(self.number(weight, &schema, exprs.len())?);
        }
        let weighted = train.weight.is_some();
        let lesson = Lesson { model: train.model.text.clone(), features, labelled, weighted, takes };
        let key = constant_key(&train.model.text);
        let watch = match &train.drift {
            Some(drift) => Some(self.watch(drift, &spec)?),
            None => None,
        };
        let (input, columns, comes) = if watch.is_none() && spec.one_pass(dimension) {
            let (input, columns) = self.partials(input, exprs, &lesson, model)?;
            (input, columns, Comes::Partials)
        } else if spec.per_record() {
            let own = ["prediction"].into_iter().chain(WATCHED.into_iter().filter(|_| watch.is_some()));
            let passing = schema.fields().iter().map(|field| field.name().as_str());
            self.report(check_names(passing.chain(own).map(|column| (column, &name.span))));
            exprs.extend((0..schema.fields().len()).map(|index| column(&schema, index)));
            (input, exprs, Comes::Records)
        } else {
            (input, exprs, Comes::Rows)
        };
        let columns = [key].into_iter().chain(columns).collect();
        let fold = TrainFold::new(lesson, &spec, comes, watch, &schema);
        let initial = self.initial_model(&train.model.text, model)?;
        let op = FoldOp {
            key_fields: Fields::from(vec![Field::new(ONLY, DataType::Utf8, true)]),
            keys_visible: false,
            row_schema: fold.row_schema(),
            snapshot_fields: fold.snapshot_schema().fields().clone(),
            state_fields: state_fields(),
            initial: Some(initial),
            model: Some(model),
            fold: Box::new(fold),
        };
        let rows = self.fold_stage(input, columns, op, name)?;
        let shown = self.stages.snapshots(&rows)?;
        let columns: Vec<_> = (1..shown.schema().fields().len()).map(|index| column(&shown.schema(), index)).collect();
        let shown = self.each_lane(shown, |it, lane| it.checked(lane.projected(columns.clone())))?;
        let shown = self.stages.share(shown, &train.model.text);
        self.shown.insert(train.model.text.clone(), shown);
        Some(rows)
    }

    /// Refuses to train a model that was made for another number of features.
    fn made_for(&mut self, train: &Train, model: usize, dimension: usize) -> Option<()> {
        let Declaration { name, spec, initial, .. } = &self.declared[model];
        let Some(expected) = initial.dimension().filter(|expected| *expected != dimension) else { return Some(()) };
        // The first feature of a bandit is the arm itself.
        let arm = usize::from(spec.arms().is_some());
        let (expected, found) = (expected - arm, dimension - arm);
        let wrong = format!("model `{name}`: {}", ModelError::Dimension { expected, found });
        let def = self.def.models.iter().find(|def| def.name.text == *name);
        let fixing = spec.fixed().map(|fixed| fixed.parameter);
        let param = def.and_then(|def| def.params.iter().find(|param| Some(param.name.text.as_str()) == fixing));
        let place = param.map(|param| &param.span).or(def.and_then(|def| def.initial.as_ref()).map(|path| &path.span));
        let wrong = Diagnostic::new(wrong).at(place.unwrap_or(&train.model.span).clone());
        let given: Vec<_> = train.features.iter().map(|feature| format!("`{}`", feature.text)).collect();
        self.report([wrong
            .label(format!("made for {expected}"))
            .help(format!("it is trained with {}", given.join(", ")))]);
        None
    }

    /// What watches the errors of a model.
    fn watch(&mut self, drift: &OnDrift, model: &ModelSpec) -> Option<Watch> {
        let (place, kind) = (&drift.detector.span, kind_param(&drift.detector));
        let spec: DetectorSpec = self.params("`drift`", place, Some(&kind), &drift.params)?;
        let spec =
            self.valid(spec.watches(model).and_then(|()| spec.validate()).map(|()| spec), place, &drift.params)?;
        let action = match drift.action {
            tidemill_job::DriftAction::Warn => DriftAction::Warn,
            tidemill_job::DriftAction::Reset => DriftAction::Reset,
            tidemill_job::DriftAction::Replace => DriftAction::Replace,
        };
        Some((spec, action))
    }

    /// What the rows of each unit add to a model, made where they are, in place of the rows.
    fn partials(
        &mut self,
        input: Rows,
        exprs: Vec<ProjectionExpr>,
        lesson: &Lesson,
        model: usize,
    ) -> Option<(Rows, Vec<ProjectionExpr>)> {
        let sealed = self.stages.seal(input);
        let sums = self.each_lane(sealed, |it, lane| {
            let rows = it.checked(lane.visible().and_then(|rows| ProjectionExec::try_new(exprs.clone(), rows)))?;
            let plan = it.checked(OverExec::try_new(Arc::new(rows), Partial::new(lesson.clone(), model)))?;
            Some(Lane { plan, part: Part::Branch { keyed: false }, ..lane })
        })?;
        let schema = sums.schema();
        let columns = (0..schema.fields().len()).map(|index| column(&schema, index)).collect();
        Some((sums, columns))
    }

    /// A column of features as doubles or as vectors of them.
    fn feature(&mut self, schema: &SchemaRef, name: &Name, position: usize) -> Option<ProjectionExpr> {
        let index = self.reported(find(schema, name))?;
        let data_type = schema.field(index).data_type();
        let expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(index).name(), index));
        let expr = if width(data_type).is_some() {
            Ok(expr)
        } else if data_type.is_numeric() || *data_type == DataType::Boolean {
            cast(expr, schema, DataType::Float64)
        } else {
            let wrong = format!("a {} is no feature", type_name(data_type));
            let wrong = Diagnostic::new(wrong).at(name.span.clone()).label("expected a number or a vector");
            self.report([wrong.help("make it a number first, with `select`")]);
            return None;
        };
        Some(ProjectionExpr { expr: self.checked(expr)?, alias: hidden(position) })
    }

    /// The arm that a row of a bandit is about.
    fn arm(&mut self, train: &Train, spec: &ModelSpec, schema: &SchemaRef) -> Option<Option<ProjectionExpr>> {
        match (&train.arm, spec.arms()) {
            (Some(arm), Some(_)) => {
                let text = |found: &DataType| found.is_string() || found.is_null();
                self.of_type(arm, schema, 0, &DataType::Utf8, text).map(Some)
            }
            (None, None) => Some(None),
            (None, Some(_)) => {
                let wrong = format!("a model of kind {} learns from arms that were chosen", spec.kind());
                self.report([Diagnostic::new(wrong).at(train.model.span.clone()).help("say which: `arm = \"..\"`")]);
                None
            }
            (Some(arm), None) => {
                let wrong = Diagnostic::new(format!("a model of kind {} has no arms", spec.kind()));
                self.report([wrong.at(arm.span.clone()).help("leave `arm` out")]);
                None
            }
        }
    }

    /// Whether there are features where the model needs them, and only there.
    fn features_given(&mut self, train: &Train, spec: &ModelSpec) -> Option<()> {
        let wanted = spec.arms().is_none() || spec.contextual();
        let (what, help) = match train.features.first() {
            None if wanted => ("learns from features", "say which: `features = [\"..\"]`"),
            Some(_) if !wanted => ("looks at no features", "leave `features` out, or use `lin_ucb`"),
            _ => return Some(()),
        };
        let place = train.features.first().unwrap_or(&train.model).span.clone();
        let wrong = Diagnostic::new(format!("a model of kind {} {what}", spec.kind()));
        self.report([wrong.at(place).help(help)]);
        None
    }

    /// A column of categories as text.
    fn category(&mut self, schema: &SchemaRef, name: &Name, position: usize) -> Option<ProjectionExpr> {
        let index = self.reported(find(schema, name))?;
        let data_type = schema.field(index).data_type();
        if !is_category(data_type) {
            let wrong = Diagnostic::new(format!("a {} is no category", type_name(data_type)));
            self.report([wrong.at(name.span.clone()).label("expected text or a whole number")]);
            return None;
        }
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(index).name(), index));
        let expr = cast(column, schema, DataType::Utf8);
        Some(ProjectionExpr { expr: self.checked(expr)?, alias: hidden(position) })
    }

    fn label(
        &mut self,
        train: &Train,
        spec: &ModelSpec,
        schema: &SchemaRef,
        exprs: &mut Vec<ProjectionExpr>,
    ) -> Option<bool> {
        match (&train.label, spec.supervised()) {
            (Some(label), true) => {
                exprs.push(self.number(label, schema, exprs.len())?);
                Some(true)
            }
            (None, false) => Some(false),
            (None, true) => {
                let wrong = format!("a model of kind {} learns from labels", spec.kind());
                self.report([Diagnostic::new(wrong).at(train.model.span.clone()).help("say which: `label = \"..\"`")]);
                None
            }
            (Some(label), false) => {
                let wrong = format!("a model of kind {} learns without labels", spec.kind());
                self.report([Diagnostic::new(wrong).at(label.span.clone()).help("leave `label` out")]);
                None
            }
        }
    }

    /// The model's key with its bytes before the first batch.
    fn initial_model(&mut self, name: &str, model: usize) -> Option<RecordBatch> {
        let fields = [Field::new(ONLY, DataType::Utf8, true)].into_iter().map(Arc::new);
        let fields: Fields = fields.chain(state_fields().iter().cloned()).collect();
        let bytes = self.declared[model].initial.to_bytes();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![name])),
            Arc::new(BinaryArray::from(vec![bytes.as_slice()])),
            Arc::new(Int64Array::from(vec![0])),
            Arc::new(BinaryArray::from(vec![None::<&[u8]>])),
        ];
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        self.checked(rows.map_err(DataFusionError::from))
    }
}
