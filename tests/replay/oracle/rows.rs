//! Rows, as structs, and their keys, encoded.

/// A row of any stream; a stream has some of these columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) k: Option<String>,
    pub(crate) n: Option<i64>,
    pub(crate) x: Option<f64>,
    pub(crate) t: Option<String>,
    /// The encoded key it was last divided by.
    pub(super) key: Vec<u8>,
}

impl Row {
    pub(crate) fn new(k: Option<&str>, n: Option<i64>, x: Option<f64>, t: Option<&str>) -> Self {
        Self { k: k.map(str::to_string), n, x, t: t.map(str::to_string), key: Vec::new() }
    }

    fn json(&self, columns: &[Column]) -> String {
        let text = |text: &Option<String>| text.as_ref().map_or("null".into(), |text| format!("{text:?}"));
        let value = |column: &Column| match column {
            Column::K => text(&self.k),
            Column::N => self.n.map_or("null".into(), |n| n.to_string()),
            Column::X => self.x.map_or("null".into(), |x| format!("{x:?}")),
            Column::T => text(&self.t),
        };
        let fields: Vec<_> = columns.iter().map(|c| format!("\"{}\":{}", c.name(), value(c))).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Column {
    K,
    N,
    X,
    T,
}

impl Column {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::K => "k",
            Self::N => "n",
            Self::X => "x",
            Self::T => "t",
        }
    }
}

/// The rows of a stream in one batch: lane by lane (several only in a union), in each unit by unit.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) columns: Vec<Column>,
    pub(super) lanes: Vec<Vec<Vec<Row>>>,
}

impl Rows {
    pub(super) fn units(&self) -> impl Iterator<Item = &Vec<Row>> {
        self.lanes.iter().flatten()
    }

    pub(super) fn units_mut(&mut self) -> impl Iterator<Item = &mut Vec<Row>> {
        self.lanes.iter_mut().flatten()
    }

    /// All rows as they come out: lane by lane, in each keyed ones by key, others as they are.
    pub(super) fn in_order(&self) -> Vec<&Row> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            let mut rows: Vec<&Row> = lane.iter().flatten().collect();
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            all.extend(rows);
        }
        all
    }
}

pub(super) fn single(columns: Vec<Column>, row: Option<Row>) -> Rows {
    Rows { columns, lanes: vec![vec![row.into_iter().collect()]] }
}

/// Rows as they leave.
pub(super) fn output(rows: &Rows) -> Vec<String> {
    rows.in_order().into_iter().map(|row| row.json(&rows.columns)).collect()
}

pub(super) fn by_k(row: &Row) -> Vec<u8> {
    let mut key = Vec::new();
    encode_text(row.k.as_deref(), true, &mut key);
    key
}

pub(super) fn by_all(row: &Row, columns: &[Column]) -> Vec<u8> {
    let mut key = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        let last = i + 1 == columns.len();
        match column {
            Column::K => encode_text(row.k.as_deref(), last, &mut key),
            Column::T => encode_text(row.t.as_deref(), last, &mut key),
            Column::N => encode_bits(row.n.map(|n| n as u64 ^ 1 << 63), &mut key),
            Column::X => encode_bits(row.x.map(ordered_bits), &mut key),
        }
    }
    key
}

pub(super) fn ordered_bits(x: f64) -> u64 {
    let bits = x.to_bits();
    if x.is_sign_negative() { !bits } else { bits ^ 1 << 63 }
}

fn encode_bits(bits: Option<u64>, key: &mut Vec<u8>) {
    key.push(u8::from(bits.is_some()));
    key.extend(bits.into_iter().flat_map(u64::to_be_bytes));
}

/// Texts here hold no zero byte, so none has to be escaped.
fn encode_text(text: Option<&str>, last: bool, key: &mut Vec<u8>) {
    key.push(u8::from(text.is_some()));
    let Some(text) = text else { return };
    key.extend_from_slice(text.as_bytes());
    if !last {
        key.extend_from_slice(&[0, 0]);
    }
}
