//! `tarrl evaluate`: everything that is measured of one encoder on one dataset, as a page.

mod arguments;
mod attacks;
mod certificates;
mod clean;
mod displacement;
mod distance_figures;
mod distances;
mod jobs;
mod page;
mod radius;
mod records;
mod subject;

use std::rc::Rc;
use std::time::{Duration, Instant};

use tarrl_jobs::machine;
use tarrl_jobs::{Display, Graph, Plan, RunEnvironment, Runs, Session, count, execute};
use tarrl_report::{prepare, write};

pub(crate) use self::arguments::Evaluate;
use self::jobs::jobs;
use self::subject::Subject;
use crate::signals;
use crate::stdout::{note, outln};
use crate::workspace::workspace_root;

impl Evaluate {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let deadline =
            self.time_limit.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes));
        let radii = self.radii()?;
        let subject = Rc::new(Subject::open(self, radii)?);
        let mut graph = Graph::default();
        let jobs = jobs(&subject, &mut graph);
        let runs = Runs::new(&self.out, "");
        let claims = runs.open()?;
        let stop = signals::stop(deadline)?;
        prepare(&self.out)?;
        let plan = Plan::new(&graph, &runs);
        let done = plan.jobs.len() - plan.open().count();
        note!(
            "{}",
            subject.facts.iter().map(|(name, fact)| format!("{name}: {fact}")).collect::<Vec<_>>().join("\n")
        );
        note!("{}, {done} done already, in {}", count(plan.jobs.len()), self.out.display());
        let display = Display::stderr(&plan);
        let provenance = machine::provenance_on(workspace_root(), &subject.device);
        let environment = RunEnvironment { provenance, device: subject.device.clone() };
        let session = Session {
            runs: &runs,
            claims: &claims,
            environment: &environment,
            stop: &stop,
            display: &display,
        };
        let summary = execute(&plan, &session);
        drop(display);
        let finished = summary.into_result()?;
        let results = page::Results::new(&subject, &jobs, &finished)?;
        let report = results.report(&graph, &environment.provenance);
        write(&report, &self.out)?;
        records::write(&results, &self.out)?;
        for table in report.tables.iter().filter(|table| !table.detail) {
            outln!("{}", tarrl_report::markdown::table(table));
        }
        outln!("{}", report.claim);
        outln!("\nThe page: {}", self.out.join("index.html").display());
        Ok(())
    }
}
