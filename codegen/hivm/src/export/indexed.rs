//! Reads and writes of device memory at computed rows: the scalar unit reads an index, a load or store moves the row.

use tarsia_tensor::{DType, Dim, ScatterFn, Symbol};
use tarsia_tile::{Instr, Opcode, Operand};

use super::{
    Emitter, Missing, Result,
    array::{Array, dense, merged},
};

impl Emitter<'_> {
    /// Rows from computed places.
    pub fn gather(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        if matches!(&instr.src[0], Operand::Global(view) if view.fill.is_some()) {
            return Err(Missing("a gather that fills what lies outside".into()));
        }
        let (dst, table) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let index = self.array(&instr.src[1])?;
        self.by_index("load", "", &table, &dst, &index, pipe)
    }

    /// Rows to computed places.
    pub fn scatter(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        let Opcode::Scatter { function } = &instr.op else { return Err(Missing("a template".into())) };
        let (table, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let index = self.array(&instr.src[1])?;
        let atomic = match function {
            ScatterFn::Set => "",
            ScatterFn::Add => " atomic = <add>",
            ScatterFn::Min => " atomic = <min>",
            ScatterFn::Max => " atomic = <max>",
            ScatterFn::Mul => return Err(Missing("an atomic product".into())),
        };
        if !atomic.is_empty() && !matches!(src.dtype, DType::F32 | DType::F16 | DType::I32 | DType::I16) {
            return Err(Missing(format!("atomic updates of {}", src.dtype)));
        }
        self.by_index("store", atomic, &table, &src, &index, pipe)
    }

    /// For every index: the row of `table` that it names, to or from the row of `own` at its place.
    fn by_index(
        &mut self,
        op: &str,
        atomic: &str,
        table: &Array,
        own: &Array,
        index: &Array,
        pipe: &str,
    ) -> Result<()> {
        let scalar = self.scalar_pipe();
        self.order(pipe, &scalar)?;
        let index = index.with(index.offset.clone(), vec![index.elements()], vec![Dim::ONE]);
        self.nest(&own.size[..1], &mut |this, at| {
            let row = this.index_element(&index, at)?;
            let symbol = Symbol::new(&format!("{row} row"));
            this.w.bind(&symbol, row);
            let (far, near) = (table.at(&[Dim::symbol(symbol.name())]), own.at(at));
            if far.size.is_empty() {
                return Err(Missing(format!("a {op} of single elements at computed places")));
            }
            let [far, near]: [Array; 2] = merged(&[far, near]).try_into().map_err(|_| Missing("two arrays".into()))?;
            let inner = near.size.len() - 1;
            let neighbours = far.step[inner].is(1) && near.step[inner].is(1);
            if !(near.rows_aligned() && neighbours && near.size.len() <= 3) {
                return Err(Missing(format!("a {op} of rows that do not begin at multiples of 32 bytes")));
            }
            let (far, near) = (this.piece(&far)?, this.piece(&near)?);
            let (from, to) = if op == "load" { (far, near) } else { (near, far) };
            this.w
                .line(&format!("hivm.hir.{op} ins({} : {}) outs({} : {}){atomic}", from.name, from.ty, to.name, to.ty));
            Ok(())
        })?;
        self.order(&scalar, pipe)
    }

    /// Single elements, on the scalar unit.
    pub fn scalar_indexed(&mut self, instr: &Instr) -> Result<()> {
        let (gather, function) = match &instr.op {
            Opcode::Gather => (true, ScatterFn::Set),
            Opcode::Scatter { function } => (false, *function),
            op => return Err(Missing(format!("`{op}`"))),
        };
        let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let index = self.array(&instr.src[1])?;
        let index = index.with(index.offset.clone(), vec![index.elements()], dense(&[index.elements()]));
        let size = if gather { dst.size.clone() } else { src.size.clone() };
        self.nest(&size, &mut |this, at| {
            let row = this.index_element(&index, &at[..1])?;
            let symbol = Symbol::new(&format!("{row} row"));
            this.w.bind(&symbol, row);
            let mut far = at.to_vec();
            far[0] = Dim::symbol(symbol.name());
            let (from, to) = if gather { (far.as_slice(), at) } else { (at, far.as_slice()) };
            this.move_element((&dst, to), (&src, from), function)
        })
    }
}
