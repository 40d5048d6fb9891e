//! A model that has been read and checked: what importers start from.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use tarsia_tensor::Tensor;

use crate::{
    Limits,
    external::ExternalFiles,
    function::{self, Functions},
    opset::Opsets,
    schema::{FunctionProto, GraphProto, ModelProto, SparseTensorProto, TensorProto},
    source::{ReadError, Source},
    sparse, structure,
    view::{Graph, Scope},
    weights::{self, WeightError},
};

/// A model: decoded, resolved and checked.
///
/// One that exists has: an IR version and operator sets that are known, names that are defined once and used only where they are
/// defined, no cycles, functions that end, and tensors whose data is there and of the right size.
#[derive(Debug)]
pub struct Model {
    source: Source,
    limits: Limits,
    proto: ModelProto,
    files: ExternalFiles,
    opsets: Opsets,
    functions: Functions,
}

impl Model {
    /// Reads the model in a file.
    ///
    /// # Errors
    /// If the file cannot be read, is no ONNX model, or the model is not right; then everything that is wrong is listed.
    pub fn open(path: &Path, limits: Limits) -> Result<Model, ReadError> {
        Model::from_source(Source::open(path, &limits)?, limits)
    }

    /// Reads a model in memory. External data is looked for in `folder`; without one it is refused.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: Bytes, folder: Option<&Path>, limits: Limits) -> Result<Model, ReadError> {
        Model::from_source(Source::from_bytes(bytes, folder), limits)
    }

    /// Reads the model of a source.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_source(source: Source, limits: Limits) -> Result<Model, ReadError> {
        let proto = source.model(&limits)?;
        let files = ExternalFiles::new(source.folder(), limits.weights);
        let (opsets, functions) = (Opsets::new(&proto.opset_import), Functions::new(&proto.functions));
        let model = Model { source, limits, proto, files, opsets, functions };
        let problems = structure::check(&model);
        let file = model.source.label().to_string();
        problems.or_ok(model).map_err(|problems| ReadError::Model { file, problems })
    }

    /// The main graph.
    pub fn graph(&self) -> Graph<'_> {
        Graph::of_proto(self.graph_proto(), self.scope())
    }

    /// The message as it was decoded.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// Where the model came from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The limits that the model was read under.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The operator sets of the main graph.
    pub fn opsets(&self) -> &Opsets {
        &self.opsets
    }

    /// The tensor of a message of this model: a view of the mapped file where the form of its data allows.
    ///
    /// # Errors
    /// If the tensor is not right, as [`WeightError`] says.
    pub fn tensor(&self, proto: &TensorProto) -> Result<Tensor, WeightError> {
        weights::read(proto, &self.files, self.limits.max_bytes)
    }

    /// The dense form of a sparse tensor of this model.
    ///
    /// # Errors
    /// If the tensor is not right, as [`WeightError`] says.
    pub fn sparse_tensor(&self, proto: &SparseTensorProto) -> Result<Tensor, WeightError> {
        sparse::read(proto, &self.files, self.limits.max_bytes)
    }

    pub(crate) fn files(&self) -> &ExternalFiles {
        &self.files
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }

    pub(crate) fn graph_proto(&self) -> &GraphProto {
        static NONE: GraphProto = GraphProto {
            node: Vec::new(),
            name: String::new(),
            initializer: Vec::new(),
            sparse_initializer: Vec::new(),
            doc_string: Bytes::new(),
            input: Vec::new(),
            output: Vec::new(),
            value_info: Vec::new(),
            quantization_annotation: Vec::new(),
            metadata_props: Vec::new(),
        };
        // `Source::model` refuses a model without a graph.
        self.proto.graph.as_deref().unwrap_or(&NONE)
    }

    pub(crate) fn scope(&self) -> Arc<Scope<'_>> {
        Arc::new(Scope { model: self, opsets: &self.opsets, arguments: None, functions: Vec::new() })
    }

    /// The scope of a function's body on its own: no attribute has a value.
    pub(crate) fn unbound_scope(&self, index: usize, function: &FunctionProto) -> Arc<Scope<'_>> {
        let opsets = self.functions.opsets.get(index).unwrap_or(&self.opsets);
        let functions = vec![function::label(function)];
        Arc::new(Scope { model: self, opsets, arguments: Some(BTreeMap::new()), functions })
    }
}
