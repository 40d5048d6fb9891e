//! Adding core ops: short names for what importers use.

use tarsia_graph::{
    BinaryFn, Contraction, NodeId, Op, Real, ReduceFn, ScatterFn, Type, UnaryFn, Value, composite::Builder, infer,
};
use tarsia_tensor::{Class, DType, Dim, Numbers, Overflow, Tensor};

use super::{Ctx, Element, Known, Outcome, invalid, unsupported};
use crate::Node;

impl<'a> Ctx<'a, '_> {
    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        self.graph.ty(value)
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Vec<Dim> {
        self.graph.ty(value).shape.clone()
    }

    /// The number of axes of a value.
    pub fn rank(&self, value: Value) -> usize {
        self.graph.ty(value).rank()
    }

    /// The element type of a value.
    pub fn dtype(&self, value: Value) -> DType {
        self.graph.ty(value).dtype
    }

    /// The size of one axis.
    pub fn size(&self, value: Value, axis: usize) -> Outcome<Dim> {
        self.ty(value).shape.get(axis).cloned().ok_or_else(|| invalid(format!("operand has no axis {axis}")))
    }

    fn builder(&mut self) -> Builder<'_> {
        Builder { graph: &mut self.graph, origin: &self.origin }
    }

    /// Adds an op and gives its first result.
    pub fn add(&mut self, op: Op, operands: &[Value]) -> Outcome<Value> {
        Ok(self.add_node(op, operands)?.into())
    }

    /// Adds an op with several results. Texts and whole values are moved by the host.
    pub fn add_node(&mut self, op: Op, operands: &[Value]) -> Outcome<NodeId> {
        if operands.iter().any(|&value| !self.dtype(value).is_numeric())
            && let Some((op, operands)) = self.moved_by_host(&op, operands)?
        {
            return Ok(self.graph.add(op, &operands, self.origin.clone())?);
        }
        Ok(self.graph.add(op, operands, self.origin.clone())?)
    }

    /// The host function that does what an op that moves elements does, with its operands.
    fn moved_by_host(&mut self, op: &Op, operands: &[Value]) -> Outcome<Option<(Op, Vec<Value>)>> {
        let mut all = operands.to_vec();
        let axis = |axis: &usize| vec![*axis as i64];
        let (function, ints) = match op {
            Op::Gather { axis: at } => ("gather", axis(at)),
            Op::TakeAlong { axis: at } => ("take_along", axis(at)),
            Op::ScatterRows { function: ScatterFn::Set } => ("scatter_rows", Vec::new()),
            Op::ScatterAlong { function: ScatterFn::Set, axis: at } => ("scatter_along", axis(at)),
            Op::Concat { axis: at } => ("concat", axis(at)),
            Op::Select {} => ("select", Vec::new()),
            Op::Transpose { perm } => ("transpose", perm.iter().map(|&axis| axis as i64).collect()),
            Op::Broadcast { shape } => {
                all.push(self.dims_vector(shape)?);
                ("broadcast", Vec::new())
            }
            Op::Slice { starts, sizes, steps } => {
                all.extend([self.dims_vector(starts)?, self.dims_vector(sizes)?]);
                ("strided", steps.clone())
            }
            _ => return Ok(None),
        };
        let operand_types: Vec<&Type> = operands.iter().map(|&value| self.graph.ty(value)).collect();
        let types = infer(op, &operand_types).map_err(|error| invalid(error.to_string()))?.into_vec();
        Ok(Some((Op::Host { function: function.into(), ints, reals: Vec::new(), types }, all)))
    }

    /// Adds constant data.
    pub fn add_constant(&mut self, tensor: Tensor) -> Value {
        self.graph.add_constant(tensor, self.origin.clone())
    }

    /// A scalar constant.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        self.builder().scalar(dtype, value)
    }

    /// A scalar constant of the type that `like` has.
    pub fn scalar_like(&mut self, like: Value, value: f64) -> Value {
        let dtype = self.dtype(like);
        self.scalar(dtype, value)
    }

    /// An i64 vector constant.
    pub fn ints(&mut self, values: &[i64]) -> Outcome<Value> {
        let tensor = Tensor::from_slice(&[values.len()], values)?;
        Ok(self.add_constant(tensor))
    }

    /// Point-wise function of one operand.
    pub fn unary(&mut self, function: UnaryFn, x: Value) -> Outcome<Value> {
        self.add(Op::Unary(function), &[x])
    }

    /// Point-wise function of two operands, which broadcast.
    pub fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> Outcome<Value> {
        self.add(Op::Binary(function), &[a, b])
    }

    /// `x ∘ value` with a scalar of x's type.
    pub fn with_scalar(&mut self, function: BinaryFn, x: Value, value: f64) -> Outcome<Value> {
        let scalar = self.scalar_like(x, value);
        self.binary(function, x, scalar)
    }

    /// `condition ? a : b`.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Outcome<Value> {
        self.add(Op::Select {}, &[condition, a, b])
    }

    /// Conversion to `dtype`, nothing if it has that type.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Outcome<Value> {
        Ok(self.builder().cast(x, dtype)?)
    }

    /// Conversion to f32 of f16 and bf16; other types stay.
    pub fn widen(&mut self, x: Value) -> Outcome<Value> {
        Ok(self.builder().widen(x)?)
    }

    /// The same elements under another shape, nothing if it is the same.
    pub fn reshape(&mut self, x: Value, shape: &[Dim]) -> Outcome<Value> {
        Ok(self.builder().reshape(x, shape)?)
    }

    /// Axes in another order, nothing if it is the same.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Outcome<Value> {
        if perm.iter().copied().eq(0..self.rank(x)) {
            return Ok(x);
        }
        self.add(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Axes of size 1 and new leading axes repeated to `shape`, nothing if it is the same.
    pub fn broadcast(&mut self, x: Value, shape: &[Dim]) -> Outcome<Value> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.add(Op::Broadcast { shape: shape.to_vec() }, &[x])
    }

    /// `count` elements of `axis` from `start` by `step`, all of the other axes.
    pub fn slice_axis(&mut self, x: Value, axis: usize, start: Dim, count: Dim, step: i64) -> Outcome<Value> {
        if start.is(0) && step == 1 && self.size(x, axis)? == count {
            return Ok(x);
        }
        Ok(self.builder().slice_axis(x, axis, start, count, step)?)
    }

    /// Operands joined along an axis; a single one stays.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Outcome<Value> {
        match values {
            [only] => Ok(*only),
            _ => self.add(Op::Concat { axis }, values),
        }
    }

    /// Reduction over `axes`, which stay with size 1; nothing for no axes.
    pub fn reduce(&mut self, function: ReduceFn, x: Value, axes: &[usize]) -> Outcome<Value> {
        if axes.is_empty() {
            return Ok(x);
        }
        Ok(self.builder().reduce(function, x, axes)?)
    }

    /// The operand without the given axes, which have size 1.
    pub fn squeeze(&mut self, x: Value, axes: &[usize]) -> Outcome<Value> {
        let shape: Vec<Dim> =
            self.shape(x).into_iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d).collect();
        self.reshape(x, &shape)
    }

    /// The operand with a new axis of size 1 before `axis`.
    pub fn unsqueeze(&mut self, x: Value, axis: usize) -> Outcome<Value> {
        let mut shape = self.shape(x);
        if axis > shape.len() {
            return Err(invalid(format!("axis {axis} cannot be put into {} axes", shape.len())));
        }
        shape.insert(axis, Dim::ONE);
        self.reshape(x, &shape)
    }

    /// Padding with a scalar.
    pub fn pad(&mut self, x: Value, fill: Value, low: Vec<Dim>, high: Vec<Dim>) -> Outcome<Value> {
        if low.iter().chain(&high).all(|dim| dim.is(0)) {
            return Ok(x);
        }
        let interior = vec![0; low.len()];
        self.add(Op::Pad { low, high, interior }, &[x, fill])
    }

    /// Contraction by a text such as `bij,bjk->bik`, with the left operand's type.
    pub fn contract(&mut self, spec: &str, a: Value, b: Value) -> Outcome<Value> {
        let dtype = self.dtype(a);
        self.contract_to(spec, a, b, dtype)
    }

    /// Contraction by a text, with a result of `dtype`.
    pub fn contract_to(&mut self, spec: &str, a: Value, b: Value, dtype: DType) -> Outcome<Value> {
        let spec: Contraction = spec.parse().map_err(|error| invalid(format!("{error}")))?;
        self.add(Op::Contract { spec, dtype }, &[a, b])
    }

    /// Attention of `[query, key, value]` with an optional additive mask. Key and value have the same heads and length: a size that is
    /// known of one is that of the other.
    pub fn attention(&mut self, scale: f64, mut operands: Vec<Value>) -> Outcome<Value> {
        for (of, from) in [(1, 2), (2, 1)] {
            let (mut shape, other) = (self.shape(operands[of]), self.shape(operands[from]));
            for (size, known) in shape.iter_mut().zip(&other).take(3) {
                if size.as_const().is_none() && known.as_const().is_some() {
                    *size = known.clone();
                }
            }
            operands[of] = self.reshape(operands[of], &shape)?;
        }
        self.add(Op::Attention { scale: Real(scale) }, &operands)
    }

    /// 0, 1, 2 … along `axis` of `shape`.
    pub fn iota(&mut self, dtype: DType, shape: &[Dim], axis: usize) -> Outcome<Value> {
        self.add(Op::Iota { dtype, shape: shape.to_vec(), axis }, &[])
    }

    /// A size as a scalar of `dtype`.
    pub fn dim_scalar(&mut self, dim: &Dim, dtype: DType) -> Outcome<Value> {
        if let Some(value) = dim.as_const() {
            let tensor = Tensor::from_numbers(
                dtype,
                &[],
                &Numbers::Int(vec![value]).cast(DType::I64, dtype, Overflow::Special),
            )?;
            return Ok(self.add_constant(tensor));
        }
        let size = self.add(Op::Size { dim: dim.clone() }, &[])?;
        self.cast(size, dtype)
    }

    /// Sizes as an i64 vector.
    pub fn dims_vector(&mut self, dims: &[Dim]) -> Outcome<Value> {
        self.materialise(&Known::vector(dims.iter().cloned()))
    }

    /// Indices with negative ones counted from the end of an axis of `size`, as i64. Constants are normalised here.
    pub fn indices(&mut self, indices: Value, size: &Dim) -> Outcome<Value> {
        let dtype = self.dtype(indices);
        if !matches!(dtype, DType::I32 | DType::I64) {
            return Err(invalid(format!("indices are {dtype}, not i32 or i64")));
        }
        if let Some(known) = self.known_value(indices)
            && let Some(dims) = known.dims()
        {
            let low = dims.iter().map(|dim| dim.range().low).min().unwrap_or(0);
            if low >= 0 {
                return Ok(indices);
            }
            if dims.iter().all(|dim| dim.range().low >= 0 || dim.range().high < 0) {
                let wrap = |dim: &Dim| if dim.range().low >= 0 { dim.clone() } else { dim.clone() + size.clone() };
                let elements: Vec<Element> = dims.iter().map(|dim| wrap(dim).into()).collect();
                return self.materialise(&Known { dtype: DType::I64, shape: known.shape, elements });
            }
        }
        if self.is_non_negative(indices) {
            return Ok(indices);
        }
        let negative = self.with_scalar(BinaryFn::Lt, indices, 0.0)?;
        let size = self.dim_scalar(size, dtype)?;
        let wrapped = self.binary(BinaryFn::Add, indices, size)?;
        self.select(negative, wrapped, indices)
    }

    /// A tensor of known elements as a value.
    pub fn materialise(&mut self, known: &Known) -> Outcome<Value> {
        if let Some(tensor) = known.to_tensor() {
            return Ok(self.add_constant(tensor));
        }
        let shape: Vec<Dim> = known.shape.iter().map(|&size| Dim::from(size)).collect();
        let wide = if known.dtype.class() == Class::Float { known.dtype } else { DType::I64 };
        let mut parts = Vec::new();
        for element in &known.elements {
            let mut part = self.dim_scalar(&element.numerator, wide)?;
            if element.denominator != 1 {
                part = self.with_scalar(BinaryFn::Div, part, element.denominator as f64)?;
            }
            parts.push(if shape.is_empty() { part } else { self.reshape(part, &[Dim::ONE])? });
        }
        let joined = self.concat(&parts, 0)?;
        let shaped = self.reshape(joined, &shape)?;
        let value = self.cast(shaped, known.dtype)?;
        self.known.insert(value, known.clone());
        Ok(value)
    }

    /// The integers of an input that must be known at import, up to symbols; `None` if the input is left out.
    pub fn dims_opt(&self, node: &Node<'a>, index: usize) -> Option<Option<Vec<Dim>>> {
        self.item(node, index)?;
        Some(self.known(node, index).and_then(|known| known.dims()))
    }

    /// The integers, without symbols, of an input that must be known at import; `None` if the input is left out.
    pub fn const_ints(&self, node: &Node<'a>, index: usize, what: &str) -> Outcome<Option<Vec<i64>>> {
        if self.item(node, index).is_none() {
            return Ok(None);
        }
        let ints = self.known(node, index).and_then(|known| known.ints());
        ints.map(Some).ok_or_else(|| unsupported(format!("{what} (input {index}) that the run-time data decide")))
    }

    /// A shape that only run-time data tell, its symbols named after what gives it.
    pub fn fresh_shape(&mut self, what: &str, rank: usize) -> Vec<Dim> {
        (0..rank).map(|_| self.fresh(what)).collect()
    }

    /// A host function with one result of `dtype` and fresh sizes: what an operator becomes whose shape run-time data decide.
    pub fn host(
        &mut self,
        function: &str,
        ints: Vec<i64>,
        operands: &[Value],
        dtype: DType,
        rank: usize,
    ) -> Outcome<Value> {
        let types = vec![Type::new(dtype, self.fresh_shape(function, rank))];
        self.add(Op::Host { function: function.into(), ints, reals: Vec::new(), types }, operands)
    }

    /// The same elements under a shape that run-time data give, as an i64 vector without 0 or -1 of special meaning.
    pub fn reshape_at_run_time(&mut self, x: Value, shape: Value) -> Outcome<Value> {
        let (dtype, rank) = (self.dtype(x), self.vector_length(shape)?);
        self.host("reshape", vec![1], &[x, shape], dtype, rank)
    }

    /// The length of a vector of which run-time data give the elements but not the length.
    pub fn vector_length(&self, value: Value) -> Outcome<usize> {
        match self.ty(value).shape.as_slice() {
            [] => Ok(1),
            [length] => length.as_usize().filter(|&length| length <= 64).ok_or_else(|| {
                unsupported(format!(
                    "a vector of {length} sizes or axes that run-time data give; its length must be known"
                ))
            }),
            shape => Err(invalid(format!("sizes or axes with {} axes", shape.len()))),
        }
    }
}
