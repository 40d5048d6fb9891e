//! Weights of 2 to 8 bits with a scale for each block of them, packed into bytes.
//!
//! The codes become a view of the same bytes where there is an element type of that width; what follows is the arithmetic of
//! dequantisation, which rules fold into the product.

use tarsia_graph::{BinaryFn, Op, Value};
use tarsia_tensor::{DType, Dim, Numbers, Tensor};

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid, unsupported},
    ops::{
        Importer::One,
        Rows,
        contract::product,
        quantize::{Grain, dequantized},
    },
};

pub(super) const ROWS: Rows = &[
    row("GatherBlockQuantized", One(gather)),
    row("MatMulBnb4", One(matmul_bnb4)),
    row("MatMulNBits", One(matmul_nbits)),
];

/// `A · dequantised(B)ᵀ + bias` with B `[N, blocks, bytes]`.
fn matmul_nbits<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, packed, scales) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (n, k) = (size_of(node, "N")?, size_of(node, "K")?);
    let (bits, block) = (bits_of(node, "bits", 4)?, size_of(node, "block_size")?);
    if node.attr_int_or("weight_prepacked", 0)? != 0 {
        return Err(unsupported("weights in the layout of one GPU's kernels; export with `weight_prepacked` = 0"));
    }
    let dtype = ctx.dtype(a);
    let mut shape = ctx.shape(a);
    let Some(last) = shape.last_mut() else { return Err(invalid("its input has no axes")) };
    *last = Dim::Const(n);
    let y = if ctx.ty(packed).count().is(0) {
        let zero = ctx.scalar(dtype, 0.0);
        ctx.broadcast(zero, &shape)?
    } else {
        let blocks = (k + block - 1) / block;
        let codes = codes(ctx, packed, bits)?;
        let codes = ctx.reshape(codes, &[Dim::Const(n), Dim::Const(blocks * block)])?;
        let scales = ctx.reshape(scales, &[Dim::Const(n), Dim::Const(blocks)])?;
        let zeros = zero_points(ctx, node, 3, bits, &[n, blocks])?;
        let weights = match ctx.value_opt(node, 4)? {
            Some(groups) => regrouped(ctx, codes, scales, zeros, groups)?,
            None => {
                let grain = Grain::Blocks { axis: 1, size: Dim::Const(block) };
                dequantized(ctx, codes, scales, Some(zeros), &grain, dtype)?
            }
        };
        let weights = ctx.slice_axis(weights, 1, Dim::ZERO, Dim::Const(k), 1)?;
        let weights = ctx.cast(weights, dtype)?;
        let weights = ctx.transpose(weights, &[1, 0])?;
        product(ctx, a, weights, dtype)?
    };
    match ctx.value_opt(node, 5)? {
        Some(bias) => ctx.binary(BinaryFn::Add, y, bias),
        None => Ok(y),
    }
}

/// An attribute that is a positive size.
pub(super) fn size_of(node: &Node<'_>, name: &str) -> Outcome<i64> {
    let size = node.attr_int(name)?;
    if (1..=i64::from(i32::MAX)).contains(&size) { Ok(size) } else { Err(invalid(format!("`{name}` is {size}"))) }
}

/// An attribute that is the width of codes.
pub(super) fn bits_of(node: &Node<'_>, name: &str, default: i64) -> Outcome<usize> {
    match node.attr_int_or(name, default)? {
        bits @ (2 | 3 | 4 | 8) => Ok(bits as usize),
        bits => Err(unsupported(format!("codes of {bits} bits; 2, 3, 4 and 8 are"))),
    }
}

/// Zero points `shape`, given packed or as numbers; in the middle of the codes' range by default.
pub(super) fn zero_points<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    input: usize,
    bits: usize,
    shape: &[i64],
) -> Outcome<Value> {
    let Some(given) = ctx.value_opt(node, input)? else {
        return Ok(ctx.scalar(DType::U8, 2f64.powi(bits as i32 - 1)));
    };
    let shape: Vec<Dim> = shape.iter().map(|&size| Dim::Const(size)).collect();
    if ctx.dtype(given) != DType::U8 {
        return ctx.reshape(given, &shape);
    }
    let Some((columns, rows)) = shape.split_last() else { return Err(invalid("zero points without axes")) };
    // Rows of codes start at a byte of their own.
    let bytes = (columns.clone() * Dim::from(bits)).ceil_div(&Dim::Const(8));
    let packed = ctx.reshape(given, &[rows, &[bytes]].concat())?;
    let codes = spread(ctx, packed, bits)?;
    ctx.slice_axis(codes, rows.len(), Dim::ZERO, columns.clone(), 1)
}

/// The codes of `bits` that bytes hold along the last axis, the low ones first; of constant data a view of the same bytes, except
/// that three bits, of which there is no type, become four.
pub(super) fn codes(ctx: &mut Ctx<'_, '_>, packed: Value, bits: usize) -> Outcome<Value> {
    let dtype = match bits {
        2 => DType::U2,
        3 | 4 => DType::U4,
        _ => return Ok(packed),
    };
    let Some(tensor) = ctx.constant(packed).filter(|tensor| tensor.dtype() == DType::U8) else {
        return spread(ctx, packed, bits);
    };
    let mut shape = tensor.shape().to_vec();
    let Some(last) = shape.last_mut() else { return Err(invalid("packed weights without axes")) };
    *last = last.checked_mul(8).ok_or_else(|| invalid("the weights are too large"))? / bits;
    let constant = match bits {
        3 => Tensor::from_numbers(dtype, &shape, &Numbers::Uint(unpacked(&tensor, bits)?))?,
        _ => Tensor::new(dtype, &shape, tensor.bytes().clone())?,
    };
    Ok(ctx.add_constant(constant))
}

/// The codes of constant bytes, each row of which holds whole codes.
fn unpacked(tensor: &Tensor, bits: usize) -> Outcome<Vec<u64>> {
    tensor.present()?;
    let row = tensor.shape().last().copied().unwrap_or(1).max(1);
    let code = |bytes: &[u8], at: usize| {
        let (byte, shift) = (at / 8, at % 8);
        let pair = u16::from(bytes[byte]) | u16::from(bytes.get(byte + 1).copied().unwrap_or(0)) << 8;
        u64::from(pair >> shift & ((1 << bits) - 1))
    };
    let codes_of = |bytes: &[u8]| (0..bytes.len() * 8 / bits).map(|i| code(bytes, i * bits)).collect::<Vec<_>>();
    Ok(tensor.bytes().chunks_exact(row).flat_map(codes_of).collect())
}

/// The codes that bytes hold along the last axis, as u8: constants are unpacked here, run-time data by shifts.
fn spread(ctx: &mut Ctx<'_, '_>, packed: Value, bits: usize) -> Outcome<Value> {
    let shape = ctx.shape(packed);
    let Some((bytes, rows)) = shape.split_last() else { return Err(invalid("packed codes without axes")) };
    let bytes = bytes.as_usize().ok_or_else(|| unsupported("packed codes whose shape is not known"))?;
    if bits == 8 {
        return Ok(packed);
    }
    if let Some(tensor) = ctx.constant(packed) {
        let mut sizes = tensor.shape().to_vec();
        if let Some(last) = sizes.last_mut() {
            *last = bytes * 8 / bits;
        }
        let codes = Tensor::from_numbers(DType::U8, &sizes, &Numbers::Uint(unpacked(&tensor, bits)?))?;
        return Ok(ctx.add_constant(codes));
    }
    let axis = rows.len();
    let wide = ctx.cast(packed, DType::I32)?;
    let count = bytes * 8 / bits;
    let places = |after: usize| (0..count).map(|i| (i * bits / 8 + after).min(bytes - 1) as i64).collect::<Vec<_>>();
    let (low, high) = (ctx.ints(&places(0))?, ctx.ints(&places(1))?);
    let low = ctx.add(Op::Gather { axis }, &[wide, low])?;
    let high = ctx.add(Op::Gather { axis }, &[wide, high])?;
    let high = ctx.with_scalar(BinaryFn::Mul, high, 256.0)?;
    let pair = ctx.binary(BinaryFn::Add, low, high)?;
    let divisors: Vec<i32> = (0..count).map(|i| 1 << (i * bits % 8)).collect();
    let divisors = ctx.add_constant(Tensor::from_slice(&[count], &divisors)?);
    let shifted = ctx.binary(BinaryFn::Div, pair, divisors)?;
    let codes = ctx.with_scalar(BinaryFn::Mod, shifted, f64::from(1 << bits))?;
    ctx.cast(codes, DType::U8)
}

/// Weights each column of which names the group whose scale and zero point it has.
fn regrouped(ctx: &mut Ctx<'_, '_>, codes: Value, scales: Value, zeros: Value, groups: Value) -> Outcome<Value> {
    let count = ctx.size(scales, 1)?;
    let (columns, given) = (ctx.size(codes, 1)?, ctx.ty(groups).count());
    let groups = ctx.reshape(groups, std::slice::from_ref(&given))?;
    let groups = ctx.indices(groups, &count)?;
    let codes = ctx.slice_axis(codes, 1, Dim::ZERO, given.minimum(&columns), 1)?;
    let of_columns = |ctx: &mut Ctx<'_, '_>, x: Value| {
        if ctx.rank(x) < 2 {
            return Ok(x);
        }
        let x = ctx.cast(x, DType::F32)?;
        ctx.add(Op::Gather { axis: 1 }, &[x, groups])
    };
    let (scales, zeros) = (of_columns(ctx, scales)?, of_columns(ctx, zeros)?);
    let wide = ctx.cast(codes, DType::F32)?;
    let zeros = ctx.cast(zeros, DType::F32)?;
    let shifted = ctx.binary(BinaryFn::Sub, wide, zeros)?;
    ctx.binary(BinaryFn::Mul, shifted, scales)
}

/// Rows of a table whose elements have a scale per block, dequantised after they are chosen.
fn gather<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (table, indices, scales) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (rank, packed) = (ctx.rank(table), ctx.dtype(table) == DType::U8);
    let bits = if packed { bits_of(node, "bits", 4)? } else { 8 };
    let chosen_axis = axis_of(node.attr_int_or("gather_axis", 0)?, rank)?;
    let block_axis = axis_of(node.attr_int_or("quantize_axis", 1)?, rank)?;
    let size = ctx.size(table, chosen_axis)?;
    let indices = ctx.indices(indices, &size)?;
    let wanted = ctx.rank(indices);
    let zeros = match ctx.value_opt(node, 3)? {
        Some(zeros) if packed => Some(spread(ctx, zeros, bits)?),
        None if packed => Some(ctx.scalar(DType::U8, 2f64.powi(bits as i32 - 1))),
        other => other,
    };
    let block = match node.attr_int_or("block_size", 128)? {
        0 => ctx.size(table, block_axis)?,
        block if block > 0 => Dim::Const(block),
        block => return Err(invalid(format!("`block_size` is {block}"))),
    };
    // Along the axis that is chosen from, the block of an index is the index over the size of a block.
    let of_blocks = if chosen_axis == block_axis {
        let block = ctx.dim_scalar(&block, ctx.dtype(indices))?;
        ctx.binary(BinaryFn::Div, indices, block)?
    } else {
        indices
    };
    let mut codes = ctx.add(Op::Gather { axis: chosen_axis }, &[table, indices])?;
    if packed {
        codes = spread(ctx, codes, bits)?;
    }
    let of_rows = |ctx: &mut Ctx<'a, '_>, x: Value| -> Outcome<Value> {
        match ctx.rank(x) {
            0 => Ok(x),
            _ if ctx.size(x, chosen_axis)?.is(1) => {
                // One for all rows.
                let mut shape = ctx.shape(x);
                shape.splice(chosen_axis..chosen_axis + 1, vec![Dim::ONE; wanted]);
                ctx.reshape(x, &shape)
            }
            _ => {
                let wide = ctx.cast(x, DType::F32)?;
                ctx.add(Op::Gather { axis: chosen_axis }, &[wide, of_blocks])
            }
        }
    };
    let dtype = ctx.dtype(scales);
    let scales = of_rows(ctx, scales)?;
    let zeros = zeros.map(|zeros| of_rows(ctx, zeros)).transpose()?;
    let grain = if chosen_axis == block_axis {
        Grain::Broadcast(ctx.shape(scales))
    } else {
        let axis = if block_axis > chosen_axis { block_axis + wanted - 1 } else { block_axis };
        Grain::Blocks { axis, size: block }
    };
    dequantized(ctx, codes, scales, zeros, &grain, dtype)
}

/// The values of the four-bit floats of bitsandbytes, by code.
const FP4: [f32; 16] = [
    0.0,
    0.005_208_333,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -0.005_208_333,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];
/// The values of NormalFloat (arXiv 2305.14314, appendix E), by code.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A product with weights of four-bit floats, each block of which has a largest magnitude; codes start with the high half of a byte.
fn matmul_bnb4<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, packed, largest) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (n, k, block) = (size_of(node, "N")?, size_of(node, "K")?, size_of(node, "block_size")?);
    let values = match node.attr_int("quant_type")? {
        0 => FP4,
        1 => NF4,
        other => return Err(invalid(format!("`quant_type` is {other}"))),
    };
    let (count, dtype) = (n.checked_mul(k).ok_or_else(|| invalid("the weights are too large"))?, ctx.dtype(a));
    let bytes = ctx.ty(packed).count();
    let packed = ctx.reshape(packed, &[bytes.clone(), Dim::ONE])?;
    let codes = spread(ctx, packed, 4)?;
    let (low, high) =
        (ctx.slice_axis(codes, 1, Dim::ZERO, Dim::ONE, 1)?, ctx.slice_axis(codes, 1, Dim::ONE, Dim::ONE, 1)?);
    let codes = ctx.concat(&[high, low], 1)?;
    let codes = ctx.reshape(codes, &[bytes * Dim::Const(2)])?;
    let codes = ctx.slice_axis(codes, 0, Dim::ZERO, Dim::Const(count), 1)?;
    let codes = ctx.cast(codes, DType::I32)?;
    let table = ctx.add_constant(Tensor::from_slice(&[16], &values)?);
    let values = ctx.add(Op::Gather { axis: 0 }, &[table, codes])?;
    let grain = Grain::Blocks { axis: 0, size: Dim::Const(block) };
    let weights = dequantized(ctx, values, largest, None, &grain, dtype)?;
    let weights = ctx.reshape(weights, &[Dim::Const(n), Dim::Const(k)])?;
    let weights = if node.attr_bool_or("transB", true)? { ctx.transpose(weights, &[1, 0])? } else { weights };
    product(ctx, a, weights, dtype)
}
