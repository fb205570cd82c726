//! The campaign of `examples/soundness` at a small count.

#[path = "../examples/soundness/exact.rs"]
mod exact;
#[path = "../examples/soundness/networks.rs"]
mod networks;
#[path = "../examples/soundness/trial.rs"]
mod trial;

#[test]
fn no_attack_point_breaks_a_certificate_or_leaves_its_ball() {
    let mut total = trial::Counts::default();
    // Every kind of network twice in each norm.
    for number in 0..6 * networks::kinds().count() {
        total.add(trial::run(&networks::case(number), 40, tarrl_tensor::Key::new(number as u64)));
    }
    assert_eq!((total.violations, total.outside), (0, 0), "{:#?}", total.examples);
    let [single, double] = total.points;
    assert!(single > 1000 && double > 1000 && total.comparisons > 100_000, "{total:?}");
    assert!(4 * total.missed > total.planted && 2 * total.vacuous < total.certificates, "{total:?}");
}
