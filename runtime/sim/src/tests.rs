//! Schedules computed by hand, on a machine small enough for that; equal cores against every core.

use std::collections::BTreeMap;

use tarsia_tensor::Symbol;
use tarsia_tile::{Machine, Program};

use crate::{Options, Report, SimError, simulate};

/// Three pipes: moves in at 16 bytes a cycle after 10, computes 16 elements a cycle after 4, moves out like in. An event takes 2.
const MACHINE: &str = r#"
name = "three"
description = "three pipes"
clock = { hertz = 1e9, source = "invented" }
launch = { cycles = 100, source = "invented" }
[[core]]
name = "core"
count = 2
pipes = ["in", "work", "out"]
spaces = ["ub"]
source = "invented"
[[space]]
name = "gm"
scope = "chip"
bytes = 1048576
alignment = 64
layouts = ["row_major"]
bytes_per_cycle = 24.0
source = "invented"
[[space]]
name = "ub"
scope = "core"
bytes = 16384
alignment = 32
layouts = ["row_major"]
source = "invented"
[[path]]
from = "gm"
to = "ub"
pipe = "in"
bytes_per_cycle = 16.0
startup_cycles = 10
source = "invented"
[[path]]
from = "ub"
to = "gm"
pipe = "out"
bytes_per_cycle = 16.0
startup_cycles = 10
source = "invented"
[[unit]]
name = "vector"
pipe = "work"
classes = ["pointwise", "scalar"]
[[unit.operand]]
role = "dst"
spaces = ["ub"]
layouts = ["row_major"]
[[unit.operand]]
role = "src"
spaces = ["ub"]
layouts = ["row_major"]
[[unit.rate]]
dtypes = ["f32", "i64"]
per_cycle = 16.0
startup_cycles = 4
source = "invented"
[[event]]
pairs = [["in", "work"], ["work", "in"], ["work", "out"], ["out", "work"], ["in", "out"], ["out", "in"]]
ids = 4
cycles = 2
source = "invented"
"#;

fn machine() -> Machine {
    Machine::from_toml(MACHINE).expect("a machine")
}

/// The machine with a cache and slow device memory.
fn cached(bytes: u64, rate: f64) -> Machine {
    let cache = format!(
        "bytes_per_cycle = {rate:.1}\ncache = {{ bytes = {bytes}, bytes_per_cycle = 1000.0, source = \"invented\" }}"
    );
    Machine::from_toml(&MACHINE.replace("bytes_per_cycle = 24.0", &cache)).expect("a machine")
}

/// A kernel over rows of 64 floats: 256 bytes each.
fn program(body: &str) -> Program {
    let text = format!(
        "program p for three {{
  buffer x: f32[n, 64] row_major input
  buffer y: f32[n, 64] row_major temporary
  input x: @x[n, 64]
  output y: @y[n, 64]
  kernel k {{
    param x: f32[n, 64] row_major read
    param y: f32[n, 64] row_major write
    tile t: f32[1, 64] row_major in ub slots 2 at 0
    tile o: f32[1, 64] row_major in ub slots 2 at 512
{body}
  }}
  launch k(@x, @y)
}}
"
    );
    text.parse().expect("a program")
}

fn run(program: &Program, machine: &Machine, n: i64, options: Options) -> Result<Report, SimError> {
    simulate(program, machine, &BTreeMap::from([(Symbol::new("n"), n)]), &options)
}

fn cycles(program: &Program, machine: &Machine, n: i64) -> f64 {
    let [quick, full] = [false, true].map(|full| {
        let report = run(program, machine, n, Options { full, ..Options::default() }).expect("a report");
        report.kernels.into_iter().next().expect("a kernel")
    });
    let same = |what: &str, quick: f64, full: f64| {
        assert!((quick - full).abs() <= 1e-6 * full, "{what}: {quick} of one of equal cores, {full} of every core");
    };
    same("cycles", quick.cycles, full.cycles);
    same("instructions", quick.instructions, full.instructions);
    same("operations", quick.flops(), full.flops());
    same("bytes", quick.bytes.cache_read, full.bytes.cache_read);
    for (quick, full) in quick.pipes.iter().zip(&full.pipes) {
        same(&full.name, quick.busy_cycles, full.busy_cycles);
        same(&full.name, quick.waiting_cycles, full.waiting_cycles);
    }
    full.cycles
}

const CHAIN: &str = "    grid i < n
    copy rows=1 %t[0 +: 1, 0 +: 64] <- @x{1, 64 -> i + $0, $1}
    set_event from=in to=work event=(0)
    wait_event from=in to=work event=(0)
    add %o[0 +: 1, 0 +: 64] <- %t[0 +: 1, 0 +: 64], 1.0
    set_event from=work to=out event=(0)
    wait_event from=work to=out event=(0)
    copy rows=1 @y{1, 64 -> i + $0, $1} <- %o[0 +: 1, 0 +: 64]";

const PIPELINE: &str = "    grid c < 1
    for i in 0..n step 1 {
      if i - 1 > 0 {
        wait_event from=work to=in event=(mod(i, 2))
      } else {
      }
      copy rows=1 %t#(mod(i, 2))[0 +: 1, 0 +: 64] <- @x{1, 64 -> i + $0, $1}
      set_event from=in to=work event=(mod(i, 2))
      wait_event from=in to=work event=(mod(i, 2))
      if i - 1 > 0 {
        wait_event from=out to=work event=(mod(i, 2))
      } else {
      }
      add %o#(mod(i, 2))[0 +: 1, 0 +: 64] <- %t#(mod(i, 2))[0 +: 1, 0 +: 64], 1.0
      if n - i - 2 > 0 {
        set_event from=work to=in event=(mod(i, 2))
      } else {
      }
      set_event from=work to=out event=(mod(i, 2))
      wait_event from=work to=out event=(mod(i, 2))
      copy rows=1 @y{1, 64 -> i + $0, $1} <- %o#(mod(i, 2))[0 +: 1, 0 +: 64]
      if n - i - 2 > 0 {
        set_event from=out to=work event=(mod(i, 2))
      } else {
      }
    }";

#[test]
fn pipes_in_a_chain_wait_for_events() {
    // 10 + 16, 2 for the event, 4 + 4, 2 for the event, 10 + 16.
    assert_eq!(cycles(&program(CHAIN), &machine(), 1), 64.0);
}

#[test]
fn items_begin_with_idle_pipes() {
    // Two items on two cores share 24 bytes a cycle: 256 at 12 take 21 1/3. Four items are twice that.
    let two = 2.0 * (10.0 + 256.0 / 12.0) + 12.0;
    assert!((cycles(&program(CHAIN), &machine(), 2) - two).abs() < 1e-6);
    assert!((cycles(&program(CHAIN), &machine(), 4) - 2.0 * two).abs() < 1e-6);
}

#[test]
fn unequal_cores_are_simulated_each() {
    // The second round has one item, with all the memory for itself.
    let report = run(&program(CHAIN), &machine(), 3, Options::default()).expect("a report");
    assert_eq!(report.kernels[0].simulated_groups, 2);
    assert!((cycles(&program(CHAIN), &machine(), 3) - (2.0 * (10.0 + 256.0 / 12.0) + 12.0 + 64.0)).abs() < 1e-6);
}

#[test]
fn double_buffers_hide_what_is_shorter() {
    // Moves in follow each other every 26 cycles; moves out share the memory, 32 of 24 bytes, for part of the time.
    let wide = Machine::from_toml(&MACHINE.replace("bytes_per_cycle = 24.0", "bytes_per_cycle = 32.0")).expect("one");
    assert_eq!(cycles(&program(PIPELINE), &wide, 4), 4.0 * 26.0 + 2.0 + 8.0 + 2.0 + 26.0);
    let report = run(&program(PIPELINE), &wide, 4, Options::default()).expect("a report");
    let busy: Vec<f64> = report.kernels[0].pipes.iter().map(|pipe| pipe.busy_cycles).collect();
    // One of two cores works.
    assert_eq!(busy, [52.0, 16.0, 52.0]);
    assert_eq!(report.cycles, 100.0 + 142.0);
    assert_eq!(report.kernels[0].bottleneck.resource, "in");
}

#[test]
fn long_loops_are_counted_as_if_simulated() {
    // A steady state whose period is two iterations: moves in, every 26 cycles, are all there is to wait for.
    let wide = Machine::from_toml(&MACHINE.replace("bytes_per_cycle = 24.0", "bytes_per_cycle = 32.0")).expect("one");
    assert_eq!(cycles(&program(PIPELINE), &wide, 1001), 1001.0 * 26.0 + 2.0 + 8.0 + 2.0 + 26.0);
    // Here moves in and out share the memory; 512 bytes at 24 a cycle for each row cannot be beaten.
    assert!(cycles(&program(PIPELINE), &machine(), 1001) >= 1001.0 * 512.0 / 24.0);
    // A timeline that leaves repeated iterations out says so.
    let options = Options { spans: 1 << 20, ..Options::default() };
    let report = run(&program(PIPELINE), &wide, 1001, options).expect("a report");
    assert_eq!(report.timeline.spans.len() as u64 + report.timeline.left_out, 3 * 1001);
    assert!(report.timeline.left_out > 2000, "{}", report.timeline.left_out);
    let last = report.timeline.spans.iter().map(|span| span.start + span.cycles).fold(0.0, f64::max);
    assert_eq!(last, report.cycles);
}

/// A large core, two small ones beside it, and a space through which they exchange tiles.
const GROUP: &str = r#"
name = "group"
description = "a large core with two small ones"
clock = { hertz = 1e9, source = "invented" }
launch = { cycles = 0, source = "invented" }
core = [
  { name = "large", count = 2, pipes = ["l_in", "l_out"], spaces = ["l1", "ws"], source = "invented" },
  { name = "small", count = 4, lanes = 2, pipes = ["s_in", "s_out"], spaces = ["ub", "ws"], source = "invented" },
]
space = [
  { name = "gm", scope = "chip", bytes = 1048576, alignment = 64, layouts = ["row_major"], bytes_per_cycle = 64.0, source = "invented" },
  { name = "ws", scope = "core", backing = "gm", bytes = 16384, alignment = 64, layouts = ["row_major"], source = "invented" },
  { name = "l1", scope = "core", bytes = 16384, alignment = 32, layouts = ["row_major"], source = "invented" },
  { name = "ub", scope = "core", bytes = 16384, alignment = 32, layouts = ["row_major"], source = "invented" },
]
path = [
  { from = "gm", to = "l1", pipe = "l_in", bytes_per_cycle = 16.0, startup_cycles = 10, source = "invented" },
  { from = "l1", to = "ws", pipe = "l_out", bytes_per_cycle = 16.0, startup_cycles = 10, source = "invented" },
  { from = "ws", to = "ub", pipe = "s_in", bytes_per_cycle = 16.0, startup_cycles = 10, source = "invented" },
  { from = "ub", to = "gm", pipe = "s_out", bytes_per_cycle = 16.0, startup_cycles = 10, source = "invented" },
]
event = [
  { pairs = [["l_in", "l_out"], ["s_in", "s_out"]], ids = 4, cycles = 2, source = "invented" },
  { pairs = [["l_out", "s_in"], ["s_in", "l_out"]], ids = 4, cycles = 20, source = "invented" },
]
"#;

const LANES: &str = "program p for group {
  buffer x: f32[n, 64] row_major input
  buffer y: f32[n, 64] row_major temporary
  input x: @x[n, 64]
  output y: @y[n, 64]
  kernel k {
    param x: f32[n, 64] row_major read
    param y: f32[n, 64] row_major write
    tile a: f32[1, 64] row_major in l1 at 0
    tile w: f32[1, 64] row_major in ws at 0
    tile u: f32[1, 32] row_major in ub at 0
    grid i < n
    lanes %s < 2 in ub
    copy rows=1 %a[0 +: 1, 0 +: 64] <- @x{1, 64 -> i + $0, $1}
    set_event from=l_in to=l_out event=(0)
    wait_event from=l_in to=l_out event=(0)
    copy rows=1 %w[0 +: 1, 0 +: 64] <- %a[0 +: 1, 0 +: 64]
    set_event from=l_out to=s_in event=(0)
    wait_event from=l_out to=s_in event=(0)
    copy rows=1 %u[0 +: 1, 0 +: 32] <- %w[0 +: 1, 32*%s +: 32]
    set_event from=s_in to=l_out event=(1)
    wait_event from=s_in to=l_out event=(1)
    set_event from=s_in to=s_out event=(0)
    wait_event from=s_in to=s_out event=(0)
    copy rows=1 @y{1, 32 -> i + $0, 32*%s + $1} <- %u[0 +: 1, 0 +: 32]
  }
  launch k(@x, @y)
}
";

#[test]
fn lanes_wait_for_the_large_core_and_it_for_all_of_them() {
    let machine = Machine::from_toml(GROUP).expect("a machine");
    let program: Program = LANES.parse().expect("a program");
    // 26 in, 2, 26 out, 20 between cores, 10 + 8 each of two in, 2, 10 + 8 each of two out.
    let one = 26.0 + 2.0 + 26.0 + 20.0 + 18.0 + 2.0 + 18.0;
    assert_eq!(cycles(&program, &machine, 1), one);
    // Two groups work side by side, on enough bandwidth; the third item comes after.
    assert_eq!(cycles(&program, &machine, 3), 2.0 * one);
    let report = run(&program, &machine, 2, Options::default()).expect("a report");
    assert_eq!(report.bytes.exchanged, 2.0 * 512.0);
    assert_eq!(report.kernels[0].simulated_groups, 1);
    let busy: Vec<f64> = report.kernels[0].pipes.iter().map(|pipe| pipe.busy_cycles).collect();
    assert_eq!(busy, [26.0, 26.0, 18.0, 18.0]);
}

#[test]
fn what_is_read_again_is_in_the_cache() {
    let twice = program(
        "    grid c < 1
    for i in 0..2 step 1 {
      copy rows=1 %t#(i)[0 +: 1, 0 +: 64] <- @x{1, 64 -> $0, $1}
    }",
    );
    let report = run(&twice, &cached(65536, 8.0), 4, Options::default()).expect("a report");
    // 256 bytes at 8 a cycle from memory, then at 16, the path's rate, from the cache.
    assert_eq!(report.kernels[0].cycles, 10.0 + 32.0 + 10.0 + 16.0);
    assert_eq!((report.bytes.memory_read, report.bytes.cache_read), (256.0, 512.0));
}

#[test]
fn what_streams_through_the_cache_is_counted_as_if_walked() {
    // 4 MB in and out of a cache of 64 KB: from the 128th turn on every row that comes pushes a written one out.
    let stream = program(
        "    grid c < 2
    set_event from=out to=in event=(0)
    set_event from=out to=in event=(1)
    for i in 0..8192 step 1 {
      wait_event from=out to=in event=(mod(i, 2))
      copy rows=1 %t#(mod(i, 2))[0 +: 1, 0 +: 64] <- @x{1, 64 -> 2*i + c + $0, $1}
      set_event from=in to=out event=(mod(i, 2))
      wait_event from=in to=out event=(mod(i, 2))
      copy rows=1 @y{1, 64 -> 2*i + c + $0, $1} <- %t#(mod(i, 2))[0 +: 1, 0 +: 64]
      set_event from=out to=in event=(mod(i, 2))
    }
    wait_event from=out to=in event=(0)
    wait_event from=out to=in event=(1)",
    );
    let [quick, full] = [false, true].map(|full| {
        let options = Options { full, bottlenecks: false, ..Options::default() };
        run(&stream, &cached(65536, 8.0), 16384, options).expect("a report").kernels.remove(0)
    });
    let (a, b) = (&quick.bytes, &full.bytes);
    for (quick, full) in [(a.memory_read, b.memory_read), (a.memory_written, b.memory_written)] {
        assert!((quick - full).abs() < 0.005 * full, "{quick} and {full} bytes");
    }
    // Cores that are in step wait for memory at the same moments, and leave it alone at the same moments.
    assert!((full.cycles..1.08 * full.cycles).contains(&quick.cycles), "{} and {} cycles", quick.cycles, full.cycles);
    assert!(quick.walked * 5 < full.walked, "{} of {} were walked", quick.walked, full.walked);
}

#[test]
fn cores_that_are_elsewhere_find_other_things_in_the_cache() {
    // Every row is read twice; one core has read a row before it begins, so that it finds rows where the other one brings them.
    let shifted = program(
        "    grid c < 2
    if c > 0 {
      copy rows=1 %t#(0)[0 +: 1, 0 +: 64] <- @x{1, 64 -> n - 1 + $0, $1}
    }
    for i in 0..256 step 1 {
      copy rows=1 %t#(0)[0 +: 1, 0 +: 64] <- @x{1, 64 -> 2*i + c + $0, $1}
      copy rows=1 %t#(1)[0 +: 1, 0 +: 64] <- @x{1, 64 -> 2*i + c + $0, $1}
    }",
    );
    let [quick, full] = [false, true].map(|full| {
        let options = Options { full, bottlenecks: false, ..Options::default() };
        run(&shifted, &cached(65536, 8.0), 1024, options).expect("a report").kernels.remove(0)
    });
    assert_eq!((quick.simulated_groups, quick.bytes.memory_read), (2, full.bytes.memory_read));
    assert!((quick.cycles - full.cycles).abs() < 0.01 * full.cycles, "{} and {} cycles", quick.cycles, full.cycles);
}

#[test]
fn loops_in_loops_are_counted_as_if_simulated() {
    let nested = program(
        "    grid c < 2
    for i in 0..500 step 1 {
      for j in 0..40 step 1 {
        copy rows=1 %t#(mod(j, 2))[0 +: 1, 0 +: 64] <- @x{1, 64 -> mod(i, 7) + $0, $1}
      }
      set_event from=in to=work event=(0)
      wait_event from=in to=work event=(0)
      add %o[0 +: 1, 0 +: 64] <- %t[0 +: 1, 0 +: 64], 1.0
      set_event from=work to=in event=(0)
      wait_event from=work to=in event=(0)
    }",
    );
    cycles(&nested, &machine(), 7);
    let options = Options { bottlenecks: false, ..Options::default() };
    let walked = run(&nested, &machine(), 7, options).expect("a report").kernels[0].walked;
    assert!(walked < 2000, "{walked} instructions of 20000 were walked");
}

#[test]
fn two_cores_that_read_the_same_fetch_it_once() {
    let same = program(
        "    grid c < 2
    for i in 0..16 step 1 {
      copy rows=1 %t#(mod(i, 2))[0 +: 1, 0 +: 64] <- @x{1, 64 -> i + $0, $1}
    }",
    );
    let report = run(&same, &cached(65536, 8.0), 16, Options::default()).expect("a report");
    assert_eq!((report.bytes.memory_read, report.bytes.cache_read), (4096.0, 8192.0));
    assert_eq!(report.kernels[0].simulated_groups, 1);
}

#[test]
fn a_signal_that_never_comes_is_named() {
    let stuck = program(
        "    grid c < 1
    wait_event from=in to=work event=(3)
    add %o[0 +: 1, 0 +: 64] <- %t[0 +: 1, 0 +: 64], 1.0",
    );
    let error = run(&stuck, &machine(), 1, Options::default()).expect_err("stuck");
    let text = error.to_string();
    assert!(text.contains("wait_event from=in to=work event=3"), "{text}");
    assert!(text.contains("add %o <- %t, 1"), "{text}");
}

#[test]
fn unknown_sizes_are_named() {
    let error = simulate(&program(CHAIN), &machine(), &BTreeMap::new(), &Options::default());
    assert!(matches!(error, Err(SimError::Unbound { symbol }) if symbol == "n"));
}

#[test]
fn queues_hold_the_issue_back() {
    // A queue of one: the second copy is issued when the first is done, and with it the addition behind it.
    let ahead = program(
        "    grid c < 1
    copy rows=1 %t[0 +: 1, 0 +: 64] <- @x{1, 64 -> $0, $1}
    copy rows=1 %t#(1)[0 +: 1, 0 +: 64] <- @x{1, 64 -> 1 + $0, $1}
    add %o[0 +: 1, 0 +: 64] <- %o[0 +: 1, 0 +: 64], 1.0
    copy rows=1 @y{1, 64 -> $0, $1} <- %o#(1)[0 +: 1, 0 +: 64]",
    );
    let short = Machine::from_toml(&MACHINE.replace(
        "source = \"invented\"\n[[space]]\nname = \"gm\"",
        "queue = 1\nsource = \"invented\"\n[[space]]\nname = \"gm\"",
    ))
    .expect("one");
    // Without the limit the copy out shares the memory with the copies in: from 10 on, at 12 bytes a cycle each.
    let free = 10.0 + 256.0 / 12.0 + 10.0 + 16.0;
    assert!((cycles(&ahead, &machine(), 2) - free).abs() < 1e-6);
    // With it both begin at 26, and share the memory throughout.
    assert!((cycles(&ahead, &short, 2) - (26.0 + 10.0 + 256.0 / 12.0)).abs() < 1e-6);
}

#[test]
fn a_trace_is_json_with_a_thread_per_pipe() {
    let report = run(&program(PIPELINE), &machine(), 4, Options { spans: 5, ..Options::default() }).expect("a report");
    let mut bytes = Vec::new();
    report.timeline.write(&mut bytes, 1e-3).expect("written");
    let trace: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!((of("M"), of("X")), (1 + 3, 5));
    assert_eq!(trace["otherData"]["instructions_left_out"], 7);
    assert!(report.notes.iter().any(|note| note.contains("leaves out 7 instructions")), "{:?}", report.notes);
}
