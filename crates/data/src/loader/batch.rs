//! Batches: some images in several views, as pixels or as bytes with their transforms.

use std::sync::mpsc::Sender;

use ndarray::Array4;
use tarrl_tensor::{Array, Device};

use crate::augment::DeviceTransforms;

/// Some images in several views.
///
/// When it is dropped, its arrays go back to the loader for a later batch; take the ones to keep out
/// with [`std::mem::take`].
#[derive(Debug)]
pub struct Batch {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The step in the epoch, from 0.
    pub step: usize,
    /// Place in the dataset of each image `(b)`.
    pub indices: Vec<usize>,
    /// The views, each `(b, h, w, c)` in [0, 1]; empty where [`on`](Batch::on) computes it on the device.
    pub views: Vec<Array4<f32>>,
    pub(super) bytes: Option<DeviceViews>,
    /// Takes the arrays back for a later batch.
    pub(super) recycle: Sender<Vec<Array4<f32>>>,
}

/// What a device needs to compute the views.
#[derive(Debug)]
pub(super) struct DeviceViews {
    pub(super) shape: (usize, usize, usize),
    pub(super) images: Vec<u8>,
    /// One for each view, `None` where the host has computed it.
    pub(super) transforms: Vec<Option<DeviceTransforms>>,
}

impl Batch {
    /// The views on `device`: computed there from bytes, or copied there, and the same pixels either way.
    ///
    /// # Panics
    /// If the loader was told to deliver [bytes](super::LoaderConfig::bytes) and the device does not augment.
    #[track_caller]
    pub fn on(&self, device: &Device) -> Vec<Array> {
        let computed = |view: usize| {
            let bytes = self.bytes.as_ref()?;
            let transforms = bytes.transforms[view].as_ref()?;
            let computed = transforms.apply(device, &bytes.images, bytes.shape);
            Some(computed.unwrap_or_else(|| panic!("Batch::on: {} does not augment bytes", device.name())))
        };
        let view = |(i, view): (usize, &Array4<f32>)| {
            computed(i).unwrap_or_else(|| Array::from_ndarray(device, view))
        };
        self.views.iter().enumerate().map(view).collect()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Where the loader is gone, nobody needs the arrays.
        let _ = self.recycle.send(std::mem::take(&mut self.views));
    }
}
