//! Work items: the interpreter of decoded kernels, and what each thread of a pool needs for it.

use std::cell::UnsafeCell;

use rustc_hash::FxHashMap;

use super::block::Block;
use super::code::{Code, Op, OperandId};
use super::copy::{self, End, encode};
use super::index::{self, Table};
use super::matrix::{Blocks, Matrix, MatrixForm};
use super::mmad;
use super::nest::Array;
use super::operand::{Form, Memory, Operand};
use super::order;
use super::reduce::{self, Extreme, Running};
use super::vector;
use crate::cpu::Isa;

/// Operands of one instruction.
const SLOTS: usize = 4;

/// The state of one thread: registers, scratch memories, working memory that keeps its capacity.
#[derive(Debug)]
pub struct Worker {
    registers: Vec<i64>,
    pointers: Vec<*mut u8>,
    scratch: Block,
    /// Dense copies of operands that an instruction cannot read where they are.
    spill: [Block; SLOTS],
    /// Immediates, as arrays of one element.
    numbers: Block,
    room: Vec<(u64, i64)>,
    events: FxHashMap<(u32, i64), i64>,
    launch: u64,
}

/// The workers of a pool.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<UnsafeCell<Worker>>,
    launch: u64,
}

// SAFETY: a worker is only touched by the one thread that has its number while a pool runs (see `Workers::run_item`).
unsafe impl Sync for Workers {}
// SAFETY: the pointers in a worker are to memory it owns or that is set before each launch.
unsafe impl Send for Workers {}

/// A kernel with values for its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The decoded kernel.
    pub code: &'a Code,
    /// Register values before the first work item.
    pub registers: &'a [i64],
    /// Sizes of the grid's axes.
    pub grid: &'a [usize],
    /// Addresses of the parameters.
    pub args: &'a [*mut u8],
    /// Instructions to use.
    pub isa: Isa,
    /// Added to the seeds of random streams.
    pub seed: i64,
}

// SAFETY: the addresses are only used by work items, which access them as the kernel says.
unsafe impl Sync for Launch<'_> {}

impl Workers {
    /// Workers for this many threads with this much scratch memory each; `None` if the system refuses the memory.
    pub fn new(threads: usize, scratch_bytes: usize) -> Option<Workers> {
        let worker = || {
            Some(UnsafeCell::new(Worker {
                registers: Vec::new(),
                pointers: Vec::new(),
                scratch: Block::new(scratch_bytes)?,
                spill: [Block::empty(), Block::empty(), Block::empty(), Block::empty()],
                numbers: Block::new(SLOTS * 8)?,
                room: Vec::new(),
                events: FxHashMap::default(),
                launch: 0,
            }))
        };
        Some(Workers { workers: (0..threads.max(1)).map(|_| worker()).collect::<Option<_>>()?, launch: 0 })
    }

    /// Begins a launch: every worker sets up its registers before its first item.
    pub fn begin(&mut self) {
        self.launch += 1;
        self.level();
    }

    /// Gives every worker as much working memory as any has needed so far: which of them takes part in a launch is chance, and a
    /// program that has run must not allocate again because another worker comes to help.
    fn level(&mut self) {
        let most = self.workers.iter_mut().map(|worker| worker.get_mut().capacities());
        let most = most.fold([0; SLOTS + 3], |most, each| std::array::from_fn(|i| most[i].max(each[i])));
        for worker in &mut self.workers {
            let worker = worker.get_mut();
            if worker.capacities() != most {
                worker.grow(most);
            }
        }
    }

    /// Runs one work item.
    ///
    /// # Errors
    /// What went wrong, for instance an index out of range.
    ///
    /// # Safety
    /// Nobody else uses this worker meanwhile; the arguments point to as many elements as the parameters have.
    pub unsafe fn run_item(&self, worker: usize, item: usize, launch: &Launch) -> Result<(), String> {
        // SAFETY: the caller's contract.
        let worker = unsafe { &mut *self.workers[worker].get() };
        if worker.launch != self.launch {
            worker.prepare(launch)?;
            worker.launch = self.launch;
        }
        let mut rest = item;
        for (&(var, _), &size) in launch.code.grid.iter().zip(launch.grid).rev() {
            worker.registers[var as usize] = (rest % size.max(1)) as i64;
            rest /= size.max(1);
        }
        // SAFETY: the caller's contract.
        unsafe { Core { launch, code: launch.code, worker }.run() }
    }
}

impl Worker {
    /// Sizes of the spill blocks, and capacities of registers, pointers and room to sort.
    fn capacities(&self) -> [usize; SLOTS + 3] {
        let [a, b, c, d] = [0, 1, 2, 3].map(|slot: usize| self.spill[slot].len());
        [a, b, c, d, self.registers.capacity(), self.pointers.capacity(), self.room.capacity()]
    }

    fn grow(&mut self, [a, b, c, d, registers, pointers, room]: [usize; SLOTS + 3]) {
        for (block, bytes) in self.spill.iter_mut().zip([a, b, c, d]) {
            // A block that cannot be had now is asked for again where it is needed.
            let _ = block.reserve(bytes);
        }
        self.registers.clear();
        self.registers.reserve_exact(registers);
        self.pointers.clear();
        self.pointers.reserve_exact(pointers);
        self.room.clear();
        self.room.reserve_exact(room);
    }

    fn prepare(&mut self, launch: &Launch) -> Result<(), String> {
        if !self.scratch.reserve(launch.code.scratch_bytes) {
            return Err("there is not enough memory for the tiles".to_owned());
        }
        self.events.clear();
        self.registers.clear();
        self.registers.extend_from_slice(launch.registers);
        self.pointers.clear();
        let base = self.scratch.as_ptr();
        self.pointers.extend(launch.code.tiles.iter().map(|&offset| base.wrapping_add(offset)));
        self.pointers.extend_from_slice(launch.args);
        Ok(())
    }
}

struct Core<'a, 'w> {
    launch: &'a Launch<'a>,
    code: &'a Code,
    worker: &'w mut Worker,
}

impl<'a> Core<'a, '_> {
    /// # Safety
    /// As for [`Workers::run_item`].
    unsafe fn run(&mut self) -> Result<(), String> {
        let code = self.code;
        let mut pc = 0usize;
        while let Some(op) = code.ops.get(pc) {
            pc += 1;
            match *op {
                Op::Calc(scope) => code.calcs.run(scope, &mut self.worker.registers),
                Op::Loop { var, end, exit } => {
                    self.worker.registers[var as usize] = 0;
                    if self.register(end) <= 0 {
                        pc = exit as usize;
                    }
                }
                Op::Next { var, end, step, head } => {
                    let next = self.register(var).saturating_add(step);
                    self.worker.registers[var as usize] = next;
                    if next < self.register(end) {
                        pc = head as usize;
                    }
                }
                Op::Branch { condition, otherwise } => {
                    if self.register(condition) <= 0 {
                        pc = otherwise as usize;
                    }
                }
                Op::Jump(to) => pc = to as usize,
                // SAFETY: the caller's contract.
                ref op => unsafe { self.instruction(op) }.map_err(|reason| format!("{op:?}: {reason}"))?,
            }
        }
        self.finish_events()
    }

    fn register(&self, register: u32) -> i64 {
        self.worker.registers[register as usize]
    }

    unsafe fn instruction(&mut self, op: &Op) -> Result<(), String> {
        let isa = self.launch.isa;
        // SAFETY: `source` and `destination` check that arrays lie inside of their memory.
        unsafe {
            match *op {
                Op::Copy { dst, src, rows } => self.copy(dst, src, rows as usize),
                Op::Unary { function, dst, a } => {
                    let d = self.destination(dst, 0, false)?;
                    let a = self.source(a, 1, d.rank)?;
                    vector::unary(isa, function, &d, &a)?;
                    self.settle(dst, &d)
                }
                Op::Binary { function, dst, a, b } => {
                    let d = self.destination(dst, 0, false)?;
                    let (a, b) = (self.source(a, 1, d.rank)?, self.source(b, 2, d.rank)?);
                    vector::binary(isa, function, &d, &a, &b)?;
                    self.settle(dst, &d)
                }
                Op::Select { dst, condition: a, a: b, b: c } | Op::MulAdd { dst, a, b, c } => {
                    let d = self.destination(dst, 0, false)?;
                    let (a, b) = (self.source(a, 1, d.rank)?, self.source(b, 2, d.rank)?);
                    let c = self.source(c, 3, d.rank)?;
                    match op {
                        Op::Select { .. } => vector::select(isa, &d, &a, &b, &c)?,
                        _ => vector::mul_add(isa, &d, &a, &b, &c)?,
                    }
                    self.settle(dst, &d)
                }
                Op::Reduce { function, axis, accumulate, dst, src } => {
                    let d = self.destination(dst, 0, accumulate)?;
                    let src = self.source(src, 1, d.rank)?;
                    reduce::reduce(isa, function, axis as usize, accumulate, &d, &src)?;
                    self.settle(dst, &d)
                }
                Op::Mmad { accumulate, dst, a, b } => self.mmad(accumulate, dst, a, b),
                Op::Event { pipes, event, change } => self.event(pipes, self.register(event), change),
                _ => self.structured(op),
            }
        }
    }

    unsafe fn structured(&mut self, op: &Op) -> Result<(), String> {
        // SAFETY: as in `instruction`.
        unsafe {
            match *op {
                Op::Iota { dst, start, axis, step } => {
                    let d = self.destination(dst, 0, false)?;
                    if axis as usize >= d.rank {
                        return Err(format!("there is no axis {axis}"));
                    }
                    vector::iota(&d, axis as usize, self.register(start), step);
                    self.settle(dst, &d)
                }
                Op::Random { normal, seed, dst, start } => {
                    let d = self.destination(dst, 0, false)?;
                    vector::random(&d, normal, seed.wrapping_add(self.launch.seed), self.register(start));
                    self.settle(dst, &d)
                }
                Op::RandomAt { normal, seed, dst, src } => {
                    let d = self.destination(dst, 0, false)?;
                    let places = self.source(src, 1, d.rank)?;
                    vector::random_at(&d, &places, normal, seed.wrapping_add(self.launch.seed))?;
                    self.settle(dst, &d)
                }
                Op::ArgReduce { function, axis, last, accumulate, value, index, src, base } => {
                    let (v, i) = (self.destination(value, 0, accumulate)?, self.destination(index, 1, accumulate)?);
                    let src = self.source(src, 2, v.rank)?;
                    let how = Extreme { function, axis: axis as usize, last, accumulate, base: self.register(base) };
                    reduce::arg_reduce(self.launch.isa, how, &v, &i, &src)?;
                    self.settle(value, &v)?;
                    self.settle(index, &i)
                }
                Op::Scan { function, axis, exclusive, reverse, dst, src, first } => {
                    let d = self.destination(dst, 0, false)?;
                    let (src, first) = (self.source(src, 1, d.rank)?, self.source(first, 2, d.rank)?);
                    let how = Running { function, axis: axis as usize, exclusive, reverse };
                    reduce::scan(self.launch.isa, how, &d, &src, &first)?;
                    self.settle(dst, &d)
                }
                Op::Sort { descending, values, indices, src } => {
                    let (v, i) = (self.destination(values, 0, false)?, self.destination(indices, 1, false)?);
                    let src = self.source(src, 2, v.rank)?;
                    order::sort(descending, &v, &i, &src, &mut self.worker.room)?;
                    self.settle(values, &v)?;
                    self.settle(indices, &i)
                }
                _ => self.indexed(op),
            }
        }
    }

    unsafe fn indexed(&mut self, op: &Op) -> Result<(), String> {
        // SAFETY: as in `instruction`; tables check every index.
        unsafe {
            match *op {
                Op::Gather { dst, table, axes, index } => {
                    let (d, index) = (self.destination(dst, 0, false)?, self.source(index, 1, 1)?);
                    index::gather(self.launch.isa, &d, &self.table(table, axes)?, &index)?;
                    self.settle(dst, &d)
                }
                Op::Scatter { function, table, axes, src, index } => {
                    let (src, index) = (self.source(src, 0, 1)?, self.source(index, 1, 1)?);
                    index::scatter(self.launch.isa, function, &self.table(table, axes)?, &src, &index)
                }
                Op::SelectRows { dst, src, equal, base, count, bound } => {
                    let d = self.destination(dst, 0, true)?;
                    let src = self.source(src, 1, 1)?;
                    let found = index::select_rows(&d, &src, self.register(equal), self.register(base))?;
                    self.define(count, found, bound)?;
                    self.settle(dst, &d)
                }
                Op::ReadScalar { src, to, bound } => {
                    let src = self.source(src, 0, 1)?;
                    self.define(to, index::read_scalar(&src)?, bound)
                }
                _ => Err("not an instruction".to_owned()),
            }
        }
    }

    fn define(&mut self, register: u32, value: i64, bound: u32) -> Result<(), String> {
        let bound = self.register(bound);
        if !(0..=bound).contains(&value) {
            return Err(format!("the scalar is {value}, which is not between 0 and {bound}"));
        }
        self.worker.registers[register as usize] = value;
        Ok(())
    }

    fn table(&self, id: OperandId, axes: u32) -> Result<Table<'_>, String> {
        let (Operand::Memory(memory), registers) = (&self.code.operands[id as usize], &self.worker.registers) else {
            return Err("a table is not a number".to_owned());
        };
        let array = memory.array(registers, &self.worker.pointers);
        Ok(Table { array, axes: &self.code.tables[axes as usize], registers })
    }

    unsafe fn copy(&mut self, dst: OperandId, src: OperandId, rows: usize) -> Result<(), String> {
        // SAFETY: `end` checks that arrays lie inside of their memory.
        unsafe {
            let dst = self.memory(dst)?;
            match &self.code.operands[src as usize] {
                Operand::Memory(from) => copy::copy(self.launch.isa, &self.end(dst)?, &self.end(from)?, rows),
                _ => {
                    let single = End::Strided(self.source(src, 1, dst.size.len())?);
                    copy::copy(self.launch.isa, &self.end(dst)?, &single, rows)
                }
            }
        }
    }

    unsafe fn mmad(&mut self, accumulate: bool, dst: OperandId, a: OperandId, b: OperandId) -> Result<(), String> {
        // SAFETY: `matrix` checks that matrices lie inside of their memory.
        unsafe {
            let (d, a) = (self.matrix(dst, 0, accumulate)?, self.matrix(a, 1, true)?);
            let b = self.matrix(b, 2, true)?;
            mmad::mmad(self.launch.isa, accumulate, &d.0, &a.0, &b.0)?;
            d.1.map_or(Ok(()), |spilled| self.settle(dst, &spilled))
        }
    }

    fn memory(&self, id: OperandId) -> Result<&'a Memory, String> {
        match &self.code.operands[id as usize] {
            Operand::Memory(memory) => Ok(memory),
            _ => Err("a number is no memory".to_owned()),
        }
    }

    /// An end of a move, checked.
    fn end<'e>(&'e self, memory: &'e Memory) -> Result<End<'e>, String> {
        let registers = &self.worker.registers[..];
        let array = memory.array(registers, &self.worker.pointers);
        match &memory.form {
            Form::Strided if memory.contains(&array, registers) => Ok(End::Strided(array)),
            Form::Clipped(clip) if !clip.is_inside(array.shape(), registers) => {
                Ok(End::Clipped(array, clip, registers))
            }
            Form::Clipped(_) if memory.contains(&array, registers) => Ok(End::Strided(array)),
            Form::Blocked(blocked) => {
                let length = registers[memory.length as usize];
                let blocks = Blocks::of(blocked, array.at, [array.size[0], array.size[1]], registers, length);
                Ok(End::Blocked(array, blocks.ok_or_else(|| outside(&array, length))?))
            }
            _ => Err(outside(&array, registers[memory.length as usize])),
        }
    }

    /// A source as a strided array; what is not one is copied.
    #[inline]
    unsafe fn source(&mut self, id: OperandId, slot: usize, rank: usize) -> Result<Array, String> {
        let code = self.code;
        let (bits, dtype) = match &code.operands[id as usize] {
            // SAFETY: the caller's contract.
            Operand::Memory(memory) => return unsafe { self.strided(memory, slot, true) },
            Operand::Number(bits, dtype) => (*bits, *dtype),
            Operand::Index(register, dtype) => {
                let value = self.register(*register);
                (if dtype.is_float() { encode(*dtype, value as f64) } else { value as u64 }, *dtype)
            }
        };
        // SAFETY: the block holds one element of 8 bytes per slot; the machine is little-endian.
        unsafe {
            let place = self.worker.numbers.as_ptr().add(slot * 8);
            *place.cast::<u64>() = bits;
            Ok(Array::single(place, dtype, rank))
        }
    }

    /// A destination as a strided array; `keep` if what it holds matters.
    unsafe fn destination(&mut self, id: OperandId, slot: usize, keep: bool) -> Result<Array, String> {
        let code = self.code;
        match &code.operands[id as usize] {
            // SAFETY: the caller's contract.
            Operand::Memory(memory) => unsafe { self.strided(memory, slot, keep) },
            _ => Err("a number is no destination".to_owned()),
        }
    }

    #[inline]
    unsafe fn strided(&mut self, memory: &Memory, slot: usize, read: bool) -> Result<Array, String> {
        if let Form::Strided = memory.form {
            let array = memory.array(&self.worker.registers, &self.worker.pointers);
            if memory.contains(&array, &self.worker.registers) {
                return Ok(array);
            }
        }
        // SAFETY: the caller's contract.
        unsafe { self.spilled(memory, slot, read) }
    }

    #[cold]
    unsafe fn spilled(&mut self, memory: &Memory, slot: usize, read: bool) -> Result<Array, String> {
        let (count, shape) = match self.end(memory)? {
            End::Strided(array) => return Ok(array),
            end => (end.array().count(), *end.array()),
        };
        let bytes = memory.dtype.bytes_of(count).ok_or("an operand is larger than memory")?;
        if !self.worker.spill[slot].reserve(bytes) {
            return Err("there is not enough memory for an operand".to_owned());
        }
        let dense = Array::dense(self.worker.spill[slot].as_ptr(), memory.dtype, shape.shape());
        if read {
            // SAFETY: the block was made large enough.
            unsafe { copy::copy(self.launch.isa, &End::Strided(dense), &self.end(memory)?, 1)? };
        }
        Ok(dense)
    }

    /// Moves a destination that was computed elsewhere to its place.
    #[inline]
    unsafe fn settle(&mut self, id: OperandId, computed: &Array) -> Result<(), String> {
        let memory = self.memory(id)?;
        if let Form::Strided = memory.form {
            return Ok(());
        }
        match self.end(memory)? {
            End::Strided(_) => Ok(()),
            // SAFETY: `end` checked the destination, `spilled` the source.
            end => unsafe { copy::copy(self.launch.isa, &end, &End::Strided(*computed), 1) },
        }
    }

    /// A matrix, and the dense copy if it could not be used where it is.
    unsafe fn matrix(&mut self, id: OperandId, slot: usize, read: bool) -> Result<(Matrix, Option<Array>), String> {
        let code = self.code;
        let Operand::Memory(memory) = &code.operands[id as usize] else {
            return Err("a number is no matrix".to_owned());
        };
        if memory.size.len() < 2 {
            return Err("a matrix has two axes".to_owned());
        }
        match self.end(memory)? {
            End::Strided(array) => {
                let array = array.with_columns_joined().ok_or("the columns of a matrix are not one axis")?;
                Ok((Matrix::strided(&array), None))
            }
            End::Blocked(array, blocks) => {
                let size = [array.size[0], array.size[1]];
                let form = MatrixForm::Blocked(blocks);
                Ok((Matrix { base: array.base, dtype: array.dtype, size, form }, None))
            }
            // SAFETY: the caller's contract.
            End::Clipped(..) => unsafe {
                let dense = self.spilled(memory, slot, read)?;
                Ok((Matrix::strided(&dense), Some(dense)))
            },
        }
    }

    fn event(&mut self, pipes: u32, event: i64, change: i8) -> Result<(), String> {
        let pending = self.worker.events.entry((pipes, event)).or_default();
        *pending += i64::from(change);
        if *pending < 0 {
            return Err(format!("event {event} is awaited before it is signalled"));
        }
        Ok(())
    }

    fn finish_events(&mut self) -> Result<(), String> {
        let pending = self.worker.events.values().any(|&pending| pending != 0);
        self.worker.events.clear();
        if pending { Err("an event is signalled but never awaited".to_owned()) } else { Ok(()) }
    }
}

#[cold]
fn outside(array: &Array, length: i64) -> String {
    let (shape, stride) = (array.shape(), &array.stride[..array.rank]);
    format!(
        "elements from {} on, {shape:?} at distances {stride:?}, are outside of memory of {length} elements",
        array.at
    )
}
