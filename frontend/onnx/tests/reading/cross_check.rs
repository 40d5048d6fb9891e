//! Every model of the corpus reads the same here and through an independent implementation of the schema.

use std::{
    fs,
    path::{Path, PathBuf},
};

use onnx_protobuf as theirs;
use onnx_protobuf::Message as _;
use prost::Message as _;
use tarsia_onnx::{Limits, Model, data, schema as ours};

#[test]
fn models_of_the_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let checked = check_folder(&root.join("tests/models")) + check_folder(&root.join("examples"));
    assert!(checked > 0, "no model found under {}", root.display());
}

#[test]
fn models_named_by_the_environment() {
    if let Some(folder) = std::env::var_os("TARSIA_MODELS") {
        assert!(check_folder(Path::new(&folder)) > 0, "no model found under {}", folder.display());
    }
}

/// Checks every model of a folder and of those in it, with their test data; returns how many.
fn check_folder(folder: &Path) -> usize {
    let files = files_under(folder);
    let of_kind = |kind: &'static str| files.iter().filter(move |file| file.extension().is_some_and(|e| e == kind));
    of_kind("onnx").for_each(|file| check_model(file));
    of_kind("pb").for_each(|file| check_tensor(file));
    of_kind("onnx").count()
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn check_model(file: &Path) {
    // Data that a model leaves out are no part of what is compared.
    let limits = Limits { weights: tarsia_onnx::Weights::Shapes, ..Limits::default() };
    let model = Model::open(file, limits).unwrap_or_else(|error| panic!("{error}"));
    let expected = theirs::ModelProto::parse_from_bytes(&fs::read(file).unwrap()).unwrap();
    let found = model.proto();
    assert_eq!(found.ir_version, expected.ir_version, "{}", file.display());
    let imports =
        |list: &[ours::OperatorSetIdProto]| list.iter().map(|o| (o.domain.clone(), o.version)).collect::<Vec<_>>();
    let expected_imports: Vec<_> = expected.opset_import.iter().map(|o| (o.domain.clone(), o.version)).collect();
    assert_eq!(imports(&found.opset_import), expected_imports);
    same_graph(found.graph.as_ref().unwrap(), &expected.graph);
    each(&found.functions, &expected.functions, |f, e| {
        assert_eq!((&f.name, &f.domain, &f.overload), (&e.name, &e.domain, &e.overload));
        assert_eq!((&f.input, &f.output, &f.attribute), (&e.input, &e.output, &e.attribute));
        each(&f.attribute_proto, &e.attribute_proto, same_attribute);
        each(&f.node, &e.node, same_node);
    });
    // What the walk above does not name (types, metadata, documentation) must survive a round trip.
    let again = theirs::ModelProto::parse_from_bytes(&found.encode_to_vec()).unwrap();
    assert!(again == expected, "{}: a round trip changes the model", file.display());
    check_views(&model);
}

/// Every tensor and type can be had, and raw data is a view of the file.
fn check_views(model: &Model) {
    let file = model.source().bytes().as_ptr_range();
    for (view, proto) in model.graph().initializers().zip(&model.proto().graph.as_ref().unwrap().initializer) {
        let tensor = view.tensor().unwrap();
        assert_eq!((view.name(), tensor.dtype().onnx()), (proto.name.as_str(), proto.data_type));
        if !proto.raw_data.is_empty() {
            assert!(file.contains(&tensor.bytes().as_ptr()), "{} was copied", proto.name);
            assert_eq!(tensor.bytes(), &proto.raw_data);
        }
    }
    for value in model.graph().inputs().iter().chain(&model.graph().outputs()) {
        value.value_type().unwrap().expect("inputs and outputs of a model have types");
    }
    assert_eq!(model.graph().ordered_nodes().len(), model.graph().nodes().len());
}

fn check_tensor(file: &Path) {
    let expected = theirs::TensorProto::parse_from_bytes(&fs::read(file).unwrap()).unwrap();
    let (name, tensor) = data::read_tensor(file, &Limits::default()).unwrap_or_else(|error| panic!("{error}"));
    let dims: Vec<i64> = tensor.shape().iter().map(|&d| d as i64).collect();
    assert_eq!((name, dims, tensor.dtype().onnx()), (expected.name, expected.dims, expected.data_type));
    if !expected.raw_data.is_empty() {
        assert_eq!(tensor.bytes(), &expected.raw_data);
    }
}

fn each<A, B>(found: &[A], expected: &[B], same: impl Fn(&A, &B)) {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).for_each(|(f, e)| same(f, e));
}

fn same_graph(found: &ours::GraphProto, expected: &theirs::GraphProto) {
    assert_eq!(found.name, expected.name);
    each(&found.node, &expected.node, same_node);
    each(&found.initializer, &expected.initializer, same_tensor);
    each(&found.sparse_initializer, &expected.sparse_initializer, same_sparse);
    each(&found.input, &expected.input, |f, e| assert_eq!(f.name, e.name));
    each(&found.output, &expected.output, |f, e| assert_eq!(f.name, e.name));
    each(&found.value_info, &expected.value_info, |f, e| assert_eq!(f.name, e.name));
}

fn same_node(found: &ours::NodeProto, expected: &theirs::NodeProto) {
    assert_eq!((&found.name, &found.op_type, &found.domain), (&expected.name, &expected.op_type, &expected.domain));
    assert_eq!((&found.input, &found.output, &found.overload), (&expected.input, &expected.output, &expected.overload));
    each(&found.attribute, &expected.attribute, same_attribute);
}

fn same_attribute(found: &ours::AttributeProto, expected: &theirs::AttributeProto) {
    assert_eq!((&found.name, found.r#type), (&expected.name, expected.type_.value()));
    assert_eq!(found.ref_attr_name, expected.ref_attr_name);
    assert_eq!((found.f.to_bits(), found.i, &found.s[..]), (expected.f.to_bits(), expected.i, &expected.s[..]));
    assert_eq!(found.ints, expected.ints);
    each(&found.floats, &expected.floats, |f, e| assert_eq!(f.to_bits(), e.to_bits()));
    each(&found.strings, &expected.strings, |f, e| assert_eq!(f, e));
    each(found.t.as_slice(), expected.t.as_slice(), |f, e| same_tensor(f, e));
    each(found.g.as_slice(), expected.g.as_slice(), |f, e| same_graph(f, e));
    each(found.sparse_tensor.as_slice(), expected.sparse_tensor.as_slice(), |f, e| same_sparse(f, e));
    each(&found.tensors, &expected.tensors, same_tensor);
    each(&found.graphs, &expected.graphs, same_graph);
}

fn same_sparse(found: &ours::SparseTensorProto, expected: &theirs::SparseTensorProto) {
    assert_eq!(found.dims, expected.dims);
    each(found.values.as_slice(), expected.values.as_slice(), |f, e| same_tensor(f, e));
    each(found.indices.as_slice(), expected.indices.as_slice(), |f, e| same_tensor(f, e));
}

fn same_tensor(found: &ours::TensorProto, expected: &theirs::TensorProto) {
    assert_eq!((&found.name, found.data_type, &found.dims), (&expected.name, expected.data_type, &expected.dims));
    assert_eq!(found.raw_data, expected.raw_data, "{}", found.name);
    assert_eq!(found.data_location, expected.data_location.value());
    each(&found.float_data, &expected.float_data, |f, e| assert_eq!(f.to_bits(), e.to_bits()));
    each(&found.double_data, &expected.double_data, |f, e| assert_eq!(f.to_bits(), e.to_bits()));
    assert_eq!((&found.int32_data, &found.int64_data), (&expected.int32_data, &expected.int64_data));
    assert_eq!(found.uint64_data, expected.uint64_data);
    each(&found.string_data, &expected.string_data, |f, e| assert_eq!(f, e));
    each(&found.external_data, &expected.external_data, |f, e| assert_eq!((&f.key, &f.value), (&e.key, &e.value)));
}

/// What `Option<Box<T>>` and the other schema's optional field have in common.
trait AsSlice<T> {
    fn as_slice(&self) -> &[T];
}

impl<T> AsSlice<T> for Option<Box<T>> {
    fn as_slice(&self) -> &[T] {
        self.as_deref().map_or(&[], std::slice::from_ref)
    }
}

impl<T> AsSlice<T> for protobuf::MessageField<T> {
    fn as_slice(&self) -> &[T] {
        self.as_ref().map_or(&[], std::slice::from_ref)
    }
}
