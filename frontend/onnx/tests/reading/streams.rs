//! Models in gzip files and from streams: unpacked or read to the end, within the limits.

use std::{
    fs,
    io::{self, Read, Write},
};

use flate2::{Compression, write::GzEncoder};
use tarsia_onnx::{Limits, Model, ReadError, Source};

use crate::build::{bytes_of, constant, full_node, graph, model, node, outside, raw};

/// A model with one constant of two floats.
fn sample() -> Vec<u8> {
    let value = constant("value", raw(1, &[2], &[0, 0, 128, 63, 0, 0, 0, 64]));
    bytes_of(&model(graph(&[], &["y"], vec![full_node("c", "", node("Constant", &[], &["y"]), vec![value])]), vec![]))
        .to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_gzip_file_is_unpacked_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.bin");
    fs::write(&file, gzip(&sample())).unwrap();
    assert_eq!(Model::open(&file, Limits::default()).unwrap().graph().nodes().len(), 1);
    // Members one after the other are one file, as gzip has it.
    let (front, back) = (sample()[..20].to_vec(), sample()[20..].to_vec());
    fs::write(&file, [gzip(&front), gzip(&back)].concat()).unwrap();
    assert_eq!(Model::open(&file, Limits::default()).unwrap().graph().nodes().len(), 1);
    fs::write(&file, gzip(b"<ir_version: 10, opset_import: [\"\": 20]> g (float x) => (float y) { y = Relu (x) }"))
        .unwrap();
    assert_eq!(Model::open(&file, Limits::default()).unwrap().graph().nodes().len(), 1);
}

#[test]
fn external_data_lies_beside_the_gzip_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx.gz");
    fs::write(dir.path().join("w.bin"), [0; 8]).unwrap();
    let value = constant("value", outside(1, &[2], &[("location", "w.bin")]));
    let model = model(graph(&[], &["y"], vec![full_node("c", "", node("Constant", &[], &["y"]), vec![value])]), vec![]);
    fs::write(&file, gzip(&bytes_of(&model))).unwrap();
    Model::open(&file, Limits::default()).unwrap();
    let source = Source::from_reader("standard input", &*bytes_of(&model), &Limits::default()).unwrap();
    let error = Model::from_source(source, Limits::default()).unwrap_err().to_string();
    assert!(error.contains("standard input") && error.contains("was not read from a file"), "{error}");
}

#[test]
fn a_stream_is_read_to_its_end_and_unpacked() {
    for bytes in [sample(), gzip(&sample())] {
        let source = Source::from_reader("standard input", &*bytes, &Limits::default()).unwrap();
        assert_eq!(source.bytes()[..], sample()[..]);
    }
    assert!(matches!(Source::from_reader("", io::empty(), &Limits::default()), Err(ReadError::Empty { .. })));
    assert!(matches!(Source::from_reader("", &*gzip(b""), &Limits::default()), Err(ReadError::Empty { .. })));
}

#[test]
fn damaged_gzip_files_are_errors() {
    let whole = gzip(&sample());
    for cut in 2..whole.len() {
        let result = Source::from_reader("m", &whole[..cut], &Limits::default());
        assert!(matches!(&result, Err(ReadError::Read { .. })), "cut at {cut}");
    }
    let mut wrong = whole.clone();
    let checksum = wrong.len() - 6;
    wrong[checksum] ^= 1;
    let error = Source::from_reader("m", &*wrong, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("m: unpacking the gzip file"), "{error}");
}

#[test]
fn bombs_and_endless_streams_stop_at_the_limit() {
    let limits = Limits { max_bytes: 1 << 20, max_structure_bytes: 1 << 20, ..Limits::default() };
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1 << 17);
    let error = Source::from_reader("bomb", &*bomb, &limits).unwrap_err();
    assert!(matches!(error, ReadError::TooLong { limit: 2_097_152, .. }), "{error}");
    let error = Source::from_reader("endless", io::repeat(b'x').take(u64::MAX), &limits).unwrap_err();
    assert!(error.to_string().contains("passes 2097152 bytes"), "{error}");
    // A file inside the file is not unpacked again.
    let twice = gzip(&gzip(&sample()));
    let source = Source::from_reader("twice", &*twice, &limits).unwrap();
    assert!(source.model(&limits).unwrap_err().to_string().contains("a gzip file in a gzip file"));
}
