//! Ranges of numbers on the command line, from the table of all settings.

use tarrl_train::Range;

/// The range of a flag, such as `--threads`, or `bench.--batch` where a command has its own.
fn range(flag: &str) -> Range {
    Range::of(flag).expect("the table has every flag")
}

/// The parser of a whole number for a flag.
pub(crate) fn whole<T: TryFrom<u64>>(flag: &str) -> impl Fn(&str) -> Result<T, String> + Clone + use<T> {
    let Range { least, most } = range(flag);
    let allowed = least as u64..=most as u64;
    move |text| {
        let number: u64 = text.parse().map_err(|_| format!("it is no whole number in {allowed:?}"))?;
        let number = Some(number).filter(|number| allowed.contains(number));
        number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| format!("{text} is not in {allowed:?}"))
    }
}

/// A radius: a number, or a fraction such as 8/255.
pub(crate) fn radius(text: &str) -> Result<f64, String> {
    let value = tarrl_attacks::fraction::parse(text).map_err(|error| error.to_string())?;
    let Range { most, .. } = range("--epsilon");
    if value < 0.0 {
        return Err(format!("a radius is not negative, but this is {value}"));
    }
    if value > most { Err(format!("a radius is at most {most}: pixels lie in [0, 1]")) } else { Ok(value) }
}

/// A time in seconds.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let range = range("--timeout");
    match text.parse() {
        Ok(seconds) if range.contains(seconds) => Ok(seconds),
        _ => {
            Err(format!("give seconds as a number from {} to {}, such as 60 or 0.5", range.least, range.most))
        }
    }
}

/// A time in minutes.
pub(crate) fn minutes(text: &str) -> Result<f64, String> {
    let range = range("--minutes");
    match text.parse() {
        Ok(minutes) if range.contains(minutes) => Ok(minutes),
        _ => {
            Err(format!("give minutes as a number from {} to {}, such as 10 or 0.5", range.least, range.most))
        }
    }
}

/// A factor of the number of channels.
pub(crate) fn width(text: &str) -> Result<f64, String> {
    let range = range("--width");
    match text.parse() {
        Ok(width) if range.contains(width) => Ok(width),
        _ => Err(format!("give a factor from {} to {}, such as 1 or 0.5", range.least, range.most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{Arg, Command, CommandFactory, Parser};
    use std::any::TypeId;
    use tarrl_study::pixels::Pixels;

    #[test]
    fn radii_are_refused_outside_their_range() {
        assert_eq!(radius("8/255"), Ok(8.0 / 255.0));
        assert!(radius("-1/255").unwrap_err().contains("not negative"));
        assert!(radius("8 of 255").unwrap_err().contains("8/255"));
        assert!(radius("1e308").unwrap_err().contains("at most 1000000"));
    }

    #[test]
    fn what_is_no_whole_number_is_answered_with_what_is_allowed() {
        let parse = whole::<u16>("--threads");
        assert_eq!(parse("7"), Ok(7));
        for text in ["two", "1.5", "-1", "", "1e3", "99999999999999999999"] {
            assert!(parse(text).unwrap_err().contains("no whole number in 1..=1024"), "{text}");
        }
        assert_eq!(parse("1025").unwrap_err(), "1025 is not in 1..=1024");
    }

    /// Every flag of a number, with the words of its command.
    fn numbers(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Arg)>) {
        let types = [
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<f64>(),
            TypeId::of::<Pixels>(),
        ];
        for argument in command.get_arguments() {
            let takes = argument.get_value_parser().type_id();
            if types.iter().any(|number| takes == *number) {
                found.push((words.to_vec(), argument.clone()));
            }
        }
        for below in command.get_subcommands() {
            numbers(below, &[words, &[below.get_name().to_owned()]].concat(), found);
        }
    }

    #[test]
    fn every_number_on_the_command_line_is_refused_outside_its_range() {
        let mut found = Vec::new();
        numbers(&Cli::command(), &["tarrl".to_owned()], &mut found);
        assert!(found.len() > 15, "{found:?}");
        for (words, argument) in found {
            let flag = format!("--{}", argument.get_long().expect("numbers have names"));
            let range = range(&format!("{}.{flag}", words[1]));
            let ends = [range.least - 1.0, range.most + 1.0].map(|end| end.to_string());
            for value in ["NaN", "inf", "-inf", "-1", "1e300", "", &ends[0], &ends[1]] {
                let line = words.iter().cloned().chain([format!("{flag}={value}")]);
                let error = Cli::try_parse_from(line).unwrap_err().to_string();
                assert!(error.contains(&flag) && error.contains(value), "{words:?} {flag}={value}: {error}");
            }
        }
    }

    /// The table of ranges of the documentation.
    fn documented() -> String {
        let mut text = "| setting | least | most |\n|---|---:|---:|\n".to_owned();
        for (name, Range { least, most }) in tarrl_train::RANGES {
            text += &format!("| `{name}` | {least} | {most} |\n");
        }
        text
    }

    #[test]
    fn the_documentation_lists_every_range() {
        let path = crate::workspace::workspace_root().join("docs/limits.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&documented()), "docs/limits.md needs this table:\n{}", documented());
    }

    #[test]
    fn every_range_of_a_flag_is_one_of_a_flag_that_exists() {
        let mut found = Vec::new();
        numbers(&Cli::command(), &["tarrl".to_owned()], &mut found);
        let flags: Vec<String> = found
            .iter()
            .map(|(words, argument)| format!("{}.--{}", words[1], argument.get_long().unwrap_or_default()))
            .collect();
        let table = tarrl_train::RANGES.iter().filter(|(name, _)| name.contains("--"));
        for (name, _) in table {
            assert!(flags.iter().any(|flag| flag == name || flag.ends_with(&format!(".{name}"))), "{name}");
        }
    }
}
