//! Purchases, `user,product,price`, as a function of (seed, index).

use super::Lines;
use std::collections::BTreeMap;
use tidemill_connect::sources::generate::mix;

/// The chapter's `names.csv`; James and Janet are in it more than once, and so buy more.
const NAMES: [&str; 20] = [
    "Miguel", "Eric", "James", "Juan", "Shawn", "James", "Doug", "Gary", "Frank", "Janet", "Michael", "James",
    "Malinda", "Mike", "Elaine", "Kevin", "Janet", "Richard", "Saul", "Manuela",
];

/// The chapter's products: name, price as written, price in cents.
const PRODUCTS: [(&str, &str, u64); 4] = [
    ("iPhone Cover", "9.99", 999),
    ("Headphones", "5.49", 549),
    ("Samsung Galaxy Cover", "8.95", 895),
    ("iPad Cover", "7.49", 749),
];

/// Digits of a made-up user's name, at least.
const USER_DIGITS: usize = 7;

/// Who buys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// The chapter's 20 names, 17 of them distinct.
    Chapter,
    /// So many: `u0000000`, `u0000001`, ..
    Synthetic(u32),
}

/// By user: how many purchases, and for how many cents.
pub type Totals = BTreeMap<String, (u64, u64)>;

/// An endless stream of purchases.
#[derive(Debug, Clone)]
pub struct PurchaseStream {
    seed: u64,
    /// Where a line's user begins; empty for users made up.
    names: Vec<&'static str>,
    users: u64,
    /// Lines of named users, user by user, ready to copy.
    lines: Vec<Vec<u8>>,
    /// The rest of a line behind its user.
    tails: Vec<Vec<u8>>,
}

impl PurchaseStream {
    /// The stream of a seed.
    pub fn new(users: &Users, seed: u64) -> Self {
        let (names, count) = match users {
            Users::Chapter => (NAMES.to_vec(), NAMES.len() as u64),
            Users::Synthetic(count) => (Vec::new(), u64::from(*count).max(1)),
        };
        let tails: Vec<Vec<u8>> =
            PRODUCTS.iter().map(|(product, price, _)| format!(",{product},{price}\n").into_bytes()).collect();
        let line = |name: &str, tail: &[u8]| [name.as_bytes(), tail].concat();
        let lines = names.iter().flat_map(|name| tails.iter().map(move |tail| line(name, tail))).collect();
        Self { seed, names, users: count, lines, tails }
    }

    /// The line at an index, with its newline.
    pub fn line(&self, index: u64) -> String {
        let mut line = Vec::new();
        self.write(index, 1, &mut line);
        String::from_utf8_lossy(&line).into_owned()
    }

    /// What the lines before `upto` add up to.
    pub fn totals(&self, upto: u64) -> Totals {
        let mut by_number = vec![(0, 0); self.users as usize];
        for index in 0..upto {
            let (user, product) = self.choose(index);
            let (count, cents) = &mut by_number[user as usize];
            *count += 1;
            *cents += PRODUCTS[product].2;
        }
        let mut totals = Totals::new();
        for (user, (count, cents)) in by_number.into_iter().enumerate().filter(|(_, t)| t.0 > 0) {
            let total = totals.entry(self.user(user as u64)).or_default();
            *total = (total.0 + count, total.1 + cents);
        }
        totals
    }

    /// User and product of a line.
    fn choose(&self, index: u64) -> (u64, usize) {
        let random = mix(self.seed, index);
        // Scaled, not the remainder of a division: this is done for every line.
        let user = ((random & 0xffff_ffff) * self.users) >> 32;
        (user, (random >> 62) as usize % PRODUCTS.len())
    }

    fn user(&self, number: u64) -> String {
        match self.names.get(number as usize) {
            Some(name) => (*name).to_owned(),
            None => format!("u{number:0USER_DIGITS$}"),
        }
    }
}

impl Lines for PurchaseStream {
    fn write(&self, from: u64, count: u64, out: &mut Vec<u8>) {
        for index in from..from + count {
            let (user, product) = self.choose(index);
            match self.lines.get(user as usize * PRODUCTS.len() + product) {
                Some(line) => out.extend_from_slice(line),
                None => {
                    write_user(user, out);
                    out.extend_from_slice(&self.tails[product]);
                }
            }
        }
    }
}

fn write_user(number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 10];
    let mut rest = number;
    let mut start = digits.len();
    while rest > 0 && start > 0 {
        start -= 1;
        digits[start] += (rest % 10) as u8;
        rest /= 10;
    }
    out.push(b'u');
    out.extend_from_slice(&digits[start.min(digits.len() - USER_DIGITS)..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_chapters() {
        let stream = PurchaseStream::new(&Users::Chapter, 1);
        for index in 0..1000 {
            let line = stream.line(index);
            let fields: Vec<&str> = line.strip_suffix('\n').unwrap().split(',').collect();
            assert!(NAMES.contains(&fields[0]));
            assert!(PRODUCTS.iter().any(|(name, price, _)| (*name, *price) == (fields[1], fields[2])));
        }
        assert_eq!(stream.totals(10_000).len(), 17);
    }

    #[test]
    fn made_up_users() {
        let stream = PurchaseStream::new(&Users::Synthetic(1_000_000), 1);
        for index in 0..1000 {
            let (user, _) = stream.choose(index);
            assert!(stream.line(index).starts_with(&format!("u{user:07},")));
        }
        for number in [0, 9_999_999, 10_000_000, u64::from(u32::MAX)] {
            let mut out = Vec::new();
            write_user(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), stream.user(number));
        }
    }

    #[test]
    fn totals_are_those_of_the_lines() {
        for users in [Users::Chapter, Users::Synthetic(10)] {
            let stream = PurchaseStream::new(&users, 3);
            let mut text = Vec::new();
            stream.write(0, 500, &mut text);
            let mut expected = Totals::new();
            for line in String::from_utf8(text).unwrap().lines() {
                let (user, price) = (line.split(',').next().unwrap(), line.rsplit(',').next().unwrap());
                let total = expected.entry(user.to_owned()).or_default();
                total.0 += 1;
                total.1 += price.replace('.', "").parse::<u64>().unwrap();
            }
            assert_eq!(stream.totals(500), expected);
        }
    }
}
