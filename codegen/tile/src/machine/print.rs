//! The listing of a machine for people.

use std::fmt::{self, Write as _};

use super::{Machine, Scope};

impl Machine {
    /// The machine as aligned text: what `tarsia targets` shows.
    pub fn print(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}: {}", self.name, self.description)?;
        writeln!(out, "  clock {} GHz, launch {} cycles", self.clock.hertz / 1e9, self.launch.cycles)?;
        for core in &self.cores {
            writeln!(out, "  core  {} × {}: pipes {}", core.name, core.count, core.pipes.join(", "))?;
        }
        for space in &self.spaces {
            let scope = if space.scope == Scope::Chip { "chip" } else { "core" };
            let layouts: Vec<String> = space.layouts.iter().map(ToString::to_string).collect();
            let size = size_text(space.bytes);
            writeln!(
                out,
                "  space {:8} {size:>9}/{scope}, align {}: {}",
                space.name,
                space.alignment,
                layouts.join("; ")
            )?;
        }
        for path in &self.paths {
            let transforms: Vec<&str> = path.transforms.iter().map(|t| t.name()).collect();
            let ends = format!("{} -> {}", path.from, path.to);
            write!(
                out,
                "  path  {ends:16} {}: {} B/cycle + {} cycles",
                path.pipe, path.bytes_per_cycle, path.startup_cycles
            )?;
            writeln!(out, "{}{}", if transforms.is_empty() { "" } else { "; " }, transforms.join(", "))?;
        }
        for unit in &self.units {
            let classes: Vec<&str> = unit.classes.iter().map(|class| class.name()).collect();
            writeln!(out, "  unit  {:8} {}: {}", unit.name, unit.pipe, classes.join(", "))?;
            for rule in &unit.operands {
                let layouts: Vec<String> = rule.layouts.iter().map(ToString::to_string).collect();
                writeln!(out, "        {:6} in {}: {}", rule.role, rule.spaces.join(", "), layouts.join("; "))?;
            }
            for rate in &unit.rates {
                let mut names: Vec<&str> = rate.classes.iter().map(|class| class.name()).collect();
                names.extend(rate.functions.iter().map(String::as_str));
                let dtypes: Vec<&str> = rate.dtypes.iter().map(|dtype| dtype.name()).collect();
                let what = if names.is_empty() { "all".to_owned() } else { names.join(", ") };
                writeln!(
                    out,
                    "        {what} in {}: {}/cycle + {} cycles",
                    dtypes.join(", "),
                    rate.per_cycle,
                    rate.startup_cycles
                )?;
            }
            for product in &unit.products {
                let ([m, n, k], types) = (product.granule, format!("{}·{} -> {}", product.a, product.b, product.acc));
                writeln!(
                    out,
                    "        {types}: {} multiply-adds/cycle + {} cycles, by {m}×{n}×{k}",
                    product.per_cycle, product.startup_cycles
                )?;
            }
        }
        for events in &self.events {
            let pairs: Vec<String> = events.pairs.iter().map(|[from, to]| format!("{from} -> {to}")).collect();
            writeln!(out, "  event {}: {} each, {} cycles", pairs.join(", "), events.ids, events.cycles)?;
        }
        for flags in &self.flags {
            writeln!(out, "  flag  {} -> {}: {}, {} cycles", flags.from, flags.to, flags.ids, flags.cycles)?;
        }
        Ok(())
    }
}

/// A number of bytes in the largest binary unit that divides it.
fn size_text(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes} B"), |(size, name)| format!("{} {name}", bytes / size))
}
