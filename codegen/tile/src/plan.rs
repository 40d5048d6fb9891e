//! The memory plan: where temporary buffers lie, as a function of the symbols.
//!
//! ```text
//! Plan::new(program)          lifetimes in steps, pairs that may share memory      once per program
//!   └─ bind(symbols, limit)   Arena: a place for every buffer of known size        once per set of shapes
//!        └─ extend(symbols)   one more segment: buffers whose size a host step has just bound
//! ```
//!
//! Buffers are placed first-fit, largest first, at multiples of [`ALIGNMENT`]; two share bytes only if no step needs both, or
//! if a launch may work in place. The body of a nested program has its own plan. String buffers have no bytes here.

use std::fmt::Write as _;

use tarsia_tensor::{DType, Dim, EvalError, Symbol};
use thiserror::Error;

use crate::{Buffer, BufferId, BufferKind, Layout, Port, Program, Step};

/// Buffers start at multiples of this many bytes.
pub const ALIGNMENT: usize = 64;

/// Lifetimes of a program's temporary buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    items: Vec<Item>,
    /// Pairs (earlier, later) of items that may share memory, in order of steps.
    shared: Vec<(usize, usize)>,
    buffers: usize,
    steps: usize,
}

/// One temporary buffer.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    buffer: BufferId,
    name: String,
    dtype: DType,
    shape: Vec<Dim>,
    layout: Layout,
    /// First and last step that need it.
    first: usize,
    last: usize,
}

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which allocation.
    pub segment: usize,
    /// Byte offset in it.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
}

/// Places of the buffers under one binding of the symbols.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Arena {
    /// Bytes of each allocation: the first for what the inputs' shapes determine, one more for each [`Plan::extend`].
    pub segments: Vec<usize>,
    /// By buffer: its place; none for inputs, constants, strings, unused buffers, and those whose size is not known yet.
    pub places: Vec<Option<Place>>,
}

/// Why buffers cannot be placed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// A size is negative or does not fit.
    #[error("the buffer `{buffer}` cannot have {size} elements on an axis: sizes are at least 0")]
    Negative {
        /// Its name.
        buffer: String,
        /// The axis' size.
        size: i64,
    },
    /// The byte count overflows.
    #[error("the size of buffer `{buffer}` overflows")]
    Overflow {
        /// Its name.
        buffer: String,
    },
    /// A size has no value.
    #[error("the size of buffer `{buffer}`: {error}")]
    Size {
        /// Its name.
        buffer: String,
        /// Why.
        error: EvalError,
    },
    /// More memory than allowed.
    #[error(
        "the program's temporary buffers take {needed} bytes, more than the limit of {limit}; the largest is `{largest}`"
    )]
    Limit {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
        /// Name of the largest buffer.
        largest: String,
    },
}

impl Plan {
    /// The lifetimes in a program. References that are out of range are ignored (the verifier reports them).
    pub fn new(program: &Program) -> Plan {
        let mut spans: Vec<Option<(usize, usize)>> = vec![None; program.buffers.len()];
        let mut touch = |buffer: BufferId, step: usize| {
            if let Some(span) = spans.get_mut(buffer.0 as usize) {
                *span = Some(span.map_or((step, step), |(first, last)| (first.min(step), last.max(step))));
            }
        };
        for (at, step) in program.steps.iter().enumerate() {
            step.operands().chain(step.results()).for_each(|buffer| touch(buffer, at));
        }
        program.outputs.iter().for_each(|port| touch(port.buffer, program.steps.len()));
        let mut items = Vec::new();
        let mut index = vec![None; program.buffers.len()];
        for (at, (buffer, span)) in program.buffers.iter().zip(spans).enumerate() {
            if let (BufferKind::Temporary, Some(span), true) = (buffer.kind, span, buffer.dtype.bits() > 0) {
                index[at] = Some(items.len());
                items.push(Item::new(at, buffer, span));
            }
        }
        let shared = shared_pairs(program, &items, &index);
        Plan { items, shared, buffers: program.buffers.len(), steps: program.steps.len() }
    }

    /// First and last step (the number of steps stands for the caller) that need a buffer; `None` if it is not in the arena.
    pub fn lifetime(&self, buffer: BufferId) -> Option<(usize, usize)> {
        self.items.iter().find(|item| item.buffer == buffer).map(|item| (item.first, item.last))
    }

    /// Places every buffer whose size the bound symbols determine.
    ///
    /// # Errors
    /// If a size is negative or overflows, or all together take more than `limit` bytes.
    pub fn bind(&self, bind: &dyn Fn(&Symbol) -> Option<i64>, limit: usize) -> Result<Arena, PlanError> {
        let mut arena = Arena { segments: Vec::new(), places: vec![None; self.buffers] };
        self.extend(&mut arena, bind, limit)?;
        Ok(arena)
    }

    /// Places, in a segment of their own, the buffers whose sizes have become known since; the others stay where they are.
    ///
    /// # Errors
    /// As [`Plan::bind`]; the limit is on all segments together. The arena is unchanged then.
    pub fn extend(
        &self,
        arena: &mut Arena,
        bind: &dyn Fn(&Symbol) -> Option<i64>,
        limit: usize,
    ) -> Result<(), PlanError> {
        let sizes = self.items.iter().map(|item| match arena.places.get(item.buffer.0 as usize) {
            Some(None) => item.bytes(bind),
            _ => Ok(None),
        });
        let sizes: Vec<Option<usize>> = sizes.collect::<Result<_, _>>()?;
        let groups = self.groups(&sizes);
        let (offsets, bytes) = first_fit(&groups).ok_or_else(|| self.overflow(&sizes))?;
        let needed = arena.segments.iter().try_fold(bytes, |sum, &segment| sum.checked_add(segment));
        let needed = needed.ok_or_else(|| self.overflow(&sizes))?;
        if needed > limit {
            return Err(PlanError::Limit { needed, limit, largest: self.largest(&sizes) });
        }
        let segment = arena.segments.len();
        arena.segments.push(bytes);
        for (group, offset) in groups.iter().zip(offsets) {
            for &member in &group.members {
                let place = sizes[member].map(|bytes| Place { segment, offset, bytes });
                arena.places[self.items[member].buffer.0 as usize] = place;
            }
        }
        Ok(())
    }

    /// The plan as a table: lifetime, size, and, under a binding, offset of every temporary buffer.
    pub fn print(&self, arena: Option<&Arena>) -> String {
        let mut text = String::new();
        for item in &self.items {
            let shape: Vec<String> = item.shape.iter().map(ToString::to_string).collect();
            let last = if item.last == self.steps { "end".to_owned() } else { item.last.to_string() };
            let _ = write!(
                text,
                "{:24} {}[{}] {}  steps {}..={last}",
                item.name,
                item.dtype,
                shape.join(", "),
                item.layout,
                item.first
            );
            match arena.and_then(|arena| arena.places.get(item.buffer.0 as usize).copied().flatten()) {
                Some(Place { segment, offset, bytes }) => {
                    let _ = writeln!(text, "  {bytes} bytes at {segment}:{offset}");
                }
                None => text.push('\n'),
            }
        }
        for &(earlier, later) in &self.shared {
            let _ = writeln!(text, "in place: {} -> {}", self.items[earlier].name, self.items[later].name);
        }
        if let Some(arena) = arena {
            let _ =
                writeln!(text, "arena: {} bytes; most alive at once: {} bytes", arena.bytes(), self.most_alive(arena));
        }
        text
    }

    /// The most bytes that any step needs at once: a lower bound of the arena (without sharing in place).
    pub fn most_alive(&self, arena: &Arena) -> usize {
        let bytes =
            |item: &Item| arena.places.get(item.buffer.0 as usize).copied().flatten().map_or(0, |place| place.bytes);
        let alive = |step: usize| {
            let items = self.items.iter().filter(|item| item.first <= step && step <= item.last);
            items.map(bytes).fold(0usize, usize::saturating_add)
        };
        (0..=self.steps).map(alive).max().unwrap_or(0)
    }

    /// Items with known sizes, those that share memory in place together.
    fn groups(&self, sizes: &[Option<usize>]) -> Vec<Group> {
        let mut root: Vec<usize> = (0..self.items.len()).collect();
        for &(earlier, later) in &self.shared {
            // The later one has to fit into what the earlier one has already.
            if let (Some(a), Some(b)) = (sizes[root[earlier]], sizes[later])
                && b <= a
            {
                root[later] = root[earlier];
            }
        }
        let mut groups: Vec<Option<Group>> = self.items.iter().map(|_| None).collect();
        for (at, item) in self.items.iter().enumerate() {
            let Some(bytes) = sizes[at] else { continue };
            let new = || Group { first: item.first, last: item.last, bytes, members: Vec::new() };
            let group = groups[root[at]].get_or_insert_with(new);
            group.first = group.first.min(item.first);
            group.last = group.last.max(item.last);
            group.bytes = group.bytes.max(bytes);
            group.members.push(at);
        }
        groups.into_iter().flatten().collect()
    }

    fn largest(&self, sizes: &[Option<usize>]) -> String {
        let largest = (0..sizes.len()).max_by_key(|&at| sizes[at]);
        largest.map(|at| self.items[at].name.clone()).unwrap_or_default()
    }

    fn overflow(&self, sizes: &[Option<usize>]) -> PlanError {
        PlanError::Overflow { buffer: self.largest(sizes) }
    }
}

impl Arena {
    /// Bytes of all segments.
    pub fn bytes(&self) -> usize {
        self.segments.iter().copied().fold(0, usize::saturating_add)
    }

    /// The place of a buffer.
    pub fn place(&self, buffer: BufferId) -> Option<Place> {
        self.places.get(buffer.0 as usize).copied().flatten()
    }
}

impl Item {
    fn new(at: usize, buffer: &Buffer, (first, last): (usize, usize)) -> Item {
        Item {
            buffer: BufferId(at as u32),
            name: buffer.name.clone(),
            dtype: buffer.dtype,
            shape: buffer.shape.clone(),
            layout: buffer.layout,
            first,
            last,
        }
    }

    /// The byte count, or `None` if a symbol is not bound yet.
    fn bytes(&self, bind: &dyn Fn(&Symbol) -> Option<i64>) -> Result<Option<usize>, PlanError> {
        match buffer_bytes(&self.name, self.dtype, &self.shape, &self.layout, bind) {
            Err(PlanError::Size { error: EvalError::Unbound(_), .. }) => Ok(None),
            other => other.map(Some),
        }
    }
}

impl Buffer {
    /// The bytes this buffer takes under a binding of the symbols.
    ///
    /// # Errors
    /// If a symbol is not bound, a size is negative, or the product overflows.
    pub fn bytes(&self, bind: &dyn Fn(&Symbol) -> Option<i64>) -> Result<usize, PlanError> {
        buffer_bytes(&self.name, self.dtype, &self.shape, &self.layout, bind)
    }
}

fn buffer_bytes(
    name: &str,
    dtype: DType,
    shape: &[Dim],
    layout: &Layout,
    bind: &dyn Fn(&Symbol) -> Option<i64>,
) -> Result<usize, PlanError> {
    let mut sizes: smallvec::SmallVec<[usize; 6]> = smallvec::SmallVec::new();
    for dim in shape {
        let size = dim.eval(bind).map_err(|error| PlanError::Size { buffer: name.to_owned(), error })?;
        sizes.push(usize::try_from(size).map_err(|_| PlanError::Negative { buffer: name.to_owned(), size })?);
    }
    // Beyond the largest allocation that the allocator interface knows is as good as overflow.
    let bytes = layout.elements(&sizes).and_then(|count| dtype.bytes_of(count));
    bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| PlanError::Overflow { buffer: name.to_owned() })
}

impl Step {
    /// The buffers the step reads, and those it both reads and writes; a launch's arguments are all here.
    pub fn operands(&self) -> Box<dyn Iterator<Item = BufferId> + '_> {
        let ports = |ports: &'_ [Port]| ports.iter().map(|port| port.buffer).collect::<Vec<_>>().into_iter();
        match self {
            Step::Launch { args, .. } => Box::new(args.iter().copied()),
            Step::Host { operands, .. } => Box::new(ports(operands)),
            Step::If { condition, operands, .. } => Box::new(std::iter::once(*condition).chain(ports(operands))),
            Step::Loop(step) => {
                let limits = [step.trip_count.buffer, step.condition.buffer];
                Box::new(limits.into_iter().chain(ports(&step.carried)).chain(ports(&step.captured)))
            }
            Step::Scan(step) => {
                let slices = step.inputs.iter().map(|(port, ..)| port.buffer);
                Box::new(ports(&step.states).chain(slices).chain(ports(&step.captured)))
            }
        }
    }

    /// The buffers the step defines, apart from a launch's arguments.
    pub fn results(&self) -> impl Iterator<Item = BufferId> + '_ {
        let results: &[BufferId] = match self {
            Step::Launch { .. } => &[],
            Step::Host { results, .. } | Step::If { results, .. } => results,
            Step::Loop(step) => &step.results,
            Step::Scan(step) => &step.results,
        };
        results.iter().copied()
    }
}

/// Pairs of items that launches may compute in place: the first dies where the second is born, and neither is used twice there.
fn shared_pairs(program: &Program, items: &[Item], index: &[Option<usize>]) -> Vec<(usize, usize)> {
    let (mut pairs, mut given, mut taken) = (Vec::new(), vec![false; items.len()], vec![false; items.len()]);
    for (at, step) in program.steps.iter().enumerate() {
        let Step::Launch { args, in_place, .. } = step else { continue };
        let item = |param: u32| args.get(param as usize).and_then(|arg| index.get(arg.0 as usize).copied().flatten());
        for (read, written) in in_place {
            let (Some(earlier), Some(later)) = (item(read.0), item(written.0)) else { continue };
            let once = |item: usize| args.iter().filter(|arg| **arg == items[item].buffer).count() == 1;
            let dies = items[earlier].last == at && items[earlier].first < at;
            let legal = dies && items[later].first == at && once(earlier) && once(later);
            if legal && !given[earlier] && !taken[later] {
                given[earlier] = true;
                taken[later] = true;
                pairs.push((earlier, later));
            }
        }
    }
    pairs
}

/// Items that have one offset.
struct Group {
    first: usize,
    last: usize,
    bytes: usize,
    members: Vec<usize>,
}

/// An offset for every group, and the end of the highest; `None` on overflow.
fn first_fit(groups: &[Group]) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&at| (std::cmp::Reverse(groups[at].bytes), groups[at].first, at));
    let (mut offsets, mut end) = (vec![0; groups.len()], 0usize);
    // Sorted by offset, so that one pass finds the lowest gap.
    let mut placed: Vec<(usize, usize)> = Vec::new();
    for at in order {
        let group = &groups[at];
        let bytes = group.bytes.checked_next_multiple_of(ALIGNMENT)?;
        let mut offset = 0usize;
        for &(start, other) in &placed {
            let other = &groups[other];
            if other.first > group.last || group.first > other.last || other.bytes == 0 {
                continue;
            }
            if offset.checked_add(bytes)? <= start {
                break;
            }
            offset = offset.max(start.checked_add(other.bytes)?.checked_next_multiple_of(ALIGNMENT)?);
        }
        offsets[at] = offset;
        end = end.max(offset.checked_add(bytes)?);
        let position = placed.partition_point(|&(start, _)| start <= offset);
        placed.insert(position, (offset, at));
    }
    Some((offsets, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KernelId, ParamId};
    use proptest::prelude::*;

    fn buffer(at: usize, shape: Vec<Dim>) -> Buffer {
        Buffer {
            name: format!("b{at}"),
            dtype: DType::F32,
            shape,
            layout: Layout::RowMajor,
            kind: if at == 0 { BufferKind::Input } else { BufferKind::Temporary },
        }
    }

    fn launch(args: &[u32], in_place: &[(u32, u32)]) -> Step {
        Step::Launch {
            kernel: KernelId(0),
            args: args.iter().map(|&a| BufferId(a)).collect(),
            in_place: in_place.iter().map(|&(r, w)| (ParamId(r), ParamId(w))).collect(),
        }
    }

    fn chain(steps: Vec<Step>, shapes: Vec<Vec<Dim>>) -> Program {
        let buffers: Vec<Buffer> = shapes.into_iter().enumerate().map(|(at, shape)| buffer(at, shape)).collect();
        let last = BufferId(buffers.len() as u32 - 1);
        let port = Port { name: "y".into(), buffer: last, shape: buffers[last.0 as usize].shape.clone() };
        Program { buffers, steps, outputs: vec![port], ..Program::default() }
    }

    fn n() -> Vec<Dim> {
        vec![Dim::symbol("n")]
    }

    #[test]
    fn a_chain_reuses_memory() {
        let program = chain(
            vec![launch(&[0, 1], &[]), launch(&[1, 2], &[(0, 1)]), launch(&[2, 3], &[]), launch(&[3, 4], &[])],
            vec![n(), n(), n(), n(), n()],
        );
        let plan = Plan::new(&program);
        let arena = plan.bind(&|_| Some(100), 1 << 20).unwrap();
        // 400 bytes round up to 448; two of them are alive at any time.
        assert_eq!(arena.bytes(), 896);
        assert_eq!(arena.place(BufferId(1)).unwrap().offset, arena.place(BufferId(2)).unwrap().offset);
        assert_eq!(arena.place(BufferId(0)), None);
        insta::assert_snapshot!(plan.print(Some(&arena)), @r"
        b1                       f32[n] row_major  steps 0..=1  400 bytes at 0:0
        b2                       f32[n] row_major  steps 1..=2  400 bytes at 0:0
        b3                       f32[n] row_major  steps 2..=3  400 bytes at 0:448
        b4                       f32[n] row_major  steps 3..=end  400 bytes at 0:0
        in place: b1 -> b2
        arena: 896 bytes; most alive at once: 800 bytes
        ");
    }

    #[test]
    fn an_operand_used_later_is_not_overwritten() {
        let program = chain(
            vec![launch(&[0, 1], &[]), launch(&[1, 2], &[(0, 1)]), launch(&[1, 2, 3], &[])],
            vec![n(), n(), n(), n()],
        );
        let arena = Plan::new(&program).bind(&|_| Some(16), 1 << 20).unwrap();
        assert_ne!(arena.place(BufferId(1)).unwrap().offset, arena.place(BufferId(2)).unwrap().offset);
    }

    #[test]
    fn hostile_sizes_are_errors() {
        let square = vec![Dim::symbol("n"), Dim::symbol("n")];
        let program = chain(vec![launch(&[0, 1], &[])], vec![n(), square]);
        let plan = Plan::new(&program);
        let error = |n: i64| plan.bind(&|_| Some(n), 1 << 20).unwrap_err();
        assert!(matches!(error(1 << 32), PlanError::Overflow { .. }));
        assert!(matches!(error(-1), PlanError::Negative { .. }));
        assert!(matches!(error(1 << 10), PlanError::Limit { needed: 4_194_304, .. }));
    }

    #[test]
    fn sizes_bound_later_get_their_own_segment() {
        let program =
            chain(vec![launch(&[0, 1], &[]), launch(&[1, 2], &[])], vec![n(), n(), vec![Dim::symbol("count")]]);
        let plan = Plan::new(&program);
        let mut arena = plan.bind(&|s| (s.name() == "n").then_some(8), 1000).unwrap();
        assert_eq!(arena.place(BufferId(2)), None);
        plan.extend(&mut arena, &|_| Some(3), 1000).unwrap();
        assert_eq!(arena.place(BufferId(2)), Some(Place { segment: 1, offset: 0, bytes: 12 }));
        assert_eq!(arena.segments, [64, 64]);
    }

    proptest! {
        #[test]
        fn live_buffers_never_overlap(
            sizes in prop::collection::vec(0usize..400, 2..24),
            steps in prop::collection::vec((prop::collection::vec(0u32..24, 2..4), any::<bool>()), 1..30),
        ) {
            let count = sizes.len() as u32;
            let steps: Vec<Step> = steps.iter().map(|(args, in_place)| {
                let args: Vec<u32> = args.iter().map(|a| a % count).collect();
                launch(&args, if *in_place { &[(0, 1)] } else { &[] })
            }).collect();
            let program = chain(steps, sizes.iter().map(|&s| vec![Dim::from(s)]).collect());
            let plan = Plan::new(&program);
            let arena = plan.bind(&|_| None, usize::MAX).unwrap();
            for a in &plan.items {
                let pa = arena.place(a.buffer).unwrap();
                prop_assert_eq!(pa.offset % ALIGNMENT, 0);
                prop_assert!(pa.offset + pa.bytes <= arena.segments[0]);
                for b in plan.items.iter().filter(|b| b.buffer > a.buffer) {
                    let pb = arena.place(b.buffer).unwrap();
                    let meet = pa.offset < pb.offset + pb.bytes && pb.offset < pa.offset + pa.bytes;
                    let overlap = a.first.max(b.first)..=a.last.min(b.last);
                    if meet && pa.bytes > 0 && pb.bytes > 0 && !overlap.is_empty() {
                        // Only the step at which one is computed in place of the other may need both.
                        prop_assert_eq!(overlap.clone().count(), 1, "{} {}", a.name, b.name);
                        let Step::Launch { args, in_place, .. } = &program.steps[*overlap.start()] else { unreachable!() };
                        let listed = in_place.iter().any(|(r, w)| {
                            let pair = (args[r.0 as usize], args[w.0 as usize]);
                            pair == (a.buffer, b.buffer) || pair == (b.buffer, a.buffer)
                        });
                        prop_assert!(listed);
                    }
                }
            }
        }
    }
}
