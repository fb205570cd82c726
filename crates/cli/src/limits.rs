//! Limits of numbers on the command line.

use clap::builder::RangedI64ValueParser;

/// The most threads: above what any machine has, and below what an operating system refuses.
const THREADS: i64 = 1024;

/// The largest radius: images that are farther apart do not exist, in any norm.
const RADIUS: f64 = 1e6;

/// The parser of `--threads`.
pub(crate) fn threads() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=THREADS)
}

/// The parser of `--seeds`.
pub(crate) fn seeds() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(tarrl_study::profile::MAX_SEEDS))
}

/// A radius: a number, or a fraction such as 8/255.
pub(crate) fn radius(text: &str) -> Result<f64, String> {
    let value = tarrl_attacks::fraction::parse(text).map_err(|error| error.to_string())?;
    if value < 0.0 {
        return Err(format!("a radius is not negative, but this is {value}"));
    }
    if value > RADIUS {
        Err(format!("a radius is at most {RADIUS}: pixels lie in [0, 1]"))
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radii_are_refused_outside_their_range() {
        assert_eq!(radius("8/255"), Ok(8.0 / 255.0));
        assert!(radius("-1/255").unwrap_err().contains("not negative"));
        assert!(radius("8 of 255").unwrap_err().contains("8/255"));
        assert!(radius("1e308").unwrap_err().contains("at most 1000000"));
    }
}
