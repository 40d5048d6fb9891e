//! Statements whose operands are still arrays in memory, not tiles: what a kernel's text is read into.

use tarsia_tensor::{BinaryFn, Dim, Symbol};
use tarsia_tile::{Opcode, Region, Tile, TileId};

use super::value::{Array, Value};

/// A statement.
#[derive(Debug, Clone)]
pub(super) enum Draft {
    For { var: Symbol, end: Dim, step: i64, body: Vec<Draft> },
    If { condition: Dim, then: Vec<Draft>, otherwise: Vec<Draft> },
    Op(Op),
}

/// An instruction, and the byte of the text it comes from.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub at: usize,
    pub op: Opcode,
    pub dst: Vec<Item>,
    pub src: Vec<Item>,
}

/// An operand.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Array(Array),
    /// Part of a tile that the importer has made itself.
    Region(Region),
    Real(f64),
}

/// The statements of a kernel as they are found, with its pipes' names and its own tiles.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub at: usize,
    /// `aic` or `aiv`: the kind of core whose text is read.
    pub core: &'static str,
    pub tiles: Vec<Tile>,
    blocks: Vec<Vec<Draft>>,
    loops: usize,
}

impl Writer {
    pub fn begin(&mut self) {
        self.blocks.push(Vec::new());
    }

    pub fn end(&mut self) -> Vec<Draft> {
        self.blocks.pop().unwrap_or_default()
    }

    pub fn push(&mut self, draft: Draft) {
        match self.blocks.last_mut() {
            Some(block) => block.push(draft),
            None => self.blocks.push(vec![draft]),
        }
    }

    /// A loop variable that no other loop has.
    pub fn variable(&mut self) -> Symbol {
        self.loops += 1;
        Symbol::new(&format!("%i{}", self.loops - 1))
    }

    /// `for var in 0..end step step { body(var) }`.
    pub fn for_each(&mut self, end: Dim, step: i64, body: impl FnOnce(&mut Writer, Dim)) {
        let var = self.variable();
        self.begin();
        body(self, Dim::from(var.clone()));
        let body = self.end();
        self.push(Draft::For { var, end, step, body });
    }

    /// Runs a body where the condition is positive.
    pub fn when(&mut self, condition: Dim, body: impl FnOnce(&mut Writer)) {
        self.begin();
        body(self);
        let then = self.end();
        self.branch(condition, then, Vec::new());
    }

    /// One of two bodies, by whether the condition is positive.
    pub fn branch(&mut self, condition: Dim, then: Vec<Draft>, otherwise: Vec<Draft>) {
        match condition.as_const() {
            Some(1..) => then.into_iter().for_each(|draft| self.push(draft)),
            Some(_) => otherwise.into_iter().for_each(|draft| self.push(draft)),
            None => self.push(Draft::If { condition, then, otherwise }),
        }
    }

    pub fn op(&mut self, op: Opcode, dst: Vec<Item>, src: Vec<Item>) {
        let at = self.at;
        self.push(Draft::Op(Op { at, op, dst, src }));
    }

    pub fn copy(&mut self, dst: Item, src: Item) {
        self.op(Opcode::Copy { rows: 1 }, vec![dst], vec![src]);
    }

    pub fn binary(&mut self, function: BinaryFn, dst: &Array, a: &Array, b: &Array) {
        self.op(Opcode::Binary(function), vec![dst.into()], vec![a.into(), b.into()]);
    }

    /// The machine's name of a pipe of this core; `None` stays: all pipes.
    pub fn pipe(&self, name: &str) -> String {
        format!("{}_{name}", self.core)
    }

    pub fn set(&mut self, from: &str, to: &str, event: Dim) {
        let (from, to) = (self.pipe(from), self.pipe(to));
        self.op(Opcode::SetEvent { from, to, event }, vec![], vec![]);
    }

    pub fn wait(&mut self, from: &str, to: &str, event: Dim) {
        let (from, to) = (self.pipe(from), self.pipe(to));
        self.op(Opcode::WaitEvent { from, to, event }, vec![], vec![]);
    }

    pub fn barrier(&mut self, pipe: Option<&str>) {
        let pipe = pipe.map(|pipe| self.pipe(pipe));
        self.op(Opcode::Barrier { pipe }, vec![], vec![]);
    }

    /// A tile of the importer's own.
    pub fn tile(&mut self, tile: Tile) -> TileId {
        self.tiles.push(tile);
        TileId(self.tiles.len() as u32 - 1)
    }

    /// The tile of this description: one for all who ask for it.
    pub fn shared_tile(&mut self, tile: Tile) -> TileId {
        match self.tiles.iter().position(|known| *known == tile) {
            Some(at) => TileId(at as u32),
            None => self.tile(tile),
        }
    }

    /// Writes what depends on values that are choices once per alternative.
    pub fn choose(&mut self, values: &[Value], write: &mut dyn FnMut(&mut Writer, &[Value])) {
        let condition = values.iter().find_map(|value| match value {
            Value::Choice(condition, _) => Some(condition.clone()),
            _ => None,
        });
        let Some(condition) = condition else { return write(self, values) };
        let sides = [0, 1].map(|taken| {
            let values: Vec<Value> = values.iter().map(|value| value.assume(&condition, taken)).collect();
            self.begin();
            self.choose(&values, write);
            self.end()
        });
        let [then, otherwise] = sides;
        self.branch(condition, then, otherwise);
    }
}

impl From<&Array> for Item {
    fn from(array: &Array) -> Item {
        Item::Array(array.clone())
    }
}
