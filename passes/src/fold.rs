//! Evaluation at compile time, through the reference evaluation.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;
use tarsia_graph::{Op, Type, eval};
use tarsia_tensor::{Class, DType, Dim, Numbers, Overflow, Tensor};

/// The results of an op on known operands; `None` where it cannot be evaluated. What is made of absent data is absent, and known
/// by how it is made: so compilation takes the same course as with the data.
pub fn evaluate(op: &Op, operands: &[&Tensor]) -> Option<Vec<Tensor>> {
    if operands.iter().any(|tensor| tensor.missing().is_some()) && !matches!(op, Op::Reshape { .. }) {
        return absent(op, operands);
    }
    let operands: Vec<Tensor> = operands.iter().map(|&tensor| tensor.clone()).collect();
    eval::op(op, &operands, &tarsia_tensor::Bindings::new()).ok()
}

fn absent(op: &Op, operands: &[&Tensor]) -> Option<Vec<Tensor>> {
    let types: Vec<Type> = operands.iter().map(|tensor| Type::of(tensor)).collect();
    let types = tarsia_graph::infer(op, &types.iter().collect::<Vec<_>>()).ok()?;
    let made_of: Vec<String> = operands.iter().map(|tensor| name(tensor)).collect();
    let attrs: String = op.attrs().iter().map(|(name, attr)| format!(" {name}={attr:?}")).collect();
    let origin = format!("{}{attrs} of {}", op.name(), made_of.join(", "));
    let result = |(output, ty): (usize, &Type)| {
        let shape: Vec<usize> = ty.shape.iter().map(Dim::as_usize).collect::<Option<_>>()?;
        Tensor::absent(ty.dtype, &shape, &format!("{origin} #{output}")).ok()
    };
    types.iter().enumerate().map(result).collect()
}

/// A name for data: where they were to come from, or their hash.
fn name(tensor: &Tensor) -> String {
    let shape = tensor.shape();
    match tensor.missing() {
        Some(absent) => format!("({} {shape:?})", absent.origin),
        None => {
            let mut hasher = FxHasher::default();
            (tensor.dtype(), tensor.bytes(), tensor.strings()).hash(&mut hasher);
            format!("({:016x} {shape:?})", hasher.finish())
        }
    }
}

/// The value of a type that has no elements, whatever its symbols are.
pub fn empty(ty: &Type) -> Option<Tensor> {
    let shape: Vec<usize> = ty.shape.iter().map(Dim::as_usize).collect::<Option<_>>()?;
    let numbers = ty.dtype.is_numeric() && shape.contains(&0);
    numbers.then(|| Tensor::new(ty.dtype, &shape, Default::default()).ok()).flatten()
}

/// Whether evaluating an op at compile time is quick: the reference evaluation is slow, and takes no large products.
pub fn is_cheap(op: &Op, types: &[Type], operand_bytes: usize) -> bool {
    const PRODUCTS: usize = 1 << 22;
    match op {
        Op::Contract { .. } | Op::Conv { .. } | Op::Routed { .. } | Op::Attention { .. } => {
            let elements = types.iter().filter_map(|ty| ty.count().as_usize()).sum::<usize>();
            elements.saturating_mul(operand_bytes) < PRODUCTS
        }
        _ => true,
    }
}

/// `value` as `dtype` holds it.
pub fn round(value: f64, dtype: DType) -> Option<f64> {
    Numbers::Float(vec![value]).cast(DType::F64, dtype, Overflow::Special).to_f64().first().copied()
}

/// A scalar of `dtype`; `None` if it cannot hold numbers.
pub fn scalar(dtype: DType, value: f64) -> Option<Tensor> {
    let numbers = Numbers::Float(vec![value]).cast(DType::F64, dtype, Overflow::Special);
    Tensor::from_numbers(dtype, &[], &numbers).ok()
}

/// Whether every value of `narrow` is a value of `wide`.
pub fn holds_all(wide: DType, narrow: DType) -> bool {
    match (wide.class(), narrow.class()) {
        _ if wide == narrow => true,
        (Class::Float, Class::Float) => {
            wide == DType::F64
                || wide == DType::F32 && narrow != DType::F64
                || wide.bits() == 16 && narrow.bits() <= 8 && narrow != DType::F8E8M0
        }
        (Class::Float, Class::Int | Class::Uint) => mantissa(wide) >= narrow.bits(),
        (Class::Int, Class::Int) | (Class::Uint, Class::Uint) => wide != DType::Bool && wide.bits() >= narrow.bits(),
        (Class::Int, Class::Uint) => wide.bits() > narrow.bits(),
        _ => false,
    }
}

fn mantissa(dtype: DType) -> usize {
    match dtype {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 0,
    }
}

/// Whether two tensors agree up to the rounding that re-association may cost.
pub fn close(a: &Tensor, b: &Tensor) -> bool {
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return false;
    }
    let (Ok(x), Ok(y)) = (a.numbers(), b.numbers()) else { return a == b };
    let tolerance = tolerance(a.dtype());
    x.to_f64()
        .iter()
        .zip(y.to_f64())
        .all(|(&x, y)| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= tolerance * (1.0 + x.abs().max(y.abs())))
}

/// Relative rounding allowed between two equal formulas in `dtype`.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 2e-5,
        DType::F16 => 4e-3,
        _ if dtype.is_float() => 4e-2,
        _ => 0.0,
    }
}
