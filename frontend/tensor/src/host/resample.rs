//! ONNX `Resize`: every result element is a weighted sum of elements along each resized axis in turn.

use super::{Call, HostError};
use crate::{Numbers, Tensor, arrange::Lanes};

/// How one axis is resized.
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    scale: f64,
    /// First and last position of the region of interest, as fractions of the axis.
    region: (f64, f64),
}

/// The weights of one result position: elements and their factors, or nothing for "outside the region".
type Taps = Option<Vec<(usize, f64)>>;

pub(super) fn resize(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let axes = plan(call)?;
    let mut shape: Vec<i64> = x.shape().iter().map(|&size| size as i64).collect();
    axes.iter().for_each(|axis| shape[axis.axis] = axis.to as i64);
    let shape = call.sizes(&shape)?;
    if axes.iter().any(|axis| axis.from == 0 && axis.to > 0) {
        return Err(call.fault("an empty axis cannot be enlarged"));
    }
    let mut current: Vec<usize> = x.shape().to_vec();
    let mut values = call.floats(0)?;
    let mut outside = vec![false; shape.iter().product()];
    for axis in &axes {
        let taps: Vec<Taps> = (0..axis.to).map(|i| taps(call, axis, i)).collect::<Result<_, _>>()?;
        let lanes = Lanes::new(&shape, axis.axis);
        for lane in 0..lanes.count() {
            (0..axis.to).filter(|&i| taps[i].is_none()).for_each(|i| outside[lanes.place(lane, i)] = true);
        }
        if axis.from == axis.to && taps.iter().enumerate().all(|(i, t)| t.as_deref() == Some(&[(i, 1.0)])) {
            continue;
        }
        values = along(&values, &mut current, axis, &taps);
    }
    let extrapolation = call.reals.get(1).copied().unwrap_or(0.0);
    values.iter_mut().zip(outside).filter(|(_, outside)| *outside).for_each(|(value, _)| *value = extrapolation);
    let numbers = if x.dtype().is_float() {
        Numbers::Float(values)
    } else {
        // Interpolated integers are cut off, and never leave the range of their type.
        Numbers::Float(values.into_iter().map(|value| clamp(value, x)).collect())
    };
    call.made(Tensor::from_numbers(x.dtype(), &shape, &numbers))
}

fn clamp(value: f64, x: &Tensor) -> f64 {
    let bits = x.dtype().bits() as i32;
    match x.dtype().class() {
        crate::Class::Int => value.clamp(-2f64.powi(bits - 1), 2f64.powi(bits - 1) - 1.0),
        _ => value.clamp(0.0, 2f64.powi(bits) - 1.0),
    }
}

fn along(values: &[f64], shape: &mut [usize], axis: &Axis, taps: &[Taps]) -> Vec<f64> {
    let from = Lanes::new(shape, axis.axis);
    shape[axis.axis] = axis.to;
    let to = Lanes::new(shape, axis.axis);
    let mut result = vec![0.0; shape.iter().product()];
    for lane in 0..to.count() {
        for (i, taps) in taps.iter().enumerate() {
            let sum = taps.iter().flatten().map(|&(at, weight)| values[from.place(lane, at)] * weight).sum();
            result[to.place(lane, i)] = sum;
        }
    }
    result
}

/// Sizes and scales of the resized axes.
fn plan(call: &Call) -> Result<Vec<Axis>, HostError> {
    let rank = call.operands[0].shape().len();
    let listed = call.ints.get(6..).unwrap_or_default();
    let axes = if listed.is_empty() { (0..rank).collect() } else { call.axes(listed, rank)? };
    let (scales, sizes, region) = (call.floats(1)?, call.integers(2)?, call.floats(3)?);
    let given = if sizes.is_empty() { scales.len() } else { sizes.len() };
    if given != axes.len() || !region.is_empty() && region.len() != axes.len() * 2 {
        return Err(call.fault(format!("{given} scales or sizes are given for {} axes", axes.len())));
    }
    let own = |i: usize| call.operands[0].shape()[axes[i]];
    // One scale for all axes where the aspect ratio is kept.
    let ratios = (0..axes.len()).map(|i| sizes.get(i).map_or(1.0, |&size| size as f64 / own(i) as f64));
    let aspect = call.ints.get(5).copied().unwrap_or(0);
    let common = match aspect {
        1 => ratios.fold(f64::INFINITY, f64::min),
        _ => ratios.fold(f64::NEG_INFINITY, f64::max),
    };
    let mut plan = Vec::with_capacity(axes.len());
    for (i, &axis) in axes.iter().enumerate() {
        let region = if region.is_empty() { (0.0, 1.0) } else { (region[i], region[i + axes.len()]) };
        let crop = if call.int(1)? == 5 { region.1 - region.0 } else { 1.0 };
        let from = own(i);
        let (to, scale) = match sizes.get(i) {
            Some(_) if aspect != 0 => ((common * from as f64).round_ties_even(), common),
            Some(&size) => (size as f64, size as f64 / from as f64),
            None => ((from as f64 * crop * scales[i]).floor(), scales[i]),
        };
        if !(to >= 0.0 && to <= call.limit as f64) {
            return Err(call.fault(format!("axis {axis} cannot be resized to {to}")));
        }
        plan.push(Axis { axis, from, to: to as usize, scale, region });
    }
    Ok(plan)
}

/// Where the centre of result position `i` lies in the operand.
fn position(call: &Call, axis: &Axis, i: usize) -> Result<f64, HostError> {
    let (x, from, to) = (i as f64, axis.from as f64, axis.to as f64);
    let span = from - 1.0;
    Ok(match call.int(1)? {
        0 => (x + 0.5) / axis.scale - 0.5,
        1 => {
            // The result is centred even where its size is a rounded one.
            let adjustment = to / (axis.scale * from);
            from / 2.0 * (1.0 - adjustment) + (x + 0.5) / axis.scale - 0.5
        }
        2 => {
            if axis.to > 1 {
                (x + 0.5) / axis.scale - 0.5
            } else {
                0.0
            }
        }
        3 => {
            // The last corner lies where the scale says, even between elements.
            let gaps = axis.scale * from - 1.0;
            if axis.to > 1 && gaps > 0.0 { x * span / gaps } else { 0.0 }
        }
        4 => x / axis.scale,
        5 => {
            let (start, end) = axis.region;
            if axis.to > 1 { start * span + x * (end - start) * span / (to - 1.0) } else { 0.5 * (start + end) * span }
        }
        other => return Err(call.fault(format!("there is no coordinate mode {other}"))),
    })
}

fn taps(call: &Call, axis: &Axis, i: usize) -> Result<Taps, HostError> {
    let at = position(call, axis, i)?;
    let last = axis.from.saturating_sub(1);
    if call.int(1)? == 5 && !(0.0..=last as f64).contains(&at) {
        return Ok(None);
    }
    // A smaller scale widens the filter, so that every element counts (antialiasing).
    let stretch = if call.flag(4) { axis.scale.min(1.0) } else { 1.0 };
    let a = call.reals.first().copied().unwrap_or(-0.75);
    let weight: Box<dyn Fn(f64) -> f64> = match call.int(0)? {
        0 => return Ok(Some(vec![(nearest(call.int(2)?, at).clamp(0.0, last as f64) as usize, 1.0)])),
        1 => Box::new(|d: f64| (1.0 - d.abs()).max(0.0)),
        2 => Box::new(move |d: f64| cubic(d.abs(), a)),
        other => return Err(call.fault(format!("there is no resize mode {other}"))),
    };
    let reach = if call.int(0)? == 1 { 1.0 } else { 2.0 } / stretch;
    let (low, high) = ((at - reach).floor() as i64, (at + reach).ceil() as i64);
    let inside = |place: i64| (0..=last as i64).contains(&place);
    let exclude = call.flag(3);
    let mut taps: Vec<(usize, f64)> = (low..=high)
        .filter(|&place| !exclude || inside(place))
        .map(|place| (place.clamp(0, last as i64) as usize, weight((place as f64 - at) * stretch)))
        .filter(|(_, weight)| *weight != 0.0)
        .collect();
    if exclude || call.flag(4) {
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
    }
    Ok(Some(taps))
}

fn nearest(mode: i64, at: f64) -> f64 {
    match mode {
        0 if at.fract().abs() == 0.5 => at.floor(),
        1 if at.fract().abs() == 0.5 => at.ceil(),
        2 => at.floor(),
        3 => at.ceil(),
        _ => at.round(),
    }
}

/// Keys' cubic convolution kernel (IEEE ASSP 29, 1981).
fn cubic(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
