//! Data that are known by what they would be, not by their bytes.
//!
//! The weights of a model may be too large to have at hand, and where only shapes matter nobody needs them. [`Absent`] says which
//! data are missing: equal origins are equal data, as equal addresses of data that are there.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// Bytes that are not there: where they were to come from, and how many they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Absent {
    /// What tells these data from others: a place in a file, or how they are computed from such.
    pub origin: Arc<str>,
    /// How many bytes they are.
    pub bytes: usize,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} bytes of `{}` are absent", self.bytes, self.origin)
    }
}

/// The data of a constant: bytes, or which bytes are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// They are there.
    Bytes(Bytes),
    /// They are not.
    Absent(Absent),
}

/// What tells data apart without reading them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// An address and a number of bytes.
    Memory(usize, usize),
    /// Data that are absent.
    Absent(Absent),
}

impl Content {
    /// How many bytes they are, there or not.
    pub fn len(&self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.len(),
            Content::Absent(absent) => absent.bytes,
        }
    }

    /// Whether they are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    ///
    /// # Errors
    /// If they are absent.
    pub fn bytes(&self) -> Result<&Bytes, &Absent> {
        match self {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Absent(absent) => Err(absent),
        }
    }

    /// What tells them from other data.
    pub fn place(&self) -> Place {
        match self {
            Content::Bytes(bytes) => Place::Memory(bytes.as_ptr() as usize, bytes.len()),
            Content::Absent(absent) => Place::Absent(absent.clone()),
        }
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Content {
        Content::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::Bytes(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Tensor, TensorError, convert, host};

    #[test]
    fn only_views_can_be_had_of_absent_data() {
        let x = Tensor::absent(DType::F16, &[4, 6], "w at 0").unwrap();
        assert_eq!((x.count(), x.size(), x.bytes().len()), (24, 48, 0));
        let view = x.reshaped(&[24]).unwrap();
        assert_eq!(view.missing(), x.missing());
        assert!(matches!(x.numbers(), Err(TensorError::Absent(_))));
        assert!(x.as_slice::<half::f16>().is_none());
        assert!(x.rearranged(&[1], [0].into_iter()).is_err());
        assert!(convert(&x, DType::F32, true).is_err());
        assert!(host::call("nonzero", &[], &[], &[x]).is_err());
    }

    #[test]
    fn equal_origins_are_equal_data() {
        let of = |origin: &str| Tensor::absent(DType::F32, &[2], origin).unwrap();
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_ne!(of("a"), Tensor::from_slice(&[2], &[0f32, 0.0]).unwrap());
        assert!(Tensor::absent(DType::F32, &[usize::MAX, 2], "a").is_err());
        assert!(Tensor::absent(DType::String, &[2], "a").is_err());
    }
}
