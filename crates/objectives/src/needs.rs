//! The requirements of a loss: views, networks, labels and memory.

/// What a loss needs besides the online embeddings of its views. A wrong combination is refused before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The views of an image that it compares.
    pub views: Views,
    /// Logits of a linear classifier on the representations, in place of a projector's embeddings.
    pub classifier: bool,
    /// A predictor on top of the projector, whose outputs are the online embeddings.
    pub predictor: bool,
    /// Targets: embeddings of the views that receive no gradient. They come from the momentum encoder if there is one,
    /// else from the trained network before its predictor.
    pub targets: bool,
    /// A momentum encoder: an exponential moving average of the trained network.
    pub momentum: bool,
    /// A queue of this many keys.
    pub queue: Option<usize>,
    /// A number of images that the batch is a multiple of.
    pub block: Option<usize>,
    /// A label for each image.
    pub labels: bool,
    /// A running center of the targets.
    pub center: bool,
    /// A last layer of this many unit prototypes on unit embeddings.
    pub prototypes: Option<usize>,
}

/// How many views a loss compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// At least this many views of an image.
    AtLeast(usize),
    /// Two: an image and its adversarial neighbor.
    CleanAndAdversarial,
}

/// Two views or more.
impl Default for Views {
    fn default() -> Self {
        Views::AtLeast(2)
    }
}
