//! Experiment files: checks all profiles, methods and published figures of a folder against each other.

use std::collections::BTreeSet;
use std::path::Path;

use tarrl_train::Method;

use crate::profile::{Profile, toml_files};
use crate::{artifacts, published};

/// Reads every profile, every method and the published figures in `folder`; the faults are sentences that name the
/// file, those of files that name a method which is not there included.
///
/// # Errors
/// Fails if a folder cannot be listed.
pub fn faults(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut methods = Vec::new();
    let mut needed = Vec::new();
    for path in toml_files(&folder.join("methods"))? {
        methods.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        match Method::read(&path) {
            Ok(method) => needed.extend(method.needed().map(|name| (path.clone(), name.clone()))),
            Err(error) => faults.push(error.to_string()),
        }
    }
    let missing = needed.into_iter().filter(|(_, name)| !methods.contains(name));
    faults.extend(missing.map(|(path, name)| {
        format!(
            "{}: needs the encoder of the method `{name}`, but there is no experiments/methods/{name}.toml",
            path.display()
        )
    }));
    let published = published::read(folder).and_then(|figures| published::check_methods(&figures, &methods));
    faults.extend(published.err().map(|error| format!("{error:#}")));
    let profiles = folder.join("profiles");
    for name in Profile::names(&profiles)? {
        match Profile::read(&profiles, &name) {
            Err(error) => faults.push(format!("profile {name}: {error:#}")),
            Ok(profile) => {
                let artifacts = artifacts::of_profile(&profile).err();
                faults.extend(artifacts.map(|error| format!("profile {name}: {error:#}")));
                let missing: BTreeSet<_> =
                    profile.named().filter(|method| !methods.contains(method)).collect();
                faults.extend(missing.into_iter().map(|method| {
                    format!(
                        "profile {name}: names the method `{method}`, but there is no experiments/methods/{method}.toml"
                    )
                }));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn check(methods: &[(&str, &str)], profile: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in [("methods", methods), ("profiles", &[("smoke", profile)])] {
            fs::create_dir(folder.path().join(name)).unwrap();
            for (file, text) in files {
                fs::write(folder.path().join(name).join(format!("{file}.toml")), text).unwrap();
            }
        }
        faults(folder.path()).unwrap()
    }

    const METHOD: &str =
        "title = \"SimCLR\"\nviews = [\"strong\", \"strong\"]\nobjective = { kind = \"nt-xent\" }\n";

    /// The project's own smoke profile, reduced to one method.
    fn profile(method: &str) -> String {
        let path = crate::repository().join("experiments/profiles/smoke.toml");
        let text = fs::read_to_string(path).unwrap();
        let (before, after) = text.split_once("methods = [").unwrap();
        let (_, after) = after.split_once(']').unwrap();
        let text = format!("{before}methods = [{method:?}]{after}");
        let (text, _) = text.split_once("[[variant]]").unwrap();
        let (before, after) = text.split_once("[tasks]").unwrap();
        let text = format!("{before}[bound]{}", after.split_once("[bound]").unwrap().1);
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        for line in &mut lines {
            match line.split(" = ").next() {
                Some("pairs") => *line = format!("pairs = [{{ without = {method:?}, with = {method:?} }}]"),
                Some("tables") => *line = "tables = [\"T1\", \"T6\"]".to_owned(),
                Some("sweep" | "subject") => line.clear(),
                _ => {}
            }
        }
        lines.join("\n")
    }

    #[test]
    fn sound_files_pass() {
        assert_eq!(check(&[("simclr", METHOD)], &profile("simclr")), [""; 0]);
    }

    #[test]
    fn a_method_that_is_missing_or_faulty_is_found() {
        let found = check(&[("simclr", "title = ")], &profile("tarr"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("simclr.toml:1: "), "{found:?}");
        assert!(found[1].contains("profile smoke: names the method `tarr`"), "{found:?}");
    }

    #[test]
    fn a_teacher_or_start_that_is_missing_is_found() {
        let taught = "title = \"DeACL\"\nteacher = \"simclr\"\n[distillation]\n";
        let found = check(&[("deacl", taught)], &profile("deacl"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("needs the encoder of the method `simclr`"), "{found:?}");
        assert_eq!(check(&[("deacl", taught), ("simclr", METHOD)], &profile("deacl")), [""; 0]);
        let started = format!("start = \"warm\"\n{METHOD}");
        let found = check(&[("simclr", &started)], &profile("simclr"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("needs the encoder of the method `warm`"), "{found:?}");
    }

    #[test]
    fn a_faulty_profile_is_found() {
        let found = check(&[("simclr", METHOD)], &profile("simclr").replace("seeds", "sedes"));
        assert!(found[0].contains("unknown key `sedes`; did you mean `seeds`?"), "{found:?}");
    }

    #[test]
    fn the_projects_own_files_are_sound() {
        assert_eq!(faults(&crate::repository().join("experiments")).unwrap(), [""; 0]);
    }
}
