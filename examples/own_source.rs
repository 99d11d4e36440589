//! A kind of source of one's own, which job definitions name as `connector = "ticks"`:
//!
//! ```text
//! cargo run --example own_source -- local examples/jobs/own_source.toml --batches 3
//! ```

use std::time::Duration;
use tidemill::connect::definition::{ColumnType, Key, Reader, Shape, Table};
use tidemill::connect::{
    Context, Delivery, Ended, Intake, Payload, ReceiverError, ReceiverState, Records, SourceConfig, SourceConnector,
};

/// The ticks of a clock.
struct Ticks;

/// What a definition says of it.
#[derive(Debug, PartialEq)]
struct TicksConfig {
    every: Duration,
}

impl SourceConfig for TicksConfig {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
}

impl SourceConnector for Ticks {
    type Config = TicksConfig;

    const NAME: &'static str = "ticks";
    const DOC: &'static str = "A number at every tick of a clock, from 0.";
    const KEYS: &'static [Key] = &[Key::new("every", Shape::Duration, "Time between two ticks.").required()];
    const PAYLOAD: Payload = Payload::Rows(&[("tick", ColumnType::BigInt)]);

    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, _: &Records) -> Option<TicksConfig> {
        let every = table.get("every").and_then(|value| r.duration(value));
        Some(TicksConfig { every: every? })
    }

    async fn run(config: &TicksConfig, _: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        intake.status().set(ReceiverState::Connected);
        loop {
            if intake.wait_for(tokio::time::sleep(config.every)).await?.is_none() {
                return Ok(Ended::Stopped);
            }
            // Behind all that was put in, also by a receiver before this one.
            let tick = intake.offset().to_string();
            if intake.record(tick.as_bytes()).await?.is_none() {
                return Ok(Ended::Stopped);
            }
        }
    }
}

fn main() -> std::process::ExitCode {
    tidemill::app().source(Ticks).run()
}
