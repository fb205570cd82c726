//! Plain names: names of datasets, methods, profiles and files that stand for one component of a path.

/// Whether a name is one component of a path wherever it is joined to a folder: neither empty nor `.` nor `..`, without
/// separators, colons and control characters.
pub fn is_plain_name(name: &str) -> bool {
    let escapes = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    !["", ".", ".."].contains(&name) && !name.contains(escapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_not_plain() {
        for name in ["mnist", "cifar-10", "tarr.v2", "...", "größe", "a b"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "../a", "/a", "a\\b", "C:a", "a\0", "a\nb"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
