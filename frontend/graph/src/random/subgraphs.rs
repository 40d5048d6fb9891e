//! Drawing ops with sub-graphs, and host functions.

use std::sync::Arc;

use tarsia_tensor::{BinaryFn, DType, Numbers, Tensor, UnaryFn};

use super::{At, Maker, Rounding};
use crate::{Graph, Op, Origin, Type, Value};

/// A point-wise function without error growth: its slope is at most 1 in each operand, its result at most the operands' sum.
fn gentle(maker: &mut Maker, dtype: DType, body: &mut Graph, x: Value, y: Value) -> Option<Value> {
    let node = |body: &mut Graph, op: Op, operands: &[Value]| -> Option<Value> {
        Some(body.add(op, operands, Origin::of("gentle")).ok()?.into())
    };
    if dtype == DType::Bool {
        return node(body, Op::Binary(BinaryFn::Xor), &[x, y]);
    }
    if !dtype.is_float() {
        let function = *maker.stream.pick(&[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Max, BinaryFn::BitXor]);
        return node(body, Op::Binary(function), &[x, y]);
    }
    let function = *maker.stream.pick(&[UnaryFn::Tanh, UnaryFn::Sigmoid, UnaryFn::Sin, UnaryFn::Neg]);
    let inner = node(body, Op::Unary(function), &[x])?;
    let joined = *maker.stream.pick(&[BinaryFn::Add, BinaryFn::Sub, BinaryFn::Max]);
    node(body, Op::Binary(joined), &[inner, y])
}

impl Maker<'_> {
    /// A body of two inputs of one type with one result of that type.
    fn draw_body(&mut self, ty: &Type) -> Option<Arc<Graph>> {
        let mut body = Graph::new("body");
        let (x, y) = (body.add_input("x", ty.clone()), body.add_input("y", ty.clone()));
        let result = gentle(self, ty.dtype, &mut body, x, y)?;
        body.add_output("z", result);
        Some(Arc::new(body))
    }

    pub(super) fn draw_control(&mut self, x: At) -> Option<At> {
        let ty = self.known[x].ty.clone();
        let twin = self.find(|other| other.ty == ty)?;
        let epsilon = super::epsilon(ty.dtype);
        let error = 2.0 * (self.error(x) + self.error(twin)) + (self.bound(x) + self.bound(twin) + 2.0) * epsilon * 4.0;
        let rounding = if ty.dtype.is_float() { Rounding::Some(error) } else { Rounding::None };
        match self.stream.below(4) {
            0 => {
                let (then_branch, else_branch) = (self.draw_body(&ty)?, self.draw_body(&ty)?);
                let scalar = |other: &super::Known| other.ty.dtype == DType::Bool && other.ty.rank() == 0;
                let condition = self.find(scalar).unwrap_or_else(|| self.draw_constant(DType::Bool, &[]));
                self.add(Op::If { then_branch, else_branch, types: vec![ty] }, &[condition, x, twin], rounding)
            }
            1 => {
                let body = self.draw_body(&ty)?;
                self.add(Op::Kernel { body }, &[x, twin], rounding)
            }
            2 => self.draw_loop(x, twin, &ty, rounding),
            _ => self.draw_scan_loop(x, &ty),
        }
    }

    /// `z = gentle(z, twin)` a few times, each z also stacked.
    fn draw_loop(&mut self, x: At, twin: At, ty: &Type, rounding: Rounding) -> Option<At> {
        let mut body = Graph::new("body");
        body.add_input("step", Type::new(DType::I64, []));
        let going = body.add_input("going", Type::new(DType::Bool, []));
        let (z, y) = (body.add_input("z", ty.clone()), body.add_input("y", ty.clone()));
        let next = gentle(self, ty.dtype, &mut body, z, y)?;
        body.add_output("going", going);
        body.add_output("z", next);
        body.add_output("seen", next);
        let trips = self.stream.below(4);
        let trip_count = self.add_constant(Tensor::scalar(trips as i64));
        let condition = self.add_constant(super::tensor_of(DType::Bool, &[], &Numbers::Uint(vec![1])));
        let steps = self.fresh_symbol();
        let stacked: Vec<_> = [steps].into_iter().chain(ty.shape.iter().cloned()).collect();
        let types = vec![ty.clone(), Type::new(ty.dtype, stacked)];
        let rounding = match rounding {
            Rounding::Some(error) => Rounding::Some(error * 4.0),
            Rounding::None => Rounding::None,
        };
        self.add(Op::Loop { body: Arc::new(body), carried: 1, types }, &[trip_count, condition, x, twin], rounding)
    }

    /// The running `gentle(state, slice)` along an axis of x.
    fn draw_scan_loop(&mut self, x: At, ty: &Type) -> Option<At> {
        let axis = self.draw_axis(x)?;
        let mut slice = ty.clone();
        let length = slice.shape.remove(axis);
        let sizes = self.bindings.shape(&slice.shape).ok()?;
        if slice.shape.iter().any(|dim| dim.as_const().is_none()) {
            return None;
        }
        let state = self.draw_constant(ty.dtype, &sizes);
        let mut body = Graph::new("body");
        let (s, e) = (body.add_input("state", slice.clone()), body.add_input("element", slice.clone()));
        let next = gentle(self, ty.dtype, &mut body, s, e)?;
        body.add_output("state", next);
        body.add_output("element", next);
        let output_axis = self.stream.below(slice.rank() + 1);
        let mut stacked = slice.clone();
        stacked.shape.insert(output_axis, length);
        let op = Op::ScanLoop {
            body: Arc::new(body),
            states: 1,
            input_axes: vec![axis],
            input_reverse: vec![self.stream.one_in(2)],
            output_axes: vec![output_axis],
            output_reverse: vec![self.stream.one_in(2)],
            types: vec![slice, stacked],
        };
        let count = self.sizes(x)[axis] as f64;
        let each = self.error(x) + (self.bound(x) + 4.0) * super::epsilon(ty.dtype);
        let rounding = if ty.dtype.is_float() { Rounding::Some(count * 2.0 * each) } else { Rounding::None };
        self.add(op, &[state, x], rounding)
    }

    /// `nonzero` or the sorted `unique`, whose result sizes are fresh symbols.
    pub(super) fn draw_host(&mut self, x: At) -> Option<At> {
        if !self.is_exact(x) {
            return None;
        }
        let rank = self.rank(x);
        let count = self.fresh_symbol();
        let list = |dtype, length: &tarsia_tensor::Dim| Type::new(dtype, vec![length.clone()]);
        let (function, ints, types) = if self.stream.one_in(2) {
            ("nonzero", vec![], vec![Type::new(DType::I64, vec![rank.into(), count])])
        } else {
            let all = self.known[x].ty.count();
            let index = |length| list(DType::I64, length);
            ("unique", vec![1], vec![list(self.dtype(x), &count), index(&count), index(&all), index(&count)])
        };
        self.add(Op::Host { function: function.to_owned(), ints, reals: vec![], types }, &[x], Rounding::None)
    }
}
