//! Commands of the program, one file each: its options and what it does.

pub(crate) mod attack;
pub(crate) mod bench;
pub(crate) mod bound;
pub(crate) mod certify;
pub(crate) mod data;
pub(crate) mod embed;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod gpu_check;
pub(crate) mod import;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod pretrain;
pub(crate) mod reproduce;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod verify;
pub(crate) mod worker;
