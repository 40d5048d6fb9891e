//! What repeats in the cache: a kernel whose outer loop goes through device memory in equal strides.
//!
//! ```text
//! turn         0 1 2 3 | 4 5 6 7 | 8 …      period of 4 turns: the same accesses, each memory so many bytes further on
//! cache      filling up │ turned over once: what it holds moves along, and every period finds the same part in it
//!                                 └─► count it for the coming periods, put the cache as far on, walk the end
//! ```
//!
//! The least recently used block leaves, whatever its address: with all addresses of a memory further on by one distance, hits and
//! misses are the same. So nothing is lost but the rounding to whole blocks.

use rustc_hash::FxHashMap;

use crate::{
    SimError,
    cache::{Cache, Memory},
    code::{Code, Node, deciding},
    equal::{Part, Signatures},
    expr::Var,
    lockstep::Lockstep,
    price::Prices,
    walk::bind_item,
};

/// Periods of more turns are not looked for.
const TURNS: usize = 64;
/// Nor are they if so many first bytes would have to be compared.
const STARTS: usize = 1 << 22;

/// A period of all kinds of core.
pub(crate) struct Period {
    roles: Vec<Motion>,
    /// By memory, how many bytes further on it goes.
    shifts: FxHashMap<u32, i64>,
    /// How many periods there are.
    count: usize,
    /// How often the cache was turned over before, and at the ends of the last two periods.
    begin: Option<f64>,
    last: [(usize, f64); 2],
    /// Whether every memory goes on by whole blocks, as well as can be.
    whole_blocks: bool,
}

/// How one kind of core moves.
struct Motion {
    /// Index among the kinds of core.
    role: usize,
    var: Var,
    /// What is added to the variable, and how many accesses are made.
    advance: i64,
    accesses: usize,
}

/// The turns of one kind of core.
struct Turns {
    role: usize,
    var: Var,
    step: i64,
    /// By core, what it issues in each turn.
    parts: Vec<Vec<Part>>,
    /// By core and access in the text, the first byte of each turn; and that access's memory.
    starts: Vec<(u32, Vec<i64>)>,
}

impl Period {
    /// The shortest one, if there is one that comes often enough.
    ///
    /// # Errors
    /// If an instruction has no cost.
    pub fn find(
        code: &Code<'_>,
        prices: &mut Prices,
        signatures: &mut Signatures,
        memories: &[Memory],
        roles: &[Lockstep],
    ) -> Result<Option<Period>, SimError> {
        let mut all = Vec::new();
        for (role, lockstep) in roles.iter().enumerate().filter(|(_, lockstep)| lockstep.moves()) {
            match turns(code, prices, signatures, memories, role, lockstep.cursors.len())? {
                Some(turns) => all.push(turns),
                None => return Ok(None),
            }
        }
        let single = code.items() <= code.groups as u64 && !all.is_empty();
        Ok(if single { (1..=TURNS).find_map(|turns| Period::of(&all, turns)) } else { None })
    }

    /// The period of so many turns.
    fn of(all: &[Turns], turns: usize) -> Option<Period> {
        let mut shifts = FxHashMap::default();
        let mut most = usize::MAX;
        let mut roles = Vec::new();
        for Turns { role, var, step, parts, starts } in all {
            let accesses = |parts: &Vec<Part>| parts.iter().take(turns).map(|part| part.accesses).sum::<u64>();
            let each = parts.first().map_or(0, accesses);
            if parts.iter().any(|parts| parts.len() < 4 * turns || accesses(parts) != each) || each == 0 {
                return None;
            }
            for parts in parts {
                let same = parts.iter().zip(&parts[turns..]).take_while(|(a, b)| a == b).count();
                most = most.min(same + turns);
            }
            for (memory, starts) in starts {
                let shift = *shifts.entry(*memory).or_insert(starts[turns] - starts[0]);
                let same = starts.iter().zip(&starts[turns..]).take_while(|(a, b)| *b - *a == shift).count();
                most = most.min(same + turns);
            }
            let advance = turns as i64 * step;
            roles.push(Motion { role: *role, var: *var, advance, accesses: each as usize });
        }
        let count = most / turns;
        (count >= 4).then_some(Period { roles, shifts, count, begin: None, last: [(0, -1.0); 2], whole_blocks: false })
    }

    /// Takes several periods for one, until every memory goes on by whole blocks: what leaves the cache leaves block by block. Whether
    /// there are still enough of them.
    fn take_whole_blocks(&mut self, memories: &[Memory], cache: &Cache) -> bool {
        self.whole_blocks = true;
        let parts = |shift: &(&Memory, i64), times: i64| (shift.1 * times) % cache.block(shift.0) != 0;
        let shifts = memories.iter().filter_map(|memory| Some((memory, *self.shifts.get(&memory.id)?)));
        let shifts: Vec<(&Memory, i64)> = shifts.collect();
        let times = [1, 2, 4, 8, 16].into_iter().find(|&times| !shifts.iter().any(|shift| parts(shift, times)));
        let times = times.unwrap_or(16);
        self.roles.iter_mut().for_each(|own| {
            own.advance *= times;
            own.accesses *= times as usize;
        });
        self.shifts.values_mut().for_each(|shift| *shift *= times);
        self.count /= times as usize;
        self.count >= 4
    }

    /// At the end of a period that was like the one before: counts the coming ones without walking them. Whether that was done, or
    /// need not be tried any more.
    pub fn leap(&mut self, memories: &[Memory], roles: &mut [Lockstep], cache: &mut Cache) -> bool {
        let Some(lead) = self.roles.first() else { return true };
        let (done, whole) = (roles[lead.role].steps, lead.accesses);
        if self.begin.is_some() && !self.whole_blocks && done >= whole {
            return !self.take_whole_blocks(memories, cache);
        }
        let turnover = cache.turnover();
        let begin = *self.begin.get_or_insert(turnover);
        if done % lead.accesses != 0 || done == self.last[1].0 {
            return false;
        }
        let [(_, earlier), _] = self.last;
        self.last = [self.last[1], (done, turnover)];
        // Since before the last two periods it holds nothing but what this loop has brought, or nothing new has come in them.
        let settled = earlier - begin >= 1.0 || turnover == earlier;
        let left = self.roles.iter().map(|own| self.count as i64 - roles[own.role].steps.div_ceil(own.accesses) as i64);
        let periods = left.min().unwrap_or(0) - 1;
        if periods < 1 {
            return true;
        }
        if !settled || !self.roles.iter().all(|own| roles[own.role].alike(own.accesses)) {
            return false;
        }
        for own in &self.roles {
            roles[own.role].leap(own.var, own.advance * periods, own.accesses, periods as usize);
        }
        let shift = |memory: &Memory| self.shifts.get(&memory.id).map(|bytes| (*memory, bytes * periods));
        cache.shift(&memories.iter().filter_map(shift).collect::<Vec<_>>());
        true
    }
}

/// The turns of a kind of core, if it makes all accesses in one loop whose variable adds its own part to every address.
fn turns(
    code: &Code<'_>,
    prices: &mut Prices,
    signatures: &mut Signatures,
    memories: &[Memory],
    role: usize,
    cores: usize,
) -> Result<Option<Turns>, SimError> {
    let described = &code.roles[role];
    let Some(node @ Node::Loop { var, end, step, body, .. }) = described.memory_loop(&code.works) else {
        return Ok(None);
    };
    let mut inner = Vec::new();
    deciding(body, &code.works, &mut Vec::new(), &mut inner);
    let works = code.works.iter().filter(|work| work.role == role);
    let accesses: Vec<_> = works.flat_map(|work| &work.memory).collect();
    if !accesses.iter().all(|access| access.start.separates(*var, &inner)) {
        return Ok(None);
    }
    let (mut parts, mut starts) = (Vec::new(), Vec::new());
    for core in 0..cores {
        let (group, lane) = (core / described.lanes, core % described.lanes);
        let mut vars = vec![0; code.variables];
        bind_item(code, group as u64, &mut vars);
        if let Some(var) = code.lane {
            vars[var as usize] = lane as i64;
        }
        let count = if end.eval(&vars) > 0 { (end.eval(&vars) - 1) / step + 1 } else { 0 };
        if count < 4 || (count as usize).saturating_mul(cores * accesses.len()) > STARTS {
            return Ok(None);
        }
        parts.push(signatures.iterations(code, prices, role, node, &mut vars.clone())?.to_vec());
        // Where data choose the places, it does not matter where they begin.
        for access in accesses.iter().filter(|access| !access.is_indexed()) {
            let of = |turn: i64| {
                vars[*var as usize] = turn * step;
                access.first_byte(&vars)
            };
            starts.push((memories[access.param.0 as usize].id, (0..count).map(of).collect()));
        }
    }
    Ok(Some(Turns { role, var: *var, step: *step, parts, starts }))
}
