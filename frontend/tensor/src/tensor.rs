//! Tensors: an element type, a shape and shared bytes.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;
use thiserror::Error;

use crate::{Absent, Content, DType, Numbers, Overflow};

/// Sizes of the axes of a concrete tensor.
pub type Shape = SmallVec<[usize; 6]>;

/// The number of elements of a shape; `None` if it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Why a tensor could not be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    /// The product of the dimensions does not fit.
    #[error("a tensor of shape {0:?} has more elements than can be addressed")]
    TooLarge(Vec<usize>),
    /// The data do not have the size that type and shape ask for.
    #[error("a {dtype} tensor of shape {shape:?} takes {expected} bytes, but {found} were given")]
    Size {
        /// Element type.
        dtype: DType,
        /// Declared shape.
        shape: Vec<usize>,
        /// Bytes that type and shape need.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A text is not a number.
    #[error("`{0}` is not a number")]
    NotANumber(String),
    /// The operation is not defined for this element type.
    #[error("a tensor of {0} has no numbers")]
    NotNumeric(DType),
    /// Tensors that must have one element type have several.
    #[error("the tensors are of {0} and {1}")]
    Mixed(DType, DType),
    /// An element that is not there.
    #[error("element {place} of {count} does not exist")]
    OutOfRange {
        /// The place asked for.
        place: usize,
        /// How many elements there are.
        count: usize,
    },
    /// The data are not there.
    #[error("{0}: only type and shape are known")]
    Absent(Absent),
    /// Sizes do not allow an arrangement.
    #[error("{0}")]
    Arrangement(String),
}

/// A dense row-major tensor over shared bytes (little-endian, sub-byte types packed). Cloning shares the data, which may be
/// [absent](Absent): then only type and shape are known.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

#[derive(Clone, PartialEq)]
enum Data {
    Bytes(Bytes),
    Strings(Arc<[Bytes]>),
    Values(Arc<[Tensor]>),
    Absent(Absent),
}

impl Tensor {
    /// A tensor over existing bytes.
    ///
    /// # Errors
    /// If the byte count is not what `dtype` and `shape` need, or the product overflows.
    pub fn new(dtype: DType, shape: &[usize], data: Bytes) -> Result<Tensor, TensorError> {
        let too_large = || TensorError::TooLarge(shape.to_vec());
        let count = element_count(shape).ok_or_else(too_large)?;
        let expected = dtype.bytes_of(count).ok_or_else(too_large)?;
        if !dtype.is_numeric() || expected != data.len() {
            return Err(TensorError::Size { dtype, shape: shape.to_vec(), expected, found: data.len() });
        }
        Ok(Tensor { dtype, shape: shape.into(), data: Data::Bytes(data) })
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// If there are not as many strings as `shape` says.
    pub fn from_strings(shape: &[usize], strings: Vec<Bytes>) -> Result<Tensor, TensorError> {
        let expected = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
        if expected != strings.len() {
            let found = strings.len();
            return Err(TensorError::Size { dtype: DType::String, shape: shape.to_vec(), expected, found });
        }
        Ok(Tensor { dtype: DType::String, shape: shape.into(), data: Data::Strings(strings.into()) })
    }

    /// A tensor of whole values.
    ///
    /// # Errors
    /// If there are not as many values as `shape` says.
    pub fn from_values(shape: &[usize], values: Vec<Tensor>) -> Result<Tensor, TensorError> {
        let expected = element_count(shape).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
        if expected != values.len() {
            let found = values.len();
            return Err(TensorError::Size { dtype: DType::Value, shape: shape.to_vec(), expected, found });
        }
        Ok(Tensor { dtype: DType::Value, shape: shape.into(), data: Data::Values(values.into()) })
    }

    /// A tensor without elements.
    ///
    /// # Errors
    /// If no size is 0.
    pub fn empty(dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
        match dtype {
            DType::String => Tensor::from_strings(shape, Vec::new()),
            DType::Value => Tensor::from_values(shape, Vec::new()),
            _ => Tensor::new(dtype, shape, Bytes::new()),
        }
    }

    /// A tensor whose data are not there; `origin` tells them from other data.
    ///
    /// # Errors
    /// If the product overflows, or the type is of texts.
    pub fn absent(dtype: DType, shape: &[usize], origin: &str) -> Result<Tensor, TensorError> {
        let bytes = element_count(shape).and_then(|count| dtype.bytes_of(count));
        let bytes = bytes.ok_or_else(|| TensorError::TooLarge(shape.to_vec()))?;
        if !dtype.is_numeric() {
            return Err(TensorError::NotNumeric(dtype));
        }
        Ok(Tensor { dtype, shape: shape.into(), data: Data::Absent(Absent { origin: origin.into(), bytes }) })
    }

    /// A tensor of `dtype` from widened numbers, rounding as [`Numbers::encode`] does.
    ///
    /// # Errors
    /// If the count does not match the shape, or the type is of texts.
    pub fn from_numbers(dtype: DType, shape: &[usize], numbers: &Numbers) -> Result<Tensor, TensorError> {
        if !dtype.is_numeric() {
            return Err(TensorError::NotNumeric(dtype));
        }
        Tensor::new(dtype, shape, numbers.encode(dtype, Overflow::Special).into())
    }

    /// A tensor from plain values, e.g. `Tensor::from_slice(&[2], &[1f32, 2.0])`.
    ///
    /// # Errors
    /// If the count does not match the shape.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Result<Tensor, TensorError> {
        Tensor::new(T::DTYPE, shape, Bytes::copy_from_slice(bytemuck::cast_slice(values)))
    }

    /// A scalar (rank 0).
    pub fn scalar<T: Element>(value: T) -> Tensor {
        let data = Data::Bytes(Bytes::copy_from_slice(bytemuck::bytes_of(&value)));
        Tensor { dtype: T::DTYPE, shape: Shape::new(), data }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The raw bytes; empty for strings and whole values, and where the data are absent.
    pub fn bytes(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        match &self.data {
            Data::Bytes(bytes) => bytes,
            Data::Strings(_) | Data::Values(_) | Data::Absent(_) => &NONE,
        }
    }

    /// The raw bytes, or which bytes are missing; empty for strings.
    pub fn content(&self) -> Content {
        match &self.data {
            Data::Absent(absent) => Content::Absent(absent.clone()),
            _ => Content::Bytes(self.bytes().clone()),
        }
    }

    /// How many bytes the elements take, there or not; none for strings.
    pub fn size(&self) -> usize {
        match &self.data {
            Data::Absent(absent) => absent.bytes,
            _ => self.bytes().len(),
        }
    }

    /// What is missing, if the data are absent.
    pub fn missing(&self) -> Option<&Absent> {
        match &self.data {
            Data::Absent(absent) => Some(absent),
            _ => None,
        }
    }

    /// Nothing, if the data are there.
    ///
    /// # Errors
    /// If they are absent.
    pub fn present(&self) -> Result<(), TensorError> {
        self.missing().map_or(Ok(()), |absent| Err(TensorError::Absent(absent.clone())))
    }

    /// The strings, if this is a tensor of strings.
    pub fn strings(&self) -> Option<&[Bytes]> {
        match &self.data {
            Data::Strings(strings) => Some(strings),
            _ => None,
        }
    }

    /// The whole values, if this is a tensor of such.
    pub fn values(&self) -> Option<&[Tensor]> {
        match &self.data {
            Data::Values(values) => Some(values),
            _ => None,
        }
    }

    /// The elements widened to 64 bits.
    ///
    /// # Errors
    /// If this is a tensor of strings or whole values, or its data are absent.
    pub fn numbers(&self) -> Result<Numbers, TensorError> {
        self.present()?;
        Numbers::decode(self.dtype, self.bytes(), self.count()).ok_or(TensorError::NotNumeric(self.dtype))
    }

    /// The elements as a slice of their own type, copied only where the bytes are not aligned; `None` if `T` is another type
    /// or the data are absent.
    pub fn as_slice<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        if T::DTYPE != self.dtype || self.missing().is_some() {
            return None;
        }
        Some(match bytemuck::try_cast_slice(self.bytes()) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(self.bytes())),
        })
    }

    /// The same data under another shape.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        if element_count(shape) != Some(self.count()) {
            let expected = element_count(shape).unwrap_or(usize::MAX);
            return Err(TensorError::Size { dtype: self.dtype, shape: shape.to_vec(), expected, found: self.count() });
        }
        Ok(Tensor { dtype: self.dtype, shape: shape.into(), data: self.data.clone() })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape.as_slice())?;
        if self.count() <= 8 {
            match (self.numbers(), self.strings()) {
                (Ok(Numbers::Float(v)), _) => write!(f, " {v:?}")?,
                (Ok(Numbers::Int(v)), _) => write!(f, " {v:?}")?,
                (Ok(Numbers::Uint(v)), _) => write!(f, " {v:?}")?,
                (_, Some(strings)) => write!(f, " {strings:?}")?,
                _ => {}
            }
        }
        if let Some(values) = self.values() {
            write!(f, " {values:?}")?;
        }
        Ok(())
    }
}

/// A Rust type that is stored as one element type.
pub trait Element: bytemuck::Pod {
    /// The element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($ty:ty = $dtype:ident),* $(,)?) => { $(impl Element for $ty { const DTYPE: DType = DType::$dtype; })* };
}
elements!(
    u8 = U8,
    i8 = I8,
    u16 = U16,
    i16 = I16,
    u32 = U32,
    i32 = I32,
    u64 = U64,
    i64 = I64,
    half::f16 = F16,
    half::bf16 = BF16,
    f32 = F32,
    f64 = F64,
);
