//! Command line parsing: the commands and their options.

use clap::{Parser, Subcommand};

use crate::commands;

const EXAMPLES: &str = "\
Examples:
  tarrl reproduce                    the whole study, five to fifteen minutes on two cores
  tarrl reproduce --profile smoke    every part once at toy size, about two minutes
  tarrl reproduce --dry-run          what would run, and for how long
  tarrl worker --profile smoke       one of several processes that share a study, on one machine or many
  tarrl submit --help                a study as jobs of Slurm or HyperQueue
  tarrl certify encoder.safetensors  how far its representations can move, for any task
  tarrl data list                    the datasets and where they are
  tarrl evaluate resnet18.pt --dataset cifar10
                                     an encoder of any program: accuracy, attacks, bound, certificates, one page
  tarrl attack --help                attack one encoder and head, with AutoAttack or parts of it
  tarrl import model.pth --list      what a PyTorch file holds, to make an encoder of it
  tarrl bench --all                  the speed of training, attack and inference here

`tarrl help COMMAND` explains a command and shows examples of it.
Inside the repository, `cargo xtask COMMAND` builds this program and runs `tarrl COMMAND`.";

/// Task-agnostic robust representation learning: train encoders without labels, attack them, check the bound.
#[derive(Debug, Parser)]
#[command(name = "tarrl", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Reproduce(commands::reproduce::Reproduce),
    Jobs(commands::jobs::Jobs),
    Job(commands::job::Job),
    Worker(commands::worker::Worker),
    Submit(commands::submit::Submit),
    Status(commands::status::Status),
    Data(commands::data::Data),
    Pretrain(commands::pretrain::Pretrain),
    Evaluate(commands::evaluate::Evaluate),
    Embed(commands::embed::Embed),
    Attack(commands::attack::Attack),
    Certify(commands::certify::Certify),
    Bound(commands::bound::Bound),
    Export(commands::export::Export),
    Verify(commands::verify::Verify),
    Supports(commands::verify::Supports),
    Import(commands::import::Import),
    Bench(commands::bench::Bench),
    GpuCheck(commands::gpu_check::GpuCheck),
}

/// Parses the command line of the process and runs the command.
///
/// # Errors
/// Fails with the one message that the user should see. Faulty options end the process with clap's own message.
pub(crate) fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Reproduce(command) => command.run(),
        Command::Jobs(command) => command.run(),
        Command::Job(command) => command.run(),
        Command::Worker(command) => command.run(),
        Command::Submit(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Pretrain(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Embed(command) => command.run(),
        Command::Attack(command) => command.run(),
        Command::Certify(command) => command.run(),
        Command::Bound(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Supports(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::GpuCheck(command) => command.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn error(line: &str) -> String {
        Cli::try_parse_from(line.split_whitespace()).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn misspelled_words_are_answered_with_the_nearest() {
        assert!(error("tarrl reproduec").contains("'reproduce'"));
        assert!(error("tarrl reproduce --sedes 3").contains("'--seeds'"));
        assert!(error("tarrl reproduce --device cpv").contains("'cpu'"));
        assert!(error("tarrl data vrify").contains("'verify'"));
        assert!(error("tarrl bench --workload tran:conv-small").contains("one of forward:conv-small, "));
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for line in [
            "reproduce --seeds 0",
            "reproduce --seeds 4294967295",
            "reproduce --threads 0",
            "reproduce --threads 65535",
            "bench --all --threads 65535",
            "reproduce --only",
            "reproduce --only T1,",
            "bench --all --batch 1",
        ] {
            assert!(Cli::try_parse_from(format!("tarrl {line}").split_whitespace()).is_err(), "{line}");
        }
    }

    #[test]
    fn too_large_numbers_are_answered_with_their_limit() {
        assert!(error("tarrl reproduce --seeds 4294967295").contains("is not in 1..=1000"));
        assert!(error("tarrl reproduce --threads 65535").contains("is not in 1..=1024"));
    }

    #[test]
    fn options_of_bench_that_contradict_each_other_are_refused() {
        let one = "tarrl bench --workload train:conv-small";
        assert!(error("tarrl bench --json").contains("required"));
        assert!(error(&format!("{one} --all")).contains("cannot be used with"));
        assert!(error(&format!("{one} --markdown")).contains("cannot be used with"));
        assert!(error("tarrl bench --all --markdown --json").contains("cannot be used with"));
        assert!(Cli::try_parse_from(one.split_whitespace()).is_ok());
    }

    #[test]
    fn tables_are_taken_in_any_case_and_separated_by_commas() {
        let cli = Cli::try_parse_from(["tarrl", "reproduce", "--only", "t1,F1"]).unwrap();
        let Command::Reproduce(command) = cli.command else { panic!("another command") };
        assert_eq!(command.study.only, ["T1", "F1"]);
    }

    #[test]
    fn every_command_explains_itself_with_examples() {
        for command in Cli::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:\n  tarrl "), "{help}");
        }
    }
}
