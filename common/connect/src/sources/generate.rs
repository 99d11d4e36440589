//! The generating source: rows as a function of (seed, position), at a steady rate.

use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::pace::Pacer;
use crate::receiver::ReceiverError;
use crate::source::{Context, Ended, Payload, Records, SourceConfig, SourceConnector};
use crate::status::ReceiverState;
use tidemill_common::definition::{ColumnType, Key, NOT_NEGATIVE, POSITIVE, RECEIVERS, Reader, Shape, Table};

/// Rows written between two looks at the clock and at what is held.
const CHUNK: u64 = 4096;

/// Rows made in the workers.
#[derive(Debug)]
pub struct Generate;

/// What a definition says of a generating source: csv lines `seq,key_<k>,<value>`, the same for the same seed and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateConfig {
    /// Rows per second over all receivers.
    pub rows_per_second: u64,
    /// Distinct keys (`key_0` ..). Default 100.
    pub keys: u64,
    /// Seed. Default 1.
    pub seed: u64,
    /// Rows over all receivers; none for no end.
    pub limit: Option<u64>,
    /// Receivers, each of which makes every so-manieth row. Default 1.
    pub receivers: u32,
}

impl SourceConfig for GenerateConfig {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn receivers(&self) -> u32 {
        self.receivers
    }
}

impl SourceConnector for Generate {
    type Config = GenerateConfig;

    const NAME: &'static str = "generate";
    const DOC: &'static str = "Rows made in the workers, at a steady rate.";
    const KEYS: &'static [Key] = &[
        Key::new("rows_per_second", Shape::Count(POSITIVE), "Rows per second over all receivers.").required(),
        Key::new("keys", Shape::Count(POSITIVE), "Number of distinct keys. Default 100."),
        Key::new("seed", Shape::Count(NOT_NEGATIVE), "Seed of the random values. Default 1."),
        Key::new("limit", Shape::Count(POSITIVE), "Stop after this many rows. Default: never."),
        Key::new("receivers", Shape::Count(RECEIVERS), "Receivers that share the rate. Default 1."),
    ];
    const PAYLOAD: Payload =
        Payload::Rows(&[("seq", ColumnType::BigInt), ("key", ColumnType::String), ("value", ColumnType::Double)]);
    const PACED: bool = false;

    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, _: &Records) -> Option<GenerateConfig> {
        let mut count = |key: &str, range, default| match table.get(key) {
            Some(value) => r.count(value, range),
            None => Some(default),
        };
        let rows_per_second = count("rows_per_second", POSITIVE, 0);
        let keys = count("keys", POSITIVE, 100);
        let seed = count("seed", NOT_NEGATIVE, 1);
        let limit = match table.get("limit") {
            Some(value) => Some(r.count(value, POSITIVE)?),
            None => None,
        };
        let receivers = r.receivers(table);
        Some(GenerateConfig {
            rows_per_second: rows_per_second?,
            keys: keys?,
            seed: seed?,
            limit,
            receivers: receivers?,
        })
    }

    async fn run(config: &GenerateConfig, context: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        let rows = Rows::new(config.seed, config.keys, (context.receiver, config.receivers), config.limit);
        generate(intake, &rows, config.rows_per_second).await
    }
}

/// The rows of one receiver of the source.
struct Rows {
    seed: u64,
    keys: u64,
    share: u64,
    of: u64,
    limit: Option<u64>,
}

impl Rows {
    fn new(seed: u64, keys: u64, share: (u32, u32), limit: Option<u64>) -> Self {
        let of = u64::from(share.1.max(1));
        Self { seed, keys: keys.max(1), share: u64::from(share.0), of, limit }
    }

    /// How many rows this receiver makes in all.
    fn total(&self) -> u64 {
        match self.limit {
            Some(limit) => limit.saturating_sub(self.share).div_ceil(self.of),
            None => u64::MAX,
        }
    }

    /// Appends the rows `offset..offset + count` of this receiver.
    fn write(&self, offset: u64, count: u64, out: &mut Vec<u8>) {
        for offset in offset..offset + count {
            let seq = offset * self.of + self.share;
            let random = mix(self.seed, seq);
            write_number(seq, out);
            out.extend_from_slice(b",key_");
            write_number(random % self.keys, out);
            // Hundredths below 1000, from bits that the key does not depend on much.
            let hundredths = (random >> 32) % 100_000;
            out.push(b',');
            write_number(hundredths / 100, out);
            out.extend_from_slice(&[b'.', digit(hundredths / 10), digit(hundredths), b'\n']);
        }
    }
}

/// A number that looks random, for (seed, index): the SplitMix64 generator's `index`-th. Part of what makes
/// generated streams repeatable, so it never changes.
pub fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Appends a number in decimal.
pub fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = digit(number);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

/// Makes rows until stopped or through with them.
async fn generate(intake: &mut Intake, rows: &Rows, rows_per_second: u64) -> Result<Ended, ReceiverError> {
    let mut pacer = Pacer::new(rows_per_second as f64 / rows.of as f64);
    let mut chunk = Vec::new();
    intake.status.set(ReceiverState::Connected);
    loop {
        let left = rows.total().saturating_sub(intake.offset());
        if left == 0 {
            return Ok(Ended::Finished);
        }
        let open = intake.window.is_open() && intake.allowed() > 0;
        let due = if open { pacer.due().min(left) } else { 0 };
        let now = due.min(CHUNK);
        if now > 0 {
            chunk.clear();
            rows.write(intake.offset(), now, &mut chunk);
            pacer.spend(now);
            intake.take_in(&chunk).await?;
        }
        let sealable = intake.is_sealable();
        tokio::select! {
            () = intake.stop.cancelled() => return Ok(Ended::Stopped),
            held = intake.window.more_held() => { held?; }
            _ = intake.tick.tick(), if sealable => intake.seal(),
            () = tokio::time::sleep(pacer.wait()), if due == now => {}
            () = tokio::task::yield_now(), if due > now => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: &Rows, offset: u64, count: u64) -> String {
        let mut out = Vec::new();
        rows.write(offset, count, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_depend_on_seed_and_position_only() {
        let rows = Rows::new(1, 10, (0, 1), None);
        assert_eq!(text(&rows, 0, 5), text(&rows, 0, 3) + &text(&rows, 3, 2));
        assert_ne!(text(&rows, 0, 5), text(&Rows::new(2, 10, (0, 1), None), 0, 5));
        for (seq, line) in text(&rows, 0, 1000).lines().enumerate() {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields[0], seq.to_string());
            assert!(fields[1].strip_prefix("key_").unwrap().parse::<u64>().unwrap() < 10);
            assert!((0.0..1000.0).contains(&fields[2].parse::<f64>().unwrap()));
        }
    }

    #[test]
    fn shares_divide_the_rows() {
        let whole = Rows::new(7, 100, (0, 1), Some(10));
        let mut lines = Vec::new();
        for share in 0..3 {
            let rows = Rows::new(7, 100, (share, 3), Some(10));
            lines.extend(text(&rows, 0, rows.total()).lines().map(str::to_owned));
        }
        lines.sort_by_key(|line| line.split(',').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(lines.join("\n") + "\n", text(&whole, 0, whole.total()));
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 12345, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
