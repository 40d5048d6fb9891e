//! Reading programs, line by line. Never panics; nested programs and blocks are limited in depth, everything else by the
//! length of the text.

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustc_hash::FxHashMap;
use tarsia_tensor::{Absent, Content, DType, Dim};
use thiserror::Error;

use super::{
    cursor::{Cursor, Fault},
    operand::{KernelScope, dim, parts, real, sizes, symbol_of},
};
use crate::{
    Access, Buffer, BufferId, BufferKind, Constant, Kernel, KernelId, Lanes, Layout, LoopStep, Param, ParamId, Port,
    Program, ScanStep, Step, Stmt, Tile,
    name::{shortened, split_top},
};

/// Blocks nested deeper than this are refused.
const DEPTH: usize = 64;

/// Why a text is not a program.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}\n  {source_line}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The line's beginning.
    pub source_line: String,
}

/// The program that a text says.
///
/// # Errors
/// The first thing that is not of the form described in [`crate::text`], with its place.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut parser = Parser::new(text);
    let program = parser.program(0).and_then(|program| match parser.peek() {
        None => Ok(program),
        Some(line) => Err(Fault::new(line, "unexpected text after the program")),
    });
    program.map_err(|fault| parser.error(&fault))
}

impl FromStr for Program {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Program, ParseError> {
        parse(text)
    }
}

struct Parser<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    at: usize,
}

/// Names of a program's buffers and kernels.
#[derive(Default)]
struct Scope {
    buffers: FxHashMap<String, u32>,
    kernels: FxHashMap<String, u32>,
    params: Vec<FxHashMap<String, u32>>,
}

type Parsed<'a, T> = Result<T, Fault<'a>>;

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        let lines = text.lines().map(|line| without_comment(line).trim()).filter(|line| !line.is_empty());
        Parser { text, lines: lines.collect(), at: 0 }
    }

    fn error(&self, fault: &Fault<'_>) -> ParseError {
        let offset = (fault.at.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize).min(self.text.len());
        let before = self.text.get(..offset).unwrap_or("");
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            message: fault.message.clone(),
            source_line: shortened(self.text[start..].lines().next().unwrap_or("").trim()),
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn next(&mut self) -> Parsed<'a, &'a str> {
        let end = &self.text[self.text.len()..];
        let line = self.peek().ok_or_else(|| Fault::new(end, "the text ends inside a block"))?;
        self.at += 1;
        Ok(line)
    }

    fn program(&mut self, depth: usize) -> Parsed<'a, Program> {
        let line = self.next()?;
        if depth > DEPTH {
            return Err(Fault::new(line, "nested too deeply"));
        }
        let mut cursor = Cursor::new(line);
        cursor.expect("program ")?;
        let mut program = Program { name: cursor.name()?, ..Program::default() };
        cursor.expect("for ")?;
        program.target = cursor.name()?;
        cursor.expect("{")?;
        cursor.end()?;
        let mut scope = Scope::default();
        loop {
            let line = self.next()?;
            let mut cursor = Cursor::new(line);
            if line == "}" {
                return Ok(program);
            } else if cursor.eat("buffer ") {
                let buffer = buffer(cursor)?;
                define(&mut scope.buffers, &buffer.name, program.buffers.len());
                program.buffers.push(buffer);
            } else if cursor.eat("input ") {
                program.inputs.push(port(cursor.rest(), &scope)?);
            } else if cursor.eat("output ") {
                program.outputs.push(port(cursor.rest(), &scope)?);
            } else if cursor.eat("kernel ") {
                let (kernel, params) = self.kernel(cursor, depth + 1)?;
                define(&mut scope.kernels, &kernel.name, program.kernels.len());
                scope.params.push(params);
                program.kernels.push(kernel);
            } else if cursor.eat("data ") {
                program.constants.push(self.constant(cursor)?);
            } else {
                program.steps.push(self.step(line, &scope, depth + 1)?);
            }
        }
    }

    fn constant(&mut self, mut cursor: Cursor<'a>) -> Parsed<'a, Constant> {
        let bytes: usize = cursor.parsed("a number of bytes")?;
        cursor.expect("bytes")?;
        if cursor.eat("elided") {
            return Err(cursor.fault("this text was written without the data of its constants"));
        }
        if cursor.eat("absent") {
            let origin = cursor.name()?.into();
            cursor.end()?;
            return Ok(Constant { data: Content::Absent(Absent { origin, bytes }) });
        }
        cursor.expect("{")?;
        cursor.end()?;
        // Grows with the text, not with what it claims.
        let mut data = Vec::new();
        loop {
            let line = self.next()?;
            if line == "}" {
                break;
            }
            STANDARD.decode_vec(line, &mut data).map_err(|error| Fault::new(line, format!("not base64: {error}")))?;
            if data.len() > bytes {
                return Err(Fault::new(line, format!("more than the {bytes} bytes announced")));
            }
        }
        if data.len() < bytes {
            return Err(cursor.fault(format!("{bytes} bytes are announced, {} follow", data.len())));
        }
        Ok(Constant { data: data.into() })
    }

    fn kernel(&mut self, mut cursor: Cursor<'a>, depth: usize) -> Parsed<'a, (Kernel, FxHashMap<String, u32>)> {
        let mut kernel = Kernel {
            name: cursor.name()?,
            origin: Vec::new(),
            params: Vec::new(),
            tiles: Vec::new(),
            grid: Vec::new(),
            lanes: None,
            body: Vec::new(),
        };
        if cursor.eat("from ") {
            kernel.origin.push(cursor.name()?);
            while cursor.eat(",") {
                kernel.origin.push(cursor.name()?);
            }
        }
        cursor.expect("{")?;
        cursor.end()?;
        let mut scope = KernelScope::default();
        while let Some(line) = self.peek() {
            let mut cursor = Cursor::new(line);
            if cursor.eat("param ") {
                let param = param(cursor)?;
                define(&mut scope.params, &param.name, kernel.params.len());
                kernel.params.push(param);
            } else if cursor.eat("tile ") {
                let tile = tile(cursor)?;
                define(&mut scope.tiles, &tile.name, kernel.tiles.len());
                kernel.tiles.push(tile);
            } else if cursor.eat("grid ") {
                for axis in parts(cursor.rest()) {
                    let (var, size) =
                        axis.split_once('<').ok_or_else(|| Fault::new(axis, "expected `variable < size`"))?;
                    kernel.grid.push((symbol_of(var)?, dim(size)?));
                }
            } else if cursor.eat("lanes ") {
                kernel.lanes = Some(lanes(cursor.rest())?);
            } else {
                break;
            }
            self.at += 1;
        }
        let (body, end) = self.body(&scope, depth)?;
        if end != "}" {
            return Err(Fault::new(end, "expected `}`"));
        }
        kernel.body = body;
        Ok((kernel, scope.params))
    }

    /// Statements up to a line that begins with `}`, and that line.
    fn body(&mut self, scope: &KernelScope, depth: usize) -> Parsed<'a, (Vec<Stmt>, &'a str)> {
        let mut body = Vec::new();
        loop {
            let line = self.next()?;
            if line.starts_with('}') {
                return Ok((body, line));
            }
            if depth > DEPTH {
                return Err(Fault::new(line, "nested too deeply"));
            }
            body.push(self.stmt(line, scope, depth)?);
        }
    }

    fn stmt(&mut self, line: &'a str, scope: &KernelScope, depth: usize) -> Parsed<'a, Stmt> {
        if let Some(head) = line.strip_prefix("for ") {
            let head = head.strip_suffix('{').ok_or_else(|| Fault::new(head, "expected `{` at the end"))?;
            let (var, rest) = head.split_once(" in 0..").ok_or_else(|| Fault::new(head, "expected ` in 0..`"))?;
            let (end, step) = rest.rsplit_once(" step ").ok_or_else(|| Fault::new(rest, "expected ` step `"))?;
            let (var, end) = (symbol_of(var)?, dim(end)?);
            let step = step.trim().parse().map_err(|_| Fault::new(step, "expected an integer"))?;
            let (body, close) = self.body(scope, depth + 1)?;
            return if close == "}" {
                Ok(Stmt::For { var, end, step, body })
            } else {
                Err(Fault::new(close, "expected `}`"))
            };
        }
        if let Some(head) = line.strip_prefix("if ") {
            let condition = head.strip_suffix('{').and_then(|head| head.trim_end().strip_suffix("> 0"));
            let condition = dim(condition.ok_or_else(|| Fault::new(head, "expected `> 0 {` at the end"))?)?;
            let (then, close) = self.body(scope, depth + 1)?;
            let (otherwise, close) =
                if close == "} else {" { self.body(scope, depth + 1)? } else { (Vec::new(), close) };
            let stmt = Stmt::If { condition, then, otherwise };
            return if close == "}" { Ok(stmt) } else { Err(Fault::new(close, "expected `}`")) };
        }
        scope.instruction(line).map(Stmt::Instr)
    }

    fn step(&mut self, line: &'a str, scope: &Scope, depth: usize) -> Parsed<'a, Step> {
        let mut cursor = Cursor::new(line);
        if cursor.eat("launch ") {
            return launch(cursor, scope);
        }
        if cursor.eat("host ") {
            return host(cursor, scope);
        }
        if cursor.eat("if ") {
            let condition = buffer_reference(&mut cursor, scope)?;
            let operands = ports(&mut cursor, scope)?;
            let results = results(cursor, scope)?;
            let then_branch = Box::new(self.program(depth)?);
            let middle = self.next()?;
            if middle != "} else {" {
                return Err(Fault::new(middle, "expected `} else {`"));
            }
            let else_branch = Box::new(self.program(depth)?);
            self.close()?;
            return Ok(Step::If { condition, then_branch, else_branch, operands, results });
        }
        if cursor.eat("loop") {
            return self.loop_step(cursor, scope, depth);
        }
        if cursor.eat("scan") {
            return self.scan_step(cursor, scope, depth);
        }
        Err(cursor.fault("expected buffer, input, output, kernel, launch, host, if, loop, scan, data or `}`"))
    }

    fn close(&mut self) -> Parsed<'a, ()> {
        let line = self.next()?;
        if line == "}" { Ok(()) } else { Err(Fault::new(line, "expected `}`")) }
    }

    fn loop_step(&mut self, mut cursor: Cursor<'a>, scope: &Scope, depth: usize) -> Parsed<'a, Step> {
        let limits = cursor.bracketed('(')?;
        let [trip_count, condition] = split_top(limits, ',')[..] else {
            return Err(Fault::new(limits, "expected trip count and condition"));
        };
        let (trip_count, condition) = (port(trip_count, scope)?, port(condition, scope)?);
        let (carried, captured) = (ports(&mut cursor, scope)?, ports(&mut cursor, scope)?);
        let results = results(cursor, scope)?;
        let body = self.program(depth)?;
        self.close()?;
        Ok(Step::Loop(Box::new(LoopStep { body, trip_count, condition, carried, captured, results })))
    }

    fn scan_step(&mut self, mut cursor: Cursor<'a>, scope: &Scope, depth: usize) -> Parsed<'a, Step> {
        let states = ports(&mut cursor, scope)?;
        let mut inputs = Vec::new();
        for input in parts(cursor.bracketed('(')?) {
            let (head, axis) = input.rsplit_once(" axis ").ok_or_else(|| Fault::new(input, "expected ` axis `"))?;
            let (axis, reverse) = axis_direction(axis)?;
            inputs.push((port(head, scope)?, axis, reverse));
        }
        let captured = ports(&mut cursor, scope)?;
        let mut outputs = Vec::new();
        for output in parts(cursor.bracketed('(')?) {
            let axis = output.trim().strip_prefix("axis ").ok_or_else(|| Fault::new(output, "expected `axis `"))?;
            outputs.push(axis_direction(axis)?);
        }
        let results = results(cursor, scope)?;
        let body = self.program(depth)?;
        self.close()?;
        Ok(Step::Scan(Box::new(ScanStep { body, states, inputs, captured, outputs, results })))
    }
}

/// Later definitions of a name are reached by index only.
fn define(scope: &mut FxHashMap<String, u32>, name: &str, at: usize) {
    scope.entry(name.to_owned()).or_insert(at as u32);
}

/// The line up to a `# ` outside quotes.
fn without_comment(line: &str) -> &str {
    if !line.contains('#') {
        return line;
    }
    let (mut quote, mut escape) = (None, false);
    for (at, c) in line.char_indices() {
        match quote {
            Some(_) if escape => escape = false,
            Some('"') if c == '\\' => escape = true,
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if c == '#' && (line[at + 1..].starts_with(' ') || at + 1 == line.len()) => return &line[..at],
            None => {}
        }
    }
    line
}

fn shape<'a>(cursor: &mut Cursor<'a>) -> Parsed<'a, Vec<Dim>> {
    sizes(cursor.bracketed('[')?)
}

/// `name: dtype[` … the common beginning of buffers, parameters and tiles.
fn declaration<'a>(cursor: &mut Cursor<'a>) -> Parsed<'a, (String, DType)> {
    let name = cursor.name()?;
    cursor.expect(":")?;
    Ok((name, cursor.parsed("an element type")?))
}

fn layout<'a>(cursor: &mut Cursor<'a>) -> Parsed<'a, Layout> {
    let before = *cursor;
    cursor.word().parse().map_err(|message: String| before.fault(message))
}

fn buffer(mut cursor: Cursor<'_>) -> Parsed<'_, Buffer> {
    let (name, dtype) = declaration(&mut cursor)?;
    let (shape, layout) = (shape(&mut cursor)?, layout(&mut cursor)?);
    let kind = match cursor.word() {
        "input" => BufferKind::Input,
        "constant" => BufferKind::Constant(cursor.parsed("the number of a constant")?),
        "temporary" => BufferKind::Temporary,
        _ => return Err(cursor.fault("expected input, constant or temporary")),
    };
    cursor.end()?;
    Ok(Buffer { name, dtype, shape, layout, kind })
}

/// `variable < count in space`.
fn lanes(text: &str) -> Parsed<'_, Lanes> {
    let wrong = || Fault::new(text, "expected `variable < count in space`");
    let (var, rest) = text.split_once('<').ok_or_else(wrong)?;
    let (count, space) = rest.split_once(" in ").ok_or_else(wrong)?;
    let count = count.trim().parse().map_err(|_| wrong())?;
    let mut cursor = Cursor::new(space);
    let space = cursor.name()?;
    cursor.end()?;
    Ok(Lanes { var: symbol_of(var)?, count, space })
}

fn param(mut cursor: Cursor<'_>) -> Parsed<'_, Param> {
    let (name, dtype) = declaration(&mut cursor)?;
    let (shape, layout) = (shape(&mut cursor)?, layout(&mut cursor)?);
    let access = match cursor.word() {
        "read" => Access::Read,
        "write" => Access::Write,
        "update" => Access::Update,
        _ => return Err(cursor.fault("expected read, write or update")),
    };
    cursor.end()?;
    Ok(Param { name, dtype, shape, layout, access })
}

fn tile(mut cursor: Cursor<'_>) -> Parsed<'_, Tile> {
    let (name, dtype) = declaration(&mut cursor)?;
    let sizes = cursor.bracketed('[')?;
    let size = |text| -> Parsed<'_, usize> {
        let text: &str = text;
        text.trim().parse().map_err(|_| Fault::new(text, "expected a number: the capacity of a tile is fixed"))
    };
    let shape = parts(sizes).into_iter().map(size).collect::<Result<_, _>>()?;
    let layout = layout(&mut cursor)?;
    cursor.expect("in ")?;
    let space = cursor.name()?;
    let slots = if cursor.eat("slots ") { cursor.parsed("a number of copies")? } else { 1 };
    let address = if cursor.eat("at ") { Some(cursor.parsed("an address")?) } else { None };
    cursor.end()?;
    Ok(Tile { name, space, dtype, shape, layout, slots, address })
}

fn buffer_reference<'a>(cursor: &mut Cursor<'a>, scope: &Scope) -> Parsed<'a, BufferId> {
    cursor.expect("@")?;
    Ok(BufferId(cursor.reference("buffer", &scope.buffers)?))
}

fn port<'a>(text: &'a str, scope: &Scope) -> Parsed<'a, Port> {
    let mut cursor = Cursor::new(text);
    let name = cursor.name()?;
    cursor.expect(":")?;
    let buffer = buffer_reference(&mut cursor, scope)?;
    let shape = shape(&mut cursor)?;
    cursor.end()?;
    Ok(Port { name, buffer, shape })
}

fn ports<'a>(cursor: &mut Cursor<'a>, scope: &Scope) -> Parsed<'a, Vec<Port>> {
    parts(cursor.bracketed('(')?).into_iter().map(|text| port(text, scope)).collect()
}

fn buffer_list<'a>(cursor: &mut Cursor<'a>, scope: &Scope) -> Parsed<'a, Vec<BufferId>> {
    let each = |text| {
        let mut cursor = Cursor::new(text);
        let buffer = buffer_reference(&mut cursor, scope)?;
        cursor.end()?;
        Ok(buffer)
    };
    parts(cursor.bracketed('(')?).into_iter().map(each).collect()
}

/// `-> (@y) {`.
fn results<'a>(mut cursor: Cursor<'a>, scope: &Scope) -> Parsed<'a, Vec<BufferId>> {
    cursor.expect("->")?;
    let results = buffer_list(&mut cursor, scope)?;
    cursor.expect("{")?;
    cursor.end()?;
    Ok(results)
}

fn launch<'a>(mut cursor: Cursor<'a>, scope: &Scope) -> Parsed<'a, Step> {
    let kernel = cursor.reference("kernel", &scope.kernels)?;
    let args = buffer_list(&mut cursor, scope)?;
    let mut in_place = Vec::new();
    let none = FxHashMap::default();
    let params = scope.params.get(kernel as usize).unwrap_or(&none);
    let param = |text: &'a str| -> Parsed<'a, ParamId> {
        let mut cursor = Cursor::new(text);
        cursor.expect("@")?;
        let param = cursor.reference("parameter", params)?;
        cursor.end()?;
        Ok(ParamId(param))
    };
    if cursor.eat("in_place ") {
        for pair in parts(cursor.rest()) {
            let arrow = crate::name::top_level(pair).find(|&(at, _)| pair[at..].starts_with("->"));
            let (at, _) = arrow.ok_or_else(|| Fault::new(pair, "expected `->`"))?;
            in_place.push((param(&pair[..at])?, param(&pair[at + 2..])?));
        }
    } else {
        cursor.end()?;
    }
    Ok(Step::Launch { kernel: KernelId(kernel), args, in_place })
}

fn host<'a>(mut cursor: Cursor<'a>, scope: &Scope) -> Parsed<'a, Step> {
    let function = cursor.name()?;
    let int = |text: &'a str| text.trim().parse().map_err(|_| Fault::new(text, "expected an integer"));
    let ints = parts(cursor.bracketed('[')?).into_iter().map(int).collect::<Result<_, _>>()?;
    let reals = parts(cursor.bracketed('[')?).into_iter().map(real).collect::<Result<_, _>>()?;
    let operands = ports(&mut cursor, scope)?;
    cursor.expect("->")?;
    let results = buffer_list(&mut cursor, scope)?;
    cursor.end()?;
    Ok(Step::Host { function, ints, reals, operands, results })
}

/// `0` or `0 reverse`.
fn axis_direction(text: &str) -> Parsed<'_, (usize, bool)> {
    let (axis, reverse) = match text.trim().strip_suffix(" reverse") {
        Some(axis) => (axis, true),
        None => (text.trim(), false),
    };
    let axis = axis.trim().parse().map_err(|_| Fault::new(text, "expected the number of an axis"))?;
    Ok((axis, reverse))
}
