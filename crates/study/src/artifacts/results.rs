//! Results of the jobs of a study, as tables and figures read them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::context::StudyContext;
use crate::layout::{Layout, MethodJobs, SeedJobs};
use crate::profile::Profile;
use tarrl_jobs::{Finished, Key};

/// Everything that an artifact reads.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    /// The methods of the study with their jobs.
    pub layout: &'a Layout,
    /// What [`Artifact::jobs`](super::Artifact::jobs) returned for the artifact that is drawn.
    pub jobs: &'a [Key],
    /// The results of all jobs.
    pub finished: &'a BTreeMap<Key, Finished>,
}

impl<'a> Results<'a> {
    /// Profile, datasets and device.
    pub fn context(&self) -> &'a StudyContext {
        &self.layout.context
    }

    /// The profile.
    pub fn profile(&self) -> &'a Profile {
        &self.layout.context.profile
    }

    /// The methods of the profile, in its order.
    pub fn methods(&self) -> &'a [MethodJobs] {
        &self.layout.methods
    }

    /// The method that the study is about: the one that the profile names, else the first with a regularizer.
    pub fn subject(&self) -> Option<&'a MethodJobs> {
        let named = self.profile().subject.as_ref();
        self.methods().iter().find(|method| match named {
            Some(name) => method.name == *name,
            None => method.method.regularizer.is_some(),
        })
    }

    /// The results of one kind of job of a method, seed by seed; seeds that lack the job are left out.
    ///
    /// # Errors
    /// If a result has another form.
    pub fn of<T: DeserializeOwned>(
        &self,
        method: &MethodJobs,
        job: impl Fn(&SeedJobs) -> Option<Key>,
    ) -> anyhow::Result<Vec<T>> {
        method.seeds.iter().filter_map(job).map(|key| self.finished[&key].parse()).collect()
    }
}
