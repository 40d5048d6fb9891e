//! Composite ops: their result types and the expansions that they equal.
//!
//! Shape, semantics and fall-back lowering of a composite *are* its expansion. Narrow floats (f16, bf16) expand into
//! arithmetic in f32 with one rounding at the end where the operator's definition computes so.

use smallvec::{SmallVec, smallvec};
use tarsia_tensor::{DType, Dim, Numbers, Tensor};

use crate::{
    BinaryFn, Contraction, Graph, GraphError, Op, Origin, ReduceFn, Type, UnaryFn, Value,
    infer::{agree, check_axis, contract_shape, same_dtype},
};

/// The result types of a composite.
pub(crate) fn infer(op: &Op, x: &[&Type]) -> Result<SmallVec<[Type; 1]>, String> {
    match op {
        Op::Softmax { axis } | Op::LayerNorm { axis, .. } | Op::RmsNorm { axis, .. } => check_axis(*axis, x[0].rank())?,
        Op::Rotary { .. } => check_axis(0, x[0].rank())?,
        _ => {}
    }
    match op {
        Op::Attention { .. } => {
            same_dtype(x)?;
            let (q, k, v) = (x[0], x[1], x[2]);
            if q.rank() != 4 || k.rank() != 4 || v.rank() != 4 {
                return Err("query, key and value must have 4 axes".into());
            }
            if !agree(&q.shape[3], &k.shape[3]) || !agree(&k.shape[2], &v.shape[2]) || !agree(&k.shape[1], &v.shape[1])
            {
                return Err("query, key and value differ in head size, length or heads".into());
            }
            if let (Some(h), Some(g)) = (q.shape[1].as_const(), k.shape[1].as_const())
                && (g <= 0 || h % g != 0)
            {
                return Err(format!("{h} query heads cannot share {g} key heads"));
            }
            if !agree(&q.shape[0], &k.shape[0]) || !agree(&q.shape[0], &v.shape[0]) {
                return Err("query, key and value differ in batch".into());
            }
            let scores = [q.shape[0].clone(), q.shape[1].clone(), q.shape[2].clone(), k.shape[2].clone()];
            if x.get(3).is_some_and(|mask| !broadcasts_to(&mask.shape, &scores)) {
                return Err("the mask must broadcast to batch, heads, queries and keys".into());
            }
            let shape = vec![q.shape[0].clone(), q.shape[1].clone(), q.shape[2].clone(), v.shape[3].clone()];
            Ok(smallvec![Type::new(q.dtype, shape)])
        }
        Op::Routed { spec, dtype } => {
            let gathered: Vec<Dim> =
                x[2].shape.iter().chain(x[1].shape.get(1..).unwrap_or_default()).cloned().collect();
            Ok(smallvec![Type::new(*dtype, contract_shape(spec, &x[0].shape, &gathered)?)])
        }
        Op::LayerNorm { .. } | Op::RmsNorm { .. } => {
            same_dtype(x)?;
            if x[1..].iter().any(|parameter| !broadcasts_to(&parameter.shape, &x[0].shape)) {
                return Err("scale and bias must broadcast to the first operand's shape".into());
            }
            Ok(smallvec![x[0].clone()])
        }
        Op::Rotary { .. } => {
            same_dtype(x)?;
            let mut half = x[0].shape.clone();
            if let Some(last) = half.last_mut() {
                if last.as_const().is_some_and(|size| size % 2 != 0) {
                    return Err(format!("the last axis has {last} elements, which make no pairs"));
                }
                *last = last.floor_div(&Dim::from(2usize));
            }
            if x[1..].iter().any(|angles| !broadcasts_to(&angles.shape, &half)) {
                return Err("cosines and sines must broadcast to half of the first operand's last axis".into());
            }
            Ok(smallvec![x[0].clone()])
        }
        _ => {
            same_dtype(x)?;
            Ok(smallvec![x[0].clone()])
        }
    }
}

/// Whether a shape broadcasts to another without changing that.
fn broadcasts_to(from: &[Dim], to: &[Dim]) -> bool {
    from.len() <= to.len() && from.iter().rev().zip(to.iter().rev()).all(|(from, to)| from.is(1) || agree(from, to))
}

/// Adds the expansion of the composite `op` to `graph` and gives its result; `None` if `op` is not a composite.
///
/// # Errors
/// If the operands do not fit.
pub fn expand(graph: &mut Graph, op: &Op, operands: &[Value], origin: &Origin) -> Result<Option<Value>, GraphError> {
    let mut b = Builder { graph, origin };
    Ok(Some(match op {
        Op::Softmax { axis } => b.softmax(operands[0], *axis)?,
        Op::Gelu { tanh } => b.gelu(operands[0], *tanh)?,
        Op::Silu {} => {
            let gate = b.unary(UnaryFn::Sigmoid, operands[0])?;
            b.binary(BinaryFn::Mul, operands[0], gate)?
        }
        Op::LayerNorm { axis, epsilon } => b.layer_norm(operands, *axis, epsilon.0)?,
        Op::RmsNorm { axis, epsilon } => b.rms_norm(operands, *axis, epsilon.0)?,
        Op::Rotary { interleaved } => b.rotary(operands, *interleaved)?,
        Op::Attention { scale } => b.attention(operands, scale.0)?,
        Op::Routed { spec, dtype } => {
            let gathered = b.add(Op::Gather { axis: 0 }, &[operands[1], operands[2]])?;
            b.add(Op::Contract { spec: spec.clone(), dtype: *dtype }, &[operands[0], gathered])?
        }
        _ => return Ok(None),
    }))
}

/// Adds nodes of one origin; short names for the ops that expansions use.
pub struct Builder<'a> {
    /// The graph that grows.
    pub graph: &'a mut Graph,
    /// Where the new nodes come from.
    pub origin: &'a Origin,
}

impl Builder<'_> {
    /// Adds `op` and gives its first result.
    ///
    /// # Errors
    /// If the operands do not fit.
    pub fn add(&mut self, op: Op, operands: &[Value]) -> Result<Value, GraphError> {
        Ok(self.graph.add(op, operands, self.origin.clone())?.into())
    }

    /// Point-wise function of one operand.
    ///
    /// # Errors
    /// If the operand does not fit.
    pub fn unary(&mut self, function: UnaryFn, x: Value) -> Result<Value, GraphError> {
        self.add(Op::Unary(function), &[x])
    }

    /// Point-wise function of two operands.
    ///
    /// # Errors
    /// If the operands do not fit.
    pub fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> Result<Value, GraphError> {
        self.add(Op::Binary(function), &[a, b])
    }

    /// A scalar constant of `dtype`.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        let tensor = Tensor::from_numbers(
            dtype,
            &[],
            &Numbers::Float(vec![value]).cast(DType::F64, dtype, tarsia_tensor::Overflow::Special),
        )
        .unwrap_or_else(|_| Tensor::scalar(value));
        self.graph.add_constant(tensor, self.origin.clone())
    }

    /// `x ∘ value` with a scalar of x's type.
    ///
    /// # Errors
    /// If the operand does not fit.
    pub fn with_scalar(&mut self, function: BinaryFn, x: Value, value: f64) -> Result<Value, GraphError> {
        let scalar = self.scalar(self.graph.ty(x).dtype, value);
        self.binary(function, x, scalar)
    }

    /// Reduction over `axes`, which stay with size 1.
    ///
    /// # Errors
    /// If an axis is out of range.
    pub fn reduce(&mut self, function: ReduceFn, x: Value, axes: &[usize]) -> Result<Value, GraphError> {
        self.add(Op::Reduce { function, axes: axes.to_vec() }, &[x])
    }

    /// Conversion to `dtype`, nothing if it has that type already.
    ///
    /// # Errors
    /// Never for numeric operands.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Result<Value, GraphError> {
        if self.graph.ty(x).dtype == dtype { Ok(x) } else { self.add(Op::Cast { dtype, saturate: true }, &[x]) }
    }

    /// Conversion to f32 of narrow floats; other types stay.
    ///
    /// # Errors
    /// Never for numeric operands.
    pub fn widen(&mut self, x: Value) -> Result<Value, GraphError> {
        match self.graph.ty(x).dtype {
            DType::F16 | DType::BF16 => self.cast(x, DType::F32),
            _ => Ok(x),
        }
    }

    /// `count` elements of `axis` from `start` by `step`, all of the other axes.
    ///
    /// # Errors
    /// If the axis is out of range or the slice leaves it.
    pub fn slice_axis(
        &mut self,
        x: Value,
        axis: usize,
        start: Dim,
        count: Dim,
        step: i64,
    ) -> Result<Value, GraphError> {
        let mut sizes = self.graph.ty(x).shape.clone();
        let mut starts = vec![Dim::ZERO; sizes.len()];
        let mut steps = vec![1; sizes.len()];
        if axis < sizes.len() {
            (starts[axis], sizes[axis], steps[axis]) = (start, count, step);
        }
        self.add(Op::Slice { starts, sizes, steps }, &[x])
    }

    /// The same elements under another shape, nothing if it is the same.
    ///
    /// # Errors
    /// If the element counts are known and differ.
    pub fn reshape(&mut self, x: Value, shape: &[Dim]) -> Result<Value, GraphError> {
        if self.graph.ty(x).shape == shape { Ok(x) } else { self.add(Op::Reshape { shape: shape.to_vec() }, &[x]) }
    }

    fn softmax(&mut self, x: Value, axis: usize) -> Result<Value, GraphError> {
        let dtype = self.graph.ty(x).dtype;
        let x = self.widen(x)?;
        let max = self.reduce(ReduceFn::Max, x, &[axis])?;
        let shifted = self.binary(BinaryFn::Sub, x, max)?;
        let exp = self.unary(UnaryFn::Exp, shifted)?;
        let sum = self.reduce(ReduceFn::Sum, exp, &[axis])?;
        let y = self.binary(BinaryFn::Div, exp, sum)?;
        self.cast(y, dtype)
    }

    fn gelu(&mut self, x: Value, tanh: bool) -> Result<Value, GraphError> {
        let dtype = self.graph.ty(x).dtype;
        let x = self.widen(x)?;
        let inner = if tanh {
            let square = self.binary(BinaryFn::Mul, x, x)?;
            let cubic = self.with_scalar(BinaryFn::Mul, square, 0.044715)?;
            let factor = self.with_scalar(BinaryFn::Add, cubic, 1.0)?;
            let scaled = self.with_scalar(BinaryFn::Mul, x, (2.0 / std::f64::consts::PI).sqrt())?;
            let argument = self.binary(BinaryFn::Mul, scaled, factor)?;
            self.unary(UnaryFn::Tanh, argument)?
        } else {
            let argument = self.with_scalar(BinaryFn::Mul, x, std::f64::consts::FRAC_1_SQRT_2)?;
            self.unary(UnaryFn::Erf, argument)?
        };
        let plus_one = self.with_scalar(BinaryFn::Add, inner, 1.0)?;
        let half = self.with_scalar(BinaryFn::Mul, x, 0.5)?;
        let y = self.binary(BinaryFn::Mul, half, plus_one)?;
        self.cast(y, dtype)
    }

    fn layer_norm(&mut self, operands: &[Value], axis: usize, epsilon: f64) -> Result<Value, GraphError> {
        let dtype = self.graph.ty(operands[0]).dtype;
        let x = self.widen(operands[0])?;
        let axes: Vec<usize> = (axis..self.graph.ty(x).rank()).collect();
        let mean = self.reduce(ReduceFn::Mean, x, &axes)?;
        let centred = self.binary(BinaryFn::Sub, x, mean)?;
        let y = self.normalise(centred, &axes, epsilon)?;
        let y = self.cast(y, dtype)?;
        let y = self.binary(BinaryFn::Mul, y, operands[1])?;
        self.binary(BinaryFn::Add, y, operands[2])
    }

    fn rms_norm(&mut self, operands: &[Value], axis: usize, epsilon: f64) -> Result<Value, GraphError> {
        let dtype = self.graph.ty(operands[0]).dtype;
        let x = self.widen(operands[0])?;
        let axes: Vec<usize> = (axis..self.graph.ty(x).rank()).collect();
        let y = self.normalise(x, &axes, epsilon)?;
        let y = self.cast(y, dtype)?;
        self.binary(BinaryFn::Mul, y, operands[1])
    }

    /// `x · rsqrt(mean(x²) + ε)`.
    fn normalise(&mut self, x: Value, axes: &[usize], epsilon: f64) -> Result<Value, GraphError> {
        let square = self.binary(BinaryFn::Mul, x, x)?;
        let mean = self.reduce(ReduceFn::Mean, square, axes)?;
        let shifted = self.with_scalar(BinaryFn::Add, mean, epsilon)?;
        let scale = self.unary(UnaryFn::Rsqrt, shifted)?;
        self.binary(BinaryFn::Mul, x, scale)
    }

    fn rotary(&mut self, operands: &[Value], interleaved: bool) -> Result<Value, GraphError> {
        let (x, cos, sin) = (operands[0], operands[1], operands[2]);
        let shape = self.graph.ty(x).shape.clone();
        let last = shape.len() - 1;
        let half = shape[last].floor_div(&Dim::Const(2));
        let (step, second) = if interleaved { (2, Dim::ONE) } else { (1, half.clone()) };
        let a = self.slice_axis(x, last, Dim::ZERO, half.clone(), step)?;
        let b = self.slice_axis(x, last, second, half.clone(), step)?;
        let (ac, bs) = (self.binary(BinaryFn::Mul, a, cos)?, self.binary(BinaryFn::Mul, b, sin)?);
        let (bc, as_) = (self.binary(BinaryFn::Mul, b, cos)?, self.binary(BinaryFn::Mul, a, sin)?);
        let first = self.binary(BinaryFn::Sub, ac, bs)?;
        let second = self.binary(BinaryFn::Add, bc, as_)?;
        if !interleaved {
            return self.add(Op::Concat { axis: last }, &[first, second]);
        }
        let mut column = shape.clone();
        column[last] = half;
        column.push(Dim::ONE);
        let (first, second) = (self.reshape(first, &column)?, self.reshape(second, &column)?);
        let pairs = self.add(Op::Concat { axis: last + 1 }, &[first, second])?;
        self.reshape(pairs, &shape)
    }

    fn attention(&mut self, operands: &[Value], scale: f64) -> Result<Value, GraphError> {
        let (q, k, v) = (operands[0], operands[1], operands[2]);
        let (qs, ks, vs) =
            (self.graph.ty(q).shape.clone(), self.graph.ty(k).shape.clone(), self.graph.ty(v).shape.clone());
        let dtype = self.graph.ty(q).dtype;
        let accumulate = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
        // Query heads that share a key head become an axis of their own.
        let share = qs[1].floor_div(&ks[1]);
        let grouped = [qs[0].clone(), ks[1].clone(), share, qs[2].clone(), qs[3].clone()];
        let q = self.reshape(q, &grouped)?;
        let spec = |text: &str| text.parse::<Contraction>().map_err(|_| GraphError::NoSuchValue(0, "attention"));
        let scores = self.add(Op::Contract { spec: spec("bghsd,bgtd->bghst")?, dtype: accumulate }, &[q, k])?;
        let flat = [qs[0].clone(), qs[1].clone(), qs[2].clone(), ks[2].clone()];
        let scores = self.reshape(scores, &flat)?;
        let mut scores = self.with_scalar(BinaryFn::Mul, scores, scale)?;
        if let Some(&mask) = operands.get(3) {
            let mask = self.cast(mask, accumulate)?;
            scores = self.binary(BinaryFn::Add, scores, mask)?;
        }
        let weights = self.softmax(scores, 3)?;
        let weights = self.cast(weights, dtype)?;
        let weights = self.reshape(
            weights,
            &[grouped[0].clone(), grouped[1].clone(), grouped[2].clone(), qs[2].clone(), ks[2].clone()],
        )?;
        let y = self.add(Op::Contract { spec: spec("bghst,bgte->bghse")?, dtype }, &[weights, v])?;
        self.reshape(y, &[qs[0].clone(), qs[1].clone(), qs[2].clone(), vs[3].clone()])
    }
}
