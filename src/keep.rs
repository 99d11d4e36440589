//! What is kept of a job's output while it is watched, and made of it when that ends: the last row of every key, and
//! the numbers over time as a picture.

use crate::exit::Failure;
use crate::plot::{self, Line};
use crate::print::{self, Ordered};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use tidemill_common::terminal::one_line;
use tidemill_driver::MAX_WATCHED_ROWS;
use tidemill_proto::client::BatchOutput;

/// Keys that are kept of an output; later ones are left out, which is said.
const MAX_KEYS: usize = 10_000;
/// Lines of a picture; later ones are left out, which is said.
const MAX_LINES: usize = 16;
/// Points of a line; when there are more, every second one is dropped.
const MAX_POINTS: usize = 4000;

/// What to make of the output.
#[derive(Debug, Default, Args)]
pub(crate) struct KeepArgs {
    /// When it ends, print a table of each output: the last row of every key (the columns that are no numbers).
    #[arg(long)]
    summary: bool,
    /// When it ends, write a picture (SVG) to this file: the numbers of an output over batch time, a line for each column
    /// and key.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Of this output; else of the first.
    #[arg(long, value_name = "OUTPUT", requires = "plot")]
    plot_output: Option<String>,
    /// Only these columns.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', requires = "plot")]
    plot_columns: Vec<String>,
}

impl KeepArgs {
    /// Whether anything is to be made.
    pub(crate) fn is_wanted(&self) -> bool {
        self.summary || self.plot.is_some()
    }

    /// Rows of a batch that are wanted; 0 for those that `print` shows.
    pub(crate) fn watched_rows(&self) -> u32 {
        if self.is_wanted() { MAX_WATCHED_ROWS } else { 0 }
    }

    /// Whether there is something to draw, of a job in which these outputs show rows.
    pub(crate) fn check(&self, printed: &[String]) -> Result<(), Failure> {
        if self.plot.is_none() {
            return Ok(());
        }
        match &self.plot_output {
            _ if printed.is_empty() => {
                Err(Failure::usage("--plot draws what `print` shows, and no output of the job has `print`"))
            }
            Some(output) if !printed.contains(output) => Err(Failure::usage(format!(
                "--plot-output {output}: no output of this name has `print`; there are {}",
                printed.join(", ")
            ))),
            _ => Ok(()),
        }
    }
}

/// What is known of the outputs.
pub(crate) struct Keep<'a> {
    args: &'a KeepArgs,
    json: bool,
    tables: Vec<LastRows>,
    picture: Picture,
}

/// The last row of every key of an output, in the order in which keys came.
#[derive(Default)]
struct LastRows {
    output: String,
    columns: Vec<String>,
    rows: Vec<String>,
    /// Where in `rows` a key is; keys as JSON.
    places: HashMap<String, usize>,
    left_out: bool,
    /// Of the batch of which most rows were cut off: those that came, and all.
    cut: Option<(usize, u64)>,
}

/// The lines of the output that is drawn.
#[derive(Default)]
struct Picture {
    output: Option<String>,
    lines: Vec<Line>,
    first_ms: Option<i64>,
    batches: usize,
    /// Every so many batches are drawn.
    every: usize,
    left_out: bool,
}

impl<'a> Keep<'a> {
    /// What is wanted.
    pub(crate) fn args(&self) -> &'a KeepArgs {
        self.args
    }

    /// Nothing yet; `json` says how tables are printed.
    pub(crate) fn new(args: &'a KeepArgs, json: bool) -> Self {
        let picture = Picture { output: args.plot_output.clone(), every: 1, ..Picture::default() };
        Self { args, json, tables: Vec::new(), picture }
    }

    /// Takes what came out of a batch.
    pub(crate) fn batch(&mut self, batch: &BatchOutput) {
        if !self.args.is_wanted() {
            return;
        }
        for output in &batch.outputs {
            let rows =
                || output.rows.iter().filter_map(|row| Some((row, serde_json::from_str::<Ordered>(row).ok()?.0)));
            if self.args.summary {
                self.table(&output.name).note_cut(output.rows.len(), output.total);
                rows().for_each(|(text, row)| self.table(&output.name).take(text, row));
            }
            if self.args.plot.is_some()
                && *self.picture.output.get_or_insert_with(|| output.name.clone()) == output.name
            {
                let rows: Vec<_> = rows().map(|(_, row)| row).collect();
                self.picture.take(batch.time_ms, &rows, &self.args.plot_columns);
            }
        }
    }

    /// Prints the tables and writes the picture.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        for table in &self.tables {
            table.write(&mut out, self.json)?;
        }
        out.flush()?;
        match &self.args.plot {
            None => Ok(()),
            Some(path) => self.picture.write(path, &self.args.plot_columns),
        }
    }

    fn table(&mut self, output: &str) -> &mut LastRows {
        let place = self.tables.iter().position(|table| table.output == output).unwrap_or_else(|| {
            self.tables.push(LastRows { output: output.to_string(), ..LastRows::default() });
            self.tables.len() - 1
        });
        &mut self.tables[place]
    }
}

impl LastRows {
    fn take(&mut self, text: &str, row: Vec<(String, Value)>) {
        let key: Vec<_> = row.iter().map(|(_, value)| value).filter(|value| is_key(value)).collect();
        let key = key.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        if self.columns.is_empty() {
            self.columns = row.into_iter().map(|(name, _)| name).collect();
        }
        match self.places.get(&key) {
            Some(place) => self.rows[*place] = text.to_string(),
            None if self.rows.len() < MAX_KEYS => {
                self.places.insert(key, self.rows.len());
                self.rows.push(text.to_string());
            }
            None => self.left_out = true,
        }
    }

    fn note_cut(&mut self, came: usize, total: u64) {
        if total > came as u64 && self.cut.is_none_or(|(_, most)| total > most) {
            self.cut = Some((came, total));
        }
    }

    fn write(&self, out: &mut impl Write, json: bool) -> Result<(), Failure> {
        if json {
            let output = Value::from(self.output.as_str());
            let cut = if self.cut.is_some() || self.left_out { r#", "cut": true"# } else { "" };
            writeln!(out, r#"{{"output": {output}, "last_rows": [{}]{cut}}}"#, self.rows.join(", "))?;
            return Ok(());
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(self.columns.iter().map(|name| one_line(name)));
        for row in &self.rows {
            let row = serde_json::from_str::<Ordered>(row).map(|row| row.0).unwrap_or_default();
            table.add_row(row.iter().map(|(_, value)| cell(value)));
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            if self.rows.iter().all(|row| is_number_at(row, at)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{}: last rows\n{table}", self.output)?;
        if self.left_out {
            writeln!(out, "there are more than {MAX_KEYS} keys; the later ones are left out")?;
        }
        if let Some((came, total)) = self.cut {
            writeln!(
                out,
                "rows are missing: of a batch of {total} rows only the first {came} came here; raise `print = {{ rows = .. }}`"
            )?;
        }
        Ok(())
    }
}

impl Picture {
    fn take(&mut self, time_ms: i64, rows: &[Vec<(String, Value)>], columns: &[String]) {
        self.batches += 1;
        if !(self.batches - 1).is_multiple_of(self.every) {
            return;
        }
        let seconds = (time_ms - *self.first_ms.get_or_insert(time_ms)) as f64 / 1e3;
        for row in rows {
            let key = row.iter().map(|(_, value)| value).filter(|value| number(value).is_none());
            let key = key.map(print::scala).collect::<Vec<_>>().join(", ");
            let numbers = row.iter().filter(|(name, _)| columns.is_empty() || columns.contains(name));
            let numbers: Vec<_> = numbers.filter_map(|(name, value)| Some((name, number(value)?))).collect();
            for (name, value) in numbers {
                let line = match (key.as_str(), columns) {
                    ("", _) => name.clone(),
                    (key, [_]) => key.to_string(),
                    (key, _) => format!("{key}: {name}"),
                };
                self.point(line, seconds, value);
            }
        }
        if self.lines.iter().any(|line| line.points.len() > MAX_POINTS) {
            self.every *= 2;
            self.lines.iter_mut().for_each(Line::thin);
        }
    }

    fn point(&mut self, name: String, seconds: f64, value: f64) {
        match self.lines.iter().position(|line| line.name == name) {
            Some(place) => self.lines[place].points.push((seconds, value)),
            None if self.lines.len() < MAX_LINES => self.lines.push(Line { name, points: vec![(seconds, value)] }),
            None => self.left_out = true,
        }
    }

    fn write(&self, path: &Path, columns: &[String]) -> Result<(), Failure> {
        let output = self.output.as_deref().unwrap_or_default();
        let title = if columns.is_empty() { output.to_string() } else { format!("{output}: {}", columns.join(", ")) };
        if self.left_out {
            note!("more than {MAX_LINES} lines: --plot-columns says which; the others are not drawn");
        }
        let picture = plot::svg(&title, &self.lines).map_err(|error| Failure::failed(error.to_string()))?;
        std::fs::write(path, picture)
            .map_err(|error| Failure::usage(format!("cannot write `{}`: {error}", path.display())))
    }
}

/// A number, also one that JSON writes as text.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        // A metric that has no value yet is no part of a key.
        Value::Null => Some(f64::NAN),
        _ => None,
    }
}

/// Whether a value names its row: it is no number, and no list of such (as a model's weights are).
fn is_key(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(is_key),
        value => number(value).is_none(),
    }
}

fn is_number_at(row: &str, column: usize) -> bool {
    let row = serde_json::from_str::<Ordered>(row).map(|row| row.0).unwrap_or_default();
    row.get(column).is_some_and(|(_, value)| number(value).is_some())
}

/// Doubles with four digits behind the point; other values as `print` shows them.
fn cell(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(double) if double != 0.0 && !(1e-3..1e7).contains(&double.abs()) => format!("{double:.4e}"),
            Some(double) if double.fract() == 0.0 => format!("{double}"),
            Some(double) => format!("{double:.4}"),
            None => number.to_string(),
        },
        other => print::scala(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_proto::client::OutputBatch;

    fn batch(time_ms: i64, rows: &[&str]) -> BatchOutput {
        let rows: Vec<_> = rows.iter().map(|row| row.to_string()).collect();
        let total = rows.len() as u64;
        let outputs = vec![OutputBatch { name: "errors".into(), rows, total, shown: total }];
        BatchOutput { time_ms, outputs, ..BatchOutput::default() }
    }

    #[test]
    fn the_last_row_of_every_key() {
        let args = KeepArgs { summary: true, ..KeepArgs::default() };
        let mut keep = Keep::new(&args, false);
        keep.batch(&batch(1000, &[r#"{"model":"b","n":1.0,"mae":null}"#, r#"{"model":"a","n":1.0,"mae":2.0}"#]));
        keep.batch(&batch(2000, &[]));
        keep.batch(&batch(3000, &[r#"{"model":"b","n":3.0,"mae":1234567890.5}"#]));
        let mut text = Vec::new();
        keep.tables[0].write(&mut text, false).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 4] =
            [&["errors:", "last", "rows"], &["model", "n", "mae"], &["b", "3", "1.2346e9"], &["a", "1", "2"]];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_summary_says_what_is_missing() {
        let args = KeepArgs { summary: true, ..KeepArgs::default() };
        let mut keep = Keep::new(&args, false);
        for (weights, total) in [("[1.0,2.0]", 1), ("[3.0,4.0]", 4)] {
            let mut batch = batch(1000, &[&format!(r#"{{"model":"m","weights":{weights}}}"#)]);
            batch.outputs[0].total = total;
            keep.batch(&batch);
        }
        let written = |json| {
            let mut text = Vec::new();
            keep.tables[0].write(&mut text, json).unwrap();
            String::from_utf8(text).unwrap()
        };
        let json = r#"{"output": "errors", "last_rows": [{"model":"m","weights":[3.0,4.0]}], "cut": true}"#;
        assert_eq!(written(true).trim_end(), json);
        assert!(written(false).contains("of a batch of 4 rows only the first 1 came"), "{}", written(false));
    }

    #[test]
    fn only_what_is_printed_is_drawn() {
        let plot = |output: Option<&str>| KeepArgs {
            plot: Some("out.svg".into()),
            plot_output: output.map(str::to_string),
            ..KeepArgs::default()
        };
        let printed = ["a".to_string()];
        assert!(plot(None).check(&printed).is_ok() && plot(Some("a")).check(&printed).is_ok());
        assert!(plot(None).check(&[]).is_err() && plot(Some("b")).check(&printed).is_err());
        assert!(KeepArgs::default().check(&[]).is_ok());
    }

    #[test]
    fn a_line_per_column_and_key() {
        let columns = vec!["mae".to_string()];
        let args = KeepArgs { plot: Some("out.svg".into()), plot_columns: columns, ..KeepArgs::default() };
        let mut keep = Keep::new(&args, false);
        for second in 1..=3 * MAX_POINTS as i64 {
            keep.batch(&batch(
                second * 1000,
                &[r#"{"model":"a","n":1,"mae":0.5}"#, r#"{"model":"b","n":1,"mae":2.0}"#],
            ));
        }
        let names: Vec<_> = keep.picture.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let points = &keep.picture.lines[1].points;
        assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 2, "{}", points.len());
        assert_eq!([points[0], points[1]], [(0.0, 2.0), (4.0, 2.0)]);
    }
}
