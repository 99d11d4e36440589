//! The state to begin with, from a file beside the job: CSV with a header, or JSON lines.

use super::Compiler;
use crate::decode::SourcePlan;
use crate::keys::{decode_keys, encode_keys};
use crate::text::file_name;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Field, Fields, Schema};
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tidemill_common::diag::{Diagnostic, nearest};
use tidemill_job::{Format, Name, OnBadRecord};
use tidemill_rows::records::{self, Framing};

impl Compiler<'_> {
    /// Reads and checks the file: key columns, then state columns.
    pub(super) fn initial(&mut self, path: &Name, keys: &Fields, state: &Fields) -> Option<RecordBatch> {
        let name = file_name(&path.text);
        let read = std::fs::read(self.base_dir.join(&path.text))
            .map_err(|error| format!("cannot read `{name}`: {error}"))
            .and_then(|bytes| read(name, &bytes, keys, state));
        self.reported(read.map_err(|wrong| Diagnostic::new(wrong).at(path.span.clone())))
    }
}

fn read(path: &str, bytes: &[u8], keys: &Fields, state: &Fields) -> Result<RecordBatch, String> {
    let declared: Fields = keys.iter().chain(state).cloned().collect();
    let csv = path.ends_with(".csv");
    let framing = if csv { Framing::Csv { delimiter: b',' } } else { Framing::Lines };
    let block = records::block_of(bytes, framing);
    let (columns, rows) = match records::split_first(&block) {
        (first, rows) if csv => (header(first, &declared)?, rows),
        _ => {
            check_names(path, &block, keys, &declared)?;
            (declared.clone(), &block[..])
        }
    };
    if let Some(missing) = keys.iter().find(|key| columns.find(key.name()).is_none()) {
        return Err(format!("`{path}` has no column `{}`", missing.name()));
    }
    let format = match csv {
        true => Format::Csv { columns: Vec::new(), delimiter: b',', null: None },
        false => Format::Json { columns: Vec::new() },
    };
    let source = SourcePlan::from_parts(path, format, Schema::new(columns.clone()), OnBadRecord::Fail);
    let decoded = source.decode(rows).map_err(|error| error.to_string())?;
    if let Some(bad) = decoded.bad.samples.first() {
        let line = records::line_of(&block, bad.line + u64::from(csv));
        return Err(format!("line {line} of `{path}`: {}", bad.reason));
    }
    let rows = concat_batches(&source.schema, &decoded.batches).map_err(|error| error.to_string())?;
    arrange(path, &rows, keys, state)
}

/// The columns that the first line names.
fn header(line: &[u8], declared: &Fields) -> Result<Fields, String> {
    let line = std::str::from_utf8(line).map_err(|_| "the first line is not UTF-8".to_string())?;
    line.trim_end()
        .split(',')
        .map(|name| {
            let name = name.trim().trim_matches('"');
            declared
                .find(name)
                .map(|(_, field)| field.clone())
                .ok_or_else(|| format!("`{name}` in the first line is {}", unknown(name, declared)))
        })
        .collect()
}

/// That every JSON line has all keys and no name that is unknown: the reader would take null for the one and drop the
/// other. What is no object is left to the reader.
fn check_names(path: &str, bytes: &[u8], keys: &Fields, declared: &Fields) -> Result<(), String> {
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let Ok(names) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(line) else { continue };
        let wrong = match names.keys().find(|name| declared.find(name).is_none()) {
            Some(name) => Some(format!("`{name}` is {}", unknown(name, declared))),
            None => {
                let missing = keys.iter().find(|key| !names.contains_key(key.name()));
                missing.map(|key| format!("the key column `{}` is missing", key.name()))
            }
        };
        if let Some(wrong) = wrong {
            return Err(format!("line {} of `{path}`: {wrong}", number + 1));
        }
    }
    Ok(())
}

fn unknown(name: &str, declared: &Fields) -> String {
    let near = nearest(name, declared.iter().map(|field| field.name().as_str()));
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("neither a key nor a state column{near}")
}

/// In the order of the operator, every key once.
fn arrange(path: &str, rows: &RecordBatch, keys: &Fields, state: &Fields) -> Result<RecordBatch, String> {
    let column = |field: &Field| -> ArrayRef {
        rows.column_by_name(field.name())
            .cloned()
            .unwrap_or_else(|| datafusion::arrow::array::new_null_array(field.data_type(), rows.num_rows()))
    };
    let key_columns: Vec<_> = keys.iter().map(|field| column(field)).collect();
    let encoded = encode_keys(&key_columns).map_err(|error| error.to_string())?;
    let mut seen = HashSet::new();
    if let Some(row) = (0..rows.num_rows()).find(|&row| !seen.insert(encoded.value(row))) {
        return Err(format!("`{path}` has the key of row {} twice", row + 1));
    }
    // Through the encoding: the same for all zeros and NaNs, as for keys of records.
    let mut columns = decode_keys(&encoded, keys).map_err(|error| error.to_string())?;
    columns.extend(state.iter().map(|field| column(field)));
    let fields: Vec<_> = keys.iter().chain(state).cloned().collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())
}
