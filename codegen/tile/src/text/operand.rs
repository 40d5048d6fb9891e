//! Instructions and their operands in text, in the names of one kernel.

use std::fmt::Write as _;

use rustc_hash::FxHashMap;
use tarsia_tensor::{Dim, Symbol};

use super::{
    cursor::{Cursor, Fault},
    print::{dims, names},
};
use crate::{
    Axis, Instr, Kernel, Operand, ParamId, Region, TileId, View,
    name::{split_top, top_level},
};

/// How a kernel's parameters and tiles are referred to.
#[derive(Default)]
pub(super) struct KernelNames {
    params: Vec<String>,
    tiles: Vec<String>,
}

impl KernelNames {
    pub fn new(kernel: &Kernel) -> KernelNames {
        KernelNames {
            params: names(kernel.params.iter().map(|param| param.name.as_str())),
            tiles: names(kernel.tiles.iter().map(|tile| tile.name.as_str())),
        }
    }

    pub fn param(&self, param: ParamId) -> String {
        match self.params.get(param.0 as usize) {
            Some(name) => format!("@{name}"),
            None => format!("@#{}", param.0),
        }
    }

    fn tile(&self, tile: TileId) -> String {
        match self.tiles.get(tile.0 as usize) {
            Some(name) => format!("%{name}"),
            None => format!("%#{}", tile.0),
        }
    }

    pub fn instruction(&self, instr: &Instr) -> String {
        let list = |operands: &[Operand]| operands.iter().map(|o| self.operand(o)).collect::<Vec<_>>().join(", ");
        let mut text = instr.op.to_string();
        if !instr.dst.is_empty() {
            let _ = write!(text, " {}", list(&instr.dst));
        }
        if !instr.dst.is_empty() || !instr.src.is_empty() {
            let _ = write!(text, " <- {}", list(&instr.src));
        }
        text
    }

    fn operand(&self, operand: &Operand) -> String {
        match operand {
            Operand::Tile(region) => self.region(region),
            Operand::Global(view) => self.view(view),
            Operand::Real(number) => format!("{number:?}"),
            Operand::Index(dim) => format!("({dim})"),
            Operand::Scalar(symbol, bound) => format!("let {symbol} <= {bound}"),
        }
    }

    fn region(&self, region: &Region) -> String {
        let mut text = self.tile(region.tile);
        if !region.slot.is(0) {
            let _ = write!(text, "#({})", region.slot);
        }
        let axes: Vec<String> = if region.offset.len() == region.size.len() {
            region.offset.iter().zip(&region.size).map(|(offset, size)| format!("{offset} +: {size}")).collect()
        } else {
            // Ill-formed, for the listing that says so.
            vec![format!("{} +: {}", dims(&region.offset), dims(&region.size))]
        };
        let _ = write!(text, "[{}]", axes.join(", "));
        text
    }

    fn view(&self, view: &View) -> String {
        let axes: Vec<String> = view.axes.iter().map(axis_text).collect();
        let mut text = format!("{}{{{} -> {}", self.param(view.param), dims(&view.size), axes.join(", "));
        if let Some(fill) = view.fill {
            let _ = write!(text, " else {fill:?}");
        }
        text.push('}');
        text
    }
}

fn axis_text(axis: &Axis) -> String {
    let mut text = String::new();
    if axis.steps.is_empty() || !axis.start.is(0) {
        let _ = write!(text, "{}", axis.start);
    }
    for (index, step) in &axis.steps {
        if !text.is_empty() {
            text.push_str(" + ");
        }
        match step.as_const() {
            Some(1) => {}
            Some(number) if number >= 0 => {
                let _ = write!(text, "{number}*");
            }
            _ => {
                let _ = write!(text, "({step})*");
            }
        }
        let _ = write!(text, "${index}");
    }
    text
}

/// Indices of a kernel's parameters and tiles, by name.
#[derive(Default)]
pub(super) struct KernelScope {
    pub params: FxHashMap<String, u32>,
    pub tiles: FxHashMap<String, u32>,
}

impl KernelScope {
    /// Reads one instruction, which fills the line.
    pub fn instruction<'a>(&self, line: &'a str) -> Result<Instr, Fault<'a>> {
        let arrow = top_level(line).find(|&(at, _)| line[at..].starts_with("<-")).map(|(at, _)| at);
        let (left, right) = arrow.map_or((line, None), |at| (&line[..at], Some(&line[at + 2..])));
        // The opcode's words are the first and those of the form `key=value`.
        let mut end = 0;
        for (count, word) in split_top(left, ' ').into_iter().enumerate() {
            let attribute = word.contains('=') && word.starts_with(|c: char| c.is_ascii_alphabetic());
            if count > 0 && !attribute && !word.is_empty() {
                break;
            }
            end = (end + word.len() + 1).min(left.len());
        }
        let (head, operands) = left.split_at(end);
        let op = head.trim().parse().map_err(|message: String| Fault::new(head, message))?;
        Ok(Instr { op, dst: self.operands(operands)?, src: self.operands(right.unwrap_or(""))? })
    }

    fn operands<'a>(&self, text: &'a str) -> Result<Vec<Operand>, Fault<'a>> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        split_top(text, ',').into_iter().map(|operand| self.operand(operand)).collect()
    }

    fn operand<'a>(&self, text: &'a str) -> Result<Operand, Fault<'a>> {
        let mut cursor = Cursor::new(text);
        if cursor.eat("%") {
            let tile = TileId(cursor.reference("tile", &self.tiles)?);
            return self.region(tile, cursor).map(Operand::Tile);
        }
        if cursor.eat("@") {
            let param = ParamId(cursor.reference("parameter", &self.params)?);
            return view(param, cursor).map(Operand::Global);
        }
        if cursor.eat("let ") {
            let (symbol, bound) = cursor.rest().split_once("<=").ok_or_else(|| cursor.fault("expected `<=`"))?;
            return Ok(Operand::Scalar(symbol_of(symbol)?, dim(bound)?));
        }
        if cursor.peek('(') {
            let inside = cursor.bracketed('(')?;
            cursor.end()?;
            return dim(inside).map(Operand::Index);
        }
        real(cursor.rest()).map(Operand::Real)
    }

    fn region<'a>(&self, tile: TileId, mut cursor: Cursor<'a>) -> Result<Region, Fault<'a>> {
        let slot = if cursor.eat("#") { dim(cursor.bracketed('(')?)? } else { Dim::ZERO };
        let inside = cursor.bracketed('[')?;
        cursor.end()?;
        let mut region = Region { tile, slot, offset: Vec::new(), size: Vec::new() };
        for axis in parts(inside) {
            let middle = top_level(axis).find(|&(at, _)| axis[at..].starts_with("+:"));
            let (at, _) = middle.ok_or_else(|| Fault::new(axis, "expected `offset +: size`"))?;
            region.offset.push(dim(&axis[..at])?);
            region.size.push(dim(&axis[at + 2..])?);
        }
        Ok(region)
    }
}

fn view<'a>(param: ParamId, mut cursor: Cursor<'a>) -> Result<View, Fault<'a>> {
    let inside = cursor.bracketed('{')?;
    cursor.end()?;
    let arrow = top_level(inside).find(|&(at, _)| inside[at..].starts_with("->"));
    let (at, _) = arrow.ok_or_else(|| Fault::new(inside, "expected `sizes -> indices`"))?;
    let (size, rest) = (&inside[..at], &inside[at + 2..]);
    let otherwise = top_level(rest).find(|&(at, _)| rest[at..].starts_with(" else "));
    let (indices, fill) = match otherwise {
        Some((at, _)) => (&rest[..at], Some(real(&rest[at + 6..])?)),
        None => (rest, None),
    };
    let axes = parts(indices).into_iter().map(axis).collect::<Result<_, _>>()?;
    Ok(View { param, axes, size: self::sizes(size)?, fill })
}

/// Reads `start + step*$0 + (step)*$1`: everything before the first term with `$` is the start.
fn axis(text: &str) -> Result<Axis, Fault<'_>> {
    let Some(first) = top_level(text).find(|&(_, c)| c == '$').map(|(at, _)| at) else {
        return Ok(Axis { start: dim(text)?, steps: Vec::new() });
    };
    let before = text[..first].trim_end();
    let (term, start) = match before.strip_suffix('*') {
        Some(factor) => {
            let at = factor_start(factor.trim_end());
            (at, before[..at].trim_end())
        }
        None => (first, before),
    };
    let start = match (start.strip_suffix('+'), start.trim()) {
        (_, "") => Dim::ZERO,
        (Some(sum), _) => dim(sum)?,
        (None, _) => return Err(Fault::new(&text[term..], "expected `+` before the term")),
    };
    let steps = split_top(&text[term..], '+').into_iter().map(step).collect::<Result<_, _>>()?;
    Ok(Axis { start, steps })
}

/// Where the factor that ends `text` begins: a bracket or an integer.
fn factor_start(text: &str) -> usize {
    if text.ends_with(')') {
        // The last bracket that opens at the top level is the one that closes at the end.
        let mut open = 0;
        let (mut depth, mut quoted) = (0usize, false);
        for (at, c) in text.char_indices() {
            match c {
                '`' => quoted = !quoted,
                '(' if !quoted => {
                    if depth == 0 {
                        open = at;
                    }
                    depth += 1;
                }
                ')' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        return open;
    }
    text.trim_end_matches(|c: char| c.is_ascii_digit()).len()
}

/// Reads `$0`, `2*$0` or `(step)*$0`.
fn step(text: &str) -> Result<(usize, Dim), Fault<'_>> {
    let (factor, index) = text.rsplit_once('$').ok_or_else(|| Fault::new(text, "expected a term with `$`"))?;
    let index = index.trim().parse().map_err(|_| Fault::new(text, "expected the number of a view axis after `$`"))?;
    let factor = factor.trim();
    if factor.is_empty() {
        return Ok((index, Dim::ONE));
    }
    let factor = factor.strip_suffix('*').ok_or_else(|| Fault::new(text, "expected `*` before `$`"))?;
    let mut cursor = Cursor::new(factor);
    if cursor.peek('(') {
        let inside = cursor.bracketed('(')?;
        cursor.end()?;
        return Ok((index, dim(inside)?));
    }
    Ok((index, dim(factor)?))
}

/// The comma-separated parts of a text; none if it is blank.
pub(super) fn parts(text: &str) -> Vec<&str> {
    if text.trim().is_empty() { Vec::new() } else { split_top(text, ',') }
}

/// Comma-separated sizes.
pub(super) fn sizes(text: &str) -> Result<Vec<Dim>, Fault<'_>> {
    parts(text).into_iter().map(dim).collect()
}

/// An expression.
pub(super) fn dim(text: &str) -> Result<Dim, Fault<'_>> {
    text.trim().parse().map_err(|error: tarsia_tensor::ParseDimError| Fault::new(text, error.to_string()))
}

/// The symbol that a text names.
pub(super) fn symbol_of(text: &str) -> Result<Symbol, Fault<'_>> {
    dim(text)?.as_symbol().cloned().ok_or_else(|| Fault::new(text, "expected a variable's name"))
}

/// A float.
pub(super) fn real(text: &str) -> Result<f64, Fault<'_>> {
    text.trim()
        .parse()
        .map_err(|_| Fault::new(text, "expected an operand: a tile `%t[…]`, a view `@x{…}`, a number or `(index)`"))
}
