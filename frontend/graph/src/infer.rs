//! Shape and type rules: what an op gives for operands of given types.
//!
//! Two unknown sizes that must agree are taken to be equal; binding checks it at run time.

use smallvec::{SmallVec, smallvec};
use tarsia_tensor::{DType, Dim, ReduceFn, element_count};
use thiserror::Error;

use crate::{Contraction, Kind, Op, Type, composite};

/// Operands do not fit an op.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("`{op}` cannot take {found}: {reason}")]
pub struct TypeError {
    op: &'static str,
    found: String,
    reason: String,
}

type Types = SmallVec<[Type; 1]>;

/// The result types of `op` on operands of these types.
///
/// # Errors
/// If the operand count, an element type, a rank or a known size does not fit.
pub fn infer(op: &Op, operands: &[&Type]) -> Result<Types, TypeError> {
    let (low, high) = op.arity();
    let result = if operands.len() < low || operands.len() > high {
        Err(format!("it takes {low} to {high} operands"))
    } else if computes(op) && operands.iter().any(|ty| !ty.dtype.is_numeric()) {
        Err("it computes with numbers, not with texts or whole values".to_owned())
    } else {
        result_types(op, operands).and_then(|types| match types.iter().find_map(impossible) {
            Some(reason) => Err(reason),
            None => Ok(types),
        })
    };
    result.map_err(|reason| {
        let found = match operands {
            [] => "no operands".to_owned(),
            _ => operands.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", "),
        };
        TypeError { op: op.name(), found, reason }
    })
}

/// Why no tensor has this type, if none does: a size below 0, or more elements than can be counted.
fn impossible(ty: &Type) -> Option<String> {
    if let Some(axis) = ty.shape.iter().position(|size| size.range().high < 0) {
        return Some(format!("axis {axis} of its result {ty} would have a negative size"));
    }
    // Sizes that are not known may be 1; an axis of size 0 does not make the others countable.
    let sizes: Vec<usize> = ty.shape.iter().filter_map(Dim::as_usize).map(|size| size.max(1)).collect();
    let bytes = element_count(&sizes).and_then(|count| ty.dtype.bytes_of(count));
    bytes.is_none_or(|bytes| bytes > isize::MAX as usize).then(|| format!("its result {ty} is larger than any memory"))
}

/// Whether an op adds up, multiplies or orders elements.
fn computes(op: &Op) -> bool {
    matches!(op.kind(), Kind::Reduce | Kind::Contract | Kind::Window | Kind::Composite)
}

fn result_types(op: &Op, x: &[&Type]) -> Result<Types, String> {
    let one = |dtype: DType, shape: Vec<Dim>| Ok(smallvec![Type { dtype, shape }]);
    match op {
        Op::Input { types, .. } => Ok(types.clone().into()),
        Op::Constant { value } => Ok(smallvec![Type::of(value)]),
        Op::Iota { dtype, shape, axis } => check_axis(*axis, shape.len()).and_then(|()| one(*dtype, shape.clone())),
        Op::Random { dtype, shape, .. } => one(*dtype, shape.clone()),
        Op::Size { .. } => one(DType::I64, Vec::new()),
        Op::Unary(f) => one(if f.is_predicate() { DType::Bool } else { x[0].dtype }, x[0].shape.clone()),
        Op::Binary(f) => {
            same_dtype(x)?;
            let shape = broadcast_shapes(&x[0].shape, &x[1].shape)?;
            one(if f.is_comparison() { DType::Bool } else { x[0].dtype }, shape)
        }
        Op::Select {} => {
            if x[0].dtype != DType::Bool {
                return Err("the condition must be bool".into());
            }
            same_dtype(&x[1..])?;
            one(x[1].dtype, broadcast_shapes(&broadcast_shapes(&x[0].shape, &x[1].shape)?, &x[2].shape)?)
        }
        Op::Cast { dtype, .. } => one(*dtype, x[0].shape.clone()),
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } | Op::Pad { .. } => {
            one(x[0].dtype, moved_shape(op, x)?)
        }
        Op::Concat { axis } => one(x[0].dtype, concat_shape(*axis, x)?),
        Op::Reduce { axes, .. } => {
            let mut shape = x[0].shape.clone();
            for &axis in axes {
                check_axis(axis, shape.len())?;
                shape[axis] = Dim::ONE;
            }
            one(x[0].dtype, shape)
        }
        Op::ArgReduce { axis, .. } => {
            check_axis(*axis, x[0].rank())?;
            let mut shape = x[0].shape.clone();
            shape[*axis] = Dim::ONE;
            one(DType::I64, shape)
        }
        Op::Scan { function: ReduceFn::Mean, .. } => Err("a running mean is no op: divide a running sum".into()),
        Op::Scan { axis, .. } => check_axis(*axis, x[0].rank()).and_then(|()| one(x[0].dtype, x[0].shape.clone())),
        Op::Contract { spec, dtype } => one(*dtype, contract_shape(spec, &x[0].shape, &x[1].shape)?),
        Op::Conv { .. } | Op::WindowReduce { .. } => window_types(op, x),
        Op::Gather { .. } | Op::TakeAlong { .. } | Op::ScatterRows { .. } | Op::ScatterAlong { .. } => {
            index_types(op, x)
        }
        Op::Sort { axis, .. } => {
            check_axis(*axis, x[0].rank())?;
            Ok(smallvec![x[0].clone(), Type::new(DType::I64, x[0].shape.clone())])
        }
        Op::TopK { axis, k, .. } => {
            check_axis(*axis, x[0].rank())?;
            let mut shape = x[0].shape.clone();
            if (k.clone() - shape[*axis].clone()).range().low > 0 {
                return Err(format!("there are no {k} elements along axis {axis}, but {}", shape[*axis]));
            }
            shape[*axis] = k.clone();
            Ok(smallvec![Type::new(x[0].dtype, shape.clone()), Type::new(DType::I64, shape)])
        }
        Op::If { types, .. } | Op::Loop { types, .. } | Op::ScanLoop { types, .. } | Op::Host { types, .. } => {
            Ok(types.clone().into())
        }
        Op::Kernel { body } => {
            let expected = body.inputs().len();
            if expected != x.len() {
                return Err(format!("its body has {expected} inputs"));
            }
            Ok(body.outputs().iter().map(|output| body.ty(output.value).clone()).collect())
        }
        Op::Softmax { .. }
        | Op::Gelu { .. }
        | Op::Silu {}
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::Rotary { .. }
        | Op::Attention { .. }
        | Op::Routed { .. } => composite::infer(op, x),
    }
}

/// The common shape of two operands under NumPy broadcasting; of two different unknown sizes the first is kept.
///
/// # Errors
/// If two known sizes differ and neither is 1.
pub fn broadcast_shapes(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], i: usize| (i + shape.len()).checked_sub(rank).map_or(Dim::ONE, |j| shape[j].clone());
    (0..rank)
        .map(|i| {
            let (x, y) = (at(a, i), at(b, i));
            match (x.as_const(), y.as_const()) {
                _ if x == y => Ok(x),
                (Some(1), _) => Ok(y),
                (_, Some(1)) => Ok(x),
                (Some(_), Some(_)) => Err(format!("sizes {x} and {y} of axis {i} do not broadcast")),
                (None, Some(_)) => Ok(y),
                _ => Ok(x),
            }
        })
        .collect()
}

/// Sizes agree unless both are known and differ.
pub(crate) fn agree(a: &Dim, b: &Dim) -> bool {
    match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

pub(crate) fn same_dtype(x: &[&Type]) -> Result<(), String> {
    match x.iter().all(|ty| ty.dtype == x[0].dtype) {
        true => Ok(()),
        false => Err("the operands must have one element type".into()),
    }
}

pub(crate) fn check_axis(axis: usize, rank: usize) -> Result<(), String> {
    if axis < rank { Ok(()) } else { Err(format!("axis {axis} is not below the rank {rank}")) }
}

fn check_len(name: &str, len: usize, rank: usize) -> Result<(), String> {
    if len == rank { Ok(()) } else { Err(format!("`{name}` has {len} entries for {rank} axes")) }
}

fn moved_shape(op: &Op, x: &[&Type]) -> Result<Vec<Dim>, String> {
    let (operand, rank) = (&x[0].shape, x[0].rank());
    match op {
        Op::Reshape { shape } => {
            let (from, to) = (x[0].count(), Dim::product(shape));
            if agree(&from, &to) { Ok(shape.clone()) } else { Err(format!("{from} elements do not fill {to}")) }
        }
        Op::Transpose { perm } => {
            check_len("perm", perm.len(), rank)?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..rank) {
                return Err(format!("{perm:?} is not a permutation"));
            }
            Ok(perm.iter().map(|&axis| operand[axis].clone()).collect())
        }
        Op::Broadcast { shape } => {
            if shape.len() < rank {
                return Err("the result has fewer axes".into());
            }
            let fits = operand.iter().rev().zip(shape.iter().rev()).all(|(from, to)| from.is(1) || agree(from, to));
            if fits { Ok(shape.clone()) } else { Err("only axes of size 1 can be repeated".into()) }
        }
        Op::Slice { starts, sizes, steps } => {
            check_len("starts", starts.len(), rank)?;
            check_len("sizes", sizes.len(), rank)?;
            check_len("steps", steps.len(), rank)?;
            for axis in 0..rank {
                check_slice(&operand[axis], &starts[axis], &sizes[axis], steps[axis])?;
            }
            Ok(sizes.clone())
        }
        Op::Pad { low, high, interior } => {
            check_len("low", low.len(), rank)?;
            check_len("high", high.len(), rank)?;
            check_len("interior", interior.len(), rank)?;
            same_dtype(x)?;
            Ok((0..rank)
                .map(|axis| {
                    let gaps = (operand[axis].clone() - Dim::ONE).maximum(&Dim::ZERO) * Dim::from(interior[axis]);
                    operand[axis].clone() + gaps + low[axis].clone() + high[axis].clone()
                })
                .collect())
        }
        _ => unreachable!("not a movement op"),
    }
}

fn check_slice(size: &Dim, start: &Dim, count: &Dim, step: i64) -> Result<(), String> {
    if step == 0 {
        return Err("a step is 0".into());
    }
    let (Some(size), Some(start), Some(count)) = (size.as_const(), start.as_const(), count.as_const()) else {
        return Ok(());
    };
    let last = (count - 1).checked_mul(step).and_then(|x| x.checked_add(start));
    let inside = |i: i64| (0..size).contains(&i);
    if count == 0 || count > 0 && inside(start) && last.is_some_and(inside) {
        Ok(())
    } else {
        Err(format!("{count} elements from {start} by {step} leave the axis of size {size}"))
    }
}

fn concat_shape(axis: usize, x: &[&Type]) -> Result<Vec<Dim>, String> {
    same_dtype(x)?;
    check_axis(axis, x[0].rank())?;
    let mut shape = x[0].shape.clone();
    for ty in &x[1..] {
        check_len("shape", ty.rank(), shape.len())?;
        for (i, dim) in ty.shape.iter().enumerate() {
            if i == axis {
                shape[i] = shape[i].clone() + dim.clone();
            } else if !agree(&shape[i], dim) {
                return Err(format!("sizes {} and {dim} of axis {i} differ", shape[i]));
            } else if shape[i].as_const().is_none() {
                shape[i] = dim.clone();
            }
        }
    }
    Ok(shape)
}

pub(crate) fn contract_shape(spec: &Contraction, lhs: &[Dim], rhs: &[Dim]) -> Result<Vec<Dim>, String> {
    check_len("spec", spec.lhs.len(), lhs.len())?;
    check_len("spec", spec.rhs.len(), rhs.len())?;
    let find = |letters: &[u8], shape: &[Dim], l: u8| letters.iter().position(|&x| x == l).map(|i| shape[i].clone());
    for &l in &spec.lhs {
        let (a, b) = (find(&spec.lhs, lhs, l), find(&spec.rhs, rhs, l));
        if let (Some(a), Some(b)) = (a, b)
            && !agree(&a, &b)
        {
            return Err(format!("sizes {a} and {b} of axis `{}` differ", char::from(l)));
        }
    }
    let size = |l: u8| find(&spec.lhs, lhs, l).or_else(|| find(&spec.rhs, rhs, l));
    spec.out.iter().map(|&l| size(l).ok_or_else(|| "unknown axis in the result".to_owned())).collect()
}

/// Window positions along an axis: `⌊(size + low + high - dilation·(window-1) - 1) / stride⌋ + 1`.
fn positions(
    size: &Dim,
    low: usize,
    high: usize,
    window: usize,
    dilation: usize,
    stride: usize,
) -> Result<Dim, String> {
    let reach = window.checked_sub(1).and_then(|w| w.checked_mul(dilation)).ok_or("a window is empty or too large")?;
    if stride == 0 || dilation == 0 {
        return Err("a stride or dilation is 0".into());
    }
    let room = size.clone() + Dim::from(low) + Dim::from(high) - Dim::from(reach) - Dim::ONE;
    Ok((room.floor_div(&Dim::from(stride)) + Dim::ONE).maximum(&Dim::ZERO))
}

fn window_types(op: &Op, x: &[&Type]) -> Result<Types, String> {
    let rank = x[0].rank();
    match op {
        Op::Conv { strides, low, high, dilations, groups, dtype } => {
            let spatial = rank.checked_sub(2).ok_or("a convolution needs batch and channel axes")?;
            check_len("window", x[1].rank(), rank)?;
            for (name, list) in [("strides", strides), ("low", low), ("high", high), ("dilations", dilations)] {
                check_len(name, list.len(), spatial)?;
            }
            let (Some(out), Some(depth)) = (x[1].shape[0].as_usize(), x[1].shape[1].as_usize()) else {
                return Err("the window's channel counts must be known".into());
            };
            let channels = groups.checked_mul(depth).ok_or("too many channels")?;
            if *groups == 0 || out % groups != 0 || !agree(&x[0].shape[1], &Dim::from(channels)) {
                return Err(format!("{groups} groups of {depth} channels do not fit"));
            }
            let mut shape = vec![x[0].shape[0].clone(), Dim::from(out)];
            for i in 0..spatial {
                let window = x[1].shape[i + 2].as_usize().ok_or("the window's size must be known")?;
                shape.push(positions(&x[0].shape[i + 2], low[i], high[i], window, dilations[i], strides[i])?);
            }
            Ok(smallvec![Type::new(*dtype, shape)])
        }
        Op::WindowReduce { window, strides, low, high, dilations, .. } => {
            for (name, list) in
                [("window", window), ("strides", strides), ("low", low), ("high", high), ("dilations", dilations)]
            {
                check_len(name, list.len(), rank)?;
            }
            let shape = (0..rank)
                .map(|i| positions(&x[0].shape[i], low[i], high[i], window[i], dilations[i], strides[i]))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(smallvec![Type::new(x[0].dtype, shape)])
        }
        _ => unreachable!("not a window op"),
    }
}

fn index_types(op: &Op, x: &[&Type]) -> Result<Types, String> {
    let rank = x[0].rank();
    if !matches!(x[1].dtype, DType::I64 | DType::I32) {
        return Err("indices must be i64 or i32".into());
    }
    let shape = match op {
        Op::Gather { axis } => {
            check_axis(*axis, rank)?;
            let mut shape = x[0].shape[..*axis].to_vec();
            shape.extend_from_slice(&x[1].shape);
            shape.extend_from_slice(&x[0].shape[axis + 1..]);
            shape
        }
        Op::TakeAlong { axis } => {
            check_axis(*axis, rank)?;
            check_len("indices", x[1].rank(), rank)?;
            check_within("indices", &x[1].shape, &x[0].shape, *axis)?;
            x[1].shape.clone()
        }
        Op::ScatterRows { .. } => {
            same_dtype(&[x[0], x[2]])?;
            check_axis(0, rank)?;
            check_len("indices", x[1].rank(), 1)?;
            check_len("updates", x[2].rank(), rank)?;
            if !agree(&x[1].shape[0], &x[2].shape[0])
                || !x[0].shape[1..].iter().zip(&x[2].shape[1..]).all(|(a, b)| agree(a, b))
            {
                return Err("indices, updates and rows differ in size".into());
            }
            x[0].shape.clone()
        }
        Op::ScatterAlong { axis, .. } => {
            same_dtype(&[x[0], x[2]])?;
            check_axis(*axis, rank)?;
            check_len("indices", x[1].rank(), rank)?;
            check_len("updates", x[2].rank(), rank)?;
            check_within("indices", &x[1].shape, &x[0].shape, *axis)?;
            if !x[1].shape.iter().zip(&x[2].shape).all(|(a, b)| agree(a, b)) {
                return Err("there must be as many updates as indices along every axis".into());
            }
            x[0].shape.clone()
        }
        _ => unreachable!("not an index op"),
    };
    Ok(smallvec![Type::new(x[0].dtype, shape)])
}

/// Along all axes but one there is an element for every index.
fn check_within(what: &str, indices: &[Dim], elements: &[Dim], but: usize) -> Result<(), String> {
    for (axis, (count, size)) in indices.iter().zip(elements).enumerate().filter(|&(axis, _)| axis != but) {
        if (count.clone() - size.clone()).range().low > 0 {
            return Err(format!("there are {count} {what} along axis {axis}, but only {size} elements"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_moved_but_not_computed_with() {
        let texts = Type::new(DType::String, vec![Dim::from(3usize), Dim::from(2usize)]);
        let error = infer(&Op::Softmax { axis: 1 }, &[&texts]).unwrap_err();
        assert!(error.to_string().contains("numbers"), "{error}");
        assert!(infer(&Op::Reduce { function: ReduceFn::Max, axes: vec![0] }, &[&texts]).is_err());
        assert_eq!(infer(&Op::Transpose { perm: vec![1, 0] }, &[&texts]).unwrap()[0].dtype, DType::String);
    }

    #[test]
    fn sizes_that_no_memory_holds_are_refused() {
        let half = Type::new(DType::F32, vec![Dim::from(1usize << 28), Dim::from(1usize << 28)]);
        assert!(infer(&Op::Unary(tarsia_tensor::UnaryFn::Neg), &[&half]).is_ok());
        let whole = Type::new(DType::F32, vec![Dim::from(1usize << 32), Dim::from(1usize << 32), Dim::ONE]);
        let error = infer(&Op::Unary(tarsia_tensor::UnaryFn::Neg), &[&whole]).unwrap_err();
        assert!(error.to_string().contains("larger than any memory"), "{error}");
        let empty = Type::new(DType::F32, vec![Dim::from(1usize << 62), Dim::from(1usize << 62), Dim::ZERO]);
        assert!(infer(&Op::Unary(tarsia_tensor::UnaryFn::Neg), &[&empty]).is_err());
        let negative = Type::new(DType::F32, vec![Dim::from(3usize) - Dim::from(4usize)]);
        let error = infer(&Op::Unary(tarsia_tensor::UnaryFn::Neg), &[&negative]).unwrap_err();
        assert!(error.to_string().contains("negative size"), "{error}");
    }

    #[test]
    fn indices_are_no_more_than_elements() {
        let ty = |dtype, sizes: &[usize]| Type::new(dtype, sizes.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>());
        let (data, few, many) = (ty(DType::F32, &[2, 3]), ty(DType::I64, &[2, 9]), ty(DType::I64, &[3, 1]));
        assert!(infer(&Op::TakeAlong { axis: 1 }, &[&data, &few]).is_ok());
        assert!(infer(&Op::TakeAlong { axis: 1 }, &[&data, &many]).is_err());
        let scatter = Op::ScatterAlong { function: crate::ScatterFn::Set, axis: 1 };
        assert!(infer(&scatter, &[&data, &few, &ty(DType::F32, &[2, 9])]).is_ok());
        assert!(infer(&scatter, &[&data, &few, &ty(DType::F32, &[2, 8])]).is_err());
        assert!(infer(&scatter, &[&data, &many, &ty(DType::F32, &[3, 1])]).is_err());
    }

    #[test]
    fn norms_keep_the_shape() {
        let ty = |sizes: &[usize]| Type::new(DType::F32, sizes.iter().map(|&n| Dim::from(n)).collect::<Vec<_>>());
        let norm = Op::RmsNorm { axis: 1, epsilon: crate::Real(1e-5) };
        assert!(infer(&norm, &[&ty(&[2, 3]), &ty(&[3])]).is_ok());
        for scale in [&[2][..], &[4, 2, 3], &[5, 3]] {
            assert!(infer(&norm, &[&ty(&[2, 3]), &ty(scale)]).is_err(), "{scale:?}");
        }
    }
}
