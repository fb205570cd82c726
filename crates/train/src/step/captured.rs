//! Captures the training step as a device graph on its second call and replays it afterwards.

use super::compute::compute_step;
use super::context::{Networks, StepInput};
use super::initial_points::InitialPoints;
use super::output::StepOutput;
use crate::ema_model::EmaModel;
use crate::method::Method;
use crate::model::Model;
use std::cell::RefCell;
use std::rc::Rc;
use tarrl_encoders::{InferenceEncoder, Module, Projector, track};
use tarrl_tensor::{Array, CapturedFn, DType, Key, Tensor, cpu};

/// The steps of one training, as a [`CapturedFn`].
///
/// A step is a function of arrays: networks, images, labels, and the initial points of attacks. Its other inputs are
/// settings of the host; when one changes, such as a radius that rises, the captured graph is dropped and the step runs
/// eagerly. A step that uploads host values while it runs is never captured: one with an objective or a power
/// iteration that samples, an inner maximizer that samples as it goes, or a loss with a state.
pub(crate) struct CapturedStep<'a> {
    function: CapturedFn<Function<'a>>,
    host: Rc<RefCell<Option<HostInput<'a>>>>,
    output: Rc<RefCell<Option<StepOutput>>>,
    /// The output of a step with empty arrays.
    layout: StepOutput,
    settings: Option<Settings>,
}

type Function<'a> = Box<dyn Fn(&[Tensor]) -> Vec<Tensor> + 'a>;

/// The inputs of a step that are no arrays. The networks and initial points in here give the structure alone; their
/// arrays are inputs of the function.
struct HostInput<'a> {
    method: &'a Method,
    model: Model,
    ema: Option<EmaModel>,
    teacher: Option<InferenceEncoder>,
    projector: Option<Projector>,
    initial_points: InitialPoints,
    views: usize,
    clusters: usize,
    key: Key,
    keys: Vec<Key>,
    scales: [f64; 4],
}

/// The settings of a step that the method reads on the host; a captured graph holds their values.
#[derive(Clone, Copy, PartialEq)]
struct Settings {
    adversary: Option<[f64; 2]>,
    regularizer: Option<[f64; 2]>,
    certified: Option<f64>,
}

impl<'a> CapturedStep<'a> {
    /// No step yet.
    pub(crate) fn new() -> Self {
        let (host, output) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
        let function: Function<'a> = Box::new({
            let (host, found) = (Rc::clone(&host), Rc::clone(&output));
            move |arrays| {
                let host = host.borrow();
                let mut output = host.as_ref().map(|host: &HostInput<'_>| host.step(arrays));
                let mut results = Vec::new();
                if let Some(output) = &mut output {
                    let nothing = Array::full(&cpu(), [0], DType::F32, 0.0);
                    output.exchange(&mut |array| {
                        results.push(Tensor::from(array.clone()));
                        nothing.clone()
                    });
                }
                found.replace(output);
                results
            }
        });
        CapturedStep {
            function: CapturedFn::new(function),
            host,
            output,
            layout: StepOutput::default(),
            settings: None,
        }
    }

    /// [`compute_step`], to the same bits.
    pub(crate) fn step(
        &mut self,
        networks: &Networks<'_>,
        method: &'a Method,
        input: &StepInput<'_>,
    ) -> StepOutput {
        let settings = Settings::of(method, input);
        if self.settings.replace(settings) != Some(settings) {
            self.function.forget();
        }
        let mut arrays = Vec::new();
        let mut collect = |module: &dyn Module| module.visit(&mut |_, _, value| arrays.push(value.detach()));
        collect(networks.model);
        if let Some(ema) = networks.ema {
            collect(ema.module());
        }
        arrays.extend(input.views.iter().cloned());
        arrays.extend([input.labels].into_iter().chain(input.clusters).map(|labels| labels.clone().into()));
        arrays.extend(input.initial_points.each().cloned());
        self.host.replace(Some(HostInput {
            method,
            model: networks.model.clone(),
            ema: networks.ema.cloned(),
            teacher: networks.teacher.cloned(),
            projector: networks.projector.cloned(),
            initial_points: input.initial_points.clone(),
            views: input.views.len(),
            clusters: input.clusters.len(),
            key: input.key,
            keys: input.keys.to_vec(),
            scales: [input.share, input.epsilon_scale, input.weight_scale, input.certified_scale],
        }));
        let results = self.function.call(&arrays);
        self.host.replace(None);
        // A replayed graph runs no Rust code, so that the layout is that of the last eager or captured call.
        if let Some(layout) = self.output.take() {
            self.layout = layout;
        }
        let (mut output, mut results) = (self.layout.clone(), results.into_iter());
        output.exchange(&mut |_| results.next().expect("a result in each place").array().clone());
        output
    }

    /// Whether the device captures and the step can be captured: not with a state of the loss, which the host updates.
    pub(crate) fn suits(model: &Model, has_state: bool) -> bool {
        let mut captures = false;
        model.visit(&mut |_, _, value| captures |= value.device().captures());
        captures && !has_state
    }
}

impl HostInput<'_> {
    /// The step on `arrays`, in the order of [`CapturedStep::step`].
    fn step(&self, arrays: &[Tensor]) -> StepOutput {
        let mut arrays = arrays.iter().cloned();
        let (mut model, mut ema) = (self.model.clone(), self.ema.clone());
        let mut put = |module: &mut dyn Module| {
            module.visit_mut(&mut |_, _, value| *value = arrays.next().expect("an array for each tensor"));
        };
        put(&mut model);
        if let Some(ema) = &mut ema {
            put(ema.module_mut());
        }
        track(&mut model);
        let views: Vec<Tensor> = arrays.by_ref().take(self.views).collect();
        let labels: Vec<Array> =
            arrays.by_ref().take(1 + self.clusters).map(|labels| labels.array().clone()).collect();
        let [share, epsilon_scale, weight_scale, certified_scale] = self.scales;
        let input = StepInput {
            views: &views,
            labels: &labels[0],
            clusters: &labels[1..],
            state: None,
            key: self.key,
            share,
            epsilon_scale,
            weight_scale,
            certified_scale,
            keys: &self.keys,
            initial_points: &self.initial_points.with(arrays),
            batch: None,
        };
        let networks = Networks {
            model: &model,
            ema: ema.as_ref(),
            teacher: self.teacher.as_ref(),
            projector: self.projector.as_ref(),
        };
        compute_step(&networks, self.method, &input)
    }
}

impl Settings {
    fn of(method: &Method, input: &StepInput<'_>) -> Self {
        Settings {
            adversary: method.adversary.as_ref().map(|adversary| adversary.weights(input.share)),
            regularizer: method.regularizer.as_ref().map(|_| [input.epsilon_scale, input.weight_scale]),
            certified: method.certified.as_ref().map(|_| input.certified_scale),
        }
    }
}
