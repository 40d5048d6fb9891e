//! What an instruction costs for given sizes: computed once per instruction and sizes.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_tile::{
    machine::{Cost, Extent, MoveShape},
    optable::Class,
};

use crate::{
    SimError,
    code::{Code, Work},
    memory::{Geometry, MemoryCode},
};

/// Rows of a matrix in device memory are best this many bytes apart.
pub(crate) const LINE: i64 = 512;

/// The cost of one instruction at certain sizes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Price {
    pub cost: Cost,
    /// Bytes on its path, for moves.
    pub moved: f64,
    /// Bytes from or to the part of device memory that each core has for itself.
    pub local_read: f64,
    pub local_written: f64,
    /// Multiplications and additions of matrix products, and cycles that the unit needs at least for them.
    pub matrix_flops: f64,
    /// Elements of everything else that computes.
    pub vector_flops: f64,
    /// One entry per access to a buffer.
    pub memory: SmallVec<[Geometry; 1]>,
    /// Tiles, with slots, that are read and written where that makes the next instruction wait for this one.
    pub reads: SmallVec<[(u32, i64); 3]>,
    pub writes: SmallVec<[(u32, i64); 2]>,
}

/// Number of a [`Price`].
pub(crate) type PriceId = u32;

/// All prices asked for so far.
#[derive(Default)]
pub(crate) struct Prices {
    all: Vec<Price>,
    known: Vec<FxHashMap<SmallVec<[i64; 8]>, PriceId>>,
    last: Vec<Option<(SmallVec<[i64; 8]>, PriceId)>>,
}

impl Prices {
    /// None yet, for the instructions of a kernel.
    pub fn new(code: &Code<'_>) -> Prices {
        let works = code.works.len();
        Prices { all: Vec::new(), known: vec![FxHashMap::default(); works], last: vec![None; works] }
    }

    /// The price of this number.
    pub fn get(&self, id: PriceId) -> &Price {
        &self.all[id as usize]
    }

    /// The number of the price of an instruction under these values of the variables.
    ///
    /// # Errors
    /// If the machine does not run it.
    pub fn find(&mut self, code: &Code<'_>, work: usize, vars: &[i64]) -> Result<PriceId, SimError> {
        let key: SmallVec<[i64; 8]> = code.works[work].key.iter().map(|expr| expr.eval(vars)).collect();
        if let Some((last, id)) = &self.last[work]
            && *last == key
        {
            return Ok(*id);
        }
        let id = match self.known[work].get(&key) {
            Some(&id) => id,
            None => {
                let id = self.all.len() as PriceId;
                self.all.push(price(code, &code.works[work], vars)?);
                self.known[work].insert(key.clone(), id);
                id
            }
        };
        self.last[work] = Some((key, id));
        Ok(id)
    }
}

fn price(code: &Code<'_>, work: &Work<'_>, vars: &[i64]) -> Result<Price, SimError> {
    let mut price = Price::default();
    let mut extents: SmallVec<[Extent; 4]> = SmallVec::new();
    for operand in &work.operands {
        let size: SmallVec<[i64; 4]> = operand.size.iter().map(|expr| expr.eval(vars)).collect();
        let mut extent = Extent { size, address: None };
        if let Some(tile) = &operand.tile {
            let slot = tile.slot.eval(vars);
            extent.address = tile.address.map(|address| address + tile.slot_bytes * slot.max(0) as usize);
            let bytes = extent.elements() * operand.bits as f64 / 8.0;
            if tile.backed {
                *(if operand.written { &mut price.local_written } else { &mut price.local_read }) += bytes;
            }
            let held = (tile.tile.0, slot);
            if operand.read {
                price.reads.push(held);
            }
            if operand.written {
                price.writes.push(held);
            }
        }
        extents.push(extent);
    }
    let line = work.path.and_then(|path| code.machine.paths[path].line_bytes);
    let geometry = |access: &MemoryCode| match line {
        Some(line) => access.geometry(vars).through_lines(i64::from(line)),
        None => access.geometry(vars),
    };
    price.memory = work.memory.iter().map(geometry).collect();
    let fault = |reason: String| SimError::Kernel { kernel: code.kernel.name.clone(), reason };
    match work.path {
        Some(path) => {
            let start = work.memory.first().map_or(0, |access| access.alignment);
            move_price(code, work, path, &extents, start, &mut price);
        }
        None => {
            price.cost = code.machine.instr_cost(code.kernel, work.instr, &extents).map_err(fault)?;
            operations(work, &extents, &mut price);
        }
    }
    if matches!(work.class, Class::Move | Class::Matrix) {
        // Consecutive moves and products of one pipe do not wait for each other's results.
        price.reads.clear();
        price.writes.clear();
    }
    Ok(price)
}

fn move_price(code: &Code<'_>, work: &Work<'_>, path: usize, extents: &[Extent], start: i64, price: &mut Price) {
    let bytes = |at: usize| extents.get(at).map_or(0.0, Extent::elements) * work.operands[at].bits as f64 / 8.0;
    let (written, read) = (bytes(0), bytes(work.operands.len() - 1));
    let layout = |operand| code.kernel.layout_of(operand);
    let relaid = layout(&work.instr.dst[0]) != layout(&work.instr.src[0]);
    let shape = match price.memory.iter().max_by(|a, b| a.bytes.total_cmp(&b.bytes)) {
        Some(memory) => MoveShape {
            bytes: memory.bytes,
            bursts: memory.runs(),
            burst_bytes: memory.run as f64,
            aligned: memory.aligned(LINE),
            alignment: memory.alignment(start, LINE),
            relaid,
            window: None,
        },
        None if price.local_written > 0.0 => MoveShape {
            bytes: written,
            bursts: 1.0,
            burst_bytes: written,
            aligned: true,
            relaid,
            ..MoveShape::default()
        },
        None => {
            MoveShape { bytes: read, bursts: 1.0, burst_bytes: read, aligned: true, relaid, ..MoveShape::default() }
        }
    };
    price.cost = code.machine.move_cost(&code.machine.paths[path], &shape);
    price.moved = shape.bytes;
}

/// How much is computed.
fn operations(work: &Work<'_>, extents: &[Extent], price: &mut Price) {
    let elements = extents.iter().map(Extent::elements).fold(0.0, f64::max);
    match (work.class, extents) {
        (Class::Matrix, [acc, left, ..]) => {
            let rows = acc.size.first().map_or(1.0, |&m| m.max(1) as f64);
            price.matrix_flops = 2.0 * acc.elements() * left.elements() / rows;
        }
        (Class::Pointwise | Class::Reduce | Class::Scan | Class::Sort | Class::Random, _) => {
            price.vector_flops = elements;
        }
        _ => {}
    }
}
