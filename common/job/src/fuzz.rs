//! The reader of definitions, for tests that give it any bytes: it panics when that does not do as it should.

use crate::{good_part, parse};
use tidemill_connect::Connectors;

/// Reads a job definition, and renders what is wrong with it.
pub fn definition(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(wrong) = parse(&text) {
        assert!(!wrong.render("job.toml", &text, false).is_empty());
        good_part(&text, &Connectors::default());
    }
}

#[cfg(test)]
mod tests {
    use tidemill_common::testkit::{Decoder, has_target};

    #[test]
    fn definition() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/jobs");
        let files = std::fs::read_dir(examples).unwrap().map(|file| file.unwrap().path());
        let seeds: Vec<_> = files.map(|file| std::fs::read(file).unwrap()).collect();
        assert!(seeds.len() > 5);
        assert!(has_target("tidemill_job", "definition"));
        let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
        let decoder =
            Decoder { name: "definition", decode: super::definition, seeds, most_bytes: 1 << 20, one_in: 1, peak };
        decoder.run();
    }
}
