//! Whether the verifier sees mistakes: kernels of the corpus, verified and synchronised, are changed in one place.
//!
//! Events are removed, moved and renumbered, tiles moved and exchanged, copies and parts of tiles mistaken. What the verifier accepts
//! is judged by an exhaustive run (`unrolled.rs`):
//!
//! ```text
//! refused     the verifier tells
//! equal       accepted; safe, and every operand reads what it read before
//! values      accepted; safe, but something else is computed: in order, inside, written before it is read. Tests of results find it
//! missed      accepted, but not safe, or too large for the exhaustive run to tell
//! ```
//! Of refused and missed ones together at least 99 in 100 must be refused. The numbers are printed:
//! `cargo test --release --test mutation -- --nocapture`.

mod cells;
mod mutants;
mod unrolled;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tarsia::{
    DType, Dim, Machine, Phase,
    tile::{
        Buffer, BufferId, BufferKind, Kernel, Layout, Port, Program, Step,
        verify::{BindCheck, Stage, verify},
    },
};
use tarsia_tensor::Symbol;

/// Mutants that are tried for one kernel, at least and at most; those of long kernels, which take longer, are fewer.
const PER_KERNEL: [usize; 2] = [6, 60];
/// This many mutants for a kernel of which so many could be made.
const SHARE: usize = 6_000;
/// Which of the mutants come first.
const SEED: u64 = 20_261_128;
/// Kernels of one kind that are changed on one machine.
const PER_KIND: usize = 2;
/// Programs written by hand: double buffering, and cores of two kinds that share items.
const WRITTEN: [&str; 2] = [
    include_str!("../../codegen/tile/src/text/samples/twopipe.tile"),
    include_str!("../../codegen/tile/src/text/samples/lanes.tile"),
];
/// Machines with something to synchronise.
const MACHINES: [&str; 2] = ["twopipe", "ascend910b2"];

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = Vec::new();
    for parent in ["examples", "tests/models"] {
        let entries = std::fs::read_dir(root.join(parent)).expect("readable");
        folders.extend(
            entries.map(|entry| entry.expect("readable").path()).filter(|path| path.join("test_data_set_0").is_dir()),
        );
    }
    folders.sort();
    folders
}

fn compiled(folder: &Path, machine: &Machine) -> Result<Program, String> {
    let model = tarsia::Folder::open(folder).map_err(|error| error.to_string())?.model;
    let start = tarsia::load(&model, tarsia::Limits::default(), machine).map_err(|error| error.to_string())?;
    let compiled = tarsia::compile(start, Phase::Tiles, machine).map_err(|error| error.to_string())?;
    compiled.program.ok_or_else(|| "no program".into())
}

/// All programs of the corpus for one machine.
fn programs(machine: &Machine) -> Vec<Program> {
    folders().iter().filter_map(|folder| compiled(folder, machine).ok()).collect()
}

fn nested<'p>(program: &'p Program, found: &mut Vec<&'p Program>) {
    found.push(program);
    for step in &program.steps {
        match step {
            Step::If { then_branch, else_branch, .. } => {
                [then_branch, else_branch].iter().for_each(|p| nested(p, found))
            }
            Step::Loop(step) => nested(&step.body, found),
            Step::Scan(step) => nested(&step.body, found),
            Step::Launch { .. } | Step::Host { .. } => {}
        }
    }
}

/// A program with one kernel, and an input for every symbol that it may need.
fn alone(program: &Program, kernel: &Kernel) -> Program {
    let buffer = |symbol: &Symbol| Buffer {
        name: format!("size {symbol}"),
        dtype: DType::F32,
        shape: vec![Dim::from(symbol.clone())],
        layout: Layout::RowMajor,
        kind: BufferKind::Input,
    };
    let buffers: Vec<Buffer> = program.symbols().iter().map(buffer).collect();
    let port = |(i, buffer): (usize, &Buffer)| Port {
        name: buffer.name.clone(),
        buffer: BufferId(i as u32),
        shape: buffer.shape.clone(),
    };
    Program {
        name: program.name.clone(),
        target: program.target.clone(),
        inputs: buffers.iter().enumerate().map(port).collect(),
        buffers,
        kernels: vec![kernel.clone()],
        ..Program::default()
    }
}

/// What the exhaustive run cannot judge: buffers that are not told apart, scalars that go from one kind of core to another, elements
/// that data choose.
const BEYOND: [&str; 3] =
    ["two parameters may be one buffer", "a scalar on one of several kinds of core", "a race over chosen elements"];

/// Whether the exhaustive run can judge changes of a kernel.
fn can_be_judged(kernel: &Kernel, machine: &Machine) -> bool {
    let beyond = |reason: &String| BEYOND.contains(&reason.as_str());
    let [sizes, ..] = SIZES;
    unrolled::run(kernel, machine, &|name| sizes[name.len() % 2], false).err().is_none_or(|reason| !beyond(&reason))
}

/// Kernels to change: of every kind those with the most statements of those that are not too long.
fn subjects<'p>(programs: &[&'p Program], machine: &Machine) -> Vec<(&'p Program, &'p Kernel)> {
    let mut kinds: BTreeMap<String, Vec<(usize, &Program, &Kernel)>> = BTreeMap::new();
    for program in programs {
        for kernel in &program.kernels {
            let kind = kernel.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_').to_owned();
            let length = format!("{:?}", kernel.body).len();
            kinds.entry(kind).or_default().push((length, program, kernel));
        }
    }
    let mut chosen = Vec::new();
    for (kind, kernels) in &mut kinds {
        let before = kernels.len();
        kernels.retain(|(_, _, kernel)| can_be_judged(kernel, machine));
        if kernels.len() < before {
            println!("{}: {} of {before} kernels `{kind}` are not changed", machine.name, before - kernels.len());
        }
        kernels.sort_by_key(|(length, program, kernel)| (*length, &program.name, &kernel.name));
        let count = kernels.len();
        if count == 0 {
            continue;
        }
        let spread = (1..=PER_KIND.min(count)).map(|i| kernels[count * i / PER_KIND.min(count) * 9 / 10]);
        chosen.extend(spread.map(|(_, program, kernel)| (program, kernel)));
    }
    chosen
}

#[derive(Default)]
struct Score {
    mutants: usize,
    refused: usize,
    equal: usize,
    values: usize,
    missed: Vec<String>,
}

/// Sizes for which an accepted mutant is unrolled: how a symbol's value depends on its name.
const SIZES: [[i64; 2]; 6] = [[1, 1], [2, 3], [5, 2], [17, 17], [40, 9], [70, 130]];

/// What a kernel does, for every size and for the first and the last item, where that can be told and is something.
fn flows(kernel: &Kernel, machine: &Machine) -> Vec<([i64; 2], bool, unrolled::Flow)> {
    let mut flows = Vec::new();
    for (sizes, last) in SIZES.iter().flat_map(|sizes| [(*sizes, false), (*sizes, true)]) {
        match unrolled::run(kernel, machine, &|name| sizes[name.len() % 2], last) {
            Ok(flow) if !flow.is_empty() => flows.push((sizes, last, flow)),
            Ok(_) => {}
            // Sizes that do not go together: what is checked when symbols are bound.
            Err(reason) if reason == "outside of a parameter" => {}
            Err(reason) => assert!(reason.starts_with("too many"), "{}: {reason} for {sizes:?}", kernel.name),
        }
    }
    flows
}

/// What an exhaustive run finds out about a mutant.
enum Verdict {
    Equal,
    Values,
    Unsafe(String),
}

/// Judges a mutant for all sizes that can be tried; at least two can.
fn verdict(flows: &[([i64; 2], bool, unrolled::Flow)], mutant: &Kernel, machine: &Machine) -> Verdict {
    let mut equal = true;
    for (sizes, last, flow) in flows {
        match unrolled::run(mutant, machine, &|name| sizes[name.len() % 2], *last) {
            Ok(other) => equal &= other == *flow,
            Err(reason) => return Verdict::Unsafe(format!("{reason} for {sizes:?}")),
        }
    }
    match (flows.len() < 2, equal) {
        (true, _) => Verdict::Unsafe("too large to be tried".into()),
        (false, true) => Verdict::Equal,
        (false, false) => Verdict::Values,
    }
}

/// SplitMix64 (Steele et al. 2014).
fn scrambled(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn judge(program: &Program, kernel: &Kernel, machine: &Machine, score: &mut Score) {
    if let Err(faults) = verify(&alone(program, kernel), machine, Stage::Synchronised) {
        panic!("`{}` alone: {faults}", kernel.name);
    }
    let all = mutants::of(kernel, machine);
    let [least, most] = PER_KERNEL;
    let every = all.len().div_ceil((SHARE / all.len().max(1)).clamp(least, most)).max(1);
    // One in each so many, which one is left to chance.
    let chosen = |chunk: usize| chunk * every + (scrambled(SEED + chunk as u64) % every as u64) as usize;
    let picked: std::collections::BTreeSet<usize> = (0..all.len().div_ceil(every)).map(chosen).collect();
    let mut reference = None;
    for (_, mutant) in all.into_iter().enumerate().filter(|(at, _)| picked.contains(at)) {
        score.mutants += 1;
        let Ok(checks) = verify(&alone(program, &mutant.kernel), machine, Stage::Synchronised) else {
            score.refused += 1;
            continue;
        };
        let flows = reference.get_or_insert_with(|| flows(kernel, machine));
        // What is open until the symbols are bound is decided then.
        let holds =
            |check: &BindCheck, sizes: &[i64; 2]| check.check(&|symbol| Some(sizes[symbol.name().len() % 2])).is_ok();
        if flows.iter().any(|(sizes, ..)| checks.iter().any(|check| !holds(check, sizes))) {
            score.refused += 1;
            continue;
        }
        match verdict(flows, &mutant.kernel, machine) {
            Verdict::Equal => score.equal += 1,
            Verdict::Values => score.values += 1,
            Verdict::Unsafe(reason) => score
                .missed
                .push(format!("{} {} {}: {} ({reason})", machine.name, program.name, kernel.name, mutant.change)),
        }
    }
}

#[test]
fn mistakes_are_seen() {
    let mut total = Score::default();
    for name in MACHINES {
        let machine = tarsia::machine(name).expect("a machine");
        let mut programs = programs(&machine);
        let written = WRITTEN.iter().map(|text| tarsia::tile::text::parse(text).expect("a program"));
        programs.extend(written.filter(|program| program.target == name));
        let mut all = Vec::new();
        programs.iter().for_each(|program| nested(program, &mut all));
        for (program, kernel) in subjects(&all, &machine) {
            let before = (total.mutants, total.refused, total.equal + total.values);
            let (missed, start) = (total.missed.len(), std::time::Instant::now());
            judge(program, kernel, &machine, &mut total);
            if std::env::var_os("MUTATION_TIMES").is_some() {
                println!(
                    "{name} {} {}: {} mutants, {} refused, {} safe, {:?}",
                    program.name,
                    kernel.name,
                    total.mutants - before.0,
                    total.refused - before.1,
                    total.equal + total.values - before.2,
                    start.elapsed()
                );
                total.missed.iter().skip(missed).for_each(|missed| println!("  missed: {missed}"));
            }
        }
    }
    let Score { mutants, refused, equal, values, missed } = total;
    let of = refused + missed.len();
    println!(
        "{mutants} mutants: {refused} refused, {} missed, {equal} equal, {values} safe with other values",
        missed.len()
    );
    println!("mutation score: {:.2} % ({refused} of {of})", 100.0 * refused as f64 / of.max(1) as f64);
    missed.iter().for_each(|missed| println!("  missed: {missed}"));
    assert!(refused > 500, "only {refused} mutants were refused: too few for a judgement");
    assert!(refused * 100 >= of * 99, "{} of {of} mistakes are not seen", missed.len());
}

/// Whose programs are all looked at. Other machines take turns: each gets every so manieth model, all of them if `CORPUS` is `all`.
const WHOLE: [&str; 3] = ["cpu", "twopipe", "ascend910b2"];

#[test]
fn programs_of_the_corpus_verify() {
    let all = std::env::var("CORPUS").is_ok_and(|corpus| corpus == "all");
    let others: Vec<&str> = Machine::builtin_names().filter(|name| !WHOLE.contains(name)).collect();
    for name in Machine::builtin_names() {
        let turn = others.iter().position(|other| *other == name).filter(|_| !all);
        let takes = |&(at, _): &(usize, PathBuf)| turn.is_none_or(|turn| at % others.len() == turn);
        let machine = tarsia::machine(name).expect("a machine");
        let (mut programs, mut kernels, mut without) = (0, 0, 0);
        for (_, folder) in folders().into_iter().enumerate().filter(takes) {
            let Ok(program) = compiled(&folder, &machine) else {
                without += 1;
                continue;
            };
            let stage = if machine.has_concurrent_pipes() { Stage::Synchronised } else { Stage::Placed };
            verify(&program, &machine, stage)
                .unwrap_or_else(|faults| panic!("{} for {name}: {faults}", folder.display()));
            let mut all = Vec::new();
            nested(&program, &mut all);
            programs += 1;
            kernels += all.iter().map(|program| program.kernels.len()).sum::<usize>();
        }
        println!("{name}: {programs} programs with {kernels} kernels verify, {without} models have none");
    }
}
