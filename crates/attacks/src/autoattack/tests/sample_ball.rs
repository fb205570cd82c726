//! The ball of one sample is that of the batch.

use crate::autoattack::sample_ball::SampleBall;
use crate::tests::pixel;
use crate::threat::{Norm, Threat};
use proptest::prelude::*;
use tarrl_tensor::{Tensor, cpu};

proptest! {
    /// The ball of a sample alone is that of the batch, to the bit, and holds what it projects.
    #[test]
    fn one_sample_projects_to_the_bits_of_the_batch(
        x in proptest::collection::vec(pixel(), 6),
        moved in proptest::collection::vec(-0.5f32..1.5, 6),
        epsilon in 0.01f64..0.8,
        norm in proptest::sample::select(vec![Norm::Linf, Norm::L2, Norm::L1]),
    ) {
        let threat = Threat::new(norm, epsilon);
        let sample_ball = SampleBall::new(&threat, epsilon, &x);
        let mut u = moved.clone();
        sample_ball.project(&mut u);
        let ball = threat.around(&Tensor::new(&cpu(), [1, 6], &x));
        let expected = ball.project(&Tensor::new(&cpu(), [1, 6], &moved)).to_vec::<f32>();
        prop_assert_eq!(&u, &expected);
        prop_assert!(sample_ball.contains(&u));
        prop_assert!(sample_ball.distance(&u) <= epsilon);
    }
}
