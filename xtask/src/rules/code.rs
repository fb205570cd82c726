//! Just enough of Rust's lexical structure to tell code from prose.

/// Replaces comments, strings and character literals by spaces, so that only code is left; line breaks stay, and so
/// do line numbers.
pub(crate) fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = prose_end(&chars, i);
        if end == i {
            out.push(chars[i]);
        }
        out.extend(chars[i..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
        i = end.max(i + 1);
    }
    out
}

/// The part of a masked file that is not its test module: everything before `#[cfg(test)] mod … {`, which by custom
/// comes last.
pub(crate) fn library_part(masked: &str) -> &str {
    let mut from = 0;
    while let Some(found) = masked[from..].find("#[cfg(test)]") {
        let start = from + found;
        let after = &masked[start + "#[cfg(test)]".len()..];
        let item = after.trim_start();
        if item.starts_with("mod ") && item.find('{').is_some_and(|brace| !item[..brace].contains(';')) {
            return &masked[..start];
        }
        from = start + 1;
    }
    masked
}

/// Where the comment or literal that starts at `i` ends, or `i` if none starts there.
fn prose_end(chars: &[char], i: usize) -> usize {
    let at = |k: usize| chars.get(k).copied().unwrap_or('\0');
    match at(i) {
        '/' if at(i + 1) == '/' => (i..chars.len()).find(|&k| chars[k] == '\n').unwrap_or(chars.len()),
        '/' if at(i + 1) == '*' => block_comment_end(chars, i),
        '"' => string_end(chars, i),
        'r' if !continues_word(chars, i) => raw_string_end(chars, i).unwrap_or(i),
        // A lifetime has no closing quote after its first character.
        '\'' if at(i + 1) == '\\' => {
            (i + 3..chars.len()).find(|&k| chars[k] == '\'').map_or(chars.len(), |close| close + 1)
        }
        '\'' if at(i + 2) == '\'' => i + 3,
        _ => i,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut k) = (0, start);
    while k < chars.len() {
        match (chars[k], chars.get(k + 1)) {
            ('/', Some('*')) => (depth, k) = (depth + 1, k + 2),
            ('*', Some('/')) => (depth, k) = (depth - 1, k + 2),
            _ => k += 1,
        }
        if depth == 0 {
            return k;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut k = start + 1;
    while k < chars.len() {
        match chars[k] {
            '\\' => k += 2,
            '"' => return k + 1,
            _ => k += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |k: &usize| chars[*k] == '"' && chars[k + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |k| k + 1 + hashes))
}

/// Whether the character at `i` continues an identifier. The `b` of `br"…"` and the `c` of `cr"…"` do not count.
fn continues_word(chars: &[char], i: usize) -> bool {
    let word = |k: usize| chars[k].is_alphanumeric() || chars[k] == '_';
    match i {
        0 => false,
        1 => word(0) && !matches!(chars[0], 'b' | 'c'),
        _ => word(i - 1) && (word(i - 2) || !matches!(chars[i - 1], 'b' | 'c')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code stays, and every `X` in the samples stands in prose and has to go.
    #[test]
    fn prose_goes_and_code_stays() {
        for (text, code) in [
            ("a // X\nb", "a     \nb"),
            ("a /* X /* X */ X */ b", "a                   b"),
            (r#""X\"X" b"#, "       b"),
            (r#"r"X\" b"#, "      b"),
            ("r#\"X\"X\"# b", "         b"),
            ("br#\"X\"# b", "b       b"),
            ("b\"X\" c\"X\"", "b    c   "),
            ("'X' b", "    b"),
            (r"'\'' b 'X'", "     b    "),
            ("'\"' b \"X\"", "    b    "),
            ("&'a str, 'b: loop", "&'a str, 'b: loop"),
            ("r#type + for\"X\"", "r#type + for   "),
            ("\"X\nX\" b", "  \n   b"),
            ("x / y", "x / y"),
        ] {
            assert_eq!(mask(text), code, "{text}");
        }
    }

    #[test]
    fn unfinished_prose_ends_with_the_file() {
        for text in ["a \"X", "a /* X", "a r#\"X\"", "a // X", "'\\"] {
            assert!(!mask(text).contains('X'), "{text}");
        }
    }

    #[test]
    fn the_test_module_is_cut_off_and_other_test_items_are_not() {
        assert_eq!(library_part("a\n#[cfg(test)]\nmod tests {\n b }"), "a\n");
        let kept = "#[cfg(test)]\nmod tests;\nfn f() {}";
        assert_eq!(library_part(kept), kept);
        assert_eq!(
            library_part("#[cfg(test)]\nuse x;\nfn f() {}\n#[cfg(test)]\nmod t {}"),
            "#[cfg(test)]\nuse x;\nfn f() {}\n"
        );
    }
}
