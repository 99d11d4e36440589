//! What the JSON reader lets pass, and RFC 8259 does not; and what is too deep for readers that call themselves.

use memchr::memchr2_iter;
use serde::de::IgnoredAny;

/// Arrays and objects inside each other, at most.
const MAX_DEPTH: usize = 128;

/// Whether a line is one JSON value. Takes no more stack for a deep one.
pub(super) fn check(line: &[u8]) -> Result<(), String> {
    if is_too_deep(line) {
        return Err(format!("arrays and objects more than {MAX_DEPTH} deep"));
    }
    serde_json::from_slice::<IgnoredAny>(line).map(|_| ()).map_err(|error| super::without_place(&error.to_string()))
}

fn is_too_deep(line: &[u8]) -> bool {
    // Most lines have fewer brackets in all.
    if memchr2_iter(b'[', b'{', line).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_counts_what_is_open() {
        assert_eq!(check(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().contains("128 deep"));
        assert!(check("{\"a\":".repeat(1_000_000).as_bytes()).unwrap_err().contains("128 deep"));
        assert_eq!(check(format!("[{}1]", "[],".repeat(1000)).as_bytes()), Ok(()));
        assert_eq!(check(format!("[\"\\\"{}\"]", "[".repeat(1000)).as_bytes()), Ok(()));
    }

    #[test]
    fn what_is_no_json() {
        let lines = [
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":+1}"#,
            r#"{"a":NaN}"#,
            r#"{,"a":1}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            "[1,,2]",
            "{\"a\":\"\t\"}",
            r#"{"a":1}{"a":2}"#,
            "{'a':1}",
            r#"{"a":tru}"#,
            r#""\x""#,
            "",
        ];
        for line in lines {
            let reason = check(line.as_bytes()).unwrap_err();
            assert!(!reason.is_empty() && !reason.contains(" line "), "{line}: {reason}");
        }
        assert_eq!(check(b" {\"a\": -0.1e+5, \"b\": [\"\\u00e9\", null]}\r"), Ok(()));
    }

    proptest! {
        /// What a plain parser takes, without its own limit of depth.
        #[test]
        fn as_a_parser_says(line in "[-+0-9.eE\\[\\]{}:,\"\\\\ua\u{1} truefalsn]{0,24}") {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&line);
            let number = parsed.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range"));
            let surrogate = parsed.as_ref().is_err_and(|error| error.to_string().contains("surrogate"));
            if !number && !surrogate {
                prop_assert_eq!(check(line.as_bytes()).is_ok(), parsed.is_ok());
            }
        }
    }
}
