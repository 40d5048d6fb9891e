//! From arrays to tiles: every piece of scratch memory that instructions use becomes a tile at its address.
//!
//! Tiles have one or two axes. Memory that some instruction uses as rows becomes a tile of rows, also for those that use it flat; memory
//! used under two element types or lengths of row becomes two tiles at one address.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Axis, Instr, Layout, Operand, ParamId, Region, Stmt, Tile, TileId, View};

use super::{
    draft::{Draft, Item, Op},
    text::Fault,
    value::{Array, Root},
};

/// Scratch memory under an element type.
type Key = (&'static str, i64, DType);

/// How the elements of a tile lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Flat,
    /// Rows of this length.
    Rows(i64),
    /// Columns of this length.
    Columns(i64),
}

/// Places the arrays of statements.
#[derive(Default)]
pub(super) struct Placer {
    pub tiles: Vec<Tile>,
    known: BTreeMap<(Key, Form), TileId>,
    rows: BTreeMap<Key, BTreeSet<i64>>,
    bytes: BTreeMap<Key, i64>,
    /// Where in the text every placed instruction comes from, in order.
    pub origins: Vec<usize>,
    pub faults: Vec<Fault>,
}

impl Placer {
    /// Statements with tiles for the arrays; `own` are tiles that they already refer to.
    pub fn place(own: Vec<Tile>, drafts: &[Draft]) -> (Vec<Stmt>, Placer) {
        let mut placer = Placer { tiles: own, ..Placer::default() };
        placer.each(drafts, &mut |placer, op| placer.demand(op));
        // What one instruction demands of a piece of memory, those that use it flat pass on to their other operands.
        for _ in 0..3 {
            placer.each(drafts, &mut |placer, op| placer.pass_on(op));
        }
        let stmts = placer.block(drafts);
        (stmts, placer)
    }

    fn each(&mut self, drafts: &[Draft], visit: &mut dyn FnMut(&mut Placer, &Op)) {
        for draft in drafts {
            match draft {
                Draft::Op(op) => visit(self, op),
                Draft::For { body, .. } => self.each(body, visit),
                Draft::If { then, otherwise, .. } => {
                    self.each(then, visit);
                    self.each(otherwise, visit);
                }
            }
        }
    }

    fn block(&mut self, drafts: &[Draft]) -> Vec<Stmt> {
        let mut stmts = Vec::with_capacity(drafts.len());
        for draft in drafts {
            stmts.push(match draft {
                Draft::Op(op) => match self.instr(op) {
                    Ok(instr) => {
                        self.origins.push(op.at);
                        Stmt::Instr(instr)
                    }
                    Err(message) => {
                        self.faults.push(Fault::new(op.at, message));
                        continue;
                    }
                },
                Draft::For { var, end, step, body } => {
                    Stmt::For { var: var.clone(), end: end.clone(), step: *step, body: self.block(body) }
                }
                Draft::If { condition, then, otherwise } => {
                    let (then, otherwise) = (self.block(then), self.block(otherwise));
                    Stmt::If { condition: condition.clone(), then, otherwise }
                }
            });
        }
        stmts
    }

    /// Notes how much memory an instruction uses, and as rows of which length.
    fn demand(&mut self, op: &Op) {
        for array in arrays(op) {
            if let (Some(key), Root::Local { bytes, .. }) = (key(array), &array.root) {
                let most = self.bytes.entry(key).or_default();
                *most = (*most).max(*bytes);
            }
        }
        if flat(op).is_none() {
            for array in arrays(op) {
                if let (Some(key), Some((Form::Rows(length), _))) = (key(array), matrix(array)) {
                    self.rows.entry(key).or_default().insert(length);
                }
            }
        }
    }

    fn pass_on(&mut self, op: &Op) {
        let Some(size) = flat(op) else { return };
        let Some(length) = self.row_length(op, &size) else { return };
        for key in arrays(op).filter_map(key) {
            self.rows.entry(key).or_default().insert(length);
        }
    }

    /// The length of rows as which a flat instruction sees its operands, if one of them has rows.
    fn row_length(&self, op: &Op, size: &Dim) -> Option<i64> {
        let lengths = arrays(op).filter_map(key).filter_map(|key| self.rows.get(&key)).flatten();
        lengths.copied().find(|length| size.exact_div(&Dim::Const(*length)).is_some())
    }

    fn instr(&mut self, op: &Op) -> Result<Instr, String> {
        let size = flat(op);
        let form = size.as_ref().map(|size| self.row_length(op, size).map_or(Form::Flat, Form::Rows));
        let mut operands = |items: &[Item]| -> Result<Vec<Operand>, String> {
            items.iter().map(|item| self.operand(item, form)).collect()
        };
        Ok(Instr { op: op.op.clone(), dst: operands(&op.dst)?, src: operands(&op.src)? })
    }

    fn operand(&mut self, item: &Item, form: Option<Form>) -> Result<Operand, String> {
        let array = match item {
            Item::Real(number) => return Ok(Operand::Real(*number)),
            Item::Region(region) => return Ok(Operand::Tile(region.clone())),
            Item::Array(array) => array,
        };
        let (form, array) = match form {
            Some(Form::Rows(length)) => (Form::Rows(length), rows(&array.merged(), length)?),
            Some(form) => (form, array.merged()),
            None => matrix(array).ok_or("an array has more than two axes, or rows of a length that is not known")?,
        };
        match &array.root {
            Root::Param(at) => Ok(Operand::Global(view(ParamId(*at as u32), &array))),
            Root::Local { .. } => self.region(&array, form).map(Operand::Tile),
        }
    }

    fn region(&mut self, array: &Array, form: Form) -> Result<Region, String> {
        let tile = self.tile(array, form)?;
        let offset = match form {
            Form::Flat => vec![array.offset.clone()],
            Form::Rows(length) => {
                let length = Dim::Const(length);
                vec![array.offset.floor_div(&length), array.offset.modulo(&length)]
            }
            Form::Columns(length) => {
                let length = Dim::Const(length);
                vec![array.offset.modulo(&length), array.offset.floor_div(&length)]
            }
        };
        Ok(Region { tile, slot: Dim::ZERO, offset, size: array.sizes.clone() })
    }

    fn tile(&mut self, array: &Array, form: Form) -> Result<TileId, String> {
        let key = key(array).ok_or("an array is not in scratch memory")?;
        if let Some(tile) = self.known.get(&(key, form)) {
            return Ok(*tile);
        }
        let (space, address, dtype) = key;
        let elements = self.bytes.get(&key).copied().unwrap_or(0) / array.element_bytes();
        let count = |length: i64| (elements / length.max(1)).max(1) as usize;
        let (shape, layout) = match form {
            Form::Flat => (vec![elements.max(1) as usize], Layout::RowMajor),
            Form::Rows(length) => (vec![count(length), length as usize], Layout::RowMajor),
            Form::Columns(length) => (vec![length as usize, count(length)], Layout::COLUMNS),
        };
        let id = TileId(self.tiles.len() as u32);
        let name = format!("t{}", id.0);
        let address = Some(address as usize);
        self.tiles.push(Tile { name, space: space.to_owned(), dtype, shape, layout, slots: 1, address });
        self.known.insert((key, form), id);
        Ok(id)
    }
}

fn arrays(op: &Op) -> impl Iterator<Item = &Array> {
    op.dst.iter().chain(&op.src).filter_map(|item| match item {
        Item::Array(array) => Some(array),
        _ => None,
    })
}

fn key(array: &Array) -> Option<Key> {
    match &array.root {
        Root::Local { space, address, .. } => Some((space, *address, array.dtype)),
        Root::Param(_) => None,
    }
}

/// The number of elements, if all arrays of an instruction are dense and have as many.
fn flat(op: &Op) -> Option<Dim> {
    let mut sizes = arrays(op).map(|array| array.is_dense().then(|| array.merged().sizes[0].clone()));
    let first = sizes.next()??;
    let alone = op.dst.iter().chain(&op.src).all(|item| !matches!(item, Item::Region(_)));
    let reduces = matches!(op.op, tarsia_tile::Opcode::Reduce { .. });
    (alone && !reduces && sizes.all(|size| size.as_ref() == Some(&first))).then_some(first)
}

/// The array with two axes, and how it lies.
fn matrix(array: &Array) -> Option<(Form, Array)> {
    let array = array.matrix()?;
    if matches!(array.root, Root::Param(_)) {
        return Some((Form::Flat, array));
    }
    let most = |dim: &Dim| Some(dim.range().high).filter(|high| (1..1 << 30).contains(high));
    let [rows, columns] = [&array.sizes[0], &array.sizes[1]];
    let [down, across] = [&array.strides[0], &array.strides[1]];
    let form = match () {
        () if rows.is(1) && (across.is(1) || columns.is(1)) => Form::Rows(most(columns)?),
        () if across.is(1) || columns.is(1) => Form::Rows(most(down)?),
        () if down.is(1) => Form::Columns(most(across)?),
        () => return None,
    };
    Some((form, array))
}

/// A dense array as rows of a length.
fn rows(array: &Array, length: i64) -> Result<Array, String> {
    let count = array.sizes[0].exact_div(&Dim::Const(length)).ok_or("memory is used as rows of two lengths")?;
    let stride = array.strides[0].clone();
    Ok(Array {
        sizes: vec![count, Dim::Const(length)],
        strides: vec![Dim::Const(length) * stride.clone(), stride],
        ..array.clone()
    })
}

/// An array in a buffer of one axis.
fn view(param: ParamId, array: &Array) -> View {
    let steps = array.strides.iter().enumerate().filter(|(axis, _)| !array.sizes[*axis].is(1));
    let steps = steps.map(|(axis, stride)| (axis, stride.clone())).collect();
    View { param, axes: vec![Axis { start: array.offset.clone(), steps }], size: array.sizes.clone(), fill: None }
}
