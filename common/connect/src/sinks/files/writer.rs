//! Files of an output's format, row by row.

use super::FileFormat;
use super::encoding::RowEncoding;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};
use tidemill_rows::arrow::array::RecordBatch;
use tidemill_rows::arrow::ipc::writer::FileWriter;
use tidemill_rows::arrow::row::{RowConverter, RowParser};
use tidemill_rows::{Compression, Compressor};

/// Rows that the columnar formats take at once.
const ROWS_AT_ONCE: usize = 8192;

/// Writes the rows that a [`RowEncoding`] encoded into one file.
pub struct RowWriter<W: Write + Send> {
    kind: Kind<W>,
    bytes: u64,
}

impl<W: Write + Send> std::fmt::Debug for RowWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowWriter").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

enum Kind<W: Write + Send> {
    Lines(Compressor<W>),
    Columns { encoding: RowEncoding, converter: RowConverter, parser: RowParser, rows: Vec<Vec<u8>>, out: Columns<W> },
}

enum Columns<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Object(Box<FileWriter<W>>),
}

impl RowEncoding {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn writer<W: Write + Send>(&self, out: W) -> io::Result<RowWriter<W>> {
        let out = match self.format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(codec(self.compression)).build();
                let writer = ArrowWriter::try_new(out, self.schema.clone(), Some(properties)).map_err(failed)?;
                Columns::Parquet(Box::new(writer))
            }
            FileFormat::Object => Columns::Object(Box::new(FileWriter::try_new(out, &self.schema).map_err(failed)?)),
            _ => return self.appender(out, true),
        };
        let converter = RowConverter::new(self.sort_fields()).map_err(failed)?;
        let parser = converter.parser();
        Ok(RowWriter {
            kind: Kind::Columns { encoding: self.clone(), converter, parser, rows: Vec::new(), out },
            bytes: 0,
        })
    }
}

impl RowEncoding {
    /// Goes on with a file of lines, which may be empty as yet. What was written before stays a stream of its own if it is
    /// compressed.
    ///
    /// # Errors
    /// Those of `out`; [`io::ErrorKind::Unsupported`] for a columnar format.
    pub fn appender<W: Write + Send>(&self, out: W, empty: bool) -> io::Result<RowWriter<W>> {
        if matches!(self.format, FileFormat::Parquet | FileFormat::Object) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let out = Compressor::new(self.compression, out)?;
        let mut writer = RowWriter { kind: Kind::Lines(out), bytes: 0 };
        if let Some(header) = self.header().filter(|_| empty) {
            writer.write(header.into_bytes())?;
        }
        Ok(writer)
    }
}

impl<W: Write + Send> RowWriter<W> {
    /// Writes a row.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&mut self, row: Vec<u8>) -> io::Result<()> {
        self.bytes += row.len() as u64 + 1;
        match &mut self.kind {
            Kind::Lines(out) => {
                out.write_all(&row)?;
                out.write_all(b"\n")
            }
            Kind::Columns { rows, .. } => {
                rows.push(row);
                if rows.len() == ROWS_AT_ONCE { self.flush_rows() } else { Ok(()) }
            }
        }
    }

    /// Bytes of the rows written, before any compression.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn flush_rows(&mut self) -> io::Result<()> {
        let Kind::Columns { encoding, converter, parser, rows, out } = &mut self.kind else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        let columns = converter.convert_rows(rows.iter().map(|row| parser.parse(row))).map_err(failed)?;
        let batch = RecordBatch::try_new(encoding.schema.clone(), columns).map_err(failed)?;
        rows.clear();
        match out {
            Columns::Parquet(out) => out.write(&batch).map_err(failed),
            Columns::Object(out) => out.write(&batch).map_err(failed),
        }
    }

    /// Ends the file and gives back what was written to.
    ///
    /// # Errors
    /// Those of the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_rows()?;
        let mut out = match self.kind {
            Kind::Lines(out) => out.finish()?,
            Kind::Columns { out: Columns::Parquet(out), .. } => out.into_inner().map_err(failed)?,
            Kind::Columns { out: Columns::Object(out), .. } => out.into_inner().map_err(failed)?,
        };
        out.flush()?;
        Ok(out)
    }
}

/// How the columns of Parquet are compressed.
fn codec(compression: Option<Compression>) -> parquet::basic::Compression {
    use parquet::basic::Compression as Codec;
    match compression {
        None => Codec::UNCOMPRESSED,
        Some(Compression::Gzip) => Codec::GZIP(Default::default()),
        Some(Compression::Zstd) => Codec::ZSTD(Default::default()),
        Some(Compression::Lz4) => Codec::LZ4_RAW,
        Some(Compression::Snappy) => Codec::SNAPPY,
        Some(Compression::Brotli) => Codec::BROTLI(Default::default()),
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::io::{Cursor, Read};
    use std::sync::Arc;
    use tidemill_common::definition::Name;
    use tidemill_rows::arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, ListArray, StringArray};
    use tidemill_rows::arrow::datatypes::Int64Type;
    use tidemill_rows::arrow::ipc::reader::FileReader;

    fn batch() -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a;\"b\""), Some("")]));
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), None]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"\x00"[..]), None]));
        let columns = [("id", ids, true), ("name", names, true), ("value", values, true), ("bytes", bytes, true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn written(format: FileFormat, batch: &RecordBatch) -> Vec<u8> {
        let encoding = RowEncoding::new(format, batch.schema());
        assert_eq!(encoding.check(0..0), Ok(()));
        let mut writer = encoding.writer(Vec::new()).unwrap();
        encoding.encode(batch).unwrap().into_iter().for_each(|row| writer.write(row).unwrap());
        writer.finish().unwrap()
    }

    fn text(format: FileFormat, batch: &RecordBatch) -> String {
        String::from_utf8(written(format, batch)).unwrap()
    }

    #[test]
    fn lines() {
        let csv = text(FileFormat::Csv { header: true, delimiter: b';', null: String::new() }, &batch());
        assert_eq!(csv, "id;name;value;bytes\n1;\"a;\"\"b\"\"\";-0.0;AA==\n;\"\";;\n");
        let json = text(FileFormat::Json, &batch());
        assert_eq!(json.lines().next(), Some(r#"{"id":1,"name":"a;\"b\"","value":-0.0,"bytes":"AA=="}"#));
        let name = Name { text: "id".into(), span: 0..0 };
        assert_eq!(text(FileFormat::Text { column: Some(name) }, &batch()), "1\nnull\n");
    }

    #[test]
    fn columns_come_back() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (field, column) in batch().schema().fields().iter().zip(batch().columns()) {
            columns.push((field.name().clone(), column.clone()));
        }
        columns.push(("list".into(), Arc::new(list)));
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let object = written(FileFormat::Object, &batch);
        let back: Vec<_> = FileReader::try_new(Cursor::new(object), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, std::slice::from_ref(&batch));
        let parquet = written(FileFormat::Parquet, &batch);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(parquet)).unwrap().build().unwrap();
        let back: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(back[0].columns(), batch.columns());
    }

    #[test]
    fn compressed_files() {
        use Compression::*;
        for compression in [Gzip, Zstd, Lz4, Snappy, Brotli] {
            let encoding = RowEncoding::new(FileFormat::Json, batch().schema()).compressed(Some(compression));
            let mut file = Vec::new();
            for (times, empty) in [(1, true), (if compression == Brotli { 0 } else { 1 }, false)] {
                for _ in 0..times {
                    let mut writer = encoding.appender(file, empty).unwrap();
                    encoding.encode(&batch()).unwrap().into_iter().for_each(|row| writer.write(row).unwrap());
                    file = writer.finish().unwrap();
                }
            }
            let name = format!("part-00000{}", encoding.extension());
            let mut text = String::new();
            tidemill_rows::decompressed(&name, &file[..]).unwrap().read_to_string(&mut text).unwrap();
            let rows = if compression == Brotli { 2 } else { 4 };
            assert_eq!((text.lines().count(), name.starts_with("part-00000.jsonl.")), (rows, true), "{name}");
            let encoding = RowEncoding::new(FileFormat::Parquet, batch().schema()).compressed(Some(compression));
            let mut writer = encoding.writer(Vec::new()).unwrap();
            encoding.encode(&batch()).unwrap().into_iter().for_each(|row| writer.write(row).unwrap());
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(writer.finish().unwrap())).unwrap();
            let codec = reader.metadata().row_group(0).column(0).compression();
            assert_eq!((codec, encoding.extension().as_str()), (super::codec(Some(compression)), ".parquet"));
            assert_eq!(reader.build().unwrap().next().unwrap().unwrap().columns(), batch().columns());
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let refused = |format| RowEncoding::new(format, batch().schema()).check(0..0).unwrap_err().message;
        assert!(refused(FileFormat::Text { column: None }).contains("there are 4"));
        let name = Name { text: "nam".into(), span: 0..0 };
        assert!(refused(FileFormat::Text { column: Some(name) }).contains("no column `nam`"));
    }
}
