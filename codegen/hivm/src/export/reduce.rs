//! Reductions, running results and sorting on the vector pipe.

use tarsia_tensor::{DType, Dim, ReduceFn};
use tarsia_tile::{Instr, Opcode};

use super::{
    Emitter, Missing, Result,
    array::{Array, Piece, divisible},
    pointwise::Value,
};

impl Emitter<'_> {
    /// A reduction along one axis.
    pub fn reduce(&mut self, instr: &Instr) -> Result<()> {
        match &instr.op {
            Opcode::Reduce { function, axis, accumulate } => {
                let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
                self.reduce_axis(*function, *axis, *accumulate, &dst, &src)
            }
            _ => Err(Missing("a template".into())),
        }
    }

    fn reduce_axis(
        &mut self,
        function: ReduceFn,
        axis: usize,
        accumulate: bool,
        dst: &Array,
        src: &Array,
    ) -> Result<()> {
        let name = match function {
            ReduceFn::Sum => "sum",
            ReduceFn::Prod => "prod",
            ReduceFn::Min => "min",
            ReduceFn::Max => "max",
            ReduceFn::Mean => return Err(Missing("a mean".into())),
        };
        if !matches!(src.dtype, DType::F32 | DType::F16 | DType::I32) {
            return Err(Missing(format!("a reduction of {}", src.dtype)));
        }
        let (rows, inner) = matrix(src, axis)?;
        let (dst_rows, dst_inner) = matrix(dst, axis)?;
        let last = inner.size.is_none();
        let shape =
            if last { vec![rows.size.clone(), rows.length.clone()] } else { vec![rows.length.clone(), inner.length()] };
        let step = vec![rows.step.clone(), Dim::ONE];
        let from = src.with(src.offset.clone(), shape, step);
        let to = if last {
            dst.with(dst.offset.clone(), vec![dst_rows.size.clone(), Dim::ONE], vec![dst_rows.step.clone(), Dim::ONE])
        } else {
            dst.with(dst.offset.clone(), vec![Dim::ONE, dst_inner.length()], vec![dst_inner.length(), Dim::ONE])
        };
        if last && !dst_rows.step.is(1) && !dst_rows.size.is(1) {
            return Err(Missing("a reduction to elements that are not neighbours".into()));
        }
        if !from.rows_aligned() || !divisible(&(to.offset.clone() * Dim::from(to.width())), 32) {
            return Err(Missing("a reduction of rows that do not begin at multiples of 32 bytes".into()));
        }
        if last {
            self.reduce_rows(name, accumulate, &to, &from)
        } else {
            self.reduce_columns(name, accumulate, &to, &from)
        }
    }

    /// Each row to one element, as many rows at a time as the scratch area allows.
    fn reduce_rows(&mut self, name: &str, accumulate: bool, dst: &Array, src: &Array) -> Result<()> {
        let (rows, columns) = (self.most(src, &src.size[0]), self.most(src, &src.size[1]));
        let width = src.width();
        let temporary = template_scratch(columns, src.dtype);
        let per_row = (temporary + if accumulate { 1 } else { 0 }) * width;
        let fits = self.scratch_left().saturating_sub(64).checked_div(per_row).unwrap_or(rows);
        // Chunks of 32 rows keep the results at multiples of 32 bytes.
        let chunk = if rows <= fits { rows } else { fits / 32 * 32 };
        if chunk == 0 {
            return Err(Missing(format!(
                "{per_row} bytes of scratch per row for a reduction; {} are free",
                self.scratch_left()
            )));
        }
        let between = self.scratch(src.dtype, None, (temporary * chunk).max(32 / width))?;
        let own = accumulate.then(|| self.scratch(src.dtype, None, chunk.next_multiple_of(32 / width))).transpose()?;
        let size = src.size[0].clone();
        self.chunks(&size, rows, chunk, &mut |this, start, count| {
            let part = |array: &Array| array.slice(0, start.clone(), count.clone());
            let target = match &own {
                Some(own) => own.with(Dim::ZERO, vec![count.clone(), Dim::ONE], vec![Dim::ONE, Dim::ONE]),
                None => part(dst),
            };
            this.reduce_piece(name, &target, &part(src), &between, 1)?;
            let Some(own) = &own else { return Ok(()) };
            let sum = this.piece(&own.with(Dim::ZERO, vec![count.clone()], vec![Dim::ONE]))?;
            let place = part(dst);
            let place = this.piece(&place.with(place.offset.clone(), vec![count.clone()], vec![Dim::ONE]))?;
            this.combine(name, &place, &sum)
        })
    }

    fn reduce_columns(&mut self, name: &str, accumulate: bool, dst: &Array, src: &Array) -> Result<()> {
        let (rows, columns) = (self.most(src, &src.size[0]), self.most(src, &src.size[1]));
        let between = self.scratch(src.dtype, None, rows * columns)?;
        let own = accumulate.then(|| self.scratch(src.dtype, None, columns.next_multiple_of(16))).transpose()?;
        let Some(own) = own else { return self.reduce_piece(name, dst, src, &between, 0) };
        let target = own.with(Dim::ZERO, dst.size.clone(), dst.step.clone());
        self.reduce_piece(name, &target, src, &between, 0)?;
        let line = |array: &Array| array.with(array.offset.clone(), vec![dst.size[1].clone()], vec![Dim::ONE]);
        let (place, sum) = (self.piece(&line(dst))?, self.piece(&line(&target))?);
        self.combine(name, &place, &sum)
    }

    fn reduce_piece(&mut self, name: &str, dst: &Array, src: &Array, between: &Array, axis: usize) -> Result<()> {
        let (to, from, between) = (self.piece(dst)?, self.piece(src)?, self.piece(between)?);
        let text = format!(
            "hivm.hir.vreduce <{name}> ins({} : {}) outs({} : {}) temp_buffer({} : {}) reduce_dims = [{axis}]",
            from.name, from.ty, to.name, to.ty, between.name, between.ty
        );
        self.vector(&text, &[&from], &[&to, &between]);
        Ok(())
    }

    fn combine(&mut self, name: &str, dst: &Piece, with: &Piece) -> Result<()> {
        let name = match name {
            "sum" => "vadd",
            "prod" => "vmul",
            "min" => "vmin",
            _ => "vmax",
        };
        self.binary(name, &Value::Piece(dst.clone()), &Value::Piece(with.clone()), dst)
    }

    /// A running result: the template's axis comes first, and none excludes the element itself.
    pub fn scan(&mut self, _: &Instr) -> Result<()> {
        Err(Missing("a template that begins with a given value".into()))
    }

    /// A sort with positions, row by row; the first places for the largest or smallest.
    pub fn sort(&mut self, instr: &Instr) -> Result<()> {
        let (values, indices) = (self.array(&instr.dst[0])?, self.array(&instr.dst[1])?);
        let src = self.array(&instr.src[0])?;
        let descending = match &instr.op {
            Opcode::Sort { descending } => *descending,
            Opcode::TopK { largest } => *largest,
            _ => return Err(Missing("a template".into())),
        };
        let last = src.size.len() - 1;
        let length = self.most(&src, &src.size[last]);
        if src.dtype != DType::F32 || !src.rows_aligned() || !divisible(&src.size[last], 32) {
            return Err(Missing("a sort of rows that are not multiples of 32 elements of f32".into()));
        }
        let size = src.size[last].clone();
        let sorted = self.scratch(DType::F32, None, length)?;
        let positions = self.scratch(DType::I32, None, length)?;
        let between = self.scratch(DType::F32, None, 4 * length)?;
        let kept = values.size[last].clone();
        if !values.rows_aligned()
            || !indices.rows_aligned()
            || indices.dtype != DType::I32 && indices.dtype != DType::I64
        {
            return Err(Missing("a sort to rows that do not begin at multiples of 32 bytes".into()));
        }
        self.nest(&src.size[..last], &mut |this, index| {
            let line = |array: &Array, size: &Dim| array.with(array.offset.clone(), vec![size.clone()], vec![Dim::ONE]);
            let from = this.piece(&src.at(index))?;
            let (to, places) = (this.piece(&line(&sorted, &size))?, this.piece(&line(&positions, &size))?);
            let temporary = this.piece(&between)?;
            let text = format!(
                "hivm.hir.vsort ins({} : {}) outs({}, {} : {}, {}) descending = {descending} sort_axis = 0 temp_buffer({} : {})",
                from.name, from.ty, to.name, places.name, to.ty, places.ty, temporary.name, temporary.ty
            );
            this.vector(&text, &[&from], &[&to, &places, &temporary]);
            let (own, own_places) = (values.at(index), indices.at(index));
            let (target, first) = (this.piece(&own)?, this.piece(&line(&sorted, &kept))?);
            this.copy_piece(&target, &first, DType::F32, false)?;
            let (target, first) = (this.piece(&own_places)?, this.piece(&line(&positions, &kept))?);
            if indices.dtype == DType::I32 {
                this.copy_piece(&target, &first, DType::I32, false)
            } else {
                this.cast_piece(&target, &first, "rint");
                Ok(())
            }
        })
    }
}

/// Rows of a reduced matrix.
struct Rows {
    size: Dim,
    step: Dim,
    length: Dim,
}

/// What follows the reduced axis.
struct Inner {
    size: Option<Dim>,
}

impl Inner {
    fn length(&self) -> Dim {
        self.size.clone().unwrap_or(Dim::ONE)
    }
}

/// The array as rows to reduce (nothing follows the axis), or as rows of which columns are reduced (nothing comes before it).
fn matrix(array: &Array, axis: usize) -> Result<(Rows, Inner)> {
    let after = Dim::product(&array.size[axis + 1..]);
    let before = array.size[..axis].iter().filter(|size| !size.is(1)).count();
    let length = array.size[axis].clone();
    if after.is(1) {
        let outer: Vec<usize> = (0..axis).filter(|&axis| !array.size[axis].is(1)).collect();
        for pair in outer.windows(2) {
            if array.step[pair[0]] != array.step[pair[1]].clone() * array.size[pair[1]].clone() {
                return Err(Missing("a reduction of rows in more than one axis".into()));
            }
        }
        let size = Dim::product(outer.iter().map(|&axis| &array.size[axis]));
        let step = outer.last().map_or(length.clone(), |&axis| array.step[axis].clone());
        if !array.step[axis].is(1) && !length.is(1) {
            return Err(Missing("a reduction of elements that are not neighbours".into()));
        }
        return Ok((Rows { size, step, length }, Inner { size: None }));
    }
    if before > 0 {
        return Err(Missing("a reduction in the middle of three axes".into()));
    }
    let inner = array.size.len() - 1;
    let dense =
        (axis + 1..inner).all(|axis| array.step[axis] == array.step[axis + 1].clone() * array.size[axis + 1].clone());
    if !dense || !array.step[inner].is(1) {
        return Err(Missing("a reduction of columns that are not neighbours".into()));
    }
    Ok((Rows { size: Dim::ONE, step: array.step[axis].clone(), length }, Inner { size: Some(after) }))
}

/// Elements of scratch per row that the template of a row reduction asks for (`--hivm-alloc-extra-buffer` of the vendor's tools):
/// half of the row if it is longer than one repeat; twice the row for integers, which have no instruction for it.
fn template_scratch(columns: usize, dtype: DType) -> usize {
    let repeat = 256 * 8 / dtype.bits();
    match dtype {
        DType::I32 => 2 * columns,
        _ if columns <= repeat => 0,
        _ => columns.div_ceil(2).next_multiple_of(repeat),
    }
}
