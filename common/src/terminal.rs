//! Text of others on a terminal: what would move the cursor, colour, rename the window or turn text round is escaped.

use std::borrow::Cow;

/// A text in one line: line breaks are escaped as well. Tabs stay.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\t' && is_control(c))
}

/// A text that may have several lines.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !matches!(c, '\t' | '\n') && is_control(c))
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match hidden(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters, line and paragraph separators, and marks of direction.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(one_line("\u{1b}]0;title\u{7}\ta\r\nb"), "\\u{1b}]0;title\\u{7}\ta\\r\\nb");
        assert_eq!(one_line("\u{9b}31m\u{7f}abc\u{202e}cba"), "\\u{9b}31m\\u{7f}abc\\u{202e}cba");
        assert_eq!(lines("one\ntwo\r\u{0}"), "one\ntwo\\r\\u{0}");
        assert!(matches!(one_line("Ünïcode \u{1f600}, 日本語"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_is_left(text in any::<String>()) {
            let one = one_line(&text);
            let obeyed = |c: char| c != '\t' && is_control(c);
            prop_assert!(!one.chars().any(obeyed));
            prop_assert_eq!(one_line(&one), one.as_ref());
            let several = lines(&text);
            prop_assert!(!several.chars().any(|c| c != '\n' && obeyed(c)));
        }
    }
}
