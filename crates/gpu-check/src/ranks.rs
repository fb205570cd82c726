//! Ranks over NCCL, each with a GPU of its own: sums of known values, and a training whose bits do not depend on their number.
//!
//! The ranks are threads here, so that one program starts them; in a training they are processes.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ndarray::Array4;
use serde_json::{Value, json};
use tarrl_cuda::{Cuda, NcclRanks, Places, nccl_version};
use tarrl_data::Dataset;
use tarrl_encoders::EncoderConfig;
use tarrl_parallel::{Group, ParallelError, Ranks, SumOrder, TcpRanks, tree_sum};
use tarrl_tensor::Key;
use tarrl_train::{Method, Options, Pretraining, TrainConfig};

use crate::progress::show;

/// Shards of the training, and so the most ranks.
const SHARDS: usize = 4;

/// Images of a step, their side, and steps.
const BATCH: usize = 8;
const SIDE: usize = 8;
const STEPS: usize = 3;

/// No rank of a check is silent for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs all on the GPU and on the others beside it; prints a line each. `failures` is empty if all is well.
pub(crate) fn run(ordinal: usize) -> anyhow::Result<(Value, Vec<String>)> {
    let places = Places::usual();
    let version = match nccl_version(&places) {
        Ok(version) => version,
        Err(absent) => {
            show!("   did not run ranks over NCCL: {absent}");
            return Ok((json!({ "did_not_run": absent.to_string() }), Vec::new()));
        }
    };
    let others = (0..).filter(|&other| other != ordinal);
    let gpus: Vec<usize> = std::iter::once(ordinal)
        .chain(others.take_while(|&other| Cuda::new(other).open().is_ok()).take(SHARDS - 1))
        .collect();
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let alone = train(ordinal, Group::alone(SHARDS)?)?;
    for count in [1, 2, 4] {
        let Some(gpus) = gpus.get(..count) else {
            show!("   did not run {count} ranks over NCCL {version}: there are not so many GPUs");
            continue;
        };
        let connect = |rank: usize, port| connect([rank, count], gpus[rank], port, &places, PATIENCE);
        let wrong = on_all(count, |rank, port| -> anyhow::Result<Vec<String>> {
            Ok(known_values(&mut connect(rank, port)?)?)
        });
        let mut found: Vec<String> = wrong.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
        let trained = on_all(count, |rank, port| {
            let group = Group::new(SHARDS, Box::new(connect(rank, port)?), SumOrder::Fixed)?;
            train(gpus[rank], group)
        });
        let trained = trained.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        if trained[0] != alone {
            found.push("a training has other bits than without ranks".to_owned());
        }
        show!(
            "   {count} ranks over NCCL {version}: sums of known values, a training of {SHARDS} shards: {}",
            if found.is_empty() { "the same bits" } else { "NOT WELL" }
        );
        rows.push(json!({"ranks": count, "failures": found}));
        failures.extend(found.iter().map(|what| format!("{count} ranks over NCCL: {what}")));
    }
    Ok((json!({"nccl": version, "counts": rows}), failures))
}

/// `f` of each rank and of a free port, on a thread each.
pub(crate) fn on_all<T: Send>(count: usize, f: impl Fn(usize, u16) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.expect("a machine has a free port").port();
    thread::scope(|scope| {
        let f = &f;
        let threads: Vec<_> = (0..count).map(|rank| scope.spawn(move || f(rank, port))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, T>| thread.join().expect("a rank does not panic");
        threads.into_iter().map(join).collect()
    })
}

/// Rank and number of ranks, on this machine.
pub(crate) fn connect(
    place: [usize; 2],
    gpu: usize,
    port: u16,
    places: &Places,
    timeout: Duration,
) -> Result<NcclRanks, ParallelError> {
    let control = TcpRanks::connect(place, "127.0.0.1", port, timeout)?;
    NcclRanks::open(control, gpu, places, timeout)
}

/// What is wrong with sums and gatherings whose results are known, of lengths on both sides of the one from which on numbers go
/// through NCCL.
pub(crate) fn known_values(ranks: &mut NcclRanks) -> Result<Vec<String>, ParallelError> {
    let (rank, count) = (ranks.rank(), ranks.count());
    let mut wrong = Vec::new();
    for length in [0, 1, 5, 1024, 1025, 100_003] {
        // Whole numbers below 2²⁴, whose sums are exact in any order: 1 + 2 + … + W times those of rank 0.
        let whole = |of: usize| (0..length).map(|i| (of * (i % 997)) as f32).collect::<Vec<f32>>();
        let expected = whole(count * (count + 1) / 2);
        for order in [SumOrder::Fixed, SumOrder::Any] {
            let mut values = whole(rank + 1);
            ranks.sum(&mut values, order)?;
            if values != expected {
                wrong.push(format!("rank {rank}: the {order:?} sum of {length} whole numbers is wrong"));
            }
        }
        // Numbers that are rounded, whose bits show the order.
        let parts = |of: usize| (0..length).map(|i| 1.0 / (3 * i + 7 * of + 1) as f32).collect::<Vec<f32>>();
        let tree = tree_sum((0..count).map(parts).collect());
        let mut values = parts(rank);
        ranks.sum(&mut values, SumOrder::Fixed)?;
        if !values.iter().zip(&tree).all(|(a, b)| a.to_bits() == b.to_bits()) || values.len() != length {
            wrong.push(format!("rank {rank}: the sum of {length} numbers is not that of the tree"));
        }
        // Of at most four numbers below 1 any order rounds three times, by half of 2⁻²³ of a sum below 4.
        let mut values = parts(rank);
        ranks.sum(&mut values, SumOrder::Any)?;
        if !values.iter().zip(&tree).all(|(a, b)| (a - b).abs() <= 3.0 * f32::EPSILON * 4.0) {
            wrong.push(format!(
                "rank {rank}: the sum of {length} numbers in any order is far from that of the tree"
            ));
        }
        let bytes = |of: usize| (0..4 * length).map(|i| (i * 31 + of * 101) as u8).collect::<Vec<u8>>();
        if ranks.gather(&bytes(rank))? != (0..count).map(bytes).collect::<Vec<_>>().concat() {
            wrong.push(format!("rank {rank}: {} gathered bytes are wrong", 4 * length));
        }
    }
    Ok(wrong)
}

/// The files of a training of this rank's shards.
fn train(ordinal: usize, group: Arc<Group>) -> anyhow::Result<[Vec<u8>; 2]> {
    let gpu = Cuda::new(ordinal).open().context("a GPU of a rank")?;
    let mut noise = Key::new(7).stream();
    let images = Array4::from_shape_simple_fn((STEPS * BATCH, SIDE, SIDE, 3), || noise.below(256) as u8);
    let labels = (0..STEPS * BATCH).map(|image| image as u16 % 2).collect();
    let data = Arc::new(Dataset::new("noise", images, labels, vec!["even".into(), "odd".into()]));
    let method: Method = serde_json::from_value(json!({
        "title": "SimCLR", "views": ["strong", "strong"], "objective": {"kind": "nt-xent"},
        "projector": {"hidden": 16, "out": 8, "layers": 2},
    }))?;
    let encoder = EncoderConfig { width: 0.25, in_channels: 3, ..EncoderConfig::default() };
    let config = TrainConfig { encoder, epochs: 1, batch: BATCH, shards: SHARDS, ..TrainConfig::new(method) };
    let folder = tempfile::tempdir().context("a folder for a training")?;
    let first = group.rank() == 0;
    Pretraining {
        config: &config,
        data: &data,
        teacher: None,
        start: None,
        device: &gpu.device(),
        folder: folder.path(),
        options: Options { group: Some(group), ..Options::default() },
    }
    .run(&mut |_| {})
    .map_err(|error| anyhow!(error))?;
    let file = |name: &str| {
        if first {
            std::fs::read(folder.path().join(name)).context("a file of a training")
        } else {
            Ok(Vec::new())
        }
    };
    Ok([file("encoder.safetensors")?, file("checkpoint.safetensors")?])
}

#[cfg(test)]
mod tests;
