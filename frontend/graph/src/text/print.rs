//! Printing.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    io,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tarsia_tensor::{DType, Numbers, Place, Tensor};

use crate::{Attr, Graph, NodeId, Op, Real, Value};

/// Constants of up to this many elements stand in their line.
const INLINE: usize = 16;

/// Whether the data of large constants are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// After the graph, in base 64.
    #[default]
    Full,
    /// Left out: for reading only, such a text does not parse.
    Elided,
}

/// A graph to be printed with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    graph: &'a Graph,
    data: Data,
}

/// The graph as text.
pub fn listing(graph: &Graph, data: Data) -> Listing<'_> {
    Listing { graph, data }
}

/// Writes the graph as text, piece by piece.
///
/// # Errors
/// If writing fails.
pub fn write(graph: &Graph, data: Data, out: &mut dyn io::Write) -> io::Result<()> {
    /// Formats into bytes and keeps the error that `fmt::Error` cannot hold.
    struct Bytes<'a> {
        out: &'a mut dyn io::Write,
        error: Option<io::Error>,
    }
    impl Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.out.write_all(text.as_bytes()).map_err(|error| {
                self.error = Some(error);
                fmt::Error
            })
        }
    }
    let mut bytes = Bytes { out, error: None };
    match Printer::new(&mut bytes, data).file(graph) {
        Ok(()) => Ok(()),
        Err(fmt::Error) => Err(bytes.error.unwrap_or_else(|| io::Error::other("formatting failed"))),
    }
}

/// The line of one node, without data and sub-graphs.
pub fn line(graph: &Graph, id: NodeId) -> String {
    let mut text = String::new();
    let mut printer = Printer::new(&mut text, Data::Elided);
    printer.shallow = true;
    // Writing into a string does not fail.
    let _ = printer.node(graph, id, 0);
    text.truncate(text.trim_end().len());
    text
}

/// An attribute as text, without data and sub-graphs.
pub(crate) fn attribute(attr: &Attr) -> String {
    let mut text = String::new();
    let mut printer = Printer::new(&mut text, Data::Elided);
    printer.shallow = true;
    let _ = printer.attribute(attr, 0);
    text
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer::new(f, self.data).file(self.graph)
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        listing(self, Data::Full).fmt(f)
    }
}

struct Printer<'a> {
    out: &'a mut dyn Write,
    data: Data,
    /// Sub-graphs are only named.
    shallow: bool,
    /// The numbers of the data that follow the graph; shared data have one number.
    numbers: BTreeMap<(Place, DType, Vec<usize>), usize>,
    pending: Vec<Tensor>,
}

impl<'a> Printer<'a> {
    fn new(out: &'a mut dyn Write, data: Data) -> Printer<'a> {
        Printer { out, data, shallow: false, numbers: BTreeMap::new(), pending: Vec::new() }
    }

    fn file(&mut self, graph: &Graph) -> fmt::Result {
        self.graph(graph, 0)?;
        self.out.write_char('\n')?;
        for (number, tensor) in std::mem::take(&mut self.pending).iter().enumerate() {
            write!(self.out, "data @c{number} = {} ", crate::Type::of(tensor))?;
            self.payload(tensor)?;
        }
        Ok(())
    }

    fn payload(&mut self, tensor: &Tensor) -> fmt::Result {
        if let Some(strings) = tensor.strings() {
            self.strings(strings)?;
            return self.out.write_char('\n');
        }
        if let Some(absent) = tensor.missing() {
            return writeln!(self.out, "absent {}", Quoted(absent.origin.as_bytes()));
        }
        // A multiple of three bytes, so that only the last piece is padded.
        const PIECE: usize = 3 << 14;
        self.out.write_str("base64:\"")?;
        let mut text = String::with_capacity(PIECE / 3 * 4);
        for piece in tensor.bytes().chunks(PIECE) {
            text.clear();
            STANDARD.encode_string(piece, &mut text);
            self.out.write_str(&text)?;
        }
        self.out.write_str("\"\n")
    }

    fn graph(&mut self, graph: &Graph, depth: usize) -> fmt::Result {
        write!(self.out, "graph @{}(", Name(&graph.name))?;
        for (i, (name, id)) in graph.inputs().iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(self.out, "{comma}%{} {}: {}", id.index(), Quoted(name.as_bytes()), graph[*id].types[0])?;
        }
        self.out.write_str(") {\n")?;
        for id in graph.node_ids() {
            let is_input =
                matches!(graph[id].op, Op::Input { .. }) && graph.inputs().iter().any(|(_, input)| *input == id);
            if !is_input {
                self.node(graph, id, depth + 1)?;
            }
        }
        self.indent(depth + 1)?;
        self.out.write_str("return")?;
        for (i, output) in graph.outputs().iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(self.out, "{comma} {} as {}", Operand(graph, output.value), Quoted(output.name.as_bytes()))?;
        }
        self.out.write_char('\n')?;
        self.indent(depth)?;
        self.out.write_char('}')
    }

    fn indent(&mut self, depth: usize) -> fmt::Result {
        (0..depth).try_for_each(|_| self.out.write_str("  "))
    }

    fn node(&mut self, graph: &Graph, id: NodeId, depth: usize) -> fmt::Result {
        let node = &graph[id];
        self.indent(depth)?;
        write!(self.out, "%{} = {}", id.index(), node.op.name())?;
        if let Op::Constant { value } = &node.op {
            self.out.write_char(' ')?;
            self.constant(value)?;
        } else {
            for (i, value) in graph.operands(id).iter().enumerate() {
                write!(self.out, "{}{}", if i > 0 { ", " } else { "(" }, Operand(graph, *value))?;
            }
            if !graph.operands(id).is_empty() {
                self.out.write_char(')')?;
            }
            self.attributes(&node.op, depth)?;
        }
        for (i, ty) in node.types.iter().enumerate() {
            write!(self.out, "{}{ty}", if i > 0 { ", " } else { " : " })?;
        }
        for (i, name) in node.origin.names().enumerate() {
            write!(self.out, "{}{}", if i > 0 { ", " } else { "  # " }, OriginName(name))?;
        }
        self.out.write_char('\n')
    }

    /// Attributes but the result types, which follow the node anyway. Sub-graphs put each attribute on a line of its own.
    fn attributes(&mut self, op: &Op, depth: usize) -> fmt::Result {
        let attrs: Vec<(&str, Attr)> = op.attrs().into_iter().filter(|(name, _)| *name != "types").collect();
        if attrs.is_empty() {
            return Ok(());
        }
        let nested = !self.shallow && attrs.iter().any(|(_, attr)| matches!(attr, Attr::Graph(_)));
        self.out.write_str(" {")?;
        for (i, (name, attr)) in attrs.iter().enumerate() {
            if i > 0 {
                self.out.write_char(',')?;
            }
            if nested {
                self.out.write_char('\n')?;
                self.indent(depth + 1)?;
            } else if i > 0 {
                self.out.write_char(' ')?;
            }
            write!(self.out, "{name}: ")?;
            self.attribute(attr, depth)?;
        }
        if nested {
            self.out.write_char('\n')?;
            self.indent(depth)?;
        }
        self.out.write_char('}')
    }

    fn attribute(&mut self, attr: &Attr, depth: usize) -> fmt::Result {
        match attr {
            Attr::Int(value) => write!(self.out, "{value}"),
            Attr::Bool(value) => write!(self.out, "{value}"),
            Attr::Real(Real(value)) => write!(self.out, "{}", Float(*value)),
            Attr::Text(text) => write!(self.out, "{}", Quoted(text.as_bytes())),
            Attr::DType(dtype) => write!(self.out, "{dtype}"),
            Attr::Dim(dim) => write!(self.out, "{dim}"),
            Attr::Ints(values) => self.list(values.iter()),
            Attr::Reals(values) => self.list(values.iter().map(|Real(value)| Float(*value))),
            Attr::Dims(dims) => self.list(dims.iter()),
            Attr::Types(types) => self.list(types.iter()),
            Attr::Tensor(tensor) => self.constant(tensor),
            Attr::Graph(body) if self.shallow => write!(self.out, "graph @{}", Name(&body.name)),
            Attr::Graph(body) => self.graph(body, depth + 1),
        }
    }

    fn list<T: fmt::Display>(&mut self, items: impl Iterator<Item = T>) -> fmt::Result {
        self.out.write_char('[')?;
        for (i, item) in items.enumerate() {
            write!(self.out, "{}{item}", if i > 0 { ", " } else { "" })?;
        }
        self.out.write_char(']')
    }

    fn constant(&mut self, tensor: &Tensor) -> fmt::Result {
        if tensor.count() <= INLINE && self.inline(tensor)? {
            return Ok(());
        }
        if self.data == Data::Elided {
            return self.out.write_str("elided");
        }
        let place = match tensor.strings() {
            Some(strings) => Place::Memory(strings.as_ptr() as usize, 0),
            None => tensor.content().place(),
        };
        let next = self.pending.len();
        // Tensors without elements may share an address with anything.
        let key = (place, tensor.dtype(), tensor.shape().to_vec());
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.pending.push(tensor.clone());
        }
        write!(self.out, "@c{number}")
    }

    /// Whether the elements could be written so that the same bits are read.
    fn inline(&mut self, tensor: &Tensor) -> Result<bool, fmt::Error> {
        if let Some(strings) = tensor.strings() {
            match (strings, tensor.shape()) {
                ([only], []) => write!(self.out, "{}", Quoted(only))?,
                _ => self.strings(strings)?,
            }
            return Ok(true);
        }
        let Ok(numbers) = tensor.numbers() else { return Ok(false) };
        let numbers = match numbers {
            Numbers::Float(v) => Numbers::Float(v.into_iter().map(|x| if x.is_nan() { f64::NAN } else { x }).collect()),
            other => other,
        };
        if Tensor::from_numbers(tensor.dtype(), tensor.shape(), &numbers).as_ref() != Ok(tensor) {
            return Ok(false);
        }
        let texts: Vec<String> = match &numbers {
            Numbers::Float(v) => v.iter().map(|&x| Float(x).to_string()).collect(),
            Numbers::Int(v) => v.iter().map(i64::to_string).collect(),
            Numbers::Uint(v) if tensor.dtype() == DType::Bool => v.iter().map(|&x| (x != 0).to_string()).collect(),
            Numbers::Uint(v) => v.iter().map(u64::to_string).collect(),
        };
        match (texts.as_slice(), tensor.shape()) {
            ([only], []) => self.out.write_str(only)?,
            _ => self.list(texts.iter())?,
        }
        Ok(true)
    }

    fn strings(&mut self, strings: &[bytes::Bytes]) -> fmt::Result {
        self.list(strings.iter().map(|text| Quoted(text)))
    }
}

/// `%3`, or `%3:1` where the node has several results.
struct Operand<'a>(&'a Graph, Value);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operand(graph, value) = self;
        write!(f, "%{}", value.node.index())?;
        match graph.dag().node_weight(value.node) {
            Some(node) if node.types.len() == 1 && value.output == 0 => Ok(()),
            _ => write!(f, ":{}", value.output),
        }
    }
}

/// A float whose text reads back to the same bits.
struct Float(f64);

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            x if x.to_bits() == f64::NAN.to_bits() => f.write_str("nan"),
            x if x.is_nan() => write!(f, "nan({:#x})", x.to_bits()),
            x => write!(f, "{x:?}"),
        }
    }
}

/// A string in quotes; bytes that are no printable ASCII or UTF-8 text are escaped.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    // Control and formatting characters could hide text.
                    c if c.is_control() || !c.is_ascii() && c.is_whitespace() => {
                        write!(f, "\\u{{{:x}}}", u32::from(c))?
                    }
                    c => f.write_char(c)?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        f.write_char('"')
    }
}

/// A graph's name: a word, or quoted.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = !self.0.is_empty() && self.0.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if word { f.write_str(self.0) } else { Quoted(self.0.as_bytes()).fmt(f) }
    }
}

/// The name of a model's node: as it is where it has no comma or other trouble, otherwise quoted.
struct OriginName<'a>(&'a str);

impl fmt::Display for OriginName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty() && self.0.chars().all(|c| c.is_ascii_graphic() && c != ',' && c != '"');
        if plain { f.write_str(self.0) } else { Quoted(self.0.as_bytes()).fmt(f) }
    }
}
