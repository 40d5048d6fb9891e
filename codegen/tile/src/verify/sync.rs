//! Synchronisation: every dependence between pipes is ordered by events, every signal is taken exactly once.
//!
//! Pipes of a core are in-order queues that run concurrently; a work item begins with all of them idle. `set_event` signals
//! when everything before it on its pipe is done; `wait_event` holds what follows on its pipe and takes the signal: a flag is set
//! again only by a pipe that comes after that. Several kinds of core that work on one item issue independently of each other:
//!
//! ```text
//! set_event of a pipe that is carried out once ─► to a lane's pipe      every lane takes a signal of its own
//! set_event of a lane's pipe ─► to one that is carried out once         which waits for the signals of all lanes
//! set_event of a lane's pipe ─► to another lane's pipe                  each lane for itself: lanes do not know each other
//! barrier                     all pipes of one core; every core for itself, of whatever kind. Of one pipe: nothing beyond it
//! a scalar defined            holds what follows on its core; on other kinds of core, what needs it (and what follows that)
//! ```
//! The kernel is walked as the cores would issue it, with vector clocks per queue, for several sample values of the program's
//! symbols and scalars and for the first, a middle and the last item. Loops are walked until their state (who comes after what,
//! which signals are open) comes again after a whole period of all copies and events; what follows is the same, up to the next
//! turn in which a condition changes, and up to the end, which is walked again.

mod code;
mod expr;
mod extent;
mod held;
mod items;
mod turns;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    thread,
};

use code::{Code, NodeKind, every};

use super::Report;
use crate::{Kernel, Machine, text::Anchor};

/// Values of symbols and scalars that are tried, for the even and for the odd ones among a kernel's symbols.
const SAMPLES: [[i64; 2]; 11] =
    [[1, 1], [2, 2], [3, 3], [0, 0], [65, 65], [1000, 1000], [0, 5], [5, 0], [1, 1000], [1000, 1], [300, 77]];
/// How many of them only kernels with several symbols need.
const MIXED: usize = 5;
/// Statements in one walk, and in one that must get to the end.
const STATEMENTS: usize = 100_000;
const LONG: usize = 40 * STATEMENTS;
/// Kernels of fewer statements are not worth a thread.
const SHORT: usize = 40;

/// Checks the order of accesses, and that items do not depend on each other.
pub(super) fn synchronised(kernel: &Kernel, machine: &Machine, report: &mut Report) {
    let code = Code::new(kernel, machine, &report.path);
    let mut found: BTreeSet<(Anchor, String)> = code.faults.iter().cloned().collect();
    if found.is_empty() {
        let mut used = BTreeMap::new();
        // Sizes that make a kernel too long to be walked are walked as far as that goes; some must be walked to the end, if need be those of
        // one sample further than the others.
        let (mut whole, mut cut) = (false, None);
        let samples = samples(&code);
        let mut walks: Vec<(&Sample, Vec<i64>)> = Vec::new();
        for sample in &samples {
            walks.extend(sampled_items(&code, &sample.values).into_iter().map(|item| (sample, item)));
        }
        let threads = if code.anchors.len() < SHORT { 1 } else { walks.len() };
        let walk = |(sample, item): &(&Sample, Vec<i64>), statements: usize| {
            let mut walk = walk::Walk::new(&code, item.clone(), sample.scalar, statements);
            walk.run();
            (walk.cut, walk.faults, walk.used)
        };
        let mut walked = side_by_side(threads, &walks, |task| walk(task, STATEMENTS));
        if walked.iter().all(|(cut, ..)| cut.is_some()) {
            let one: Vec<_> = walks.iter().filter(|(sample, _)| std::ptr::eq(*sample, &samples[0])).cloned().collect();
            walked.extend(side_by_side(threads, &one, |task| walk(task, LONG)));
        }
        for (at, faults, copies) in walked {
            whole |= at.is_none();
            cut = cut.or(at);
            found.extend(faults);
            copies.into_iter().for_each(|(copy, read)| *used.entry(copy).or_insert(false) |= read);
        }
        samples.iter().for_each(|sample| found.extend(items::independent(&code, sample)));
        match cut {
            None => found.extend(forgotten(&code, &used)),
            Some(at) if !whole => {
                let text = "the kernel is too long for its synchronisation to be checked";
                found.insert((code.anchors[at].clone(), text.into()));
            }
            Some(_) => {}
        }
    }
    for (anchor, message) in found {
        if report.faults.len() < super::MOST {
            report.faults.push((anchor, message));
        }
    }
}

/// The results for all tasks, in their order, computed by as many threads as there are cores, but at most so many.
fn side_by_side<T: Sync, R: Send>(most: usize, tasks: &[T], compute: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(most);
    if threads < 2 {
        return tasks.iter().map(compute).collect();
    }
    // Neighbours take about as long as each other, so they go to different threads.
    let compute = &compute;
    let mut results: Vec<Option<R>> = tasks.iter().map(|_| None).collect();
    thread::scope(|scope| {
        let share = |first: usize| tasks.iter().skip(first).step_by(threads).map(compute).collect::<Vec<R>>();
        let running: Vec<_> = (1..threads).map(|first| scope.spawn(move || share(first))).collect();
        let mut shares = vec![share(0)];
        shares.extend(running.into_iter().map(|running| running.join().unwrap_or_else(|panic| resume_unwind(panic))));
        for (first, share) in shares.into_iter().enumerate() {
            results
                .iter_mut()
                .skip(first)
                .step_by(threads)
                .zip(share)
                .for_each(|(place, result)| *place = Some(result));
        }
    });
    results.into_iter().flatten().collect()
}

/// Copies of a tile that a statement writes and nothing ever reads, though other copies that it writes are read: somebody takes
/// the wrong copy. `used` has statement, tile, copy.
fn forgotten(code: &Code, used: &BTreeMap<(usize, usize, i64), bool>) -> Vec<(Anchor, String)> {
    let unread = used.iter().filter(|(_, read)| !**read);
    let mistaken = unread.filter(|((at, tile, slot), _)| {
        used.iter().any(|((a, t, s), read)| *read && (a, t) == (at, tile) && s != slot)
    });
    let fault = |(&(at, tile, slot), _): (&(usize, usize, i64), &bool)| {
        let name = &code.kernel.tiles[tile].name;
        (code.anchors[at].clone(), format!("copy {slot} of `{name}` is written, but never read, as other copies are"))
    };
    mistaken.map(fault).collect()
}

/// Values of all variables, and the largest of scalars that are defined on the way.
struct Sample {
    values: Vec<i64>,
    scalar: i64,
}

fn samples(code: &Code) -> Vec<Sample> {
    let mut bound: BTreeSet<usize> = code.grid.iter().map(|(var, _)| *var).chain(code.lane).collect();
    let mut scalars = false;
    every(&code.body, &mut |node| match &node.kind {
        NodeKind::For { var, .. } => bound.extend([*var]),
        NodeKind::Work { defines, .. } => {
            scalars |= !defines.is_empty();
            bound.extend(defines.iter().map(|(scalar, _)| scalar));
        }
        _ => {}
    });
    let symbols: Vec<usize> = (0..code.variables.len()).filter(|variable| !bound.contains(variable)).collect();
    let count = match (symbols.len(), scalars) {
        (0, false) => 1,
        (0 | 1, _) => SAMPLES.len() - MIXED,
        _ => SAMPLES.len(),
    };
    let sample = |[even, odd]: &[i64; 2]| {
        let mut values = vec![0; code.variables.len()];
        symbols.iter().enumerate().for_each(|(at, &symbol)| values[symbol] = if at % 2 == 0 { *even } else { *odd });
        Sample { values, scalar: *even }
    };
    SAMPLES[..count].iter().map(sample).collect()
}

/// The numbers of items along each axis of the grid; `None` if there are no items.
fn extents(code: &Code, values: &[i64]) -> Option<Vec<i64>> {
    code.grid.iter().map(|(_, size)| size.eval(values).filter(|&size| size > 0)).collect()
}

fn at_item(code: &Code, values: &[i64], item: &[i64]) -> Vec<i64> {
    let mut values = values.to_vec();
    code.grid.iter().zip(item).for_each(|((var, _), at)| values[*var] = *at);
    values
}

/// The first item, a middle one and the last, where what is issued, or by which lane, depends on the item.
fn sampled_items(code: &Code, values: &[i64]) -> Vec<Vec<i64>> {
    let Some(extents) = extents(code, values) else { return Vec::new() };
    let mut decided = code.lane.is_some();
    every(&code.body, &mut |node| {
        let expr = match &node.kind {
            NodeKind::For { end, .. } => end,
            NodeKind::If { condition, .. } => condition,
            NodeKind::Event { event, .. } => event,
            _ => return,
        };
        decided |= code.grid.iter().any(|(var, _)| expr.uses(*var));
    });
    let mut items = vec![vec![0; extents.len()]];
    if decided {
        items.push(extents.iter().map(|extent| extent - 1).collect());
        items.push(extents.iter().map(|extent| extent / 2).collect());
    }
    items.dedup();
    items.iter().map(|item| at_item(code, values, item)).collect()
}
