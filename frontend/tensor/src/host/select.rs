//! Host functions whose result depends on which elements are chosen.

use std::cmp::Ordering;

use super::{Call, HostError};
use crate::{
    Numbers, Tensor,
    arrange::{Lanes, strides},
    order::{compare, sorted},
};

pub(super) fn nonzero(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let holds: Vec<bool> = match (x.strings(), x.numbers()) {
        (Some(strings), _) => strings.iter().map(|text| !text.is_empty()).collect(),
        (None, Ok(Numbers::Float(v))) => v.iter().map(|&value| value != 0.0).collect(),
        (None, Ok(numbers)) => numbers.to_i64().iter().map(|&value| value != 0).collect(),
        (None, Err(error)) => return Err(call.tensor_error(error)),
    };
    let found: Vec<usize> = (0..holds.len()).filter(|&place| holds[place]).collect();
    let own = strides(x.shape());
    let coordinates = own
        .iter()
        .zip(x.shape())
        .flat_map(|(&stride, &size)| found.iter().map(move |place| (place / stride % size) as i64));
    Ok(vec![call.integer_tensor(&[x.shape().len(), found.len()], coordinates.collect())?])
}

pub(super) fn compress(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let flat;
    let (x, axis) = if call.ints.is_empty() {
        flat = call.operands[0].reshaped(&[call.operands[0].count()]).map_err(|error| call.tensor_error(error))?;
        (&flat, 0)
    } else {
        (&call.operands[0], call.axis(0, call.operands[0].shape().len())?)
    };
    let keep: Vec<usize> =
        call.integers(1)?.iter().enumerate().filter(|(_, keep)| **keep != 0).map(|(i, _)| i).collect();
    if let Some(last) = keep.last().filter(|&&last| last >= x.shape()[axis]) {
        return Err(call.fault(format!("element {last} is kept of an axis of size {}", x.shape()[axis])));
    }
    call.made(chosen(x, axis, &keep))
}

/// The elements `keep` along `axis`.
fn chosen(x: &Tensor, axis: usize, keep: &[usize]) -> Result<Tensor, crate::TensorError> {
    let mut shape = x.shape().to_vec();
    let (size, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let outer: usize = shape[..axis].iter().product();
    shape[axis] = keep.len();
    let places = (0..outer)
        .flat_map(|o| keep.iter().flat_map(move |index| (0..inner).map(move |i| (o * size + index) * inner + i)));
    x.rearranged(&shape, places)
}

pub(super) fn top_k(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let axis = call.axis(0, x.shape().len())?;
    let k = call.only(&call.integers(1)?, "k")?;
    let k = usize::try_from(k).map_err(|_| call.fault(format!("{k} elements cannot be taken")))?;
    let (values, indices) = sorted(x, axis, call.flag(1), k).map_err(|error| call.tensor_error(error))?;
    Ok(vec![values, indices])
}

pub(super) fn unique(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let flat;
    let (x, axis) = if call.ints.len() < 2 {
        flat = call.operands[0].reshaped(&[call.operands[0].count()]).map_err(|error| call.tensor_error(error))?;
        (&flat, 0)
    } else {
        (&call.operands[0], call.axis(1, call.operands[0].shape().len())?)
    };
    let lanes = Lanes::new(x.shape(), axis);
    let numbers = if x.strings().is_some() { None } else { Some(x.numbers().map_err(|e| call.tensor_error(e))?) };
    let element = |a: usize, b: usize| match (&numbers, x.strings()) {
        (Some(numbers), _) => compare(numbers, a, b),
        (None, Some(strings)) => strings[a].cmp(&strings[b]),
        (None, None) => Ordering::Equal,
    };
    let item = |a: usize, b: usize| {
        let orders = (0..lanes.count()).map(|lane| element(lanes.place(lane, a), lanes.place(lane, b)));
        orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    // Groups of equal items; the sort is stable, so that the first of a group is its first occurrence.
    let mut order: Vec<usize> = (0..lanes.len).collect();
    order.sort_by(|&a, &b| item(a, b));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match groups.last_mut() {
            Some(group) if item(group[0], index).is_eq() => group.push(index),
            _ => groups.push(vec![index]),
        }
    }
    if !call.flag(0) {
        groups.sort_by_key(|group| group[0]);
    }
    let first: Vec<usize> = groups.iter().map(|group| group[0]).collect();
    let mut inverse = vec![0; lanes.len];
    for (rank, group) in groups.iter().enumerate() {
        group.iter().for_each(|&index| inverse[index] = rank as i64);
    }
    let counts = groups.iter().map(|group| group.len() as i64).collect();
    let values = chosen(x, axis, &first).map_err(|error| call.tensor_error(error))?;
    Ok(vec![
        values,
        call.integer_tensor(&[first.len()], first.iter().map(|&index| index as i64).collect())?,
        call.integer_tensor(&[lanes.len], inverse)?,
        call.integer_tensor(&[first.len()], counts)?,
    ])
}

/// An axis-aligned box.
#[derive(Clone, Copy)]
struct Area {
    low: [f64; 2],
    high: [f64; 2],
}

impl Area {
    /// From two opposite corners, or from centre and size.
    fn new(numbers: &[f64], centred: bool) -> Area {
        let &[a, b, c, d] = numbers else { return Area { low: [0.0; 2], high: [0.0; 2] } };
        if centred {
            Area { low: [a - c / 2.0, b - d / 2.0], high: [a + c / 2.0, b + d / 2.0] }
        } else {
            Area { low: [a.min(c), b.min(d)], high: [a.max(c), b.max(d)] }
        }
    }

    fn size(&self) -> f64 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Intersection over union; 0 where an area is empty.
    fn overlap(&self, other: &Area) -> f64 {
        let side = |i: usize| (self.high[i].min(other.high[i]) - self.low[i].max(other.low[i])).max(0.0);
        let common = side(0) * side(1);
        let union = self.size() + other.size() - common;
        if self.size() <= 0.0 || other.size() <= 0.0 || union <= 0.0 { 0.0 } else { common / union }
    }
}

pub(super) fn non_max_suppression(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (boxes, scores) = (call.floats(0)?, call.floats(1)?);
    let (&[batches, count, 4], &[b, classes, n]) = (call.operands[0].shape(), call.operands[1].shape()) else {
        return Err(call.fault("boxes must be [b, n, 4] and scores [b, c, n]"));
    };
    if batches != b || count != n {
        return Err(call.fault(format!("there are {b} × {n} scores for {batches} × {count} boxes")));
    }
    let most = call.optional_integers(2)?.map_or(Ok(0), |values| call.only(&values, "the most per class"))?;
    let most = usize::try_from(most).unwrap_or(0);
    let limit = |operand: usize, default: f64| {
        if operand < call.operands.len() { call.only(&call.floats(operand)?, "a limit") } else { Ok(default) }
    };
    let (overlap, least) = (limit(3, 0.0)?, limit(4, f64::NEG_INFINITY)?);
    let mut selected = Vec::new();
    for batch in 0..batches {
        let areas: Vec<Area> =
            boxes[batch * count * 4..][..count * 4].chunks(4).map(|four| Area::new(four, call.flag(0))).collect();
        for class in 0..classes {
            let scores = &scores[(batch * classes + class) * count..][..count];
            for place in suppress(&areas, scores, most, overlap, least) {
                selected.extend([batch as i64, class as i64, place as i64]);
            }
        }
    }
    Ok(vec![call.integer_tensor(&[selected.len() / 3, 3], selected)?])
}

/// Boxes by falling score that overlap no box before them too much.
fn suppress(areas: &[Area], scores: &[f64], most: usize, overlap: f64, least: f64) -> Vec<usize> {
    let mut candidates: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > least).collect();
    candidates.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal));
    let mut kept: Vec<usize> = Vec::new();
    for candidate in candidates {
        if kept.len() >= most {
            break;
        }
        if kept.iter().all(|&other| areas[candidate].overlap(&areas[other]) <= overlap) {
            kept.push(candidate);
        }
    }
    kept
}
