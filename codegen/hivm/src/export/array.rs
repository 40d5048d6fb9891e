//! Arrays: what an operand is in memory, as offset, sizes and steps over a flat buffer.

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Fractal, Layout, Operand, Order, ParamId, Region, Tile, TileId, View};

use super::{Emitter, Form, Missing, Result, fractal::one_axis, writer::element};

/// Where an array lies.
#[derive(Clone, Debug, PartialEq)]
pub enum Home {
    /// In device memory.
    Global(ParamId),
    /// In a tile.
    Tile(TileId),
    /// In the scratch area.
    Scratch(usize, usize),
}

/// A strided array over a flat buffer.
#[derive(Clone, Debug)]
pub struct Array {
    /// The buffer's name in the text and its type.
    pub base: (String, String),
    /// Element type in memory.
    pub dtype: DType,
    /// Written instead of the element type, where masks of bits lie in memory.
    pub spelled: Option<&'static str>,
    /// Address space in MLIR.
    pub space: String,
    /// Elements before the first.
    pub offset: Dim,
    /// Sizes of the axes.
    pub size: Vec<Dim>,
    /// Elements from one index to the next; 0 where one element serves all.
    pub step: Vec<Dim>,
    /// What it is a part of.
    pub home: Home,
}

/// A memref in the text.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: String,
    /// Bytes of the vector core's memory that it may touch.
    pub span: Option<(usize, usize)>,
}

impl Array {
    /// Bytes per element.
    pub fn width(&self) -> usize {
        self.dtype.bits().div_ceil(8)
    }

    /// The array with other axes.
    pub fn with(&self, offset: Dim, size: Vec<Dim>, step: Vec<Dim>) -> Array {
        Array { offset, size, step, ..self.clone() }
    }

    /// The part at an index of the first axes.
    pub fn at(&self, index: &[Dim]) -> Array {
        let moved =
            index.iter().zip(&self.step).fold(self.offset.clone(), |sum, (i, step)| sum + i.clone() * step.clone());
        self.with(moved, self.size[index.len()..].to_vec(), self.step[index.len()..].to_vec())
    }

    /// The part of the last axis from `start`, `size` long.
    pub fn slice(&self, axis: usize, start: Dim, size: Dim) -> Array {
        let mut part = self.clone();
        part.offset = part.offset + start * part.step[axis].clone();
        part.size[axis] = size;
        part
    }

    /// Whether every row of the last axis begins at a multiple of 32 bytes.
    pub fn rows_aligned(&self) -> bool {
        let multiple = |dim: &Dim| divisible(&(dim.clone() * Dim::from(self.width())), 32);
        let outer = self.step.len().saturating_sub(1);
        multiple(&self.offset) && self.step[..outer].iter().all(multiple)
    }

    /// Elements in all.
    pub fn elements(&self) -> Dim {
        Dim::product(&self.size)
    }

    /// The matrix whose rows are the first so many axes, as columns of this width: an axis for these, one for rows, one inside of a row. `None`
    /// if its rows or columns do not step alike.
    pub fn in_columns(&self, rows: usize, width: usize) -> Option<Array> {
        let axes: Vec<usize> = (0..self.size.len()).collect();
        let ((height, row), (length, column)) = (one_axis(self, &axes[..rows])?, one_axis(self, &axes[rows..])?);
        let wide = Dim::from(width);
        let size = vec![length.ceil_div(&wide), height, wide.clone()];
        Some(self.with(self.offset.clone(), size, vec![column.clone() * wide, row, column]))
    }
}

/// Elements of a row of the fractals of a tile that holds columns of them.
fn columns_of_fractals(tile: &Tile) -> Option<usize> {
    match tile.layout {
        Layout::Fractal(Fractal { outer: Order::N, inner: Order::Z, block: [_, width] }) if width > 1 => Some(width),
        _ => None,
    }
}

/// Whether a multiple of `divisor` whatever the symbols.
pub fn divisible(dim: &Dim, divisor: i64) -> bool {
    match dim {
        Dim::Const(value) => value % divisor == 0,
        dim => dim.exact_div(&Dim::from(divisor as usize)).is_some(),
    }
}

/// Steps of a row-major array.
pub fn dense(size: &[Dim]) -> Vec<Dim> {
    (0..size.len()).map(|axis| Dim::product(&size[axis + 1..])).collect()
}

/// Arrays of one shape with as few axes as they allow: axes of size 1 are dropped, neighbours that step alike are merged.
pub fn merged(arrays: &[Array]) -> Vec<Array> {
    let Some(first) = arrays.first() else { return Vec::new() };
    let mut axes: Vec<(Dim, Vec<Dim>)> = Vec::new();
    for axis in 0..first.size.len() {
        let size = first.size[axis].clone();
        if size.is(1) {
            continue;
        }
        let step: Vec<Dim> = arrays.iter().map(|array| array.step[axis].clone()).collect();
        if let Some((last, steps)) = axes.last_mut() {
            let follows = steps.iter().zip(&step).all(|(outer, inner)| *outer == inner.clone() * size.clone());
            if follows {
                *last = last.clone() * size;
                *steps = step;
                continue;
            }
        }
        axes.push((size, step));
    }
    if axes.is_empty() {
        axes.push((Dim::ONE, vec![Dim::ONE; arrays.len()]));
    }
    let part = |(at, array): (usize, &Array)| {
        let size = axes.iter().map(|(size, _)| size.clone()).collect();
        array.with(array.offset.clone(), size, axes.iter().map(|(_, steps)| steps[at].clone()).collect())
    };
    arrays.iter().enumerate().map(part).collect()
}

/// The array with more or fewer axes of size 1; `None` if that does not give the shape.
fn padded(array: &Array, size: &[Dim]) -> Option<Array> {
    let mut own = array.size.iter().zip(&array.step).filter(|(size, _)| !size.is(1));
    let steps = size.iter().map(|size| match size.is(1) {
        true => Some(Dim::ZERO),
        false => own.next().filter(|(own, _)| *own == size).map(|(_, step)| step.clone()),
    });
    let step = steps.collect::<Option<Vec<Dim>>>()?;
    own.next().is_none().then(|| array.with(array.offset.clone(), size.to_vec(), step))
}

/// The array with the shape of another: axes of size 1 step by nothing.
pub fn spread(array: &Array, size: &[Dim]) -> Result<Array> {
    if array.size.len() != size.len() {
        return padded(array, size).ok_or_else(|| Missing("operands of different rank".into()));
    }
    let mut wide = array.clone();
    for (axis, size) in size.iter().enumerate() {
        if array.size[axis] != *size {
            if !array.size[axis].is(1) {
                return Err(Missing(format!("operands of sizes {} and {size}", array.size[axis])));
            }
            wide.step[axis] = Dim::ZERO;
        } else if size.is(1) {
            wide.step[axis] = Dim::ZERO;
        }
        wide.size[axis] = size.clone();
    }
    Ok(wide)
}

impl Emitter<'_> {
    /// The array that a region of a tile is; one of fractals has an axis for their columns, one for rows and one inside of a row.
    pub fn region(&mut self, region: &Region) -> Result<Array> {
        let tile = self.tile(region.tile)?;
        if let Some(width) = columns_of_fractals(tile) {
            return self.blocked(region, width);
        }
        let sizes: Vec<Dim> = tile.shape.iter().map(|&size| Dim::from(size)).collect();
        let step = match tile.layout {
            Layout::RowMajor => dense(&sizes),
            // Column after column.
            Layout::Fractal(fractal) if fractal.block == [1, 1] && fractal.outer == Order::N => {
                vec![Dim::ONE, sizes[0].clone()]
            }
            Layout::Fractal(fractal) if fractal.block == [1, 1] => dense(&sizes),
            Layout::Fractal(_) => return Err(Missing(format!("element access to the fractal tile `{}`", tile.name))),
        };
        let elements = Dim::product(&sizes);
        let mut offset = if tile.slots > 1 { region.slot.clone() * elements } else { Dim::ZERO };
        for (start, step) in region.offset.iter().zip(&step) {
            offset = offset + start.clone() * step.clone();
        }
        let offset = self.in_turns(&offset);
        let (dtype, space) = (tile.dtype, tile.space.clone());
        let base = self.tile_base(region.tile)?;
        let space = if space == self.workspace_space { "gm".to_owned() } else { space };
        let home = Home::Tile(region.tile);
        Ok(Array { base, dtype, spelled: None, space, offset, size: region.size.clone(), step, home })
    }

    /// The array that a region of columns of fractals is; the last column is whole.
    fn blocked(&mut self, region: &Region, width: usize) -> Result<Array> {
        let tile = self.tile(region.tile)?;
        let (dtype, space) = (tile.dtype, tile.space.clone());
        if !divisible(&region.offset[1], width as i64) {
            return Err(Missing(format!("a part of `{}` that begins inside of a fractal", tile.name)));
        }
        let elements = tile.layout.elements(&tile.shape).unwrap_or(0);
        let slot = if tile.slots > 1 { region.slot.clone() * Dim::from(elements) } else { Dim::ZERO };
        let wide = Dim::from(width);
        let pitch = Dim::from(elements / tile.shape[1].div_ceil(width).max(1));
        let offset = slot + region.offset[1].floor_div(&wide) * pitch.clone() + region.offset[0].clone() * wide.clone();
        let offset = self.in_turns(&offset);
        let base = self.tile_base(region.tile)?;
        let space = if space == self.workspace_space { "gm".to_owned() } else { space };
        let size = vec![region.size[1].ceil_div(&wide), region.size[0].clone(), wide.clone()];
        let step = vec![pitch, wide, Dim::ONE];
        Ok(Array { base, dtype, spelled: None, space, offset, size, step, home: Home::Tile(region.tile) })
    }

    /// Elements of a row of a fractal, if the operand is a tile of columns of fractals.
    pub fn fractals(&self, operand: &Operand) -> Option<usize> {
        let Operand::Tile(region) = operand else { return None };
        columns_of_fractals(self.tile(region.tile).ok()?)
    }

    /// The array that a view of a buffer is.
    pub fn view(&mut self, view: &View) -> Result<Array> {
        let param = self.param(view.param)?;
        if param.layout != Layout::RowMajor {
            return Err(Missing(format!("the layout {} of `{}`", param.layout, param.name)));
        }
        let steps = dense(&param.shape);
        let mut offset = Dim::ZERO;
        let mut step = vec![Dim::ZERO; view.size.len()];
        for (axis, unit) in view.axes.iter().zip(&steps) {
            offset = offset + axis.start.clone() * unit.clone();
            for (of, by) in &axis.steps {
                step[*of] = step[*of].clone() + by.clone() * unit.clone();
            }
        }
        let offset = self.in_turns(&offset);
        let base = self.params[view.param.0 as usize].clone();
        let (size, home) = (view.size.clone(), Home::Global(view.param));
        Ok(Array { base, dtype: param.dtype, spelled: None, space: "gm".into(), offset, size, step, home })
    }

    /// The memref that an array is.
    pub fn piece(&mut self, array: &Array) -> Result<Piece> {
        let ty = match array.spelled {
            Some(spelled) => spelled,
            None => element(array.dtype)?,
        };
        let (mut names, mut shape, mut strides) = ((Vec::new(), Vec::new()), String::new(), Vec::new());
        for size in &array.size {
            let (text, ty) = self.static_or_value(size)?;
            names.0.push(text);
            shape += &format!("{ty}x");
        }
        for step in &array.step {
            let (text, ty) = self.static_or_value(step)?;
            names.1.push(text);
            strides.push(ty);
        }
        let (offset, offset_ty) = self.static_or_value(&array.offset)?;
        let offset_ty = if offset_ty == "0" { String::new() } else { format!(", offset: {offset_ty}") };
        let space = format!("#hivm.address_space<{}>", array.space);
        let ty = format!("memref<{shape}{ty}, strided<[{}]{offset_ty}>, {space}>", strides.join(", "));
        let (base, base_ty) = &array.base;
        let text = format!(
            "memref.reinterpret_cast {base} to offset: [{offset}], sizes: [{}], strides: [{}] : {base_ty} to {ty}",
            names.0.join(", "),
            names.1.join(", ")
        );
        let name = self.w.shared(&text);
        Ok(Piece { name, ty, span: self.span(array) })
    }

    fn static_or_value(&mut self, dim: &Dim) -> Result<(String, String)> {
        match dim {
            Dim::Const(value) => Ok((value.to_string(), value.to_string())),
            dim => Ok((self.w.index(dim)?, "?".into())),
        }
    }

    /// The bytes of the vector core's memory that an array may touch.
    pub fn span(&self, array: &Array) -> Option<(usize, usize)> {
        match array.home {
            Home::Global(_) => None,
            Home::Scratch(start, end) => Some((start, end)),
            Home::Tile(id) => {
                let tile = self.kernel.tiles.get(id.0 as usize)?;
                let bytes = tile.dtype.bytes_of(tile.layout.elements(&tile.shape)?)?.checked_mul(tile.slots)?;
                let start = tile.address.unwrap_or(0);
                (tile.space != self.workspace_space).then_some((start, start.saturating_add(bytes)))
            }
        }
    }

    /// The most that a size of an array can be: its tile bounds what its expression does not.
    pub fn most(&self, array: &Array, size: &Dim) -> usize {
        let high = usize::try_from(size.range().high).unwrap_or(0);
        match array.home {
            Home::Tile(id) => {
                let tile = self.kernel.tiles.get(id.0 as usize);
                high.min(tile.map_or(0, |tile| tile.shape.iter().product()))
            }
            Home::Global(_) | Home::Scratch(..) => high,
        }
    }

    /// Flat scratch for one instruction.
    ///
    /// # Errors
    /// If the vector core's memory has no room beside the kernel's tiles.
    pub fn scratch(&mut self, dtype: DType, spelled: Option<&'static str>, elements: usize) -> Result<Array> {
        let ty = match spelled {
            Some(spelled) => spelled,
            None => element(dtype)?,
        };
        let bits = if spelled == Some("i1") { 1 } else { dtype.bits() };
        let bytes = (elements * bits).div_ceil(8).next_multiple_of(32);
        let start = self.scratch_next;
        if start + bytes > self.scratch_end {
            let free = self.scratch_end.saturating_sub(start);
            return Err(Missing(format!(
                "{bytes} bytes of scratch for a template; {free} bytes of {} are free",
                self.vector_space
            )));
        }
        self.scratch_next = start + bytes;
        let memref = format!("memref<{elements}x{ty}, #hivm.address_space<{}>>", self.vector_space);
        let name = if self.form == Form::Planned {
            self.w.value(&format!("memref.alloc() : {memref}"))
        } else {
            let address = self.w.hoisted(&format!("arith.constant {start} : i64"));
            self.w.hoisted(&format!("hivm.hir.pointer_cast({address}) : {memref}"))
        };
        Ok(Array {
            base: (name, memref),
            dtype,
            spelled,
            space: self.vector_space.clone(),
            offset: Dim::ZERO,
            size: vec![Dim::from(elements)],
            step: vec![Dim::ONE],
            home: Home::Scratch(start, start + bytes),
        })
    }

    /// Bytes of scratch that are left for the instruction.
    pub fn scratch_left(&self) -> usize {
        self.scratch_end.saturating_sub(self.scratch_next)
    }
}
