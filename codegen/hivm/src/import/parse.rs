//! From text to statements: maps, functions, and their ops with nested regions. What an op means is not looked at here.
//!
//! An op is its results, its name and the text behind it; it ends where a line ends outside brackets, unless the next line
//! continues it (begins neither with a result, nor with an op's name, nor with `}`). `{` at the end of a line opens a region.

use rustc_hash::FxHashMap;

use super::{
    affine::Map,
    text::{Cursor, Fault, Result},
};

/// Regions may nest this deep.
const DEPTH: usize = 32;

/// A module.
#[derive(Debug, Default)]
pub(super) struct Module<'a> {
    pub maps: FxHashMap<&'a str, Map>,
    pub functions: Vec<Function<'a>>,
}

/// A function; without a body if it is declared only.
#[derive(Debug)]
pub(super) struct Function<'a> {
    pub at: usize,
    pub name: &'a str,
    pub arguments: Vec<Argument<'a>>,
    /// The text of its attributes.
    pub attributes: &'a str,
    pub body: Option<Vec<Op<'a>>>,
}

/// An argument of a function.
#[derive(Debug)]
pub(super) struct Argument<'a> {
    pub name: &'a str,
    /// Its type and, behind it, its attributes.
    pub ty: Cursor<'a>,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Op<'a> {
    pub at: usize,
    pub results: Vec<&'a str>,
    pub name: &'a str,
    /// The text behind the name, without regions.
    pub text: Cursor<'a>,
    pub regions: Vec<Vec<Op<'a>>>,
}

impl Function<'_> {
    /// Whether the attributes have this word.
    pub fn has(&self, word: &str) -> bool {
        self.attributes.contains(word)
    }

    /// The integer behind `key =` among the attributes.
    pub fn number(&self, key: &str) -> Option<i64> {
        let (_, behind) = self.attributes.split_once(&format!("{key} = "))?;
        Cursor::new(behind, 0).integer().ok()
    }
}

/// Reads a module.
pub(super) fn module(source: &str) -> Result<Module<'_>> {
    let mut reader = Reader { source, at: 0 };
    let mut module = Module::default();
    let ops = reader.ops(&mut module.maps, 0)?;
    functions(ops, &mut module.functions)?;
    Ok(module)
}

fn functions<'a>(ops: Vec<Op<'a>>, found: &mut Vec<Function<'a>>) -> Result<()> {
    for mut op in ops {
        match op.name {
            "module" => {
                for region in op.regions.drain(..) {
                    functions(region, found)?;
                }
            }
            "func.func" => found.push(function(op)?),
            name => return Err(Fault::new(op.at, format!("`{name}` stands outside of a function"))),
        }
    }
    Ok(())
}

fn function(op: Op<'_>) -> Result<Function<'_>> {
    let mut text = op.text;
    text.eat("private");
    text.expect("@")?;
    let name = text.word();
    let arguments = text.bracketed('(')?.parts();
    let has_body = !op.regions.is_empty();
    let arguments = match has_body {
        true => arguments.into_iter().map(argument).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    let attributes = text.rest();
    Ok(Function { at: op.at, name, arguments, attributes, body: op.regions.into_iter().next() })
}

fn argument(mut part: Cursor<'_>) -> Result<Argument<'_>> {
    let name = part.value()?;
    part.expect(":")?;
    Ok(Argument { name, ty: part })
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Skips blanks and comments.
    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Ops up to the `}` that closes the region, or the end of the source at depth 0.
    fn ops(&mut self, maps: &mut FxHashMap<&'a str, Map>, depth: usize) -> Result<Vec<Op<'a>>> {
        if depth > DEPTH {
            return Err(Fault::new(self.at, format!("regions nest deeper than {DEPTH}")));
        }
        let mut ops = Vec::new();
        loop {
            self.blanks();
            let rest = self.rest();
            if rest.is_empty() {
                return if depth == 0 { Ok(ops) } else { Err(Fault::new(self.at, "a region is not closed")) };
            }
            if rest.starts_with('}') {
                if depth == 0 {
                    return Err(Fault::new(self.at, "`}` closes nothing"));
                }
                self.at += 1;
                return Ok(ops);
            }
            if rest.starts_with('#') {
                let (name, map) = self.alias()?;
                if let Some(map) = map {
                    maps.insert(name, map);
                }
                continue;
            }
            ops.push(self.op(maps, depth)?);
        }
    }

    /// `#name = affine_map<…>`; other aliases are skipped.
    fn alias(&mut self) -> Result<(&'a str, Option<Map>)> {
        let at = self.at;
        let end = self.extent();
        let line = &self.source[at..end];
        self.at = end;
        let Some((name, value)) = line.split_once('=') else {
            return Err(Fault::new(at, "expected `#name = value`"));
        };
        let mut value = Cursor::new(value, at + name.len() + 1);
        let map = if value.eat("affine_map") { Some(Map::read(value)?) } else { None };
        Ok((name.trim(), map))
    }

    fn op(&mut self, maps: &mut FxHashMap<&'a str, Map>, depth: usize) -> Result<Op<'a>> {
        let at = self.at;
        let end = self.extent();
        let text = &self.source[at..end];
        self.at = end;
        let mut regions = Vec::new();
        let body = text.trim_end();
        let opens = body.ends_with('{');
        let text = if opens { &body[..body.len() - 1] } else { body };
        let mut cursor = Cursor::new(text, at);
        let mut results = Vec::new();
        if cursor.peek("%") {
            results.push(cursor.value()?);
            while cursor.eat(",") {
                results.push(cursor.value()?);
            }
            if cursor.eat(":") {
                cursor.integer()?;
            }
            cursor.expect("=")?;
        }
        let name = cursor.word();
        if name.is_empty() {
            return Err(cursor.fault("expected an operation"));
        }
        if opens {
            regions.push(self.ops(maps, depth + 1)?);
            self.continue_region(maps, depth, &mut regions)?;
        }
        Ok(Op { at, results, name, text: cursor, regions })
    }

    /// `else {` and attributes behind a region.
    fn continue_region(
        &mut self,
        maps: &mut FxHashMap<&'a str, Map>,
        depth: usize,
        regions: &mut Vec<Vec<Op<'a>>>,
    ) -> Result<()> {
        loop {
            let rest = self.rest();
            let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
            let behind = line.trim();
            if behind.starts_with("else") && behind.ends_with('{') {
                self.at += line.len();
                regions.push(self.ops(maps, depth + 1)?);
                continue;
            }
            if behind.is_empty() || behind.starts_with('{') || behind.starts_with("//") || behind.starts_with("loc(") {
                self.at += line.len();
                return Ok(());
            }
            return Err(Fault::new(self.at, "unexpected text behind a region"));
        }
    }

    /// Where the op that begins here ends: behind the `{` of its region, or at the end of a line.
    fn extent(&self) -> usize {
        let (mut depth, mut quoted) = (0usize, false);
        let rest = self.rest();
        for (at, c) in rest.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '\n' if quoted => quoted = false,
                _ if quoted => {}
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                '{' => {
                    let behind = &rest[at + 1..];
                    let line = &behind[..behind.find('\n').unwrap_or(behind.len())];
                    if depth == 0 && (line.trim().is_empty() || line.trim().starts_with("//")) {
                        return self.at + at + 1;
                    }
                    depth += 1;
                }
                '}' => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => return self.at + at,
                },
                '\n' if depth == 0 && begins_op(&rest[at + 1..]) => return self.at + at,
                _ => {}
            }
        }
        self.source.len()
    }
}

/// Whether a line does not continue the op before it.
fn begins_op(text: &str) -> bool {
    let text = text.trim_start();
    let word = Cursor::new(text, 0).word();
    text.is_empty()
        || text.starts_with(['%', '}', '^', '/'])
        || text.starts_with('#') && text.split('\n').next().is_some_and(|line| line.contains('='))
        || word.contains('.')
        || matches!(word, "return" | "call" | "module")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_regions_and_continuations() {
        let source = "#map = affine_map<()[s0] -> (s0 * 3)>\nmodule attributes {a = \"x{\"} {\n  func.func @f(%a: i64 {k = #k<v>},\n      %b: memref<4xf32>)\n      attributes {hacc.block_dim = 8 : i64} {\n    // nothing\n    %0, %1 = x.y %a\n        outs(%b)\n    scf.if %0 {\n      x.z\n    } else {\n      x.w\n    } {tag}\n    return\n  }\n  func.func private @g(i64)\n}\n";
        let module = module(source).unwrap();
        assert_eq!(module.maps.len(), 1);
        let [f, g] = &module.functions[..] else { panic!("{module:?}") };
        assert_eq!((f.name, f.arguments.len(), f.number("hacc.block_dim")), ("f", 2, Some(8)));
        assert!(g.body.is_none());
        let body = f.body.as_ref().unwrap();
        assert_eq!(body.iter().map(|op| op.name).collect::<Vec<_>>(), ["x.y", "scf.if", "return"]);
        assert_eq!(body[0].results, ["%0", "%1"]);
        assert_eq!(body[0].text.rest(), "%a\n        outs(%b)");
        assert_eq!(body[1].regions.len(), 2);
    }

    #[test]
    fn faults_have_places() {
        assert_eq!(module("module {\n").unwrap_err().message, "a region is not closed");
        assert_eq!(module("}").unwrap_err().message, "`}` closes nothing");
        assert!(module(&"module {\n".repeat(99)).unwrap_err().message.contains("deeper"));
        assert!(module("x.y\n").unwrap_err().message.contains("outside"));
    }
}
