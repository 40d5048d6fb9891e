//! Reading a function's body: index arithmetic is carried out on expressions, memory ops on descriptions of arrays, and what works
//! on arrays becomes statements.

mod arith;
mod memory;

use std::cell::Cell;

use rustc_hash::FxHashMap;
use tarsia_tensor::Dim;

use super::{
    affine::Map,
    draft::Writer,
    parse::{Function, Module, Op},
    template,
    text::{Cursor, Fault, Result},
    value::{Array, Root, Value, less},
};

/// Functions may call each other this deep.
const CALLS: usize = 16;

/// Ops that place nothing and move nothing.
const IGNORED: [&str; 8] = [
    "return",
    "scf.yield",
    "annotation.mark",
    "hivm.hir.set_mask_norm",
    "hivm.hir.set_ffts_base_addr",
    "hivm.hir.set_ctrl",
    "memref.assume_alignment",
    "memref.dealloc",
];

/// Reads the functions of one kernel.
pub(super) struct Reader<'m> {
    pub module: &'m Module<'m>,
    pub out: Writer,
    /// How many blocks the kernel is launched with, and how many vector cores a block has.
    pub blocks: i64,
    pub lanes: i64,
    pub block: Dim,
    pub lane: Dim,
    pub faults: Vec<Fault>,
    calls: usize,
    /// Whether the op that is being read uses what could not be read: it is not complained of again.
    follows: Cell<bool>,
    scope: FxHashMap<&'m str, Value>,
}

impl<'m> Reader<'m> {
    pub fn new(module: &'m Module<'m>, blocks: i64, lanes: i64) -> Reader<'m> {
        Reader {
            module,
            out: Writer::default(),
            blocks,
            lanes,
            block: Dim::symbol("%block"),
            lane: Dim::symbol("%lane"),
            faults: Vec::new(),
            calls: 0,
            follows: Cell::new(false),
            scope: FxHashMap::default(),
        }
    }

    /// Reads a body with these arguments into the statements that are being written.
    pub fn function(&mut self, function: &'m Function<'m>, arguments: Vec<Value>) {
        let Some(body) = &function.body else { return };
        if self.calls >= CALLS {
            return self.faults.push(Fault::new(function.at, format!("calls nest deeper than {CALLS}")));
        }
        if arguments.len() != function.arguments.len() {
            return self.faults.push(Fault::new(function.at, "a call passes another number of arguments"));
        }
        self.calls += 1;
        let names = function.arguments.iter().map(|argument| argument.name);
        let outer = std::mem::replace(&mut self.scope, names.zip(arguments).collect());
        self.ops(body);
        self.scope = outer;
        self.calls -= 1;
    }

    fn ops(&mut self, ops: &'m [Op<'m>]) {
        for op in ops {
            self.out.at = op.at;
            self.follows.set(false);
            let small = |values: Vec<Value>| match values.iter().all(Value::is_small) {
                true => Ok(values),
                false => Err(Fault::new(op.at, "the expression is too large")),
            };
            match self.op(op).and_then(small) {
                Ok(values) => {
                    // Results that nothing here gives: to use them is a fault.
                    let values = values.into_iter().chain(std::iter::repeat(Value::Opaque));
                    self.scope.extend(op.results.iter().copied().zip(values));
                }
                Err(fault) => {
                    if !self.follows.get() {
                        self.faults.push(fault);
                    }
                    self.scope.extend(op.results.iter().map(|name| (*name, Value::Unread)));
                }
            }
        }
    }

    fn op(&mut self, op: &'m Op<'m>) -> Result<Vec<Value>> {
        let one = |value: Value| Ok(vec![value]);
        let family = op.name.split('.').next().unwrap_or_default();
        match op.name {
            name if IGNORED.contains(&name) => Ok(Vec::new()),
            "scf.for" => self.for_loop(op),
            "scf.if" => self.if_else(op),
            "call" | "func.call" => self.call(op),
            "affine.apply" | "affine.min" | "affine.max" => one(self.affine(op)?),
            "hivm.hir.get_block_idx" => one(Value::Number(self.block.clone())),
            "hivm.hir.get_block_num" => one(Value::Number(Dim::Const(self.blocks))),
            "hivm.hir.get_sub_block_idx" => one(Value::Number(self.lane.clone())),
            "hivm.hir.get_sub_block_num" => one(Value::Number(Dim::Const(self.lanes))),
            _ if family == "arith" => one(self.arith(op)?),
            _ if family == "memref" => one(self.memory(op)?),
            "hivm.hir.pointer_cast" => one(self.pointer(op)?),
            _ if family == "hivm" => template::operation(self, op).map(|()| Vec::new()),
            name => Err(Fault::new(op.at, format!("`{name}` cannot be read"))),
        }
    }

    /// What a name stands for.
    pub fn value(&self, cursor: &mut Cursor<'m>) -> Result<Value> {
        let before = *cursor;
        let name = cursor.value()?;
        let found = self.scope.get(name).cloned();
        self.follows.set(self.follows.get() || matches!(found, Some(Value::Unread)));
        found.ok_or_else(|| before.fault(format!("`{name}` is not defined")))
    }

    /// An index: a name or a number.
    pub fn index(&self, cursor: &mut Cursor<'m>) -> Result<Dim> {
        if !cursor.peek("%") {
            return cursor.integer().map(Dim::Const);
        }
        let before = *cursor;
        let value = self.value(cursor)?;
        value.number().ok_or_else(|| before.fault("this is no index that is known"))
    }

    /// Indices in brackets.
    pub fn indices(&self, cursor: &mut Cursor<'m>, open: char) -> Result<Vec<Dim>> {
        cursor.bracketed(open)?.parts().into_iter().map(|mut part| self.index(&mut part)).collect()
    }

    /// `%i = %from to %to step %step : type { … }`.
    fn for_loop(&mut self, op: &'m Op<'m>) -> Result<Vec<Value>> {
        let mut text = op.text;
        let name = text.value()?;
        text.expect("=")?;
        let from = self.index(&mut text)?;
        text.expect("to")?;
        let to = self.index(&mut text)?;
        text.expect("step")?;
        let step = self.index(&mut text)?;
        let step = step.as_const().filter(|step| *step > 0).ok_or_else(|| text.fault("the step is not known"))?;
        if text.peek("iter_args") {
            return Err(text.fault("loops that carry values cannot be read"));
        }
        let body = op.regions.first().ok_or_else(|| text.fault("a loop without a body"))?;
        let var = self.out.variable();
        self.scope.insert(name, Value::Number(from.clone() + Dim::from(var.clone())));
        self.out.begin();
        self.ops(body);
        let body = self.out.end();
        let end = (to - from).maximum(&Dim::ZERO);
        self.out.push(super::draft::Draft::For { var, end, step, body });
        Ok(Vec::new())
    }

    fn if_else(&mut self, op: &'m Op<'m>) -> Result<Vec<Value>> {
        let mut text = op.text;
        let condition = self.index(&mut text)?;
        if text.peek("->") {
            return Err(text.fault("branches that give values cannot be read"));
        }
        let mut bodies = op.regions.iter().map(|region| {
            self.out.begin();
            self.ops(region);
            self.out.end()
        });
        let (then, otherwise) = (bodies.next().unwrap_or_default(), bodies.next().unwrap_or_default());
        drop(bodies);
        self.out.branch(condition, then, otherwise);
        Ok(Vec::new())
    }

    /// `@name(%a, %b) : (types) -> ()`.
    fn call(&mut self, op: &'m Op<'m>) -> Result<Vec<Value>> {
        let mut text = op.text;
        text.expect("@")?;
        let name = text.word();
        let arguments = text.bracketed('(')?.parts();
        let arguments = arguments.into_iter().map(|mut part| self.value(&mut part)).collect::<Result<Vec<_>>>()?;
        let module = self.module;
        match module.functions.iter().find(|function| function.name == name && function.body.is_some()) {
            Some(function) => self.function(function, arguments),
            None => template::call(self, op.at, name, &arguments)?,
        }
        Ok(Vec::new())
    }

    /// `#map(%d)[%s]`.
    fn affine(&self, op: &Op<'m>) -> Result<Value> {
        let mut text = op.text;
        let before = text;
        let inline;
        let map = if text.eat("affine_map") {
            let start = text;
            text.bracketed('<')?;
            inline = Map::read(start)?;
            &inline
        } else {
            text.expect("#")?;
            let name = text.word();
            let known = self.module.maps.iter().find(|(key, _)| key.strip_prefix('#') == Some(name));
            known.ok_or_else(|| before.fault(format!("there is no map `{name}`")))?.1
        };
        let mut inputs = self.indices(&mut text, '(')?;
        if text.peek("[") {
            inputs.extend(self.indices(&mut text, '[')?);
        }
        let results = map.apply(&inputs).ok_or_else(|| before.fault("the map takes another number of indices"))?;
        let pick = |a: Dim, b: &Dim| if op.name == "affine.max" { a.maximum(b) } else { a.minimum(b) };
        let mut results = results.into_iter();
        let first = results.next().ok_or_else(|| before.fault("the map has no result"))?;
        Ok(Value::Number(results.fold(first, |best, next| pick(best, &next))))
    }

    /// An array at a fixed address.
    fn pointer(&self, op: &Op<'m>) -> Result<Value> {
        let mut text = op.text;
        let parts = text.bracketed('(')?.parts();
        let [mut part] = parts[..] else {
            return Err(text.fault("a pointer with several addresses; the slot must be chosen already"));
        };
        let address = self.value(&mut part)?;
        text.expect(":")?;
        let ty = super::types::Memref::read(&mut text)?;
        let sizes = ty.sizes.iter().map(|size| size.map(Dim::Const)).collect::<Option<Vec<_>>>();
        let sizes = sizes.ok_or_else(|| text.fault("the size of the memory is not known"))?;
        let elements: i64 = sizes.iter().try_fold(1i64, |n, size| n.checked_mul(size.as_const()?)).unwrap_or(i64::MAX);
        let bytes = elements.saturating_mul((ty.dtype.bits() as i64 / 8).max(1));
        let place = |address: &Value| {
            let address = address.number()?.as_const().filter(|at| (0..1 << 40).contains(at))?;
            let root = Root::Local { space: ty.space, address, bytes };
            Some(Value::Array(Array::dense(root, ty.dtype, sizes.clone())))
        };
        address.map(&mut { place }).ok_or_else(|| text.fault("the address is not known"))
    }
}

/// 1 or 0 by a comparison of integers.
fn compare(predicate: &str, a: &Dim, b: &Dim) -> Option<Dim> {
    Some(match predicate {
        "eq" => super::value::equal(a, b),
        "ne" => Dim::ONE - super::value::equal(a, b),
        "slt" | "ult" => less(a, b),
        "sgt" | "ugt" => less(b, a),
        "sle" | "ule" => Dim::ONE - less(b, a),
        "sge" | "uge" => Dim::ONE - less(a, b),
        _ => return None,
    })
}
