//! Crashes: what a killed program, a full disk, a damaged file or a second process leaves behind, on a study of a second.
//! A small number of each; `--test crash-matrix` (docs/reliability.md) runs thousands.
#![cfg(target_os = "linux")]

mod disks;
mod faults;
mod kills;
mod mounts;
#[path = "../common/stripes.rs"]
mod stripes;
mod verbs;
mod workers;
mod world;

use std::sync::OnceLock;

use tarrl_tensor::Key;

use crate::world::Reference;

fn reference() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(Reference::new)
}

#[test]
fn killed_in_every_stage_the_study_ends_with_the_same_bits() {
    let hits = kills::run(reference(), 24, Key::new(1).fold("kills"));
    assert_eq!(hits.values().sum::<usize>(), 24, "{hits:?}");
    assert!(hits.len() >= 4, "hardly any stage was hit: {hits:?}");
}

#[test]
fn on_a_full_disk_nothing_finished_is_lost() {
    if mounts::allowed() {
        assert_eq!(disks::run(reference(), 8, Key::new(1).fold("disks")).values().sum::<usize>(), 8);
    } else {
        println!("did not run: full disks, because this machine lets no user mount a file system");
    }
}

#[test]
fn where_files_cannot_grow_nothing_finished_is_lost() {
    assert!(disks::run_with_short_files(reference(), 8, Key::new(1).fold("short files")) > 0);
}

#[test]
fn a_damaged_file_costs_the_job_that_wrote_it_and_no_other() {
    assert!(faults::damage(reference(), 5) > 5);
}

#[test]
fn a_damaged_or_missing_file_of_the_data_is_named_and_costs_nothing_finished() {
    faults::damage_data(reference(), 7);
}

#[test]
fn a_read_only_folder_is_one_error_and_changes_nothing() {
    if mounts::allowed() {
        faults::read_only(reference());
    } else {
        println!("did not run: read-only folders, because this machine lets no user mount a file system");
    }
}

#[test]
fn a_verb_that_is_killed_and_run_again_leaves_the_same_files() {
    let hits = verbs::run(reference(), 3, Key::new(1).fold("verbs"));
    assert!(hits.values().all(|stops| *stops >= 3), "{hits:?}");
}

#[test]
fn a_verb_run_thrice_at_once_leaves_the_files_of_one() {
    verbs::together(reference());
}

#[test]
fn a_verb_without_space_keeps_the_old_file() {
    if mounts::allowed() {
        verbs::without_space(reference());
    } else {
        println!("did not run: verbs on full disks, because this machine lets no user mount a file system");
    }
}

#[test]
fn two_workers_leave_the_files_of_one_and_each_does_a_part() {
    workers::share(reference());
}

#[test]
fn two_workers_that_are_killed_in_turn_leave_the_bits_of_one() {
    let hits = workers::run(reference(), 20, Key::new(1).fold("workers"));
    assert_eq!(hits.values().sum::<usize>(), 20, "{hits:?}");
}

#[test]
fn single_jobs_say_by_their_exit_code_what_became_of_them() {
    workers::single_jobs(reference());
}

#[test]
fn several_programs_in_one_folder_share_the_work_and_none_fails() {
    faults::together(reference(), 3, Key::new(1).fold("together"));
}
