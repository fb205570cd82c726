//! T12 from profile to table: a method with noise is trained at toy size, certified, and judged by every kind of predictor.

use std::path::Path;
use std::sync::Arc;

use tarrl_data::Catalog;
use tarrl_jobs::{Display, Plan, RunEnvironment, Runs, Session, Stop, execute, machine};
use tarrl_report::Value;
use tarrl_study::context::StudyContext;
use tarrl_study::profile::{Profile, Subset};
use tarrl_study::study::Study;

#[test]
fn attacked_errors_lie_below_their_bounds_in_every_row() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut profile = Profile::read(&root.join("experiments/profiles"), "smoke").unwrap();
    profile.methods = vec!["tarr-noise".into()];
    profile.subject = None;
    profile.tables = vec!["T12".into()];
    (profile.pairs, profile.sweep, profile.attack.autoattack) = (vec![], None, 0);
    (profile.frontier, profile.variants) = (None, vec![]);
    profile.subset = Subset { train: Some(200), test: Some(20), holdout: None };
    let tasks = profile.tasks.as_mut().unwrap();
    (tasks.methods, tasks.transfer) = (None, vec![]);

    let catalog = Catalog::new(root.join("datasets"), root.join("data"));
    let context = Arc::new(StudyContext::new(profile, catalog, tarrl_tensor::cpu()));
    let study = Study::new(&context, &root.join("experiments/methods")).unwrap();
    let kinds: Vec<_> = study.graph().jobs().iter().map(|job| job.spec().stage.kind).collect();
    // The start of the method is trained first.
    assert_eq!(kinds, ["data", "pretrain", "pretrain", "certify", "any-predictor"]);

    let out = tempfile::tempdir().unwrap();
    let runs = Runs::new(out.path(), "toy");
    let claims = runs.open().unwrap();
    let plan = Plan::new(study.graph(), &runs);
    let display = Display::lines(&plan, Box::new(std::io::sink()));
    let provenance = machine::provenance_on(root, &context.device);
    let environment = RunEnvironment { provenance, device: context.device.clone() };
    let (environment, stop) = (&environment, &Stop::default());
    let session = Session { runs: &runs, claims: &claims, environment, stop, display: &display };
    let finished = execute(&plan, &session).into_result().unwrap();

    let report = study.report(&finished, &environment.provenance).unwrap();
    let table = &report.tables[0];
    assert_eq!((table.id.as_str(), table.rows.len(), table.columns.len()), ("T12", 4, 4));
    for row in &table.rows {
        let value = |cell: usize| match &row.cells[cell].as_ref().unwrap().value {
            Value::Measured(estimate) => estimate.mean,
            Value::Published(_) => panic!("{}: nothing is published", row.label),
        };
        let [clean, attacked, bound, certified] = [0, 1, 2, 3].map(value);
        // Ten images of 50 draws: 500 shares differ by √(ln 1000 / 1000) = 8.3 points at most.
        assert!(
            attacked - 8.4 <= bound && bound <= certified + 1e-9,
            "{}: {attacked} {bound} {certified}",
            row.label
        );
        assert!(clean <= bound && certified <= 100.0, "{}: {clean} {bound} {certified}", row.label);
    }
}
