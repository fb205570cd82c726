//! Every reader on a few thousand mutated files: an error or what satisfies its invariants, and no large allocation.

#[path = "../../tensor/tests/counting_allocator/mod.rs"]
mod counting_allocator;

use counting_allocator::{CountingAllocator, large_allocations};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tarrl_fuzz::{Scratch, TARGETS, mutation::mutated};
use tarrl_tensor::Key;

/// Above what a decoder takes for the largest image.
#[global_allocator]
static ALLOCATOR: CountingAllocator<{ 256 << 20 }> = CountingAllocator;

/// Time for the inputs of each target, but not less than the first hundred.
const TIME: Duration = Duration::from_millis(400);
const INPUTS: std::ops::Range<u64> = 100..1000;

/// The inputs are named by a key, so that a failure is one of the same input each time.
#[test]
fn mutated_files_are_refused_or_satisfy_the_invariants_of_their_reader() {
    for target in TARGETS {
        let (seeds, scratch, started) = ((target.seeds)(), Scratch::new(), Instant::now());
        let mut accepted = 0;
        for index in 0..INPUTS.end {
            if index >= INPUTS.start && started.elapsed() > TIME {
                break;
            }
            let input = mutated(&seeds, target.words, Key::new(0).fold(target.name).fold(index));
            let before = large_allocations();
            let checked = catch_unwind(AssertUnwindSafe(|| target.check(&input, &scratch)));
            accepted += u64::from(checked.unwrap_or_else(|_| panic!("{}, input {index}", target.name)));
            assert_eq!(large_allocations(), before, "{}, input {index}: a large allocation", target.name);
        }
        // The archive of a dataset is too large for a small input.
        assert_eq!(
            accepted > 0,
            target.name != "cifar-archive",
            "{}: {accepted} inputs accepted",
            target.name
        );
    }
}

/// Otherwise mutations would be of files that are refused from the start.
#[test]
fn valid_files_are_accepted() {
    for target in TARGETS.iter().filter(|target| target.name != "cifar-archive") {
        let scratch = Scratch::new();
        let refused = |seed: &Vec<u8>| !target.check(seed, &scratch);
        let seeds = (target.seeds)();
        // A checkpoint of an encoder is a seed of heads, too.
        let most = usize::from(target.name == "head");
        assert_eq!(seeds.iter().filter(|seed| refused(seed)).count(), most, "{}", target.name);
        let size: usize = seeds.iter().map(Vec::len).sum();
        assert!(size < 200_000, "{}: {size} bytes of seeds", target.name);
    }
}

/// With a checksum that fits, a changed value gets past it: what lies behind is reached.
#[test]
fn repaired_checksums_let_changed_files_pass() {
    for name in [
        "encoder",
        "head",
        "training-checkpoint",
        "certificates",
        "pgd-state",
        "autoattack-state",
        "attack-file",
        "job-manifest",
        "png",
    ] {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let (seeds, scratch) = ((target.seeds)(), Scratch::new());
        let changed = (0..2000u64).filter(|&index| {
            let input = mutated(&seeds, target.words, Key::new(1).fold(index));
            !seeds.contains(&input) && target.check(&input, &scratch)
        });
        assert!(changed.take(3).count() == 3, "{name}: no changed file passes");
    }
}
