//! Convolutions, pooling and batch normalization.

use super::super::size::Size;
use super::super::source::Node;
use super::{Kind, Layout, Live, Lowered, Lowering, Named, Operand, Pending, Value, shown};
use tarrl_tensor::{Conv, DType, Pool, Tensor};

/// The walk of a window over height and width.
struct WindowWalk {
    window: [usize; 2],
    strides: [usize; 2],
    /// Top, left, bottom, right.
    pads: [usize; 4],
    dilations: [usize; 2],
    /// Cells behind the padding that the last window of a rounded-up walk reaches.
    beyond: [usize; 2],
}

impl WindowWalk {
    /// Of a node over `input` (h, w), whose window is `kernel` if the attribute does not say.
    fn new(node: &Node, c: usize, input: [usize; 2], kernel: Option<[usize; 2]>) -> Lowered<Self> {
        let pair = |name: &str, default: [usize; 2]| -> Lowered<[usize; 2]> {
            let Some(values) = node.ints(name)? else { return Ok(default) };
            let whole =
                |&value: &i64| usize::try_from(value).ok().filter(|&value| (1..=1 << 20).contains(&value));
            match values.iter().map(whole).collect::<Option<Vec<_>>>().as_deref() {
                Some(&[h, w]) => Ok([h, w]),
                _ => Err(format!("{name} = {values:?}; only windows over height and width are supported")),
            }
        };
        let window = match kernel {
            Some(kernel) => kernel,
            None => match node.ints("kernel_shape")? {
                Some(_) => pair("kernel_shape", [1; 2])?,
                None => return Err("it has no kernel_shape".into()),
            },
        };
        if pair("kernel_shape", window)? != window {
            return Err(format!("its kernel_shape is not that of its weights, {window:?}"));
        }
        let (strides, dilations) = (pair("strides", [1; 2])?, pair("dilations", [1; 2])?);
        let reach = [0, 1].map(|axis| (window[axis] - 1) * dilations[axis] + 1);
        let mut pads = [0; 4];
        match node.text("auto_pad", "NOTSET")? {
            "NOTSET" => {
                if let Some(values) = node.ints("pads")? {
                    let whole = |&value: &i64| usize::try_from(value).ok().filter(|&value| value <= 1 << 20);
                    match values.iter().map(whole).collect::<Option<Vec<_>>>().as_deref() {
                        Some(&[top, left, bottom, right]) => pads = [top, left, bottom, right],
                        _ => return Err(format!("pads = {values:?} are not supported")),
                    }
                }
            }
            "VALID" => {}
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..2 {
                    let out = input[axis].div_ceil(strides[axis]);
                    let total = ((out - 1) * strides[axis] + reach[axis]).saturating_sub(input[axis]);
                    let less = total / 2;
                    let (begin, end) =
                        if same == "SAME_UPPER" { (less, total - less) } else { (total - less, less) };
                    (pads[axis], pads[axis + 2]) = (begin, end);
                }
            }
            other => return Err(format!("auto_pad = {other:?} is not one of the format")),
        }
        let mut beyond = [0; 2];
        for axis in 0..2 {
            let padded = input[axis] + pads[axis] + pads[axis + 2];
            if padded < reach[axis] {
                return Err(format!("a window of {} on {padded} positions, padding included", reach[axis]));
            }
            if node.int("ceil_mode", 0)? == 1 {
                let mut steps = (padded - reach[axis]).div_ceil(strides[axis]);
                // A window that would begin in the padding at the end is left out.
                if steps * strides[axis] >= input[axis] + pads[axis] {
                    steps -= 1;
                }
                beyond[axis] = (steps * strides[axis] + reach[axis]).saturating_sub(padded);
            }
        }
        let walk = WindowWalk { window, strides, pads, dilations, beyond };
        let [h, w] = [0, 1].map(|axis| walk.padded(axis, input));
        if super::count(&[h, w, c]).is_none_or(|len| len > super::MOST_ACTIVATIONS) {
            return Err(format!("its padded input of {h}×{w} is more than is computed"));
        }
        Ok(walk)
    }

    /// The extent of one axis with all that is around it.
    fn padded(&self, axis: usize, input: [usize; 2]) -> usize {
        input[axis] + self.pads[axis] + self.pads[axis + 2] + self.beyond[axis]
    }

    /// Padding that is the same on all sides, with nothing behind it.
    fn even_padding(&self) -> Option<usize> {
        let [top, left, bottom, right] = self.pads;
        (top == left && left == bottom && bottom == right && self.beyond == [0; 2]).then_some(top)
    }

    /// Extents of the result for extents of the input.
    fn output(&self, input: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.padded(axis, input) - ((self.window[axis] - 1) * self.dilations[axis] + 1))
                / self.strides[axis]
                + 1
        })
    }

    /// A square window with one stride, as pools have it.
    fn square(&self) -> Lowered<(usize, usize)> {
        if self.window[0] != self.window[1] || self.strides[0] != self.strides[1] || self.dilations != [1; 2]
        {
            return Err(format!(
                "a window of {:?} with strides {:?} and dilations {:?}; only square ones without dilation are supported",
                self.window, self.strides, self.dilations
            ));
        }
        Ok((self.window[0], self.strides[0]))
    }
}

impl Lowering<'_> {
    /// The shape of images `(n, c, h, w)` with known channels, height and width.
    fn image_shape(&self, node: &Node) -> Lowered<(Size, usize, [usize; 2])> {
        let shape = self.shape(node, 0)?;
        if let &[n, c, h, w] = &shape[..]
            && let (Some(c), Some(h), Some(w)) = (c.extent(), h.extent(), w.extent())
        {
            return Ok((n, c, [h, w]));
        }
        Err(format!("takes {}; only images (n, c, h, w) of known extents are supported", shown(&shape)))
    }

    /// Zeros around the map: top, left, bottom, right.
    fn padded(&mut self, at: usize, [top, left, bottom, right]: [usize; 4]) -> usize {
        if [top, left, bottom, right] == [0; 4] {
            return at;
        }
        self.emit("pad", vec![Operand::Value(at)], move |t, _| {
            let [n, h, w, c] = t[0].shape()[..] else { unreachable!("images have four axes") };
            t[0].pad([n, h + top + bottom, w + left + right, c], [0, top, left, 0])
        })
    }

    /// The smallest number in place of the zeros of a padded map.
    fn lowered_padding(&mut self, at: usize, [h, w]: [usize; 2], pads: [usize; 4]) -> usize {
        let [top, left, bottom, right] = pads;
        let (rows, columns) = (h + top + bottom, w + left + right);
        let inside = |i: usize| {
            let (row, column) = (i / columns, i % columns);
            (top..top + h).contains(&row) && (left..left + w).contains(&column)
        };
        let mask: Vec<f32> = (0..rows * columns).map(|i| if inside(i) { 0.0 } else { f32::MIN }).collect();
        let mask = self.weight("", &[1, rows, columns, 1], &mask);
        self.emit("add", vec![Operand::Value(at), mask], |t, _| &t[0] + &t[1])
    }

    fn map_value(&mut self, at: usize, n: Size, c: usize, [h, w]: [usize; 2]) -> Lowered<Value> {
        let shape = [n, Size::of(c as i64), Size::of(h as i64), Size::of(w as i64)];
        self.live_value(Live::new(at, Layout::Nhwc), shape.into())
    }

    pub(super) fn conv(&mut self, node: &Node) -> Lowered<Value> {
        let (n, c, input) = self.image_shape(node)?;
        let name = Self::name(node, 1)?.to_owned();
        let (shape, data) = self.floats(node, 1)?.ok_or("it has no weights")?;
        let &[outputs, per_group, kh, kw] = &shape[..] else {
            return Err(format!("weights of {shape:?}; only two-dimensional convolutions are supported"));
        };
        let groups = usize::try_from(node.int("group", 1)?).unwrap_or(0);
        let fits = groups > 0
            && per_group.checked_mul(groups) == Some(c)
            && outputs.is_multiple_of(groups)
            && outputs * kh * kw > 0;
        if !fits {
            return Err(format!("weights of {shape:?} in {groups} groups do not fit images of {c} channels"));
        }
        let walk = WindowWalk::new(node, c, input, Some([kh, kw]))?;
        // (out, in, kh, kw) to (kh, kw, in, out), with zeros between dilated rows and columns.
        let [dh, dw] = walk.dilations;
        let [rows, columns] = [(kh - 1) * dh + 1, (kw - 1) * dw + 1];
        let spread = [rows, columns, per_group, outputs];
        if super::count(&spread).is_none_or(|len| len > super::MOST_ACTIVATIONS) {
            return Err(format!("a dilated window of {rows}×{columns} is more than is computed"));
        }
        let mut kernel = vec![0.0f32; spread.iter().product()];
        for (i, &value) in data.iter().enumerate() {
            let (x, y) = (i % kw * dw, i / kw % kh * dh);
            let (input, output) = (i / (kw * kh) % per_group, i / (kw * kh * per_group));
            kernel[((y * columns + x) * per_group + input) * outputs + output] = value;
        }
        let images = self.images(Self::name(node, 0)?)?;
        let (at, pad) = match walk.even_padding() {
            Some(pad) => (images.at, pad),
            None => (self.padded(images.at, walk.pads), 0),
        };
        let weight = self.weight(&name, &spread, &kernel);
        let [sy, sx] = walk.strides;
        let stride = if sy == sx { sy } else { 1 };
        let conv = Conv { stride, pad, groups };
        let mut at =
            self.emit("conv2d", vec![Operand::Value(at), weight], move |t, _| t[0].conv2d(&t[1], conv));
        let output = walk.output(input);
        if sy != sx {
            at = self.emit("slice", vec![Operand::Value(at)], move |t, _| {
                t[0].slice_step(1, 0, output[0], sy).slice_step(2, 0, output[1], sx)
            });
        }
        let mut value = self.map_value(at, n, outputs, output)?;
        if let Some((_, bias)) = self.floats(node, 2)? {
            if bias.len() != outputs {
                return Err(format!("a bias of {} for {outputs} channels", bias.len()));
            }
            let name = Self::name(node, 2)?.to_owned();
            if let Kind::Live(live) = &mut value.kind {
                live.pending = Pending::Affine(None, Some((name, bias)));
            }
        }
        Ok(value)
    }

    /// A further scale and shift of each channel, after what is pending.
    pub(super) fn then_affine(
        &mut self,
        name: &str,
        scale: Option<Named>,
        shift: Option<Named>,
    ) -> Lowered<Value> {
        let value = self.values[name].clone();
        let Kind::Live(live) = &value.kind else { return Err("its input is constant".into()) };
        let live = match &live.pending {
            Pending::Affine(..) if self.only_use(name) => live.clone(),
            Pending::Nothing => live.clone(),
            _ => self.live(name)?,
        };
        let (s0, t0) = match live.pending {
            Pending::Affine(s0, t0) => (s0, t0),
            _ => (None, None),
        };
        let of = |named: &Option<Named>, i: usize, absent: f64| {
            named.as_ref().map_or(absent, |(_, values)| f64::from(values[i]))
        };
        let join = |first: &Option<Named>, second: &Option<Named>, value: &dyn Fn(usize) -> f64| {
            let (name, values) = second.as_ref().or(first.as_ref())?;
            Some((name.clone(), (0..values.len()).map(|i| value(i) as f32).collect::<Vec<f32>>()))
        };
        let joined = Pending::Affine(
            join(&s0, &scale, &|i| of(&s0, i, 1.0) * of(&scale, i, 1.0)),
            join(&t0, &shift, &|i| of(&t0, i, 0.0) * of(&scale, i, 1.0) + of(&shift, i, 0.0)),
        );
        let live = Live { pending: joined, nonnegative: false, ..live };
        Ok(Value { shape: value.shape, kind: Kind::Live(live) })
    }

    pub(super) fn batch_normalization(&mut self, node: &Node) -> Lowered<Value> {
        let outputs = node.outputs.iter().filter(|name| !name.is_empty()).count();
        if node.int("training_mode", 0)? != 0 || outputs > 1 {
            return Err(
                "it normalizes with the statistics of the batch; call eval() before the export".into()
            );
        }
        if node.int("spatial", 1)? != 1 {
            return Err("spatial = 0 is not supported".into());
        }
        let name = Self::name(node, 0)?.to_owned();
        let shape = self.shape(node, 0)?;
        let c = shape.get(1).and_then(|c| c.extent()).ok_or("its input has no channels")?;
        let part = |i: usize| -> Lowered<Vec<f64>> {
            let (shape, data) = self.floats(node, i)?.ok_or_else(|| format!("input {i} is absent"))?;
            if shape[..] != [c] {
                return Err(format!("input {i} is {shape:?} for {c} channels"));
            }
            Ok(data.into_iter().map(f64::from).collect())
        };
        let [weight, bias, mean, variance] = [part(1)?, part(2)?, part(3)?, part(4)?];
        let eps = f64::from(node.float("epsilon", 1e-5)?);
        let scale: Vec<f64> = (0..c).map(|i| weight[i] / (variance[i] + eps).sqrt()).collect();
        let shift: Vec<f32> = (0..c).map(|i| (bias[i] - mean[i] * scale[i]) as f32).collect();
        let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
        let names = [Self::name(node, 1)?.to_owned(), Self::name(node, 2)?.to_owned()];
        match shape.len() {
            4 => {
                if !matches!(&self.values[&name].kind, Kind::Live(live) if live.layout == Layout::Nhwc) {
                    let images = self.images(&name)?;
                    self.values.insert(name.clone(), Value { shape, kind: Kind::Live(images) });
                }
            }
            2 => {
                self.values
                    .get(&name)
                    .filter(|value| matches!(value.kind, Kind::Live(_)))
                    .ok_or("its input is constant")?;
            }
            _ => return Err(format!("takes {}; only images and rows are supported", shown(&shape))),
        }
        let [first, second] = names;
        self.then_affine(&name, Some((first, scale)), Some((second, shift)))
    }

    pub(super) fn max_pool(&mut self, node: &Node) -> Lowered<Value> {
        if node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
            return Err("the places of the maxima are not supported".into());
        }
        if node.int("storage_order", 0)? != 0 {
            return Err("storage_order = 1 is not supported".into());
        }
        let (n, c, input) = self.image_shape(node)?;
        let walk = WindowWalk::new(node, c, input, None)?;
        let (window, stride) = walk.square()?;
        let images = self.images(Self::name(node, 0)?)?;
        let (at, pad) = match walk.even_padding() {
            Some(pad) if pad < window => (images.at, pad),
            _ => {
                let [top, left, bottom, right] = walk.pads;
                let pads = [top, left, bottom + walk.beyond[0], right + walk.beyond[1]];
                let padded = self.padded(images.at, pads);
                // Beside numbers that are not negative a zero is never larger than what it pads; beside others the
                // padding has to be the smallest number.
                if images.nonnegative { (padded, 0) } else { (self.lowered_padding(padded, input, pads), 0) }
            }
        };
        let pool = Pool { window, stride, pad };
        let at = self.emit("max_pool", vec![Operand::Value(at)], move |t, _| t[0].max_pool(pool));
        let mut value = self.map_value(at, n, c, walk.output(input))?;
        if let Kind::Live(live) = &mut value.kind {
            live.nonnegative = images.nonnegative;
        }
        Ok(value)
    }

    pub(super) fn average_pool(&mut self, node: &Node) -> Lowered<Value> {
        let (n, c, input) = self.image_shape(node)?;
        let walk = WindowWalk::new(node, c, input, None)?;
        if walk.window == input && walk.pads == [0; 4] {
            return self.global_average(node, [n, Size::of(c as i64), Size::ONE, Size::ONE].into());
        }
        let (window, stride) = walk.square()?;
        let counts_padding = node.int("count_include_pad", 0)? == 1;
        let images = self.images(Self::name(node, 0)?)?;
        let (at, pad) = match walk.even_padding() {
            Some(pad) if pad < window => (images.at, pad),
            _ => {
                let [top, left, bottom, right] = walk.pads;
                let pads = [top, left, bottom + walk.beyond[0], right + walk.beyond[1]];
                (self.padded(images.at, pads), 0)
            }
        };
        let pool = Pool { window, stride, pad };
        let mut at = self.emit("avg_pool", vec![Operand::Value(at)], move |t, _| t[0].avg_pool(pool));
        let output = walk.output(input);
        // The cells of each window that count, by height and by width.
        let cells = |axis: usize| -> Vec<f64> {
            let begin = walk.pads[axis];
            let (least, most) = if counts_padding {
                (0, begin + input[axis] + walk.pads[axis + 2])
            } else {
                (begin, begin + input[axis])
            };
            let count = |i: usize| (i * stride + window).min(most).saturating_sub((i * stride).max(least));
            (0..output[axis]).map(|i| count(i) as f64).collect()
        };
        let (rows, columns) = (cells(0), cells(1));
        let whole = (window * window) as f64;
        let factors: Vec<f32> =
            rows.iter().flat_map(|r| columns.iter().map(move |c| (whole / (r * c)) as f32)).collect();
        if factors.iter().any(|&factor| factor != 1.0) {
            let factors = self.weight("", &[1, output[0], output[1], 1], &factors);
            at = self.emit("scale", vec![Operand::Value(at), factors], |t, _| &t[0] * &t[1]);
        }
        self.map_value(at, n, c, output)
    }

    pub(super) fn global_pool(&mut self, node: &Node) -> Lowered<Value> {
        let (n, c, _) = self.image_shape(node)?;
        let shape = vec![n, Size::of(c as i64), Size::ONE, Size::ONE];
        if node.op == "GlobalAveragePool" {
            return self.global_average(node, shape);
        }
        let images = self.images(Self::name(node, 0)?)?;
        let at = self.emit("max", vec![Operand::Value(images.at)], |t, _| t[0].max(1).max(2));
        self.live_value(Live::new(at, Layout::Nhwc), shape)
    }

    /// The mean over all positions, under `shape`.
    pub(super) fn global_average(&mut self, node: &Node, shape: Vec<Size>) -> Lowered<Value> {
        let images = self.images(Self::name(node, 0)?)?;
        let keeps = shape.len() == 4;
        let at = self.emit("global_avg_pool", vec![Operand::Value(images.at)], |t, _| t[0].global_avg_pool());
        let layout = if keeps { Layout::Rows } else { Layout::Plain };
        self.live_value(Live { nonnegative: images.nonnegative, ..Live::new(at, layout) }, shape)
    }

    /// A constant tensor of one number, in the type of the values that it meets.
    pub(super) fn number(like: &Tensor, value: f64) -> Tensor {
        let dtype = if like.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        Tensor::full(like.device(), [], dtype, value)
    }
}
