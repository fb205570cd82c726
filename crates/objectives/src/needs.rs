//! What an objective asks of a method, so that a wrong combination is refused before it runs.

/// What an objective needs beside the embeddings of the views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A predictor on top of the projector, whose outputs are the online embeddings.
    pub predictor: bool,
    /// Targets: embeddings of the views that receive no gradient. From the momentum network if there must be one, else
    /// from the network itself, before the predictor.
    pub targets: bool,
    /// A network that follows the trained one as a moving average.
    pub momentum: bool,
    /// A queue of so many keys.
    pub queue: Option<usize>,
    /// A label for each image: its class, or what stands for it.
    pub labels: bool,
    /// A center of the teacher's logits.
    pub center: bool,
    /// A last layer of so many unit prototypes on unit embeddings.
    pub prototypes: Option<usize>,
    /// A key for each step, to draw from.
    pub key: bool,
}

/// The first number that makes no sense.
#[derive(Default)]
pub(crate) struct Fault(Option<String>);

impl Fault {
    pub(crate) fn positive(&mut self, name: &str, value: f64) {
        self.demand(value > 0.0 && value.is_finite(), name, value, "a positive number");
    }

    pub(crate) fn weight(&mut self, name: &str, value: f64) {
        self.demand(value >= 0.0 && value.is_finite(), name, value, "0 or a positive number");
    }

    pub(crate) fn share(&mut self, name: &str, value: f64) {
        self.demand((0.0..1.0).contains(&value), name, value, "a number in [0, 1)");
    }

    pub(crate) fn count(&mut self, name: &str, value: usize) {
        self.demand(value > 0, name, value, "at least 1");
    }

    pub(crate) fn at_least_two(&mut self, name: &str, value: usize) {
        self.demand(value > 1, name, value, "at least 2");
    }

    pub(crate) fn found(self) -> Result<(), String> {
        self.0.map_or(Ok(()), Err)
    }

    fn demand(&mut self, holds: bool, name: &str, value: impl std::fmt::Display, wanted: &str) {
        if !holds && self.0.is_none() {
            self.0 = Some(format!("the objective's {name} is {value}; give {wanted}"));
        }
    }
}
