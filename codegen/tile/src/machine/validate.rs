//! Checks of a machine description that its schema cannot express, all reported together.

use super::{GLOBAL, Machine, Scope};
use crate::optable::{Class, OP_TABLE};

/// Fills in the kind of core where it was left out, and lists what is wrong.
pub(super) fn complete(machine: &mut Machine) -> Vec<String> {
    let mut faults = Vec::new();
    fill_cores(machine, &mut faults);
    let mut fault = |wrong: bool, text: String| {
        if wrong {
            faults.push(text);
        }
    };
    fault(machine.name.is_empty(), "the name is empty".into());
    fault(machine.space(GLOBAL).is_none(), format!("there is no space `{GLOBAL}`, in which buffers live"));
    fault(machine.cores.is_empty(), "there is no [[core]]".into());
    numbers(machine, &mut fault);
    cores_and_spaces(machine, &mut fault);
    paths_and_units(machine, &mut fault);
    events(machine, &mut fault);
    faults
}

fn fill_cores(machine: &mut Machine, faults: &mut Vec<String>) {
    let cores = machine.cores.clone();
    let mut fill = |what: String, pipe: &str, core: &mut String| {
        let with_pipe: Vec<&str> = cores
            .iter()
            .filter(|kind| kind.pipes.iter().any(|name| name == pipe))
            .map(|kind| kind.name.as_str())
            .collect();
        match with_pipe.as_slice() {
            _ if !core.is_empty() && with_pipe.contains(&core.as_str()) => {}
            [only] if core.is_empty() => *core = (*only).to_owned(),
            [] => faults.push(format!("{what}: no core has the pipe `{pipe}`")),
            _ if core.is_empty() => {
                faults.push(format!("{what}: say which core, of {}, has the pipe `{pipe}`", with_pipe.join(", ")));
            }
            _ => faults.push(format!("{what}: the core `{core}` has no pipe `{pipe}`")),
        }
    };
    for path in &mut machine.paths {
        fill(format!("path {} -> {}", path.from, path.to), &path.pipe, &mut path.core);
    }
    for unit in &mut machine.units {
        fill(format!("unit {}", unit.name), &unit.pipe, &mut unit.core);
    }
}

fn numbers(machine: &Machine, fault: &mut dyn FnMut(bool, String)) {
    let mut positive = |what: String, value: f64| {
        fault(!(value.is_finite() && value > 0.0), format!("{what} is {value}, not a positive number"));
    };
    positive("clock.hertz".into(), machine.clock.hertz);
    for space in &machine.spaces {
        positive(format!("space {}: bytes_per_cycle", space.name), space.bytes_per_cycle.unwrap_or(1.0));
        let rates = space.cache.iter().flat_map(|cache| [cache.bytes_per_cycle, cache.same_address_cycles]);
        rates.flatten().for_each(|rate| positive(format!("space {}: a rate of its cache", space.name), rate));
    }
    for path in &machine.paths {
        positive(format!("path {} -> {}: bytes_per_cycle", path.from, path.to), path.bytes_per_cycle);
    }
    for unit in &machine.units {
        for rate in &unit.rates {
            positive(format!("unit {}: rate.per_cycle", unit.name), rate.per_cycle);
        }
        for product in &unit.products {
            positive(format!("unit {}: product.per_cycle", unit.name), product.per_cycle);
        }
    }
    let mut natural = |what: String, value: f64| {
        fault(!(value.is_finite() && value >= 0.0), format!("{what} is {value}, not a number of cycles"));
    };
    natural("launch.cycles".into(), machine.launch.cycles);
    for core in &machine.cores {
        natural(format!("core {}: issue_cycles", core.name), core.issue_cycles);
    }
    for path in &machine.paths {
        let name = format!("path {} -> {}", path.from, path.to);
        natural(format!("{name}: startup_cycles"), path.startup_cycles);
        natural(format!("{name}: head_cycles"), path.head_cycles);
        natural(format!("{name}: burst_cycles"), path.burst_cycles);
        natural(format!("{name}: miss_cycles"), path.miss_cycles);
        natural(format!("{name}: cycles of misaligned runs"), path.misaligned.map_or(0.0, |granule| granule.cycles));
        for window in &path.windows {
            // What a window of one row and stride 1 takes is the least that the formula gives.
            let least = [window.base, window.per_stride, window.per_row];
            let each = least.iter().all(|cycles| cycles.is_finite() && *cycles >= 0.0);
            natural(format!("{name}: the cycles of a window"), if each { least.iter().sum() } else { f64::NAN });
        }
    }
    for unit in &machine.units {
        for rate in &unit.rates {
            natural(format!("unit {}: startup_cycles", unit.name), rate.startup_cycles);
            natural(format!("unit {}: head_cycles", unit.name), rate.head_cycles);
            natural(format!("unit {}: row_cycles", unit.name), rate.row_cycles);
        }
        for product in &unit.products {
            natural(format!("unit {}: startup_cycles", unit.name), product.startup_cycles);
            natural(format!("unit {}: head_cycles", unit.name), product.head_cycles);
        }
    }
    for cycles in machine.events.iter().map(|e| e.cycles).chain(machine.flags.iter().map(|f| f.cycles)) {
        natural("cycles of events and flags".into(), cycles);
    }
}

fn cores_and_spaces(machine: &Machine, fault: &mut dyn FnMut(bool, String)) {
    for (i, core) in machine.cores.iter().enumerate() {
        let name = &core.name;
        fault(core.count == 0, format!("core {name}: count is 0"));
        fault(core.queue == Some(0), format!("core {name}: a queue of 0 instructions never takes one"));
        fault(core.pipes.is_empty(), format!("core {name}: it has no pipe"));
        fault(machine.cores[..i].iter().any(|other| other.name == *name), format!("core {name} is described twice"));
        for space in &core.spaces {
            let private = machine.space(space).is_some_and(|space| space.scope == Scope::Core);
            fault(!private, format!("core {name}: `{space}` is not a space with scope \"core\""));
        }
    }
    for (i, space) in machine.spaces.iter().enumerate() {
        let name = &space.name;
        fault(machine.spaces[..i].iter().any(|other| other.name == *name), format!("space {name} is described twice"));
        fault(!space.alignment.is_power_of_two(), format!("space {name}: the alignment is not a power of two"));
        fault(space.bytes == 0, format!("space {name}: it has no bytes"));
        let owned = machine.cores.iter().any(|core| core.spaces.contains(name));
        fault(space.scope == Scope::Core && !owned, format!("space {name}: no core lists it among its spaces"));
        if let Some(banks) = &space.banks {
            let empty = banks.groups == 0 || banks.per_group == 0 || banks.width == 0;
            fault(empty, format!("space {name}: banks need groups, per_group and width above 0"));
            let slower = |times: f64| times.is_finite() && times >= 1.0;
            let times = [banks.read_conflict, banks.write_conflict, banks.beside_write];
            let faster = !times.into_iter().all(slower);
            fault(faster, format!("space {name}: a conflict of banks takes at least 1 times as long"));
        }
        if let Some(requests) = &space.requests {
            let whole = requests.unit > 0 && requests.line >= requests.unit && requests.line.is_power_of_two();
            fault(
                !whole,
                format!("space {name}: a line of requests is a power of two and at least as long as their unit"),
            );
        }
    }
}

fn paths_and_units(machine: &Machine, fault: &mut dyn FnMut(bool, String)) {
    let roles: Vec<&str> =
        OP_TABLE.iter().flat_map(|row| row.dst.iter().chain(row.src)).map(|role| role.name).collect();
    for path in &machine.paths {
        for window in &path.windows {
            let wrong = !(window.bytes.is_finite() && window.bytes > 0.0)
                || window.base + window.per_stride + window.per_row <= 0.0;
            fault(wrong, format!("path {} -> {}: a window needs bytes and cycles above 0", path.from, path.to));
        }
        for space in [&path.from, &path.to] {
            let missing = machine.space(space).is_none();
            fault(missing, format!("path {} -> {}: there is no space `{space}`", path.from, path.to));
        }
    }
    for unit in &machine.units {
        let name = &unit.name;
        let data = unit.classes.iter().any(|class| !matches!(class, Class::Move | Class::Sync));
        fault(!data, format!("unit {name}: it runs no class of instructions (moves belong to paths, events to pipes)"));
        let matrix = unit.classes.contains(&Class::Matrix);
        fault(matrix == unit.products.is_empty(), format!("unit {name}: a matrix unit, and it alone, lists products"));
        let vector = unit.classes.iter().any(|class| *class != Class::Matrix);
        fault(vector && unit.rates.is_empty(), format!("unit {name}: it needs a [[unit.rate]]"));
        for rule in &unit.operands {
            let role = &rule.role;
            fault(!roles.contains(&role.as_str()), format!("unit {name}: no instruction has an operand `{role}`"));
            for space in &rule.spaces {
                fault(machine.space(space).is_none(), format!("unit {name}: there is no space `{space}`"));
            }
        }
        fault(unit.step_bytes == 0, format!("unit {name}: step_bytes is 0"));
        let granules = unit.products.iter().flat_map(|product| product.granule);
        fault(granules.min() == Some(0), format!("unit {name}: a granule is 0"));
    }
}

fn events(machine: &Machine, fault: &mut dyn FnMut(bool, String)) {
    for events in &machine.events {
        for [from, to] in &events.pairs {
            let known = machine.has_pipe(from) && machine.has_pipe(to);
            fault(!known || from == to, format!("event {from} -> {to}: no core has one of the pipes, or they are one"));
        }
    }
    for flags in &machine.flags {
        for core in [&flags.from, &flags.to] {
            fault(
                machine.core(core).is_none(),
                format!("flag {} -> {}: there is no core `{core}`", flags.from, flags.to),
            );
        }
    }
}
