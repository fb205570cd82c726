//! Ranks over the emulated NCCL: what they add and gather, and every way in which they end.

use super::*;
use crate::emulator;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tarrl_parallel::Launch;

/// Bytes of an id and a version, which ranks exchange when they meet.
const GREETING: usize = 132;
/// That of the emulator, as NCCL writes it.
const VERSION: u32 = 21400;

/// Where the emulated driver and the emulated NCCL are, beside this program, if there is a compiler.
fn emulated() -> Option<Places> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let compiler = emulator::compiler()?;
        let folder = std::env::current_exe().unwrap().with_file_name("emulated-ranks");
        std::fs::create_dir_all(&folder).unwrap();
        emulator::build_ranks(compiler, &folder).unwrap();
        Some(folder)
    });
    if folder.is_none() {
        println!("did not run the emulated NCCL: there is no C++ compiler");
    }
    folder.clone().map(|folder| Places { libraries: vec![folder], ask_python: false, cache: None })
}

#[test]
fn one_two_and_four_ranks_add_and_gather_what_they_should() {
    let Some(places) = emulated() else { return };
    for count in [1, 2, 4] {
        let wrong = on_all(count, |rank, port| {
            known_values(&mut connect([rank, count], rank, port, &places, PATIENCE).unwrap()).unwrap()
        });
        assert_eq!(wrong.concat(), [""; 0]);
    }
}

/// Bits that a rank's own branch of the tree is added with, before the sum over ranks.
#[test]
fn four_shards_have_the_same_sum_on_one_two_and_four_ranks() {
    let Some(places) = emulated() else { return };
    let parts = |shard: usize| (0..5000).map(|i| 1.0 / (3 * i + 7 * shard + 1) as f32).collect::<Vec<f32>>();
    let expected: Vec<u32> =
        tree_sum((0..SHARDS).map(parts).collect()).into_iter().map(f32::to_bits).collect();
    for count in [1, 2, 4] {
        on_all(count, |rank, port| {
            let ranks = connect([rank, count], rank, port, &places, PATIENCE).unwrap();
            let group = Group::new(SHARDS, Box::new(ranks), SumOrder::Fixed).unwrap();
            thread::scope(|scope| {
                for shard in group.shards() {
                    let expected = &expected;
                    scope.spawn(move || {
                        let mut values = parts(shard.index());
                        shard.sum(&mut values);
                        let all = shard.gather(&[shard.index() as u8; 5000]);
                        shard.check().unwrap();
                        assert!(values.iter().map(|x| x.to_bits()).eq(expected.iter().copied()));
                        assert!(all.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i / 5000));
                    });
                }
            });
        });
    }
}

#[test]
fn a_rank_that_is_gone_ends_all_with_one_message() {
    let Some(places) = emulated() else { return };
    let errors = on_all(4, |rank, port| {
        let mut ranks = connect([rank, 4], rank, port, &places, PATIENCE).unwrap();
        assert_eq!(ranks.gather(&[1; 5000]).unwrap().len(), 20_000);
        if rank == 2 {
            return None;
        }
        let error = ranks.gather(&[1; 5000]).unwrap_err();
        ranks.end(&error);
        Some(error)
    });
    let told: Vec<_> = errors.iter().flatten().collect();
    assert!(matches!(told[0], ParallelError::Lost { rank: 2, cause } if cause.contains("has ended")));
    assert!(told.iter().all(|error| error.is_passing() && error.to_string().contains("rank 2 was lost")));
    let spoken =
        errors.iter().enumerate().filter(|(rank, error)| error.as_ref().is_some_and(|e| e.is_told_by(*rank)));
    assert_eq!(spoken.count(), 1);
}

/// The other of two ranks than `real` is none: it meets that one over TCP and never begins with NCCL, so that the real one waits in
/// the middle.
fn half_a_rank(
    real: usize,
    version: u32,
    timeout: Duration,
    then: impl Fn(TcpRanks) + Sync,
) -> Option<ParallelError> {
    let places = emulated()?;
    let mut errors = on_all(2, |rank, port| {
        if rank == real {
            return connect([rank, 2], rank, port, &places, timeout).err();
        }
        let mut control = TcpRanks::connect([rank, 2], "127.0.0.1", port, PATIENCE).unwrap();
        let greeting = [&[0; GREETING - 4][..], &version.to_le_bytes()].concat();
        control.gather(&greeting).unwrap();
        then(control);
        None
    });
    let error = errors.swap_remove(real);
    assert!(error.is_some(), "rank {real} has not noticed");
    error
}

#[test]
fn a_rank_that_dies_while_nccl_runs_is_lost_long_before_the_timeout() {
    let Some(error) = half_a_rank(0, VERSION, PATIENCE, drop) else { return };
    assert!(matches!(&error, ParallelError::Lost { rank: 1, .. }), "{error}");
}

#[test]
fn a_rank_that_ends_while_nccl_runs_says_why() {
    let full = ParallelError::Ended { rank: 1, message: "the disk is full".into(), again: false };
    let Some(error) = half_a_rank(0, VERSION, PATIENCE, |mut control| control.end(&full)) else { return };
    assert_eq!(error, full);
}

#[test]
fn a_rank_that_hangs_while_nccl_runs_is_given_up_after_the_timeout() {
    let hang = |mut control: TcpRanks| {
        // Until rank 0 has had enough.
        let told = control.gather(&[0]).unwrap_err();
        assert!(told.is_passing() && told.to_string().contains("did not finish for 1 s"), "{told}");
    };
    let Some(error) = half_a_rank(0, VERSION, Duration::from_secs(1), hang) else { return };
    assert!(error.is_passing() && error.is_told_by(0), "{error}");
}

/// Rank 0 gives up first, so that the others speak where it is the one that hangs.
#[test]
fn a_first_rank_that_hangs_while_nccl_runs_is_lost() {
    let hang = |mut control: TcpRanks| drop(control.gather(&[0]).unwrap_err());
    let Some(error) = half_a_rank(1, VERSION, Duration::from_secs(1), hang) else { return };
    assert!(matches!(&error, ParallelError::Lost { rank: 0, .. }) && error.is_told_by(1), "{error}");
}

#[test]
fn other_versions_of_nccl_are_refused() {
    let told = |mut control: TcpRanks| drop(control.gather(&[0]).unwrap_err());
    let Some(error) = half_a_rank(0, 22703, PATIENCE, told) else { return };
    assert!(error.to_string().contains("rank 1 has NCCL 2.27.3 and rank 0 has NCCL 2.14.0"), "{error}");
}

#[test]
fn ranks_that_disagree_begin_nothing() {
    let Some(places) = emulated() else { return };
    let gather = |ranks: &mut NcclRanks, length: usize| ranks.gather(&vec![0; length]).map(drop);
    let sum = |ranks: &mut NcclRanks, length: usize, order| ranks.sum(&mut vec![0.0; length], order);
    type Call<'a> = &'a (dyn Fn(&mut NcclRanks) -> Result<(), ParallelError> + Sync);
    let cases: [(Call<'_>, Call<'_>, &str); 3] = [
        (
            &|ranks| gather(ranks, 6000),
            &|ranks| gather(ranks, 5000),
            "rank 1 has 5000 bytes to gather where rank 0 has 6000 bytes to gather",
        ),
        (
            &|ranks| sum(ranks, 2000, SumOrder::Fixed),
            &|ranks| sum(ranks, 2000, SumOrder::Any),
            "rank 1 has 2000 numbers to add in any order where rank 0 has 2000 numbers to add in a fixed order",
        ),
        // One of them is short.
        (&|ranks| gather(ranks, 5000), &|ranks| gather(ranks, 50), "rank 1 sent 50 bytes"),
    ];
    for (zero, one, message) in cases {
        let errors = on_all(2, |rank, port| {
            let mut ranks = connect([rank, 2], rank, port, &places, PATIENCE).unwrap();
            let error = if rank == 0 { zero(&mut ranks) } else { one(&mut ranks) }.unwrap_err();
            ranks.end(&error);
            error
        });
        assert!(errors[0].to_string().contains(message), "{}", errors[0]);
        assert!(errors.iter().all(|error| !error.is_passing()), "{errors:?}");
    }
}

#[test]
fn two_ranks_on_one_gpu_and_a_gpu_that_is_not_there_are_refused() {
    let Some(places) = emulated() else { return };
    for (second, message) in [(0, "invalid usage"), (9, "no device cuda:9: there are cuda:0 to cuda:3")] {
        let errors = on_all(2, |rank, port| {
            connect([rank, 2], [0, second][rank], port, &places, PATIENCE).unwrap_err()
        });
        assert!(errors[0].to_string().contains(message), "{errors:?}");
        assert!(errors.iter().all(|error| !error.is_passing()), "{errors:?}");
    }
}

/// What a process that `a_killed_process_ends_the_others` starts does: exchanges until one fails.
fn exchange_until_one_fails(launch: &Launch) {
    let control = launch.tcp(PATIENCE).unwrap();
    let mut ranks = NcclRanks::open(control, launch.rank, &Places::usual(), PATIENCE).unwrap();
    loop {
        let mut values = vec![1.0; 100_000];
        match ranks.sum(&mut values, SumOrder::Fixed) {
            Ok(()) => println!("a sum"),
            Err(error) => {
                ranks.end(&error);
                return println!("told: {}: {error}", error.is_told_by(launch.rank));
            }
        }
    }
}

/// The processes are this test again, as ranks.
#[test]
fn a_killed_process_ends_the_others() {
    if let Some(launch) = Launch::of(&|name| std::env::var(name).ok()).unwrap() {
        return exchange_until_one_fails(&launch);
    }
    let Some(places) = emulated() else { return };
    let start = |rank: usize, port: u16| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ranks::tests::a_killed_process_ends_the_others", "--nocapture"]);
        command.env("TARRL_CUDA_LIBRARIES", &places.libraries[0]);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", "4").env("MASTER_PORT", port.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env_remove("TORCHELASTIC_USE_AGENT_STORE");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let texts = on_all(4, |rank, port| {
        let mut process = start(rank, port);
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        if rank == 2 {
            lines.by_ref().filter(|line| line.contains("a sum")).nth(4).unwrap();
            process.kill().unwrap();
        }
        let told = lines.find(|line| line.contains("told: "));
        process.wait().unwrap();
        told.unwrap_or_default()
    });
    assert!(texts[0].contains("told: true: rank 2 was lost: its process has ended"), "{texts:?}");
    assert!(
        [1, 3].iter().all(|&r| texts[r].contains("told: false") && texts[r].contains("rank 2 was lost")),
        "{texts:?}"
    );
}
