//! The time of an imported ONNX file beside that of the native encoder: one step of an attack (forward and gradient), and a
//! certificate. Both are run in turns; the least time of each counts.
//!
//! `ratio [TURNS]`

use std::error::Error;
use std::time::{Duration, Instant};

use tarrl_attacks::Threat;
use tarrl_certify::{CertifyConfig, Effort, Network, certify};
use tarrl_encoders::{Arch, Encoder, EncoderConfig};
use tarrl_interop::onnx::{Export, ExportBatch, Graph, export};
use tarrl_tensor::{Arithmetic, Cpu, DType, Key, Random, Tensor, grad};

type Function<'a> = &'a dyn Fn(&Tensor) -> Tensor;

fn least(turns: usize, functions: [Function<'_>; 2], work: &dyn Fn(Function<'_>)) -> [f64; 2] {
    let mut least = [Duration::MAX; 2];
    for _ in 0..turns {
        for (function, least) in functions.into_iter().zip(&mut least) {
            let begin = Instant::now();
            work(function);
            *least = begin.elapsed().min(*least);
        }
    }
    least.map(|time| time.as_secs_f64())
}

fn main() -> Result<(), Box<dyn Error>> {
    let turns = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let device = Cpu { threads: 1, arithmetic: Arithmetic::Direct }.open();
    for (arch, width, effort) in
        [(Arch::ConvSmall, 1.0, Effort::Full), (Arch::ResNet18Cifar, 0.25, Effort::Linear)]
    {
        let config = EncoderConfig { arch, width, in_channels: 3, ..EncoderConfig::default() };
        let encoder = Encoder::new(&config, &device, Key::new(1)).inference();
        let names = encoder.constants();
        // A certificate of a whole image takes minutes; one of a small image does not.
        let graph = |side: usize| -> Result<Graph, Box<dyn Error>> {
            let what = Export {
                image: [side, side, 3],
                dtype: DType::F32,
                batch: ExportBatch::Any,
                names: &names,
                metadata: &[],
            };
            let bytes = export(&|x| encoder.forward(x), &what, &device)?;
            Ok(Graph::from_bytes(&bytes, &|_, _, _| Err(String::new()), &device)?)
        };
        let (graph, small) = (graph(32)?, graph(8)?);
        let keys: Vec<Key> = (0..8usize).map(|i| Key::new(2).fold(i)).collect();
        let x = Tensor::random(&device, Random::Uniform, &keys, &[32, 32, 3], DType::F32);
        let functions: [Function<'_>; 2] = [&|x| encoder.forward(x), &|x| graph.forward(x)];
        let attack = least(turns, functions, &|f| {
            let x = x.requires_grad();
            let gradient = grad(&f(&x).square().sum_all(), &[&x]);
            assert_eq!(gradient[0].shape(), x.shape());
        });
        let threat = Threat::linf(0.5 / 255.0);
        let config = CertifyConfig { threat, effort, generators: 16, ..CertifyConfig::default() };
        let one = x.slice(0, 0, 1).slice(1, 0, 8).slice(2, 0, 8);
        let functions: [Function<'_>; 2] = [&|x| encoder.forward(x), &|x| small.forward(x)];
        let certificate = least(turns.div_ceil(10), functions, &|f| {
            let network = Network::trace(f, &one).expect("its ops have rules");
            certify(&network, &one, &config).expect("pixels are in range");
        });
        let shown = |[native, imported]: [f64; 2]| {
            format!("{native:.4} s native, {imported:.4} s imported, {:.3}", imported / native)
        };
        println!(
            "{arch:?}: attack step of 8 images {}; certificate of one of 8×8 {}",
            shown(attack),
            shown(certificate)
        );
    }
    Ok(())
}
