//! Host functions of signal processing: discrete Fourier transforms and mel filters.

use std::f64::consts::TAU;

use super::{Call, HostError};
use crate::{DType, Numbers, Tensor, arrange::Lanes};

/// Real and imaginary part.
type Complex = (f64, f64);

fn multiply(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// `e^(-2πi·k/n)`.
fn root(k: usize, n: usize) -> Complex {
    let angle = -TAU * k as f64 / n as f64;
    (angle.cos(), angle.sin())
}

/// The discrete Fourier transform, by the smallest prime factor of the length (Cooley and Tukey, Math. Comp. 19, 1965).
fn transform(x: &[Complex]) -> Vec<Complex> {
    let n = x.len();
    let factor = (2..n).take_while(|f| f * f <= n).find(|f| n.is_multiple_of(*f)).unwrap_or(n);
    if n <= 1 {
        return x.to_vec();
    }
    let parts: Vec<Vec<Complex>> = if factor == n {
        x.iter().map(|&element| vec![element]).collect()
    } else {
        (0..factor).map(|r| transform(&x.iter().skip(r).step_by(factor).copied().collect::<Vec<_>>())).collect()
    };
    let short = n / factor;
    let element = |k: usize| {
        let terms = (0..factor).map(|r| multiply(parts[r][k % short], root(r * k % n, n)));
        terms.fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1))
    };
    (0..n).map(element).collect()
}

/// What a transform is asked for.
struct Spectrum {
    inverse: bool,
    onesided: bool,
    length: usize,
}

impl Spectrum {
    /// Elements of the result.
    fn bins(&self) -> usize {
        if self.onesided && !self.inverse { self.length / 2 + 1 } else { self.length }
    }

    fn of(&self, mut x: Vec<Complex>) -> Vec<Complex> {
        if self.inverse && self.onesided {
            // What is left out are the conjugates.
            x.resize(self.length / 2 + 1, (0.0, 0.0));
            let mirrored: Vec<Complex> = (x.len()..self.length).map(|k| x[self.length - k]).collect();
            x.extend(mirrored.into_iter().map(|(re, im)| (re, -im)));
            x.truncate(self.length);
        } else {
            x.resize(self.length, (0.0, 0.0));
        }
        if !self.inverse {
            let mut y = transform(&x);
            y.truncate(self.bins());
            return y;
        }
        let conjugate = |(re, im): Complex| (re, -im);
        let y = transform(&x.into_iter().map(conjugate).collect::<Vec<_>>());
        let scale = 1.0 / self.length as f64;
        y.into_iter().map(conjugate).map(|(re, im)| (re * scale, im * scale)).collect()
    }
}

/// Elements of an operand whose last axis holds real parts, or real and imaginary ones; and the shape without it.
fn complex(call: &Call) -> Result<(Vec<Complex>, Vec<usize>), HostError> {
    let values = call.floats(0)?;
    match call.operands[0].shape() {
        [rest @ .., 1] => Ok((values.into_iter().map(|re| (re, 0.0)).collect(), rest.to_vec())),
        [rest @ .., 2] => Ok((values.chunks(2).map(|pair| (pair[0], pair[1])).collect(), rest.to_vec())),
        shape => Err(call.fault(format!("the last axis of a signal of shape {shape:?} is not 1 or 2"))),
    }
}

pub(super) fn dft(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, mut shape) = complex(call)?;
    let axis = call.only(&call.integers(2)?, "the axis")?;
    // The axis is counted among those of the operand, the last of which holds the parts.
    let axis = call.axes(&[axis], shape.len() + 1)?[0];
    if axis >= shape.len() {
        return Err(call.fault("the axis of the real and imaginary parts has no spectrum"));
    }
    let (inverse, onesided) = (call.flag(0), call.flag(1));
    let length = match call.integers(1)?.as_slice() {
        [] if inverse && onesided => 2 * (shape[axis].max(1) as i64 - 1),
        [] => shape[axis] as i64,
        given => call.only(given, "the length")?,
    };
    let length = usize::try_from(length).ok().filter(|&length| length > 0 && length <= call.limit);
    let spectrum =
        Spectrum { inverse, onesided, length: length.ok_or_else(|| call.fault("the length is not positive"))? };
    let from = Lanes::new(&shape, axis);
    shape[axis] = spectrum.bins();
    let parts = if inverse && onesided { 1 } else { 2 };
    let full = [&shape[..], &[parts]].concat();
    call.within_limit(&full)?;
    let to = Lanes::new(&shape, axis);
    let mut result = vec![0.0; full.iter().product()];
    for lane in 0..to.count() {
        let signal = (0..from.len).map(|i| x[from.place(lane, i)]).collect();
        for (i, (re, im)) in spectrum.of(signal).into_iter().enumerate() {
            let place = to.place(lane, i) * parts;
            result[place] = re;
            if parts == 2 {
                result[place + 1] = im;
            }
        }
    }
    call.made(Tensor::from_numbers(call.operands[0].dtype(), &full, &Numbers::Float(result)))
}

pub(super) fn stft(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, shape) = complex(call)?;
    let &[batches, count] = shape.as_slice() else {
        return Err(call.fault("the signal is not [batch, length, parts]"));
    };
    let positive = |values: Vec<i64>, what: &str| {
        let value = call.only(&values, what)?;
        usize::try_from(value).ok().filter(|&v| v > 0).ok_or_else(|| call.fault(format!("{what} is {value}")))
    };
    let step = positive(call.integers(1)?, "the frame step")?;
    let window = call.floats(2)?;
    let length = match call.integers(3)? {
        given if !given.is_empty() => positive(given, "the frame length")?,
        _ if window.is_empty() => count,
        _ => window.len(),
    };
    if !window.is_empty() && window.len() > length || length == 0 || length > call.limit {
        return Err(call.fault(format!("a window of {} elements for frames of {length}", window.len())));
    }
    let spectrum = Spectrum { inverse: false, onesided: call.flag(0), length };
    let frames = if count < length { 0 } else { (count - length) / step + 1 };
    let full = [batches, frames, spectrum.bins(), 2];
    call.within_limit(&full)?;
    let mut result = Vec::with_capacity(full.iter().product());
    for batch in 0..batches {
        for frame in 0..frames {
            let weighted = (0..length).map(|i| {
                let weight = if window.is_empty() { 1.0 } else { window.get(i).copied().unwrap_or(0.0) };
                let (re, im) = x[batch * count + frame * step + i];
                (re * weight, im * weight)
            });
            result.extend(spectrum.of(weighted.collect()).into_iter().flat_map(|(re, im)| [re, im]));
        }
    }
    call.made(Tensor::from_numbers(call.operands[0].dtype(), &full, &Numbers::Float(result)))
}

/// Triangular filters whose corners are evenly spaced on the mel scale, 2595·log₁₀(1 + f/700) (O'Shaughnessy, 1987).
pub(super) fn mel_weight_matrix(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let whole = |operand: usize, what: &str| {
        let value = call.only(&call.integers(operand)?, what)?;
        usize::try_from(value).ok().filter(|&v| v <= call.limit).ok_or_else(|| call.fault(format!("{what} is {value}")))
    };
    let (bins, length) = (whole(0, "the number of mel bins")?, whole(1, "the length of the transform")?);
    let rate = call.only(&call.floats(2)?, "the sample rate")?;
    let (low, high) = (call.only(&call.floats(3)?, "the low edge")?, call.only(&call.floats(4)?, "the high edge")?);
    if !(rate > 0.0 && low >= 0.0 && high >= low) {
        return Err(call.fault(format!("edges of {low} and {high} Hz at {rate} Hz")));
    }
    let dtype = DType::from_onnx(call.int(0)? as i32).filter(|dtype| dtype.is_float());
    let dtype = dtype.ok_or_else(|| call.fault("weights are floats"))?;
    let shape = [length / 2 + 1, bins];
    call.within_limit(&shape)?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let corner = |i: usize| {
        let hertz = 700.0 * (10f64.powf((mel(low) + i as f64 * step) / 2595.0) - 1.0);
        ((length + 1) as f64 * hertz / rate).floor() as usize
    };
    let mut weights = vec![0.0; shape[0] * bins];
    let mut set = |row: usize, bin: usize, value: f64| {
        if row < shape[0] {
            weights[row * bins + bin] = value;
        }
    };
    for bin in 0..bins {
        let (left, centre, right) = (corner(bin), corner(bin + 1), corner(bin + 2));
        for row in left..=centre.min(shape[0]) {
            set(row, bin, if centre == left { 1.0 } else { (row - left) as f64 / (centre - left) as f64 });
        }
        for row in centre..right.min(shape[0]) {
            set(row, bin, (right - row) as f64 / (right - centre) as f64);
        }
    }
    call.made(Tensor::from_numbers(dtype, &shape, &Numbers::Float(weights)))
}
