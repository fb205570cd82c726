//! Training on shards: on one process and on several, which here are threads that are connected over TCP.

mod common;
mod outputs;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::images;
use outputs::{hash, timeless};
use tarrl_data::Dataset;
use tarrl_encoders::{EncoderConfig, ProjectorConfig};
use tarrl_parallel::{Group, SumOrder, TcpRanks};
use tarrl_tensor::{Cpu, Device};
use tarrl_train::{Event, Finish, Method, Options, Pretraining, TrainConfig, TrainError};

/// Eight steps of 32 images in four shards.
fn config(name: &str) -> TrainConfig {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/methods");
    let mut method = Method::read(&Path::new(folder).join(format!("{name}.toml"))).unwrap();
    method.projector = ProjectorConfig { hidden: 32, out: 16, ..ProjectorConfig::default() };
    TrainConfig {
        encoder: EncoderConfig { width: 0.25, ..EncoderConfig::default() },
        epochs: 1,
        batch: 32,
        warmup_epochs: 0.5,
        seed: 3,
        shards: 4,
        ..TrainConfig::new(method)
    }
}

fn device() -> Device {
    Cpu { threads: 1, ..Cpu::default() }.open()
}

/// The training on `ranks` ranks, each with the images and options that it is given.
fn run(
    config: &TrainConfig,
    folder: &Path,
    ranks: usize,
    each: &(dyn Fn(usize) -> (TrainConfig, Arc<Dataset>, Options) + Sync),
) -> Vec<Result<Finish, TrainError>> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank: usize| {
        let (own, data, options) = each(rank);
        let patience = Duration::from_secs(100);
        let connection = TcpRanks::connect([rank, ranks], "127.0.0.1", port, patience).unwrap();
        let group = Group::new(config.shards, Box::new(connection), SumOrder::Fixed).unwrap();
        let options = Options { group: Some(group), log_every: 1, ..options };
        let (config, data, device) = (&own, &data, &device());
        Pretraining { config, data, teacher: None, start: None, device, folder, options }.run(&mut |_| {})
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|r| scope.spawn(move || rank(r))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn plain(
    config: &TrainConfig,
    folder: &Path,
    ranks: usize,
    options: &Options,
) -> Vec<Result<Finish, TrainError>> {
    run(config, folder, ranks, &|_| (config.clone(), images(), options.clone()))
}

/// The files of an uninterrupted training on one process.
fn whole(config: &TrainConfig) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (data, device, options) = (images(), device(), Options { log_every: 1, ..Options::default() });
    let (data, device) = (&data, &device);
    let training =
        Pretraining { config, data, teacher: None, start: None, device, folder: folder.path(), options };
    assert!(matches!(training.run(&mut |_| {}), Ok(Finish::Trained(_))));
    folder
}

#[test]
fn one_two_and_four_ranks_give_the_same_bits_in_every_file() {
    let config = config("tarr-simclr");
    let expected = whole(&config);
    for ranks in [2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let results = plain(&config, folder.path(), ranks, &Options::default());
        assert!(results.iter().all(|result| matches!(result, Ok(Finish::Trained(_)))), "{results:?}");
        assert_eq!(hash(folder.path()), hash(expected.path()), "{ranks} ranks");
        assert_eq!(timeless(folder.path()), timeless(expected.path()), "{ranks} ranks");
    }
}

/// A kill after three steps, a stop that one rank asks for after two more, and the rest, each on another number of ranks.
#[test]
fn a_training_resumes_on_another_number_of_ranks() {
    let config = config("simclr");
    let expected = whole(&config);
    let folder = tempfile::tempdir().unwrap();
    let killed = Options { checkpoint_every_steps: Some(2), stop_after_steps: Some(3), ..Options::default() };
    for result in plain(&config, folder.path(), 4, &killed) {
        assert!(matches!(result, Ok(Finish::Stopped { step: 3 })), "{result:?}");
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let results = run(&config, folder.path(), 2, &|rank| {
        let asked = asked.clone();
        // The second rank alone, which has two shards: after the third step.
        let stop: Arc<dyn Fn() -> bool + Send + Sync> =
            Arc::new(move || rank == 1 && asked.fetch_add(1, Ordering::Relaxed) >= 4);
        (config.clone(), images(), Options { stop: Some(stop), ..Options::default() })
    });
    for result in results {
        assert!(matches!(result, Ok(Finish::Stopped { step: 5 })), "{result:?}");
    }
    plain(&config, folder.path(), 1, &Options::default()).remove(0).unwrap();
    assert_eq!(hash(folder.path()), hash(expected.path()));
    assert_eq!(timeless(folder.path()), timeless(expected.path()));
}

#[test]
fn ranks_with_other_images_or_settings_end_before_the_first_step() {
    let config = config("simclr");
    let others: [&(dyn Fn() -> (TrainConfig, Arc<Dataset>) + Sync); 2] = [
        &|| {
            let mut data = Dataset::clone(&images());
            data.images[[17, 3, 3, 0]] ^= 1;
            (config.clone(), Arc::new(data))
        },
        &|| (TrainConfig { seed: 4, ..config.clone() }, images()),
    ];
    for other in others {
        let folder = tempfile::tempdir().unwrap();
        let results = run(&config, folder.path(), 2, &|rank| {
            let (config, data) = if rank == 1 { other() } else { (config.clone(), images()) };
            (config, data, Options::default())
        });
        for result in results {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("rank 1 has other settings or images than rank 0"), "{error}");
        }
        assert!(!folder.path().join("checkpoint.safetensors").exists());
    }
}

/// A rank that fails alone, here because of what its own folder is, ends the others with its message.
#[test]
fn an_error_of_one_rank_is_the_error_of_all() {
    let config = config("simclr");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("metrics.jsonl")).unwrap();
    let results = plain(&config, folder.path(), 2, &Options::default());
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: cannot open the metrics"), "{error}");
    }
}

#[test]
fn batches_that_cannot_be_cut_are_refused() {
    let good = config("simclr");
    let refused = |shards| {
        let config = TrainConfig { shards, ..good.clone() };
        config.check().unwrap_err().to_string()
    };
    for shards in [0, 3, 32, 64, 2048] {
        assert!(refused(shards).contains(&format!("cannot be cut into {shards} shards")), "{shards}");
    }
    // One shard is what every training before had: its settings are written as they were.
    let one = serde_json::to_string(&TrainConfig { shards: 1, ..good.clone() }).unwrap();
    assert!(!one.contains("shards") && serde_json::to_string(&good).unwrap().contains("\"shards\":4"));
    let folder = tempfile::tempdir().unwrap();
    let (data, device) = (images(), device());
    let options = Options { group: Some(Group::alone(2).unwrap()), ..Options::default() };
    let training = Pretraining {
        config: &good,
        data: &data,
        teacher: None,
        start: None,
        device: &device,
        folder: folder.path(),
        options,
    };
    let error = training.run(&mut |_: &Event<'_>| {}).unwrap_err().to_string();
    assert!(error.contains("connected for 2 shards, but the training has 4"), "{error}");
}
