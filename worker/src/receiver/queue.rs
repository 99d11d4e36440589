//! The queue: given records, one block for every entry.

use super::ReceiverError;
use super::ReceiverState;
use super::intake::Intake;
use std::time::Duration;

/// Entries of records.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The entries; none is empty.
    pub entries: Vec<Vec<String>>,
    /// If it begins anew after the last one: the time from one entry to the next.
    pub repeat_every: Option<Duration>,
}

impl Queue {
    /// The entry that begins at this record; none behind the last one.
    fn entry(&self, position: u64) -> Option<&[String]> {
        let total: u64 = self.entries.iter().map(|entry| entry.len() as u64).sum();
        if total == 0 || (self.repeat_every.is_none() && position >= total) {
            return None;
        }
        let mut left = position % total;
        for entry in &self.entries {
            if left == 0 {
                return Some(entry);
            }
            left = left.saturating_sub(entry.len() as u64);
        }
        None
    }
}

/// Seals entry after entry, until stopped (false) or through with them (true).
pub(super) async fn run(intake: &mut Intake, queue: &Queue) -> Result<bool, ReceiverError> {
    intake.status.set(ReceiverState::Connected);
    while let Some(entry) = queue.entry(intake.position()) {
        for record in entry {
            intake.lines.push(record.as_bytes());
        }
        intake.window.opened().await?;
        intake.seal();
        if let Some(time) = queue.repeat_every
            && intake.meanwhile(tokio::time::sleep(time)).await?.is_none()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_by_position() {
        let entry = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
        let mut queue = Queue { entries: vec![entry(&["a", "b"]), entry(&["c"])], repeat_every: None };
        assert_eq!(queue.entry(0), Some(&entry(&["a", "b"])[..]));
        assert_eq!(queue.entry(2), Some(&entry(&["c"])[..]));
        assert_eq!(queue.entry(3), None);
        queue.repeat_every = Some(Duration::from_secs(1));
        assert_eq!(queue.entry(5), Some(&entry(&["c"])[..]));
    }
}
