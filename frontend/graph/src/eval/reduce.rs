//! Reductions: floats accumulate in f64, integers wrap in 64 bits; the result rounds once.

use std::cmp::Ordering;

use tarsia_tensor::{
    ArgReduceFn, Class, DType, MiniFloat, Numbers, ReduceFn, Tensor,
    arrange::{Lanes, Places, strides},
    order::compare,
};

use super::{Fault, pointwise::extreme};
use crate::Op;

pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    match op {
        Op::Reduce { function, .. } => reduce(*function, &x[0], shape),
        Op::ArgReduce { function, axis, last } => arg_reduce(*function, &x[0], *axis, *last, shape),
        Op::Scan { function, axis, exclusive, reverse } => scan(*function, &x[0], *axis, *exclusive, *reverse),
        _ => Err(Fault::NoOperand),
    }
}

fn reduce(function: ReduceFn, x: &Tensor, shape: &[usize]) -> Result<Tensor, Fault> {
    // A reduced axis has size 1 in the result, so that its stride there is 0.
    let own = strides(shape);
    let target = own.iter().zip(shape).map(|(&stride, &size)| if size == 1 { 0 } else { stride as isize });
    let places = Places::new(x.shape(), target, 0);
    let numbers = x.numbers()?;
    let mut totals = vec![Total::new(function, x.dtype()); shape.iter().product()];
    match &numbers {
        Numbers::Float(v) => v.iter().zip(places).for_each(|(&value, at)| totals[at].add_float(value)),
        Numbers::Int(v) => v.iter().zip(places).for_each(|(&value, at)| totals[at].add_int(value.into())),
        Numbers::Uint(v) => v.iter().zip(places).for_each(|(&value, at)| totals[at].add_int(value.into())),
    }
    Ok(Tensor::from_numbers(x.dtype(), shape, &finish(x.dtype(), totals.iter().map(Total::finish)))?)
}

/// A running reduction; floats and integers have their own accumulator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Total {
    function: ReduceFn,
    float: f64,
    /// Wide enough for every 64-bit value of either sign; sums and products wrap as 64-bit ones do.
    int: i128,
    count: u64,
}

impl Total {
    /// The identity of the function for a type.
    pub(super) fn new(function: ReduceFn, dtype: DType) -> Total {
        let (float, int) = match function {
            ReduceFn::Sum | ReduceFn::Mean => (0.0, 0),
            ReduceFn::Prod => (1.0, 1),
            ReduceFn::Min => (largest_float(dtype), integer_range(dtype).1),
            ReduceFn::Max => (-largest_float(dtype), integer_range(dtype).0),
        };
        Total { function, float, int, count: 0 }
    }

    pub(super) fn add_float(&mut self, value: f64) {
        self.count += 1;
        self.float = match self.function {
            ReduceFn::Sum | ReduceFn::Mean => self.float + value,
            ReduceFn::Prod => self.float * value,
            ReduceFn::Min | ReduceFn::Max => extreme(self.float, value, self.function == ReduceFn::Max),
        };
    }

    pub(super) fn add_int(&mut self, value: i128) {
        self.count += 1;
        self.int = match self.function {
            ReduceFn::Mean => self.int.wrapping_add(value),
            ReduceFn::Sum => i128::from((self.int as i64).wrapping_add(value as i64)),
            ReduceFn::Prod => i128::from((self.int as i64).wrapping_mul(value as i64)),
            ReduceFn::Min => self.int.min(value),
            ReduceFn::Max => self.int.max(value),
        };
    }

    /// The result as float and as integer (of which the type's class is meant).
    pub(super) fn finish(&self) -> (f64, i128) {
        match self.function {
            ReduceFn::Mean => (self.float / self.count as f64, self.int.checked_div(self.count.into()).unwrap_or(0)),
            _ => (self.float, self.int),
        }
    }
}

pub(super) fn finish(dtype: DType, totals: impl Iterator<Item = (f64, i128)>) -> Numbers {
    match dtype.class() {
        Class::Float => Numbers::Float(totals.map(|(float, _)| float).collect()),
        Class::Int => Numbers::Int(totals.map(|(_, int)| int as i64).collect()),
        Class::Uint | Class::String | Class::Value => Numbers::Uint(totals.map(|(_, int)| int as u64).collect()),
    }
}

/// Infinity, or the largest finite value of formats that have none.
fn largest_float(dtype: DType) -> f64 {
    match MiniFloat::of(dtype) {
        Some(format) if dtype != DType::F8E5M2 => format.max(),
        _ => f64::INFINITY,
    }
}

/// Smallest and largest value of an integer type.
pub(super) fn integer_range(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits();
    match dtype.class() {
        _ if dtype == DType::Bool => (0, 1),
        Class::Int => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => (0, (1 << bits) - 1),
    }
}

/// NaN wins, as in [`ReduceFn::Min`] and [`ReduceFn::Max`].
fn arg_reduce(function: ArgReduceFn, x: &Tensor, axis: usize, last: bool, shape: &[usize]) -> Result<Tensor, Fault> {
    let lanes = Lanes::new(x.shape(), axis);
    if lanes.len == 0 && lanes.count() > 0 {
        return Err(Fault::Size("an empty axis has no extreme element".to_owned()));
    }
    let numbers = x.numbers()?;
    let better = |a: usize, b: usize| {
        let order = compare(&numbers, a, b);
        let order = if function == ArgReduceFn::Max { order } else { order.reverse() };
        // NaN is largest in `compare`; for the minimum it must win too.
        let order = match (is_nan(&numbers, a), is_nan(&numbers, b)) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => order,
        };
        order == Ordering::Greater || last && order == Ordering::Equal
    };
    let found = (0..lanes.count()).map(|lane| {
        let best = (1..lanes.len)
            .fold(0, |best, i| if better(lanes.place(lane, i), lanes.place(lane, best)) { i } else { best });
        best as i64
    });
    Ok(Tensor::from_numbers(DType::I64, shape, &Numbers::Int(found.collect()))?)
}

fn is_nan(numbers: &Numbers, at: usize) -> bool {
    matches!(numbers, Numbers::Float(v) if v[at].is_nan())
}

fn scan(function: ReduceFn, x: &Tensor, axis: usize, exclusive: bool, reverse: bool) -> Result<Tensor, Fault> {
    let lanes = Lanes::new(x.shape(), axis);
    let numbers = x.numbers()?;
    let mut results = vec![(0.0, 0i128); x.count()];
    for lane in 0..lanes.count() {
        let mut total = Total::new(function, x.dtype());
        for i in 0..lanes.len {
            let at = lanes.place(lane, if reverse { lanes.len - 1 - i } else { i });
            if exclusive {
                results[at] = total.finish();
            }
            match &numbers {
                Numbers::Float(v) => total.add_float(v[at]),
                Numbers::Int(v) => total.add_int(v[at].into()),
                Numbers::Uint(v) => total.add_int(v[at].into()),
            }
            if !exclusive {
                results[at] = total.finish();
            }
        }
    }
    Ok(Tensor::from_numbers(x.dtype(), x.shape(), &finish(x.dtype(), results.into_iter()))?)
}
