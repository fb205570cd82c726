//! Damaged and missing files, read-only folders, and several processes in one folder.

use std::fs;
use std::path::Path;

use tarrl_tensor::Key;

use crate::mounts::on_read_only_disk;
use crate::world::{Reference, World, copy, failed, files, quiet, signal};

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 4] = [
    ("cut", |path| {
        let content = fs::read(path).unwrap();
        fs::write(path, &content[..content.len() / 2]).unwrap();
    }),
    ("flipped", |path| {
        let mut content = fs::read(path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(path, content).unwrap();
    }),
    ("empty", |path| fs::write(path, "").unwrap()),
    ("missing", |path| fs::remove_file(path).unwrap()),
];

/// Damages every file of every finished job in every way and runs the study again: only that job runs, with the same
/// bits. Returns how many damages there were.
pub(crate) fn damage(reference: &Reference, every: usize) -> usize {
    let mut count = 0;
    for job in &reference.jobs {
        for (path, _) in files(&reference.world.jobs().join(&job.key)) {
            let name = path.file_name().unwrap().to_str().unwrap();
            // These two are for people; no result rests on them.
            if ["config.json", "log.txt"].contains(&name) {
                continue;
            }
            for (how, damage) in DAMAGES {
                count += 1;
                if count % every != 0 {
                    continue;
                }
                let world = World::new();
                copy(&reference.world.path("runs"), &world.path("runs"));
                damage(&world.jobs().join(&job.key).join(name));
                let story = format!("{name} of {} {how}", job.kind);
                let text = world.finish();
                let ran: Vec<&str> = text.lines().filter(|line| line.contains("done: ")).collect();
                // Without its manifest a job counts as interrupted, else it is named with the cause.
                let cause = if (name, how) == ("manifest.json", "missing") { "resumed: " } else { "again: " };
                assert!(ran.len() == 1 && ran[0].contains(&job.kind), "{story}: {text}");
                assert!(text.contains(&format!("{cause}{}", job.kind)), "{story}: {text}");
                reference.check(&world, &story);
            }
        }
    }
    count / every
}

/// Damages every file of the dataset in every way, before it is looked at and between two jobs that read it: the file is
/// named, and with the right one the study goes on. Returns how many damages there were.
pub(crate) fn damage_data(reference: &Reference, every: usize) -> usize {
    let names = ["train-images", "train-labels", "test-images", "test-labels"];
    let all = [0, 1, 2].into_iter().flat_map(|done| names.map(|name| (done, name)));
    let all = all.flat_map(|(done, name)| DAMAGES.map(|damage| (done, name, damage)));
    let mut count = 0;
    for (done, name, (how, damage)) in all.step_by(every) {
        count += 1;
        let world = World::begun(reference, done);
        let path = world.path("datasets/stripes").join(name);
        let whole = fs::read(&path).unwrap();
        let kept = world.kept();
        damage(&path);
        let story = format!("{name} {how} after {done} jobs");
        failed(&world.reproduce().output().unwrap(), &[name], &story);
        assert_eq!(world.kept(), kept, "{story}");
        fs::write(&path, whole).unwrap();
        world.finish();
        reference.check(&world, &story);
    }
    count
}

/// Where nothing can be written: one error, and nothing changes.
pub(crate) fn read_only(reference: &Reference) {
    for done in [0, 3, reference.jobs.len()] {
        let world = World::begun(reference, done);
        let before = files(&world.path("runs"));
        let mut command = on_read_only_disk(&world.reproduce(), &world.path("runs"));
        let story = format!("a read-only folder with {done} finished jobs");
        failed(&command.output().unwrap(), &["Read-only file system"], &story);
        assert_eq!(files(&world.path("runs")), before, "{story}");
        world.finish();
        reference.check(&world, &story);
    }
}

/// Several programs at a time in one folder, one of which is killed: they share the jobs, what the killed one left is taken
/// over, all others end well, and the bits are the same.
pub(crate) fn together(reference: &Reference, rounds: usize, key: Key) {
    for round in 0..rounds {
        let mut stream = key.fold(round).stream();
        let world = World::new();
        let start = || quiet(&mut world.reproduce()).spawn().unwrap();
        let mut children: Vec<_> = (0..2 + stream.below(6)).map(|_| start()).collect();
        std::thread::sleep(reference.start.mul_f64(6.0 * f64::from(stream.unit())));
        let killed = stream.below(children.len());
        signal(&children[killed], "KILL");
        for (i, child) in children.iter_mut().enumerate() {
            match child.wait().unwrap().code() {
                None => assert_eq!(i, killed),
                Some(0) => {}
                Some(code) => panic!("round {round} of {key:?} ended with {code}"),
            }
        }
        // Half a file of the killed one may have stayed, if all others had begun before: the next one removes it.
        world.finish();
        reference.check(&world, &format!("round {round} of {key:?}"));
    }
}
