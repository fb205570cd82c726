//! The options that choose a study and where it runs, shared by the verbs that work on one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tarrl_data::Catalog;
use tarrl_jobs::machine;
use tarrl_jobs::{Claims, Graph, RunEnvironment, Runs, write_graph};
use tarrl_study::context::StudyContext;
use tarrl_study::profile::Profile;
use tarrl_study::study::Study;
use tarrl_study::{artifacts, published};

use crate::device::DeviceName;
use crate::limits;
use crate::workspace::workspace_root;

/// Which study, where its files are, and on what it runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct StudyArgs {
    /// Which study: a file of EXPERIMENTS/profiles without its ending (smoke, default, frontier, headline, headline-cifar, selection,
    /// tasks, objectives, certified, full, cifar, cifar100, or your own)
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,

    /// Only these tables and figures, and what they need
    #[arg(long, value_name = "TABLE,..", value_delimiter = ',', value_parser = artifact)]
    pub(crate) only: Vec<&'static str>,

    /// Only these methods of the profile, its subject among them
    #[arg(long, value_name = "METHOD,..", value_delimiter = ',')]
    methods: Vec<String>,

    /// Number of seeds, instead of the profile's; cells become mean ± half-width over them
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("--seeds"))]
    seeds: Option<u32>,

    /// Number of threads [default: all cores]; results are the same bits for any number
    #[arg(long, value_name = "N", value_parser = limits::whole::<u16>("--threads"))]
    threads: Option<u16>,

    /// Folder for the runs; each profile has a folder of its own in it
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,

    /// Folder for datasets that were fetched or imported
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("data"), hide_default_value = true)]
    data: PathBuf,

    /// Folder with your own `methods` and `profiles`, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("experiments"), hide_default_value = true)]
    experiments: PathBuf,

    /// Folder with your own dataset manifests, instead of this project's
    #[arg(long, value_name = "DIR", default_value_os_t = workspace_root().join("datasets"), hide_default_value = true)]
    datasets: PathBuf,

    /// Where tensors are computed: cpu, or cuda:0 for an NVIDIA GPU
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceName,
}

/// The id of a table or figure, given in any case.
fn artifact(text: &str) -> Result<&'static str, String> {
    artifacts::find(text).map(|artifact| artifact.id())
}

/// A study that can run.
pub(crate) struct OpenStudy {
    pub(crate) title: String,
    pub(crate) context: Arc<StudyContext>,
    pub(crate) study: Study,
    pub(crate) runs: Runs,
}

impl StudyArgs {
    /// Lays out the study. Creates nothing.
    pub(crate) fn open(&self) -> anyhow::Result<OpenStudy> {
        let mut profile = Profile::read(&self.experiments.join("profiles"), &self.profile)?;
        keep_methods(&mut profile, &self.methods)?;
        profile.seeds = self.seeds.unwrap_or(profile.seeds);
        let title = profile.title.clone();
        let catalog = Catalog::new(&self.datasets, &self.data);
        let device = self.device.open(self.threads.map_or(0, usize::from))?;
        let mut context = StudyContext::new(profile, catalog, device);
        context.published = published::read(&self.experiments)?;
        let context = Arc::new(context);
        let study = Study::new(&context, &self.experiments.join("methods"))?.only(&self.only)?;
        Ok(OpenStudy { title, context, study, runs: self.runs() })
    }

    /// Its name.
    pub(crate) fn profile(&self) -> &str {
        &self.profile
    }

    /// The same study on another number of threads.
    pub(crate) fn with_threads(&self, threads: usize) -> Self {
        Self { threads: Some(threads.try_into().unwrap_or(u16::MAX)), ..self.clone() }
    }

    /// Where the study's files are.
    pub(crate) fn runs(&self) -> Runs {
        Runs::new(&self.out, &self.profile)
    }

    /// The options as words of a command line, with absolute paths, for a process elsewhere.
    pub(crate) fn words(&self) -> anyhow::Result<Vec<String>> {
        let mut words = vec!["--profile".to_owned(), self.profile.clone()];
        if !self.only.is_empty() {
            words.extend(["--only".to_owned(), self.only.join(",")]);
        }
        if !self.methods.is_empty() {
            words.extend(["--methods".to_owned(), self.methods.join(",")]);
        }
        for (flag, number) in [("--seeds", self.seeds), ("--threads", self.threads.map(u32::from))] {
            words.extend(number.into_iter().flat_map(|number| [flag.to_owned(), number.to_string()]));
        }
        for (flag, folder) in [
            ("--out", &self.out),
            ("--data", &self.data),
            ("--experiments", &self.experiments),
            ("--datasets", &self.datasets),
        ] {
            let folder = std::path::absolute(folder)?;
            let text = folder.to_str().map(str::to_owned);
            let name = || anyhow::anyhow!("{} is not UTF-8; choose another {flag}", folder.display());
            words.extend([flag.to_owned(), text.ok_or_else(name)?]);
        }
        words.extend(["--device".to_owned(), self.device.to_string()]);
        Ok(words)
    }
}

/// Keeps `only` of the profile's methods, in its order; all of them where none is named.
fn keep_methods(profile: &mut Profile, only: &[String]) -> anyhow::Result<()> {
    if only.is_empty() {
        return Ok(());
    }
    let known = profile.methods.join(", ");
    if let Some(name) = only.iter().find(|name| !profile.methods.contains(name)) {
        anyhow::bail!("--methods names `{name}`, which the profile does not compare; it has {known}");
    }
    if let Some(subject) = profile.subject.as_ref().filter(|subject| !only.contains(subject)) {
        anyhow::bail!("--methods lacks `{subject}`, which the profile compares the others with; add it");
    }
    profile.methods.retain(|name| only.contains(name));
    Ok(())
}

impl OpenStudy {
    pub(crate) fn graph(&self) -> &Graph {
        self.study.graph()
    }

    /// Opens the run folder, with the graph in it.
    pub(crate) fn claims(&self, heartbeat: Option<u32>) -> anyhow::Result<Claims> {
        let heartbeat = heartbeat.map_or(Claims::HEARTBEAT, |seconds| Duration::from_secs(seconds.into()));
        let claims = self.runs.open_with(heartbeat)?;
        write_graph(&self.runs, self.graph())?;
        Ok(claims)
    }

    pub(crate) fn environment(&self) -> RunEnvironment {
        let device = self.context.device.clone();
        RunEnvironment { provenance: machine::provenance_on(workspace_root(), &device), device }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile::read(&workspace_root().join("experiments/profiles"), "headline").unwrap()
    }

    #[test]
    fn methods_keep_the_order_of_the_profile() {
        let mut few = profile();
        keep_methods(&mut few, &["tarr".to_owned(), "acl".to_owned()]).unwrap();
        assert_eq!(few.methods, ["acl", "tarr"]);
        let mut all = profile();
        keep_methods(&mut all, &[]).unwrap();
        assert_eq!(all, profile());
    }

    #[test]
    fn methods_that_do_not_fit_are_refused() {
        for (only, cause) in [
            (["tarr", "byol"], "names `byol`, which the profile does not compare; it has simclr, rocl,"),
            (["acl", "simclr"], "lacks `tarr`"),
        ] {
            let error = keep_methods(&mut profile(), &only.map(str::to_owned)).unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
    }
}
