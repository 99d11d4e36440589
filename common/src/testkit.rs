//! What decoders are given in tests: noise, and what the encoders write, damaged.
//!
//! A decoder is a function of bytes that panics when something is wrong with what it tests. The same functions are the targets
//! of `tests/fuzz`; here they run under `cargo test`, without anything that a stable Rust does not have.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// How many inputs each decoder gets; [`INPUTS`] if it is not set.
pub const INPUTS_VARIABLE: &str = "TIDEMILL_FUZZ_INPUTS";
/// A directory that gets a folder per decoder with what the encoders write, for `cargo fuzz` to begin with.
pub const CORPUS_VARIABLE: &str = "TIDEMILL_FUZZ_CORPUS";
/// Inputs of a plain test run.
pub const INPUTS: u32 = 2000;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}
static SILENCED: Once = Once::new();

/// Keeps decoders from printing where they panic: some of that is caught and as it should be, and a backtrace takes more memory than
/// any of them may. What is not caught is told with the input.
fn silence() {
    let before = take_hook();
    set_hook(Box::new(move |panic| {
        if !DECODING.get() {
            before(panic);
        }
    }));
}

/// Runs something and gives back how many bytes of memory it held at most.
pub type Peak = fn(&mut dyn FnMut()) -> u64;

/// A decoder and what it may do.
pub struct Decoder<'a> {
    /// Its name; that of its target in `tests/fuzz`, too.
    pub name: &'a str,
    /// Decodes, and panics if something is wrong.
    pub decode: fn(&[u8]),
    /// What the encoders write.
    pub seeds: Vec<Vec<u8>>,
    /// Bytes of memory that it may hold at most, however short the input is.
    pub most_bytes: u64,
    /// One in so many inputs of a run, for a decoder that takes long.
    pub one_in: u32,
    /// Measures it.
    pub peak: Peak,
}

impl Decoder<'_> {
    /// Decodes the seeds as they are, and then damaged ones and noise.
    ///
    /// # Panics
    /// When the decoder does, or holds more memory than it may; with the smallest such input that was found.
    pub fn run(&self) {
        self.write_corpus();
        SILENCED.call_once(silence);
        self.seeds.iter().for_each(|seed| self.decode_one(seed));
        let wanted = std::env::var(INPUTS_VARIABLE).ok().and_then(|inputs| inputs.parse().ok());
        let cases = (wanted.unwrap_or(INPUTS) / self.one_in).max(1);
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
        // A plain test run gives the same inputs every time; new ones are looked for on purpose.
        let mut runner = match wanted {
            None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
            Some(_) => TestRunner::new(config),
        };
        let ran = runner.run(&input(self.seeds.clone()), |Input(bytes)| {
            self.decode_one(&bytes);
            Ok(())
        });
        if let Err(error) = ran {
            panic!("{}: {error}", self.name);
        }
    }

    fn decode_one(&self, bytes: &[u8]) {
        // The measuring does not expect to be left by a panic.
        let mut outcome = Ok(());
        DECODING.set(true);
        let peak = (self.peak)(&mut || outcome = catch_unwind(AssertUnwindSafe(|| (self.decode)(bytes))));
        DECODING.set(false);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        let most = self.most_bytes + 64 * bytes.len() as u64;
        assert!(peak <= most, "{} bytes made {} hold {peak} bytes of memory, more than {most}", bytes.len(), self.name);
    }

    fn write_corpus(&self) {
        let Some(corpus) = std::env::var_os(CORPUS_VARIABLE) else { return };
        let folder = PathBuf::from(corpus).join(self.name);
        std::fs::create_dir_all(&folder).expect("the folder of a corpus can be made");
        for (number, seed) in self.seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed can be written");
        }
    }
}

/// Whether `tests/fuzz` has a target that calls this function of a crate's `fuzz` module.
pub fn has_target(crate_name: &str, decoder: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    let read = |file: PathBuf| std::fs::read_to_string(file).unwrap_or_default();
    read(folder.join("Cargo.toml")).contains(&format!("name = \"{decoder}\""))
        && read(folder.join(format!("fuzz_targets/{decoder}.rs"))).contains(&format!("{crate_name}::fuzz::{decoder}"))
}

/// Bytes that show as text as far as they are.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    let damaged = (any::<Index>(), prop::collection::vec(damage(), 1..6)).prop_map(move |(seed, damages)| {
        let mut bytes = seed.get(&seeds).clone();
        damages.iter().for_each(|damage| damage.apply(&mut bytes, &seeds));
        Input(bytes)
    });
    let noise = prop::collection::vec(any::<u8>(), 0..300).prop_map(Input);
    prop_oneof![9 => damaged, 1 => noise]
}

/// Something that happens to bytes.
#[derive(Debug, Clone)]
enum Damage {
    /// A bit is another one.
    Flip(Index, u8),
    /// Other bytes stand in the place of some.
    Over(Index, Vec<u8>),
    /// More bytes.
    Insert(Index, Vec<u8>),
    /// Bytes are left out.
    Remove(Index, usize),
    /// Bytes stand there again so many times.
    Repeat(Index, usize, usize),
    /// It goes on as another one, from somewhere on.
    Splice(Index, Index, Index),
    /// It ends.
    Cut(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        // One more than the last place: the end.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Self::Flip(at, bit) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                }
            }
            Self::Over(at, new) => {
                let at = place(at, bytes);
                let end = (at + new.len()).min(bytes.len());
                bytes.splice(at..end, new.iter().copied());
            }
            Self::Insert(at, new) => {
                let at = place(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, length) => {
                let at = place(at, bytes);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Self::Repeat(at, length, times) => {
                let at = place(at, bytes);
                let piece = bytes[at..(at + length).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, piece);
            }
            Self::Splice(other, from, at) => {
                let other = other.get(seeds);
                bytes.truncate(place(at, bytes));
                bytes.extend_from_slice(&other[place(from, other)..]);
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let piece = || prop_oneof![prop::collection::vec(any::<u8>(), 1..5), prop::sample::select(pieces())];
    prop_oneof![
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (at(), piece()).prop_map(|(at, new)| Damage::Over(at, new)),
        2 => (at(), piece()).prop_map(|(at, new)| Damage::Insert(at, new)),
        1 => (at(), 1..40_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (at(), 1..40_usize, 1..8_usize).prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
        1 => (at(), 1..4_usize, 100..300_usize).prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
        1 => (at(), at(), at()).prop_map(|(other, from, at)| Damage::Splice(other, from, at)),
        1 => at().prop_map(Damage::Cut),
    ]
}

/// Numbers at the ends of what they can be, in the ways in which files have them; and what text stumbles over.
fn pieces() -> Vec<Vec<u8>> {
    let numbers = [0, 1, 0x7f, 0xff, 1 << 15, 1 << 24, 1 << 30, u64::from(u32::MAX >> 1), u64::from(u32::MAX)];
    let longer = [1 << 40, u64::MAX >> 1, u64::MAX - 7, u64::MAX];
    let mut all = Vec::new();
    for number in numbers {
        all.extend([(number as u32).to_le_bytes().to_vec(), (number as u32).to_be_bytes().to_vec(), varint(number)]);
        all.extend([(number as u16).to_le_bytes().to_vec(), number.to_le_bytes().to_vec()]);
    }
    for number in longer {
        all.extend([number.to_le_bytes().to_vec(), number.to_be_bytes().to_vec(), varint(number)]);
    }
    all.extend(WORDS.iter().map(|word| word.as_bytes().to_vec()));
    all.extend([&b"\xff"[..], b"\xfe", b"\xfd", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80"].map(<[u8]>::to_vec));
    all
}

const WORDS: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\0",
    "\"",
    "\"\"",
    "'",
    "\\",
    ",",
    ";",
    ":",
    "=",
    ".",
    "-",
    "+",
    "#",
    "/",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "]]",
    "(",
    ")",
    "null",
    "true",
    "NaN",
    "Infinity",
    "-0",
    "0",
    "9",
    "1e999",
    "-1e-999",
    "1e400",
    "99999999999999999999",
    "-9223372036854775808",
    "9223372036854775807",
    "0.1",
    "é",
    "𝄞",
    "\u{feff}",
    "\u{2028}",
    "\\u0000",
    "\\ud800",
    "\"\"\"",
    "'''",
    "0001-01-01",
    "+262142-12-31T23:59:60Z",
    "9999-12-31 23:59:59.999999999",
];

/// LEB128, as in postcard, Protocol Buffers and Thrift.
fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}
