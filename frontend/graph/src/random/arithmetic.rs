//! Drawing leaves, point-wise ops, reductions and contractions, with the error that each can do.

use tarsia_tensor::{ArgReduceFn, BinaryFn, DType, Dim, Numbers, ReduceFn, UnaryFn};

use super::{At, Maker, Rounding, tensor_of};
use crate::{Contraction, Op};

/// How a float function is drawn.
#[derive(Clone, Copy)]
enum Domain {
    /// On any value up to this magnitude, with this slope at most (times the slope at the bound for growing functions).
    Any(f64),
    /// On `|x| + shift`, with this slope.
    Positive(f64, f64),
    /// On `tanh(x)·0.75`, with this slope.
    Inner(f64),
    /// On floats without error only.
    Jump,
    /// Exact everywhere.
    Exact,
}

fn domain(function: UnaryFn, bound: f64) -> Option<Domain> {
    Some(match function {
        UnaryFn::Abs | UnaryFn::Neg => Domain::Exact,
        UnaryFn::Exp | UnaryFn::Sinh | UnaryFn::Cosh if bound <= 5.0 => Domain::Any(bound.exp()),
        UnaryFn::Exp | UnaryFn::Sinh | UnaryFn::Cosh => return None,
        UnaryFn::Sin | UnaryFn::Cos | UnaryFn::Atan | UnaryFn::Tanh | UnaryFn::Asinh => Domain::Any(1.0),
        UnaryFn::Erf | UnaryFn::Sigmoid | UnaryFn::Softplus => Domain::Any(1.2),
        UnaryFn::Log => Domain::Positive(0.5, 2.0),
        UnaryFn::Sqrt => Domain::Positive(0.5, 1.0),
        UnaryFn::Rsqrt => Domain::Positive(0.5, 1.5),
        UnaryFn::Reciprocal => Domain::Positive(0.5, 4.0),
        UnaryFn::Acosh => Domain::Positive(1.5, 1.0),
        UnaryFn::Tan | UnaryFn::Asin | UnaryFn::Acos | UnaryFn::Atanh => Domain::Inner(2.4),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Trunc | UnaryFn::Sign => Domain::Jump,
        UnaryFn::IsNan | UnaryFn::IsInf => Domain::Exact,
        UnaryFn::Not | UnaryFn::BitNot => return None,
    })
}

impl Maker<'_> {
    pub(super) fn draw_leaf(&mut self) -> Option<At> {
        let shape: Vec<Dim> = (0..1 + self.stream.below(3)).map(|_| self.draw_size()).collect();
        let dtype = *self.stream.pick(&self.options.dtypes);
        let axis = self.stream.below(shape.len());
        match self.stream.below(5) {
            0 if !self.options.symbols => None,
            0 => self.add(Op::Size { dim: shape[axis].clone() }, &[], Rounding::None),
            1 if dtype.is_float() => {
                let distribution = self.stream.pick(&["uniform", "normal"]).to_string();
                let seed = self.stream.below(100) as i64;
                self.add(Op::Random { dtype, shape, distribution, seed }, &[], Rounding::Some(0.0))
            }
            2 => Some(self.draw_input()),
            _ if dtype == DType::Bool => None,
            _ => self.add(Op::Iota { dtype, shape, axis }, &[], Rounding::None),
        }
    }

    pub(super) fn draw_pointwise(&mut self, x: At) -> Option<At> {
        match self.stream.below(10) {
            0..3 => self.draw_unary(x),
            3..8 => self.draw_binary(x),
            8 => self.draw_select(x),
            _ => self.draw_cast(x),
        }
    }

    pub(super) fn draw_unary(&mut self, x: At) -> Option<At> {
        if self.dtype(x) == DType::Bool {
            return self.add(Op::Unary(UnaryFn::Not), &[x], Rounding::None);
        }
        if !self.is_float(x) {
            let function = *self.stream.pick(&[UnaryFn::Abs, UnaryFn::Neg, UnaryFn::Sign, UnaryFn::BitNot]);
            return self.add(Op::Unary(function), &[x], Rounding::None);
        }
        let function = *self.stream.pick(UnaryFn::ALL);
        let (x, slope) = match domain(function, self.bound(x))? {
            Domain::Exact => return self.add(Op::Unary(function), &[x], Rounding::None),
            Domain::Jump if self.is_exact(x) => return self.add(Op::Unary(function), &[x], Rounding::None),
            Domain::Jump => return None,
            Domain::Any(slope) => (x, slope),
            Domain::Positive(shift, slope) => (self.shifted_magnitude(x, shift)?, slope),
            Domain::Inner(slope) => {
                let tanh = self.add(Op::Unary(UnaryFn::Tanh), &[x], Rounding::Some(self.error(x)))?;
                let factor = self.scalar(self.dtype(x), 0.75);
                let error = self.error(tanh);
                (self.add(Op::Binary(BinaryFn::Mul), &[tanh, factor], Rounding::Some(error))?, slope)
            }
        };
        self.add(Op::Unary(function), &[x], Rounding::Some(slope * self.error(x)))
    }

    /// `|x| + shift`.
    fn shifted_magnitude(&mut self, x: At, shift: f64) -> Option<At> {
        let magnitude = self.add(Op::Unary(UnaryFn::Abs), &[x], Rounding::None)?;
        let shift = self.scalar(self.dtype(x), shift);
        self.add(Op::Binary(BinaryFn::Add), &[magnitude, shift], Rounding::Some(self.error(x)))
    }

    /// A value of x's type that broadcasts against it: a known one, or a constant.
    pub(super) fn partner(&mut self, x: At) -> At {
        let ty = self.known[x].ty.clone();
        let fits = |other: &super::Known| {
            other.ty.dtype == ty.dtype
                && ty.shape.iter().rev().zip(other.ty.shape.iter().rev()).all(|(a, b)| a == b || a.is(1) || b.is(1))
        };
        if let Some(found) = self.find(fits).filter(|_| !self.stream.one_in(3)) {
            return found;
        }
        let sizes = self.sizes(x);
        let shape: Vec<usize> = ty
            .shape
            .iter()
            .zip(&sizes)
            .map(|(dim, &size)| if dim.as_const().is_none() || self.stream.one_in(3) { 1 } else { size })
            .collect();
        let dropped = self.stream.below(shape.len() + 1);
        self.draw_constant(ty.dtype, &shape[dropped..])
    }

    pub(super) fn draw_binary(&mut self, x: At) -> Option<At> {
        let y = self.partner(x);
        let logic = [BinaryFn::And, BinaryFn::Or, BinaryFn::Xor, BinaryFn::Eq, BinaryFn::Ne];
        let function = *self.stream.pick(if self.dtype(x) == DType::Bool { &logic } else { BinaryFn::ALL });
        let (bx, by, ex, ey) = (self.bound(x), self.bound(y), self.error(x), self.error(y));
        let exact = self.is_exact(x) && self.is_exact(y);
        let op = Op::Binary(function);
        match function {
            BinaryFn::Eq | BinaryFn::Ne | BinaryFn::Lt | BinaryFn::Le | BinaryFn::Gt | BinaryFn::Ge => {
                exact.then(|| self.add(op, &[x, y], Rounding::None)).flatten()
            }
            BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => {
                (self.dtype(x) == DType::Bool).then(|| self.add(op, &[x, y], Rounding::None)).flatten()
            }
            _ if self.dtype(x) == DType::Bool => None,
            _ if !self.is_float(x) => match function {
                BinaryFn::Atan2 => None,
                _ => self.add(op, &[x, y], Rounding::None),
            },
            BinaryFn::Min | BinaryFn::Max => self.add(op, &[x, y], Rounding::None),
            BinaryFn::Add | BinaryFn::Sub => self.add(op, &[x, y], Rounding::Some(ex + ey)),
            BinaryFn::Mul => self.add(op, &[x, y], Rounding::Some(bx * ey + by * ex)),
            BinaryFn::Div => {
                let y = self.shifted_magnitude(y, 1.0)?;
                self.add(op, &[x, y], Rounding::Some(ex + bx * self.error(y)))
            }
            BinaryFn::Pow => {
                let x = self.shifted_magnitude(x, 0.5)?;
                let y = self.add(Op::Unary(UnaryFn::Tanh), &[y], Rounding::Some(ey))?;
                // ∂/∂x ≤ 2·max(1, 1/x^…), ∂/∂y ≤ x·|ln x| with x between 0.5 and its bound.
                let (bx, ex, ey) = (self.bound(x), self.error(x), self.error(y));
                self.add(op, &[x, y], Rounding::Some(4.0 * ex + (bx + 2.0) * (bx + 2.0).ln() * ey))
            }
            BinaryFn::Atan2 if exact => self.add(op, &[x, y], Rounding::Some(0.0)),
            BinaryFn::Mod | BinaryFn::Rem if self.options.tolerance.is_none() => self.add(op, &[x, y], Rounding::None),
            _ => None,
        }
    }

    fn draw_select(&mut self, x: At) -> Option<At> {
        let y = self.partner(x);
        let shape = self.known[x].ty.shape.clone();
        let fits = |other: &super::Known| other.ty.dtype == DType::Bool && other.ty.shape == shape;
        let condition = self.find(fits).unwrap_or_else(|| self.draw_constant(DType::Bool, &[]));
        self.add(Op::Select {}, &[condition, x, y], Rounding::None)
    }

    fn draw_cast(&mut self, x: At) -> Option<At> {
        let dtype = *self.stream.pick(&self.options.dtypes);
        let op = Op::Cast { dtype, saturate: true };
        match (self.is_float(x), dtype.is_float()) {
            (_, true) => self.add(op, &[x], Rounding::Some(self.error(x))),
            (true, false) if !self.is_exact(x) => None,
            // Values outside the target's range mean something else to every machine.
            (true, false) if self.bound(x) > 100.0 => None,
            _ => self.add(op, &[x], Rounding::None),
        }
    }

    pub(super) fn draw_reduction(&mut self, x: At) -> Option<At> {
        let axis = self.draw_axis(x)?;
        match self.stream.below(4) {
            0 if self.is_exact(x) && self.dtype(x) != DType::Bool => {
                let (function, last) = (*self.stream.pick(ArgReduceFn::ALL), self.stream.one_in(2));
                self.add(Op::ArgReduce { function, axis, last }, &[x], Rounding::None)
            }
            1 => {
                let function = match self.draw_function(x, self.sizes(x)[axis])? {
                    ReduceFn::Mean => ReduceFn::Max,
                    function => function,
                };
                let (exclusive, reverse) = (self.stream.one_in(2), self.stream.one_in(2));
                // The identity of the extremes is no finite number.
                let exclusive = exclusive && !matches!(function, ReduceFn::Min | ReduceFn::Max);
                let rounding = self.sum_rounding(x, function, self.sizes(x)[axis]);
                self.add(Op::Scan { function, axis, exclusive, reverse }, &[x], rounding)
            }
            _ => {
                let axes: Vec<usize> = (0..self.rank(x)).filter(|&a| a == axis || self.stream.one_in(3)).collect();
                let count = axes.iter().map(|&axis| self.sizes(x)[axis]).product();
                let function = self.draw_function(x, count)?;
                let rounding = self.sum_rounding(x, function, count);
                self.add(Op::Reduce { function, axes }, &[x], rounding)
            }
        }
    }

    /// A reduction that suits the type; products of few elements only.
    fn draw_function(&mut self, x: At, count: usize) -> Option<ReduceFn> {
        let function = *self.stream.pick(ReduceFn::ALL);
        let suits = match function {
            ReduceFn::Mean => self.is_float(x),
            ReduceFn::Prod => count <= 6,
            _ => true,
        };
        (suits && self.dtype(x) != DType::Bool).then_some(function)
    }

    pub(super) fn sum_rounding(&self, x: At, function: ReduceFn, count: usize) -> Rounding {
        let (bound, error, count) = (self.bound(x), self.error(x), count as f64);
        let epsilon = super::epsilon(self.dtype(x));
        match function {
            ReduceFn::Min | ReduceFn::Max => Rounding::None,
            _ if !self.is_float(x) => Rounding::None,
            ReduceFn::Sum => Rounding::Some(count * (error + bound * epsilon)),
            ReduceFn::Mean => Rounding::Some(error + bound * epsilon),
            ReduceFn::Prod => Rounding::Some(count * bound.max(1.0).powf(count - 1.0) * (error + bound * epsilon)),
        }
    }

    pub(super) fn draw_contraction(&mut self, x: At) -> Option<At> {
        if self.dtype(x) == DType::Bool || self.rank(x) > 6 {
            return None;
        }
        let shape = self.known[x].ty.shape.clone();
        if self.stream.one_in(2) {
            // A matrix product with a constant on the right.
            let inner = shape.last()?.as_usize()?;
            let columns = 1 + self.stream.below(5);
            let y = self.draw_constant(self.dtype(x), &[inner, columns]);
            let rows: Vec<u8> = (b'a'..).take(shape.len() - 1).collect();
            let spec = Contraction::new(
                rows.iter().copied().chain([b'y']).collect(),
                vec![b'y', b'z'],
                rows.iter().copied().chain([b'z']).collect(),
            );
            return self.contract(spec.ok()?, x, y);
        }
        let dtype = self.dtype(x);
        let y = self.find(|other| other.ty.dtype == dtype && other.ty.rank() <= 6)?;
        let spec = self.draw_pairing(x, y)?;
        self.contract(spec, x, y)
    }

    /// Axes of equal size are paired at random; pairs are summed over or kept.
    fn draw_pairing(&mut self, x: At, y: At) -> Option<Contraction> {
        let (left, right) = (self.known[x].ty.shape.clone(), self.known[y].ty.shape.clone());
        let lhs: Vec<u8> = (b'a'..).take(left.len()).collect();
        let mut rhs: Vec<u8> = (b'n'..).take(right.len()).collect();
        let mut out = Vec::new();
        for (i, letter) in lhs.iter().enumerate() {
            let twin = (0..right.len()).find(|&j| right[j] == left[i] && rhs[j] >= b'n' && !self.stream.one_in(3));
            if let Some(j) = twin {
                rhs[j] = *letter;
            }
            if twin.is_none() || self.stream.one_in(3) {
                out.push(*letter);
            }
        }
        out.extend(rhs.iter().copied().filter(|letter| *letter >= b'n'));
        // Any order of the result's axes is allowed.
        for i in (1..out.len()).rev() {
            out.swap(i, self.stream.below(i + 1));
        }
        Contraction::new(lhs, rhs, out).ok()
    }

    pub(super) fn contract(&mut self, spec: Contraction, x: At, y: At) -> Option<At> {
        let summed: usize = spec
            .summed()
            .iter()
            .filter_map(|letter| spec.lhs.iter().position(|l| l == letter))
            .map(|axis| self.sizes(x)[axis])
            .product();
        let dtype = match self.dtype(x) {
            DType::I8 | DType::U8 => DType::I32,
            dtype => dtype,
        };
        let rounding = self.product_rounding(x, y, summed, dtype);
        self.add(Op::Contract { spec, dtype }, &[x, y], rounding)
    }

    /// `summed` products added up (narrow floats in f32).
    pub(super) fn product_rounding(&self, x: At, y: At, summed: usize, dtype: DType) -> Rounding {
        if !dtype.is_float() {
            return Rounding::None;
        }
        let (bx, by, ex, ey) = (self.bound(x), self.bound(y), self.error(x), self.error(y));
        let epsilon = super::epsilon(if dtype == DType::F64 { DType::F64 } else { DType::F32 });
        Rounding::Some(summed as f64 * (bx * ey + by * ex + bx * by * epsilon))
    }

    /// Indices below `size`.
    pub(super) fn draw_indices(&mut self, shape: &[usize], size: usize) -> At {
        let count = shape.iter().product();
        let indices = Numbers::Int((0..count).map(|_| self.stream.below(size) as i64).collect());
        let dtype = *self.stream.pick(&[DType::I64, DType::I64, DType::I32]);
        self.add_constant(tensor_of(dtype, shape, &indices))
    }
}
