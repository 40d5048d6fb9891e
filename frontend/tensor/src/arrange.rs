//! Elements in another arrangement: strided views, per-axis index maps, and tensors assembled from elements of others.
//!
//! Slow and plain: an arrangement is a sequence of places, and [`assemble`] copies the elements there one by one, whatever
//! their type (strings and sub-byte types too).

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{DType, Numbers, Shape, Tensor, TensorError, element_count};

/// Row-major strides, in elements.
pub fn strides(shape: &[usize]) -> Shape {
    let mut strides: Shape = shape.into();
    let mut step = 1usize;
    for stride in strides.iter_mut().rev() {
        let size = std::mem::replace(stride, step);
        step = step.saturating_mul(size);
    }
    strides
}

/// The places that a strided view visits, in row-major order of its shape.
#[derive(Clone, Debug)]
pub struct Places {
    shape: Shape,
    strides: SmallVec<[isize; 6]>,
    index: Shape,
    at: isize,
    left: usize,
}

impl Places {
    /// The view with these sizes and strides from `start` on.
    pub fn new(shape: &[usize], strides: impl IntoIterator<Item = isize>, start: isize) -> Places {
        let index = SmallVec::from_elem(0, shape.len());
        let left = element_count(shape).unwrap_or(0);
        Places { shape: shape.into(), strides: strides.into_iter().collect(), index, at: start, left }
    }

    /// A tensor of shape `from` seen as `to` under NumPy broadcasting.
    pub fn broadcast(from: &[usize], to: &[usize]) -> Places {
        let own = strides(from);
        let new = to.len() - from.len().min(to.len());
        let stretched = (0..to.len()).map(|axis| match axis.checked_sub(new) {
            Some(i) if from[i] != 1 => own[i] as isize,
            _ => 0,
        });
        Places::new(to, stretched, 0)
    }

    /// A tensor of shape `from` with its axes in the order `perm`.
    pub fn permuted(from: &[usize], perm: &[usize]) -> Places {
        let own = strides(from);
        let shape: Shape = perm.iter().map(|&axis| from[axis]).collect();
        Places::new(&shape, perm.iter().map(|&axis| own[axis] as isize), 0)
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = self.at;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            self.at = self.at.wrapping_add(self.strides[axis]);
            if self.index[axis] < self.shape[axis] {
                break;
            }
            self.index[axis] = 0;
            self.at = self.at.wrapping_sub(self.strides[axis].wrapping_mul(self.shape[axis] as isize));
        }
        Some(place as usize)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The places of a tensor of shape `from` whose result coordinate `i` of axis `a` is the coordinate `maps[a][i]`; `None` where a
/// coordinate is `None`. In row-major order of the result, whose sizes are the lengths of the maps.
pub fn mapped<'a>(from: &[usize], maps: &'a [Vec<Option<usize>>]) -> impl Iterator<Item = Option<usize>> + use<'a> {
    let own = strides(from);
    let shape: Shape = maps.iter().map(Vec::len).collect();
    let mut index: Shape = SmallVec::from_elem(0, shape.len());
    (0..element_count(&shape).unwrap_or(0)).map(move |_| {
        let place = (0..shape.len()).try_fold(0, |sum, axis| Some(sum + maps[axis][index[axis]]? * own[axis]));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
        place
    })
}

/// The tensor of `shape` whose elements are, in row-major order, elements of the sources: (which source, which place).
///
/// # Errors
/// If the sources differ in element type, the data of one are absent, a place is out of range, or the places are not as many as the shape says.
pub fn assemble(
    sources: &[&Tensor],
    shape: &[usize],
    places: impl Iterator<Item = (usize, usize)>,
) -> Result<Tensor, TensorError> {
    let dtype = sources.first().map_or(DType::F32, |tensor| tensor.dtype());
    if let Some(other) = sources.iter().find(|tensor| tensor.dtype() != dtype) {
        return Err(TensorError::Mixed(dtype, other.dtype()));
    }
    sources.iter().try_for_each(|tensor| tensor.present())?;
    let missing = |(source, place): (usize, usize)| TensorError::OutOfRange {
        place,
        count: sources.get(source).map_or(0, |tensor| tensor.count()),
    };
    match dtype.bits() {
        0 if dtype == DType::Value => {
            let values: Result<Vec<Tensor>, TensorError> = places
                .map(|(source, place)| {
                    let found = sources.get(source).and_then(|tensor| tensor.values()?.get(place));
                    found.cloned().ok_or_else(|| missing((source, place)))
                })
                .collect();
            Tensor::from_values(shape, values?)
        }
        0 => {
            let strings: Result<Vec<Bytes>, TensorError> = places
                .map(|(source, place)| {
                    let found = sources.get(source).and_then(|tensor| tensor.strings()?.get(place));
                    found.cloned().ok_or_else(|| missing((source, place)))
                })
                .collect();
            Tensor::from_strings(shape, strings?)
        }
        bits if bits % 8 == 0 => {
            let width = bits / 8;
            let data: Vec<&[u8]> = sources.iter().map(|tensor| &tensor.bytes()[..]).collect();
            let count = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
            let mut bytes = Vec::with_capacity(count.saturating_mul(width));
            for (source, place) in places {
                let start = place.saturating_mul(width);
                let found = data.get(source).and_then(|data| data.get(start..start.saturating_add(width)));
                bytes.extend_from_slice(found.ok_or_else(|| missing((source, place)))?);
            }
            Tensor::new(dtype, shape, bytes.into())
        }
        _ => {
            let numbers: Vec<Vec<i64>> =
                sources.iter().map(|tensor| raw_sub_byte(tensor)).collect::<Result<_, TensorError>>()?;
            let raw: Result<Vec<u64>, TensorError> = places
                .map(|(source, place)| {
                    let found = numbers.get(source).and_then(|values| values.get(place));
                    found.map(|&x| x as u64).ok_or_else(|| missing((source, place)))
                })
                .collect();
            let carrier = if dtype.bits() == 2 { DType::U2 } else { DType::U4 };
            let packed = Tensor::from_numbers(carrier, shape, &Numbers::Uint(raw?))?;
            Tensor::new(dtype, shape, packed.bytes().clone())
        }
    }
}

/// The bit patterns of a 2- or 4-bit type.
fn raw_sub_byte(tensor: &Tensor) -> Result<Vec<i64>, TensorError> {
    let carrier = if tensor.dtype().bits() == 2 { DType::U2 } else { DType::U4 };
    let numbers = Numbers::decode(carrier, tensor.bytes(), tensor.count());
    Ok(numbers.ok_or(TensorError::NotNumeric(tensor.dtype()))?.to_i64())
}

impl Tensor {
    /// The elements at these places of this tensor, as a tensor of `shape`.
    ///
    /// # Errors
    /// If a place is out of range, or the places are not as many as the shape says.
    pub fn rearranged(&self, shape: &[usize], places: impl Iterator<Item = usize>) -> Result<Tensor, TensorError> {
        assemble(&[self], shape, places.map(|place| (0, place)))
    }
}

/// The tensors joined along `axis`; all sizes but that axis are the first one's.
///
/// # Errors
/// If there is none, the axis is out of range, or types or sizes differ.
pub fn concat(axis: usize, tensors: &[&Tensor]) -> Result<Tensor, TensorError> {
    let first = tensors.first().map(|tensor| tensor.shape()).unwrap_or_default();
    let mut shape: Shape = first.into();
    let fits = |tensor: &&Tensor| {
        tensor.shape().len() == first.len()
            && tensor.shape().iter().zip(first).enumerate().all(|(i, (a, b))| i == axis || a == b)
    };
    if axis >= first.len() || !tensors.iter().all(fits) {
        return Err(TensorError::Arrangement(format!("the tensors cannot be joined along axis {axis}")));
    }
    shape[axis] = tensors.iter().map(|tensor| tensor.shape()[axis]).sum();
    let outer: usize = first[..axis].iter().product();
    let inner: usize = first[axis + 1..].iter().product();
    let runs = tensors.iter().map(|tensor| tensor.shape()[axis] * inner).collect::<Vec<_>>();
    let runs = &runs;
    let places = (0..outer).flat_map(move |o| {
        runs.iter().enumerate().flat_map(move |(source, &run)| (0..run).map(move |k| (source, o * run + k)))
    });
    assemble(tensors, &shape, places)
}

/// The lines of a tensor along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    /// Elements per lane.
    pub len: usize,
    outer: usize,
    inner: usize,
}

impl Lanes {
    /// The lanes of `shape` along `axis`.
    ///
    /// # Panics
    /// If the axis is not below the rank.
    pub fn new(shape: &[usize], axis: usize) -> Lanes {
        Lanes { len: shape[axis], outer: shape[..axis].iter().product(), inner: shape[axis + 1..].iter().product() }
    }

    /// How many lanes there are.
    pub fn count(&self) -> usize {
        self.outer * self.inner
    }

    /// The place of element `i` of a lane.
    pub fn place(&self, lane: usize, i: usize) -> usize {
        (lane / self.inner * self.len + i) * self.inner + lane % self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_visit_in_row_major_order() {
        assert_eq!(Places::permuted(&[2, 3], &[1, 0]).collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Places::broadcast(&[2, 1], &[2, 2, 2]).collect::<Vec<_>>(), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(Places::new(&[2], [-2], 3).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(Places::broadcast(&[], &[2]).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(Places::broadcast(&[0, 3], &[0, 3]).count(), 0);
    }

    #[test]
    fn every_type_is_assembled_exactly() {
        for dtype in DType::ALL.iter().copied().filter(|d| d.is_numeric()) {
            let bytes: Vec<u8> = (0..dtype.bytes_of(8).unwrap()).map(|i| (i * 37 + 1) as u8).collect();
            let tensor = Tensor::new(dtype, &[8], bytes.into()).unwrap();
            let twice = tensor.rearranged(&[8], (0..8).rev()).unwrap().rearranged(&[8], (0..8).rev()).unwrap();
            assert_eq!(twice.bytes(), tensor.bytes(), "{dtype}");
        }
        let strings = Tensor::from_strings(&[2], vec!["a".into(), "b".into()]).unwrap();
        assert_eq!(strings.rearranged(&[1], [1].into_iter()).unwrap().strings().unwrap(), ["b"]);
        assert!(strings.rearranged(&[1], [2].into_iter()).is_err());
    }

    #[test]
    fn joining_checks_sizes() {
        let a = Tensor::from_slice(&[2, 1], &[1i64, 2]).unwrap();
        let b = Tensor::from_slice(&[2, 2], &[3i64, 4, 5, 6]).unwrap();
        let joined = concat(1, &[&a, &b]).unwrap();
        assert_eq!(joined, Tensor::from_slice(&[2, 3], &[1i64, 3, 4, 2, 5, 6]).unwrap());
        assert!(concat(0, &[&a, &b]).is_err());
        assert!(concat(0, &[]).is_err());
    }
}
