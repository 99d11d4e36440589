//! Tables from files, which go along with the definition.

use super::Compiler;
use super::expr::check_names;
use crate::decode::{SourcePlan, arrow_type};
use crate::exec::FixedTable;
use crate::parquet_rows::parquet_rows;
use bytes::Bytes;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_common::job::{FileContent, Format, OnBadRecord, TableDef};
use twox_hash::XxHash3_64;

impl Compiler<'_> {
    /// Reads all tables.
    pub(super) fn read_tables(&mut self) {
        let def = self.def;
        for table in &def.tables {
            let (Format::Csv { columns, .. } | Format::Json { columns }) = &table.format else { continue };
            self.report(check_names(columns.iter().map(|c| (c.name.text.as_str(), &c.name.span))));
            if matches!(table.format, Format::Csv { delimiter, .. } if !delimiter.is_ascii()) {
                let wrong = Diagnostic::new("a delimiter is one ASCII character");
                self.report([wrong.at(table.name.span.clone())]);
            }
            let fields = columns.iter().map(|c| Field::new(&c.name.text, arrow_type(c.data_type), true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let read = std::fs::read(self.base_dir.join(&table.path.text)).map_err(|error| error.to_string());
            let read = read.and_then(|bytes| fixed(table, schema, bytes)).map_err(|wrong| {
                let message = format!("the file of table `{}` cannot be used: {wrong}", table.name.text);
                Diagnostic::new(message).at(table.path.span.clone())
            });
            if let Some(read) = self.reported(read) {
                self.tables.insert(&table.name.text, read);
            }
        }
    }
}

/// The table with what is in its file.
fn fixed(table: &TableDef, schema: SchemaRef, bytes: Vec<u8>) -> Result<FixedTable, String> {
    let version = XxHash3_64::oneshot(&bytes);
    let rows = rows(table, &schema, bytes)?;
    Ok(FixedTable::new(&table.name.text, version, schema, rows))
}

fn rows(table: &TableDef, schema: &SchemaRef, bytes: Vec<u8>) -> Result<Vec<RecordBatch>, String> {
    let skipped = match table.content {
        FileContent::Parquet => return parquet_rows(Bytes::from(bytes), schema)?.collect(),
        FileContent::Lines { header: false } => 0,
        FileContent::Lines { header: true } => {
            bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1)
        }
    };
    let name = &table.name.text;
    let source = SourcePlan::from_parts(name, table.format.clone(), schema.as_ref().clone(), OnBadRecord::Fail);
    let decoded = source.decode(&bytes[skipped..]).map_err(|error| error.to_string())?;
    match decoded.bad.samples.first() {
        Some(bad) => Err(format!("line {}: {}", bad.line + 1 + u64::from(skipped > 0), bad.reason)),
        None => Ok(decoded.batches),
    }
}
