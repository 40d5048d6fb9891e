//! What can be asked of a machine: its spaces, paths, units and events by name and by what is needed.

use tarsia_tensor::DType;

use super::{
    Conversion, CoreKind, Events, LayoutPattern, LayoutRule, Machine, MachineError, OperandRule, Path, Product, Rate,
    Space, Transform, Unit,
};
use crate::{Layout, optable::Class};

impl Machine {
    /// The space of this name.
    pub fn space(&self, name: &str) -> Option<&Space> {
        self.spaces.iter().find(|space| space.name == name)
    }

    /// The kind of core of this name.
    pub fn core(&self, name: &str) -> Option<&CoreKind> {
        self.cores.iter().find(|core| core.name == name)
    }

    /// Cores of all kinds.
    pub fn core_count(&self) -> usize {
        self.cores.iter().map(|core| core.count).sum()
    }

    /// The machine with only `count` groups of cores: as many cores of every kind as work on `count` items side by side. Memories and
    /// their bandwidth stay.
    ///
    /// # Errors
    /// If it has not so many, or none are asked for.
    pub fn with_cores(&self, count: usize) -> Result<Machine, MachineError> {
        let groups = self.cores.iter().map(|core| core.count / core.lanes.max(1)).min().unwrap_or(0);
        if count == 0 || count > groups {
            return Err(MachineError::Cores { name: self.name.clone(), count, groups });
        }
        let mut machine = self.clone();
        for core in &mut machine.cores {
            core.count = (core.count * count / groups).max(1);
        }
        Ok(machine)
    }

    /// The path between two spaces with these transforms, the fastest if there are several.
    pub fn path(&self, from: &str, to: &str, needed: &[Transform]) -> Option<&Path> {
        let fits =
            |path: &&Path| path.from == from && path.to == to && needed.iter().all(|t| path.transforms.contains(t));
        self.paths.iter().filter(fits).max_by(|a, b| {
            // Of equals, the first.
            a.bytes_per_cycle.total_cmp(&b.bytes_per_cycle).then(std::cmp::Ordering::Greater)
        })
    }

    /// The units that run a class of instructions.
    pub fn units(&self, class: Class) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(move |unit| unit.classes.contains(&class))
    }

    /// The first unit that runs this function of a class in this element type.
    pub fn unit(&self, class: Class, function: &str, dtype: DType) -> Option<&Unit> {
        self.units(class).find(|unit| unit.rate(class, function, dtype).is_some())
    }

    /// Whether an instruction of this class and function can compute in this element type.
    pub fn supports(&self, class: Class, function: &str, dtype: DType) -> bool {
        self.unit(class, function, dtype).is_some()
    }

    /// The element types in which every function of a class can compute, in table order.
    pub fn dtypes(&self, class: Class) -> Vec<DType> {
        DType::ALL.iter().copied().filter(|&dtype| self.supports(class, "", dtype)).collect()
    }

    /// The matrix product with these operand types, and the unit that has it.
    pub fn product(&self, a: DType, b: DType) -> Option<(&Unit, &Product)> {
        self.units(Class::Matrix).find_map(|unit| {
            let product =
                unit.products.iter().find(|product| product.a == a && product.b == b && product.mode.is_none())?;
            Some((unit, product))
        })
    }

    /// The number of event ids between two pipes.
    pub fn event_ids(&self, from: &str, to: &str) -> usize {
        let has = |events: &&Events| events.pairs.iter().any(|[a, b]| a == from && b == to);
        self.events.iter().find(has).map_or(0, |events| events.ids)
    }

    /// The kind of core that has a pipe.
    pub fn kind_of(&self, pipe: &str) -> Option<&CoreKind> {
        self.cores.iter().find(|core| core.pipes.iter().any(|name| name == pipe))
    }

    /// Whether some core has this pipe.
    pub fn has_pipe(&self, pipe: &str) -> bool {
        self.cores.iter().any(|core| core.pipes.iter().any(|name| name == pipe))
    }

    /// Whether instructions can run concurrently on one core, so that pipes have to be synchronised.
    pub fn has_concurrent_pipes(&self) -> bool {
        self.cores.iter().any(|core| core.pipes.len() > 1)
    }
}

impl Space {
    /// Whether a tile of this type may have this layout here.
    pub fn allows(&self, layout: &Layout, dtype: DType) -> bool {
        self.layouts.iter().any(|rule| rule.allows(layout, dtype))
    }
}

impl LayoutRule {
    /// Whether the rule allows this layout for this type.
    pub fn allows(&self, layout: &Layout, dtype: DType) -> bool {
        let typed = self.dtypes.is_empty() || self.dtypes.contains(&dtype);
        typed
            && match (self.layout, layout) {
                (LayoutPattern::RowMajor, Layout::RowMajor) | (LayoutPattern::AnyFractal, Layout::Fractal(_)) => true,
                (LayoutPattern::Fractal(allowed), Layout::Fractal(fractal)) => allowed == *fractal,
                _ => false,
            }
    }

    /// The layout, if the rule names a single one for this type.
    pub fn single(&self, dtype: DType) -> Option<Layout> {
        let layout = match self.layout {
            LayoutPattern::RowMajor => Layout::RowMajor,
            LayoutPattern::Fractal(fractal) => Layout::Fractal(fractal),
            LayoutPattern::AnyFractal => return None,
        };
        self.allows(&layout, dtype).then_some(layout)
    }
}

impl Path {
    /// Whether the path can change `from` into `to` on the way (equal types need nothing).
    pub fn converts(&self, from: DType, to: DType) -> bool {
        from == to
            || self.transforms.contains(&Transform::Convert)
                && (self.conversions.is_empty() || self.conversions.contains(&Conversion { from, to }))
    }
}

impl Unit {
    /// Where the operand of this role may be: its own rule, else that of `dst` or `src`.
    pub fn operand(&self, role: &str, written: bool) -> Option<&OperandRule> {
        let find = |name: &str| self.operands.iter().find(|rule| rule.role == name);
        find(role).or_else(|| find(if written { "dst" } else { "src" }))
    }

    /// The rate of a function of a class in an element type; the function "" stands for one that no row singles out.
    pub fn rate(&self, class: Class, function: &str, dtype: DType) -> Option<&Rate> {
        self.rates.iter().find(|rate| {
            (rate.classes.is_empty() || rate.classes.contains(&class))
                && (rate.functions.is_empty() || rate.functions.iter().any(|name| name == function))
                && rate.dtypes.contains(&dtype)
        })
    }
}

impl OperandRule {
    /// Whether an array of this type may be in this space with this layout.
    pub fn allows(&self, space: &str, layout: &Layout, dtype: DType) -> bool {
        self.spaces.iter().any(|name| name == space) && self.layouts.iter().any(|rule| rule.allows(layout, dtype))
    }

    /// The preferred layout for this type.
    pub fn preferred_layout(&self, dtype: DType) -> Option<Layout> {
        self.layouts.iter().find_map(|rule| rule.single(dtype))
    }
}
