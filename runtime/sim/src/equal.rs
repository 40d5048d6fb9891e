//! Equal cores: which groups do the same work for the same time, and what the cache holds for them on average.
//!
//! Two groups are equal if they issue the same instructions at the same sizes in the same order, with the same events. One of them is
//! simulated for all; it shares memories as all of them would. Which bytes of its accesses are in the cache depends on the others:
//! every core's accesses are walked in step, and each access of the one gets the average of theirs.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    SimError,
    cache::{Cache, Memory, Traffic},
    code::{Code, Node},
    engine::Known,
    price::Prices,
    walk::{Cursor, Issue, Issued, bind_item},
};

/// One group of every class of equal ones, and how many it stands for; groups without work are in none.
///
/// # Errors
/// If an instruction has no cost.
pub(crate) fn classes(code: &Code<'_>, prices: &mut Prices) -> Result<Vec<(usize, f64)>, SimError> {
    let items = code.items();
    let groups = (code.groups as u64).min(items);
    let mut signer = Signer { code, prices, loops: FxHashMap::default() };
    let mut classes: Vec<(usize, f64)> = Vec::new();
    let mut known: FxHashMap<u64, usize> = FxHashMap::default();
    for group in 0..groups {
        let mut signature = 0;
        let mut item = group;
        while item < items {
            signature = mix(signature, signer.item(item)?);
            item += code.groups as u64;
        }
        let at = *known.entry(signature).or_insert(classes.len());
        match classes.get_mut(at) {
            Some((_, count)) => *count += 1.0,
            None => classes.push((group as usize, 1.0)),
        }
    }
    Ok(classes)
}

/// Every group by itself.
pub(crate) fn all(code: &Code<'_>) -> Vec<(usize, f64)> {
    let groups = (code.groups as u64).min(code.items()) as usize;
    (0..groups).map(|group| (group, 1.0)).collect()
}

struct Signer<'a, 'k> {
    code: &'a Code<'k>,
    prices: &'a mut Prices,
    /// By kind of core, loop, and the values of what it depends on.
    loops: FxHashMap<(usize, usize, SmallVec<[i64; 6]>), u64>,
}

impl Signer<'_, '_> {
    fn item(&mut self, item: u64) -> Result<u64, SimError> {
        let code = self.code;
        let mut vars = vec![0; code.variables];
        bind_item(code, item, &mut vars);
        let mut signature = 0;
        for (number, role) in code.roles.iter().enumerate() {
            for lane in 0..role.lanes {
                if let Some(var) = code.lane {
                    vars[var as usize] = lane as i64;
                }
                signature = mix(signature, self.block(number, &role.body, &mut vars)?);
            }
        }
        Ok(signature)
    }

    fn block(&mut self, role: usize, body: &[Node], vars: &mut [i64]) -> Result<u64, SimError> {
        let mut signature = 1;
        for node in body {
            let part = match node {
                Node::Work(work) => {
                    let price = self.prices.find(self.code, *work, vars)?;
                    if let Some((var, value)) = &self.code.works[*work].scalar {
                        vars[*var as usize] = value.eval(vars);
                    }
                    mix(u64::from(price), *work as u64)
                }
                Node::Assign(var, value) => {
                    vars[*var as usize] = value.eval(vars);
                    continue;
                }
                Node::Set { from, to, event } => mix(mix(2 + *from as u64, *to as u64), event.eval(vars) as u64),
                Node::Wait { from, to, event } => mix(mix(3, *from as u64), mix(*to as u64, event.eval(vars) as u64)),
                Node::Barrier(pipe) => mix(4, pipe.map_or(0, |pipe| pipe as u64 + 1)),
                Node::If { condition, then, otherwise } => {
                    let taken = if condition.eval(vars) > 0 { then } else { otherwise };
                    self.block(role, taken, vars)?
                }
                Node::Loop { .. } => self.repeated(role, node, vars)?,
            };
            signature = mix(signature, part);
        }
        Ok(signature)
    }

    fn repeated(&mut self, role: usize, node: &Node, vars: &mut [i64]) -> Result<u64, SimError> {
        let Node::Loop { var, end, step, body, id, depends } = node else { return Ok(0) };
        let end = end.eval(vars);
        let outer = depends.iter().filter(|other| *other != var).map(|&other| vars[other as usize]);
        let key = (role, *id, outer.chain([end]).collect());
        if let Some(&signature) = self.loops.get(&key) {
            return Ok(signature);
        }
        let mut signature = 5;
        let mut value = 0;
        while value < end {
            vars[*var as usize] = value;
            let one = self.block(role, body, vars)?;
            if !depends.contains(var) {
                // Every iteration is like the first.
                signature = mix(mix(signature, one), ((end - 1) / step) as u64);
                break;
            }
            signature = mix(signature, one);
            value = value.saturating_add(*step);
        }
        self.loops.insert(key, signature);
        Ok(signature)
    }
}

fn mix(a: u64, b: u64) -> u64 {
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
    for role in 0..code.roles.len() {
        roles.push(Lockstep::new(code, prices, classes, role)?);
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
}

impl Lockstep {
    fn new(code: &Code<'_>, prices: &mut Prices, classes: &[(usize, f64)], role: usize) -> Result<Lockstep, SimError> {
        let lanes = code.roles[role].lanes;
        let cursor = |group, lane| Cursor::new(code, role, lane, group, code.groups, true);
        let mut count = 0usize;
        if code.works.iter().any(|work| work.role == role && !work.memory.is_empty()) {
            for &(group, _) in classes {
                for lane in 0..lanes {
                    let mut one = cursor(group, lane);
                    let mut accesses = 0;
                    while next_access(&mut one, code, prices)?.is_some() {
                        accesses += 1;
                    }
                    count = count.max(accesses);
                }
            }
        }
        let groups = (code.groups as u64).min(code.items()) as usize;
        let cursors = (0..groups).flat_map(|group| (0..lanes).map(move |lane| (group, lane)));
        let cursors = cursors.map(|(group, lane)| cursor(group, lane)).collect();
        Ok(Lockstep { cursors, known: Vec::with_capacity(count), count: count as f64, places: Vec::new() })
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
        for cursor in &mut self.cursors {
            let Some(issued) = next_access(cursor, code, prices)? else { continue };
            let price = prices.get(issued.price);
            let work = &code.works[issued.work];
            for ((access, geometry), &start) in work.memory.iter().zip(&price.memory).zip(&issued.starts) {
                let memory = &memories[access.param.0 as usize];
                let salt = issued.access as u64;
                total.add(&match past_cache && !access.written {
                    true => Traffic { read: geometry.bytes, fetched: geometry.bytes, ..Traffic::default() },
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
