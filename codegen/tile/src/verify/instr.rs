//! One instruction: kinds and types of its operands, shapes, bounds, and the unit or data path that runs it.

use tarsia_tensor::{DType, Dim};

use super::{Stage, kernel::Check};
use crate::{
    Axis, Instr, Kernel, Layout, Machine, Opcode, Operand, Param, Region, View,
    machine::{GLOBAL, Path, Transform, Unit},
    optable::{Class, Kinds, Role, Row, TypeRule},
};

/// A tile region or view: what instructions work on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array<'a> {
    pub dtype: DType,
    pub layout: Layout,
    pub space: &'a str,
    pub size: &'a [Dim],
}

impl Kernel {
    /// The element type of a tile or view; `None` for numbers and scalars.
    pub fn dtype_of(&self, operand: &Operand) -> Option<DType> {
        self.array(operand).map(|array| array.dtype)
    }

    /// The layout of a tile or view; `None` for numbers and scalars.
    pub fn layout_of(&self, operand: &Operand) -> Option<Layout> {
        self.array(operand).map(|array| array.layout)
    }

    /// The array that an operand is; `None` for numbers, scalars and references that do not exist.
    pub(crate) fn array<'a>(&'a self, operand: &'a Operand) -> Option<Array<'a>> {
        match operand {
            Operand::Tile(Region { tile, size, .. }) => {
                let tile = self.tiles.get(tile.0 as usize)?;
                Some(Array { dtype: tile.dtype, layout: tile.layout, space: &tile.space, size })
            }
            Operand::Global(View { param, size, .. }) => {
                let param = self.params.get(param.0 as usize)?;
                Some(Array { dtype: param.dtype, layout: param.layout, space: GLOBAL, size })
            }
            _ => None,
        }
    }
}

/// Where an instruction runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runner<'m> {
    Path(&'m Path),
    Unit(&'m Unit),
}

impl<'m> Runner<'m> {
    pub fn pipe(self) -> &'m str {
        match self {
            Runner::Path(path) => &path.pipe,
            Runner::Unit(unit) => &unit.pipe,
        }
    }

    /// Bytes that the start of an operand in a tile is a multiple of.
    fn alignment(self) -> usize {
        match self {
            Runner::Path(path) => path.alignment,
            Runner::Unit(unit) => unit.alignment,
        }
    }
}

impl Machine {
    /// The pipe on which an instruction of a kernel runs; events and barriers run on the pipes they name.
    ///
    /// # Errors
    /// If no unit or data path of the machine runs it: says why.
    pub fn pipe_of(&self, kernel: &Kernel, instr: &Instr) -> Result<&str, String> {
        runner(self, kernel, instr, Stage::Routed).map(Runner::pipe)
    }
}

/// The type in which an instruction computes: that of its first operand of the rule [`TypeRule::Value`], else of its first array.
pub fn compute_type(kernel: &Kernel, instr: &Instr) -> Option<DType> {
    let row = instr.op.row();
    let pairs = || row.src.iter().zip(&instr.src).chain(row.dst.iter().zip(&instr.dst));
    let value = pairs().filter(|(role, _)| role.dtype == TypeRule::Value);
    let typed = |(_, operand): (&Role, &Operand)| kernel.array(operand).map(|array| array.dtype);
    value.map(typed).find_map(|dtype| dtype).or_else(|| pairs().find_map(typed))
}

/// The unit or path that runs an instruction. Before [`Stage::Routed`] spaces and layouts do not count.
pub(crate) fn runner<'m>(
    machine: &'m Machine,
    kernel: &Kernel,
    instr: &Instr,
    stage: Stage,
) -> Result<Runner<'m>, String> {
    let class = instr.op.row().class;
    match class {
        Class::Move => path(machine, kernel, instr, stage),
        Class::Sync => Err("events run on the pipes they name".into()),
        Class::Matrix => product(machine, kernel, instr, stage),
        _ => {
            let dtype = compute_type(kernel, instr).ok_or("no operand has a type")?;
            let function = instr.op.function();
            let units = machine.units(class).filter(|unit| unit.rate(class, function, dtype).is_some());
            allowed(units, kernel, instr, stage)
                .unwrap_or_else(|| Err(format!("no unit of {} computes `{function}` in {dtype}", machine.name)))
        }
    }
}

fn product<'m>(machine: &'m Machine, kernel: &Kernel, instr: &Instr, stage: Stage) -> Result<Runner<'m>, String> {
    let dtype = |operand: Option<&Operand>| operand.and_then(|operand| kernel.array(operand)).map(|array| array.dtype);
    let (Some(acc), Some(a), Some(b)) = (dtype(instr.dst.first()), dtype(instr.src.first()), dtype(instr.src.get(1)))
    else {
        return Err("a matrix product takes three arrays".into());
    };
    let has = |unit: &&Unit| unit.products.iter().any(|product| (product.acc, product.a, product.b) == (acc, a, b));
    allowed(machine.units(Class::Matrix).filter(has), kernel, instr, stage)
        .unwrap_or_else(|| Err(format!("{} has no matrix product {a}·{b} -> {acc}", machine.name)))
}

/// The first unit that takes every operand where it is; the complaint of the first one otherwise; `None` without units.
fn allowed<'m>(
    units: impl Iterator<Item = &'m Unit>,
    kernel: &Kernel,
    instr: &Instr,
    stage: Stage,
) -> Option<Result<Runner<'m>, String>> {
    let mut first = None;
    for unit in units {
        match if stage < Stage::Routed { Ok(()) } else { operands_allowed(unit, kernel, instr) } {
            Ok(()) => return Some(Ok(Runner::Unit(unit))),
            Err(complaint) => {
                first.get_or_insert(complaint);
            }
        }
    }
    first.map(Err)
}

fn operands_allowed(unit: &Unit, kernel: &Kernel, instr: &Instr) -> Result<(), String> {
    let row = instr.op.row();
    let written = row.dst.iter().zip(&instr.dst).map(|pair| (pair, true));
    let read = row.src.iter().zip(&instr.src).map(|pair| (pair, false));
    for ((role, operand), written) in written.chain(read) {
        let Some(array) = kernel.array(operand) else { continue };
        let rule = unit.operand(role.name, written);
        let rule = rule.ok_or_else(|| format!("unit `{}` has no operand `{}`", unit.name, role.name))?;
        if !rule.allows(array.space, &array.layout, array.dtype) {
            let layouts: Vec<String> = rule.layouts.iter().map(ToString::to_string).collect();
            return Err(format!(
                "unit `{}` takes `{}` from {} in layout {}, not {} from {} in {}",
                unit.name,
                role.name,
                rule.spaces.join(" or "),
                layouts.join(" or "),
                array.dtype,
                array.space,
                array.layout
            ));
        }
    }
    Ok(())
}

fn path<'m>(machine: &'m Machine, kernel: &Kernel, instr: &Instr, stage: Stage) -> Result<Runner<'m>, String> {
    let (Some(dst), Some(src)) = (instr.dst.first(), instr.src.first()) else {
        return Err("a copy takes two arrays".into());
    };
    let (Some(to), Some(from)) = (kernel.array(dst), kernel.array(src)) else {
        return Err("a copy takes two arrays".into());
    };
    let needed = transforms(kernel, instr);
    let fits = |path: &&Path| {
        let ends = path.from == from.space && path.to == to.space;
        stage < Stage::Routed
            || ends
                && path.converts(from.dtype, to.dtype)
                && needed.iter().all(|transform| path.transforms.contains(transform))
    };
    machine
        .paths
        .iter()
        .filter(fits)
        .max_by(|a, b| a.bytes_per_cycle.total_cmp(&b.bytes_per_cycle))
        .map(Runner::Path)
        .ok_or_else(|| {
            let names: Vec<&str> = needed.iter().map(|transform| transform.name()).collect();
            let ends = format!("from {} in {} to {} in {}", from.space, from.dtype, to.space, to.dtype);
            match names.as_slice() {
                [] => format!("{} has no data path {ends}", machine.name),
                names => format!("{} has no data path {ends} that does: {}", machine.name, names.join(", ")),
            }
        })
}

/// What a data path has to do for a copy; empty for other instructions.
pub fn transforms(kernel: &Kernel, instr: &Instr) -> Vec<Transform> {
    let (Opcode::Copy { .. }, [dst], [src]) = (&instr.op, instr.dst.as_slice(), instr.src.as_slice()) else {
        return Vec::new();
    };
    let (Some(to), Some(from)) = (kernel.array(dst), kernel.array(src)) else { return Vec::new() };
    let mut needed = Vec::new();
    if to.layout != from.layout {
        needed.push(Transform::Layout);
    }
    if to.dtype != from.dtype {
        needed.push(Transform::Convert);
    }
    let spread =
        to.size.len() == from.size.len() && to.size.iter().zip(from.size).any(|(to, from)| from.is(1) && !to.is(1));
    needed.extend(spread.then_some(Transform::Broadcast));
    needed.extend(access_transforms(dst, &to.layout));
    needed.extend(access_transforms(src, &from.layout));
    let as_columns = |view: &Array<'_>, tile: &Array<'_>| {
        tile.layout == Layout::COLUMNS && view.layout == Layout::RowMajor && view.size.len() == 2
    };
    if needed.contains(&Transform::Transpose) && (as_columns(&from, &to) || as_columns(&to, &from)) {
        // Its columns are the rows of memory.
        needed.retain(|transform| !matches!(transform, Transform::Layout | Transform::Transpose));
    }
    needed.sort_unstable();
    needed.dedup();
    needed
}

/// What an access to one end of a copy asks of the data path: views may pad, transpose, step and repeat. A view of a fractal is a box of
/// whole blocks.
pub fn access_transforms(operand: &Operand, layout: &Layout) -> Vec<Transform> {
    let (Operand::Global(view), Layout::RowMajor) = (operand, layout) else { return Vec::new() };
    let mut needed = Vec::new();
    needed.extend(view.fill.is_some().then_some(Transform::Pad));
    needed.extend(match arrangement(view) {
        Arrangement::Rows => None,
        Arrangement::Transposed => Some(Transform::Transpose),
        Arrangement::Strided => Some(Transform::Strided),
    });
    let windows = view.axes.len() > 1 && view.axes.iter().any(|axis| axis.steps.len() > 1);
    needed.extend(windows.then_some(Transform::Im2col));
    let steps_along =
        |at: usize| view.axes.iter().any(|axis| axis.steps.iter().any(|(along, step)| *along == at && !step.is(0)));
    let repeats = (0..view.size.len()).any(|at| !view.size[at].is(1) && !steps_along(at));
    needed.extend(repeats.then_some(Transform::Broadcast));
    needed
}

enum Arrangement {
    /// Neighbours on the innermost axis are neighbours in memory.
    Rows,
    /// Neighbours on another axis are.
    Transposed,
    /// None are.
    Strided,
}

fn arrangement(view: &View) -> Arrangement {
    let Some(last) = view.axes.last() else { return Arrangement::Rows };
    let step = |at: usize| last.steps.iter().find(|(along, _)| *along == at).map(|(_, step)| step);
    let Some(inner) = (0..view.size.len()).rev().find(|&at| !view.size[at].is(1)) else { return Arrangement::Rows };
    match step(inner) {
        Some(step) if step.is(1) => Arrangement::Rows,
        // A broadcast along the innermost axis reads one element.
        None if view.axes.iter().all(|axis| axis.steps.iter().all(|(along, _)| *along != inner)) => Arrangement::Rows,
        _ if (0..inner).any(|at| step(at).is_some_and(|step| step.is(1))) => Arrangement::Transposed,
        _ => Arrangement::Strided,
    }
}

impl Check<'_, '_> {
    /// Checks everything about an instruction but the order of accesses.
    pub(super) fn instruction(&mut self, instr: &Instr) {
        let row = instr.op.row();
        if !self.counts(row, instr) {
            return;
        }
        let indexed = |role: &Role| role.name == "table";
        for (role, operand) in row.dst.iter().zip(&instr.dst).chain(row.src.iter().zip(&instr.src)) {
            self.operand(operand, indexed(role), row.class == Class::Move);
        }
        if self.report.faults.len() > self.faults_before {
            return;
        }
        self.types(row, instr);
        self.shapes(instr);
        self.attributes(instr);
        if let Some((machine, stage)) = self.machine
            && row.class != Class::Sync
        {
            match runner(machine, self.kernel, instr, stage) {
                Ok(runner) if stage >= Stage::Placed => self.starts(instr, runner.alignment()),
                Ok(_) => {}
                Err(complaint) => self.report.fault(complaint),
            }
        }
    }

    /// Parts of tiles start where what moves or computes them can start.
    fn starts(&mut self, instr: &Instr, alignment: usize) {
        let kernel = self.kernel;
        for operand in instr.dst.iter().chain(&instr.src) {
            let Operand::Tile(region) = operand else { continue };
            let tile = &kernel.tiles[region.tile.0 as usize];
            if alignment < 2 || tile.layout != Layout::RowMajor {
                // Parts of fractals start at a block.
                continue;
            }
            let mut stride = Dim::from(tile.dtype.bits().div_ceil(8));
            let mut start = Dim::ZERO;
            for (offset, size) in region.offset.iter().zip(&tile.shape).rev() {
                start = start + offset.clone() * stride.clone();
                stride = stride * Dim::from(*size);
            }
            self.aligned(&start, alignment, || format!("the first byte of the part of `{}`", tile.name));
        }
    }

    /// Number and kinds of operands, and that they refer to something.
    fn counts(&mut self, row: &Row, instr: &Instr) -> bool {
        self.faults_before = self.report.faults.len();
        for (what, roles, operands) in [("destinations", row.dst, &instr.dst), ("sources", row.src, &instr.src)] {
            if roles.len() != operands.len() {
                self.report.fault(format!("`{}` takes {} {what}, not {}", row.name, roles.len(), operands.len()));
                continue;
            }
            for (role, operand) in roles.iter().zip(operands) {
                let kind = Kinds::of(operand);
                self.report.fault_if(!role.kinds.contains(kind), || {
                    format!("`{}` takes a {} as `{}`, not a {kind}", row.name, role.kinds, role.name)
                });
                let lost =
                    matches!(operand, Operand::Tile(_) | Operand::Global(_)) && self.kernel.array(operand).is_none();
                self.report.fault_if(lost, || "an operand is neither a tile nor a parameter of the kernel".into());
            }
        }
        self.report.faults.len() == self.faults_before
    }

    fn operand(&mut self, operand: &Operand, indexed: bool, moved: bool) {
        match operand {
            Operand::Tile(region) => self.region(region, moved),
            Operand::Global(view) => self.view(view, indexed),
            Operand::Index(dim) => self.dim(dim),
            Operand::Scalar(_, bound) => self.dim(bound),
            Operand::Real(_) => {}
        }
    }

    /// `moved` parts of fractals may begin between rows that lie one behind the other.
    fn region(&mut self, region: &Region, moved: bool) {
        let kernel = self.kernel;
        let tile = &kernel.tiles[region.tile.0 as usize];
        let rank = tile.shape.len();
        if region.offset.len() != rank || region.size.len() != rank {
            return self.report.fault(format!(
                "the tile `{}` has {rank} axes, its part {}",
                tile.name,
                region.size.len()
            ));
        }
        region.offset.iter().chain(&region.size).chain([&region.slot]).for_each(|dim| self.dim(dim));
        let last = Dim::from(tile.slots) - Dim::ONE;
        self.require(Dim::ZERO, region.slot.clone(), || format!("the slot of `{}`", tile.name));
        self.require(region.slot.clone(), last, || format!("the slot of `{}`", tile.name));
        for (axis, (offset, size)) in region.offset.iter().zip(&region.size).enumerate() {
            let what = |which: &str| format!("{which} of axis {axis} of tile `{}`", tile.name);
            self.require(Dim::ZERO, offset.clone(), || what("the offset"));
            self.require(Dim::ZERO, size.clone(), || what("the size"));
            self.require(offset.clone() + size.clone(), Dim::from(tile.shape[axis]), || what("the end"));
            if let Layout::Fractal(fractal) = tile.layout
                && !(moved && fractal.runs_along() == Some(axis))
            {
                self.aligned(offset, fractal.block[axis.min(1)], || what("the offset"));
            }
        }
    }

    /// A part of a fractal starts at a block.
    fn aligned(&mut self, offset: &Dim, block: usize, what: impl Fn() -> String) {
        let rest = offset.modulo(&Dim::from(block));
        if !rest.is(0) {
            self.require(rest, Dim::ZERO, || format!("{} modulo {block}, where blocks start", what()));
        }
    }

    fn view(&mut self, view: &View, indexed: bool) {
        let kernel = self.kernel;
        let param = &kernel.params[view.param.0 as usize];
        let name = &param.name;
        if view.axes.len() != param.shape.len() {
            let (expected, found) = (param.shape.len(), view.axes.len());
            return self.report.fault(format!("`{name}` has {expected} axes, the view gives an index for {found}"));
        }
        if view.axes.iter().flat_map(|axis| &axis.steps).any(|(along, _)| *along >= view.size.len()) {
            return self.report.fault(format!("the view of `{name}` steps along an axis that it does not have"));
        }
        for size in &view.size {
            self.dim(size);
            self.require(Dim::ZERO, size.clone(), || format!("the size of the view of `{name}`"));
        }
        for axis in &view.axes {
            self.dim(&axis.start);
            axis.steps.iter().for_each(|(_, step)| self.dim(step));
        }
        if let Layout::Fractal(fractal) = param.layout {
            self.fractal_view(view, param, fractal.block);
        }
        if view.fill.is_some() {
            return;
        }
        let along_first = |axis: &Axis| axis.steps.iter().any(|(along, _)| *along == 0);
        if indexed && view.axes.iter().filter(|axis| along_first(axis)).count() != 1 {
            self.report.fault(format!("exactly one axis of `{name}` must step along the indices, axis 0 of the view"));
        }
        // An empty view touches nothing, so there is at least one element along every axis.
        let mark = self.context.mark();
        let sizes: Vec<Dim> =
            view.size.iter().map(|size| size.unless_negative().unwrap_or_else(|| size.clone())).collect();
        for (size, given) in sizes.iter().zip(&view.size) {
            if size != given {
                self.context.assume(size.clone() - Dim::ONE);
            }
        }
        for (at, axis) in view.axes.iter().enumerate() {
            // Computed indices are checked when they are used.
            if !(indexed && along_first(axis)) {
                self.axis_bounds(&sizes, param, at, axis);
            }
        }
        self.context.reset(mark);
    }

    fn axis_bounds(&mut self, sizes: &[Dim], param: &Param, at: usize, axis: &Axis) {
        let (mut low, mut high) = (axis.start.clone(), axis.start.clone());
        for (along, step) in &axis.steps {
            let reach = step.clone() * (sizes[*along].clone() - Dim::ONE);
            let range = self.context.interval(step);
            if range.low >= 0 {
                high = high + reach;
            } else if range.high <= 0 {
                low = low + reach;
            } else {
                high = high + reach.maximum(&Dim::ZERO);
                low = low + reach.minimum(&Dim::ZERO);
            }
        }
        let what = |which: &str| format!("the {which} index into axis {at} of `{}`", param.name);
        self.require(Dim::ZERO, low, || what("lowest"));
        self.require(high, param.shape[at].clone() - Dim::ONE, || what("highest"));
    }

    fn fractal_view(&mut self, view: &View, param: &Param, block: [usize; 2]) {
        let unit = |at: usize| matches!(view.axes[at].steps.as_slice(), [(along, step)] if *along == at && step.is(1));
        let whole = view.axes.len() == 2 && view.size.len() == 2 && (0..2).all(|at| unit(at) || view.size[at].is(1));
        if !whole {
            return self
                .report
                .fault(format!("`{}` is fractal: a view of it is a box of rows and columns", param.name));
        }
        for (at, (axis, block)) in view.axes.iter().zip(block).enumerate() {
            self.aligned(&axis.start, block, || format!("the start on axis {at} of `{}`", param.name));
        }
    }

    fn types(&mut self, row: &Row, instr: &Instr) {
        let value = compute_type(self.kernel, instr);
        for (role, operand) in row.dst.iter().zip(&instr.dst).chain(row.src.iter().zip(&instr.src)) {
            let Some(array) = self.kernel.array(operand) else { continue };
            let found = array.dtype;
            let expected = match role.dtype {
                TypeRule::Value => {
                    (Some(found) != value).then(|| value.map_or_else(String::new, |dtype| dtype.to_string()))
                }
                TypeRule::Outcome if instr.op.is_predicate() => (found != DType::Bool).then(|| "bool".into()),
                TypeRule::Outcome => value.filter(|value| *value != found).map(|value| value.to_string()),
                TypeRule::Bool => (found != DType::Bool).then(|| "bool".into()),
                TypeRule::Index => (!matches!(found, DType::I32 | DType::I64)).then(|| "i64 or i32".into()),
                TypeRule::Integer => (!found.is_integer() && found != DType::Bool).then(|| "an integer type".into()),
                TypeRule::Any | TypeRule::Product => (!found.is_numeric()).then(|| "a type of numbers".into()),
            };
            if let Some(expected) = expected {
                self.report.fault(format!(
                    "`{}` of `{}` must be {expected}, not {found}",
                    role.name,
                    instr.op.function()
                ));
            }
        }
    }

    fn attributes(&mut self, instr: &Instr) {
        let rank = instr.dst.first().and_then(|dst| self.kernel.array(dst)).map_or(0, |array| array.size.len());
        let axis = match instr.op {
            Opcode::Iota { axis, .. }
            | Opcode::Reduce { axis, .. }
            | Opcode::ArgReduce { axis, .. }
            | Opcode::Scan { axis, .. } => axis,
            Opcode::Copy { rows } => return self.report.fault_if(rows > 64, || format!("{rows} axes cannot be rows")),
            _ => return,
        };
        self.report.fault_if(axis >= rank, || format!("there is no axis {axis} among {rank}"));
        let mean = matches!(
            instr.op,
            Opcode::Reduce { function: tarsia_tensor::ReduceFn::Mean, .. }
                | Opcode::Scan { function: tarsia_tensor::ReduceFn::Mean, .. }
        );
        self.report.fault_if(mean, || "the mean is not a tile instruction: sum, then divide".into());
    }
}
