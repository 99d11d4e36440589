//! `tidemill replay`: the documentation's examples, Spark's results, random jobs against a plain evaluator, exit codes.

mod bad_records;
mod command;
mod documentation;
mod exit_codes;
mod killed;
mod late_labels;
mod learning;
mod oracle;
mod preparing;
mod random;
mod reports;
mod river;
mod shared;
mod vectors;
