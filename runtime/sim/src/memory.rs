//! Which bytes of device memory an instruction touches: a view becomes a start and strided runs of consecutive bytes.

use smallvec::SmallVec;
use tarsia_tensor::Dim;
use tarsia_tile::{Kernel, Layout, Order, ParamId, View};

use crate::{
    SimError,
    expr::{Expr, Names},
    price::LINE,
};

/// Bits of a byte.
const BYTE: i64 = 8;

/// An access to a parameter, in units of consecutive elements: an element, or a block of a fractal.
pub(crate) struct MemoryCode {
    pub param: ParamId,
    pub written: bool,
    pub read: bool,
    /// First element, from the beginning of the parameter.
    pub start: Expr,
    /// Stride (in elements) and count of every axis.
    axes: Vec<(Expr, Expr)>,
    /// Elements and bits of a unit.
    unit: i64,
    bits: i64,
    /// Where the first axis goes where data say: the number of places it has.
    indexed: Option<Expr>,
    /// A power of two, up to [`LINE`], that divides the number of the first byte wherever the access is.
    pub alignment: i64,
}

/// The same under values of all variables but the start: bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Geometry {
    /// Bytes of one run.
    pub run: i64,
    /// Stride and count of what is outside of the runs, outermost first.
    pub axes: SmallVec<[(i64, i64); 3]>,
    /// Bytes in all.
    pub bytes: f64,
    /// The outermost axis goes to any of so many places.
    pub indexed: Option<i64>,
}

impl MemoryCode {
    /// The access of a view.
    ///
    /// # Errors
    /// If a symbol is unbound, or the parameter does not exist.
    pub fn new(
        kernel: &Kernel,
        names: &Names,
        view: &View,
        written: bool,
        read: bool,
        indexed: bool,
    ) -> Result<MemoryCode, SimError> {
        let fault = |reason: String| SimError::Kernel { kernel: kernel.name.clone(), reason };
        let param = kernel.params.get(view.param.0 as usize);
        let param = param.ok_or_else(|| fault(format!("there is no parameter {}", view.param.0)))?;
        if view.axes.len() != param.shape.len() {
            return Err(fault(format!("a view of `{}` has not as many axes as it", param.name)));
        }
        let shape = param.shape.iter().map(|dim| names.expr(dim)).collect::<Result<Vec<_>, _>>()?;
        let code = MemoryCode {
            param: view.param,
            written,
            read,
            start: Expr::Const(0),
            axes: Vec::new(),
            unit: 1,
            bits: param.dtype.bits() as i64,
            indexed: None,
            alignment: 1,
        };
        let mut code = match param.layout {
            Layout::RowMajor => code.row_major(names, view, &shape, indexed),
            Layout::Fractal(fractal) => {
                let [rows, columns] = fractal.block.map(|size| size as i64);
                let blocks = |size: &Expr, block: i64| ceil_div(size, block);
                let [down, across] = match shape.as_slice() {
                    [r, c] => [blocks(r, rows), blocks(c, columns)],
                    _ => return Err(fault(format!("`{}` is a fractal, but no matrix", param.name))),
                };
                let unit = rows * columns;
                let strides = match fractal.outer {
                    Order::Z => [times(unit, &[&across]), Expr::Const(unit)],
                    Order::N => [Expr::Const(unit), times(unit, &[&down])],
                };
                MemoryCode { unit, ..code }.fractal(names, view, [rows, columns], strides)
            }
        }?;
        code.alignment = (names.alignment(&code.start, LINE * BYTE) * code.bits / BYTE).clamp(1, LINE);
        code.alignment = 1 << code.alignment.ilog2();
        Ok(code)
    }

    fn row_major(mut self, names: &Names, view: &View, shape: &[Expr], indexed: bool) -> Result<MemoryCode, SimError> {
        let mut start = Vec::new();
        let mut strides = vec![Vec::new(); view.size.len()];
        for (at, axis) in view.axes.iter().enumerate() {
            let stride: Vec<Expr> = shape[at + 1..].to_vec();
            let mut factors = vec![names.expr(&axis.start)?];
            factors.extend(stride.iter().cloned());
            start.push((1, factors));
            for (own, step) in &axis.steps {
                let mut factors = vec![names.expr(step)?];
                factors.extend(stride.iter().cloned());
                if let Some(terms) = strides.get_mut(*own) {
                    terms.push((1, factors));
                }
                if indexed && *own == 0 {
                    self.indexed = Some(shape[at].clone());
                }
            }
        }
        self.start = Expr::sum(0, start);
        for (terms, size) in strides.into_iter().zip(&view.size) {
            self.axes.push((Expr::sum(0, terms), names.expr(size)?));
        }
        Ok(self)
    }

    /// Whole blocks stand for those that the view meets.
    fn fractal(
        mut self,
        names: &Names,
        view: &View,
        block: [i64; 2],
        strides: [Expr; 2],
    ) -> Result<MemoryCode, SimError> {
        let mut start = Vec::new();
        for ((axis, block), stride) in view.axes.iter().zip(block).zip(strides) {
            let first = Expr::FloorDiv(Box::new([names.expr(&axis.start)?, Expr::Const(block)]));
            start.push((1, vec![first, stride.clone()]));
            let sizes = axis.steps.iter().filter_map(|(own, _)| view.size.get(*own));
            let size = names.expr(&sizes.fold(Dim::ONE, |product, size| product * size.clone()))?;
            self.axes.push((stride, ceil_div(&size, block)));
        }
        self.start = Expr::sum(0, start);
        Ok(self)
    }

    /// Whether data choose the places on its first axis.
    pub fn is_indexed(&self) -> bool {
        self.indexed.is_some()
    }

    /// What its geometry depends on.
    pub fn shape(&self) -> impl Iterator<Item = &Expr> {
        self.axes.iter().flat_map(|(stride, count)| [stride, count]).chain(&self.indexed)
    }

    /// The first byte.
    pub fn first_byte(&self, vars: &[i64]) -> i64 {
        self.start.eval(vars).wrapping_mul(self.bits).div_euclid(BYTE)
    }

    /// The runs, for these values of the variables.
    pub fn geometry(&self, vars: &[i64]) -> Geometry {
        let bytes_of = |elements: i64| elements.saturating_mul(self.bits).div_euclid(BYTE).max(1);
        let mut axes: Vec<(i64, i64)> = Vec::new();
        let mut units = 1f64;
        let indexed = self.indexed.as_ref().map(|extent| extent.eval(vars).max(1));
        for (at, (stride, count)) in self.axes.iter().enumerate() {
            let (stride, count) = (stride.eval(vars), count.eval(vars).max(0));
            units *= count as f64;
            let moves = stride != 0 && count != 1 || indexed.is_some() && at == 0;
            if moves {
                axes.push((stride, count));
            } else if stride == 0 && count > 0 {
                // The same bytes again and again are one access.
                units /= count as f64;
            }
        }
        let outer = indexed.and_then(|_| (!axes.is_empty()).then(|| axes.remove(0)));
        axes.sort_unstable_by_key(|&(stride, _)| std::cmp::Reverse(stride.unsigned_abs()));
        let mut run = self.unit;
        while let Some(&(stride, count)) = axes.last() {
            if stride.unsigned_abs() > run.unsigned_abs() {
                break;
            }
            // Neighbours, or windows that overlap.
            run = run.max(stride.saturating_mul(count - 1).saturating_add(run));
            axes.pop();
        }
        let axes = outer.into_iter().chain(axes).map(|(stride, count)| (bytes_of(stride.abs()), count)).collect();
        let bytes = units * self.unit as f64 * self.bits as f64 / BYTE as f64;
        Geometry { run: if bytes > 0.0 { bytes_of(run) } else { 0 }, axes, bytes, indexed }
    }
}

impl Geometry {
    /// The same where elements come one by one through lines of a cache: what lies closer than a line is fetched with it.
    pub fn through_lines(mut self, line: i64) -> Geometry {
        while let Some(&(stride, count)) = self.axes.last().filter(|_| self.indexed.is_none() || self.axes.len() > 1) {
            if stride > line {
                break;
            }
            self.run = self.run.max(stride.saturating_mul(count - 1).saturating_add(self.run));
            self.axes.pop();
        }
        self
    }

    /// How many runs there are.
    pub fn runs(&self) -> f64 {
        self.axes.iter().map(|&(_, count)| count as f64).product()
    }

    /// Whether all strides are multiples of `granule` bytes.
    pub fn aligned(&self, granule: i64) -> bool {
        self.axes.iter().all(|&(stride, _)| stride % granule == 0)
    }

    /// The largest power of two, up to `most`, that divides the addresses of all runs, the first of which begins at `start`.
    pub fn alignment(&self, start: i64, most: i64) -> usize {
        let strides = self.axes.iter().filter(|(_, count)| *count > 1).map(|&(stride, _)| stride);
        strides.chain([start]).map(|bytes| power_of_two(bytes, most)).min().unwrap_or(most) as usize
    }

    /// Calls `visit` with the first byte of every run. Of very many, some stand for all: the factor says for how many each.
    pub fn for_each_run(&self, start: i64, salt: u64, visit: &mut dyn FnMut(i64)) -> f64 {
        const MOST: f64 = 4096.0;
        if self.bytes <= 0.0 {
            return 0.0;
        }
        let runs = self.runs();
        let mut skip = (runs / MOST).ceil().max(1.0) as i64;
        // Axes are visited from the innermost outwards, thinned where it gives most.
        let mut counts: SmallVec<[(i64, i64, i64); 3]> =
            self.axes.iter().map(|&(stride, count)| (stride, count, 1)).collect();
        let mut factor = 1.0;
        while skip > 1 {
            let Some(longest) = counts.iter_mut().max_by_key(|(_, count, step)| count / step) else { break };
            let step = skip.min(longest.1 / longest.2).max(1);
            if step == 1 {
                break;
            }
            longest.2 *= step;
            factor *= longest.1 as f64 / (longest.1 as f64 / longest.2 as f64).ceil();
            skip /= step;
        }
        self.visit(&counts, 0, start, salt, visit);
        factor
    }

    fn visit(&self, axes: &[(i64, i64, i64)], depth: usize, at: i64, salt: u64, visit: &mut dyn FnMut(i64)) {
        let Some(&(stride, count, step)) = axes.get(depth) else { return visit(at) };
        let mut i = 0;
        while i < count {
            let place = match self.indexed {
                Some(places) if depth == 0 => (scramble(salt.wrapping_add(i as u64)) % places as u64) as i64,
                _ => i,
            };
            self.visit(axes, depth + 1, at.wrapping_add(place.wrapping_mul(stride)), salt, visit);
            i += step;
        }
    }
}

/// The largest power of two, up to `most`, that divides a number of bytes.
fn power_of_two(bytes: i64, most: i64) -> i64 {
    if bytes == 0 { most } else { (1 << bytes.trailing_zeros().min(62)).min(most) }
}

/// SplitMix64 (Steele et al. 2014).
fn scramble(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn times(coefficient: i64, factors: &[&Expr]) -> Expr {
    Expr::sum(0, vec![(coefficient, factors.iter().map(|&factor| factor.clone()).collect())])
}

fn ceil_div(size: &Expr, block: i64) -> Expr {
    let rounded = Expr::sum(block - 1, vec![(1, vec![size.clone()])]);
    match rounded.constant() {
        Some(value) => Expr::Const(value.div_euclid(block)),
        None => Expr::FloorDiv(Box::new([rounded, Expr::Const(block)])),
    }
}
