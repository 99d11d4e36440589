//! Categories as features, one each.

use crate::{
    error::{SpecError, at_least_one},
    family::{Answers, Family, Fixed, Learns, OnePass, Sums},
    parameters::parameters,
    partial::Partial,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::Table,
};
use serde::{Deserialize, Serialize};

parameters! {
    /// Every column of text as as many features as it has categories: 1 for the row's own, 0 for the others; all 0 for a category that is
    /// not known (yet), and for none.
    pub struct OneHotSpec {
        /// The categories of every column. Default: learnt, in the order in which they come.
        pub categories: Option<Vec<Vec<String>>> = None,
        /// Most categories that are learnt of a column, and the number of its features; not with `categories`. Default 16.
        pub max_categories: u32 = DEFAULT_CATEGORIES,
    }
}

const DEFAULT_CATEGORIES: u32 = 16;
const MOST_CATEGORIES: u32 = 10_000;

impl OneHotSpec {
    fn validate(&self) -> Result<(), SpecError> {
        at_least_one("max_categories", self.max_categories.into())?;
        if self.max_categories > MOST_CATEGORIES {
            let problem = format!("is {}", self.max_categories);
            return Err(SpecError::new("max_categories", problem, format!("use at most {MOST_CATEGORIES}")));
        }
        let Some(categories) = &self.categories else { return Ok(()) };
        if self.max_categories != DEFAULT_CATEGORIES {
            return Err(SpecError::new("max_categories", "is given beside `categories`", "give only one of them"));
        }
        let twice = |of_column: &Vec<String>| (1..of_column.len()).any(|i| of_column[..i].contains(&of_column[i]));
        if categories.is_empty() || categories.iter().any(Vec::is_empty) {
            return Err(SpecError::new("categories", "has none", "give a list for every column: [[\"a\", \"b\"]]"));
        }
        match categories.iter().position(twice) {
            Some(column) => {
                Err(SpecError::new("categories", format!("has one twice in list {column}"), "give each once"))
            }
            None => Ok(()),
        }
    }
}

/// A transformer: categories as features. What is learnt are the categories that are known, per column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneHot {
    categories: Vec<Vec<String>>,
}

impl Family for OneHot {
    type Spec = OneHotSpec;
    const NAME: &'static str = "one_hot";
    const SHAPE: Shape = &[("categories", LearnedKind::Texts)];
    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &OneHotSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(_: &OneHotSpec) -> Answers<'_> {
        Answers::FeaturesOfText
    }

    fn learns(_: &OneHotSpec, _: usize) -> Learns {
        Learns::FromSums
    }

    fn new(spec: &OneHotSpec, columns: usize) -> Self {
        OneHot { categories: spec.categories.clone().unwrap_or_else(|| vec![Vec::new(); columns]) }
    }

    fn fixed(spec: &OneHotSpec) -> Option<Fixed> {
        let categories = spec.categories.as_ref()?;
        Some(Fixed { parameter: "categories", features: categories.len() })
    }

    fn width(spec: &OneHotSpec, columns: usize) -> Option<usize> {
        match &spec.categories {
            Some(categories) if categories.len() != columns => None,
            Some(categories) => Some(categories.iter().map(Vec::len).sum()),
            None => Some(columns * spec.max_categories as usize),
        }
    }

    fn features(&self) -> usize {
        self.categories.len()
    }

    fn finite(&self) -> bool {
        true
    }

    fn consistent(&self, spec: &OneHotSpec) -> bool {
        match &spec.categories {
            Some(categories) => *categories == self.categories,
            None => self.categories.iter().all(|known| known.len() <= spec.max_categories as usize),
        }
    }

    fn transform_text(&self, spec: &OneHotSpec, texts: &[Option<&str>]) -> Option<Vec<f64>> {
        let mut features = Vec::new();
        for (known, text) in self.categories.iter().zip(texts) {
            let start = features.len();
            let width = if spec.categories.is_some() { known.len() } else { spec.max_categories as usize };
            features.resize(start + width, 0.0);
            if let Some(place) = text.and_then(|text| known.iter().position(|category| category == text)) {
                features[start + place] = 1.0;
            }
        }
        Some(features)
    }

    /// The texts of every column that are not known, in the order in which they come, as many as there is room for.
    fn gather_text(&self, spec: &OneHotSpec, rows: &mut dyn Iterator<Item = Vec<Option<&str>>>) -> Option<Partial> {
        let mut sums = self.nothing(spec);
        for row in rows {
            sums.rows += 1;
            for ((known, found), text) in self.categories.iter().zip(&mut sums.texts).zip(row) {
                let room = spec.categories.is_none() && known.len() + found.len() < spec.max_categories as usize;
                if let Some(text) = text.filter(|_| room)
                    && !known.iter().chain(found.iter()).any(|category| category == text)
                {
                    found.push(text.to_owned());
                }
            }
        }
        Some(sums)
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::Texts(self.categories.clone())]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({}), serde_json::json!({ "categories": [["a"], ["b", "c"], ["d"]] })]
    }
}

impl OnePass for OneHot {
    fn nothing(&self, _: &OneHotSpec) -> Partial {
        Partial { texts: vec![Vec::new(); self.features()], ..Partial::zeros(self.features(), []) }
    }

    /// Numbers are no categories.
    fn gather(&self, _: &OneHotSpec, split: &Table<'_>, sums: &mut Partial) {
        sums.skipped += split.len() as u64;
    }

    fn merge(sums: &mut Partial, next: &Partial) {
        sums.add_counts(next);
        for (found, next) in sums.texts.iter_mut().zip(&next.texts) {
            let new: Vec<String> = next.iter().filter(|text| !found.contains(text)).cloned().collect();
            found.extend(new);
        }
    }

    fn learn(&mut self, spec: &OneHotSpec, sums: &Partial) -> Trained {
        if spec.categories.is_none() {
            for (known, found) in self.categories.iter_mut().zip(&sums.texts) {
                let room = (spec.max_categories as usize).saturating_sub(known.len());
                known.extend(found.iter().take(room).cloned());
            }
        }
        Trained { rows: sums.rows, skipped: sums.skipped, updates: u32::from(sums.rows > 0), ..Trained::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, ModelSpec};
    use ndarray::array;

    #[test]
    fn learns_categories_in_their_order_and_keeps_its_width() {
        let spec = OneHotSpec { max_categories: 2, ..OneHotSpec::default() };
        let mut model = Model::new(ModelSpec::of::<OneHot>(spec)).unwrap();
        let rows = |texts: &[&'static str]| texts.iter().map(|text| vec![Some(*text)]).collect::<Vec<_>>();
        let partials = [rows(&["b"]), rows(&["b", "a", "c"])].map(|rows| model.partial_of_text(rows).unwrap());
        model.apply(&partials).unwrap();
        let features = model.transform_text([vec![Some("a")], vec![Some("b")], vec![Some("c")], vec![None]]).unwrap();
        assert_eq!(features, array![[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]);
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
        assert_eq!(Model::from_json(&model.to_json()).unwrap(), model);
        assert!(model.transform_text([vec![Some("a"), None]]).is_err());
    }

    #[test]
    fn given_categories_need_no_learning() {
        let categories = Some(vec![vec!["x".to_owned()], vec!["y".to_owned(), "z".to_owned()]]);
        let spec = OneHotSpec { categories, ..OneHotSpec::default() };
        let spec = ModelSpec::of::<OneHot>(spec);
        assert_eq!((spec.width(2), spec.width(1)), (Some(3), None));
        let model = Model::new(spec).unwrap();
        assert_eq!(model.transform_text([vec![Some("x"), Some("z")]]).unwrap(), array![[1.0, 0.0, 1.0]]);
    }
}
