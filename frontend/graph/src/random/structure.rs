//! Drawing movement, windows, indices and order.

use tarsia_tensor::{DType, Dim, Numbers, ReduceFn, ScatterFn};

use super::{At, Maker, Rounding, tensor_of};
use crate::{Op, Real};

impl Maker<'_> {
    pub(super) fn draw_movement(&mut self, x: At) -> Option<At> {
        match self.stream.below(6) {
            0 => self.draw_reshape(x),
            1 => {
                let mut perm: Vec<usize> = (0..self.rank(x)).collect();
                for i in (1..perm.len()).rev() {
                    perm.swap(i, self.stream.below(i + 1));
                }
                self.add(Op::Transpose { perm }, &[x], Rounding::None)
            }
            2 => {
                let mut shape = self.known[x].ty.shape.clone();
                for dim in shape.iter_mut().filter(|dim| dim.is(1)) {
                    *dim = self.draw_size();
                }
                if self.stream.one_in(2) && shape.len() < 5 {
                    shape.insert(0, self.draw_size());
                }
                self.add(Op::Broadcast { shape }, &[x], Rounding::None)
            }
            3 => self.draw_slice(x),
            4 => {
                let mut amounts = |limit| (0..self.rank(x)).map(|_| self.stream.below(limit)).collect::<Vec<_>>();
                let (low, high, interior) = (amounts(3), amounts(3), amounts(2));
                let value = self.draw_constant(self.dtype(x), &[]);
                let dims = |list: Vec<usize>| list.into_iter().map(Dim::from).collect();
                self.add(Op::Pad { low: dims(low), high: dims(high), interior }, &[x, value], Rounding::None)
            }
            _ => {
                let axis = self.draw_axis(x)?;
                let ty = self.known[x].ty.clone();
                let fits = |other: &super::Known| {
                    other.ty.dtype == ty.dtype
                        && other.ty.rank() == ty.rank()
                        && ty.shape.iter().zip(&other.ty.shape).enumerate().all(|(i, (a, b))| i == axis || a == b)
                };
                let y = self.find(fits)?;
                self.add(Op::Concat { axis }, &[x, y], Rounding::None)
            }
        }
    }

    /// Merges two axes, splits one in two, or adds one of size 1.
    fn draw_reshape(&mut self, x: At) -> Option<At> {
        let mut shape = self.known[x].ty.shape.clone();
        match self.stream.below(3) {
            0 if shape.len() > 1 => {
                let axis = self.stream.below(shape.len() - 1);
                let next = shape.remove(axis + 1);
                shape[axis] = shape[axis].clone() * next;
            }
            1 if !shape.is_empty() => {
                let axis = self.stream.below(shape.len());
                let factor = Dim::from(2 + self.stream.below(2));
                let quotient = shape[axis].exact_div(&factor)?;
                shape[axis] = quotient;
                shape.insert(axis + self.stream.below(2), factor);
            }
            _ if shape.len() < 6 => shape.insert(self.stream.below(shape.len() + 1), Dim::ONE),
            _ => return None,
        }
        self.add(Op::Reshape { shape }, &[x], Rounding::None)
    }

    fn draw_slice(&mut self, x: At) -> Option<At> {
        let shape = self.known[x].ty.shape.clone();
        let (mut starts, mut sizes, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for (dim, &size) in shape.iter().zip(&self.sizes(x)) {
            let (start, count, step) = match self.stream.below(4) {
                0 => (Dim::ZERO, dim.clone(), 1),
                1 => (dim.clone() - Dim::ONE, dim.clone(), -1),
                2 => (Dim::ONE, dim.clone() - Dim::ONE, 1),
                _ => {
                    let (step, start) = (1 + self.stream.below(3), self.stream.below(size.max(1)));
                    (
                        Dim::from(start),
                        Dim::from(1 + self.stream.below((size.max(1) - start).div_ceil(step))),
                        step as i64,
                    )
                }
            };
            starts.push(start);
            sizes.push(count);
            steps.push(step);
        }
        self.add(Op::Slice { starts, sizes, steps }, &[x], Rounding::None)
    }

    pub(super) fn draw_window(&mut self, x: At) -> Option<At> {
        if self.dtype(x) == DType::Bool {
            return None;
        }
        if self.rank(x) < 3 || self.stream.one_in(2) {
            return self.draw_pool(x);
        }
        let shape = self.known[x].ty.shape.clone();
        let channels = shape[1].as_usize().filter(|&channels| channels > 0)?;
        let groups = if self.stream.one_in(3) { channels } else { 1 };
        let out = groups * (1 + self.stream.below(3));
        let spatial = shape.len() - 2;
        let mut amounts =
            |low: usize, limit: usize| -> Vec<usize> { (0..spatial).map(|_| low + self.stream.below(limit)).collect() };
        let (window, strides, dilations) = (amounts(1, 3), amounts(1, 2), amounts(1, 2));
        let (low, high) = (amounts(0, 2), amounts(0, 2));
        let weight_shape: Vec<usize> = [out, channels / groups].into_iter().chain(window).collect();
        let dtype = self.dtype(x);
        let weight = self.draw_constant(dtype, &weight_shape);
        let dtype = if matches!(dtype, DType::I8 | DType::U8) { DType::I32 } else { dtype };
        let rounding = self.product_rounding(x, weight, weight_shape[1..].iter().product(), dtype);
        self.add(Op::Conv { strides, low, high, dilations, groups, dtype }, &[x, weight], rounding)
    }

    fn draw_pool(&mut self, x: At) -> Option<At> {
        let rank = self.rank(x);
        let mut amounts =
            |low: usize, limit: usize| -> Vec<usize> { (0..rank).map(|_| low + self.stream.below(limit)).collect() };
        let (window, strides, dilations) = (amounts(1, 2), amounts(1, 2), amounts(1, 2));
        // Padding smaller than the window, so that no window lies in the padding alone.
        let mut padding = || window.iter().map(|&w| self.stream.below(w)).collect::<Vec<usize>>();
        let (low, high) = (padding(), padding());
        let function = *self.stream.pick(&[ReduceFn::Max, ReduceFn::Min, ReduceFn::Sum, ReduceFn::Mean]);
        if function == ReduceFn::Mean && !self.is_float(x) {
            return None;
        }
        let rounding = self.sum_rounding(x, function, window.iter().product());
        self.add(Op::WindowReduce { function, window, strides, low, high, dilations }, &[x], rounding)
    }

    pub(super) fn draw_index(&mut self, x: At) -> Option<At> {
        let axis = self.draw_axis(x)?;
        let sizes = self.sizes(x);
        if sizes[axis] == 0 {
            return None;
        }
        match self.stream.below(4) {
            0 => {
                let shape: Vec<usize> = (0..self.stream.below(3)).map(|_| 1 + self.stream.below(4)).collect();
                let indices = self.draw_indices(&shape, sizes[axis]);
                self.add(Op::Gather { axis }, &[x, indices], Rounding::None)
            }
            1 => {
                let shape = self.smaller(&sizes, axis);
                let indices = self.draw_indices(&shape, sizes[axis]);
                self.add(Op::TakeAlong { axis }, &[x, indices], Rounding::None)
            }
            2 => {
                let rest: Option<Vec<usize>> = self.known[x].ty.shape[1..].iter().map(|dim| dim.as_usize()).collect();
                let function = *self.stream.pick(ScatterFn::ALL);
                let rows = self.draw_places(function, &[], sizes[0])?;
                let shape: Vec<usize> = [self.sizes(rows)[0]].into_iter().chain(rest?).collect();
                let updates = self.draw_constant(self.dtype(x), &shape);
                self.scatter(Op::ScatterRows { function }, function, x, rows, updates)
            }
            _ => {
                let function = *self.stream.pick(ScatterFn::ALL);
                // Along the last axis with all other sizes 1, so that places can be made distinct.
                let axis = sizes.len() - 1;
                let places = self.draw_places(function, &vec![1; axis], sizes[axis])?;
                let shape = self.sizes(places);
                let updates = self.draw_constant(self.dtype(x), &shape);
                self.scatter(Op::ScatterAlong { function, axis }, function, x, places, updates)
            }
        }
    }

    fn smaller(&mut self, sizes: &[usize], axis: usize) -> Vec<usize> {
        let draw = |(i, &size): (usize, &usize)| {
            if i == axis { 1 + self.stream.below(4) } else { size.min(1 + self.stream.below(4)) }
        };
        sizes.iter().enumerate().map(draw).collect()
    }

    /// Indices below `size` of shape `[lead…, some]`; each once where the last update would win.
    fn draw_places(&mut self, function: ScatterFn, lead: &[usize], size: usize) -> Option<At> {
        if size == 0 {
            return None;
        }
        let mut all: Vec<i64> = (0..size as i64).collect();
        for i in (1..all.len()).rev() {
            all.swap(i, self.stream.below(i + 1));
        }
        all.truncate(1 + self.stream.below(size));
        if function != ScatterFn::Set {
            let again = *self.stream.pick(&all);
            all.push(again);
        }
        let shape: Vec<usize> = lead.iter().copied().chain([all.len()]).collect();
        Some(self.add_constant(tensor_of(DType::I64, &shape, &Numbers::Int(all))))
    }

    fn scatter(&mut self, op: Op, function: ScatterFn, x: At, places: At, updates: At) -> Option<At> {
        if self.dtype(x) == DType::Bool && function != ScatterFn::Set {
            return None;
        }
        let rounding = match function {
            // At most two updates meet one element.
            ScatterFn::Add if self.is_float(x) => Rounding::Some(self.error(x)),
            ScatterFn::Mul if self.is_float(x) => Rounding::Some(4.0 * self.error(x)),
            _ => Rounding::None,
        };
        self.add(op, &[x, places, updates], rounding)
    }

    pub(super) fn draw_order(&mut self, x: At) -> Option<At> {
        let axis = self.draw_axis(x)?;
        if !self.is_exact(x) || self.dtype(x) == DType::Bool {
            return None;
        }
        if self.stream.one_in(2) {
            let descending = self.stream.one_in(2);
            return self.add(Op::Sort { axis, descending }, &[x], Rounding::None);
        }
        let k = Dim::from(1 + self.stream.below(self.sizes(x)[axis].max(1)));
        let largest = self.stream.one_in(2);
        self.add(Op::TopK { axis, k, largest }, &[x], Rounding::None)
    }

    pub(super) fn draw_composite(&mut self, x: At) -> Option<At> {
        if !self.is_float(x) || self.rank(x) == 0 {
            return None;
        }
        let axis = self.stream.below(self.rank(x));
        let (bound, error, epsilon) = (self.bound(x), self.error(x), super::epsilon(self.dtype(x)));
        let wide = Rounding::Some(2.0 * (error + bound * epsilon));
        match self.stream.below(8) {
            0 => self.add(Op::Softmax { axis }, &[x], wide),
            1 => {
                let tanh = self.stream.one_in(2);
                self.add(Op::Gelu { tanh }, &[x], wide)
            }
            2 => self.add(Op::Silu {}, &[x], wide),
            3 | 4 => self.draw_norm(x, axis),
            5 => self.draw_rotary(x),
            6 => self.draw_attention(x),
            _ => self.draw_routed(x),
        }
    }

    fn draw_norm(&mut self, x: At, axis: usize) -> Option<At> {
        let shape: Option<Vec<usize>> = self.known[x].ty.shape[axis..].iter().map(Dim::as_usize).collect();
        let (scale, bias) =
            (self.draw_constant(self.dtype(x), &shape.clone()?), self.draw_constant(self.dtype(x), &shape?));
        // With so large an ε the slope of 1/√ stays small; the norm itself is at most √count.
        let epsilon = Real(0.25);
        let (bound, error) = (self.bound(x).max(1.0), self.error(x) + self.bound(x) * super::epsilon(self.dtype(x)));
        let rounding = Rounding::Some(self.bound(scale) * 8.0 * error * bound);
        if self.stream.one_in(2) {
            self.add(Op::LayerNorm { axis, epsilon }, &[x, scale, bias], rounding)
        } else {
            self.add(Op::RmsNorm { axis, epsilon }, &[x, scale], rounding)
        }
    }

    fn draw_rotary(&mut self, x: At) -> Option<At> {
        let last = self.known[x].ty.shape.last()?.as_usize().filter(|size| size % 2 == 0)?;
        let (cos, sin) =
            (self.draw_constant(self.dtype(x), &[last / 2]), self.draw_constant(self.dtype(x), &[last / 2]));
        let interleaved = self.stream.one_in(2);
        let rounding = Rounding::Some(4.0 * (self.error(x) + self.bound(x) * super::epsilon(self.dtype(x))));
        self.add(Op::Rotary { interleaved }, &[x, cos, sin], rounding)
    }

    /// Attention over fresh inputs of x's type (values of just the right shape are rare).
    fn draw_attention(&mut self, x: At) -> Option<At> {
        let dtype = self.dtype(x);
        let (batch, queries, keys) = (self.draw_size(), self.draw_size(), self.draw_size());
        let (shared, share) = (1 + self.stream.below(2), 1 + self.stream.below(3));
        let (depth, width) = (1 + self.stream.below(4), 1 + self.stream.below(4));
        let mut input = |heads: usize, length: &Dim, size: usize| {
            let shape = vec![batch.clone(), Dim::from(heads), length.clone(), Dim::from(size)];
            self.add_input(crate::Type::new(dtype, shape))
        };
        let (q, k, v) =
            (input(shared * share, &queries, depth), input(shared, &keys, depth), input(shared, &keys, width));
        let mut operands = vec![q, k, v];
        if self.stream.one_in(2) {
            operands.push(self.add_input(crate::Type::new(dtype, vec![queries, keys])));
        }
        let rounding = Rounding::Some(64.0 * super::epsilon(dtype));
        self.add(Op::Attention { scale: Real(0.5) }, &operands, rounding)
    }

    /// Rows of x by the weights that constant ids choose.
    fn draw_routed(&mut self, x: At) -> Option<At> {
        let shape = self.known[x].ty.shape.clone();
        let [rows, depth] = shape.as_slice() else { return None };
        let (rows, depth) = (rows.as_usize()?, depth.as_usize()?);
        let (experts, chosen, width) = (1 + self.stream.below(4), 1 + self.stream.below(2), 1 + self.stream.below(4));
        let dtype = self.dtype(x);
        let weights = self.draw_constant(dtype, &[experts, depth, width]);
        let ids = self.draw_indices(&[rows, chosen], experts);
        let rounding = self.product_rounding(x, weights, depth, dtype);
        self.add(Op::Routed { spec: "td,tkde->tke".parse().ok()?, dtype }, &[x, weights, ids], rounding)
    }
}
