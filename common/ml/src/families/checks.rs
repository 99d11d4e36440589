//! What holds for every family in the list, with each of its [`definitions`](crate::family::Family::definitions) and any data.

use super::{FAMILIES, kinds, schemas};
use crate::drift::DetectorSpec;
use crate::wild::wild;
use crate::{DriftAction, Health, Learned, LearnedKind, Model, ModelError, ModelSpec, Partial, Rows, Trained, Watched};
use ndarray::{Array1, Array2, s};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Every family with each of its definitions.
pub(crate) fn specs() -> Vec<ModelSpec> {
    let with_kind = |kind: &str, mut definition: Value| {
        definition["kind"] = json!(kind);
        serde_json::from_value(definition).unwrap()
    };
    let of_family = FAMILIES.iter().map(|it| (it.definitions)().into_iter().map(|one| with_kind(it.name, one)));
    of_family.flatten().collect()
}

/// Rows of three features.
#[derive(Debug, Clone)]
struct Batch {
    x: Array2<f64>,
    y: Array1<f64>,
    weight: Option<Array1<f64>>,
}

impl Batch {
    /// As many features as the model takes; of a bandit the first is an arm, mostly.
    fn for_model(&self, model: &Model) -> Batch {
        let mut x = self.x.slice(s![.., ..model.dimension().unwrap_or(3)]).to_owned();
        if model.spec().arms().is_some() {
            let rows = x.column_mut(0).into_iter().enumerate();
            rows.filter(|(i, _)| i % 4 != 3).for_each(|(i, arm)| *arm = (i % 3) as f64);
        }
        Batch { x, ..self.clone() }
    }

    /// The rows from one of these places to the next.
    fn splits(&self, ends: &[usize]) -> Vec<Rows<'_>> {
        let mut bounds: Vec<usize> = ends.iter().map(|end| end % (self.y.len() + 1)).collect();
        bounds.extend([0, self.y.len()]);
        bounds.sort_unstable();
        let part = |w: &[usize]| Rows {
            x: self.x.slice(s![w[0]..w[1], ..]),
            y: Some(self.y.slice(s![w[0]..w[1]])),
            weight: self.weight.as_ref().map(|weight| weight.slice(s![w[0]..w[1]])),
        };
        bounds.windows(2).map(part).collect()
    }
}

/// The rows as texts.
fn texts(rows: &Rows<'_>) -> Vec<Vec<Option<String>>> {
    let text = |x: &f64| (*x > -1.5).then(|| format!("{x:.0}"));
    rows.x.rows().into_iter().map(|row| row.iter().map(text).collect()).collect()
}

fn borrowed(rows: &[Vec<Option<String>>]) -> impl Iterator<Item = Vec<Option<&str>>> {
    rows.iter().map(|row| row.iter().map(Option::as_deref).collect())
}

/// What a split adds, after a way over the wire.
fn partial(model: &Model, split: &Rows<'_>) -> Partial {
    let partial = match model.spec().takes_text() {
        true => model.partial_of_text(borrowed(&texts(split))).unwrap(),
        false => model.partial(split).unwrap(),
    };
    let back = Partial::from_bytes(&partial.to_bytes()).unwrap();
    assert_eq!(back.to_bytes(), partial.to_bytes());
    back
}

fn train(model: &mut Model, splits: &[Rows<'_>]) -> Trained {
    if !model.spec().takes_text() {
        return model.train(splits).unwrap();
    }
    let partials: Vec<Partial> = splits.iter().map(|split| partial(model, split)).collect();
    model.apply(&partials).unwrap()
}

fn wild_batch() -> impl Strategy<Value = Batch> {
    (0usize..24).prop_flat_map(|n| {
        let label = prop_oneof![4 => Just(0.0), 4 => Just(1.0), 2 => Just(2.0), 1 => wild()];
        let weight = prop_oneof![6 => Just(1.0), 2 => 0.1..3.0f64, 1 => wild()];
        (vec(wild(), n * 3), vec(label, n), proptest::option::of(vec(weight, n))).prop_map(move |(x, y, weight)| {
            let x = Array2::from_shape_vec((n, 3), x).unwrap();
            Batch { x, y: Array1::from_vec(y), weight: weight.map(Array1::from_vec) }
        })
    })
}

/// Small numbers, labels that every family takes.
fn tame_batch() -> impl Strategy<Value = Batch> {
    (1usize..40).prop_flat_map(|n| {
        let labels = vec(prop_oneof![Just(0.0), Just(1.0)], n);
        (vec(-2.0..2.0f64, n * 3), labels).prop_map(move |(x, y)| {
            let x = Array2::from_shape_vec((n, 3), x).unwrap();
            Batch { x, y: Array1::from_vec(y), weight: None }
        })
    })
}

/// Asks all that a model may be asked.
fn ask(model: &Model, batch: &Batch) {
    let (spec, x) = (model.spec(), batch.x.view());
    assert_eq!(model.predict(x).is_ok(), spec.predicts());
    assert_eq!(model.predict_proba(x).is_ok(), spec.classes().is_some());
    assert_eq!(model.transform(x).is_ok(), spec.transforms() && !spec.takes_text() || x.nrows() == 0);
    assert_eq!(model.distance(x).is_ok(), spec.clusters());
    let rows = texts(&batch.splits(&[])[0]);
    assert_eq!(model.transform_text(borrowed(&rows)).is_ok(), spec.takes_text());
    if let Some(classes) = spec.classes() {
        let classes = Some(classes).filter(|_| x.nrows() > 0);
        let predicted = model.predict(x).unwrap();
        assert!(predicted.iter().all(|class| class.fract() == 0.0 && classes.is_some_and(|n| *class < n as f64)));
    }
    if spec.transforms() && x.nrows() > 0 {
        let made = if spec.takes_text() { model.transform_text(borrowed(&rows)) } else { model.transform(x) };
        assert_eq!(spec.width(x.ncols()), Some(made.unwrap().ncols()));
    }
    if let Some(arms) = spec.arms() {
        let ids: Vec<u64> = (0..x.nrows() as u64).collect();
        let context = if spec.contextual() { x.slice(s![.., 1..]) } else { x.slice(s![.., 1..1]) };
        assert!(model.choose(&ids, context).unwrap().iter().all(|arm| *arm < arms.len()));
    }
}

/// Stored and read again it is the same, as bytes and as JSON.
fn round_trip(model: &Model) {
    let bytes = model.to_bytes();
    assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes, "{model:?}");
    let text = model.to_json().to_string();
    let back = Model::from_json_text(&text).unwrap();
    assert_eq!((back.to_json().to_string(), back.to_bytes()), (text, bytes));
}

/// Whether some number of what was learnt is none, or infinite.
fn not_finite(model: &Model) -> bool {
    let state = model.to_json()["state"].to_string();
    state.contains("\"NaN\"") || state.contains("Infinity\"")
}

/// All numbers that a model shows.
fn numbers(model: &Model) -> Vec<f64> {
    let values = model.learned().into_iter().flat_map(|(_, learned)| match learned {
        Learned::Number(x) => vec![x],
        Learned::Count(n) => vec![n as f64],
        Learned::List(xs) => xs,
        Learned::Lists(lists) => lists.concat(),
        Learned::Text(_) | Learned::Texts(_) => vec![],
    });
    values.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_comes_is_followed_and_said(batches in vec(wild_batch(), 1..4)) {
        for spec in specs() {
            let (mut model, mut diverged, mut number) = (Model::new(spec.clone()).unwrap(), None, 0);
            for batch in &batches {
                let batch = batch.for_model(&model);
                ask(&model, &batch);
                let mut again = model.clone();
                let trained = train(&mut model, &batch.splits(&[5]));
                prop_assert_eq!((trained.rows + trained.skipped) as usize, batch.y.len(), "{:?}", spec);
                number += u64::from(trained.rows > 0);
                prop_assert_eq!(model.seen().0, number);
                diverged = not_finite(&model).then(|| diverged.unwrap_or(number));
                let health = diverged.map_or(Health::Healthy, |since_batch| Health::Diverged { since_batch });
                prop_assert_eq!(model.health(), health, "{:?}: {:?}", spec, model);
                // What is learnt from sums made elsewhere is the same.
                if spec.one_pass(model.dimension().unwrap_or(3)) {
                    let partials: Vec<Partial> = batch.splits(&[5]).iter().map(|split| partial(&again, split)).collect();
                    again.apply(&partials).unwrap();
                    prop_assert_eq!(again.to_bytes(), model.to_bytes());
                }
            }
            round_trip(&model);
            let text = model.to_json().to_string();
            prop_assert_eq!(Model::in_place_of(&text, &spec, None).is_ok(), diverged.is_none());
        }
    }

    #[test]
    fn models_that_watch_themselves_follow_it_too(batches in vec(wild_batch(), 1..4)) {
        for spec in specs().into_iter().filter(|spec| spec.predicts()) {
            for action in [DriftAction::Warn, DriftAction::Reset, DriftAction::Replace] {
                let detector = if spec.classes().is_some() { "ddm" } else { "page_hinkley" };
                let detector: DetectorSpec = serde_json::from_value(json!({ "kind": detector })).unwrap();
                let mut watched = Watched::new(Model::new(spec.clone()).unwrap(), detector, action).unwrap();
                for batch in &batches {
                    let done = watched.train(&batch.splits(&[5])).unwrap();
                    prop_assert_eq!(done.rows.len(), batch.y.len());
                    prop_assert_eq!(Watched::from_bytes(&watched.to_bytes()).unwrap().to_bytes(), watched.to_bytes());
                }
            }
        }
    }

    #[test]
    fn the_same_splits_give_the_same_bytes_and_others_next_to_the_same(
        batches in vec(tame_batch(), 1..4),
        ends in vec(0usize..40, 0..4),
    ) {
        for spec in specs() {
            let [mut whole, mut split, mut again] = [(); 3].map(|()| Model::new(spec.clone()).unwrap());
            for batch in &batches {
                let batch = batch.for_model(&whole);
                train(&mut whole, &batch.splits(&[]));
                train(&mut split, &batch.splits(&ends));
                train(&mut again, &batch.splits(&ends));
            }
            prop_assert_eq!(split.to_bytes(), again.to_bytes());
            if whole.health() == Health::Healthy {
                for (a, b) in numbers(&whole).into_iter().zip(numbers(&split)) {
                    prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{:?}: {} and {}", spec, a, b);
                }
            }
        }
    }

    #[test]
    fn what_learns_by_record_predicts_each_row_before_it_learns_it(batch in tame_batch()) {
        for spec in specs().into_iter().filter(ModelSpec::per_record) {
            let [mut together, mut alone] = [(); 2].map(|()| Model::new(spec.clone()).unwrap());
            let (predictions, trained) = together.train_per_record(&batch.splits(&[])[0]).unwrap();
            prop_assert!(trained.rows > 0 || spec.classes().is_some());
            for (row, prediction) in predictions.iter().enumerate() {
                let x = batch.x.slice(s![row..row + 1, ..]);
                prop_assert_eq!(alone.predict(x).unwrap()[0].to_bits(), prediction.to_bits());
                alone.train(&[Rows { x, y: Some(batch.y.slice(s![row..row + 1])), weight: None }]).unwrap();
            }
            let numbers = |model| numbers(model).into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(numbers(&together), numbers(&alone), "{:?}", spec);
        }
    }

    #[test]
    fn damaged_bytes_are_refused(at in 0usize..200, flip in 1u8..) {
        for spec in specs() {
            let mut bytes = Model::new(spec).unwrap().to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(Model::from_bytes(&bytes).is_err());
            prop_assert!(Model::from_bytes(&bytes[..at]).is_err());
        }
    }
}

/// Four rows that every family learns from: the features are not negative, and of a bandit the first is an arm.
fn four_rows(model: &Model) -> Batch {
    let x = Array2::from_shape_fn((4, model.dimension().unwrap_or(3)), |(i, j)| ((i + 2) * j % 5 + i % 2) as f64);
    Batch { x, y: Array1::from_vec(vec![0.0, 1.0, 0.0, 1.0]), weight: None }
}

#[test]
fn names_are_told_apart_and_known() {
    let mut names = kinds().to_vec();
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FAMILIES.len());
    let error = serde_json::from_value::<ModelSpec>(json!({ "kind": "no_such_kind" })).unwrap_err().to_string();
    assert!(kinds().iter().all(|kind| error.contains(&format!("`{kind}`"))), "{error}");
}

#[test]
fn a_definition_is_a_kind_and_known_parameters() {
    for family in FAMILIES {
        let alone: ModelSpec = serde_json::from_value(json!({ "kind": family.name })).unwrap();
        assert_eq!(alone.kind(), family.name);
        // What has no defaults cannot be left out: the arms of a bandit.
        if let Ok(model) = Model::new(alone) {
            let document = json!({ "format": "tidemill-model", "version": 1, "spec": { "kind": family.name } });
            assert_eq!(Model::from_json(&document).unwrap(), model);
        }
        let wrong = serde_json::from_value::<ModelSpec>(json!({ "kind": family.name, "no_such_parameter": 1 }));
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.starts_with("unknown field `no_such_parameter`, expected "), "{}: {wrong}", family.name);
        assert!(!(family.definitions)().is_empty(), "{}", family.name);
    }
    for spec in specs() {
        spec.validate().unwrap();
        assert!(format!("{spec:?}").starts_with(spec.kind()), "{spec:?}");
        let text = serde_json::to_string(&spec).unwrap();
        assert!(text.starts_with(&format!("{{\"kind\":\"{}\"", spec.kind())), "{text}");
        assert_eq!(serde_json::from_str::<ModelSpec>(&text).unwrap(), spec);
    }
}

/// Whether a value is one of a schema, as far as schemas of parameters go.
fn fits(value: &Value, schema: &Value) -> bool {
    if let Some(schemas) = schema["oneOf"].as_array() {
        return schemas.iter().filter(|schema| fits(value, schema)).count() == 1;
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.contains(value);
    }
    match (schema["type"].as_str(), value) {
        (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) | (Some("string"), Value::String(_)) => {
            true
        }
        (Some("integer"), Value::Number(number)) => number.as_u64() >= schema["minimum"].as_u64(),
        (Some("array"), Value::Array(items)) => items.iter().all(|item| fits(item, &schema["items"])),
        (Some("object"), Value::Object(entries)) => {
            let mut required = schema["required"].as_array().into_iter().flatten();
            required.all(|name| value.get(name.as_str().unwrap()).is_some())
                && entries.iter().all(|(name, value)| fits(value, &schema["properties"][name]))
        }
        _ => false,
    }
}

/// Every parameter is in the schema, described, and of the type that is written.
#[test]
fn a_definition_is_one_of_the_schema() {
    for (family, (name, schema)) in FAMILIES.iter().zip(schemas()) {
        assert_eq!((family.name, &schema["additionalProperties"]), (name, &json!(false)));
        for property in schema["properties"].as_object().unwrap().values() {
            let described = property["description"].as_str().is_some_and(|text| text.ends_with('.'));
            assert!(described, "{name}: {property}");
            assert!(property.get("default").is_none_or(|default| fits(default, property)), "{name}: {property}");
        }
        let nothing = Model::new(serde_json::from_value(json!({ "kind": name })).unwrap());
        assert_eq!(fits(&json!({}), &schema), nothing.is_ok(), "{name}: {schema}");
        for definition in (family.definitions)() {
            assert!(fits(&definition, &schema), "{name}: {definition} and {schema}");
        }
        assert!(!fits(&json!({ "no_such_parameter": 1 }), &schema));
    }
}

#[test]
fn rows_are_learnt_and_the_model_shows_what_it_promises() {
    for spec in specs() {
        let mut model = Model::new(spec.clone()).unwrap();
        let rows = four_rows(&model);
        for batch in 0..2 {
            let kinds: Vec<_> = model.learned().iter().map(|(name, learned)| (*name, kind_of(learned))).collect();
            assert_eq!(kinds, Model::learned_shape(&spec));
            round_trip(&model);
            let trained = train(&mut model, &rows.splits(&[1]));
            assert_eq!((trained.rows, trained.skipped), (4, 0), "{spec:?}");
            assert_eq!(model.seen(), (batch + 1, 4 * (batch + 1), 0));
        }
        if spec.fixed().is_none() {
            assert_eq!(model.dimension(), Some(3));
        }
    }
}

fn kind_of(learned: &Learned) -> LearnedKind {
    match learned {
        Learned::Number(_) => LearnedKind::Number,
        Learned::Count(_) => LearnedKind::Count,
        Learned::List(_) => LearnedKind::List,
        Learned::Lists(_) => LearnedKind::Lists,
        Learned::Text(_) => LearnedKind::Text,
        Learned::Texts(_) => LearnedKind::Texts,
    }
}

#[test]
fn rows_of_another_shape_are_refused_and_change_nothing() {
    let short = Array1::<f64>::zeros(2);
    for spec in specs() {
        let kind = spec.kind();
        let mut model = Model::new(spec.clone()).unwrap();
        let rows = four_rows(&model);
        train(&mut model, &rows.splits(&[]));
        let (before, expected) = (model.clone(), rows.x.ncols());
        let wide = Array2::<f64>::zeros((4, expected + 2));
        let (wide, narrow) = (wide.view(), rows.x.view());
        let (y, short) = (Some(rows.y.view()), Some(short.view()));
        let dimension = ModelError::Dimension { expected, found: expected + 2 };
        assert_eq!(model.train(&[Rows { x: wide, y, weight: None }]), Err(dimension.clone()));
        if spec.predicts() {
            assert_eq!(model.predict(wide), Err(dimension));
        }
        let weights = Rows { x: narrow, y, weight: short };
        assert_eq!(model.train(&[weights]), Err(ModelError::Weights { rows: 4, weights: 2 }));
        if spec.supervised() {
            let labels = Rows { x: narrow, y: short, weight: None };
            assert_eq!(model.train(&[labels]), Err(ModelError::Labels { rows: 4, labels: 2 }));
            assert_eq!(model.train(&[Rows { x: narrow, y: None, weight: None }]), Err(ModelError::NoLabels { kind }));
        }
        assert_eq!(model.to_bytes(), before.to_bytes(), "{spec:?}");
    }
}

/// A state under another name, or none of lists that fit, is not taken.
#[test]
fn a_state_is_one_of_its_definition() {
    for spec in specs() {
        let mut model = Model::new(spec.clone()).unwrap();
        let rows = four_rows(&model);
        train(&mut model, &rows.splits(&[]));
        let mut document = model.to_json();
        let state = document["state"][spec.kind()].take();
        document["state"] = json!({ "no_such_kind": state.clone() });
        let wrong = Model::from_json(&document).unwrap_err().to_string();
        assert!(wrong.contains(&format!("the state is not one of a model of kind {}", spec.kind())), "{wrong}");
        document["state"] = json!({ (spec.kind()): state, "zz": 1 });
        assert!(Model::from_json(&document).unwrap_err().to_string().contains("more than one state"));
    }
}

/// See `tests/stored/README.md`; `tests/stored.rs` reads the files.
#[test]
#[ignore = "writes files"]
fn store_families_that_have_no_file() {
    for family in FAMILIES.iter().filter(|family| family.name != TOY) {
        let spec = specs().into_iter().find(|spec| spec.kind() == family.name).unwrap();
        let mut model = Model::new(spec).unwrap();
        let rows = four_rows(&model);
        (0..2).for_each(|_| _ = train(&mut model, &rows.splits(&[1])));
        let (bytes, text) = (model.to_bytes(), format!("{:#}\n", model.to_json()));
        let folder = format!("{}/tests/stored/v{}", env!("CARGO_MANIFEST_DIR"), bytes[4]);
        let file = format!("{folder}/{}.model", family.name);
        if !std::path::Path::new(&file).exists() {
            std::fs::write(file, bytes).unwrap();
            std::fs::write(format!("{folder}/{}.json", family.name), text).unwrap();
        }
    }
}

/// The family of `docs/adding-a-model-family.md`: it is there in tests only.
const TOY: &str = "mean";

/// `docs/learning.md` has every family: a section with its name in the heading or in a table and with its parameters, what it shows, and
/// the name of its stored state.
#[test]
fn the_documentation_has_every_family() {
    const PAGE: &str = include_str!("../../../../docs/learning.md");
    let sections: Vec<&str> = PAGE.split("\n## ").collect();
    let section = |start: &str| sections.iter().position(|section| section.starts_with(start)).unwrap();
    let (shapes, stored) = (section("Shapes"), section("Stored form"));
    for family in FAMILIES.iter().filter(|family| family.name != TOY) {
        let (kind, quoted) = (family.name, format!("`{}`", family.name));
        let is_own = |section: &&&str| {
            let heading = section.lines().next().is_some_and(|heading| heading.contains(&quoted));
            heading || section.contains(&format!("\n| {quoted}"))
        };
        let own = sections[shapes + 1..].iter().find(is_own);
        let own = own.unwrap_or_else(|| panic!("docs/learning.md has no section for {quoted}"));
        let spec: ModelSpec = serde_json::from_value(json!({ "kind": kind })).unwrap();
        let Value::Object(parameters) = serde_json::to_value(&spec).unwrap() else { panic!("{spec:?}") };
        let referred = own.contains("all of linear regression").then(|| sections[section("Linear regression")]);
        for parameter in parameters.keys().filter(|name| *name != "kind") {
            let has = |section: &str| {
                [format!("`{parameter}`"), format!("`{parameter} ")].iter().any(|it| section.contains(it))
            };
            assert!(has(own) || referred.is_some_and(has), "{kind}: `{parameter}` in its section");
        }
        let row = sections[shapes].lines().find(|row| row.starts_with('|') && row.contains(&quoted));
        let row = row.unwrap_or_else(|| panic!("{quoted} has no row in the table of shapes"));
        for (shown, _) in Model::learned_shape(&spec) {
            assert!(row.contains(&format!("`{shown}`")), "{kind}: `{shown}` in the table of shapes");
        }
        let names = [format!("\"{kind}\""), quoted];
        assert!(names.iter().any(|name| sections[stored].contains(name)), "{kind} in the table of stored states");
    }
}

/// The page shows the toy as it stands here, and the two lines that the list has for it.
#[test]
fn the_page_shows_the_toy_as_it_is() {
    const PAGE: &str = include_str!("../../../../docs/adding-a-model-family.md");
    assert!(PAGE.contains(&format!("```rust\n{}```", include_str!("mean.rs"))));
    assert!(PAGE.contains(&format!("kind = \"{TOY}\"")));
    for line in ["pub mod mean;\n", "    Entry::of::<mean::Mean>(),\n"] {
        assert!(PAGE.contains(line) && include_str!("mod.rs").contains(line), "{line}");
    }
}
