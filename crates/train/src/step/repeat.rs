//! Steps that are one like the other: a device that can, captures the second and queues the work of the others as a whole.

use super::{Networks, Starts, StepInput, StepOutput, step};
use crate::memory::Memory;
use crate::method::Method;
use crate::model::Model;
use crate::momentum::Slow;
use std::cell::RefCell;
use std::rc::Rc;
use tarrl_encoders::{InferenceEncoder, Module, track};
use tarrl_tensor::{Array, CapturedFn, DType, Key, Tensor, cpu};

/// The steps of one training.
///
/// A step is a function of arrays: the networks, the images, their labels, and the points that attacks begin at. What else
/// goes in are settings that stay from step to step, and where one has changed, such as a radius that rises, the step runs
/// as it is. So does one that brings something from the host after it has begun, as an objective that draws, a maximizer
/// that draws as it goes, or one with a memory do.
pub(crate) struct Repeated<'a> {
    replayed: CapturedFn<Function<'a>>,
    beside: Rc<RefCell<Option<Beside<'a>>>>,
    found: Rc<RefCell<Option<StepOutput>>>,
    /// What a step finds, with nothing in the places of its arrays.
    form: StepOutput,
    settings: Option<Settings>,
}

type Function<'a> = Box<dyn Fn(&[Tensor]) -> Vec<Tensor> + 'a>;

/// What a step takes beside arrays. The arrays in here are those of the call before the function is captured, and only
/// their number counts.
struct Beside<'a> {
    method: &'a Method,
    model: Model,
    slow: Option<Slow>,
    teacher: Option<InferenceEncoder>,
    starts: Starts,
    views: usize,
    clusters: usize,
    key: Key,
    keys: Vec<Key>,
    scales: [f64; 3],
}

/// Numbers of a step on the host, as far as the method reads them.
#[derive(Clone, Copy, PartialEq)]
struct Settings {
    adversary: Option<[f64; 2]>,
    regularizer: Option<f64>,
    certified: Option<f64>,
}

impl<'a> Repeated<'a> {
    /// No step yet.
    pub(crate) fn new() -> Self {
        let (beside, found) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(None)));
        let replayed: Function<'a> = Box::new({
            let (beside, found) = (Rc::clone(&beside), Rc::clone(&found));
            move |arrays| {
                let beside = beside.borrow();
                let mut output = beside.as_ref().map(|beside: &Beside<'_>| beside.step(arrays));
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
        Repeated {
            replayed: CapturedFn::new(replayed),
            beside,
            found,
            form: StepOutput::default(),
            settings: None,
        }
    }

    /// [`step`], to the same bits.
    pub(crate) fn step(
        &mut self,
        net: &Networks<'_>,
        method: &'a Method,
        input: &StepInput<'_>,
    ) -> StepOutput {
        let settings = Settings::of(method, input);
        if self.settings.replace(settings) != Some(settings) {
            self.replayed.forget();
        }
        let mut arrays = Vec::new();
        let mut collect = |module: &dyn Module| module.visit(&mut |_, _, value| arrays.push(value.detach()));
        collect(net.model);
        if let Some(slow) = net.slow {
            collect(slow.module());
        }
        arrays.extend(input.views.iter().cloned());
        arrays.extend([input.labels].into_iter().chain(input.clusters).map(|labels| labels.clone().into()));
        arrays.extend(input.starts.each().cloned());
        self.beside.replace(Some(Beside {
            method,
            model: net.model.clone(),
            slow: net.slow.cloned(),
            teacher: net.teacher.cloned(),
            starts: input.starts.clone(),
            views: input.views.len(),
            clusters: input.clusters.len(),
            key: input.key,
            keys: input.keys.to_vec(),
            scales: [input.share, input.epsilon_scale, input.certified_scale],
        }));
        let results = self.replayed.call(&arrays);
        self.beside.replace(None);
        if let Some(form) = self.found.take() {
            self.form = form;
        }
        let (mut output, mut results) = (self.form.clone(), results.into_iter());
        output.exchange(&mut |_| results.next().expect("a result in each place").array().clone());
        output
    }

    /// Whether steps of this training can be one like the other on the device: not with a memory, which is read on the host.
    pub(crate) fn suits(model: &Model, memory: &Memory) -> bool {
        let mut captures = false;
        model.visit(&mut |_, _, value| captures |= value.device().captures());
        captures && memory.queue.is_none() && memory.center.is_none()
    }
}

impl Beside<'_> {
    /// The step on `arrays`, in the order of [`Repeated::step`].
    fn step(&self, arrays: &[Tensor]) -> StepOutput {
        let mut arrays = arrays.iter().cloned();
        let (mut model, mut slow) = (self.model.clone(), self.slow.clone());
        let mut put = |module: &mut dyn Module| {
            module.visit_mut(&mut |_, _, value| *value = arrays.next().expect("an array for each tensor"));
        };
        put(&mut model);
        if let Some(slow) = &mut slow {
            put(slow.module_mut());
        }
        track(&mut model);
        let views: Vec<Tensor> = arrays.by_ref().take(self.views).collect();
        let labels: Vec<Array> =
            arrays.by_ref().take(1 + self.clusters).map(|labels| labels.array().clone()).collect();
        let [share, epsilon_scale, certified_scale] = self.scales;
        let input = StepInput {
            views: &views,
            labels: &labels[0],
            clusters: &labels[1..],
            memory: &Memory::default(),
            key: self.key,
            share,
            epsilon_scale,
            certified_scale,
            keys: &self.keys,
            starts: &self.starts.with(arrays),
        };
        let networks = Networks { model: &model, slow: slow.as_ref(), teacher: self.teacher.as_ref() };
        step(&networks, self.method, &input)
    }
}

impl Settings {
    fn of(method: &Method, input: &StepInput<'_>) -> Self {
        Settings {
            adversary: method.adversary.as_ref().map(|adversary| adversary.weights(input.share)),
            regularizer: method.regularizer.as_ref().map(|_| input.epsilon_scale),
            certified: method.certified.as_ref().map(|_| input.certified_scale),
        }
    }
}
