//! Equal cores: which groups do the same work for the same time, and what the cache holds for them on average.
//!
//! Two groups are equal if they issue the same instructions at the same sizes in the same order, with the same events. One of them is
//! simulated for all; it shares memories as all of them would. Which bytes of its accesses are in the cache depends on the others:
//! every core's accesses are walked in step, and each access of the one gets the average of theirs.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::{
    SimError,
    cache::{Cache, Memory, Traffic},
    code::{Code, Node},
    engine::Known,
    price::{PriceId, Prices},
    walk::{Cursor, Issue, Issued, bind_item},
};

/// Classes are kept apart up to so many; beyond, those that differ in work by less than this part are one.
const CLASSES: usize = 4;
const ALIKE: f64 = 0.01;

/// One group of every class of equal ones, and how many it stands for; groups without work are in none.
///
/// # Errors
/// If an instruction has no cost.
pub(crate) fn classes(code: &Code<'_>, prices: &mut Prices) -> Result<Vec<(usize, f64)>, SimError> {
    let items = code.items();
    let groups = (code.groups as u64).min(items);
    let mut signatures = Signatures::default();
    let mut classes: Vec<(usize, f64)> = Vec::new();
    let mut work: Vec<f64> = Vec::new();
    let mut known: FxHashMap<u64, usize> = FxHashMap::default();
    for group in 0..groups {
        let mut all = Part::default();
        let mut item = group;
        while item < items {
            // The order of items is not looked at: the sum is that of the set.
            let one = signatures.item(code, prices, item)?;
            let signature = all.signature.wrapping_add(one.signature);
            all = Part { signature, work: all.work + one.work, ..all };
            item += code.groups as u64;
        }
        let at = *known.entry(all.signature).or_insert(classes.len());
        match classes.get_mut(at) {
            Some((_, count)) => *count += 1.0,
            None => {
                classes.push((group as usize, 1.0));
                work.push(all.work);
            }
        }
    }
    Ok(if classes.len() > CLASSES { merged(&classes, &work) } else { classes })
}

/// Classes with nearly the same work as one, for which the one nearest to their mean stands; that with most work stays by itself,
/// since the others wait for it.
fn merged(classes: &[(usize, f64)], work: &[f64]) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|&a, &b| work[b].total_cmp(&work[a]));
    let Some((&heaviest, rest)) = order.split_first() else { return Vec::new() };
    let mut merged = vec![classes[heaviest]];
    let mut at = 0;
    while at < rest.len() {
        let alike =
            rest[at..].iter().take_while(|&&other| work[other] >= work[rest[at]] * (1.0 - ALIKE)).count().max(1);
        let members = &rest[at..at + alike];
        let count: f64 = members.iter().map(|&member| classes[member].1).sum();
        let mean = members.iter().map(|&member| classes[member].1 * work[member]).sum::<f64>() / count;
        let distance = |member: usize| (work[member] - mean).abs();
        let nearest = members.iter().copied().min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        merged.extend(nearest.map(|member| (classes[member].0, count)));
        at += alike;
    }
    merged
}

/// Every group by itself.
pub(crate) fn all(code: &Code<'_>) -> Vec<(usize, f64)> {
    let groups = (code.groups as u64).min(code.items()) as usize;
    (0..groups).map(|group| (group, 1.0)).collect()
}

/// What is issued, as a number, the cycles of all of it together, and how many instructions touch buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub signature: u64,
    pub work: f64,
    pub accesses: u64,
}

impl Part {
    fn then(self, other: Part) -> Part {
        let signature = mix(self.signature, other.signature);
        Part { signature, work: self.work + other.work, accesses: self.accesses + other.accesses }
    }

    fn of(signature: u64) -> Part {
        Part { signature, ..Part::default() }
    }
}

/// By kind of core, loop, and the values of what it depends on.
type LoopKey = (usize, usize, SmallVec<[i64; 6]>);

/// What blocks issue, as numbers that are equal if, but for chance only if, they issue the same at the same sizes.
#[derive(Default)]
pub(crate) struct Signatures {
    loops: FxHashMap<LoopKey, Part>,
    iterations: FxHashMap<LoopKey, Rc<[u64]>>,
}

/// Loops whose iterations are kept one by one have at most so many.
const ITERATIONS: i64 = 1 << 20;

impl Signatures {
    fn item(&mut self, code: &Code<'_>, prices: &mut Prices, item: u64) -> Result<Part, SimError> {
        let mut all = Part::default();
        for (role, described) in code.roles.iter().enumerate() {
            for lane in 0..described.lanes {
                all = all.then(self.lane(code, prices, item, role, lane)?);
            }
        }
        Ok(all)
    }

    /// What one core issues for an item.
    fn lane(
        &mut self,
        code: &Code<'_>,
        prices: &mut Prices,
        item: u64,
        role: usize,
        lane: usize,
    ) -> Result<Part, SimError> {
        let mut vars = vec![0; code.variables];
        bind_item(code, item, &mut vars);
        if let Some(var) = code.lane {
            vars[var as usize] = lane as i64;
        }
        self.block(code, prices, role, &code.roles[role].body, &mut vars)
    }

    fn block(
        &mut self,
        code: &Code<'_>,
        prices: &mut Prices,
        role: usize,
        body: &[Node],
        vars: &mut [i64],
    ) -> Result<Part, SimError> {
        let mut all = Part::of(1);
        for node in body {
            let part = match node {
                Node::Work(work) => {
                    let price = prices.find(code, *work, vars)?;
                    if let Some((var, value)) = &code.works[*work].scalar {
                        vars[*var as usize] = value.eval(vars);
                    }
                    Part {
                        signature: mix(u64::from(price), *work as u64),
                        work: prices.get(price).cost.streaming(),
                        accesses: u64::from(!code.works[*work].memory.is_empty()),
                    }
                }
                Node::Assign(var, value) => {
                    vars[*var as usize] = value.eval(vars);
                    continue;
                }
                Node::Set { from, to, event } => {
                    Part::of(mix(mix(2 + *from as u64, *to as u64), event.eval(vars) as u64))
                }
                Node::Wait { from, to, event } => {
                    Part::of(mix(mix(3, *from as u64), mix(*to as u64, event.eval(vars) as u64)))
                }
                Node::Barrier(pipe) => Part::of(mix(4, pipe.map_or(0, |pipe| pipe as u64 + 1))),
                Node::If { condition, then, otherwise } => {
                    let taken = if condition.eval(vars) > 0 { then } else { otherwise };
                    self.block(code, prices, role, taken, vars)?
                }
                Node::Loop { .. } => self.repeated(code, prices, role, node, vars)?,
            };
            all = all.then(part);
        }
        Ok(all)
    }

    fn repeated(
        &mut self,
        code: &Code<'_>,
        prices: &mut Prices,
        role: usize,
        node: &Node,
        vars: &mut [i64],
    ) -> Result<Part, SimError> {
        let Node::Loop { var, end, step, body, varies, .. } = node else { return Ok(Part::default()) };
        let (key, end) = (loop_key(role, node, vars), end.eval(vars));
        if let Some(&part) = self.loops.get(&key) {
            return Ok(part);
        }
        let mut all = Part::of(5);
        let mut value = 0;
        while value < end {
            vars[*var as usize] = value;
            let one = self.block(code, prices, role, body, vars)?;
            if !varies {
                // Every iteration is like the first.
                let count = (end - 1) / step + 1;
                let signature = mix(mix(all.signature, one.signature), count as u64);
                all = Part { signature, work: one.work * count as f64, accesses: one.accesses * count as u64 };
                break;
            }
            all = all.then(one);
            value = value.saturating_add(*step);
        }
        self.loops.insert(key, all);
        Ok(all)
    }

    /// The signatures of all iterations of a loop; none of a very long one.
    ///
    /// # Errors
    /// If an instruction has no cost.
    pub fn iterations(
        &mut self,
        code: &Code<'_>,
        prices: &mut Prices,
        role: usize,
        node: &Node,
        vars: &mut [i64],
    ) -> Result<Rc<[u64]>, SimError> {
        let Node::Loop { var, end, step, body, varies, .. } = node else { return Ok(Rc::new([])) };
        let (key, end) = (loop_key(role, node, vars), end.eval(vars));
        if let Some(known) = self.iterations.get(&key) {
            return Ok(known.clone());
        }
        let count = if end > 0 { (end - 1) / step + 1 } else { 0 };
        let mut all = Vec::new();
        for at in 0..if count > ITERATIONS { 0 } else { count } {
            if at > 0 && !varies {
                all.resize(count as usize, all[0]);
                break;
            }
            vars[*var as usize] = at * step;
            all.push(self.block(code, prices, role, body, vars)?.signature);
        }
        let all: Rc<[u64]> = all.into();
        self.iterations.insert(key, all.clone());
        Ok(all)
    }
}

fn loop_key(role: usize, node: &Node, vars: &[i64]) -> LoopKey {
    let Node::Loop { end, id, depends, .. } = node else { return (role, usize::MAX, SmallVec::new()) };
    (role, *id, depends.iter().chain([end]).map(|expr| expr.eval(vars)).collect())
}

/// Mixes two numbers into one.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The average, over all cores, of each access's part in the cache: by kind of core, by number of the access.
///
/// # Errors
/// If an instruction has no cost.
pub(crate) fn known(
    code: &Code<'_>,
    prices: &mut Prices,
    classes: &[(usize, f64)],
    memories: &[Memory],
    cache: &mut Cache,
    past_cache: bool,
) -> Result<Vec<Vec<Known>>, SimError> {
    let mut roles = Vec::new();
    let mut signatures = Signatures::default();
    for role in 0..code.roles.len() {
        roles.push(Lockstep::new(code, prices, &mut signatures, classes, role)?);
    }
    loop {
        // Kinds of core advance in proportion to what each has to do.
        let open = roles.iter_mut().filter(|role| (role.known.len() as f64) < role.count);
        let behind = open.min_by(|a, b| a.progress().total_cmp(&b.progress()));
        let Some(role) = behind else { break };
        role.step(code, prices, memories, cache, past_cache)?;
    }
    Ok(roles.into_iter().map(|role| role.known).collect())
}

/// All cores of one kind, in step.
struct Lockstep {
    cursors: Vec<Cursor>,
    known: Vec<Known>,
    count: f64,
    places: Vec<(u32, i64)>,
    /// What was read in this step: memory, first byte, price.
    seen: FxHashSet<(u32, i64, PriceId)>,
}

impl Lockstep {
    fn new(
        code: &Code<'_>,
        prices: &mut Prices,
        signatures: &mut Signatures,
        classes: &[(usize, f64)],
        role: usize,
    ) -> Result<Lockstep, SimError> {
        let lanes = code.roles[role].lanes;
        let mut count = 0;
        for &(group, _) in classes {
            for lane in 0..lanes {
                let mut accesses = 0;
                let mut item = group as u64;
                while item < code.items() {
                    accesses += signatures.lane(code, prices, item, role, lane)?.accesses;
                    item += code.groups as u64;
                }
                count = count.max(accesses);
            }
        }
        let groups = (code.groups as u64).min(code.items()) as usize;
        let cursors = (0..groups).flat_map(|group| (0..lanes).map(move |lane| (group, lane)));
        let cursor = |(group, lane)| Cursor::new(code, role, lane, group, code.groups, true);
        let cursors = cursors.map(cursor).collect();
        Ok(Lockstep { cursors, known: Vec::new(), count: count as f64, places: Vec::new(), seen: FxHashSet::default() })
    }

    fn progress(&self) -> f64 {
        (self.known.len() as f64 + 0.5) / self.count
    }

    /// One access of every core.
    fn step(
        &mut self,
        code: &Code<'_>,
        prices: &mut Prices,
        memories: &[Memory],
        cache: &mut Cache,
        past_cache: bool,
    ) -> Result<(), SimError> {
        let (mut total, mut bytes) = (Traffic::default(), 0.0);
        self.places.clear();
        self.seen.clear();
        for cursor in &mut self.cursors {
            let Some(issued) = next_access(cursor, code, prices)? else { continue };
            let price = prices.get(issued.price);
            let work = &code.works[issued.work];
            for ((access, geometry), &start) in work.memory.iter().zip(&price.memory).zip(&issued.starts) {
                let memory = &memories[access.param.0 as usize];
                let salt = issued.access as u64;
                let through = past_cache && !access.written;
                // What another core has just read is in the cache.
                let again = !access.written
                    && geometry.indexed.is_none()
                    && !self.seen.insert((memory.id, start, issued.price));
                total.add(&match again {
                    _ if through => Traffic { read: geometry.bytes, fetched: geometry.bytes, ..Traffic::default() },
                    true => Traffic { read: geometry.bytes, ..Traffic::default() },
                    false => cache.access(memory, geometry, start, salt, access.written, access.read),
                });
                bytes += geometry.bytes;
                if access.read {
                    self.places.push((memory.id, start));
                }
            }
        }
        let part = |of: f64| if bytes > 0.0 { of / bytes } else { 0.0 };
        let (fetched, written_back) = (part(total.fetched), part(total.written_back));
        self.known.push(Known { fetched, written_back, readers: mean_readers(&mut self.places) });
        Ok(())
    }
}

/// How many cores, on average over cores, are at the place where one is.
fn mean_readers(places: &mut [(u32, i64)]) -> f64 {
    places.sort_unstable();
    let together = places.chunk_by(|a, b| a == b).map(|same| (same.len() * same.len()) as f64).sum::<f64>();
    if places.is_empty() { 0.0 } else { together / places.len() as f64 }
}

fn next_access(cursor: &mut Cursor, code: &Code<'_>, prices: &mut Prices) -> Result<Option<Issued>, SimError> {
    loop {
        match cursor.next(code, prices)? {
            None => return Ok(None),
            Some(Issue::Work(issued)) if !issued.starts.is_empty() => return Ok(Some(issued)),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn the_heaviest_class_stays_and_the_mean_stands_for_the_rest() {
        let classes = [(0, 4.0), (1, 1.0), (2, 8.0), (3, 8.0), (4, 3.0)];
        let merged = merged(&classes, &[100.0, 50.0, 99.9, 99.6, 99.2]);
        assert_eq!(merged, [(0, 4.0), (3, 19.0), (1, 1.0)]);
    }
}
