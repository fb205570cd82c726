//! The targets, by subject.

mod arrays;
mod attack_states;
mod certificates;
mod checkpoints;
mod cluster;
mod datasets;
mod interop;
mod settings;
mod state_dicts;
#[cfg(feature = "parquet")]
mod tables;
mod trainings;

use crate::target::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    datasets::IDX,
    datasets::GZIP,
    datasets::CIFAR,
    datasets::ARCHIVE,
    datasets::PNG,
    datasets::JPEG,
    datasets::MANIFEST,
    arrays::NPY,
    arrays::NPZ,
    arrays::MAT,
    arrays::STL10,
    arrays::IDX_LABELS,
    #[cfg(feature = "parquet")]
    tables::PARQUET,
    checkpoints::ENCODER,
    state_dicts::SAFETENSORS,
    state_dicts::PYTORCH,
    state_dicts::NAME_MAP,
    checkpoints::HEAD,
    checkpoints::JSON_HEAD,
    trainings::TRAINING,
    certificates::CERTIFICATES,
    interop::ONNX,
    interop::VNNLIB,
    attack_states::PGD,
    attack_states::CARLINI_WAGNER,
    attack_states::DEEPFOOL,
    attack_states::HOP_SKIP_JUMP,
    attack_states::AUTOATTACK,
    attack_states::ATTACK_FILE,
    attack_states::NEAREST_MISTAKE,
    settings::JOB_MANIFEST,
    settings::METHOD,
    settings::PROFILE,
    settings::PUBLISHED,
    cluster::CLAIM,
    cluster::PROGRESS,
    cluster::GRAPH,
    cluster::CLUSTER,
];
