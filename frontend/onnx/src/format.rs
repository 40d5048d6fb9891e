//! What a file that is not ONNX looks like, so that the error can say it.

/// A format recognised by its first bytes, with what the user can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The format, with its article.
    pub name: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const UNPACK: &str = "unpack it first";
const EXPORT: &str = "export the model to ONNX first";
const DOWNLOAD: &str = "the download went wrong: fetch the file itself";

/// Magic bytes, by offset.
const MAGICS: &[(usize, &[u8], Format)] = &[
    (0, b"\x1f\x8b", Format { name: "a gzip file in a gzip file", remedy: UNPACK }),
    (0, b"BZh", Format { name: "a bzip2 file", remedy: UNPACK }),
    (0, b"\xfd7zXZ\0", Format { name: "an xz file", remedy: UNPACK }),
    (0, b"\x28\xb5\x2f\xfd", Format { name: "a zstd file", remedy: UNPACK }),
    (0, b"7z\xbc\xaf\x27\x1c", Format { name: "a 7z archive", remedy: UNPACK }),
    (257, b"ustar", Format { name: "a tar archive", remedy: UNPACK }),
    (0, b"\x80\x02", Format { name: "a Python pickle (an old PyTorch checkpoint)", remedy: EXPORT }),
    (0, b"\x80\x03", Format { name: "a Python pickle", remedy: EXPORT }),
    (0, b"\x80\x04", Format { name: "a Python pickle", remedy: EXPORT }),
    (0, b"\x80\x05", Format { name: "a Python pickle", remedy: EXPORT }),
    (0, b"\x89HDF\r\n\x1a\n", Format { name: "an HDF5 file (a Keras model)", remedy: EXPORT }),
    (0, b"GGUF", Format { name: "a GGUF file", remedy: EXPORT }),
    (4, b"TFL3", Format { name: "a TensorFlow Lite model", remedy: EXPORT }),
    (4, b"ORTM", Format { name: "an onnxruntime ORT-format model", remedy: "use the ONNX model it was made from" }),
    (0, b"\x93NUMPY", Format { name: "a NumPy array", remedy: "this is data, not a model" }),
    (
        0,
        b"version https://git-lfs",
        Format { name: "a Git LFS pointer", remedy: "run `git lfs pull` to fetch the file itself" },
    ),
];

/// The format of `bytes`, if it is one of those that get mistaken for ONNX models.
pub(crate) fn recognise(bytes: &[u8]) -> Option<Format> {
    let magic = |&&(offset, magic, _): &&(usize, &[u8], Format)| {
        bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some((_, _, format)) = MAGICS.iter().find(magic) {
        return Some(*format);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(zip(bytes));
    }
    // safetensors: the length of a JSON header, then the header.
    if bytes.get(8..10) == Some(b"{\"") {
        return Some(Format { name: "a safetensors file", remedy: EXPORT });
    }
    text(bytes)
}

fn zip(bytes: &[u8]) -> Format {
    let head = &bytes[..bytes.len().min(4096)];
    if head.windows(8).any(|w| w == b"data.pkl") {
        return Format { name: "a PyTorch checkpoint", remedy: EXPORT };
    }
    Format { name: "a zip archive", remedy: UNPACK }
}

fn text(bytes: &[u8]) -> Option<Format> {
    let head = bytes.get(..bytes.len().min(512))?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let starts = |prefix: &str| head.get(..prefix.len()).is_some_and(|h| h.eq_ignore_ascii_case(prefix.as_bytes()));
    if starts("<!doctype html") || starts("<html") {
        return Some(Format { name: "an HTML page", remedy: DOWNLOAD });
    }
    if starts("<?xml") {
        return Some(Format { name: "an XML file", remedy: DOWNLOAD });
    }
    if starts("{") || starts("[") {
        return Some(Format { name: "a JSON file", remedy: "convert the model to binary protobuf" });
    }
    if starts("ir_version") {
        return Some(Format { name: "an ONNX model in protobuf's text form", remedy: "convert it to binary protobuf" });
    }
    None
}
