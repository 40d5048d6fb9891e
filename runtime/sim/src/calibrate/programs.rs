//! The measured programs, as tile IR built from what their descriptions say: block sizes, split over cores, depth of buffers.
//!
//! ```text
//! product:  for column block, row block │ for k │ gm ─► l1 (several k blocks) ─► l0a, l0b (two slots) ─► mmad ─► l0c ─► gm
//! copies:   for tile │ gm ─► ub or l1                       sums:  for chunk │ gm ─► ub ─► add ─► gm
//! ```

use std::fmt::Write as _;

use tarsia_tile::{Program, text};

use crate::SimError;

/// A product of two f16 matrices, the right one transposed in memory, on cube cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Product {
    /// Rows, columns and depth.
    pub sizes: [usize; 3],
    /// The same of one instruction.
    pub base: [usize; 3],
    /// Cores down and across, and rows and columns that each computes.
    pub cores: [usize; 2],
    pub single: [usize; 2],
    /// Blocks of depth that are loaded into L1 at once, left and right.
    pub steps: [usize; 2],
    /// Copies of each of them in L1.
    pub slots: usize,
    /// Parts into which the rows are cut, one after the other, so that what is reused stays in the cache.
    pub parts: usize,
}

/// Reads of a matrix of f16 by all cores, without any computation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reads {
    pub sizes: [usize; 2],
    /// Where to: `ub` by the vector cores, or `l1` in fractals by the cube cores.
    pub to: &'static str,
    pub cores: usize,
    pub tile: [usize; 2],
    pub order: ReadOrder,
}

/// Who reads what, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ReadOrder {
    /// Every core its own rows, so often, in slices of so many columns.
    Own { times: usize, slice: usize },
    /// Every core everything, block of rows by block of rows; `rotated`: each begins at another block.
    All { rows: usize, rotated: bool },
}

/// A sum of two vectors of f16 on vector cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sum {
    pub elements: usize,
    pub cores: usize,
    pub chunk: usize,
}

/// Reads a program's text.
fn read(text: &str) -> Result<Program, SimError> {
    text::parse(text)
        .map_err(|error| SimError::Shapes(format!("a calibration program is not well-formed: {error}\n{text}")))
}

impl Product {
    /// The program for a machine of this name.
    pub fn program(&self, target: &str) -> Result<Program, SimError> {
        let ([m, n, k], [bm, bn, bk], [sa, sb]) = (self.sizes, self.base, self.steps);
        let mut t = String::new();
        let _ = writeln!(
            t,
            "program product for {target} {{
  buffer a: f16[{m}, {k}] row_major input
  buffer b: f16[{n}, {k}] row_major input
  buffer c: f16[{m}, {n}] row_major temporary
  input a: @a[{m}, {k}]
  input b: @b[{n}, {k}]
  output c: @c[{m}, {n}]
  kernel product from product {{
    param a: f16[{m}, {k}] row_major read
    param b: f16[{n}, {k}] row_major read
    param c: f16[{m}, {n}] row_major write
    tile la: f16[{bm}, {wa}] zN(16x16) in l1 slots {slots} at 0
    tile lb: f16[{wb}, {bn}] nZ(16x16) in l1 slots {slots} at {lb}
    tile xa: f16[{bm}, {bk}] zZ(16x16) in l0a slots 2 at 0
    tile xb: f16[{bk}, {bn}] nZ(16x16) in l0b slots 2 at 0
    tile acc: f32[{bm}, {bn}] zN(16x16) in l0c at 0
    grid p < {cm}, q < {cn}",
            wa = sa * bk,
            wb = sb * bk,
            slots = self.slots,
            lb = self.slots * bm * sa * bk * 2,
            cm = self.cores[0],
            cn = self.cores[1],
        );
        self.body(&mut t);
        t.push_str("  }\n  launch product(@a, @b, @c)\n}\n");
        read(&t)
    }

    fn body(&self, t: &mut String) {
        let ([m, n, k], [bm, bn, bk]) = (self.sizes, self.base);
        let (rows, [sm, sn]) = (m / self.parts, self.single);
        let (sm, columns) = (sm / self.parts, format!("min({sn}, {n} - {sn}*q)"));
        signals(t, "mte1", "mte2", 0..self.slots);
        signals(t, "mte1", "mte2", 2..2 + self.slots);
        signals(t, "m", "mte1", 0..2);
        signals(t, "fix", "m", 0..1);
        let height = format!("min({bm}, {sm} - i)");
        let width = format!("min({bn}, {columns} - j)");
        let row = format!("{rows}*h + {sm}*p + i");
        let column = format!("{sn}*q + j");
        let _ = writeln!(
            t,
            "    for h in 0..{} step 1 {{\n    for j in 0..{columns} step {bn} {{\n    for i in 0..{sm} step {bm} {{",
            self.parts
        );
        wait(t, "fix", "m", "0");
        let [sa, sb] = self.steps.map(|steps| steps * bk);
        let left = Load {
            slot: format!("mod(floordiv(AT, {sa}), {})", self.slots),
            first: 0,
            text: format!("%la#(SLOT)[0 +: {height}, 0 +: {sa}] <- @a{{{height}, {sa} -> {row} + $0, AT + $1}}"),
        };
        let right = Load {
            slot: format!("mod(floordiv(AT, {sb}), {})", self.slots),
            first: 2,
            text: format!("%lb#(SLOT)[0 +: {sb}, 0 +: {width}] <- @b{{{sb}, {width} -> {column} + $1, AT + $0}}"),
        };
        // The longer load is outside.
        let (outer, inner, long, short) = if sa >= sb { (&left, &right, sa, sb) } else { (&right, &left, sb, sa) };
        let _ = writeln!(t, "    for kl in 0..{k} step {long} {{");
        outer.begin(t, "kl");
        let _ = writeln!(t, "    for ks in 0..{long} step {short} {{");
        inner.begin(t, "kl + ks");
        let _ = writeln!(t, "    for kk in 0..{short} step {bk} {{");
        let at = "kl - ks - kk";
        let slot = format!("mod(floordiv(kl + ks + kk, {bk}), 2)");
        let in_chunk = |chunk: usize| if chunk == long { "ks + kk" } else { "kk" };
        wait(t, "m", "mte1", &slot);
        let slots = |load: &Load, chunk| load.slot.replace("AT", if chunk == long { "kl" } else { "kl + ks" });
        let _ = writeln!(
            t,
            "    copy rows=1 %xa#({slot})[0 +: {height}, 0 +: {bk}] <- %la#({})[0 +: {height}, {} +: {bk}]
    copy rows=1 %xb#({slot})[0 +: {bk}, 0 +: {width}] <- %lb#({})[{} +: {bk}, 0 +: {width}]",
            slots(&left, sa),
            in_chunk(sa),
            slots(&right, sb),
            in_chunk(sb),
        );
        set(t, "mte1", "m", &slot);
        wait(t, "mte1", "m", &slot);
        let operands = format!(
            "%acc[0 +: {height}, 0 +: {width}] <- %xa#({slot})[0 +: {height}, 0 +: {bk}], %xb#({slot})[0 +: {bk}, 0 +: {width}]"
        );
        let _ =
            writeln!(t, "    if 1 - {at} > 0 {{\n    mmad {operands}\n    }} else {{\n    mmad.acc {operands}\n    }}");
        set(t, "m", "mte1", &slot);
        t.push_str("    }\n");
        inner.end(t, "kl + ks");
        t.push_str("    }\n");
        outer.end(t, "kl");
        t.push_str("    }\n");
        set(t, "m", "fix", "0");
        wait(t, "m", "fix", "0");
        let _ = writeln!(
            t,
            "    copy rows=1 @c{{{height}, {width} -> {row} + $0, {column} + $1}} <- %acc[0 +: {height}, 0 +: {width}]"
        );
        set(t, "fix", "m", "0");
        t.push_str("    }\n    }\n    }\n");
        waits(t, "mte1", "mte2", 0..self.slots);
        waits(t, "mte1", "mte2", 2..2 + self.slots);
        waits(t, "m", "mte1", 0..2);
        waits(t, "fix", "m", 0..1);
    }
}

/// A load into L1 with its events: one when the slot is free, one when it is filled.
struct Load {
    slot: String,
    first: usize,
    text: String,
}

impl Load {
    fn event(&self, at: &str) -> String {
        format!("{} + {}", self.first, self.slot.replace("AT", at))
    }

    fn begin(&self, t: &mut String, at: &str) {
        let (event, slot) = (self.event(at), self.slot.replace("AT", at));
        wait(t, "mte1", "mte2", &event);
        let _ = writeln!(t, "    copy rows=1 {}", self.text.replace("SLOT", &slot).replace("AT", at));
        set(t, "mte2", "mte1", &event);
        wait(t, "mte2", "mte1", &event);
    }

    fn end(&self, t: &mut String, at: &str) {
        set(t, "mte1", "mte2", &self.event(at));
    }
}

fn set(t: &mut String, from: &str, to: &str, event: &str) {
    let _ = writeln!(t, "    set_event from=aic_{from} to=aic_{to} event=({event})");
}

fn wait(t: &mut String, from: &str, to: &str, event: &str) {
    let _ = writeln!(t, "    wait_event from=aic_{from} to=aic_{to} event=({event})");
}

fn signals(t: &mut String, from: &str, to: &str, events: std::ops::Range<usize>) {
    events.for_each(|event| set(t, from, to, &event.to_string()));
}

fn waits(t: &mut String, from: &str, to: &str, events: std::ops::Range<usize>) {
    events.for_each(|event| wait(t, from, to, &event.to_string()));
}

impl Reads {
    /// The program for a machine of this name.
    pub fn program(&self, target: &str) -> Result<Program, SimError> {
        let ([m, n], [tm, tn], cores) = (self.sizes, self.tile, self.cores);
        let layout = if self.to == "l1" { "zN(16x16)" } else { "row_major" };
        let mut t = format!(
            "program reads for {target} {{
  buffer a: f16[{m}, {n}] row_major input
  input a: @a[{m}, {n}]
  kernel reads from reads {{
    param a: f16[{m}, {n}] row_major read
    tile t: f16[{tm}, {tn}] {layout} in {} at 0
    grid p < {cores}\n",
            self.to
        );
        let row = match self.order {
            ReadOrder::Own { times, slice } => {
                let rows = m / cores;
                let _ = writeln!(
                    t,
                    "    for s in 0..{n} step {slice} {{\n    for r in 0..{times} step 1 {{\n    for i in 0..{rows} step {tm} {{
    for j in 0..min({slice}, {n} - s) step {tn} {{"
                );
                format!("{rows}*p + i")
            }
            ReadOrder::All { rows, rotated } => {
                let blocks = m / rows;
                let _ = writeln!(
                    t,
                    "    for s in 0..1 step 1 {{\n    for r in 0..{blocks} step 1 {{\n    for i in 0..{rows} step {tm} {{
    for j in 0..{n} step {tn} {{"
                );
                if rotated { format!("{rows}*mod(r + p, {blocks}) + i") } else { format!("{rows}*r + i") }
            }
        };
        let width = match self.order {
            ReadOrder::Own { slice, .. } => format!("min({tn}, min({slice}, {n} - s) - j)"),
            ReadOrder::All { .. } => format!("min({tn}, {n} - j)"),
        };
        let _ =
            writeln!(t, "    copy rows=1 %t[0 +: {tm}, 0 +: {width}] <- @a{{{tm}, {width} -> {row} + $0, s + j + $1}}");
        t.push_str("    }\n    }\n    }\n    }\n  }\n  launch reads(@a)\n}\n");
        read(&t)
    }
}

impl Sum {
    /// The program for a machine of this name.
    pub fn program(&self, target: &str) -> Result<Program, SimError> {
        let Sum { elements: n, cores, chunk } = *self;
        let each = n.div_ceil(cores).next_multiple_of(16);
        let size = format!("min({chunk}, min({each}, {n} - {each}*p) - i)");
        let slot = format!("mod(floordiv(i, {chunk}), 2)");
        let mut t = format!(
            "program sum for {target} {{
  buffer x: f16[{n}] row_major input
  buffer y: f16[{n}] row_major input
  buffer z: f16[{n}] row_major temporary
  input x: @x[{n}]
  input y: @y[{n}]
  output z: @z[{n}]
  kernel NAME from sum {{
    param x: f16[{n}] row_major read
    param y: f16[{n}] row_major read
    param z: f16[{n}] row_major write
    tile tx: f16[{chunk}] row_major in ub slots 2 at 0
    tile ty: f16[{chunk}] row_major in ub slots 2 at {second}
    tile tz: f16[{chunk}] row_major in ub slots 2 at {third}
    grid p < {cores}\n",
            second = chunk * 4 + 256,
            third = chunk * 8 + 384,
        );
        let pair = |t: &mut String, op: &str, from: &str, to: &str, event: &str| {
            let _ = writeln!(t, "    {op}_event from=aiv_{from} to=aiv_{to} event=({event})");
        };
        let stages = [("v", "mte2"), ("mte3", "v")];
        stages.iter().for_each(|(from, to)| (0..2).for_each(|e| pair(&mut t, "set", from, to, &e.to_string())));
        let _ = writeln!(t, "    for i in 0..min({each}, {n} - {each}*p) step {chunk} {{");
        pair(&mut t, "wait", "v", "mte2", &slot);
        for (tile, param) in [("tx", "x"), ("ty", "y")] {
            let _ =
                writeln!(t, "    copy rows=1 %{tile}#({slot})[0 +: {size}] <- @{param}{{{size} -> {each}*p + i + $0}}");
        }
        pair(&mut t, "set", "mte2", "v", &slot);
        pair(&mut t, "wait", "mte2", "v", &slot);
        pair(&mut t, "wait", "mte3", "v", &slot);
        let part = |tile: &str| format!("%{tile}#({slot})[0 +: {size}]");
        let _ = writeln!(t, "    add {} <- {}, {}", part("tz"), part("tx"), part("ty"));
        pair(&mut t, "set", "v", "mte2", &slot);
        pair(&mut t, "set", "v", "mte3", &slot);
        pair(&mut t, "wait", "v", "mte3", &slot);
        let _ = writeln!(t, "    copy rows=1 @z{{{size} -> {each}*p + i + $0}} <- {}", part("tz"));
        pair(&mut t, "set", "mte3", "v", &slot);
        t.push_str("    }\n");
        stages.iter().for_each(|(from, to)| (0..2).for_each(|e| pair(&mut t, "wait", from, to, &e.to_string())));
        t.push_str("  }\n");
        // Measurements are repeated: what the run before wrote is still in the cache.
        let begin = t.find("  kernel NAME").unwrap_or(0);
        let (head, kernel) = t.split_at(begin);
        let twice = ["before", "sum"].map(|name| kernel.replace("NAME", name)).concat();
        read(&format!("{head}{twice}  launch before(@x, @y, @z)\n  launch sum(@x, @y, @z)\n}}\n"))
    }
}
