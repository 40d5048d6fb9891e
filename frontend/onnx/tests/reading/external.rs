//! External data: found inside the model's folder, refused outside it, checked against the file's length.

use std::{fs, path::Path};

use onnx_protobuf::TensorProto;
use tarsia_onnx::{Limits, Model, Weights};
use tempfile::TempDir;

use crate::build::{bytes_of, graph, model, model_with, outside};

/// A folder `model/` with `w.bin` of the bytes 0 to 255, an empty `none.bin` and a folder `sub`, beside a file `secret`.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    fs::create_dir_all(dir.path().join("model/sub")).unwrap();
    fs::write(dir.path().join("secret"), &bytes).unwrap();
    fs::write(dir.path().join("model/w.bin"), &bytes).unwrap();
    fs::write(dir.path().join("model/sub/deep.bin"), &bytes).unwrap();
    fs::write(dir.path().join("model/none.bin"), []).unwrap();
    dir
}

fn read(dir: &Path, tensor: TensorProto) -> Result<Vec<u8>, String> {
    let file = dir.join("model/model.onnx");
    fs::write(&file, bytes_of(&model_with(tensor))).unwrap();
    let model = Model::open(&file, Limits::default()).map_err(|error| error.to_string())?;
    let tensor = model.graph().initializers().next().unwrap().tensor().map_err(|error| error.to_string())?;
    Ok(tensor.bytes().to_vec())
}

#[test]
fn views_of_a_file_in_the_folder() {
    let dir = folder();
    let at = |entries: &[(&str, &str)], dims: &[i64]| read(dir.path(), outside(2, dims, entries)).unwrap();
    assert_eq!(at(&[("location", "w.bin")], &[3]), [0, 1, 2]);
    assert_eq!(at(&[("location", "w.bin"), ("offset", "253")], &[3]), [253, 254, 255]);
    assert_eq!(at(&[("location", "w.bin"), ("offset", "8"), ("length", "2"), ("checksum", "?")], &[2]), [8, 9]);
    assert_eq!(at(&[("location", "./sub/deep.bin"), ("length", "256")], &[256]).len(), 256);
    assert!(at(&[("location", "none.bin"), ("length", "0")], &[0, 4]).is_empty());
    assert!(at(&[("location", "w.bin"), ("offset", "256")], &[0]).is_empty());
}

/// What is known of a tensor of which only type and shape must be: the data, or what is missing.
fn of_shapes(dir: &Path, tensor: TensorProto, max_bytes: u64) -> Result<Result<Vec<u8>, String>, String> {
    let file = dir.join("model/model.onnx");
    fs::write(&file, bytes_of(&model_with(tensor))).unwrap();
    let limits = Limits { weights: Weights::Shapes, max_bytes, ..Limits::default() };
    let model = Model::open(&file, limits).map_err(|error| error.to_string())?;
    let tensor = model.graph().initializers().next().unwrap().tensor().map_err(|error| error.to_string())?;
    Ok(match tensor.missing() {
        Some(absent) => {
            assert!(tensor.numbers().is_err() && tensor.bytes().is_empty());
            assert_eq!(Some(absent.bytes), tensor.dtype().bytes_of(tensor.count()));
            Err(absent.to_string())
        }
        None => Ok(tensor.bytes().to_vec()),
    })
}

#[test]
fn data_may_be_absent_where_shapes_are_enough() {
    let dir = folder();
    let at = |entries: &[(&str, &str)], dims: &[i64]| of_shapes(dir.path(), outside(2, dims, entries), 1 << 20);
    // What is there is read, and checked as ever.
    assert_eq!(at(&[("location", "w.bin")], &[3]), Ok(Ok(vec![0, 1, 2])));
    assert!(at(&[("location", "w.bin")], &[300]).unwrap_err().contains("256 bytes"));
    assert!(at(&[("location", "../secret")], &[3]).unwrap_err().contains("not a path inside"));
    assert!(at(&[("location", "x.bin"), ("length", "4")], &[3]).unwrap_err().contains("declares 4 bytes"));
    // What is absent passes the limit on memory, which it takes none of.
    let huge = at(&[("location", "x.bin"), ("offset", "64")], &[1 << 20, 1 << 20]).unwrap().unwrap_err();
    assert_eq!(huge, "the 1099511627776 bytes of `x.bin at 64` are absent");
    assert!(at(&[("location", "w.bin")], &[1 << 21]).is_err());
    assert!(at(&[("location", "x.bin")], &[1 << 40, 1 << 40]).unwrap_err().contains("multiply"));
}

#[test]
fn tensors_of_one_file_share_one_map() {
    let dir = folder();
    let mut graph = graph(&[], &[], vec![]);
    let part = |name: &str, offset: &str| TensorProto {
        name: name.into(),
        ..outside(2, &[16], &[("location", "w.bin"), ("offset", offset), ("length", "16")])
    };
    graph.initializer = vec![part("a", "0"), part("b", "32")];
    let file = dir.path().join("model/two.onnx");
    fs::write(&file, bytes_of(&model(graph, vec![]))).unwrap();
    let model = Model::open(&file, Limits::default()).unwrap();
    let starts: Vec<usize> =
        model.graph().initializers().map(|c| c.tensor().unwrap().bytes().as_ptr() as usize).collect();
    assert_eq!(starts[1] - starts[0], 32);
}

#[test]
fn ways_out_of_the_folder_are_refused() {
    let dir = folder();
    let absolute = dir.path().join("secret").display().to_string();
    let cases = [
        ("../secret", "not a path inside"),
        ("sub/../../secret", "not a path inside"),
        ("sub/../w.bin", "not a path inside"),
        ("..", "not a path inside"),
        (&absolute, "not a path inside"),
        ("", "not a path inside"),
        ("w.bin\0", "not a path inside"),
        ("missing.bin", "No such file"),
        ("sub", "not a regular file"),
        (".", "not a regular file"),
    ];
    for (location, expected) in cases {
        let error = read(dir.path(), outside(2, &[4], &[("location", location)])).unwrap_err();
        assert!(error.contains("`w`") && error.contains(expected), "{location}: {error}\n  lacks {expected}");
    }
    let error = read(dir.path(), outside(2, &[4], &[("offset", "0")])).unwrap_err();
    assert!(error.contains("no location"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_only_inside_the_folder() {
    use std::os::unix::fs::symlink;
    let dir = folder();
    let model = dir.path().join("model");
    symlink("../secret", model.join("out.bin")).unwrap();
    symlink("..", model.join("up")).unwrap();
    symlink("sub/deep.bin", model.join("in.bin")).unwrap();
    for location in ["out.bin", "up/secret"] {
        let error = read(dir.path(), outside(2, &[4], &[("location", location)])).unwrap_err();
        assert!(error.contains("leads out of the model's folder"), "{location}: {error}");
    }
    assert_eq!(read(dir.path(), outside(2, &[2], &[("location", "in.bin")])).unwrap(), [0, 1]);
    // A folder that is itself reached through a link is still the model's folder.
    symlink("model", dir.path().join("alias")).unwrap();
    fs::write(model.join("model.onnx"), bytes_of(&model_with(outside(2, &[2], &[("location", "w.bin")])))).unwrap();
    assert!(Model::open(&dir.path().join("alias/model.onnx"), Limits::default()).is_ok());
}

#[test]
fn data_beyond_the_file_is_refused() {
    let dir = folder();
    let huge = u64::MAX.to_string();
    let at = |offset: &str, length: &str, dims: &[i64]| {
        let entries = [("location", "w.bin"), ("offset", offset), ("length", length)];
        read(dir.path(), outside(2, dims, &entries)).unwrap_err()
    };
    let cases = [
        (at("0", "257", &[257]), "bytes 0 to 257 of `w.bin`, which has 256 bytes"),
        (at("255", "2", &[2]), "bytes 255 to 257"),
        (at(&huge, "2", &[2]), "which has 256 bytes"),
        (at("0", "3", &[4]), "declares 3 bytes, but its type and shape need 4"),
        (at("0", &huge, &[4]), "but its type and shape need 4"),
        (at("-1", "4", &[4]), "offset `-1`, not a number"),
        (at("1e3", "4", &[4]), "offset `1e3`, not a number"),
        (at("0", "", &[4]), "length ``, not a number"),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{error}\n  lacks {expected}");
    }
    let twice = [("location", "w.bin"), ("offset", "0"), ("offset", "8")];
    assert!(read(dir.path(), outside(2, &[4], &twice)).unwrap_err().contains("given twice"));
    let both = TensorProto { raw_data: vec![0; 4], ..outside(2, &[4], &[("location", "w.bin")]) };
    assert!(read(dir.path(), both).unwrap_err().contains("both external data and raw_data"));
}

#[test]
fn files_beyond_four_gigabytes() {
    use std::io::{Seek, SeekFrom, Write};
    let dir = folder();
    let at = (5u64 << 30) + 3;
    // A file that is a hole up to its last four bytes takes no space.
    let mut file = fs::File::create(dir.path().join("model/big.bin")).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[1, 2, 3, 4]).unwrap();
    drop(file);
    let offset = at.to_string();
    let entries = [("location", "big.bin"), ("offset", offset.as_str()), ("length", "4")];
    assert_eq!(read(dir.path(), outside(2, &[4], &entries)).unwrap(), [1, 2, 3, 4]);
}
