//! Point-wise instructions on the vector pipe.
//!
//! Axes are merged as far as the operands allow. Without broadcasts the template takes up to three axes at once; otherwise loops
//! run over all axes but the last. An element that serves a whole row is spread by the broadcast template where the scratch area has
//! room, or read by the scalar unit. What needs memory in between (comparisons to bytes, selections by bytes, functions composed of
//! others) works on pieces of a row that fit into the scratch area.

use tarsia_tensor::{BinaryFn, DType, Dim, ScatterFn};
use tarsia_tile::{Instr, Opcode, Operand};

use super::{
    Emitter, Missing, Result,
    array::{Array, Piece, merged, spread},
    function,
};

/// A source of a point-wise operation.
#[derive(Clone, Debug)]
pub enum Source {
    /// An array of the destination's shape.
    Array(Array),
    /// A number: its name in the text, and its type.
    Number(String, DType),
}

/// A source as one operation sees it.
#[derive(Clone, Debug)]
pub enum Value {
    /// A memref.
    Piece(Piece),
    /// A scalar: name and type.
    Number(String, &'static str),
}

impl Value {
    /// Name and type in the text.
    pub fn text(&self) -> (String, String) {
        match self {
            Value::Piece(piece) => (piece.name.clone(), piece.ty.clone()),
            Value::Number(name, ty) => (name.clone(), (*ty).to_owned()),
        }
    }

    /// The memref, if it is one.
    pub fn piece(&self) -> Option<&Piece> {
        match self {
            Value::Piece(piece) => Some(piece),
            Value::Number(..) => None,
        }
    }
}

/// The most elements that are worked on at a time where memory in between is needed.
const LONGEST_PIECE: usize = 2048;

impl Emitter<'_> {
    /// A fill or point-wise instruction.
    pub fn pointwise(&mut self, instr: &Instr) -> Result<()> {
        if matches!(instr.op, Opcode::Iota { .. }) {
            return Err(Missing("a count along an axis".into()));
        }
        let dst = self.array(&instr.dst[0])?;
        let dtype = tarsia_tile::verify::compute_type(self.kernel, instr).unwrap_or(dst.dtype);
        if !matches!(dtype, DType::F32 | DType::F16 | DType::I32 | DType::I16 | DType::BF16) {
            return Err(Missing(format!("point-wise templates for {dtype}")));
        }
        let mut sources = Vec::new();
        for operand in &instr.src {
            sources.push(match operand {
                Operand::Real(value) => Source::Number(self.w.number(*value, dtype)?, dtype),
                Operand::Index(dim) => Source::Number(self.number_of(dim, dtype)?, dtype),
                operand => {
                    let array = self.array(operand)?;
                    Source::Array(spread(&array, &dst.size)?)
                }
            });
        }
        let (dst, sources) = together(&dst, &sources);
        let inner = dst.size.len() - 1;
        let arrays =
            || sources.iter().filter_map(|source| if let Source::Array(array) = source { Some(array) } else { None });
        let neighbours = |array: &Array| array.step[inner].is(1) || array.size[inner].is(1);
        if !neighbours(&dst) || arrays().any(|array| !neighbours(array) && !array.step[inner].is(0)) {
            return Err(Missing("point-wise work on elements that are not neighbours".into()));
        }
        if arrays().chain([&dst]).any(|array| !array.rows_aligned() && !all_zero(array)) {
            return Err(Missing("rows that do not begin at multiples of 32 bytes".into()));
        }
        let repeats = arrays().any(|array| (0..=inner).any(|axis| array.step[axis].is(0) && !array.size[axis].is(1)));
        let need = self.need(&instr.op, dtype, &dst, &sources);
        if !repeats && need.is_none() && inner < 3 {
            return self.whole(&instr.op, dtype, &dst, &sources);
        }
        if need.is_none() && inner == 1 && self.by_broadcast(&instr.op, dtype, &dst, &sources)? {
            return Ok(());
        }
        self.by_rows(&instr.op, dtype, &dst, &sources, need)
    }

    /// A function of one operand whose rows begin anywhere: the scalar unit brings each row to scratch and back.
    pub fn through_scratch(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        let Opcode::Unary(_) = &instr.op else { return Err(Missing("a function of one operand".into())) };
        let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let src = spread(&src, &dst.size)?;
        if dst.dtype != src.dtype || self.need(&instr.op, src.dtype, &dst, &[]).is_some() {
            return Err(Missing("a function with one type and without scratch".into()));
        }
        let last = dst.size.len() - 1;
        let length = dst.size[last].clone();
        let most = self.most(&dst, &length);
        let line = self.scratch(dst.dtype, None, most)?.with(Dim::ZERO, vec![length.clone()], vec![Dim::ONE]);
        let (vector, scalar) = (self.vector_pipe(), self.scalar_pipe());
        self.order(pipe, &scalar)?;
        self.nest(&dst.size[..last], &mut |this, index| {
            let (to, from) = (dst.at(index), src.at(index));
            let row = std::slice::from_ref(&length);
            this.nest(row, &mut |this, at| this.move_element((&line, at), (&from, at), ScatterFn::Set))?;
            this.order(&scalar, &vector)?;
            let piece = this.piece(&line)?;
            this.function(&instr.op, dst.dtype, &line, &piece, &[Value::Piece(piece.clone())], &[])?;
            this.order(&vector, &scalar)?;
            this.nest(row, &mut |this, at| this.move_element((&to, at), (&line, at), ScatterFn::Set))
        })?;
        self.order(&scalar, pipe)
    }

    /// An index expression as a number of an element type.
    pub fn number_of(&mut self, dim: &Dim, dtype: DType) -> Result<String> {
        if let Dim::Const(value) = dim {
            return self.w.number(*value as f64, dtype);
        }
        let index = self.w.index(dim)?;
        let integer = self.w.shared(&format!("arith.index_cast {index} : index to i64"));
        Ok(match dtype {
            DType::I64 | DType::U64 => integer,
            DType::F32 => self.w.shared(&format!("arith.sitofp {integer} : i64 to f32")),
            DType::F16 => self.w.shared(&format!("arith.sitofp {integer} : i64 to f16")),
            dtype => self.w.shared(&format!("arith.trunci {integer} : i64 to {}", super::writer::element(dtype)?)),
        })
    }

    /// One operation over all axes.
    fn whole(&mut self, op: &Opcode, dtype: DType, dst: &Array, sources: &[Source]) -> Result<()> {
        let to = self.piece(dst)?;
        let mut values = Vec::new();
        for source in sources {
            values.push(self.source_value(source)?);
        }
        self.function(op, dtype, dst, &to, &values, &[])
    }

    fn source_value(&mut self, source: &Source) -> Result<Value> {
        Ok(match source {
            Source::Array(array) => Value::Piece(self.piece(array)?),
            Source::Number(name, dtype) => Value::Number(name.clone(), super::writer::element(*dtype)?),
        })
    }

    /// Two axes of which one operand has a single element per row: it is spread into scratch, some rows at a time.
    fn by_broadcast(&mut self, op: &Opcode, dtype: DType, dst: &Array, sources: &[Source]) -> Result<bool> {
        let narrow =
            |source: &Source| matches!(source, Source::Array(array) if array.step[1].is(0) && array.step[0].is(1));
        let (narrow_count, row) = (sources.iter().filter(|s| narrow(s)).count(), dst.size[1].clone());
        let repeats_rows = sources.iter().any(|s| matches!(s, Source::Array(a) if a.step[0].is(0)));
        let Some(columns) = row.as_usize().filter(|_| narrow_count == 1 && !repeats_rows) else { return Ok(false) };
        let width = dst.dtype.bits() / 8;
        let rows = self.most(dst, &dst.size[0]);
        let fitting = self.scratch_left() / ((columns + 32) * width) / 32 * 32;
        let chunk = rows.next_multiple_of(32).min(fitting).min(256);
        if chunk == 0 || !(columns * width).is_multiple_of(32) || dst.dtype != dtype {
            return Ok(false);
        }
        let scratch = self.scratch(dtype, None, chunk * columns)?;
        let after = self.scratch_next;
        let size = dst.size[0].clone();
        self.chunks(&size, rows, chunk, &mut |this, start, count| {
            this.scratch_next = after;
            let part = |array: &Array| array.slice(0, start.clone(), count.clone());
            let shape = vec![count.clone(), row.clone()];
            let wide = scratch.with(Dim::ZERO, shape, vec![row.clone(), Dim::ONE]);
            let mut values = Vec::new();
            for source in sources {
                if let Source::Array(array) = source
                    && narrow(source)
                {
                    this.broadcast(&wide, &part(array))?;
                    values.push(Value::Piece(this.piece(&wide)?));
                } else if let Source::Array(array) = source {
                    values.push(Value::Piece(this.piece(&part(array))?));
                } else {
                    values.push(this.source_value(source)?);
                }
            }
            let to = part(dst);
            let piece = this.piece(&to)?;
            this.function(op, dtype, &to, &piece, &values, &[])
        })?;
        Ok(true)
    }

    /// A loop over pieces of an axis; not where one piece is all.
    pub fn chunks(
        &mut self,
        size: &Dim,
        most: usize,
        chunk: usize,
        inside: &mut dyn FnMut(&mut Self, &Dim, &Dim) -> Result<()>,
    ) -> Result<()> {
        if most <= chunk {
            return inside(self, &Dim::ZERO, size);
        }
        let name = self.w.open_for(size, chunk as i64)?;
        let symbol = tarsia_tensor::Symbol::new(&format!("{name} piece"));
        self.w.bind(&symbol, name);
        let start = Dim::symbol(symbol.name());
        let count = if super::array::divisible(size, chunk as i64) {
            Dim::from(chunk)
        } else {
            Dim::from(chunk).minimum(&(size.clone() - start.clone()))
        };
        self.hazards.forget();
        let written = inside(self, &start, &count);
        self.hazards.forget();
        self.w.close("}");
        written
    }

    /// Loops over all axes but the last.
    fn by_rows(
        &mut self,
        op: &Opcode,
        dtype: DType,
        dst: &Array,
        sources: &[Source],
        need: Option<function::Need>,
    ) -> Result<()> {
        let inner = dst.size.len() - 1;
        let single = |source: &Source| matches!(source, Source::Array(array) if array.step[inner].is(0) && !array.size[inner].is(1));
        if sources.iter().any(single) {
            // The scalar unit reads what the vector pipe has written.
            let (vector, scalar) = (self.vector_pipe(), self.scalar_pipe());
            self.order(&vector, &scalar)?;
        }
        let outer = dst.size[..inner].to_vec();
        let before = self.scratch_next;
        let most = self.most(dst, &dst.size[inner]);
        let (chunk, temporaries, fixed) = self.temporaries(need.as_ref(), most)?;
        self.nest(&outer, &mut |this, index| {
            let length = dst.size[inner].clone();
            let dst = dst.at(index);
            this.chunks(&length, most, chunk, &mut |this, start, count| {
                let part = |array: &Array| array.slice(0, start.clone(), count.clone());
                let mut values = Vec::new();
                for source in sources {
                    values.push(match source {
                        Source::Array(array) if single(source) => this.load_scalar(&array.at(index))?,
                        Source::Array(array) => Value::Piece(this.piece(&part(&array.at(index)))?),
                        source => this.source_value(source)?,
                    });
                }
                let to = part(&dst);
                let piece = this.piece(&to)?;
                let mut pieces = Vec::new();
                for array in &temporaries {
                    pieces.push(this.piece(&array.slice(0, Dim::ZERO, count.clone()))?);
                }
                for array in &fixed {
                    pieces.push(this.piece(array)?);
                }
                this.function(op, dtype, &to, &piece, &values, &pieces)
            })
        })?;
        self.scratch_next = before;
        Ok(())
    }

    /// How many elements are worked on at a time, the function's arrays of so many elements, and those of fixed size.
    fn temporaries(&mut self, need: Option<&function::Need>, most: usize) -> Result<(usize, Vec<Array>, Vec<Array>)> {
        let Some(need) = need else { return Ok((usize::MAX, Vec::new(), Vec::new())) };
        let longest = most.clamp(1, LONGEST_PIECE).next_multiple_of(256);
        let bits: usize =
            need.arrays.iter().map(|(dtype, spelled)| if spelled.is_some() { 1 } else { dtype.bits() }).sum();
        let fixed =
            need.fixed.iter().map(|(dtype, count)| (count * dtype.bits() / 8).next_multiple_of(32)).sum::<usize>();
        let left = self.scratch_left().saturating_sub(fixed);
        let fits = (left * 8).checked_div(bits).map_or(longest, |elements| elements / 256 * 256);
        let chunk = longest.min(fits);
        if chunk == 0 {
            return Err(Missing(format!("scratch for 256 elements of `{bits}` bits each")));
        }
        let (mut arrays, mut fixed) = (Vec::new(), Vec::new());
        for (dtype, spelled) in &need.arrays {
            arrays.push(self.scratch(*dtype, *spelled, chunk)?);
        }
        for (dtype, count) in &need.fixed {
            fixed.push(self.scratch(*dtype, None, *count)?);
        }
        Ok((chunk, arrays, fixed))
    }

    /// The pipe of vector templates.
    pub fn vector_pipe(&self) -> String {
        let pipes = self.machine.cores.iter().flat_map(|core| &core.pipes);
        let vector = |pipe: &&String| super::sync::split(pipe).is_ok_and(|(_, name)| name == "PIPE_V");
        pipes.into_iter().find(vector).cloned().unwrap_or_default()
    }

    /// The element at an array's origin, read by the scalar unit.
    fn load_scalar(&mut self, array: &Array) -> Result<Value> {
        let at = self.w.index(&array.offset)?;
        let (base, ty) = &array.base;
        let text = format!("memref.load {base}[{at}] : {ty}");
        Ok(Value::Number(self.w.value(&text), super::writer::element(array.dtype)?))
    }

    /// `hivm.hir.NAME` with two operands of which one may be a number.
    pub fn binary(&mut self, name: &str, a: &Value, b: &Value, dst: &Piece) -> Result<()> {
        let commutes = !matches!(name, "vsub" | "vdiv");
        let (a, b) = if matches!((a, b), (Value::Number(..), Value::Piece(_))) && commutes { (b, a) } else { (a, b) };
        if a.piece().is_none() && b.piece().is_none() {
            self.spread_number(a, dst);
            let first = Value::Piece(dst.clone());
            return self.binary(name, &first, b, dst);
        }
        let ((a_name, a_ty), (b_name, b_ty)) = (a.text(), b.text());
        let text = format!("hivm.hir.{name} ins({a_name}, {b_name} : {a_ty}, {b_ty}) outs({} : {})", dst.name, dst.ty);
        let reads: Vec<&Piece> = [a, b].into_iter().filter_map(Value::piece).collect();
        self.vector(&text, &reads, &[dst]);
        Ok(())
    }

    /// `hivm.hir.NAME` with one operand.
    pub fn unary(&mut self, name: &str, a: &Value, dst: &Piece) -> Result<()> {
        let Value::Piece(a) = a else {
            self.spread_number(a, dst);
            return self.unary(name, &Value::Piece(dst.clone()), dst);
        };
        let text = format!("hivm.hir.{name} ins({} : {}) outs({} : {})", a.name, a.ty, dst.name, dst.ty);
        self.vector(&text, &[a], &[dst]);
        Ok(())
    }

    /// Fills a memref with a number.
    pub fn spread_number(&mut self, value: &Value, dst: &Piece) {
        let (name, ty) = value.text();
        let text = format!("hivm.hir.vbrc ins({name} : {ty}) outs({} : {})", dst.name, dst.ty);
        self.vector(&text, &[], &[dst]);
    }
}

/// Destination and sources with as few axes as they allow.
fn together(dst: &Array, sources: &[Source]) -> (Array, Vec<Source>) {
    let mut arrays = vec![dst.clone()];
    arrays.extend(
        sources.iter().filter_map(|source| if let Source::Array(array) = source { Some(array.clone()) } else { None }),
    );
    let mut arrays = merged(&arrays).into_iter();
    let dst = arrays.next().unwrap_or_else(|| dst.clone());
    let sources = sources.iter().map(|source| match source {
        Source::Array(array) => Source::Array(arrays.next().unwrap_or_else(|| array.clone())),
        number => number.clone(),
    });
    (dst, sources.collect())
}

fn all_zero(array: &Array) -> bool {
    array.step.iter().zip(&array.size).all(|(step, size)| step.is(0) || size.is(1))
}

/// HIVM's name of a function of two operands that a template computes.
pub fn binary_name(function: BinaryFn, dtype: DType) -> Option<&'static str> {
    let float = matches!(dtype, DType::F32 | DType::F16);
    Some(match function {
        BinaryFn::Add => "vadd",
        BinaryFn::Sub => "vsub",
        BinaryFn::Mul => "vmul",
        BinaryFn::Div if float => "vdiv",
        BinaryFn::Min => "vmin",
        BinaryFn::Max => "vmax",
        BinaryFn::BitAnd => "vand",
        BinaryFn::BitOr => "vor",
        _ => return None,
    })
    .filter(|_| dtype != DType::BF16)
}
