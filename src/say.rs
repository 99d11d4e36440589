//! What the command line prints: one way to standard output, one to standard error.
//!
//! Whoever reads the output may have seen enough (`tidemill model show m | head -1`). That ends the command, without a word and with 0, as any
//! error would end it; a server goes on.

use crate::exit::Failure;
use std::fmt::Arguments;
use std::io::Write;

/// `println!` that gives an error instead of a panic.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!($($text)*))
    };
}

/// `eprintln!` without a panic: where nobody reads what is wrong, nothing is left to say.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::say::aside(format_args!($($text)*))
    };
}

/// A line on standard output.
pub(crate) fn line(text: Arguments<'_>) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Text that ends its lines itself, on standard output, at once.
pub(crate) fn text(text: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)?;
    Ok(out.flush()?)
}

/// A line on standard error.
pub(crate) fn aside(text: Arguments<'_>) {
    _ = writeln!(std::io::stderr().lock(), "{text}");
}
