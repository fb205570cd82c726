//! What is exported, beside the function.

use tarrl_tensor::{DType, Tensor};

/// The first axis of an exported model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportBatch {
    /// One image: what verifiers take.
    #[default]
    One,
    /// Any number of images.
    Any,
}

/// What is exported, beside the function.
#[derive(Clone, Debug)]
pub struct Export<'a> {
    /// Height, width and channels of an image.
    pub image: [usize; 3],
    /// The type that the function computes in, in which its constants are recorded; the file has f32.
    pub dtype: DType,
    /// The first axis of input and output.
    pub batch: ExportBatch,
    /// Constants by name: the weights that the function uses.
    pub names: &'a [(String, Tensor)],
    /// Entries for the file's metadata.
    pub metadata: &'a [(String, String)],
}
