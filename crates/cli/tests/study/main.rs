//! The program as a user meets it, on a study so small that it runs in seconds: what an interruption, a damaged file
//! or another number of threads does to its results, and what it says.

mod cifar;
mod failures;
mod interruption;
mod repetition;
mod report;
#[path = "../common/stripes.rs"]
mod stripes;
mod world;
