//! Small changes of a kernel that make it wrong, mostly.

use tarsia::{
    Dim, Machine,
    tile::{Instr, Kernel, Layout, Opcode, Operand, Region, Stmt},
};

/// A changed kernel, and how it was changed.
pub struct Mutant {
    pub change: String,
    pub kernel: Kernel,
}

/// Where a statement is: the index in the body, then block and index, again and again.
type Place = Vec<usize>;

/// All of a kernel, in the order of its statements.
pub fn of(kernel: &Kernel, machine: &Machine) -> Vec<Mutant> {
    let mut places = Vec::new();
    walk(&kernel.body, &mut Vec::new(), &mut places);
    let mut all = Vec::new();
    for place in &places {
        let Some(Stmt::Instr(instr)) = get(&kernel.body, place) else { continue };
        if matches!(instr.op, Opcode::SetEvent { .. } | Opcode::WaitEvent { .. } | Opcode::Barrier { .. }) {
            events(kernel, machine, place, instr, &mut all);
        } else {
            regions(kernel, machine, place, instr, &mut all);
        }
    }
    addresses(kernel, machine, &mut all);
    all
}

fn walk(body: &[Stmt], at: &mut Place, found: &mut Vec<Place>) {
    for (index, stmt) in body.iter().enumerate() {
        at.push(index);
        match stmt {
            Stmt::Instr(_) => found.push(at.clone()),
            Stmt::For { body, .. } => {
                at.push(0);
                walk(body, at, found);
                at.pop();
            }
            Stmt::If { then, otherwise, .. } => {
                for (block, body) in [then, otherwise].into_iter().enumerate() {
                    at.push(block);
                    walk(body, at, found);
                    at.pop();
                }
            }
        }
        at.pop();
    }
}

fn get<'k>(body: &'k [Stmt], place: &[usize]) -> Option<&'k Stmt> {
    let stmt = body.get(place[0])?;
    match (stmt, place.get(1)) {
        (stmt, None) => Some(stmt),
        (Stmt::For { body, .. }, _) => get(body, &place[2..]),
        (Stmt::If { then, otherwise, .. }, Some(block)) => get(if *block == 0 { then } else { otherwise }, &place[2..]),
        _ => None,
    }
}

/// The block that holds a statement.
fn block<'k>(body: &'k mut Vec<Stmt>, place: &[usize]) -> &'k mut Vec<Stmt> {
    if place.len() == 1 {
        return body;
    }
    match (&mut body[place[0]], place[1]) {
        (Stmt::For { body, .. }, _) | (Stmt::If { then: body, .. }, 0) | (Stmt::If { otherwise: body, .. }, _) => {
            block(body, &place[2..])
        }
        (Stmt::Instr(_), _) => unreachable!("an instruction has no blocks"),
    }
}

fn changed(kernel: &Kernel, place: &[usize], change: String, edit: impl FnOnce(&mut Vec<Stmt>, usize)) -> Mutant {
    let mut kernel = kernel.clone();
    edit(block(&mut kernel.body, place), place[place.len() - 1]);
    Mutant { change: format!("{change} at {place:?}"), kernel }
}

fn events(kernel: &Kernel, machine: &Machine, place: &[usize], instr: &Instr, all: &mut Vec<Mutant>) {
    let what = instr.op.row().name;
    all.push(changed(kernel, place, format!("{what} removed"), |body, at| drop(body.remove(at))));
    // A move matters where the event passes what is on its own pipe.
    let mut there = kernel.clone();
    let siblings = block(&mut there.body, place).clone();
    let at = place[place.len() - 1];
    let matters = |other: &usize| on_its_pipe(kernel, machine, instr, &siblings[*other]);
    let targets = [("before", (0..at).rev().find(matters)), ("after", (at + 1..siblings.len()).find(matters))];
    for (direction, target) in targets {
        if let Some(target) = target {
            all.push(changed(kernel, place, format!("{what} moved {direction} its neighbour"), |body, at| {
                let stmt = body.remove(at);
                body.insert(target, stmt);
            }));
        }
    }
    let numbers = |event: &Dim| [event.clone() + Dim::ONE, if event.is(0) { Dim::Const(2) } else { Dim::ZERO }];
    if let Opcode::SetEvent { event, .. } | Opcode::WaitEvent { event, .. } = &instr.op {
        for number in numbers(event).into_iter().filter(|number| number != event) {
            all.push(changed(kernel, place, format!("{what} of event {number}"), |body, at| {
                let Stmt::Instr(instr) = &mut body[at] else { return };
                if let Opcode::SetEvent { event, .. } | Opcode::WaitEvent { event, .. } = &mut instr.op {
                    *event = number;
                }
            }));
        }
    }
}

/// Whether a statement puts something on the pipe that an event is on.
fn on_its_pipe(kernel: &Kernel, machine: &Machine, event: &Instr, stmt: &Stmt) -> bool {
    match stmt {
        Stmt::For { body, .. } => body.iter().any(|stmt| on_its_pipe(kernel, machine, event, stmt)),
        Stmt::If { then, otherwise, .. } => {
            then.iter().chain(otherwise).any(|stmt| on_its_pipe(kernel, machine, event, stmt))
        }
        Stmt::Instr(instr) => {
            let Ok(pipe) = machine.pipe_of(kernel, instr) else { return false };
            match &event.op {
                Opcode::SetEvent { from, .. } => pipe == from,
                Opcode::WaitEvent { to, .. } => pipe == to,
                _ => true,
            }
        }
    }
}

fn region(body: &mut [Stmt], at: usize, operand: usize) -> Option<&mut Region> {
    let Stmt::Instr(instr) = &mut body[at] else { return None };
    match instr.dst.iter_mut().chain(&mut instr.src).nth(operand) {
        Some(Operand::Tile(region)) => Some(region),
        _ => None,
    }
}

fn regions(kernel: &Kernel, _machine: &Machine, place: &[usize], instr: &Instr, all: &mut Vec<Mutant>) {
    for (at, operand) in instr.dst.iter().chain(&instr.src).enumerate() {
        let Operand::Tile(part) = operand else { continue };
        let tile = &kernel.tiles[part.tile.0 as usize];
        let mut push = |change: String, edit: &dyn Fn(&mut Region)| {
            all.push(changed(kernel, place, format!("operand {at}: {change}"), |body, index| {
                if let Some(region) = region(body, index, at) {
                    edit(region);
                }
            }));
        };
        if tile.slots > 1 {
            let next = (part.slot.clone() + Dim::ONE).modulo(&Dim::from(tile.slots));
            push(format!("copy {next}"), &|region| region.slot = next.clone());
            if !part.slot.is(0) {
                push("copy 0".into(), &|region| region.slot = Dim::ZERO);
            }
        }
        for axis in 0..part.offset.len().min(2) {
            let step = match tile.layout {
                Layout::Fractal(fractal) => fractal.block[axis],
                Layout::RowMajor => 1,
            };
            push(format!("axis {axis} starts {step} later"), &|region| {
                region.offset[axis] = region.offset[axis].clone() + Dim::from(step);
            });
        }
    }
}

fn addresses(kernel: &Kernel, machine: &Machine, all: &mut Vec<Mutant>) {
    let mut push = |change: String, edit: &dyn Fn(&mut Kernel)| {
        let mut kernel = kernel.clone();
        edit(&mut kernel);
        all.push(Mutant { change, kernel });
    };
    for (at, tile) in kernel.tiles.iter().enumerate() {
        let (Some(address), Some(space)) = (tile.address, machine.space(&tile.space)) else { continue };
        for moved in [address + space.alignment, address + space.alignment / 2, address.saturating_sub(space.alignment)]
        {
            if moved != address {
                push(format!("`{}` at {moved} instead of {address}", tile.name), &|kernel| {
                    kernel.tiles[at].address = Some(moved)
                });
            }
        }
        for (other, partner) in kernel.tiles.iter().enumerate().skip(at + 1) {
            if partner.space == tile.space && partner.address != tile.address {
                push(format!("addresses of `{}` and `{}` exchanged", tile.name, partner.name), &|kernel| {
                    kernel.tiles[at].address = partner.address;
                    kernel.tiles[other].address = tile.address;
                });
            }
        }
    }
}
