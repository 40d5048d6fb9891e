//! Reading graphs back; the result types are inferred again and compared with the written ones.

use std::{
    collections::{BTreeMap, VecDeque},
    str::FromStr,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tarsia_tensor::Tensor;

use super::{
    cursor::{Cursor, ParseError},
    literal::{Literal, known_shape, read_elements, read_literal, read_type, tensor_of},
};
use crate::{Attr, AttrError, Graph, NodeId, Op, Origin, Type, Value};

/// Sub-graphs nested deeper than this are refused, so that hostile text cannot exhaust the stack.
const DEPTH: usize = 32;

/// The graph of a text.
///
/// # Errors
/// If the text is not one, an op does not fit its operands, or a written type is not the inferred one.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let data = read_data(text)?;
    let mut cursor = Cursor { text, at: 0 };
    cursor.blank();
    let graph = read_graph(&mut cursor, &data, 0)?;
    // What follows are the data, which have been read.
    loop {
        cursor.blank();
        if cursor.rest().is_empty() {
            return Ok(graph);
        }
        if !cursor.rest().starts_with("data @") || !cursor.text[..cursor.at].ends_with('\n') {
            return Err(cursor.error("expected the end, or `data @` at the start of a line"));
        }
        cursor.line();
    }
}

impl FromStr for Graph {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Graph, ParseError> {
        parse(text)
    }
}

type DataByName<'a> = BTreeMap<&'a str, Tensor>;

/// The data sections: lines that start with `data @`.
fn read_data(text: &str) -> Result<DataByName<'_>, ParseError> {
    let mut data = BTreeMap::new();
    let mut at = 0;
    while at < text.len() {
        let end = text[at..].find('\n').map_or(text.len(), |length| at + length + 1);
        if text[at..end].starts_with("data @") {
            let mut cursor = Cursor { text: &text[..end], at: at + "data @".len() };
            let (name, tensor) = read_datum(&mut cursor)?;
            if data.insert(name, tensor).is_some() {
                return Err(cursor.error_at(at, format!("the data `@{name}` are given twice")));
            }
        }
        at = end;
    }
    Ok(data)
}

fn read_datum<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, Tensor), ParseError> {
    let name = cursor.name("the name of the data")?;
    cursor.expect("=")?;
    let ty = read_type(cursor)?;
    cursor.space();
    let start = *cursor;
    if cursor.eat("absent") {
        cursor.space();
        let (shape, origin) = (known_shape(&start, &ty)?, cursor.quoted_text()?);
        let tensor = Tensor::absent(ty.dtype, &shape, &origin).map_err(|error| start.error(error.to_string()))?;
        return Ok((name, tensor));
    }
    if !cursor.eat("base64:\"") {
        let elements = read_elements(cursor)?;
        return Ok((name, tensor_of(&start, &ty, elements)?));
    }
    let shape = known_shape(&start, &ty)?;
    let rest = cursor.rest();
    let end = rest.find('"').ok_or_else(|| start.error("the data do not end"))?;
    let bytes =
        STANDARD.decode(&rest[..end]).map_err(|error| start.error(format!("the data are not base 64: {error}")))?;
    let tensor = Tensor::new(ty.dtype, &shape, bytes.into()).map_err(|error| start.error(error.to_string()))?;
    cursor.at += end + 1;
    cursor.space();
    if !cursor.line().trim().is_empty() {
        return Err(start.error("something follows the data"));
    }
    Ok((name, tensor))
}

/// A graph that is being read.
struct Reader<'a, 'b> {
    graph: Graph,
    /// Inputs that do not have their place among the nodes yet.
    waiting: VecDeque<(&'a str, String, Type)>,
    /// Nodes by label.
    labels: BTreeMap<&'a str, NodeId>,
    data: &'b DataByName<'a>,
    depth: usize,
}

fn read_graph<'a>(cursor: &mut Cursor<'a>, data: &DataByName<'a>, depth: usize) -> Result<Graph, ParseError> {
    if depth > DEPTH {
        return Err(cursor.error("sub-graphs are nested too deeply"));
    }
    cursor.expect("graph")?;
    let name = if !cursor.eat("@") {
        String::new()
    } else if cursor.rest().starts_with('"') {
        cursor.quoted_text()?
    } else {
        cursor.name("the graph's name")?.to_owned()
    };
    let mut reader =
        Reader { graph: Graph::new(&name), waiting: VecDeque::new(), labels: BTreeMap::new(), data, depth };
    reader.read_inputs(cursor)?;
    cursor.blank();
    cursor.expect("{")?;
    loop {
        cursor.blank();
        if cursor.rest().starts_with('%') {
            reader.read_node(cursor)?;
        } else if cursor.rest().starts_with("return") {
            break;
        } else {
            return Err(cursor.error("expected a node (`%…`) or `return`"));
        }
    }
    reader.place_inputs(usize::MAX);
    cursor.expect("return")?;
    reader.read_outputs(cursor)?;
    cursor.blank();
    cursor.expect("}")?;
    Ok(reader.graph)
}

impl<'a> Reader<'a, '_> {
    fn read_inputs(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ParseError> {
        cursor.expect("(")?;
        cursor.blank();
        while !cursor.eat(")") {
            if !self.waiting.is_empty() {
                cursor.expect(",")?;
                cursor.blank();
            }
            cursor.expect("%")?;
            let start = *cursor;
            let label = cursor.name("an input's label")?;
            if self.waiting.iter().any(|(other, ..)| *other == label) {
                return Err(start.error(format!("`%{label}` is given twice")));
            }
            cursor.space();
            let name = if cursor.rest().starts_with('"') { cursor.quoted_text()? } else { label.to_owned() };
            cursor.expect(":")?;
            let ty = read_type(cursor)?;
            self.waiting.push_back((label, name, ty));
            cursor.blank();
        }
        Ok(())
    }

    /// Adds waiting inputs whose number has come, or is at most `number`; those whose label is no number come first.
    fn place_inputs(&mut self, number: usize) {
        loop {
            let limit = number.max(self.graph.node_count());
            let due = |label: &str| label.parse::<usize>().map_or(true, |own| own <= limit);
            let Some((label, name, ty)) = self.waiting.pop_front_if(|(label, ..)| due(label)) else { return };
            let value = self.graph.add_input(&name, ty);
            self.labels.insert(label, value.node);
        }
    }

    fn read_node(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ParseError> {
        self.place_inputs(0);
        let start = *cursor;
        cursor.expect("%")?;
        let label = cursor.name("a node's label")?;
        if self.labels.contains_key(label) || self.waiting.iter().any(|(other, ..)| *other == label) {
            return Err(start.error(format!("`%{label}` is given twice")));
        }
        cursor.expect("=")?;
        cursor.space();
        let name_start = *cursor;
        let name = cursor.name("an op")?;
        let id = if name == "constant" {
            self.read_constant(cursor)?
        } else {
            let operands = self.read_operands(cursor)?;
            let attrs = self.read_attributes(cursor)?;
            let types = read_types(cursor)?;
            let op = make_op(&name_start, name, attrs, &types)?;
            let origin = read_origin(cursor)?;
            let id = self.graph.add(op, &operands, origin).map_err(|error| name_start.error(error.to_string()))?;
            check_types(&name_start, &types, &self.graph[id].types)?;
            id
        };
        self.labels.insert(label, id);
        Ok(())
    }

    fn read_constant(&mut self, cursor: &mut Cursor<'a>) -> Result<NodeId, ParseError> {
        cursor.space();
        let start = *cursor;
        let value = if cursor.eat("@") {
            let name = cursor.name("the name of the data")?;
            let tensor = self.data.get(name).cloned();
            let tensor = tensor.ok_or_else(|| start.error(format!("the data `@{name}` are not in this text")))?;
            let types = read_types(cursor)?;
            check_types(&start, &types, &[Type::of(&tensor)])?;
            tensor
        } else if cursor.eat("elided") {
            return Err(start
                .error("the data of this constant were left out when the graph was printed; print it with its data"));
        } else {
            let elements = read_elements(cursor)?;
            let types = read_types(cursor)?;
            match types.as_slice() {
                [ty] => tensor_of(&start, ty, elements)?,
                _ => return Err(start.error("a constant needs one type, such as ` : f32[2]`")),
            }
        };
        let origin = read_origin(cursor)?;
        Ok(self.graph.add_constant(value, origin).node)
    }

    fn read_operands(&mut self, cursor: &mut Cursor<'a>) -> Result<Vec<Value>, ParseError> {
        let mut operands = Vec::new();
        if cursor.eat("(") {
            while !cursor.eat(")") {
                if !operands.is_empty() {
                    cursor.expect(",")?;
                }
                operands.push(self.read_value(cursor)?);
            }
        }
        Ok(operands)
    }

    /// `%label` or `%label:2`.
    fn read_value(&mut self, cursor: &mut Cursor<'a>) -> Result<Value, ParseError> {
        cursor.space();
        let start = *cursor;
        cursor.expect("%")?;
        let label = cursor.name("a label")?;
        let output = if cursor.rest().starts_with(':') && cursor.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            cursor.at += 1;
            cursor.word().parse::<u32>().map_err(|_| start.error("which result is not a number"))?
        } else {
            0
        };
        if self.waiting.iter().any(|(other, ..)| *other == label) {
            self.place_inputs(label.parse().unwrap_or(usize::MAX));
        }
        let node = self.labels.get(label).copied();
        let node = node.ok_or_else(|| start.error(format!("`%{label}` is not defined before this line")))?;
        let found = self.graph[node].types.len();
        if output as usize >= found {
            return Err(start.error(format!("`%{label}` has {found} results, there is no number {output}")));
        }
        Ok(Value { node, output })
    }

    fn read_attributes(&mut self, cursor: &mut Cursor<'a>) -> Result<Vec<Attribute<'a>>, ParseError> {
        let mut attributes: Vec<Attribute> = Vec::new();
        if !cursor.eat("{") {
            return Ok(attributes);
        }
        cursor.blank();
        while !cursor.eat("}") {
            if !attributes.is_empty() {
                cursor.expect(",")?;
                cursor.blank();
            }
            cursor.space();
            let place = *cursor;
            let name = cursor.name("an attribute")?;
            if attributes.iter().any(|other| other.name == name) {
                return Err(place.error(format!("the attribute `{name}` is given twice")));
            }
            cursor.expect(":")?;
            cursor.space();
            let literal = if is_graph(cursor) {
                Literal::Graph(Arc::new(read_graph(cursor, self.data, self.depth + 1)?))
            } else {
                read_literal(cursor)?
            };
            attributes.push(Attribute { name, place, meanings: literal.meanings() });
            cursor.blank();
        }
        Ok(attributes)
    }

    fn read_outputs(&mut self, cursor: &mut Cursor<'a>) -> Result<(), ParseError> {
        cursor.space();
        while cursor.rest().starts_with('%') {
            let value = self.read_value(cursor)?;
            cursor.expect("as")?;
            cursor.space();
            let name = cursor.quoted_text()?;
            self.graph.add_output(&name, value);
            if !cursor.eat(",") {
                break;
            }
            cursor.blank();
        }
        Ok(())
    }
}

fn is_graph(cursor: &Cursor) -> bool {
    let rest = cursor.rest().strip_prefix("graph");
    rest.is_some_and(|rest| rest.trim_start().starts_with(['@', '(']))
}

/// An attribute with all that its text can mean.
struct Attribute<'a> {
    name: &'a str,
    place: Cursor<'a>,
    meanings: Vec<Attr>,
}

/// The op whose attributes these are. What an attribute means is tried until the op accepts it.
fn make_op(start: &Cursor, name: &str, attributes: Vec<Attribute>, types: &[Type]) -> Result<Op, ParseError> {
    if name == "input" {
        return Err(start.error("inputs stand in the head of the graph"));
    }
    let mut chosen = vec![0; attributes.len()];
    let op = loop {
        let get = |wanted: &str| {
            let found = attributes.iter().position(|attribute| attribute.name == wanted);
            match found {
                Some(i) => attributes[i].meanings.get(chosen[i]).cloned(),
                None if wanted == "types" => Some(Attr::Types(types.to_vec())),
                None => None,
            }
        };
        match Op::from_attrs(name, &get) {
            Ok(op) => break op,
            Err(AttrError::Kind { name: wanted, op }) => {
                let error = AttrError::Kind { name: wanted, op };
                let found = attributes.iter().position(|attribute| attribute.name == wanted);
                let i = found.ok_or_else(|| start.error(error.to_string()))?;
                chosen[i] += 1;
                if chosen[i] >= attributes[i].meanings.len() {
                    return Err(attributes[i].place.error(error.to_string()));
                }
            }
            Err(error) => return Err(start.error(error.to_string())),
        }
    };
    let known = op.attrs();
    match attributes.iter().find(|attribute| !known.iter().any(|(name, _)| *name == attribute.name)) {
        Some(unknown) => Err(unknown.place.error(format!("`{name}` has no attribute `{}`", unknown.name))),
        None => Ok(op),
    }
}

/// `: type, type`, or nothing.
fn read_types(cursor: &mut Cursor) -> Result<Vec<Type>, ParseError> {
    let mut types = Vec::new();
    if cursor.eat(":") {
        types.push(read_type(cursor)?);
        while cursor.eat(",") {
            types.push(read_type(cursor)?);
        }
    }
    Ok(types)
}

/// Written types must be the inferred ones; a text may leave them out.
fn check_types(start: &Cursor, written: &[Type], inferred: &[Type]) -> Result<(), ParseError> {
    if written.is_empty() || written == inferred {
        return Ok(());
    }
    let list = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
    Err(start.error(format!("the result is {}, not {} as written", list(inferred), list(written))))
}

/// `# name, name` up to the end of the line.
fn read_origin(cursor: &mut Cursor) -> Result<Origin, ParseError> {
    let mut origin = Origin::default();
    if cursor.eat("#") {
        loop {
            cursor.space();
            let name = if cursor.rest().starts_with('"') {
                cursor.quoted_text()?
            } else {
                let rest = cursor.rest();
                let end = rest.find([',', '\n']).unwrap_or(rest.len());
                cursor.at += end;
                rest[..end].trim_end().to_owned()
            };
            origin = origin.merge(&Origin::of(&name));
            if !cursor.eat(",") {
                break;
            }
        }
    }
    cursor.space();
    if cursor.rest().is_empty() || cursor.rest().starts_with('\n') {
        Ok(origin)
    } else {
        Err(cursor.error("expected the end of the line"))
    }
}
