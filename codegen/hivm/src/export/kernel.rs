//! A kernel as a module: functions and arguments, the loop over work items, and the walk through the statements.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Instr, Kernel, Machine, Opcode, Param, ParamId, Tile, TileId, optable::Class};

use super::{
    Core, Emitter, Form, Launch, Missing, Module, Result,
    group::{CACHE_LINE, computed, exchanged, workspace_bytes},
    sync::{Hazards, split},
    walk::{each_instr, symbols},
    writer::{Writer, element},
};

/// The kernel's module in one form.
pub fn module(kernel: &Kernel, name: &str, machine: &Machine, form: Form) -> Result<Module> {
    let cores = cores(kernel, machine)?;
    let mixed = cores.len() > 1;
    let symbols = symbols(kernel);
    let block_dim = block_dim(kernel, machine, mixed, cores.contains(&Core::Cube));
    let workspace_space = machine.spaces.iter().find(|space| space.backing.is_some());
    let workspace_space = workspace_space.map(|space| space.name.clone()).unwrap_or_default();
    let exchanged = if mixed { exchanged(kernel, workspace_bytes(kernel, &workspace_space)) } else { BTreeMap::new() };
    let own_bytes = exchanged.values().map(|at| at + CACHE_LINE).max();
    let own_bytes = own_bytes.unwrap_or_else(|| workspace_bytes(kernel, &workspace_space));
    let workspace_bytes = own_bytes.next_multiple_of(512) * block_dim;
    let mut text = format!("module attributes {{{}}} {{\n", module_attributes(machine, mixed));
    let mut functions = Vec::new();
    for core in [Core::Cube, Core::Vector] {
        if !cores.contains(&core) {
            continue;
        }
        let suffix = match (mixed, core) {
            (false, _) => "",
            (true, Core::Cube) => "_mix_aic",
            (true, Core::Vector) => "_mix_aiv",
        };
        let function = format!("{name}{suffix}");
        let mut emitter = emitter(kernel, machine, form, core, mixed, &workspace_space, &symbols)?;
        emitter.exchanged.clone_from(&exchanged);
        emitter.body(block_dim, workspace_bytes / block_dim.max(1))?;
        text += &header(&emitter, &function, block_dim, workspace_bytes > 0);
        text += &emitter.w.finish();
        text += "    return\n  }\n";
        functions.push(function);
    }
    text += "}\n";
    let symbols = symbols.iter().map(|symbol| symbol.name().to_owned()).collect();
    Ok(Module { name: name.to_owned(), text, launch: Launch { functions, block_dim, symbols, workspace_bytes } })
}

fn module_attributes(machine: &Machine, mixed: bool) -> String {
    // The vendor writes its chips with a capital letter and a capital variant: `ascend910b2` is `Ascend910B2`.
    let mut chip = machine.name.clone();
    if let Some(first) = chip.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    if let Some(variant) = chip.rfind(|c: char| c.is_ascii_alphabetic()).filter(|&at| at > 0) {
        chip[variant..=variant].make_ascii_uppercase();
    }
    let mix = if mixed { ", hivm.module_core_type = #hivm.module_core_type<MIX>" } else { "" };
    format!("hacc.target = #hacc.target<\"{chip}\">{mix}")
}

fn header(emitter: &Emitter, function: &str, block_dim: usize, workspace: bool) -> String {
    let mut arguments = Vec::new();
    if emitter.mixed {
        arguments.push("%ffts: i64 {hacc.arg_type = #hacc.arg_type<ffts_base_address>}".to_owned());
    }
    arguments.extend(emitter.params.iter().map(|(name, ty)| format!("{name}: {ty}")));
    if workspace {
        arguments.push("%workspace: memref<?xi8, #hivm.address_space<gm>>".to_owned());
    }
    let area = |area| format!("%area{area}: memref<?xi8, #hivm.address_space<gm>>");
    arguments.extend(emitter.areas.iter().map(area));
    arguments.extend((0..emitter.symbols.len()).map(|at| format!("%s{at}: index")));
    let kind = if emitter.core == Core::Cube { "AIC" } else { "AIV" };
    let mix = if emitter.mixed { ", hivm.part_of_mix, mix_mode = \"mix\"" } else { "" };
    format!(
        "  func.func @{function}({}) attributes {{hacc.entry, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.block_dim = {block_dim} : i64, hivm.func_core_type = #hivm.func_core_type<{kind}>{mix}}} {{\n",
        arguments.join(", ")
    )
}

/// The kinds of core that a kernel uses.
fn cores(kernel: &Kernel, machine: &Machine) -> Result<Vec<Core>> {
    let mut found = Vec::new();
    let mut fault = None;
    each_instr(&kernel.body, &mut |instr| {
        let core = match core_of(kernel, machine, instr) {
            Ok(core) => core,
            Err(missing) => {
                fault.get_or_insert(missing);
                return;
            }
        };
        if let Some(core) = core
            && !found.contains(&core)
        {
            found.push(core);
        }
    });
    fault.map_or(Ok(found), Err)
}

/// The kind of core that carries an instruction out; `None` for what orders pipes.
pub fn core_of(kernel: &Kernel, machine: &Machine, instr: &Instr) -> Result<Option<Core>> {
    if instr.op.row().class == Class::Sync {
        return Ok(None);
    }
    let pipe = machine.pipe_of(kernel, instr).map_err(Missing)?;
    Ok(Some(split(pipe)?.0))
}

/// Blocks to launch: no more than there are cores or groups of cores, and no more than there are items.
fn block_dim(kernel: &Kernel, machine: &Machine, mixed: bool, cube: bool) -> usize {
    let count = |core: Core| {
        let of = |kind: &&tarsia_tile::machine::CoreKind| {
            kind.pipes.first().is_some_and(|pipe| split(pipe).is_ok_and(|(found, _)| found == core))
        };
        machine.cores.iter().find(of).map_or(1, |kind| kind.count)
    };
    let cores = if mixed || cube { count(Core::Cube) } else { count(Core::Vector) };
    let items = Dim::product(kernel.grid.iter().map(|(_, size)| size)).as_usize();
    items.map_or(cores, |items| items.min(cores)).max(1)
}

/// Bytes of all copies of a tile.
pub fn tile_bytes(tile: &Tile) -> usize {
    let bytes = tile.layout.elements(&tile.shape).and_then(|count| tile.dtype.bytes_of(count));
    bytes.unwrap_or(0).saturating_mul(tile.slots)
}

fn emitter<'a>(
    kernel: &'a Kernel,
    machine: &'a Machine,
    form: Form,
    core: Core,
    mixed: bool,
    workspace_space: &str,
    symbols: &[Symbol],
) -> Result<Emitter<'a>> {
    let rule = machine.units(Class::Pointwise).next().and_then(|unit| unit.operand("dst", true));
    let vector_space = rule.and_then(|rule| rule.spaces.first()).cloned().unwrap_or_default();
    let space = machine.space(&vector_space).ok_or_else(|| Missing("a memory for vectors".into()))?;
    let ends = kernel.tiles.iter().filter(|tile| tile.space == vector_space);
    let scratch_start = ends.map(|tile| tile.address.unwrap_or(0) + tile_bytes(tile)).max().unwrap_or(0);
    let mut params = Vec::new();
    for (at, param) in kernel.params.iter().enumerate() {
        let shape: Option<Vec<usize>> = param.shape.iter().map(Dim::as_usize).collect();
        let size = shape.and_then(|shape| param.layout.elements(&shape));
        let size = size.map_or("?".to_owned(), |size| size.to_string());
        let ty = format!("memref<{size}x{}, #hivm.address_space<gm>>", element(param.dtype)?);
        params.push((format!("%p{at}"), ty));
    }
    let scratch_start = scratch_start.next_multiple_of(32);
    Ok(Emitter {
        kernel,
        machine,
        form,
        core,
        mixed,
        guard: None,
        w: Writer::new(),
        params,
        workspace_space: workspace_space.to_owned(),
        workspace: None,
        vector_space,
        scratch_start,
        scratch_next: scratch_start,
        scratch_end: space.bytes as usize,
        hazards: Hazards::default(),
        symbols: symbols.to_vec(),
        turns: BTreeMap::new(),
        exchanged: BTreeMap::new(),
        areas: BTreeSet::new(),
        cube: super::cube::Cube::default(),
    })
}

impl Emitter<'_> {
    /// The tile of this number.
    pub fn tile(&self, id: TileId) -> Result<&Tile> {
        self.kernel.tiles.get(id.0 as usize).ok_or_else(|| Missing("a tile".into()))
    }

    /// The parameter of this number.
    pub fn param(&self, id: ParamId) -> Result<&Param> {
        self.kernel.params.get(id.0 as usize).ok_or_else(|| Missing("a parameter".into()))
    }

    /// All copies of a row-major tile as one flat memref: name and type.
    pub fn tile_base(&mut self, id: TileId) -> Result<(String, String)> {
        let tile = self.tile(id)?;
        let elements = tile.layout.elements(&tile.shape).unwrap_or(0) * tile.slots;
        let (space, address, ty) = (tile.space.clone(), tile.address.unwrap_or(0), element(tile.dtype)?);
        if space == self.workspace_space && self.form == Form::Flagless {
            return self.workspace_argument(id, elements, ty);
        }
        if space == self.workspace_space {
            let start = self.workspace.clone().ok_or_else(|| Missing("a workspace".into()))?;
            let address = self.w.integer(address as i64);
            let at = self.w.shared(&format!("arith.addi {start}, {address} : index"));
            let ty = format!("memref<{elements}x{ty}, #hivm.address_space<gm>>");
            let bytes = "memref<?xi8, #hivm.address_space<gm>>";
            return Ok((self.w.shared(&format!("memref.view %workspace[{at}][] : {bytes} to {ty}")), ty));
        }
        let tile = self.tile(id)?.clone();
        self.base_at(&tile, address)
    }

    /// All copies of a tile at an address, or where the vendor puts them.
    pub fn base_at(&mut self, tile: &Tile, address: usize) -> Result<(String, String)> {
        let elements = tile.layout.elements(&tile.shape).unwrap_or(0) * tile.slots;
        let (space, ty) = (super::cube::hivm_space(&tile.space)?, element(tile.dtype)?);
        let ty = format!("memref<{elements}x{ty}, #hivm.address_space<{space}>>");
        if self.form == Form::Planned {
            // The name keeps tiles of one type apart.
            let text = format!("memref.alloc() : {ty} loc(\"{}\")", tile.name);
            return Ok((self.w.hoisted_in_item(&text), ty));
        }
        let address = self.w.hoisted(&format!("arith.constant {address} : i64"));
        Ok((self.w.hoisted(&format!("hivm.hir.pointer_cast({address}) : {ty}")), ty))
    }

    /// Everything between the braces of the function.
    fn body(&mut self, block_dim: usize, workspace: usize) -> Result<()> {
        for (at, symbol) in self.symbols.clone().iter().enumerate() {
            self.w.bind(symbol, format!("%s{at}"));
        }
        if self.mixed {
            self.w.line("hivm.hir.set_ffts_base_addr %ffts");
        }
        if self.core == Core::Vector {
            self.w.line("hivm.hir.set_mask_norm");
        }
        let block = self.w.value("hivm.hir.get_block_idx -> i64");
        let block = self.w.value(&format!("arith.index_cast {block} : i64 to index"));
        if workspace > 0 {
            let bytes = self.w.integer(workspace as i64);
            self.workspace = Some(self.w.value(&format!("arith.muli {block}, {bytes} : index")));
        }
        self.lane();
        let items = Dim::product(self.kernel.grid.iter().map(|(_, size)| size));
        let single = items.range().high <= block_dim as i64;
        let item = if !single {
            let (end, step) = (self.w.index(&items)?, self.w.integer(block_dim as i64));
            let item = self.w.fresh();
            self.w.open(&format!("scf.for {item} = {block} to {end} step {step} {{"));
            item
        } else if items.is(block_dim as i64) {
            block
        } else {
            let end = self.w.index(&items)?;
            let has = self.w.value(&format!("arith.cmpi slt, {block}, {end} : index"));
            self.w.open(&format!("scf.if {has} {{"));
            block
        };
        self.w.begin_item();
        self.grid(&item)?;
        if self.core == Core::Cube {
            self.move_overlapping()?;
        }
        self.hazards.forget();
        let kernel = self.kernel;
        self.block(&kernel.body)?;
        if !single {
            self.end_of_item();
        }
        if !items.is(block_dim as i64) {
            self.w.close("}");
        }
        if self.form == Form::Placed {
            self.w.line("hivm.hir.pipe_barrier[<PIPE_ALL>]");
        }
        Ok(())
    }

    /// Which of the vector cores of a group this is; without lanes, only the first one works.
    fn lane(&mut self) {
        if !self.mixed || self.core != Core::Vector {
            return;
        }
        let lane = self.w.value("hivm.hir.get_sub_block_idx -> i64");
        let lane = self.w.value(&format!("arith.index_cast {lane} : i64 to index"));
        match &self.kernel.lanes {
            Some(lanes) => self.w.bind(&lanes.var, lane),
            None => {
                let zero = self.w.integer(0);
                self.guard = Some(self.w.value(&format!("arith.cmpi eq, {lane}, {zero} : index")));
            }
        }
    }

    /// The grid variables of an item: the last one runs fastest.
    fn grid(&mut self, item: &str) -> Result<()> {
        let mut rest = item.to_owned();
        for (at, (symbol, size)) in self.kernel.grid.iter().enumerate().rev() {
            if at == 0 {
                self.w.bind(symbol, rest.clone());
                break;
            }
            let size = self.w.index(size)?;
            let value = self.w.value(&format!("arith.remsi {rest}, {size} : index"));
            rest = self.w.value(&format!("arith.divsi {rest}, {size} : index"));
            self.w.bind(symbol, value);
        }
        Ok(())
    }

    pub fn instr(&mut self, instr: &Instr) -> Result<()> {
        match &instr.op {
            Opcode::SetEvent { from, to, event } => return self.event(true, from, to, event),
            Opcode::WaitEvent { from, to, event } => return self.event(false, from, to, event),
            Opcode::Barrier { pipe } => return self.barrier(pipe.as_deref()),
            _ => {}
        }
        if let Some(symbol) = computed(instr).filter(|_| self.is_exchanged(instr)) {
            return self.exchange(instr, symbol);
        }
        let pipe = self.machine.pipe_of(self.kernel, instr).map_err(Missing)?.to_owned();
        self.scratch_next = self.scratch_start;
        let written = if self.core == Core::Cube { self.cube(instr, &pipe) } else { self.vector_core(instr, &pipe) };
        written.map_err(|missing| Missing(format!("`{}`: {missing}", instr.op)))
    }

    fn barrier(&mut self, pipe: Option<&str>) -> Result<()> {
        let pipe = match pipe {
            None => "PIPE_ALL".to_owned(),
            Some(pipe) => match split(pipe)? {
                (core, pipe) if core == self.core => pipe,
                _ => return Ok(()),
            },
        };
        if self.form == Form::Placed {
            self.w.line(&format!("hivm.hir.pipe_barrier[<{pipe}>]"));
        }
        Ok(())
    }

    /// An instruction of the vector core: with its templates, or element by element on the scalar unit.
    fn vector_core(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        let mark = self.w.mark();
        let scalar = self.scalar_pipe();
        if pipe == scalar {
            return self.scalar(instr);
        }
        let missing = match self.templates(instr, pipe) {
            Ok(()) => return Ok(()),
            Err(missing) => missing,
        };
        self.w.reset(mark.clone());
        self.hazards.forget();
        self.scratch_next = self.scratch_start;
        if self.through_scratch(instr, pipe).is_ok() {
            return Ok(());
        }
        self.w.reset(mark);
        self.hazards.forget();
        self.scratch_next = self.scratch_start;
        self.order(pipe, &scalar)?;
        self.scalar(instr).map_err(|also| Missing(format!("{missing}; on the scalar unit: {also}")))?;
        self.order(&scalar, pipe)
    }

    /// The scalar pipe of the vector core.
    pub fn scalar_pipe(&self) -> String {
        let pipes = self.machine.cores.iter().flat_map(|core| &core.pipes);
        let scalar = |pipe: &&String| matches!(split(pipe), Ok((Core::Vector, name)) if name == "PIPE_S");
        pipes.into_iter().find(scalar).cloned().unwrap_or_default()
    }

    /// An instruction in the forms that the vendor has templates for.
    fn templates(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        match instr.op.row().class {
            Class::Move => self.copy(instr, pipe),
            Class::Fill | Class::Pointwise => self.pointwise(instr),
            Class::Reduce => self.reduce(instr),
            Class::Scan => self.scan(instr),
            Class::Sort => self.sort(instr),
            Class::Gather => self.gather(instr, pipe),
            Class::Scatter => self.scatter(instr, pipe),
            class => Err(Missing(format!("instructions of class `{}` on {pipe}", class.name()))),
        }
    }
}
