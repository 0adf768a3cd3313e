//! Upper and lower case as Python has them.

/// The filter `title`: what begins a word there is white space, `-` and opening brackets.
pub(super) fn title_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        let is_between = matches!(c, '-' | '(' | '{' | '[' | '<') || super::is_space(c);
        if is_between || !starts {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        starts = is_between;
    }
    out
}

/// `str.title`: whatever has no case ends a word.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_inside = false;
    for c in text.chars() {
        if is_inside {
            out.extend(c.to_lowercase());
        } else {
            push_title(c, &mut out);
        }
        is_inside = is_cased(c);
    }
    out
}

/// `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    if let Some(first) = chars.next() {
        push_title(first, &mut out);
    }
    out + &chars.as_str().to_lowercase()
}

/// `str.swapcase`.
pub(super) fn swap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_uppercase() {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
    }
    out
}

/// `str.islower`: something is lower case, and nothing is upper case.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// `str.isupper`.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// `str.istitle`.
pub(super) fn is_title_text(text: &str) -> bool {
    let (mut is_inside, mut has_words) = (false, false);
    for c in text.chars() {
        let is_upper = c.is_uppercase() || is_title(c);
        if is_upper == is_inside && is_cased(c) {
            return false;
        }
        is_inside = is_cased(c);
        has_words |= is_inside;
    }
    has_words
}

fn is_cased(c: char) -> bool {
    c.is_uppercase() || c.is_lowercase() || is_title(c)
}

/// Letters that are one lower-case letter behind a capital one.
fn is_title(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | '\u{1F88}'..='\u{1F8F}' | '\u{1F98}'..='\u{1F9F}' | '\u{1FA8}'..='\u{1FAF}' | 'ᾼ' | 'ῌ' | 'ῼ')
}

/// `c` at the beginning of a word.
fn push_title(c: char, out: &mut String) {
    match c {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        _ => {
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            // Of what becomes several letters, such as ß, one is a capital.
            upper.for_each(|c| out.extend(c.to_lowercase()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_pythons() {
        assert_eq!(title_words("it's a-b_c (d"), "It's A-B_c (D");
        assert_eq!(title("it's a-b_c ß"), "It'S A-B_C Ss");
        assert_eq!(capitalize("ßa ÉB"), "Ssa éb");
        assert_eq!(swap("aBß1"), "AbSS1");
        for (text, lower, upper, is_title) in [
            ("", false, false, false),
            (" a question ", true, false, false),
            ("1 A", false, true, true),
            ("12", false, false, false),
            ("It'S Él", false, false, true),
            ("It's", false, false, false),
        ] {
            let found = (is_lower(text), is_upper(text), is_title_text(text));
            assert_eq!(found, (lower, upper, is_title), "{text:?}");
        }
    }
}
