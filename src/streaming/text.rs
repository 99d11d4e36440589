//! Values of a job definition, written as TOML.

use std::fmt::{self, Write};
use std::time::Duration;

/// A value in a job definition.
#[derive(Debug, Clone, PartialEq)]
pub enum Toml {
    /// A text.
    Text(String),
    /// A whole number; TOML has 63 bits.
    Count(u64),
    /// A number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// A list.
    List(Vec<Toml>),
    /// A table, in this order.
    Table(Vec<(String, Toml)>),
}

impl Toml {
    pub(super) fn texts(texts: &[&str]) -> Self {
        Self::List(texts.iter().map(|text| Self::from(*text)).collect())
    }

    /// A table from names to texts.
    pub(super) fn named(pairs: &[(&str, &str)]) -> Self {
        Self::Table(pairs.iter().map(|(name, text)| (name.to_string(), Self::from(*text))).collect())
    }
}

impl From<&str> for Toml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<String> for Toml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Toml {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Toml {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<i32> for Toml {
    /// Negative numbers stand in no definition: they become text, which the check names.
    fn from(count: i32) -> Self {
        u64::try_from(count).map_or_else(|_| Self::Text(count.to_string()), Self::Count)
    }
}

impl From<f64> for Toml {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Toml>> From<Vec<T>> for Toml {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl From<bool> for Toml {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Duration> for Toml {
    fn from(duration: Duration) -> Self {
        let micros = duration.as_micros();
        Self::Text(if micros.is_multiple_of(1000) { format!("{}ms", micros / 1000) } else { format!("{micros}us") })
    }
}

impl fmt::Display for Toml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write_text(f, text),
            Self::Count(count) => write!(f, "{count}"),
            // With a point or an exponent, as TOML tells it from a whole number; it has `inf` and `nan`, too.
            Self::Number(number) if number.is_nan() => f.write_str("nan"),
            Self::Number(number) => write!(f, "{number:?}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(']')
            }
            Self::Table(pairs) if pairs.is_empty() => f.write_str("{}"),
            Self::Table(pairs) => {
                for (i, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{} {} = {value}", if i > 0 { "," } else { "{" }, Key(key))?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// Several lines stay several lines where TOML can hold them as they are.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    if text.contains('\n') && text.chars().all(plain) && !text.contains("'''") && !text.ends_with('\'') {
        return write!(f, "'''\n{text}'''");
    }
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04X}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// A key, in quotes where it has to be.
struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match !self.0.is_empty() && self.0.chars().all(bare) {
            true => f.write_str(self.0),
            false => {
                let quoted = self.0.chars().map(|c| if c == '\n' { ' ' } else { c }).collect::<String>();
                write_text(f, &quoted)
            }
        }
    }
}

/// `key = value`, with its line end.
pub(super) fn line(key: &str, value: &Toml) -> String {
    format!("{} = {value}\n", Key(key))
}
