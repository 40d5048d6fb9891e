//! Pooling and depthwise convolutions: a loop over the window accumulates shifted views of the image.

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, Graph, NodeId, Op, ReduceFn, Value, access::Index};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Axis, Opcode, Operand, Region, View};

use crate::{
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span, identity},
    map::{Target, capacities, open_grid},
    nest::{Nest, compute_dtype},
};

/// Elements of a tile.
const TILE_ELEMENTS: usize = 2048;

/// Lowers a body with one pooling.
pub(crate) fn lower_window(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
) -> Result<(), String> {
    // The pooled image is a leaf of the epilogue; where it is read follows from the result's index.
    let mut pooled = leaves.clone();
    pooled.insert(anchor.into(), Leaf::Tile(Operand::Real(0.0)));
    let nest = Nest::trace_until(body, &[target.value], &|value| value == anchor.into())?;
    let root = nest.root.clone();
    let result =
        nest.index_of(body, target.value, &root, anchor.into()).ok_or("the pooling is used at several indices")?;
    let most = builder.elements(TILE_ELEMENTS);
    let capacity = capacities(builder.target, &nest, most, &|_| None);
    let spans = open_grid(builder, &nest, &capacity);
    let acc = accumulate(builder, body, anchor, leaves, &nest, &result, &spans)?;
    pooled.insert(anchor.into(), Leaf::Tile(Operand::Tile(acc)));
    Emitter::new(builder, body, &nest, &pooled, spans).store(target.value, &root, target.param)
}

fn accumulate(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    nest: &Nest,
    result: &[Index],
    spans: &[Span],
) -> Result<Region, String> {
    let Op::WindowReduce { function, window, strides, low, high, dilations } = &body[anchor].op else {
        return Err("no pooling".into());
    };
    let image = body.operands(anchor)[0];
    let dtype = compute_dtype(body.ty(image).dtype);
    let acc = Emitter::new(builder, body, nest, leaves, spans.to_vec()).tile(dtype, result);
    builder.instr(Opcode::Fill, vec![Operand::Tile(acc.clone())], vec![Operand::Real(identity(*function))]);
    let padded = low.iter().chain(high).any(|&padding| padding > 0);
    // A mean leaves padding out, so it counts what it adds up.
    let count = (*function == ReduceFn::Mean && padded).then(|| {
        let count = Emitter::new(builder, body, nest, leaves, spans.to_vec()).tile(dtype, result);
        builder.instr(Opcode::Fill, vec![Operand::Tile(count.clone())], vec![Operand::Real(0.0)]);
        count
    });
    let combine = match function {
        ReduceFn::Sum | ReduceFn::Mean => BinaryFn::Add,
        ReduceFn::Prod => BinaryFn::Mul,
        ReduceFn::Min => BinaryFn::Min,
        ReduceFn::Max => BinaryFn::Max,
    };
    let axes: Vec<usize> = (0..window.len()).filter(|&axis| window[axis] > 1).collect();
    loops(builder, &axes, window, vec![Dim::ZERO; window.len()], &mut |builder, at| {
        let index: Vec<Index> = (0..window.len())
            .map(|axis| {
                let shift = at[axis].clone() * Dim::from(dilations[axis]) - Dim::from(low[axis]);
                result[axis].scaled(&Dim::from(strides[axis])).plus(&Index::fixed(shift))
            })
            .collect();
        let mut emitter = Emitter::new(builder, body, nest, leaves, spans.to_vec());
        let fill = padded.then(|| identity(*function));
        let source = emitter.shifted(image, &index, fill)?;
        let acc = Operand::Tile(acc.clone());
        emitter.builder.instr(Opcode::Binary(combine), vec![acc.clone()], vec![acc, source]);
        if let Some(count) = &count {
            let ones = emitter.inside(image, &index, dtype)?;
            let count = Operand::Tile(count.clone());
            emitter.builder.instr(Opcode::Binary(BinaryFn::Add), vec![count.clone()], vec![count, ones]);
        }
        Ok(())
    })?;
    if *function == ReduceFn::Mean {
        let divisor = match count {
            Some(count) => Operand::Tile(count),
            None => Operand::Real(window.iter().product::<usize>() as f64),
        };
        let acc = Operand::Tile(acc.clone());
        builder.instr(Opcode::Binary(BinaryFn::Div), vec![acc.clone()], vec![acc, divisor]);
    }
    Ok(acc)
}

/// Loops over the window's axes.
fn loops(
    builder: &mut KernelBuilder,
    axes: &[usize],
    window: &[usize],
    at: Vec<Dim>,
    body: &mut dyn FnMut(&mut KernelBuilder, &[Dim]) -> Result<(), String>,
) -> Result<(), String> {
    let Some((&axis, rest)) = axes.split_first() else { return body(builder, &at) };
    builder.for_each(Dim::from(window[axis]), 1, |builder, i| {
        let mut at = at.clone();
        at[axis] = i;
        loops(builder, rest, window, at, body)
    })
}

/// Lowers a body with one depthwise convolution; whether the anchor is one. Each channel has a window of its own, so there is nothing
/// to multiply as a matrix: the image, shifted to every place of the window, is scaled and added up.
pub(crate) fn lower_depthwise(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
) -> Result<bool, String> {
    let Some(windows) = Windows::of(builder, body, anchor, leaves, target)? else { return Ok(false) };
    let spans = windows.spans(builder);
    let acc = windows.accumulate(builder, &spans)?;
    let mut finished = leaves.clone();
    finished.insert(anchor.into(), Leaf::Tile(Operand::Tile(acc)));
    let axes = windows.groups.clone();
    let root = windows.nest.root.clone();
    Emitter::over(builder, body, &windows.nest, &finished, spans, axes).store(target.value, &root, target.param)?;
    Ok(true)
}

/// A depthwise convolution: result axes are batch, channels, and those of the image.
struct Windows<'a> {
    /// The axis of the result that every axis of a tile is, as the image lies in memory.
    order: Vec<usize>,
    body: &'a Graph,
    nest: Nest,
    leaves: &'a FxHashMap<Value, Leaf>,
    image: Value,
    weights: Value,
    dtype: DType,
    result: Vec<Index>,
    /// The group of every axis of a tile.
    groups: Vec<usize>,
    window: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    low: Vec<usize>,
    padded: bool,
}

/// The channels of a depthwise convolution's tile, and its elements, where channels lie side by side.
const CHANNELS: usize = 64;
const SQUARE_ELEMENTS: usize = 8192;

/// Equal parts of at most `most`.
fn equal(size: usize, most: usize) -> usize {
    if size == usize::MAX { most } else { size.div_ceil(size.div_ceil(most)) }
}

/// What a value is a permutation of, and the axis of the value that every axis of that is.
fn behind_transposes(body: &Graph, mut value: Value) -> (Value, Vec<usize>) {
    let mut order: Vec<usize> = (0..body.ty(value).rank()).collect();
    while let Op::Transpose { perm } = &body[value.node].op {
        let mut inner = vec![0; order.len()];
        perm.iter().zip(&order).for_each(|(&axis, &of)| inner[axis] = of);
        (order, value) = (inner, body.operands(value.node)[0]);
    }
    (value, order)
}

/// Elements of a depthwise convolution's tile: it and the part of the image under it share the innermost cache.
const IMAGE_ELEMENTS: usize = 3072;

impl<'a> Windows<'a> {
    fn of(
        builder: &KernelBuilder,
        body: &'a Graph,
        anchor: NodeId,
        leaves: &'a FxHashMap<Value, Leaf>,
        target: &Target,
    ) -> Result<Option<Self>, String> {
        let Op::Conv { strides, low, high, dilations, groups, .. } = &body[anchor].op else { return Ok(None) };
        let operands = body.operands(anchor);
        let (image, weights) = (operands[0], operands[1]);
        let (types, kernel) = (body.ty(image), &body.ty(weights).shape);
        let Some(window) = kernel[2..].iter().map(Dim::as_usize).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let single = kernel[1].is(1) && kernel[0].is(*groups as i64) && *groups > 1;
        let dtype = compute_dtype(types.dtype);
        let is_float = dtype.is_float() && compute_dtype(body[anchor].types[0].dtype) == dtype;
        let known = |value: &Value| matches!(leaves.get(value), Some(Leaf::Param(_)));
        let (image, order) = behind_transposes(body, image);
        let natural = order.iter().copied().eq(0..order.len());
        // Channels side by side are what vectors multiply where they work in a memory of their own.
        let suits = if builder.target.direct { natural } else { order.last() == Some(&1) };
        if !single || !is_float || !known(&image) || !known(&weights) || !suits {
            return Ok(None);
        }
        let mut nest = Nest::trace_until(body, &[target.value], &|value| value == anchor.into())?;
        let root = nest.root.clone();
        let Some(result) = nest.index_of(body, target.value, &root, anchor.into()) else { return Ok(None) };
        let groups = result.iter().map(|index| nest.group_of(index)).collect::<Option<Vec<_>>>();
        let Some(groups) = groups.filter(|found| (0..nest.groups.len()).all(|group| found.contains(&group))) else {
            return Ok(None);
        };
        let groups = order.iter().map(|&axis| groups[axis]).collect();
        Ok(Some(Windows {
            order,
            body,
            leaves,
            image,
            weights,
            dtype,
            result,
            groups,
            window,
            strides: strides.clone(),
            dilations: dilations.clone(),
            low: low.clone(),
            padded: low.iter().chain(high).any(|&padding| padding > 0),
            nest,
        }))
    }

    fn spans(&self, builder: &mut KernelBuilder) -> Vec<Span> {
        let capacity = match self.is_natural() {
            true => capacities(builder.target, &self.nest, IMAGE_ELEMENTS, &|_| None),
            false => self.square(builder),
        };
        open_grid(builder, &self.nest, &capacity)
    }

    fn is_natural(&self) -> bool {
        self.order.iter().copied().eq(0..self.order.len())
    }

    /// The axis of a tile that an axis of the result is.
    fn place(&self, axis: usize) -> usize {
        self.order.iter().position(|&at| at == axis).unwrap_or(axis)
    }

    /// Some channels of a part of the image that is about as high as wide, so that little around it is loaded again.
    fn square(&self, builder: &mut KernelBuilder) -> Vec<usize> {
        let room = builder.elements(SQUARE_ELEMENTS);
        let mut capacity = vec![1; self.nest.groups.len()];
        let size = |group: usize| builder.target.estimate(&self.nest.size(group)).unwrap_or(usize::MAX).max(1);
        let channels = self.groups[self.place(1)];
        let images: Vec<usize> = (2..self.order.len()).map(|axis| self.groups[self.place(axis)]).collect();
        capacity[channels] = equal(size(channels), CHANNELS.min(room));
        let mut left = (room / capacity[channels]).max(1);
        for (at, &group) in images.iter().enumerate().rev() {
            let side = if at == 0 { left } else { left.isqrt() * 2 };
            capacity[group] = equal(size(group), side.clamp(1, left));
            left = (left / capacity[group]).max(1);
        }
        capacity
    }

    fn emitter<'e, 'm>(&'e self, builder: &'e mut KernelBuilder<'m>, spans: &[Span]) -> Emitter<'e, 'e, 'm> {
        Emitter::over(builder, self.body, &self.nest, self.leaves, spans.to_vec(), self.groups.clone())
    }

    fn accumulate(&self, builder: &mut KernelBuilder, spans: &[Span]) -> Result<Region, String> {
        let acc = self.emitter(builder, spans).tile(self.dtype, &self.result);
        builder.instr(Opcode::Fill, vec![Operand::Tile(acc.clone())], vec![Operand::Real(0.0)]);
        let scales = if self.is_natural() { None } else { Some(self.scales(builder, spans)?) };
        let scales = scales.as_ref();
        let rank = self.window.len();
        if !(0..rank).all(|i| self.strides[i] == 1 || self.dilations[i] == 1) {
            let count = self.window.clone();
            self.places(builder, &count, &mut |builder, at| {
                let source = self.shifted_image(builder, spans, at)?;
                self.add(builder, spans, (&acc, scales), source, at)
            })?;
            return Ok(acc);
        }
        // Places of the window that differ by whole strides see the same elements of the image, copied once for all of them.
        let mut phases: Vec<usize> = (0..rank).map(|i| self.strides[i].min(self.window[i])).collect();
        // An image copied once for every place along the innermost axis is as wide as the result, so that all its rows are one run at
        // each place along the other axes.
        if let Some((innermost, others)) = self.window.split_last()
            && self.is_natural()
            && others.iter().any(|&places| places > 1)
        {
            phases[rank - 1] = *innermost;
        }
        for number in 0..phases.iter().product() {
            let mut rest = number;
            let mut phase = vec![0; rank];
            for i in (0..rank).rev() {
                (phase[i], rest) = (rest % phases[i], rest / phases[i]);
            }
            let apart = |i: usize| phases[i].max(self.strides[i]);
            let count: Vec<usize> = (0..rank).map(|i| (self.window[i] - phase[i]).div_ceil(apart(i))).collect();
            let seen = self.seen(builder, spans, &phase, &count)?;
            self.places(builder, &count, &mut |builder, at| {
                let place: Vec<Dim> =
                    (0..rank).map(|i| at[i].clone() * Dim::from(self.strides[i]) + Dim::from(phase[i])).collect();
                let mut source = Region { size: acc.size.clone(), ..seen.clone() };
                for (i, at) in at.iter().enumerate() {
                    source.offset[self.place(i + 2)] = at.clone() * Dim::from(self.dilations[i]);
                }
                self.add(builder, spans, (&acc, scales), Operand::Tile(source), &place)
            })?;
        }
        Ok(acc)
    }

    /// Loops over `count` places.
    fn places(
        &self,
        builder: &mut KernelBuilder,
        count: &[usize],
        body: &mut dyn FnMut(&mut KernelBuilder, &[Dim]) -> Result<(), String>,
    ) -> Result<(), String> {
        let axes: Vec<usize> = (0..count.len()).filter(|&axis| count[axis] > 1).collect();
        loops(builder, &axes, count, vec![Dim::ZERO; count.len()], body)
    }

    /// Adds a shifted image, scaled by the weights at a place of the window.
    fn add(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        (acc, scales): (&Region, Option<&Region>),
        source: Operand,
        place: &[Dim],
    ) -> Result<(), String> {
        let acc = Operand::Tile(acc.clone());
        if let Some(scales) = scales {
            let number = place
                .iter()
                .zip(&self.window)
                .fold(Dim::ZERO, |at, (place, &size)| at * Dim::from(size) + place.clone());
            let mut scale = scales.clone();
            (scale.offset[0], scale.size[0]) = (number, Dim::ONE);
            builder.instr(Opcode::MulAdd, vec![acc.clone()], vec![source, Operand::Tile(scale), acc]);
            return Ok(());
        }
        let mut index = vec![self.result[1].clone(), Index::fixed(Dim::ZERO)];
        index.extend(place.iter().cloned().map(Index::fixed));
        let weight = self.emitter(builder, spans).value(self.weights, &index)?;
        builder.instr(Opcode::MulAdd, vec![acc.clone()], vec![source, weight, acc]);
        Ok(())
    }

    /// The weights of some channels, place by place: a tile with as many axes as the others, of which the first are the places.
    fn scales(&self, builder: &mut KernelBuilder, spans: &[Span]) -> Result<Region, String> {
        let Some(Leaf::Param(param)) = self.leaves.get(&self.weights) else {
            return Err("no weights in memory".into());
        };
        let places: usize = self.window.iter().product();
        let channels = &spans[self.groups[self.place(1)]];
        let start = channels.start.clone() * Dim::from(places);
        let axis = Axis { start, steps: vec![(0, Dim::ONE), (1, Dim::from(places))] };
        let size = vec![Dim::from(places), channels.size.clone()];
        let view = View { param: *param, axes: vec![axis], size: size.clone(), fill: None };
        let flat = builder.scratch(self.dtype, &[places, channels.capacity], &size);
        builder.copy(Operand::Tile(flat.clone()), Operand::Global(view));
        let rank = self.order.len();
        let (mut capacity, mut shape) = (vec![1; rank], vec![Dim::ONE; rank]);
        (capacity[0], shape[0]) = (places, Dim::from(places));
        (capacity[rank - 1], shape[rank - 1]) = (channels.capacity, channels.size.clone());
        let scales = builder.scratch(self.dtype, &capacity, &shape);
        builder.copy(Operand::Tile(scales.clone()), Operand::Tile(flat));
        Ok(scales)
    }

    /// A tile with the elements of the image, and its padding, that `count` places of the window see which are whole strides from the
    /// place `phase`.
    fn seen(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        phase: &[usize],
        count: &[usize],
    ) -> Result<Region, String> {
        let Some(Leaf::Param(param)) = self.leaves.get(&self.image) else { return Err("no image in memory".into()) };
        let param = builder.reshaped(*param, self.body.ty(self.image).shape.clone());
        let (mut axes, mut size, mut capacity) = (Vec::new(), Vec::new(), Vec::new());
        for (axis, &group) in self.groups.iter().enumerate() {
            let span = &spans[group];
            let (start, step, reach) = match self.order[axis].checked_sub(2) {
                Some(i) => {
                    let shift = Dim::from(phase[i] * self.dilations[i]);
                    let start = span.start.clone() * Dim::from(self.strides[i]) + shift;
                    let reach = (count[i] - 1) * self.dilations[i];
                    (start - Dim::from(self.low[i]), Dim::from(self.strides[i]), reach)
                }
                None => (span.start.clone(), Dim::ONE, 0),
            };
            axes.push(Axis { start, steps: vec![(axis, step)] });
            size.push(span.size.clone() + Dim::from(reach));
            capacity.push(span.capacity + reach);
        }
        let tile = builder.scratch(self.dtype, &capacity, &size);
        // The last elements may lie beyond the image even without padding: no window sees them.
        let view = View { param, axes, size, fill: Some(0.0) };
        builder.copy(Operand::Tile(tile.clone()), Operand::Global(view));
        Ok(tile)
    }

    /// The image under the result at one place of the window, copied.
    fn shifted_image(&self, builder: &mut KernelBuilder, spans: &[Span], at: &[Dim]) -> Result<Operand, String> {
        let mut index = self.result[..2].to_vec();
        for (i, place) in at.iter().enumerate() {
            let shift = place.clone() * Dim::from(self.dilations[i]) - Dim::from(self.low[i]);
            index.push(self.result[i + 2].scaled(&Dim::from(self.strides[i])).plus(&Index::fixed(shift)));
        }
        self.emitter(builder, spans).shifted(self.image, &index, self.padded.then_some(0.0))
    }
}
