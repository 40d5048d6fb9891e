//! Tensors in every form that the file has, against values worked out by hand.

use bytes::Bytes;
use half::{bf16, f16};
use onnx_protobuf::{SparseTensorProto, TensorProto};
use tarsia_onnx::{Limits, ReadError};
use tarsia_tensor::{DType, Numbers, Tensor};

use crate::build::{bytes_of, graph, model, model_with, open, open_within, outside, problems, raw, tensor};

/// The only initialiser of a model, read.
fn read(tensor: TensorProto) -> Tensor {
    let model = open(&model_with(tensor)).unwrap();
    let constant = model.graph().initializers().next().unwrap();
    assert_eq!(constant.name(), "w");
    constant.tensor().unwrap()
}

/// The error of reading the only initialiser, whether at opening or at the values.
fn refused(tensor: TensorProto) -> String {
    match open(&model_with(tensor)) {
        Ok(model) => model.graph().initializers().next().unwrap().tensor().unwrap_err().to_string(),
        Err(ReadError::Model { problems, .. }) => problems.to_string(),
        Err(other) => panic!("{other}"),
    }
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.numbers().unwrap().to_f64()
}

#[test]
fn raw_data_of_each_number_type() {
    let little = |bytes: &[&[u8]]| bytes.concat();
    let cases: Vec<(DType, Vec<u8>, Numbers)> = vec![
        (DType::F32, little(&[&1.5f32.to_le_bytes(), &(-2f32).to_le_bytes()]), Numbers::Float(vec![1.5, -2.0])),
        (DType::F64, little(&[&1.5f64.to_le_bytes(), &(-2f64).to_le_bytes()]), Numbers::Float(vec![1.5, -2.0])),
        (DType::F16, vec![0x00, 0x3e, 0x00, 0xc0], Numbers::Float(vec![1.5, -2.0])),
        (DType::BF16, vec![0xc0, 0x3f, 0x00, 0xc0], Numbers::Float(vec![1.5, -2.0])),
        (DType::F8E4M3FN, vec![0x3c, 0xc0], Numbers::Float(vec![1.5, -2.0])),
        (DType::F8E4M3FNUZ, vec![0x44, 0xc8], Numbers::Float(vec![1.5, -2.0])),
        (DType::F8E5M2, vec![0x3e, 0xc0], Numbers::Float(vec![1.5, -2.0])),
        (DType::F8E5M2FNUZ, vec![0x42, 0xc4], Numbers::Float(vec![1.5, -2.0])),
        (DType::F8E8M0, vec![127, 130], Numbers::Float(vec![1.0, 8.0])),
        (DType::F4E2M1, vec![0x3 | 0xc << 4], Numbers::Float(vec![1.5, -2.0])),
        (DType::Bool, vec![1, 0], Numbers::Uint(vec![1, 0])),
        (DType::U8, vec![255, 7], Numbers::Uint(vec![255, 7])),
        (DType::I8, vec![255, 7], Numbers::Int(vec![-1, 7])),
        (DType::U16, vec![255, 255, 7, 0], Numbers::Uint(vec![65535, 7])),
        (DType::I16, vec![254, 255, 7, 1], Numbers::Int(vec![-2, 263])),
        (DType::U32, little(&[&u32::MAX.to_le_bytes(), &7u32.to_le_bytes()]), Numbers::Uint(vec![u32::MAX.into(), 7])),
        (DType::I32, little(&[&i32::MIN.to_le_bytes(), &7i32.to_le_bytes()]), Numbers::Int(vec![i32::MIN.into(), 7])),
        (DType::U64, little(&[&u64::MAX.to_le_bytes(), &7u64.to_le_bytes()]), Numbers::Uint(vec![u64::MAX, 7])),
        (DType::I64, little(&[&i64::MIN.to_le_bytes(), &7i64.to_le_bytes()]), Numbers::Int(vec![i64::MIN, 7])),
        (DType::U4, vec![0xf | 7 << 4], Numbers::Uint(vec![15, 7])),
        (DType::I4, vec![0xf | 7 << 4], Numbers::Int(vec![-1, 7])),
        (DType::U2, vec![0b0111], Numbers::Uint(vec![3, 1])),
        (DType::I2, vec![0b0110], Numbers::Int(vec![-2, 1])),
    ];
    let mut seen: Vec<DType> = cases.iter().map(|case| case.0).chain([DType::String]).collect();
    seen.sort();
    let of_onnx = DType::ALL.iter().filter(|dtype| dtype.onnx() != 0).count();
    assert_eq!(seen.len(), of_onnx, "every element type of ONNX is tested");
    for (dtype, bytes, expected) in cases {
        let tensor = read(raw(dtype.onnx(), &[2], &bytes));
        assert_eq!((tensor.dtype(), tensor.shape(), tensor.numbers().unwrap()), (dtype, &[2][..], expected));
    }
}

#[test]
fn typed_fields_of_each_number_type() {
    let int32 = |dtype: DType, dims: &[i64], values: &[i32]| {
        read(TensorProto { int32_data: values.to_vec(), ..tensor(dtype.onnx(), dims) }).numbers().unwrap()
    };
    assert_eq!(int32(DType::I32, &[2], &[i32::MIN, 5]), Numbers::Int(vec![i32::MIN.into(), 5]));
    assert_eq!(int32(DType::I16, &[2], &[-32768, 32767]), Numbers::Int(vec![-32768, 32767]));
    assert_eq!(int32(DType::I8, &[2], &[-128, 127]), Numbers::Int(vec![-128, 127]));
    assert_eq!(int32(DType::U16, &[2], &[0, 65535]), Numbers::Uint(vec![0, 65535]));
    assert_eq!(int32(DType::U8, &[2], &[0, 255]), Numbers::Uint(vec![0, 255]));
    assert_eq!(int32(DType::Bool, &[2], &[0, 1]), Numbers::Uint(vec![0, 1]));
    assert_eq!(int32(DType::F16, &[1], &[f16::from_f32(-0.5).to_bits().into()]), Numbers::Float(vec![-0.5]));
    assert_eq!(int32(DType::BF16, &[1], &[bf16::from_f32(-0.5).to_bits().into()]), Numbers::Float(vec![-0.5]));
    assert_eq!(int32(DType::F8E4M3FN, &[2], &[0x3c, 0xc0]), Numbers::Float(vec![1.5, -2.0]));
    assert_eq!(int32(DType::F8E5M2, &[2], &[0x3e, 0xc0]), Numbers::Float(vec![1.5, -2.0]));
    assert_eq!(int32(DType::F8E8M0, &[1], &[126]), Numbers::Float(vec![0.5]));
    assert_eq!(int32(DType::I4, &[3], &[0x8 | 7 << 4, 0xf]), Numbers::Int(vec![-8, 7, -1]));
    assert_eq!(int32(DType::U4, &[3], &[0x8 | 7 << 4, 0xf]), Numbers::Uint(vec![8, 7, 15]));
    assert_eq!(int32(DType::F4E2M1, &[3], &[0x3 | 0xc << 4, 0x1]), Numbers::Float(vec![1.5, -2.0, 0.5]));
    assert_eq!(int32(DType::I2, &[5], &[0b11_10_01_00, 0b10]), Numbers::Int(vec![0, 1, -2, -1, -2]));
    assert_eq!(int32(DType::U2, &[5], &[0b11_10_01_00, 0b10]), Numbers::Uint(vec![0, 1, 2, 3, 2]));

    let f = read(TensorProto { float_data: vec![1.0, f32::NAN, -0.0], ..tensor(1, &[3]) });
    assert_eq!(f.bytes(), &[1f32, f32::NAN, -0.0].map(f32::to_le_bytes).concat());
    let d = read(TensorProto { double_data: vec![1.0, -1e300], ..tensor(11, &[2]) });
    assert_eq!(floats(&d), [1.0, -1e300]);
    let i = read(TensorProto { int64_data: vec![i64::MIN, 3], ..tensor(7, &[2]) });
    assert_eq!(i.numbers().unwrap(), Numbers::Int(vec![i64::MIN, 3]));
    let u = read(TensorProto { uint64_data: vec![u64::MAX, 3], ..tensor(13, &[2]) });
    assert_eq!(u.numbers().unwrap(), Numbers::Uint(vec![u64::MAX, 3]));
    let u = read(TensorProto { uint64_data: vec![u32::MAX.into(), 3], ..tensor(12, &[2]) });
    assert_eq!(u.numbers().unwrap(), Numbers::Uint(vec![u32::MAX.into(), 3]));
}

#[test]
fn odd_counts_of_packed_types() {
    for (dtype, per_byte) in [(DType::I4, 2), (DType::U4, 2), (DType::F4E2M1, 2), (DType::I2, 4), (DType::U2, 4)] {
        for count in 0..10usize {
            let bytes: Vec<u8> = (0..count.div_ceil(per_byte)).map(|i| 0x5au8.rotate_left(i as u32)).collect();
            let tensor = read(raw(dtype.onnx(), &[count as i64], &bytes));
            assert_eq!((tensor.count(), tensor.bytes().len()), (count, bytes.len()));
            let spare = [bytes.as_slice(), &[0]].concat();
            assert!(refused(raw(dtype.onnx(), &[count as i64], &spare)).contains("bytes"), "{dtype} × {count}");
        }
    }
}

#[test]
fn scalars_empty_tensors_and_strings() {
    assert_eq!(floats(&read(raw(1, &[], &2f32.to_le_bytes()))), [2.0]);
    assert_eq!(read(tensor(1, &[0, 7])).shape(), [0, 7]);
    assert_eq!(read(tensor(8, &[0])).strings(), Some(&[][..]));
    let strings = TensorProto { string_data: vec![b"a".to_vec(), vec![], b"\xff".to_vec()], ..tensor(8, &[3, 1]) };
    let read = read(strings);
    assert_eq!(read.shape(), [3, 1]);
    assert_eq!(read.strings().unwrap(), [Bytes::from("a"), Bytes::new(), Bytes::from_static(b"\xff")]);
}

#[test]
fn any_true_byte_is_one() {
    assert_eq!(read(raw(DType::Bool.onnx(), &[3], &[0, 255, 1])).bytes(), &[0u8, 1, 1][..]);
}

#[test]
fn wrong_tensors_are_refused_by_name() {
    let cases: Vec<(TensorProto, &str)> = vec![
        (raw(1, &[2], &[0; 7]), "`w`: its type f32 and dimensions [2] need 8 bytes, but raw_data has 7"),
        (raw(1, &[2], &[0; 9]), "need 8 bytes, but raw_data has 9"),
        (tensor(1, &[2]), "need 8 bytes, but the file has 0"),
        (tensor(8, &[2]), "need 2 elements, but the file has 0"),
        (raw(1, &[2, -1], &[]), "dimension 1 is -1"),
        (raw(1, &[i64::MAX, i64::MAX], &[]), "multiply to more bytes"),
        (raw(1, &[i64::MAX], &[]), "multiply to more bytes"),
        (raw(1, &[1 << 40, 1 << 40, 0], &[]), "multiply to more bytes"),
        (tensor(8, &[1 << 60]), "multiply to more bytes"),
        (raw(1, &[1 << 40], &[]), "need 4398046511104 bytes, but the file has 0"),
        (raw(0, &[1], &[0]), "element type UNDEFINED is not supported"),
        (raw(14, &[1], &[0; 8]), "element type COMPLEX64 is not supported"),
        (raw(27, &[4], &[0; 3]), "element type FLOAT6E2M3 is not supported"),
        (raw(99, &[1], &[0]), "element type number 99 is not supported"),
        (raw(8, &[1], &[0; 4]), "raw_data, which cannot hold string"),
        (TensorProto { int32_data: vec![1], ..tensor(1, &[1]) }, "int32_data, which cannot hold f32"),
        (TensorProto { float_data: vec![1.0], ..tensor(11, &[1]) }, "float_data, which cannot hold f64"),
        (TensorProto { int64_data: vec![1], ..tensor(6, &[1]) }, "int64_data, which cannot hold i32"),
        (TensorProto { string_data: vec![vec![]], ..tensor(1, &[1]) }, "string_data, which cannot hold f32"),
        (TensorProto { float_data: vec![1.0], ..raw(1, &[1], &[0; 4]) }, "both raw_data and float_data"),
        (TensorProto { int32_data: vec![128], ..tensor(3, &[1]) }, "element 0 is 128, which is no i8"),
        (TensorProto { int32_data: vec![0, -1], ..tensor(2, &[2]) }, "element 1 is -1, which is no u8"),
        (TensorProto { int32_data: vec![65536], ..tensor(10, &[1]) }, "element 0 is 65536, which is no f16"),
        (TensorProto { int32_data: vec![2], ..tensor(9, &[1]) }, "element 0 is 2, which is no bool"),
        (TensorProto { int32_data: vec![256], ..tensor(22, &[2]) }, "element 0 is 256, which is no i4"),
        (TensorProto { uint64_data: vec![1 << 32], ..tensor(12, &[1]) }, "element 0 is 4294967296, which is no u32"),
        (TensorProto { int32_data: vec![1, 2], ..tensor(22, &[2]) }, "need 1 packed bytes, but int32_data has 2"),
        (TensorProto { float_data: vec![1.0], ..tensor(1, &[2]) }, "need 2 elements, but float_data has 1"),
        (TensorProto { segment: Some(Default::default()).into(), ..raw(1, &[1], &[0; 4]) }, "segments"),
        (outside(1, &[1], &[("location", "w.bin")]), "not read from a file"),
    ];
    for (tensor, expected) in cases {
        let error = refused(tensor);
        assert!(error.contains("`w`") && error.contains(expected), "{error}\n  lacks {expected}");
    }
}

#[test]
fn the_limit_is_on_all_tensors_together() {
    let mut graph = graph(&[], &[], vec![]);
    let zeros = |name: &str| TensorProto { name: name.into(), ..raw(1, &[100], &[0; 400]) };
    graph.initializer = vec![zeros("a"), zeros("b"), zeros("c")];
    let model = model(graph, vec![]);
    let limits = |max_bytes| Limits { max_bytes, ..Limits::default() };
    assert!(open_within(&model, limits(1200)).is_ok());
    let error = open_within(&model, limits(1199)).unwrap_err().to_string();
    assert!(error.contains("take 1200 bytes, more than the limit of 1199"), "{error}");
}

#[test]
fn raw_data_is_a_view_of_the_file() {
    let file = bytes_of(&model_with(raw(1, &[64], &[7; 256])));
    let model = tarsia_onnx::Model::from_bytes(file.clone(), None, Limits::default()).unwrap();
    let tensor = model.graph().initializers().next().unwrap().tensor().unwrap();
    assert!(file.as_ptr_range().contains(&tensor.bytes().as_ptr()));
}

fn sparse(values: TensorProto, indices: TensorProto, dims: &[i64]) -> SparseTensorProto {
    SparseTensorProto {
        values: Some(values).into(),
        indices: Some(indices).into(),
        dims: dims.to_vec(),
        ..Default::default()
    }
}

fn longs(dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto { int64_data: values.to_vec(), ..tensor(7, dims) }
}

fn read_sparse(tensor: SparseTensorProto) -> Result<Tensor, String> {
    let mut graph = graph(&[], &["w"], vec![]);
    graph.sparse_initializer = vec![tensor];
    let model = open(&model(graph, vec![])).map_err(|error| error.to_string())?;
    let constant = model.graph().initializers().next().unwrap();
    assert_eq!(constant.name(), "w");
    constant.tensor().map_err(|error| error.to_string())
}

#[test]
fn sparse_tensors_in_both_forms_of_indices() {
    let values = || TensorProto { float_data: vec![1.0, 2.0, 3.0], ..tensor(1, &[3]) };
    let expected = [0.0, 1.0, 0.0, 0.0, 2.0, 3.0];
    let linear = read_sparse(sparse(values(), longs(&[3], &[1, 4, 5]), &[2, 3])).unwrap();
    assert_eq!((linear.shape(), floats(&linear)), (&[2, 3][..], expected.to_vec()));
    let places = read_sparse(sparse(values(), longs(&[3, 2], &[0, 1, 1, 1, 1, 2]), &[2, 3])).unwrap();
    assert_eq!(floats(&places), expected);
    let packed = sparse(raw(22, &[3], &[0x8 | 7 << 4, 0xf]), longs(&[3], &[0, 3, 4]), &[5]);
    assert_eq!(read_sparse(packed).unwrap().numbers().unwrap(), Numbers::Int(vec![-8, 0, 0, 7, -1]));
    let words = TensorProto { string_data: vec![b"x".to_vec()], ..tensor(8, &[1]) };
    let words = read_sparse(sparse(words, longs(&[1], &[1]), &[2])).unwrap();
    assert_eq!(words.strings().unwrap(), [Bytes::new(), Bytes::from("x")]);
    let none = read_sparse(sparse(tensor(1, &[0]), longs(&[0], &[]), &[2])).unwrap();
    assert_eq!(floats(&none), [0.0, 0.0]);
}

#[test]
fn wrong_sparse_tensors_are_refused() {
    let two = || TensorProto { float_data: vec![1.0, 2.0], ..tensor(1, &[2]) };
    let cases = [
        (sparse(two(), longs(&[2], &[0, 6]), &[2, 3]), "index [6] is outside"),
        (sparse(two(), longs(&[2], &[-1, 3]), &[2, 3]), "index [-1] is outside"),
        (sparse(two(), longs(&[2, 2], &[0, 0, 0, 3]), &[2, 3]), "index [0, 3] is outside"),
        (sparse(two(), longs(&[2], &[3, 3]), &[2, 3]), "indices 0 and 1 are not ascending"),
        (sparse(two(), longs(&[2, 2], &[1, 0, 0, 2]), &[2, 3]), "not ascending"),
        (sparse(two(), longs(&[3], &[1, 2, 3]), &[2, 3]), "indices have shape [3]"),
        (sparse(two(), longs(&[2, 3], &[0; 6]), &[2, 3]), "indices have shape [2, 3]"),
        (sparse(two(), tensor(6, &[0]), &[2, 3]), "indices are i32"),
        (sparse(TensorProto { dims: vec![1, 2], ..two() }, longs(&[2], &[1, 2]), &[2, 3]), "not [NNZ]"),
        (sparse(two(), longs(&[2], &[0, 1]), &[1 << 40, 1 << 40]), "multiply to more bytes"),
        (sparse(two(), longs(&[2], &[0, 1]), &[1 << 40]), "more than the limit"),
        (sparse(two(), longs(&[2], &[0, 1]), &[-3]), "dimension 0 is -3"),
        (sparse(raw(24, &[1], &[1]), longs(&[1], &[0]), &[2]), "has no zero"),
        (SparseTensorProto { indices: None.into(), ..sparse(two(), two(), &[2]) }, "it has no indices"),
    ];
    for (tensor, expected) in cases {
        let error = read_sparse(tensor).unwrap_err();
        assert!(error.contains("`w`") && error.contains(expected), "{error}\n  lacks {expected}");
    }
}

#[test]
fn every_wrong_tensor_is_reported() {
    let mut graph = graph(&[], &[], vec![]);
    let wrong = |name: &str, tensor: TensorProto| TensorProto { name: name.into(), ..tensor };
    graph.initializer =
        vec![wrong("a", raw(1, &[2], &[])), wrong("b", raw(99, &[2], &[])), wrong("c", raw(1, &[-2], &[]))];
    let problems = problems(&model(graph, vec![]));
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        ["a", "b", "c"].iter().zip(&problems).all(|(name, text)| text.contains(&format!("`{name}`"))),
        "{problems:?}"
    );
}
