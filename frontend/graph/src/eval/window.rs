//! Sliding windows: convolution and pooling.

use tarsia_tensor::{Numbers, ReduceFn, Tensor, arrange::strides};

use super::{
    Fault,
    contract::{Scalar, as_type},
    reduce::Total,
};
use crate::Op;

pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    match op {
        Op::Conv { strides, low, dilations, groups, dtype, .. } => {
            let frame = Frame::new(&x[0].shape()[2..], &shape[2..], &x[1].shape()[2..], strides, low, dilations);
            let (image, kernel) = (x[0].numbers()?, x[1].numbers()?);
            let sizes = Channels { images: shape[0], out: shape[1], depth: x[1].shape()[1], groups: *groups };
            let numbers = if matches!(image, Numbers::Float(_)) || matches!(kernel, Numbers::Float(_)) {
                Numbers::Float(conv(&image.to_f64(), &kernel.to_f64(), &sizes, &frame))
            } else {
                Numbers::Int(conv(&image.to_i64(), &kernel.to_i64(), &sizes, &frame))
            };
            as_type(&numbers, *dtype, shape)
        }
        Op::WindowReduce { function, window, strides, low, dilations, .. } => {
            let frame = Frame::new(x[0].shape(), shape, window, strides, low, dilations);
            window_reduce(*function, &x[0], &frame, shape)
        }
        _ => Err(Fault::NoOperand),
    }
}

/// Where the windows of an image lie.
struct Frame {
    /// Size of the image per axis.
    image: Vec<usize>,
    /// Number of windows per axis.
    windows: Vec<usize>,
    /// Size of a window per axis.
    window: Vec<usize>,
    /// Per axis, for window position `p` and element `w`: `p·stride - low + w·dilation`.
    stride: Vec<usize>,
    low: Vec<usize>,
    dilation: Vec<usize>,
}

impl Frame {
    fn new(
        image: &[usize],
        windows: &[usize],
        window: &[usize],
        stride: &[usize],
        low: &[usize],
        dilation: &[usize],
    ) -> Frame {
        Frame {
            image: image.into(),
            windows: windows.into(),
            window: window.into(),
            stride: stride.into(),
            low: low.into(),
            dilation: dilation.into(),
        }
    }

    /// For each window (row-major) the places of its elements in the image, `None` in the padding.
    fn visit(&self, mut see: impl FnMut(usize, &[Option<usize>])) {
        let image_strides = strides(&self.image);
        let (window_count, size) = (self.windows.iter().product::<usize>(), self.window.iter().product());
        let (positions, elements) = (strides(&self.windows), strides(&self.window));
        let mut places = vec![None; size];
        for position in 0..window_count {
            for (element, place) in places.iter_mut().enumerate() {
                *place = (0..self.image.len()).try_fold(0, |sum, axis| {
                    let p = position / positions[axis] % self.windows[axis];
                    let w = element / elements[axis] % self.window[axis];
                    let at = p.checked_mul(self.stride[axis])?.checked_add(w.checked_mul(self.dilation[axis])?)?;
                    let at = at.checked_sub(self.low[axis]).filter(|&at| at < self.image[axis])?;
                    Some(sum + at * image_strides[axis])
                });
            }
            see(position, &places);
        }
    }
}

struct Channels {
    images: usize,
    out: usize,
    /// Input channels per group.
    depth: usize,
    groups: usize,
}

/// Each window of all channels of a group is gathered once; every output channel is a dot product with it.
fn conv<T: Scalar>(image: &[T], kernel: &[T], channels: &Channels, frame: &Frame) -> Vec<T> {
    let Channels { images, out, depth, groups } = *channels;
    let pixels: usize = frame.image.iter().product();
    let windows: usize = frame.windows.iter().product();
    let size: usize = frame.window.iter().product();
    let per_group = out / groups;
    let mut results = vec![T::default(); images * out * windows];
    let mut patch = vec![T::default(); depth * size];
    frame.visit(|position, places| {
        for n in 0..images {
            for group in 0..groups {
                for c in 0..depth {
                    let plane = &image[((n * groups + group) * depth + c) * pixels..][..pixels];
                    for (value, place) in patch[c * size..][..size].iter_mut().zip(places) {
                        *value = place.map_or_else(T::default, |at| plane[at]);
                    }
                }
                for o in group * per_group..(group + 1) * per_group {
                    results[(n * out + o) * windows + position] =
                        T::dot(&patch, &kernel[o * patch.len()..][..patch.len()]);
                }
            }
        }
    });
    results
}

fn window_reduce(function: ReduceFn, x: &Tensor, frame: &Frame, shape: &[usize]) -> Result<Tensor, Fault> {
    let numbers = x.numbers()?;
    let mut results = Vec::with_capacity(shape.iter().product());
    frame.visit(|_, places| {
        let mut total = Total::new(function, x.dtype());
        for &at in places.iter().flatten() {
            match &numbers {
                Numbers::Float(v) => total.add_float(v[at]),
                Numbers::Int(v) => total.add_int(v[at].into()),
                Numbers::Uint(v) => total.add_int(v[at].into()),
            }
        }
        results.push(total.finish());
    });
    let numbers = super::reduce::finish(x.dtype(), results.into_iter());
    Ok(Tensor::from_numbers(x.dtype(), shape, &numbers)?)
}
