//! The models of a job: those of the definition, and the names under which champions answer.

use super::Compiler;
use super::learn::{kind_param, wrong_spec};
use crate::learn::predict::{Declared, Known};
use crate::session::{self, Shape};
use crate::text::file_name;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Choose, ModelDef, Name, NamedSql, Operator};
use tidemill_ml::{Model, ModelSpec, ReplaceError};

/// A model before it is known which stage trains it.
pub(super) struct Declaration {
    pub(super) name: String,
    pub(super) spec: ModelSpec,
    pub(super) initial: Arc<Model>,
    /// Number of features, where it is known.
    pub(super) features: Option<usize>,
    /// The models whose champion it is; empty for a model of its own.
    pub(super) candidates: Vec<usize>,
}

impl Compiler<'_> {
    /// Reads all models of the definition; from now on expressions may ask them.
    pub(super) fn declare(&mut self) {
        let def = self.def;
        self.declared = def.models.iter().filter_map(|model| self.model(model)).collect();
        let choices = def.streams.iter().filter_map(|stream| match &stream.operator {
            Operator::Choose(choose) => self.published_choice(choose),
            _ => None,
        });
        let choices: Vec<_> = choices.collect();
        for (choice, mistake) in choices {
            self.report(mistake);
            self.declared.push(choice);
        }
        let known = self.declared.iter().map(|model| Known {
            name: model.name.clone(),
            spec: model.spec.clone(),
            choice: !model.candidates.is_empty(),
            features: model.features,
        });
        self.models = Declared(Arc::new(known.collect()));
        let session = |shape| session::state(shape, self.functions, &self.uses, &self.models);
        (self.session, self.single_session) = (session(Shape::Distributed), session(Shape::Single));
    }

    fn model(&mut self, def: &ModelDef) -> Option<Declaration> {
        let kind = kind_param(&def.kind);
        let title = format!("model `{}`", def.name.text);
        let spec: ModelSpec = self.params(&title, &def.kind.span, Some(&kind), &def.params)?;
        let spec = self.valid(spec.validate().map(|()| spec), &def.kind.span, &def.params)?;
        let initial = match &def.initial {
            None => Model::new(spec.clone()).map_err(|error| wrong_spec(&error, &def.kind.span, &def.params)),
            Some(path) => self.exported(path, &spec),
        };
        let initial = Arc::new(self.reported(initial)?);
        let features = initial.dimension();
        Some(Declaration { name: def.name.text.clone(), spec, initial, features, candidates: Vec::new() })
    }

    /// The name under which the champion of several models answers. It is a mistake if they do not answer alike.
    fn published_choice(&self, choose: &Choose) -> Option<(Declaration, Option<Diagnostic>)> {
        let name = choose.publish.as_ref()?;
        let position = |loss: &NamedSql| self.declared.iter().position(|model| model.name == loss.name.text);
        let candidates = choose.losses.iter().map(position).collect::<Option<Vec<_>>>()?;
        let first = self.declared.get(*candidates.first()?)?;
        let answers = |spec: &ModelSpec| (spec.supervised(), spec.classes());
        let differs = |model: &&usize| answers(&self.declared[**model].spec) != answers(&first.spec);
        let mistake = candidates.iter().find(differs).map(|other| {
            let wrong = format!("`{}` does not answer as `{}` does", self.declared[*other].name, first.name);
            let wrong = Diagnostic::new(wrong).at(name.span.clone());
            wrong.help("publish the best of models that give numbers, or of classifiers with as many classes")
        });
        let (spec, initial) = (first.spec.clone(), first.initial.clone());
        Some((Declaration { name: name.text.clone(), spec, initial, features: None, candidates }, mistake))
    }

    /// An exported model, which goes on with the parameters of the definition.
    fn exported(&self, path: &Name, spec: &ModelSpec) -> Result<Model, Diagnostic> {
        let wrong = |what: String| Diagnostic::new(what).at(path.span.clone());
        let text = std::fs::read_to_string(self.base_dir.join(&path.text))
            .map_err(|error| wrong(format!("cannot read `{}`: {error}", file_name(&path.text))))?;
        Model::in_place_of(&text, spec, None).map_err(|error| {
            let defined = matches!(error, ReplaceError::Kind { .. } | ReplaceError::Parameter { .. });
            let wrong = wrong(format!("`{}`: {error}", file_name(&path.text)));
            match defined {
                true => wrong.help("give the model the kind and the parameters that it was exported with"),
                false => wrong,
            }
        })
    }
}
