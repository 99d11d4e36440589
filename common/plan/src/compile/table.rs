//! Tables from files, which go along with the definition.

use super::Compiler;
use super::expr::check_names;
use crate::exec::FixedTable;
use crate::tables::{content_hash, read_table, table_schema};
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Format, TableDef};

impl Compiler<'_> {
    /// Reads all tables.
    pub(super) fn read_tables(&mut self) {
        let def = self.def;
        for (number, table) in def.tables.iter().enumerate() {
            let (Format::Csv { columns, .. } | Format::Json { columns }) = &table.format else { continue };
            self.report(check_names(columns.iter().map(|c| (c.name.text.as_str(), &c.name.span))));
            if matches!(table.format, Format::Csv { delimiter, .. } if !delimiter.is_ascii()) {
                let wrong = Diagnostic::new("a delimiter is one ASCII character");
                self.report([wrong.at(table.name.span.clone())]);
            }
            let read = std::fs::read(self.base_dir.join(&table.path.text)).map_err(|error| error.to_string());
            let read = read.and_then(|bytes| fixed(number, table, bytes)).map_err(|wrong| {
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
fn fixed(number: usize, table: &TableDef, bytes: Vec<u8>) -> Result<FixedTable, String> {
    let version = content_hash(&bytes);
    let rows = read_table(table, bytes.into())?;
    Ok(FixedTable::new(number, &table.name.text, version, table_schema(table), rows))
}
