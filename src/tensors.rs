//! Files of values: NumPy's `.npy` and `.npz`, ONNX's `.pb` (sequences, optional values and maps too), `.safetensors`.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read},
    path::{Path, PathBuf},
};

use tarsia_onnx::{Limits, ReadError};
use tarsia_tensor::{DType, Numbers, Overflow, Tensor, TensorError};
use thiserror::Error;

/// Why a tensor file cannot be read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file cannot be opened, read or written.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file's name does not tell its format.
    #[error("{}: unknown kind of tensor file; use .npy, .npz, .pb or .safetensors", .0.display())]
    Format(PathBuf),
    /// The element type has no counterpart.
    #[error("{}: element type {dtype} cannot be used here", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The type as the file or the tensor names it.
        dtype: String,
    },
    /// An ONNX tensor that does not decode.
    #[error(transparent)]
    Onnx(#[from] ReadError),
    /// A `.safetensors` file that does not decode.
    #[error("{}: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: safetensors::SafeTensorError,
    },
    /// Data that do not fit their shape.
    #[error("{}: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: TensorError,
    },
}

/// The tensors of a file with their names (`.npy` has none).
///
/// # Errors
/// If the file cannot be read, is of an unknown kind, or is larger than `limits` allow.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<(Option<String>, Tensor)>, FileError> {
    match extension(path).as_str() {
        "npy" => {
            let file = open(path)?;
            Ok(vec![(None, read_npy(path, BufReader::new(file), limits)?)])
        }
        "npz" => {
            let broken = |reason: zip::result::ZipError| io(path, reason.into());
            let mut archive = zip::ZipArchive::new(BufReader::new(open(path)?)).map_err(broken)?;
            (0..archive.len())
                .map(|entry| {
                    let entry = archive.by_index(entry).map_err(broken)?;
                    let name = entry.name().map_err(broken)?.trim_end_matches(".npy").to_owned();
                    Ok((Some(name), read_npy(path, entry, limits)?))
                })
                .collect()
        }
        "pb" => {
            let (name, tensor) = tarsia_onnx::data::read_value(path, limits)?;
            Ok(vec![((!name.is_empty()).then_some(name), tensor)])
        }
        "safetensors" => read_safetensors(path, limits),
        _ => Err(FileError::Format(path.to_owned())),
    }
}

fn read_safetensors(path: &Path, limits: &Limits) -> Result<Vec<(Option<String>, Tensor)>, FileError> {
    let mut bytes = Vec::new();
    open(path)?.take(limits.max_bytes).read_to_end(&mut bytes).map_err(|reason| io(path, reason))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .map_err(|reason| FileError::Safetensors { path: path.to_owned(), reason })?;
    file.iter()
        .map(|(name, view)| {
            let unknown = || FileError::Type { path: path.to_owned(), dtype: format!("{:?}", view.dtype()) };
            let dtype = safetensors_type(view.dtype()).ok_or_else(unknown)?;
            let data = bytes::Bytes::copy_from_slice(view.data());
            let tensor = Tensor::new(dtype, view.shape(), data)
                .map_err(|reason| FileError::Tensor { path: path.to_owned(), reason })?;
            Ok((Some(name.to_owned()), tensor))
        })
        .collect()
}

fn safetensors_type(dtype: safetensors::Dtype) -> Option<DType> {
    use safetensors::Dtype;
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::U16 => DType::U16,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::I32 => DType::I32,
        Dtype::U64 => DType::U64,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}

/// Whether a value can be written as `.npy`: texts and whole values cannot.
pub fn has_npy(value: &Tensor) -> bool {
    numpy_type(value.dtype()).is_some()
}

/// Writes a value of any type as ONNX's `.pb`.
///
/// # Errors
/// If the file cannot be written.
pub fn write_pb(path: &Path, name: &str, value: &Tensor) -> Result<(), FileError> {
    std::fs::write(path, tarsia_onnx::data::write_value(name, value)).map_err(|reason| io(path, reason))
}

/// Writes a tensor as `.npy`. bf16 and 8-bit floats, which NumPy does not know, are written as f32.
///
/// # Errors
/// If the file cannot be written, or the tensor is of strings.
pub fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), FileError> {
    let dtype = tensor.dtype();
    let unknown = || FileError::Type { path: path.to_owned(), dtype: dtype.to_string() };
    let (written, descr) = numpy_type(dtype).ok_or_else(unknown)?;
    let numbers = tensor.numbers().map_err(|_| unknown())?;
    let bytes = numbers.encode(written, Overflow::Special);
    let file = File::create(path).map_err(|reason| io(path, reason))?;
    let shape: Vec<u64> = tensor.shape().iter().map(|&d| d as u64).collect();
    write_raw(path, BufWriter::new(file), descr, &shape, &bytes)
}

/// The `.npy` header as NumPy's format description (version 1.0) has it, then the data.
fn write_raw(
    path: &Path,
    mut file: impl std::io::Write,
    descr: &str,
    shape: &[u64],
    bytes: &[u8],
) -> Result<(), FileError> {
    let axes: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    let padding = (64 - (10 + header.len() + 1) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    let parts: [&[u8]; 4] = [b"\x93NUMPY\x01\x00", &length, header.as_bytes(), bytes];
    parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.flush())
        .map_err(|reason| io(path, reason))
}

/// The type a `.npy` file holds for a dtype, and its name there.
fn numpy_type(dtype: DType) -> Option<(DType, &'static str)> {
    Some(match dtype {
        DType::Bool => (dtype, "|b1"),
        DType::U8 | DType::U4 | DType::U2 => (DType::U8, "|u1"),
        DType::I8 | DType::I4 | DType::I2 => (DType::I8, "|i1"),
        DType::U16 => (dtype, "<u2"),
        DType::I16 => (dtype, "<i2"),
        DType::U32 => (dtype, "<u4"),
        DType::I32 => (dtype, "<i4"),
        DType::U64 => (dtype, "<u8"),
        DType::I64 => (dtype, "<i8"),
        DType::F16 => (dtype, "<f2"),
        DType::F64 => (dtype, "<f8"),
        DType::String | DType::Value => return None,
        _ => (DType::F32, "<f4"),
    })
}

fn read_npy(path: &Path, reader: impl Read, limits: &Limits) -> Result<Tensor, FileError> {
    let file = npyz::NpyFile::new(reader).map_err(|reason| io(path, reason))?;
    let name = file.dtype().descr();
    let text = name.trim_matches(['\'', '"']);
    let unknown = || FileError::Type { path: path.to_owned(), dtype: text.to_owned() };
    let known = DType::ALL.iter().filter_map(|&dtype| numpy_type(dtype).filter(|(written, _)| *written == dtype));
    let (dtype, _) = known
        .into_iter()
        .find(|(_, descr)| descr[1..] == text[text.len().min(1)..] && !text.starts_with('>'))
        .ok_or_else(unknown)?;
    let shape: Vec<usize> = file.shape().iter().map(|&d| d as usize).collect();
    let tensor = |reason| FileError::Tensor { path: path.to_owned(), reason };
    let count = tarsia_tensor::element_count(&shape).ok_or_else(|| tensor(TensorError::TooLarge(shape.clone())))?;
    let size = dtype.bytes_of(count).filter(|&bytes| bytes as u64 <= limits.max_bytes);
    let size = size.ok_or_else(|| tensor(TensorError::TooLarge(shape.clone())))?;
    if file.order() == npyz::Order::Fortran && shape.len() > 1 {
        return Err(FileError::Type {
            path: path.to_owned(),
            dtype: format!("{text} in Fortran order; save it with order='C'"),
        });
    }
    let numbers = elements(path, file, dtype)?;
    let bytes = numbers.encode(dtype, Overflow::Special);
    debug_assert_eq!(bytes.len(), size);
    Tensor::new(dtype, &shape, bytes.into()).map_err(tensor)
}

fn elements<R: Read>(path: &Path, file: npyz::NpyFile<R>, dtype: DType) -> Result<Numbers, FileError> {
    let fail = |reason| io(path, reason);
    macro_rules! read {
        ($ty:ty, $class:ident, $wide:ty) => {
            Numbers::$class(file.into_vec::<$ty>().map_err(fail)?.into_iter().map(<$wide>::from).collect())
        };
    }
    Ok(match dtype {
        DType::Bool => read!(bool, Uint, u64),
        DType::U8 => read!(u8, Uint, u64),
        DType::U16 => read!(u16, Uint, u64),
        DType::U32 => read!(u32, Uint, u64),
        DType::U64 => read!(u64, Uint, u64),
        DType::I8 => read!(i8, Int, i64),
        DType::I16 => read!(i16, Int, i64),
        DType::I32 => read!(i32, Int, i64),
        DType::I64 => read!(i64, Int, i64),
        DType::F16 => read!(half::f16, Float, f64),
        DType::F64 => read!(f64, Float, f64),
        _ => read!(f32, Float, f64),
    })
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|reason| io(path, reason))
}

fn io(path: &Path, reason: std::io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), reason }
}
