//! S-expressions with places.

use crate::error::QueryError;

/// Nesting at most: deeper queries are no queries of a person or of a program that writes them.
const MOST_DEPTH: usize = 64;

/// A place in the text, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub(super) fn fault<T>(self, reason: impl Into<String>) -> Result<T, QueryError> {
        Err(QueryError { line: self.line, column: self.column, reason: reason.into() })
    }
}

/// A word, or a list in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr<'a> {
    Word(&'a str, Place),
    List(Vec<Expr<'a>>, Place),
}

impl<'a> Expr<'a> {
    pub(super) fn place(&self) -> Place {
        match self {
            Expr::Word(_, place) | Expr::List(_, place) => *place,
        }
    }

    pub(super) fn word(&self) -> Option<&'a str> {
        match self {
            Expr::Word(word, _) => Some(word),
            Expr::List(..) => None,
        }
    }

    /// The head of a list, and what follows it.
    pub(super) fn call(&self) -> Option<(&'a str, &[Expr<'a>])> {
        match self {
            Expr::List(items, _) => items.split_first().and_then(|(head, rest)| Some((head.word()?, rest))),
            Expr::Word(..) => None,
        }
    }
}

/// All expressions of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Expr<'_>>, QueryError> {
    // The last list is the open one; the first holds what stands outside of all parentheses.
    let mut open: Vec<(Vec<Expr<'_>>, Place)> = vec![(Vec::new(), Place { line: 1, column: 1 })];
    let (mut line, mut begin) = (1, 0);
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let place = Place { line, column: at - begin + 1 };
        match bytes[at] {
            b'\n' => {
                (line, begin) = (line + 1, at + 1);
                at += 1;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            b';' => at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at),
            b'(' => {
                if open.len() > MOST_DEPTH {
                    return place.fault(format!("more than {MOST_DEPTH} parentheses are open"));
                }
                open.push((Vec::new(), place));
                at += 1;
            }
            b')' => {
                let Some((items, from)) = open.pop().filter(|_| !open.is_empty()) else {
                    return place.fault("this parenthesis closes nothing");
                };
                if let Some((outer, _)) = open.last_mut() {
                    outer.push(Expr::List(items, from));
                }
                at += 1;
            }
            _ => {
                let len = word_length(&bytes[at..]);
                let Some(word) = text.get(at..at + len) else { return place.fault("this is no text") };
                if let Some((items, _)) = open.last_mut() {
                    items.push(Expr::Word(word, place));
                }
                at += len;
            }
        }
    }
    match (open.pop(), open.len()) {
        (Some((items, _)), 0) => Ok(items),
        (Some((_, place)), _) => place.fault("this parenthesis is never closed"),
        (None, _) => Ok(Vec::new()),
    }
}

/// The length of a word: up to a blank, a parenthesis or a comment, but through the blanks of an index.
fn word_length(bytes: &[u8]) -> usize {
    let mut inside = bytes[0] == b'[';
    let mut len = 1;
    for &byte in &bytes[1..] {
        match byte {
            b'(' | b')' | b';' | b'\n' => break,
            b'[' => inside = true,
            b']' if inside => {
                len += 1;
                break;
            }
            byte if byte.is_ascii_whitespace() && !inside => break,
            _ => {}
        }
        len += 1;
    }
    len
}
