//! Windows, Fourier transforms and mel filters.
//!
//! A transform of known length is a contraction with its matrix, in steps by the factors of the length; frames of a signal are the windows
//! of a convolution with the rows of that matrix. Lengths that only run-time data tell are left to the host.

use std::f64::consts::TAU;

use tarsia_graph::{BinaryFn, Op, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim, Numbers, Tensor};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("BlackmanWindow", 17, One(|ctx, node| window(ctx, node, &[0.42, -0.5, 0.08]))),
    Row::new("DFT", 17, One(dft)),
    Row::new("HammingWindow", 17, One(|ctx, node| window(ctx, node, &[25.0 / 46.0, -21.0 / 46.0]))),
    Row::new("HannWindow", 17, One(|ctx, node| window(ctx, node, &[0.5, -0.5]))),
    Row::new("MelWeightMatrix", 17, One(mel_weight_matrix)),
    Row::new("STFT", 17, One(stft)),
];

/// The sum of cosines with these factors, `Σ factors[i]·cos(2πi·k/n)`, for k from 0.
fn window<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, factors: &[f64]) -> Outcome<Value> {
    let dtype = node.attr_dtype_opt("output_datatype")?.unwrap_or(DType::F32);
    let periodic = node.attr_bool_or("periodic", true)?;
    let size = ctx.known(node, 0).and_then(|known| known.only().cloned());
    let (count, size) = match size {
        Some(size) => (ctx.iota(DType::I64, std::slice::from_ref(&size), 0)?, ctx.dim_scalar(&size, DType::I64)?),
        None => {
            let size = ctx.value(node, 0)?;
            let size = ctx.reshape(size, &[])?;
            let size = ctx.cast(size, DType::I64)?;
            let (zero, one) = (ctx.scalar(DType::I64, 0.0), ctx.scalar(DType::I64, 1.0));
            (ctx.host("range", Vec::new(), &[zero, size, one], DType::I64, 1)?, size)
        }
    };
    let (count, size) = (ctx.cast(count, DType::F64)?, ctx.cast(size, DType::F64)?);
    let size = if periodic { size } else { ctx.with_scalar(BinaryFn::Sub, size, 1.0)? };
    let turns = ctx.binary(BinaryFn::Div, count, size)?;
    let angle = ctx.with_scalar(BinaryFn::Mul, turns, TAU)?;
    let mut sum: Option<Value> = None;
    for (i, &factor) in factors.iter().enumerate() {
        let angle = ctx.with_scalar(BinaryFn::Mul, angle, i as f64)?;
        let cosine = ctx.unary(UnaryFn::Cos, angle)?;
        let term = ctx.with_scalar(BinaryFn::Mul, cosine, factor)?;
        sum = Some(match sum {
            None => term,
            Some(sum) => ctx.binary(BinaryFn::Add, sum, term)?,
        });
    }
    ctx.cast(sum.unwrap_or(angle), dtype)
}

fn mel_weight_matrix<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let operands = ctx.values(node)?;
    let dtype = node.attr_dtype_opt("output_datatype")?.unwrap_or(DType::F32);
    ctx.host("mel_weight_matrix", vec![i64::from(dtype.onnx())], &operands, dtype, 2)
}

/// A complex value: real parts, and imaginary ones unless all are 0.
#[derive(Clone, Copy)]
struct Complex {
    re: Value,
    im: Option<Value>,
}

/// An operand whose last axis holds real parts, or real and imaginary ones.
fn parts(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Complex> {
    let last = ctx.rank(x).checked_sub(1).ok_or_else(|| invalid("a scalar is no signal"))?;
    let mut part = |at: i64| {
        let part = ctx.slice_axis(x, last, Dim::Const(at), Dim::ONE, 1)?;
        ctx.squeeze(part, &[last])
    };
    let re = part(0)?;
    match ctx.size(x, last)?.as_const() {
        Some(1) => Ok(Complex { re, im: None }),
        Some(2) => {
            let im = ctx.slice_axis(x, last, Dim::ONE, Dim::ONE, 1)?;
            Ok(Complex { re, im: Some(ctx.squeeze(im, &[last])?) })
        }
        _ => Err(invalid("the last axis of the signal is neither 1 nor 2")),
    }
}

fn joined(ctx: &mut Ctx<'_, '_>, x: Complex) -> Outcome<Value> {
    let last = ctx.rank(x.re);
    let zero = ctx.scalar_like(x.re, 0.0);
    let shape = ctx.shape(x.re);
    let im = match x.im {
        Some(im) => im,
        None => ctx.broadcast(zero, &shape)?,
    };
    let (re, im) = (ctx.unsqueeze(x.re, last)?, ctx.unsqueeze(im, last)?);
    ctx.concat(&[re, im], last)
}

fn dft<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let (inverse, onesided) = (node.attr_bool_or("inverse", false)?, node.attr_bool_or("onesided", false)?);
    let axis = match ctx.item(node, 2) {
        _ if !node.since(20) => Some(node.attr_int_or("axis", 1)?),
        None => Some(-2),
        Some(_) => ctx.known(node, 2).and_then(|known| known.only().and_then(Dim::as_const)),
    };
    let axis = axis.map(|axis| axis_of(axis, rank)).transpose()?;
    if axis.is_some_and(|axis| axis + 1 == rank) {
        return Err(invalid("the axis of the real and imaginary parts has no spectrum"));
    }
    let own = axis.map(|axis| ctx.size(x, axis)).transpose()?.and_then(|size| size.as_usize());
    let length = match ctx.dims_opt(node, 1) {
        None if inverse && onesided => own.and_then(|own| own.checked_sub(1)).map(|own| own * 2),
        None => own,
        Some(given) => given.and_then(|given| given.first().and_then(Dim::as_usize)),
    };
    match (axis, own, length) {
        (Some(axis), Some(own), Some(length))
            if (1..=MOST_LENGTH).contains(&length) && longest_step(length) <= MOST_STEP =>
        {
            let signal = Signal { axis, own, length };
            let dtype = ctx.dtype(x);
            // What an inverse transform gives often cancels out to nothing, which narrow sums do not.
            let wide = if inverse { ctx.cast(x, DType::F64)? } else { ctx.widen(x)? };
            let x = parts(ctx, wide)?;
            let y = match (inverse, onesided) {
                (true, true) => from_half(ctx, x, &signal)?,
                (true, false) => inverted(ctx, x, &signal)?,
                (false, _) => {
                    let y = spectrum(ctx, x, &signal)?;
                    let y = if onesided { first(ctx, y, axis, length / 2 + 1)? } else { y };
                    joined(ctx, y)?
                }
            };
            ctx.cast(y, dtype)
        }
        _ => dft_on_host(ctx, node, x, axis, [i64::from(inverse), i64::from(onesided)]),
    }
}

/// The first half of the spectrum of a real signal along the last axis, real and imaginary parts as a new last axis.
pub(super) fn half_spectrum(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let axis = ctx.rank(x).checked_sub(1).ok_or_else(|| invalid("a scalar is no signal"))?;
    let own = known_length(ctx, x, axis)?;
    let y = spectrum(ctx, Complex { re: x, im: None }, &Signal { axis, own, length: own })?;
    let y = first(ctx, y, axis, own / 2 + 1)?;
    joined(ctx, y)
}

/// The real signal of which `x` is the first half of the spectrum, of an even number of elements along the last axis.
pub(super) fn from_half_spectrum(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let axis = ctx.rank(x).checked_sub(2).ok_or_else(|| invalid("its input has no parts"))?;
    let own = known_length(ctx, x, axis)?;
    let length = own.saturating_sub(1) * 2;
    let x = parts(ctx, x)?;
    let y = from_half(ctx, x, &Signal { axis, own, length })?;
    // The parts of a real signal are one.
    if ctx.rank(y) > axis + 1 { ctx.squeeze(y, &[axis + 1]) } else { Ok(y) }
}

fn known_length(ctx: &Ctx<'_, '_>, x: Value, axis: usize) -> Outcome<usize> {
    let length = ctx.size(x, axis)?.as_usize().filter(|length| (1..=MOST_LENGTH).contains(length));
    length.ok_or_else(|| invalid("a signal whose length is not known, or too large"))
}

/// Transforms of more elements, or with a step of more, are left to the host, which needs no matrices.
const MOST_LENGTH: usize = 1 << 16;
const MOST_STEP: usize = 1 << 11;

fn dft_on_host<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    axis: Option<usize>,
    flags: [i64; 2],
) -> Outcome<Value> {
    let length = match ctx.value_opt(node, 1)? {
        Some(length) => ctx.reshape(length, &[Dim::ONE])?,
        None => ctx.ints(&[])?,
    };
    let mut shape = ctx.shape(x);
    let parts = if flags == [1, 1] { Dim::ONE } else { Dim::Const(2) };
    let axis = match axis {
        Some(axis) => {
            shape[axis] = ctx.fresh("dft");
            ctx.ints(&[axis as i64])?
        }
        None => {
            let rank = shape.len();
            shape = ctx.fresh_shape("dft", rank);
            let axis = ctx.value(node, 2)?;
            ctx.reshape(axis, &[Dim::ONE])?
        }
    };
    if let Some(last) = shape.last_mut() {
        *last = parts;
    }
    let types = vec![Type::new(ctx.dtype(x), shape)];
    let op = Op::Host { function: "dft".into(), ints: flags.to_vec(), reals: Vec::new(), types };
    ctx.add(op, &[x, length, axis])
}

/// A signal of `own` elements along `axis`, cut or filled with zeros to `length`.
struct Signal {
    axis: usize,
    own: usize,
    length: usize,
}

/// The first elements of both parts along an axis.
fn first(ctx: &mut Ctx<'_, '_>, x: Complex, axis: usize, count: usize) -> Outcome<Complex> {
    let mut part = |x: Value| ctx.slice_axis(x, axis, Dim::ZERO, Dim::from(count), 1);
    Ok(Complex { re: part(x.re)?, im: x.im.map(part).transpose()? })
}

/// Both parts cut or filled with zeros to the transform's length.
fn fitted(ctx: &mut Ctx<'_, '_>, x: Complex, signal: &Signal, length: usize) -> Outcome<Complex> {
    let cut = first(ctx, x, signal.axis, signal.own.min(length))?;
    let mut part = |x: Value| {
        let zero = ctx.scalar_like(x, 0.0);
        let (none, mut high) = (vec![Dim::ZERO; ctx.rank(x)], vec![Dim::ZERO; ctx.rank(x)]);
        high[signal.axis] = Dim::from(length.saturating_sub(signal.own));
        ctx.pad(x, zero, none, high)
    };
    Ok(Complex { re: part(cut.re)?, im: cut.im.map(part).transpose()? })
}

/// The spectrum along the signal's axis, brought to the end and back.
fn spectrum(ctx: &mut Ctx<'_, '_>, x: Complex, signal: &Signal) -> Outcome<Complex> {
    let x = fitted(ctx, x, signal, signal.length)?;
    let rank = ctx.rank(x.re);
    let to_end: Vec<usize> = (0..rank).filter(|&axis| axis != signal.axis).chain([signal.axis]).collect();
    let mut back = vec![0; rank];
    to_end.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    let mut moved = |x: Value, perm: &[usize]| ctx.transpose(x, perm);
    let x = Complex { re: moved(x.re, &to_end)?, im: x.im.map(|im| moved(im, &to_end)).transpose()? };
    let y = along_last(ctx, x, signal.length)?;
    let mut moved = |x: Value| ctx.transpose(x, &back);
    Ok(Complex { re: moved(y.re)?, im: y.im.map(moved).transpose()? })
}

/// A transform of so many elements is one product with its matrix.
const ONE_STEP: usize = 64;

/// The most even factors of a length that takes more than one step.
fn factors(n: usize) -> Option<(usize, usize)> {
    let factor = (2..n).take_while(|f| f * f <= n).filter(|f| n.is_multiple_of(*f)).last();
    factor.filter(|_| n > ONE_STEP).map(|p| (p, n / p))
}

fn longest_step(n: usize) -> usize {
    factors(n).map_or(n, |(p, q)| longest_step(p).max(longest_step(q)))
}

/// The transform along the last axis: for `n = p·q` those of length p, turned, then those of length q
/// (Cooley and Tukey, Math. Comp. 19, 1965).
fn along_last(ctx: &mut Ctx<'_, '_>, x: Complex, n: usize) -> Outcome<Complex> {
    let Some((p, q)) = factors(n) else { return by_matrix(ctx, x, n, n) };
    let mut shape = ctx.shape(x.re);
    let last = shape.len() - 1;
    // Element a·q + b is row a, column b.
    let columns: Vec<Dim> = [&shape[..last], &[Dim::from(p), Dim::from(q)]].concat();
    let swap: Vec<usize> = (0..last).chain([last + 1, last]).collect();
    let mut split = |x: Value| {
        let x = ctx.reshape(x, &columns)?;
        ctx.transpose(x, &swap)
    };
    let x = Complex { re: split(x.re)?, im: x.im.map(split).transpose()? };
    let y = along_last(ctx, x, p)?;
    let y = turned(ctx, y, q, p, n)?;
    let mut swapped = |x: Value| ctx.transpose(x, &swap);
    let y = Complex { re: swapped(y.re)?, im: y.im.map(&mut swapped).transpose()? };
    let y = along_last(ctx, y, q)?;
    // Frequency c + p·d is row c, column d.
    shape[last] = Dim::from(n);
    let mut join = |x: Value| {
        let x = ctx.transpose(x, &swap)?;
        ctx.reshape(x, &shape)
    };
    Ok(Complex { re: join(y.re)?, im: y.im.map(join).transpose()? })
}

/// Constants `cos` and `-sin` of `2π·r·c/n` for rows r and columns c.
fn roots(ctx: &mut Ctx<'_, '_>, dtype: DType, rows: usize, columns: usize, n: usize) -> Outcome<(Value, Value)> {
    let angle = |at: usize| TAU * ((at / columns) * (at % columns) % n) as f64 / n as f64;
    let mut constant = |f: fn(f64) -> f64| -> Outcome<Value> {
        let numbers = Numbers::Float((0..rows * columns).map(|at| f(angle(at))).collect());
        let numbers = numbers.cast(DType::F64, dtype, tarsia_tensor::Overflow::Special);
        Ok(ctx.add_constant(Tensor::from_numbers(dtype, &[rows, columns], &numbers)?))
    };
    Ok((constant(f64::cos)?, constant(|angle| -angle.sin())?))
}

/// The first `bins` elements of the transform of the last axis.
fn by_matrix(ctx: &mut Ctx<'_, '_>, x: Complex, n: usize, bins: usize) -> Outcome<Complex> {
    let (cos, sin) = roots(ctx, ctx.dtype(x.re), n, bins, n)?;
    let rank = ctx.rank(x.re);
    let letters: String = (0..rank - 1).map(|axis| char::from(b'a' + (axis as u8).min(23))).collect();
    let spec = format!("{letters}y,yz->{letters}z");
    let (re, im) = (ctx.contract(&spec, x.re, cos)?, ctx.contract(&spec, x.re, sin)?);
    let Some(other) = x.im else { return Ok(Complex { re, im: Some(im) }) };
    let (a, b) = (ctx.contract(&spec, other, sin)?, ctx.contract(&spec, other, cos)?);
    Ok(Complex { re: ctx.binary(BinaryFn::Sub, re, a)?, im: Some(ctx.binary(BinaryFn::Add, im, b)?) })
}

/// Rows `b`, columns `c` multiplied by `e^(-2πi·bc/n)`.
fn turned(ctx: &mut Ctx<'_, '_>, x: Complex, rows: usize, columns: usize, n: usize) -> Outcome<Complex> {
    let (cos, sin) = roots(ctx, ctx.dtype(x.re), rows, columns, n)?;
    let (re, im) = (ctx.binary(BinaryFn::Mul, x.re, cos)?, ctx.binary(BinaryFn::Mul, x.re, sin)?);
    let Some(other) = x.im else { return Ok(Complex { re, im: Some(im) }) };
    let (a, b) = (ctx.binary(BinaryFn::Mul, other, sin)?, ctx.binary(BinaryFn::Mul, other, cos)?);
    Ok(Complex { re: ctx.binary(BinaryFn::Sub, re, a)?, im: Some(ctx.binary(BinaryFn::Add, im, b)?) })
}

/// The inverse transform: the conjugate of the transform of the conjugate, over the length.
fn inverted(ctx: &mut Ctx<'_, '_>, x: Complex, signal: &Signal) -> Outcome<Value> {
    let conjugate = |ctx: &mut Ctx<'_, '_>, x: Complex| -> Outcome<Complex> {
        Ok(Complex { re: x.re, im: x.im.map(|im| ctx.unary(UnaryFn::Neg, im)).transpose()? })
    };
    let x = conjugate(ctx, x)?;
    let y = spectrum(ctx, x, signal)?;
    let y = conjugate(ctx, y)?;
    let y = joined(ctx, y)?;
    ctx.with_scalar(BinaryFn::Mul, y, 1.0 / signal.length as f64)
}

/// The real signal whose spectrum has this first half: the other half are the conjugates.
fn from_half(ctx: &mut Ctx<'_, '_>, x: Complex, signal: &Signal) -> Outcome<Value> {
    let (n, half, axis) = (signal.length, signal.length / 2 + 1, signal.axis);
    let x = fitted(ctx, x, signal, half)?;
    // The elements from (n - 1)/2 down to 1 stand for those from half on.
    let mirror = n - half;
    let mut tail = |x: Value| ctx.slice_axis(x, axis, Dim::from(mirror), Dim::from(mirror), -1);
    let (re, im) = (tail(x.re)?, x.im.map(tail).transpose()?);
    let re = ctx.concat(&[x.re, re], axis)?;
    let im = match (x.im, im) {
        (Some(low), Some(high)) => {
            let high = ctx.unary(UnaryFn::Neg, high)?;
            Some(ctx.concat(&[low, high], axis)?)
        }
        _ => None,
    };
    let full = inverted(ctx, Complex { re, im }, &Signal { axis, own: n, length: n })?;
    let last = ctx.rank(full) - 1;
    ctx.slice_axis(full, last, Dim::ZERO, Dim::ONE, 1)
}

/// Spectra of overlapping frames: a convolution with the windowed rows of the transform's matrix.
fn stft<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, window) = (ctx.value(node, 0)?, ctx.value_opt(node, 2)?);
    if ctx.rank(x) != 3 {
        return Err(invalid(format!("a signal with {} axes instead of 3", ctx.rank(x))));
    }
    let onesided = node.attr_bool_or("onesided", true)?;
    let size = |ctx: &Ctx<'a, '_>, index| {
        ctx.known(node, index).and_then(|known| known.only().and_then(Dim::as_usize)).filter(|&size| size > 0)
    };
    let step = size(ctx, 1);
    let length = match (ctx.item(node, 3), window) {
        (Some(_), _) => size(ctx, 3),
        (None, Some(window)) => ctx.size(window, 0)?.as_usize(),
        (None, None) => ctx.size(x, 1)?.as_usize(),
    };
    let (Some(step), Some(length)) = (step, length.filter(|&length| length <= MOST_FRAME)) else {
        return stft_on_host(ctx, node, x, window, onesided);
    };
    let bins = if onesided { length / 2 + 1 } else { length };
    let dtype = ctx.dtype(x);
    let wide = ctx.widen(x)?;
    let x = parts(ctx, wide)?;
    let (cos, sin) = roots(ctx, ctx.dtype(x.re), bins, length, length)?;
    let matrix = ctx.concat(&[cos, sin], 0)?;
    let matrix = match window {
        None => matrix,
        Some(window) => {
            let window = ctx.cast(window, ctx.dtype(x.re))?;
            let own = ctx.size(window, 0)?;
            let rest = Dim::from(length) - own;
            let zero = ctx.scalar_like(window, 0.0);
            let window = ctx.pad(window, zero, vec![Dim::ZERO], vec![rest])?;
            ctx.binary(BinaryFn::Mul, matrix, window)?
        }
    };
    let weights = ctx.unsqueeze(matrix, 1)?;
    let mut frames = |x: Value| -> Outcome<Complex> {
        let channel = ctx.unsqueeze(x, 1)?;
        let (none, one) = (vec![0], vec![1]);
        let dtype = ctx.dtype(x);
        let op = Op::Conv { strides: vec![step], low: none.clone(), high: none, dilations: one, groups: 1, dtype };
        let y = ctx.add(op, &[channel, weights])?;
        let y = ctx.transpose(y, &[0, 2, 1])?;
        let re = ctx.slice_axis(y, 2, Dim::ZERO, Dim::from(bins), 1)?;
        Ok(Complex { re, im: Some(ctx.slice_axis(y, 2, Dim::from(bins), Dim::from(bins), 1)?) })
    };
    let mut y = frames(x.re)?;
    if let Some(im) = x.im {
        // i·(a + bi) = -b + ai.
        let turned = frames(im)?;
        if let (Some(own), Some(other)) = (y.im, turned.im) {
            y = Complex {
                re: ctx.binary(BinaryFn::Sub, y.re, other)?,
                im: Some(ctx.binary(BinaryFn::Add, own, turned.re)?),
            };
        }
    }
    let y = joined(ctx, y)?;
    ctx.cast(y, dtype)
}

/// Longer frames are left to the host, which needs no matrix.
const MOST_FRAME: usize = 2048;

fn stft_on_host<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    window: Option<Value>,
    onesided: bool,
) -> Outcome<Value> {
    let step = ctx.value(node, 1)?;
    let none = ctx.ints(&[])?;
    let window = match window {
        Some(window) => window,
        None => ctx.add_constant(Tensor::from_slice::<f32>(&[0], &[])?),
    };
    let length = ctx.value_opt(node, 3)?.unwrap_or(none);
    let shape = vec![ctx.size(x, 0)?, ctx.fresh("stft"), ctx.fresh("stft"), Dim::Const(2)];
    let types = vec![Type::new(ctx.dtype(x), shape)];
    let op = Op::Host { function: "stft".into(), ints: vec![i64::from(onesided)], reals: Vec::new(), types };
    ctx.add(op, &[x, step, window, length])
}
