//! The state to begin with, from a file beside the job: CSV with a header, or JSON lines.

use super::Compiler;
use crate::decode::SourcePlan;
use crate::keys::{decode_keys, encode_keys};
use crate::records::{self, Framing};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Field, Fields, Schema};
use std::collections::HashSet;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_common::job::{Format, Name, OnBadRecord};

impl Compiler<'_> {
    /// Reads and checks the file: key columns, then state columns.
    pub(super) fn initial(&mut self, path: &Name, keys: &Fields, state: &Fields) -> Option<RecordBatch> {
        let read = std::fs::read(self.base_dir.join(&path.text))
            .map_err(|error| format!("cannot read `{}`: {error}", path.text))
            .and_then(|bytes| read(&path.text, &bytes, keys, state));
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
        _ => (declared.clone(), &block[..]),
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
                .ok_or_else(|| format!("`{name}` in the first line is neither a key nor a state column"))
        })
        .collect()
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
