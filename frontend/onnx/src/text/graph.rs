//! Graphs, nodes, functions and the model.

use super::cursor::{Cursor, Parsed};
use crate::schema::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};

/// The keys of a model's header.
const MODEL_KEYS: &str = "one of ir_version, opset_import, producer_name, producer_version, domain, model_version, doc_string, \
                          metadata_props";
/// The keys of a function's header.
const FUNCTION_KEYS: &str = "one of domain, overload, opset_import, doc_string, metadata_props";

impl Cursor<'_> {
    /// The whole text.
    pub fn model(&mut self) -> Parsed<ModelProto> {
        let mut model = ModelProto::default();
        self.header(|cursor, key| {
            match key {
                "ir_version" => model.ir_version = cursor.int()?,
                "opset_import" => model.opset_import = cursor.opsets()?,
                "producer_name" => model.producer_name = cursor.string()?,
                "producer_version" => model.producer_version = cursor.string()?,
                "domain" => model.domain = cursor.string()?,
                "model_version" => model.model_version = cursor.int()?,
                "doc_string" => model.doc_string = cursor.string()?.into(),
                "metadata_props" => {
                    cursor.token("[")?;
                    model.metadata_props = cursor.entries()?;
                }
                _ => return Ok(Some(MODEL_KEYS)),
            }
            Ok(None)
        })?;
        model.graph = Some(Box::new(self.graph()?));
        while self.peek().is_some() {
            model.functions.push(self.function()?);
        }
        Ok(model)
    }

    /// `<key: value, …>`, if it is next. `entry` reads the value of a key, or says which keys there are.
    fn header(&mut self, mut entry: impl FnMut(&mut Self, &str) -> Parsed<Option<&'static str>>) -> Parsed<()> {
        if !self.eat(b'<') {
            return Ok(());
        }
        self.several(|cursor| {
            let start = cursor.place();
            let key = cursor.required_word("a key")?;
            cursor.token(":")?;
            match entry(cursor, key)? {
                Some(known) => {
                    cursor.back_to(start);
                    Err(cursor.expected(known))
                }
                None => Ok(()),
            }
        })?;
        self.token(">")
    }

    fn opsets(&mut self) -> Parsed<Vec<OperatorSetIdProto>> {
        self.token("[")?;
        self.until(b']', |cursor| {
            let domain = cursor.string()?;
            cursor.token(":")?;
            Ok(OperatorSetIdProto { domain, version: cursor.int()? })
        })
    }

    /// A graph with its name.
    pub fn graph(&mut self) -> Parsed<GraphProto> {
        let name = self.name()?;
        self.graph_named(name)
    }

    /// A graph whose name has been passed.
    pub fn graph_named(&mut self, name: String) -> Parsed<GraphProto> {
        self.take(size_of::<GraphProto>())?;
        self.nested(|cursor| {
            let mut graph = GraphProto { name, ..GraphProto::default() };
            if cursor.eat(b'(') {
                graph.input = cursor.until(b')', |cursor| cursor.initialised(&mut graph.initializer))?;
            }
            cursor.token("=>")?;
            cursor.token("(")?;
            graph.output = cursor.until(b')', Cursor::value_info)?;
            if cursor.eat(b'<') {
                let tensors = &mut graph.initializer;
                let values = cursor.until(b'>', |cursor| {
                    let before = tensors.len();
                    let value = cursor.initialised(tensors)?;
                    Ok((tensors.len() == before).then_some(value))
                })?;
                graph.value_info = values.into_iter().flatten().collect();
            }
            graph.node = cursor.nodes()?;
            Ok(graph)
        })
    }

    /// A value, and the tensor that it is initialised with, if there is one.
    fn initialised(&mut self, tensors: &mut Vec<TensorProto>) -> Parsed<ValueInfoProto> {
        let start = self.place();
        let value = self.value_info()?;
        if self.eat(b'=') {
            let Some(r#type) = &value.r#type else {
                return Err(self.not_a(start, "a value with a type, which one with data needs"));
            };
            tensors.push(self.tensor(r#type, value.name.clone(), start)?);
        }
        Ok(value)
    }

    fn nodes(&mut self) -> Parsed<Vec<NodeProto>> {
        self.token("{")?;
        let mut nodes = Vec::new();
        while !self.eat(b'}') {
            nodes.push(self.node()?);
        }
        Ok(nodes)
    }

    fn node(&mut self) -> Parsed<NodeProto> {
        self.take(size_of::<NodeProto>())?;
        let mut node = NodeProto::default();
        if self.eat(b'[') {
            node.name = self.name_opt()?.unwrap_or_default();
            self.token("]")?;
        }
        node.output = self.names()?;
        if !self.eat(b'=') {
            return Err(self.expected("a node, as in `y = Relu (x)`, or `}`"));
        }
        let operator = self.qualified("an operator")?;
        (node.domain, node.op_type) = match operator.rsplit_once('.') {
            Some((domain, name)) => (domain.to_owned(), name.to_owned()),
            None => (String::new(), operator),
        };
        if self.eat(b':') {
            node.overload = self.name()?;
        }
        node.attribute = self.attributes()?;
        self.token("(")?;
        node.input = self.names()?;
        self.token(")")?;
        // Attributes stand before or after the inputs.
        if node.attribute.is_empty() {
            node.attribute = self.attributes()?;
        }
        Ok(node)
    }

    /// Names with commas between; one that is left out is empty, but after the last comma.
    fn names(&mut self) -> Parsed<Vec<String>> {
        let mut names = Vec::new();
        loop {
            match self.name_opt()? {
                Some(name) => names.push(name),
                None if self.peek() == Some(b',') => {
                    self.take(size_of::<String>())?;
                    names.push(String::new());
                }
                None => return Ok(names),
            }
            if !self.eat(b',') {
                return Ok(names);
            }
        }
    }

    fn function(&mut self) -> Parsed<FunctionProto> {
        self.take(size_of::<FunctionProto>())?;
        let mut function = FunctionProto::default();
        self.header(|cursor, key| {
            match key {
                "domain" => function.domain = cursor.string()?,
                "overload" => function.overload = cursor.string()?,
                "opset_import" => function.opset_import = cursor.opsets()?,
                "doc_string" => function.doc_string = cursor.string()?.into(),
                "metadata_props" => {
                    cursor.token("[")?;
                    function.metadata_props = cursor.entries()?;
                }
                _ => return Ok(Some(FUNCTION_KEYS)),
            }
            Ok(None)
        })?;
        function.name = self.name()?;
        if self.eat(b'<') {
            self.several(|cursor| cursor.parameter(&mut function))?;
            self.token(">")?;
        }
        function.input = self.ports(&mut function.value_info)?;
        self.token("=>")?;
        function.output = self.ports(&mut function.value_info)?;
        if self.eat(b'<') {
            function.value_info.extend(self.until(b'>', Cursor::value_info)?);
        }
        function.node = self.nodes()?;
        Ok(function)
    }

    /// An attribute of a function: a name, or one with a default.
    fn parameter(&mut self, function: &mut FunctionProto) -> Parsed<()> {
        let name = self.name()?;
        if matches!(self.peek(), Some(b':' | b'=')) {
            function.attribute_proto.push(self.attribute(name)?);
        } else {
            function.attribute.push(name);
        }
        Ok(())
    }

    /// The names of a function's inputs or outputs; those with types are added to `typed`.
    fn ports(&mut self, typed: &mut Vec<ValueInfoProto>) -> Parsed<Vec<String>> {
        self.token("(")?;
        self.until(b')', |cursor| {
            let value = cursor.value_info()?;
            let name = value.name.clone();
            if value.r#type.is_some() {
                typed.push(value);
            }
            Ok(name)
        })
    }
}
