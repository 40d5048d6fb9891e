//! What the cache holds for each access of equal cores, on average: all cores' accesses are walked in step, and each access of the one
//! that is simulated gets the average of all, or of those that it stands for where others are elsewhere in their programs.
//! [`crate::repeat`] cuts short what repeats.

use rustc_hash::FxHashSet;

use crate::{
    SimError,
    cache::{Cache, Memory, Traffic},
    code::Code,
    engine::Known,
    equal::{Class, Signatures},
    expr::Var,
    price::{PriceId, Prices},
    repeat::Period,
    walk::{Cursor, Issue, Issued},
};

/// A class has other accesses than the others, not only other luck with the same ones, if its part in the cache differs by more than this:
/// what all find on average is steadier, and repeats.
const ELSEWHERE: f64 = 0.45;
/// Two periods are alike if their parts in the cache differ by less than this part of all accesses.
const ALIKE: f64 = 0.002;

/// The average of each access's part in the cache: by kind of core, by class, by number of the access; and how many accesses were looked at
/// for it.
///
/// # Errors
/// If an instruction has no cost.
pub(crate) fn known(
    code: &Code<'_>,
    prices: &mut Prices,
    classes: &[Class],
    memories: &[Memory],
    cache: &mut Cache,
    past_cache: bool,
) -> Result<(Vec<Vec<Vec<Known>>>, u64), SimError> {
    let mut roles = Vec::new();
    let mut signatures = Signatures::default();
    for role in 0..code.roles.len() {
        roles.push(Lockstep::new(code, prices, &mut signatures, classes, role)?);
    }
    let mut walked = 0;
    let mut period = Period::find(code, prices, &mut signatures, memories, &roles)?;
    loop {
        // Kinds of core advance in proportion to what each has to do.
        let open = roles.iter_mut().filter(|role| (role.steps as f64) < role.count);
        let behind = open.min_by(|a, b| a.progress().total_cmp(&b.progress()));
        let Some(role) = behind else { break };
        role.step(code, prices, memories, cache, past_cache)?;
        walked += role.cursors.len() as u64;
        if let Some(found) = &mut period
            && found.leap(memories, &mut roles, cache)
        {
            period = None;
        }
    }
    Ok((roles.into_iter().map(|role| role.known).collect(), walked))
}

/// All cores of one kind, in step.
pub(crate) struct Lockstep {
    pub cursors: Vec<Cursor>,
    /// By class; those of a class with less to do are fewer.
    known: Vec<Vec<Known>>,
    /// The class of each core.
    classes: Vec<usize>,
    /// How many accesses were walked.
    pub steps: usize,
    /// How many accesses a core makes.
    count: f64,
    /// What was read in this step, and by which class.
    places: Vec<((u32, i64), usize)>,
    /// What was read in this step: memory, first byte, price.
    seen: FxHashSet<(u32, i64, PriceId)>,
}

impl Lockstep {
    fn new(
        code: &Code<'_>,
        prices: &mut Prices,
        signatures: &mut Signatures,
        classes: &[Class],
        role: usize,
    ) -> Result<Lockstep, SimError> {
        let lanes = code.roles[role].lanes;
        let mut count = 0;
        for Class { group, .. } in classes {
            for lane in 0..lanes {
                let mut accesses = 0;
                let mut item = *group as u64;
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
        let class = |group: usize| classes.iter().position(|class| class.members.contains(&group)).unwrap_or(0);
        Ok(Lockstep {
            cursors,
            known: vec![Vec::new(); classes.len()],
            classes: (0..groups).flat_map(|group| std::iter::repeat_n(class(group), lanes)).collect(),
            steps: 0,
            count: count as f64,
            places: Vec::new(),
            seen: FxHashSet::default(),
        })
    }

    /// Whether it makes accesses at all.
    pub fn moves(&self) -> bool {
        self.count > 0.0
    }

    /// Counts so many periods of so many accesses as the last one was, and puts the cores as far on.
    pub fn leap(&mut self, var: Var, advance: i64, accesses: usize, periods: usize) {
        for known in &mut self.known {
            let last = known.len() - accesses;
            for _ in 0..periods {
                known.extend_from_within(last..last + accesses);
            }
        }
        self.steps += accesses * periods;
        for cursor in &mut self.cursors {
            cursor.vars[var as usize] += advance;
            cursor.accesses += accesses * periods;
        }
    }

    /// Whether the last accesses of every class found as much in the cache as those before.
    pub fn alike(&self, accesses: usize) -> bool {
        self.known.iter().all(|known| alike(known, accesses))
    }

    fn progress(&self) -> f64 {
        (self.steps as f64 + 0.5) / self.count
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
        let mut found = vec![(Traffic::default(), 0.0); self.known.len()];
        let mut issues = vec![false; self.known.len()];
        self.places.clear();
        self.seen.clear();
        for (cursor, &class) in self.cursors.iter_mut().zip(&self.classes) {
            let Some(issued) = next_access(cursor, code, prices)? else { continue };
            let (total, bytes) = &mut found[class];
            issues[class] = true;
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
                *bytes += geometry.bytes;
                if access.read {
                    self.places.push(((memory.id, start), class));
                }
            }
        }
        let parts = |(total, bytes): &(Traffic, f64)| {
            let part = |of: f64| if *bytes > 0.0 { of / bytes } else { 0.0 };
            [part(total.fetched), part(total.written_back)]
        };
        let mut all = (Traffic::default(), 0.0);
        for (total, bytes) in &found {
            all.0.add(total);
            all.1 += bytes;
        }
        let all = parts(&all);
        let differs =
            |own: &(Traffic, f64)| parts(own).iter().zip(&all).any(|(own, all)| (own - all).abs() > ELSEWHERE);
        let elsewhere = found.iter().zip(&issues).any(|(own, issues)| *issues && differs(own));
        let readers = mean_readers(&mut self.places, self.known.len(), elsewhere);
        for (class, known) in self.known.iter_mut().enumerate().filter(|(class, _)| issues[*class]) {
            let [fetched, written_back] = if elsewhere { parts(&found[class]) } else { all };
            known.push(Known { fetched, written_back, readers: readers[class] });
        }
        self.steps += 1;
        Ok(())
    }
}

/// How many cores, on average over the cores of each class or over all, are at the place where one is.
fn mean_readers(places: &mut [((u32, i64), usize)], classes: usize, apart: bool) -> Vec<f64> {
    places.sort_unstable();
    let mut sums = vec![(0.0, 0.0); classes];
    for same in places.chunk_by(|(a, _), (b, _)| a == b) {
        for &(_, class) in same {
            let sums = if apart { &mut sums[class..=class] } else { &mut sums[..] };
            sums.iter_mut().for_each(|(readers, count)| {
                *readers += same.len() as f64;
                *count += 1.0;
            });
        }
    }
    sums.into_iter().map(|(readers, count)| if count > 0.0 { readers / count } else { 0.0 }).collect()
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

/// Whether the last accesses found as much in the cache as those before.
fn alike(known: &[Known], accesses: usize) -> bool {
    let Some(first) = known.len().checked_sub(2 * accesses) else { return false };
    let (before, last) = known[first..].split_at(accesses);
    let sum = |of: &dyn Fn(&Known) -> f64, known: &[Known]| known.iter().map(of).sum::<f64>();
    let all: [&dyn Fn(&Known) -> f64; 3] =
        [&|known| known.fetched, &|known| known.written_back, &|known| known.readers];
    all.iter().all(|of| (sum(of, before) - sum(of, last)).abs() <= ALIKE * accesses as f64)
}
