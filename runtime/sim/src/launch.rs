//! One launch of a kernel: which cores to simulate, what the cache holds, what holds it up, and the report.

use std::collections::BTreeMap;

use tarsia_tensor::Symbol;
use tarsia_tile::{
    Kernel, Machine,
    machine::{CoreKind, GLOBAL},
    optable::Class,
};

use crate::{
    Options, SimError,
    cache::{Cache, Memory},
    code::Code,
    engine::{self, Free, Known, Outcome, Setup, Source},
    equal::{self, Class as Equals, Classes},
    expr::Names,
    lockstep,
    price::Prices,
    report::{Bottleneck, Bytes, KernelReport, PathReport, PipeReport},
    trace::{Span, Timeline},
};

/// A resource is worth a what-if if it is in use for this part of the time.
const WORTH_TRYING: f64 = 0.25;
/// And a bottleneck if the kernel were faster by this part without.
const MATTERS: f64 = 0.02;
/// What-ifs are asked of fewer classes if those take as long as all, but for this part.
const SAME: f64 = 0.02;

/// What is known of the accesses of some of the classes, by kind of core.
fn known_to<'k>(some: &[Equals], classes: &Classes, known: &'k [Vec<Vec<Known>>]) -> Vec<Vec<&'k [Known]>> {
    let place = |class: &Equals| classes.all.iter().position(|other| other.group == class.group);
    let places: Vec<usize> = some.iter().filter_map(place).collect();
    known.iter().map(|role| places.iter().map(|&at| &role[at][..]).collect()).collect()
}

/// One launch with nothing in the cache.
///
/// # Errors
/// As [`crate::simulate`].
pub(crate) fn simulate(
    kernel: &Kernel,
    machine: &Machine,
    bindings: &BTreeMap<Symbol, i64>,
    options: &Options,
) -> Result<(KernelReport, Timeline), SimError> {
    let mut cache = new_cache(machine, &[kernel]);
    let memories = parameters(kernel, bindings)?;
    let mut timeline = Timeline::default();
    let launch = Launch { kernel, machine, bindings, options, memories: &memories };
    let mut report = launch.run(cache.as_mut(), machine.launch_cycles(), &mut timeline)?;
    report.place_on_roofline(machine.shared_bandwidth(GLOBAL));
    Ok((report, timeline))
}

/// The machine's cache, less what the cores' own parts of device memory take in it for these kernels.
pub(crate) fn new_cache(machine: &Machine, kernels: &[&Kernel]) -> Option<Cache> {
    let cache = machine.space(GLOBAL)?.cache.as_ref()?;
    let local = |kernel: &&Kernel| -> u64 {
        let tiles = kernel
            .tiles
            .iter()
            .filter(|tile| machine.space(&tile.space).is_some_and(|space| space.backing.as_deref() == Some(GLOBAL)));
        let bytes = tiles.map(|tile| {
            let elements = tile.layout.elements(&tile.shape).unwrap_or(0);
            tile.dtype.bytes_of(elements).unwrap_or(0).saturating_mul(tile.slots) as u64
        });
        let groups = machine.cores.iter().map(|core| core.count / core.lanes.max(1)).max().unwrap_or(1) as u64;
        bytes.sum::<u64>().saturating_mul(groups)
    };
    let taken = kernels.iter().map(local).max().unwrap_or(0);
    Some(Cache::new(cache.bytes.saturating_sub(taken).max(cache.bytes / 8)))
}

/// Every parameter as a memory of its own.
fn parameters(kernel: &Kernel, bindings: &BTreeMap<Symbol, i64>) -> Result<Vec<Memory>, SimError> {
    let names = Names::new(bindings);
    let memory = |(at, param): (usize, &tarsia_tile::Param)| {
        let shape = param.shape.iter().map(|dim| Ok(names.expr(dim)?.eval(&[])));
        let shape = shape.collect::<Result<Vec<i64>, SimError>>()?;
        Ok(Memory::new(at as u32, &shape, param.dtype.bits() as i64).laid_out(param.layout))
    };
    kernel.params.iter().enumerate().map(memory).collect()
}

/// A launch.
pub(crate) struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub machine: &'a Machine,
    pub bindings: &'a BTreeMap<Symbol, i64>,
    pub options: &'a Options,
    pub memories: &'a [Memory],
}

impl Launch<'_> {
    /// Simulates it, beginning at a cycle of the timeline.
    ///
    /// # Errors
    /// As [`crate::simulate`].
    pub fn run(
        &self,
        cache: Option<&mut Cache>,
        begin: f64,
        timeline: &mut Timeline,
    ) -> Result<KernelReport, SimError> {
        let code = Code::new(self.kernel, self.machine, self.bindings)?;
        let mut prices = Prices::new(&code);
        let full = self.options.full;
        let classes = if full { equal::each(&code) } else { equal::classes(&code, &mut prices)? };
        let setup = Setup {
            code: &code,
            groups: &classes.all,
            all_groups: code.groups,
            memories: self.memories,
            free: Free::default(),
            past_cache: self.options.past_cache,
            extrapolate: !full,
            spans: self.options.spans.saturating_sub(timeline.spans.len()),
        };
        let mut walked = 0;
        let (outcome, bottleneck) = match cache {
            Some(cache) if full => {
                let before = self.options.bottlenecks.then(|| cache.clone());
                let outcome = engine::run(&setup, &mut prices, Source::Cache(cache))?;
                let bottleneck = self.bottleneck(&setup, &outcome, &mut walked, &|setup, prices| {
                    let mut cache = before.clone().unwrap_or(Cache::new(0));
                    engine::run(setup, prices, Source::Cache(&mut cache))
                })?;
                (outcome, bottleneck)
            }
            Some(cache) => {
                let past_cache = self.options.past_cache;
                let (known, accesses) =
                    lockstep::known(&code, &mut prices, &classes.all, self.memories, cache, past_cache)?;
                walked += accesses;
                let all = known_to(&classes.all, &classes, &known);
                let outcome = engine::run(&setup, &mut prices, Source::Known(&all))?;
                let mut asked = (setup, all, 1.0);
                if self.options.bottlenecks && !classes.few.is_empty() {
                    let (fewer, of_fewer) =
                        (Setup { groups: &classes.few, spans: 0, ..setup }, known_to(&classes.few, &classes, &known));
                    let rough = engine::run(&fewer, &mut prices, Source::Known(&of_fewer))?;
                    walked += rough.walked;
                    let scale = outcome.cycles / rough.cycles;
                    if (scale - 1.0).abs() < SAME {
                        asked = (fewer, of_fewer, scale);
                    }
                }
                let (setup, known, scale) = asked;
                let again = &|setup: &Setup<'_>, prices: &mut Prices| {
                    let other = engine::run(setup, prices, Source::Known(&known))?;
                    Ok(Outcome { cycles: other.cycles * scale, ..other })
                };
                let bottleneck = self.bottleneck(&setup, &outcome, &mut walked, again)?;
                (outcome, bottleneck)
            }
            None => {
                let outcome = engine::run(&setup, &mut prices, Source::Memory)?;
                let again = &|setup: &Setup<'_>, prices: &mut Prices| engine::run(setup, prices, Source::Memory);
                let bottleneck = self.bottleneck(&setup, &outcome, &mut walked, again)?;
                (outcome, bottleneck)
            }
        };
        self.draw(&code, &outcome, begin, timeline);
        let report = self.report(&code, &classes.all, &outcome, bottleneck);
        Ok(KernelReport { walked: walked + outcome.walked, ..report })
    }

    /// The resource without which the kernel would be fastest. What it would be without each is found side by side.
    fn bottleneck(
        &self,
        setup: &Setup<'_>,
        outcome: &Outcome,
        walked: &mut u64,
        again: &(dyn Fn(&Setup<'_>, &mut Prices) -> Result<Outcome, SimError> + Sync),
    ) -> Result<Bottleneck, SimError> {
        if !self.options.bottlenecks || outcome.cycles <= 0.0 {
            return Ok(Bottleneck::default());
        }
        let others = std::thread::scope(|scope| {
            let start = |(name, free)| {
                let other = move || again(&Setup { free, spans: 0, ..*setup }, &mut Prices::new(setup.code));
                (name, scope.spawn(other))
            };
            let runs: Vec<_> = self.candidates(setup, outcome).into_iter().map(start).collect();
            let end = |(name, run): (String, std::thread::ScopedJoinHandle<'_, Result<Outcome, SimError>>)| {
                let other = run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok((name, other))
            };
            runs.into_iter().map(end).collect::<Result<Vec<_>, SimError>>()
        })?;
        *walked += others.iter().map(|(_, other)| other.walked).sum::<u64>();
        let mut tried: Vec<(String, f64)> = others.into_iter().map(|(name, other)| (name, other.cycles)).collect();
        let launch = self.machine.launch_cycles();
        tried.sort_by(|a, b| a.1.total_cmp(&b.1));
        let best = tried.first().cloned().unwrap_or_default();
        let gain = outcome.cycles - best.1;
        let (resource, cycles_if_free) = match best {
            _ if launch > outcome.cycles && launch > gain => ("launch".to_owned(), outcome.cycles),
            (name, cycles) if gain > MATTERS * outcome.cycles => (name, cycles),
            // No resource alone: the chain from one to the next.
            _ => ("balance".to_owned(), best.1.min(outcome.cycles)),
        };
        Ok(Bottleneck { resource, cycles_if_free, tried })
    }

    fn candidates(&self, setup: &Setup<'_>, outcome: &Outcome) -> Vec<(String, Free)> {
        let worth = |cycles: f64| cycles >= WORTH_TRYING * outcome.cycles;
        let mut candidates = Vec::new();
        for (number, pipe) in setup.code.pipes.iter().enumerate() {
            let busy = outcome.pipes.iter().filter(|other| other.kind == number).map(|other| other.busy);
            if worth(busy.fold(0.0, f64::max)) {
                candidates.push((pipe.name.clone(), Free { pipe: Some(number), ..Free::default() }));
            }
        }
        let space = self.machine.space(GLOBAL);
        let traffic = &outcome.traffic;
        let rate = space.and_then(|space| space.bytes_per_cycle).unwrap_or(f64::INFINITY);
        if worth(traffic.memory() / rate) {
            candidates.push(("memory".into(), Free { memory: true, ..Free::default() }));
        }
        let cache = space.and_then(|space| space.cache.as_ref());
        let rate = cache.and_then(|cache| cache.bytes_per_cycle).unwrap_or(f64::INFINITY);
        let serial = cache.is_some_and(|cache| cache.same_address_cycles.is_some());
        if serial || worth((traffic.cores() + outcome.local) / rate) {
            candidates.push(("cache".into(), Free { cache: true, ..Free::default() }));
        }
        candidates.push(("latency".into(), Free { latency: true, ..Free::default() }));
        candidates
    }

    fn report(&self, code: &Code<'_>, groups: &[Equals], outcome: &Outcome, bottleneck: Bottleneck) -> KernelReport {
        let traffic = &outcome.traffic;
        let paths = self.machine.paths.iter().zip(&outcome.paths).filter(|(_, bytes)| **bytes > 0.0);
        KernelReport {
            name: self.kernel.name.clone(),
            origin: self.kernel.origin.clone(),
            launches: 1,
            cycles: outcome.cycles,
            microseconds: self.machine.seconds(outcome.cycles) * 1e6,
            launch_cycles: self.machine.launch_cycles(),
            items: code.items(),
            groups: groups.iter().map(|class| class.members.len()).sum(),
            simulated_groups: groups.len(),
            instructions: outcome.instructions,
            pipes: self.pipes(code, outcome),
            bytes: Bytes {
                memory_read: traffic.fetched,
                memory_written: traffic.written_back,
                cache_read: traffic.read,
                cache_written: traffic.written,
                exchanged: outcome.local,
            },
            paths: paths
                .map(|(path, &bytes)| PathReport {
                    from: path.from.clone(),
                    to: path.to.clone(),
                    pipe: path.pipe.clone(),
                    bytes,
                })
                .collect(),
            matrix_flops: outcome.matrix_flops,
            vector_flops: outcome.vector_flops,
            bottleneck,
            peaks: self.peaks(code),
            ..KernelReport::default()
        }
    }

    fn pipes(&self, code: &Code<'_>, outcome: &Outcome) -> Vec<PipeReport> {
        let mut reports = Vec::new();
        for (number, pipe) in code.pipes.iter().enumerate() {
            if !code.roles.iter().any(|role| role.core == pipe.core) {
                continue;
            }
            let CoreKind { name, count, .. } = &self.machine.cores[pipe.core];
            let mean = |cycles: &dyn Fn(&engine::PipeOutcome) -> f64| {
                let own = outcome.pipes.iter().filter(|other| other.kind == number);
                own.map(|other| cycles(other) * other.weight).sum::<f64>() / (*count).max(1) as f64
            };
            let busy_cycles = mean(&|pipe| pipe.busy);
            reports.push(PipeReport {
                name: pipe.name.clone(),
                core: name.clone(),
                busy_cycles,
                utilisation: if outcome.cycles > 0.0 { busy_cycles / outcome.cycles } else { 0.0 },
                waiting_cycles: mean(&|pipe| pipe.waiting),
            });
        }
        reports
    }

    /// Operations per second of matrix and vector units, for the first product and the most common type of the kernel.
    fn peaks(&self, code: &Code<'_>) -> [f64; 2] {
        let count = |core: &str| self.machine.core(core).map_or(1, |core| core.count) as f64;
        let matrix = code.works.iter().filter(|work| work.class == Class::Matrix).find_map(|work| {
            let dtype = |at: usize| work.instr.src.get(at).and_then(|operand| self.kernel.dtype_of(operand));
            let (unit, product) = self.machine.product(dtype(0)?, dtype(1)?)?;
            Some(2.0 * product.per_cycle * count(&unit.core))
        });
        let vector = code.works.iter().filter(|work| work.class == Class::Pointwise).filter_map(|work| {
            let dtype = tarsia_tile::verify::compute_type(self.kernel, work.instr)?;
            let unit = self.machine.unit(Class::Pointwise, "", dtype)?;
            Some(unit.rate(Class::Pointwise, "", dtype)?.per_cycle * count(&unit.core))
        });
        let vector = vector.fold(0.0, f64::max);
        let hertz = self.machine.clock.hertz;
        [matrix.unwrap_or(f64::INFINITY) * hertz, if vector > 0.0 { vector * hertz } else { f64::INFINITY }]
    }

    fn draw(&self, code: &Code<'_>, outcome: &Outcome, begin: f64, timeline: &mut Timeline) {
        timeline.left_out += if self.options.spans > 0 { outcome.spans_left_out } else { 0 };
        if outcome.spans.is_empty() {
            return;
        }
        let pipes: Vec<u32> = outcome
            .pipes
            .iter()
            .map(|pipe| {
                let kind = &code.pipes[pipe.kind];
                let name = &self.machine.cores[kind.core].name;
                let lanes = code.roles.iter().find(|role| role.core == kind.core).map_or(1, |role| role.lanes);
                let core = timeline.core(&format!("{name} {}", pipe.group * lanes + pipe.lane));
                timeline.pipe(core, &kind.name)
            })
            .collect();
        let first = timeline.instructions.len() as u32;
        timeline.instructions.extend(code.works.iter().map(|work| (work.label.clone(), self.kernel.origin.clone())));
        timeline.spans.extend(outcome.spans.iter().map(|span| Span {
            pipe: pipes[span.pipe as usize],
            instruction: first + span.work,
            start: begin + span.start,
            cycles: span.end - span.start,
        }));
    }
}
