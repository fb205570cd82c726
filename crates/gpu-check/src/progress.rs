//! Progress lines on standard output: what people watch; the results are in the files.

/// `println!` that ignores errors: that nobody reads any more is no reason to stop measuring.
macro_rules! show {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

pub(crate) use show;
