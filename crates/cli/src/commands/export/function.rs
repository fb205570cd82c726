//! What is exported: a function of images with the names of its constants.

use std::path::Path;

use tarrl_encoders::Encoder;
use tarrl_interop::onnx;
use tarrl_interop::onnx::ExportBatch;
use tarrl_jobs::files::hash;
use tarrl_study::heads::{AnyHead, Layer};
use tarrl_tensor::{DType, Device, Tensor, Transpose};

/// A function of images with the names of its constants.
pub(super) struct Function {
    pub(super) run: Box<dyn Fn(&Tensor) -> Tensor>,
    pub(super) names: Vec<(String, Tensor)>,
    pub(super) metadata: Vec<(String, String)>,
    /// Height, width and channels.
    pub(super) image: [usize; 3],
    pub(super) dtype: DType,
}

impl Function {
    /// An encoder in the type `dtype` of its parameters.
    pub(super) fn of_encoder(encoder: &Encoder, hash: String, image: [usize; 3], dtype: DType) -> Self {
        let inference = encoder.inference();
        let config = serde_json::to_string(encoder.config()).unwrap_or_default();
        Function {
            names: inference.constants(),
            metadata: vec![("tarrl.config".into(), config), ("tarrl.source_blake3".into(), hash)],
            image,
            dtype,
            run: Box::new(move |x| inference.forward(x)),
        }
    }

    /// With a head on it, as `fc`.
    pub(super) fn with_head(self, head: &AnyHead, path: &Path, device: &Device) -> anyhow::Result<Self> {
        let dtype = self.dtype;
        let tensors = |Layer { weight, bias }: &Layer| {
            let k = bias.len();
            [Tensor::new(device, [k, weight.len() / k], weight), Tensor::new(device, [k], bias)]
                .map(|t| t.cast(dtype))
        };
        let last;
        let mut hidden = None;
        match head {
            AnyHead::Linear(head) => {
                last = tensors(&Layer { weight: head.weight().to_vec(), bias: head.bias().to_vec() });
            }
            AnyHead::Mlp { layers: [first, second], .. } => {
                hidden = Some(tensors(first));
                last = tensors(second);
            }
            AnyHead::Regression { layer, .. } => last = tensors(layer),
        }
        let Function { run, mut names, mut metadata, image, dtype } = self;
        metadata.push(("tarrl.head_blake3".into(), hash(path)?));
        for (name, layer) in hidden
            .iter()
            .map(|layer| ("fc.0", layer))
            .chain([(if hidden.is_some() { "fc.2" } else { "fc" }, &last)])
        {
            names.push((format!("{name}.weight"), layer[0].clone()));
            names.push((format!("{name}.bias"), layer[1].clone()));
        }
        let run = move |x: &Tensor| {
            let apply =
                |z: &Tensor, [weight, bias]: &[Tensor; 2]| &z.matmul_with(weight, Transpose::RIGHT) + bias;
            let mut z = run(x);
            if let Some(hidden) = &hidden {
                z = apply(&z, hidden).relu();
            }
            apply(&z, &last)
        };
        Ok(Function { run: Box::new(run), names, metadata, image, dtype })
    }

    /// The ONNX file.
    pub(super) fn bytes(&self, batch: ExportBatch, device: &Device) -> anyhow::Result<Vec<u8>> {
        let what = onnx::Export {
            image: self.image,
            dtype: self.dtype,
            batch,
            names: &self.names,
            metadata: &self.metadata,
        };
        Ok(onnx::export(&*self.run, &what, device)?)
    }
}
