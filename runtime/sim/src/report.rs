//! What a simulation tells: times, uses of every resource, bytes, and what each kernel is held up by.

use serde::Serialize;

use crate::trace::Timeline;

/// The time of a program.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Name of the program.
    pub program: String,
    /// Name of the machine.
    pub target: String,
    /// Time in all: launches and kernels one after the other.
    pub cycles: f64,
    /// The same.
    pub microseconds: f64,
    /// Part of it that starting kernels takes.
    pub launch_cycles: f64,
    /// How many kernels are started.
    pub launches: usize,
    /// What moves between memories in all.
    pub bytes: Bytes,
    /// Operations in all.
    pub flops: f64,
    /// By kernel, in order of first launch.
    pub kernels: Vec<KernelReport>,
    /// In order.
    pub steps: Vec<StepReport>,
    /// What is left out or assumed.
    pub notes: Vec<String>,
    /// Every pipe of every simulated core.
    #[serde(skip)]
    pub timeline: Timeline,
}

/// One step of the program.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// The kernel, or the host function.
    pub name: String,
    /// Whether it is a launch; other steps have no time.
    pub launch: bool,
    /// When it begins, the start of the kernel included.
    pub start_cycles: f64,
    /// How long it takes, the start of the kernel included.
    pub cycles: f64,
}

/// All launches of one kernel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelReport {
    /// Its name.
    pub name: String,
    /// The model's nodes that it computes.
    pub origin: Vec<String>,
    /// How often it is launched.
    pub launches: usize,
    /// Time of all launches, without starting them.
    pub cycles: f64,
    /// The same.
    pub microseconds: f64,
    /// Time of starting them.
    pub launch_cycles: f64,
    /// Work items of one launch.
    pub items: u64,
    /// Cores (groups of cores that share an item) with work, and how many of them were simulated.
    pub groups: usize,
    /// Those that were simulated: the others are equal to one of these.
    pub simulated_groups: usize,
    /// Instructions of all cores.
    pub instructions: f64,
    /// Instructions that were looked at one by one, in all simulations of it: the work of finding out.
    pub walked: u64,
    /// Every pipe of the kinds of core that take part.
    pub pipes: Vec<PipeReport>,
    /// What moves between memories.
    pub bytes: Bytes,
    /// Bytes on every data path that is used.
    pub paths: Vec<PathReport>,
    /// Multiplications and additions of matrix products.
    pub matrix_flops: f64,
    /// Elements of other computations.
    pub vector_flops: f64,
    /// Where it is on the roofline.
    pub roofline: Roofline,
    /// What holds it up.
    pub bottleneck: Bottleneck,
    /// Operations per second of all cores' matrix and vector units for the types that it computes in.
    #[serde(skip)]
    pub(crate) peaks: [f64; 2],
}

/// Bytes between memories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bytes {
    /// From device memory.
    pub memory_read: f64,
    /// To device memory; what is written stays in the cache until it must make room.
    pub memory_written: f64,
    /// From the cache to the cores (all reads, where there is no cache).
    pub cache_read: f64,
    /// From the cores to the cache.
    pub cache_written: f64,
    /// To and from the parts of device memory through which cores of one group exchange tiles.
    pub exchanged: f64,
}

/// How busy a pipe is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PipeReport {
    /// Its name.
    pub name: String,
    /// The kind of core.
    pub core: String,
    /// Cycles with an instruction, mean over all cores of the kind that the machine has.
    pub busy_cycles: f64,
    /// The same as a part of the kernel's time.
    pub utilisation: f64,
    /// Cycles in which an instruction waits for an event, mean over all cores of the kind.
    pub waiting_cycles: f64,
}

/// Bytes on a data path.
#[derive(Clone, Debug, Serialize)]
pub struct PathReport {
    /// Source space.
    pub from: String,
    /// Destination space.
    pub to: String,
    /// Its pipe.
    pub pipe: String,
    /// Bytes of all cores.
    pub bytes: f64,
}

/// Attained and attainable.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Roofline {
    /// Operations per byte of device memory; infinite (null) if nothing moves.
    pub intensity: f64,
    /// Operations per second attained.
    pub attained: f64,
    /// Operations per second that the units and device memory allow at this intensity.
    pub attainable: f64,
    /// What allows no more: `matrix`, `vector` or `memory`.
    pub bound: String,
    /// Attained as a part of attainable.
    pub fraction: f64,
}

/// What holds a kernel up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bottleneck {
    /// A pipe, `memory`, `cache`, `latency` (events and heads of instructions) or `launch`; empty if not asked for.
    pub resource: String,
    /// The kernel's cycles if that cost nothing.
    pub cycles_if_free: f64,
    /// Others that were tried.
    pub tried: Vec<(String, f64)>,
}

impl Bytes {
    /// Adds others.
    pub fn add(&mut self, other: &Bytes) {
        self.memory_read += other.memory_read;
        self.memory_written += other.memory_written;
        self.cache_read += other.cache_read;
        self.cache_written += other.cache_written;
        self.exchanged += other.exchanged;
    }

    /// From and to device memory.
    pub fn memory(&self) -> f64 {
        self.memory_read + self.memory_written
    }
}

impl KernelReport {
    /// Adds a further launch.
    pub(crate) fn add(&mut self, other: &KernelReport) {
        let total = self.cycles + other.cycles;
        self.launches += other.launches;
        self.cycles = total;
        self.microseconds += other.microseconds;
        self.launch_cycles += other.launch_cycles;
        self.instructions += other.instructions;
        self.walked += other.walked;
        self.bytes.add(&other.bytes);
        self.matrix_flops += other.matrix_flops;
        self.vector_flops += other.vector_flops;
        for (pipe, more) in self.pipes.iter_mut().zip(&other.pipes) {
            pipe.busy_cycles += more.busy_cycles;
            pipe.waiting_cycles += more.waiting_cycles;
            pipe.utilisation = pipe.busy_cycles / total.max(f64::MIN_POSITIVE);
        }
        for (path, more) in self.paths.iter_mut().zip(&other.paths) {
            path.bytes += more.bytes;
        }
        if self.bottleneck.resource == other.bottleneck.resource {
            self.bottleneck.cycles_if_free += other.bottleneck.cycles_if_free;
        } else {
            // The slower launch's counts; the other one gains nothing from it that is known.
            let own = self.cycles - other.cycles;
            if own < other.cycles {
                self.bottleneck = other.bottleneck.clone();
                self.bottleneck.cycles_if_free += own;
            } else {
                self.bottleneck.cycles_if_free += other.cycles;
            }
        }
        for (name, cycles) in &mut self.bottleneck.tried {
            let same = other.bottleneck.tried.iter().find(|(tried, _)| tried == name);
            *cycles += same.map_or(other.cycles, |(_, cycles)| *cycles);
        }
    }

    /// Fills in the roofline from what is known by now; `bandwidth` is that of device memory in bytes per second.
    pub(crate) fn place_on_roofline(&mut self, bandwidth: f64) {
        let seconds = self.microseconds / 1e6;
        let least = [
            ("matrix", self.matrix_flops / self.peaks[0]),
            ("vector", self.vector_flops / self.peaks[1]),
            ("memory", self.bytes.memory() / bandwidth),
        ];
        let (bound, least) = least.into_iter().fold(("", 0.0), |a, b| if b.1 > a.1 { b } else { a });
        let flops = self.flops();
        self.roofline = Roofline {
            intensity: flops / self.bytes.memory(),
            attained: if seconds > 0.0 { flops / seconds } else { 0.0 },
            attainable: if least > 0.0 { flops / least } else { 0.0 },
            bound: bound.to_owned(),
            fraction: if seconds > 0.0 { least / seconds } else { 0.0 },
        };
    }

    /// Operations of all kinds.
    pub fn flops(&self) -> f64 {
        self.matrix_flops + self.vector_flops
    }
}
