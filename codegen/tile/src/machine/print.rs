//! The listing of a machine for people: what it has, and where each number comes from.

use std::fmt::{self, Display, Write as _};

use super::{Activation, Machine, Path, Rate, Scale, Scope, Space, Unit};

impl Machine {
    /// The machine as aligned text: what `tarsia targets` shows. Numbers in brackets refer to the sources at the end.
    pub fn print(&self) -> String {
        let mut listing = Listing::default();
        // Writing into a string cannot fail.
        let _ = self.write(&mut listing);
        listing.finish()
    }

    /// Every source of numbers, with what it is the source of.
    pub fn sources(&self) -> Vec<(String, &str)> {
        let mut all = vec![("clock".to_owned(), self.clock.source.as_str()), ("launch".into(), &self.launch.source)];
        all.extend(self.cores.iter().map(|core| (format!("core {}", core.name), core.source.as_str())));
        for space in &self.spaces {
            let name = &space.name;
            all.push((format!("space {name}"), &space.source));
            all.extend(space.cache.iter().map(|cache| (format!("space {name}, cache"), cache.source.as_str())));
            all.extend(space.requests.iter().map(|own| (format!("space {name}, requests"), own.source.as_str())));
        }
        for path in &self.paths {
            let name = format!("path {} -> {} on {}", path.from, path.to, path.pipe);
            all.extend(path.windows.iter().map(|window| (format!("{name}, windows"), window.source.as_str())));
            all.push((name, &path.source));
        }
        for unit in &self.units {
            let name = &unit.name;
            all.extend(unit.rates.iter().map(|rate| (format!("unit {name}, {}", what(rate)), rate.source.as_str())));
            let types = unit.products.iter();
            all.extend(types.map(|own| (format!("unit {name}, {}·{}", own.a, own.b), own.source.as_str())));
        }
        all.extend(self.events.iter().map(|events| ("events".to_owned(), events.source.as_str())));
        all.extend(
            self.flags.iter().map(|flags| (format!("flag {} -> {}", flags.from, flags.to), flags.source.as_str())),
        );
        all
    }

    fn write(&self, out: &mut Listing) -> fmt::Result {
        writeln!(out.text, "{}: {}", self.name, self.description)?;
        if let Some(base) = &self.extends {
            writeln!(out.text, "  a variant of {base}")?;
        }
        out.line(format_args!("clock {} GHz", self.clock.hertz / 1e9), &self.clock.source);
        out.line(format_args!("launch {} cycles", self.launch.cycles), &self.launch.source);
        for core in &self.cores {
            let queue = core.queue.map_or(String::new(), |queue| format!(", queues of {queue}"));
            let lanes = if core.lanes > 1 { format!(", {} beside one another", core.lanes) } else { String::new() };
            let pipes = core.pipes.join(", ");
            out.line(format_args!("core  {} × {}: pipes {pipes}{queue}{lanes}", core.name, core.count), &core.source);
        }
        self.spaces.iter().for_each(|space| write_space(out, space));
        self.paths.iter().for_each(|path| write_path(out, path));
        self.units.iter().try_for_each(|unit| write_unit(out, unit))?;
        for events in &self.events {
            let pairs: Vec<String> = events.pairs.iter().map(|[from, to]| format!("{from} -> {to}")).collect();
            let each = format_args!("event {} each, {} cycles: {}", events.ids, events.cycles, pairs.join(", "));
            out.line(each, &events.source);
        }
        for flags in &self.flags {
            let text = format_args!("flag  {} -> {}: {}, {} cycles", flags.from, flags.to, flags.ids, flags.cycles);
            out.line(text, &flags.source);
        }
        Ok(())
    }
}

/// Lines, and the sources that they refer to.
#[derive(Default)]
struct Listing {
    text: String,
    sources: Vec<String>,
}

impl Listing {
    fn line(&mut self, text: fmt::Arguments<'_>, source: &str) {
        let number = match self.sources.iter().position(|known| known == source) {
            Some(at) => at + 1,
            None => {
                self.sources.push(source.to_owned());
                self.sources.len()
            }
        };
        let _ = writeln!(self.text, "  {text} [{number}]");
    }

    fn finish(mut self) -> String {
        for (number, source) in self.sources.iter().enumerate() {
            let _ = writeln!(self.text, "  [{}] {source}", number + 1);
        }
        self.text
    }
}

fn write_space(out: &mut Listing, space: &Space) {
    let scope = if space.scope == Scope::Chip { "chip" } else { "core" };
    let mut text = format!("space {:8} {:>9}/{scope}, align {}", space.name, size_text(space.bytes), space.alignment);
    // Writing into a string cannot fail.
    let _ = write!(text, ": {}", list("; ", &space.layouts));
    if let Some(backing) = &space.backing {
        let _ = write!(text, "; a part of {backing}");
    }
    if let Some(rate) = space.bytes_per_cycle {
        let _ = write!(text, "; {rate} B/cycle for all");
    }
    if let Some(banks) = &space.banks {
        let _ = write!(text, "; {} groups of {} banks, {} B wide", banks.groups, banks.per_group, banks.width);
        let slower =
            [("reads", banks.read_conflict), ("write", banks.write_conflict), ("beside write", banks.beside_write)];
        for (what, times) in slower.into_iter().filter(|(_, times)| *times > 1.0) {
            let _ = write!(text, ", {what} × {times}");
        }
    }
    out.line(format_args!("{text}"), &space.source);
    if let Some(cache) = &space.cache {
        let mut text = format!("      cache {}", size_text(cache.bytes));
        for (what, number) in
            [("B/cycle for all", cache.bytes_per_cycle), ("cycles a request of one address", cache.same_address_cycles)]
        {
            let _ = number.map_or(Ok(()), |number| write!(text, ", {number} {what}"));
        }
        out.line(format_args!("{text}"), &cache.source);
    }
    if let Some(requests) = &space.requests {
        out.line(format_args!("      requests of {} to {} B", requests.unit, requests.line), &requests.source);
    }
}

fn write_path(out: &mut Listing, path: &Path) {
    let ends = format!("{} -> {}", path.from, path.to);
    let mut text =
        format!("path  {ends:12} {}: {} B/cycle + {} cycles", path.pipe, path.bytes_per_cycle, path.startup_cycles);
    for (what, cycles) in [("first", path.head_cycles), ("a run", path.burst_cycles), ("a miss", path.miss_cycles)] {
        if cycles > 0.0 {
            let _ = write!(text, " + {cycles} {what}");
        }
    }
    if let Some(line) = path.line_bytes {
        let _ = write!(text, ", element by element through lines of {line} B");
    }
    if let Some(granule) = &path.misaligned {
        let _ = write!(text, "; between multiples of {} B {} cycles each", granule.bytes, granule.cycles);
    }
    let mut features: Vec<String> = path.transforms.iter().map(ToString::to_string).collect();
    let activation = |activation: &Activation| match activation {
        Activation::Relu => "relu",
        Activation::LeakyRelu => "leaky relu",
        Activation::Prelu => "prelu",
    };
    let scale = |scale: &Scale| match scale {
        Scale::Tensor => "scale of the tensor",
        Scale::Channel => "scales of channels",
    };
    features.extend(path.activations.iter().map(|each| activation(each).to_owned()));
    features.extend(path.scales.iter().map(|each| scale(each).to_owned()));
    features.extend(path.follows.then(|| "follows results".to_owned()));
    if !features.is_empty() {
        let _ = write!(text, "; {}", features.join(", "));
    }
    if !path.conversions.is_empty() {
        let _ = write!(text, "; {}", list(", ", &path.conversions));
    }
    out.line(format_args!("{text}"), &path.source);
    for window in &path.windows {
        let strides = if window.strides.is_empty() { "any".to_owned() } else { list(", ", &window.strides) };
        let rate = [(window.base, ""), (window.per_stride, " × stride"), (window.per_row, " × rows")];
        let terms: Vec<String> =
            rate.iter().filter(|(cycles, _)| *cycles > 0.0).map(|(cycles, of)| format!("{cycles}{of}")).collect();
        let (bytes, rows) = (window.bytes, window.least_rows);
        let text = format!("      windows at stride {strides}, from {rows} rows: {bytes} B in {}", terms.join(" + "));
        out.line(format_args!("{text} cycles"), &window.source);
    }
}

fn write_unit(out: &mut Listing, unit: &Unit) -> fmt::Result {
    let step = if unit.step_bytes > 1 { format!("; {} B a step", unit.step_bytes) } else { String::new() };
    writeln!(out.text, "  unit  {:8} {}: {}{step}", unit.name, unit.pipe, list(", ", &unit.classes))?;
    for rule in &unit.operands {
        let layouts = list("; ", &rule.layouts);
        writeln!(out.text, "        {:6} in {}: {layouts}", rule.role, rule.spaces.join(", "))?;
    }
    for rate in &unit.rates {
        let mut text = format!("      {}: {}/cycle + {} cycles", what(rate), rate.per_cycle, rate.startup_cycles);
        for (of, cycles) in [("first", rate.head_cycles), ("a row", rate.row_cycles)] {
            if cycles > 0.0 {
                write!(text, " + {cycles} {of}")?;
            }
        }
        out.line(format_args!("{text}"), &rate.source);
    }
    for product in &unit.products {
        let ([m, n, k], types) = (product.granule, format!("{}·{} -> {}", product.a, product.b, product.acc));
        let mode = product.mode.as_ref().map_or(String::new(), |mode| format!(" as {mode}"));
        let first = if product.head_cycles > 0.0 { format!(" + {} first", product.head_cycles) } else { String::new() };
        let (rate, startup) = (product.per_cycle, product.startup_cycles);
        let text = format!("{types}{mode}: {rate} multiply-adds/cycle + {startup} cycles{first}, by {m}×{n}×{k}");
        out.line(format_args!("      {text}"), &product.source);
    }
    Ok(())
}

/// What a rate holds for.
fn what(rate: &Rate) -> String {
    let mut names: Vec<&str> = rate.classes.iter().map(|class| class.name()).collect();
    names.extend(rate.functions.iter().map(String::as_str));
    let names = if names.is_empty() { "all".to_owned() } else { names.join(", ") };
    format!("{names} in {}", list(", ", &rate.dtypes))
}

fn list<T: Display>(between: &str, items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// A number of bytes in the largest binary unit that divides it.
fn size_text(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes} B"), |(size, name)| format!("{} {name}", bytes / size))
}
