//! Equal cores: which groups do the same work for the same time.
//!
//! Two groups are equal if they issue the same instructions at the same sizes in the same order, with the same events. One of them is
//! simulated for all; it shares memories as all of them would.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    SimError,
    code::{Code, Node},
    price::Prices,
    walk::bind_item,
};

/// Classes are kept apart up to so many; beyond, those that differ in work by less than this part are one.
const CLASSES: usize = 12;
const ALIKE: f64 = 0.01;
/// More classes than this can be too many for what is simulated several times.
const FEW: usize = 4;

/// Groups of cores that are simulated as one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    /// The group that stands for all.
    pub group: usize,
    pub members: Vec<usize>,
}

impl Class {
    /// How many groups it stands for.
    pub fn weight(&self) -> f64 {
        self.members.len() as f64
    }
}

/// The classes of equal groups.
pub(crate) struct Classes {
    pub all: Vec<Class>,
    /// The same groups in fewer classes, less exactly, if there are many.
    pub few: Vec<Class>,
}

/// The classes of equal groups; groups without work are in none.
///
/// # Errors
/// If an instruction has no cost.
pub(crate) fn classes(code: &Code<'_>, prices: &mut Prices) -> Result<Classes, SimError> {
    let items = code.items();
    let groups = (code.groups as u64).min(items);
    let mut signatures = Signatures::default();
    let mut classes: Vec<Class> = Vec::new();
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
            Some(class) => class.members.push(group as usize),
            None => {
                classes.push(Class { group: group as usize, members: vec![group as usize] });
                work.push(all.work);
            }
        }
    }
    let few = if classes.len() > FEW { merged(&classes, &work) } else { Vec::new() };
    Ok(if classes.len() > CLASSES { Classes { all: few, few: Vec::new() } } else { Classes { all: classes, few } })
}

/// Classes with nearly the same work as one, for which the one nearest to their mean stands; that with most work stays by itself,
/// since the others wait for it.
fn merged(classes: &[Class], work: &[f64]) -> Vec<Class> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|&a, &b| work[b].total_cmp(&work[a]));
    let Some((&heaviest, rest)) = order.split_first() else { return Vec::new() };
    let mut merged = vec![classes[heaviest].clone()];
    let mut at = 0;
    while at < rest.len() {
        let alike =
            rest[at..].iter().take_while(|&&other| work[other] >= work[rest[at]] * (1.0 - ALIKE)).count().max(1);
        let all = &rest[at..at + alike];
        let members: Vec<usize> = all.iter().flat_map(|&class| classes[class].members.iter().copied()).collect();
        let mean = all.iter().map(|&class| classes[class].weight() * work[class]).sum::<f64>() / members.len() as f64;
        let distance = |class: usize| (work[class] - mean).abs();
        let nearest = all.iter().copied().min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        merged.extend(nearest.map(|class| Class { group: classes[class].group, members }));
        at += alike;
    }
    merged
}

/// Every group by itself.
pub(crate) fn each(code: &Code<'_>) -> Classes {
    let groups = (code.groups as u64).min(code.items()) as usize;
    Classes { all: (0..groups).map(|group| Class { group, members: vec![group] }).collect(), few: Vec::new() }
}

/// What is issued, as a number, the cycles of all of it together, and how many instructions touch buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    iterations: FxHashMap<LoopKey, Rc<[Part]>>,
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
    ///
    /// # Errors
    /// If an instruction has no cost.
    pub fn lane(
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

    /// What each iteration of a loop issues; nothing of a very long one.
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
    ) -> Result<Rc<[Part]>, SimError> {
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
            all.push(self.block(code, prices, role, body, vars)?);
        }
        let all: Rc<[Part]> = all.into();
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

#[cfg(test)]
mod tests {
    use super::{Class, merged};

    #[test]
    fn the_heaviest_class_stays_and_the_mean_stands_for_the_rest() {
        let mut next = 0;
        let classes = [4, 1, 8, 8, 3].map(|count| {
            let members: Vec<usize> = (next..next + count).collect();
            next += count;
            Class { group: members[0], members }
        });
        let merged = merged(&classes, &[100.0, 50.0, 99.9, 99.6, 99.2]);
        let found: Vec<(usize, f64)> = merged.iter().map(|class| (class.group, class.weight())).collect();
        assert_eq!(found, [(0, 4.0), (13, 19.0), (4, 1.0)]);
        assert_eq!(merged[1].members, (5..24).collect::<Vec<_>>());
    }
}
