//! Copies of the vector core: loads, stores, and copies, casts and transpositions inside its memory.

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Instr, Opcode, Operand};

use super::{
    Emitter, Missing, Result,
    array::{Array, Piece, divisible, merged, spread},
};

/// The most axes that templates of copies have.
const MOST_AXES: usize = 3;

impl Emitter<'_> {
    /// The array that an operand is.
    pub fn array(&mut self, operand: &Operand) -> Result<Array> {
        match operand {
            Operand::Tile(region) => self.region(region),
            Operand::Global(view) => self.view(view),
            _ => Err(Missing("a number where an array is expected".into())),
        }
    }

    /// A copy on the pipe of its path.
    pub fn copy(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        if let Some(Operand::Global(view)) = instr.src.first()
            && view.fill.is_some()
        {
            return Err(Missing("a load that fills what lies outside".into()));
        }
        let (mut dst, mut src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let Opcode::Copy { rows } = instr.op else { return Err(Missing(format!("`{}` as a copy", instr.op))) };
        let uneven = || Missing("columns of fractals of rows in several axes".into());
        match (self.fractals(&instr.dst[0]), self.fractals(&instr.src[0])) {
            (Some(width), None) => src = src.in_columns(rows, width).ok_or_else(uneven)?,
            (None, Some(width)) => dst = dst.in_columns(rows, width).ok_or_else(uneven)?,
            _ => {}
        }
        let src = spread(&src, &dst.size)?;
        let (to_memory, from_memory) = (dst.space == "gm", src.space == "gm");
        match (from_memory, to_memory) {
            (false, false) if dst.dtype == src.dtype => self.move_inside(&dst, &src),
            (false, false) => self.cast(&dst, &src),
            (true, true) => Err(Missing("a copy from device memory to device memory".into())),
            _ if dst.dtype != src.dtype => Err(Missing("a conversion between device memory and the core".into())),
            (true, false) => self.dma("load", &dst, &src, pipe),
            (false, true) => self.dma("store", &dst, &src, pipe),
        }
    }

    /// A load or store: rows of consecutive elements, up to three axes, loops around what is left.
    fn dma(&mut self, op: &str, dst: &Array, src: &Array, pipe: &str) -> Result<()> {
        let [dst, src]: [Array; 2] =
            merged(&[dst.clone(), src.clone()]).try_into().map_err(|_| Missing("two arrays".into()))?;
        let inner = dst.size.len() - 1;
        if [&dst, &src].iter().any(|array| !array.step[inner].is(1) && !array.size[inner].is(1)) {
            return Err(Missing(format!("a {op} of elements that are not neighbours")));
        }
        let own = if op == "load" { &dst } else { &src };
        if !own.rows_aligned() {
            return Err(Missing(format!("a {op} of rows that do not begin at multiples of 32 bytes")));
        }
        let repeats = |axis: usize| src.step[axis].is(0);
        let looped = (0..inner).filter(|&axis| repeats(axis)).map(|axis| axis + 1).max().unwrap_or(0);
        let looped = looped.max((inner + 1).saturating_sub(MOST_AXES));
        let _ = pipe;
        self.nest(&dst.size[..looped], &mut |this, index| {
            let (dst, src) = (this.piece(&dst.at(index))?, this.piece(&src.at(index))?);
            this.w.line(&format!("hivm.hir.{op} ins({} : {}) outs({} : {})", src.name, src.ty, dst.name, dst.ty));
            Ok(())
        })
    }

    /// Loops over the first axes; `inside` gets the index.
    pub fn nest(&mut self, size: &[Dim], inside: &mut dyn FnMut(&mut Self, &[Dim]) -> Result<()>) -> Result<()> {
        let mut index = Vec::new();
        for (axis, size) in size.iter().enumerate() {
            let name = self.w.open_for(size, 1)?;
            // No variable of a program has such a name.
            let symbol = tarsia_tensor::Symbol::new(&format!("{name} axis {axis}"));
            self.w.bind(&symbol, name);
            index.push(Dim::symbol(symbol.name()));
            self.hazards.forget();
        }
        let written = inside(self, &index);
        for _ in size {
            self.hazards.forget();
            self.w.close("}");
        }
        written
    }

    /// A copy inside the vector core's memory without conversion.
    fn move_inside(&mut self, dst: &Array, src: &Array) -> Result<()> {
        let [dst, src]: [Array; 2] =
            merged(&[dst.clone(), src.clone()]).try_into().map_err(|_| Missing("two arrays".into()))?;
        let inner = dst.size.len() - 1;
        let one = |array: &Array| array.step[inner].is(1) || array.size[inner].is(1);
        if !one(&dst) {
            return Err(Missing("a copy to elements that are not neighbours".into()));
        }
        if !one(&src) {
            return if src.step[inner].is(0) { self.broadcast(&dst, &src) } else { self.transpose(&dst, &src) };
        }
        if !dst.rows_aligned() || !src.rows_aligned() {
            return Err(Missing("a copy of rows that do not begin at multiples of 32 bytes".into()));
        }
        let looped = (0..inner).filter(|&axis| src.step[axis].is(0)).map(|axis| axis + 1).max().unwrap_or(0);
        let looped = looped.max((inner + 1).saturating_sub(MOST_AXES));
        let whole = divisible(&(dst.size[inner].clone() * Dim::from(dst.width())), 32);
        self.nest(&dst.size[..looped], &mut |this, index| {
            let (dst_piece, src_piece) = (this.piece(&dst.at(index))?, this.piece(&src.at(index))?);
            this.copy_piece(&dst_piece, &src_piece, dst.dtype, whole)
        })
    }

    /// The template of copies moves blocks of 32 bytes; where the last one is not whole, a maximum with itself copies the elements.
    pub fn copy_piece(&mut self, dst: &Piece, src: &Piece, dtype: DType, whole: bool) -> Result<()> {
        let text = if whole {
            format!("hivm.hir.copy ins({} : {}) outs({} : {})", src.name, src.ty, dst.name, dst.ty)
        } else if matches!(dtype, DType::F32 | DType::F16 | DType::I32 | DType::I16) {
            let (name, ty) = (&src.name, &src.ty);
            format!("hivm.hir.vmax ins({name}, {name} : {ty}, {ty}) outs({} : {})", dst.name, dst.ty)
        } else {
            return Err(Missing(format!("a copy of {dtype} that does not end at a multiple of 32 bytes")));
        };
        self.vector(&text, &[src], &[dst]);
        Ok(())
    }

    /// One element for a row: the last of two axes.
    pub fn broadcast(&mut self, dst: &Array, src: &Array) -> Result<()> {
        let flat = dst.size.len() == 2
            && dst.rows_aligned()
            && src.step[0].is(1)
            && divisible(&src.offset, 32 / src.width() as i64);
        if !flat {
            return Err(Missing("this broadcast along the last axis".into()));
        }
        let rows = self.most(dst, &dst.size[0]);
        if !matches!(dst.dtype, DType::F32 | DType::F16 | DType::I32 | DType::I16 | DType::BF16) {
            return Err(Missing(format!("a broadcast of {}", dst.dtype)));
        }
        let temporary = self.scratch(dst.dtype, None, (rows * 32 / dst.width()).max(32))?;
        let source = src.with(src.offset.clone(), vec![src.size[0].clone(), Dim::ONE], vec![Dim::ONE, Dim::ONE]);
        let (to, from, temporary) = (self.piece(dst)?, self.piece(&source)?, self.piece(&temporary)?);
        let text = format!(
            "hivm.hir.vbrc ins({} : {}) outs({} : {}) temp_buffer({} : {}) broadcast_dims = [1]",
            from.name, from.ty, to.name, to.ty, temporary.name, temporary.ty
        );
        self.vector(&text, &[&from], &[&to, &temporary]);
        Ok(())
    }

    fn transpose(&mut self, dst: &Array, src: &Array) -> Result<()> {
        let two = dst.size.len() == 2 && src.step[0].is(1) && dst.rows_aligned();
        let sixteen = dst.size.iter().all(|size| divisible(size, 16)) && divisible(&src.offset, 16);
        let rows = src.step.get(1).is_some_and(|step| divisible(step, 16));
        if !(two && sixteen && rows) || src.width() > 4 {
            return Err(Missing("a transposition of sizes that are not multiples of 16".into()));
        }
        let turned = src.with(
            src.offset.clone(),
            vec![src.size[1].clone(), src.size[0].clone()],
            vec![src.step[1].clone(), Dim::ONE],
        );
        let (to, from) = (self.piece(dst)?, self.piece(&turned)?);
        let text = format!(
            "hivm.hir.vtranspose ins({} : {}) outs({} : {}) permutation = [1, 0]",
            from.name, from.ty, to.name, to.ty
        );
        self.vector(&text, &[&from], &[&to]);
        Ok(())
    }

    /// A conversion inside the vector core's memory.
    fn cast(&mut self, dst: &Array, src: &Array) -> Result<()> {
        let arrays: [Array; 2] =
            merged(&[dst.clone(), src.clone()]).try_into().map_err(|_| Missing("two arrays".into()))?;
        let [dst, src] = arrays;
        let inner = dst.size.len() - 1;
        if [&dst, &src]
            .iter()
            .any(|array| !(array.step[inner].is(1) || array.size[inner].is(1)) || !array.rows_aligned())
        {
            return Err(Missing("a cast of elements that are not neighbours".into()));
        }
        let Some(mode) = cast_mode(src.dtype, dst.dtype) else {
            return Err(Missing(format!("a cast from {} to {}", src.dtype, dst.dtype)));
        };
        let looped = if (0..inner).any(|axis| src.step[axis].is(0)) { inner } else { (inner + 1).saturating_sub(2) };
        self.nest(&dst.size[..looped], &mut |this, index| {
            let (dst, src) = (this.piece(&dst.at(index))?, this.piece(&src.at(index))?);
            this.cast_piece(&dst, &src, mode);
            Ok(())
        })
    }

    /// One cast.
    pub fn cast_piece(&mut self, dst: &Piece, src: &Piece, mode: &str) {
        let text = format!(
            "hivm.hir.vcast ins({} : {}) outs({} : {}) round_mode = #hivm.round_mode<{mode}>",
            src.name, src.ty, dst.name, dst.ty
        );
        self.vector(&text, &[src], &[dst]);
    }
}

/// The rounding with which a template casts as the tile IR does: to the nearest float, to integers towards zero.
fn cast_mode(from: DType, to: DType) -> Option<&'static str> {
    use DType::{BF16, F16, F32, I8, I16, I32, I64};
    match (from, to) {
        (F16, F32) | (BF16, F32) | (F32, F16 | BF16) | (I8 | I16, F16) | (I32 | I64 | I16, F32) => Some("rint"),
        (F16, I32 | I16) | (F32, I32 | I16 | I64) => Some("trunc"),
        (I32, I64) => Some("rint"),
        _ => None,
    }
}
