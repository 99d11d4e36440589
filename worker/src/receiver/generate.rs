//! The generating source: rows as a function of (seed, position), at a steady rate.

use super::intake::Intake;
use super::pace::Pacer;
use super::{ReceiverError, ReceiverState};

/// Rows written between two looks at the clock and at what is held.
const CHUNK: u64 = 4096;

/// The rows of one receiver of the source.
pub(super) struct Rows {
    seed: u64,
    keys: u64,
    share: u64,
    of: u64,
    limit: Option<u64>,
}

impl Rows {
    pub(super) fn new(seed: u64, keys: u64, share: (u32, u32), limit: Option<u64>) -> Self {
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

/// Makes rows until stopped (false) or through with them (true).
pub(super) async fn run(intake: &mut Intake, rows: &Rows, rows_per_second: u64) -> Result<bool, ReceiverError> {
    let mut pacer = Pacer::new(rows_per_second as f64 / rows.of as f64);
    let mut chunk = Vec::new();
    intake.status.set(ReceiverState::Connected);
    loop {
        let left = rows.total().saturating_sub(intake.position());
        if left == 0 {
            return Ok(true);
        }
        let open = intake.window.is_open() && intake.allowed() > 0;
        let due = if open { pacer.due().min(left) } else { 0 };
        let now = due.min(CHUNK);
        if now > 0 {
            chunk.clear();
            rows.write(intake.position(), now, &mut chunk);
            pacer.spend(now);
            take_in(intake, &chunk).await?;
        }
        let sealable = intake.is_sealable();
        tokio::select! {
            () = intake.stop.cancelled() => return Ok(false),
            held = intake.window.more_held() => { held?; }
            _ = intake.tick.tick(), if sealable => intake.seal(),
            () = tokio::time::sleep(pacer.wait()), if due == now => {}
            () = tokio::task::yield_now(), if due > now => {}
        }
    }
}

/// Buffers lines made here, sealing whenever a block is full.
pub(super) async fn take_in(intake: &mut Intake, mut lines: &[u8]) -> Result<(), ReceiverError> {
    while !lines.is_empty() {
        let taken = intake.lines.append(lines);
        lines = &lines[taken..];
        if intake.lines.is_full() {
            intake.window.opened().await?;
            intake.seal();
        }
    }
    Ok(())
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
