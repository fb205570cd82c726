//! The program `tarrl-fuzz`: millions of mutated files through the readers, with counts, times and peak memory.

#![forbid(unsafe_code)]

mod campaign;
mod memory;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tarrl_fuzz::{Scratch, TARGETS, Target};

use crate::campaign::{Campaign, Limits};

/// Runs mutated files through every reader of files.
///
/// An input is named by the seed, its target and its number; the same name is the same input. `TMPDIR=/dev/shm` keeps
/// the files that readers open in memory.
#[derive(Parser)]
#[command(after_help = "Examples:
  tarrl-fuzz --inputs 10000000 --seed 1           all targets, the same number of inputs each
  tarrl-fuzz --target png,jpeg --inputs 100000    two of them
  tarrl-fuzz --target png --first 4711            input 4711 of one target again
  tarrl-fuzz --target png --file crash.png        a file
  tarrl-fuzz --corpus fuzz/corpus                 writes the valid files from which inputs are made, for cargo-fuzz
  tarrl-fuzz --list                               the names of the targets")]
struct Arguments {
    /// Inputs over all targets
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    inputs: u64,
    /// The seed of all inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Only these targets
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    target: Vec<String>,
    /// Only one input, of one target: that with this number
    #[arg(long, value_name = "INDEX")]
    first: Option<u64>,
    /// Threads; as many as processors without this option
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The most seconds that an input may take
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,
    /// The most memory that the process may have had, in MB
    #[arg(long, value_name = "MB", default_value_t = 512)]
    memory: u64,
    /// The folder for inputs that break the contract of a reader, and for what each thread works on
    #[arg(long, value_name = "DIR", default_value = "fuzz/artifacts")]
    artifacts: PathBuf,
    /// Runs one file through one target
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Writes the valid files of each target into a folder, and does nothing else
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Lists the targets
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was found.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let targets = chosen(&arguments.target)?;
    if arguments.list {
        targets.iter().for_each(|target| println!("{}", target.name));
        return Ok(true);
    }
    if let Some(folder) = &arguments.corpus {
        write_corpus(folder, &targets)?;
        return Ok(true);
    }
    if let Some(path) = &arguments.file {
        let input = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for target in targets {
            println!("{}: accepted {}", target.name, target.check(&input, &Scratch::new()));
        }
        return Ok(true);
    }
    let limits = Limits { time: Duration::from_secs(arguments.seconds), memory: arguments.memory << 20 };
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let campaign = Campaign { targets, seed: arguments.seed, limits, artifacts: arguments.artifacts.clone() };
    let (first, inputs) = match arguments.first {
        Some(first) => (first, campaign.targets.len() as u64),
        None => (0, arguments.inputs),
    };
    campaign.run(first, inputs, threads.unwrap_or(1).max(1))
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => Ok(target),
        None => bail!("there is no target `{name}`; --list names them"),
    };
    names.iter().map(find).collect()
}

fn write_corpus(folder: &Path, targets: &[&Target]) -> anyhow::Result<()> {
    for target in targets {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = folder.join(format!("seed-{number}"));
            std::fs::write(&path, seed).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let path = folder.with_extension("dict");
        std::fs::write(&path, dictionary(target.words))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A dictionary of libFuzzer, which refuses an empty file: a format without words has a comment.
fn dictionary(words: &[&str]) -> String {
    let lines = words.iter().map(|word| format!("{}\n", dictionary_entry(word)));
    std::iter::once("# words of the format\n".to_owned()).chain(lines).collect()
}

/// A line of libFuzzer's dictionaries.
fn dictionary_entry(word: &str) -> String {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", byte as char),
        b' '..=b'~' => (byte as char).to_string(),
        _ => format!("\\x{byte:02X}"),
    };
    format!("\"{}\"", word.bytes().map(byte).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_dictionary_is_empty_and_words_are_escaped() {
        assert!(!dictionary(&[]).is_empty());
        assert_eq!(dictionary(&["a\"\\\n"]), "# words of the format\n\"a\\\"\\\\\\x0A\"\n");
    }
}
