//! Instructions of the vector core element by element on its scalar unit: 64-bit integers, bytes, and whatever no template does.

use tarsia_tensor::{ArgReduceFn, BinaryFn, DType, Dim, ReduceFn, ScatterFn, UnaryFn};
use tarsia_tile::{Instr, Opcode, Operand, View};

use super::{
    Emitter, Missing, Result,
    array::{Array, spread},
    writer::element,
};

/// A scalar in the text, with the type in which it is computed.
#[derive(Clone, Debug)]
struct Scalar {
    name: String,
    dtype: DType,
}

impl Emitter<'_> {
    /// An instruction as loops over elements.
    pub fn scalar(&mut self, instr: &Instr) -> Result<()> {
        match &instr.op {
            Opcode::Copy { .. } => self.scalar_copy(instr),
            Opcode::Iota { axis, step } => self.scalar_iota(instr, *axis, *step),
            Opcode::Fill | Opcode::Unary(_) | Opcode::Binary(_) | Opcode::Select | Opcode::MulAdd => {
                self.scalar_pointwise(instr)
            }
            Opcode::Reduce { function, axis, accumulate } => self.scalar_reduce(instr, *function, *axis, *accumulate),
            Opcode::ArgReduce { function, axis, last, accumulate } => {
                self.scalar_arg(instr, (*function, *axis), *last, *accumulate)
            }
            Opcode::Scan { function, axis, exclusive, reverse } => {
                self.scalar_scan(instr, *function, *axis, (*exclusive, *reverse))
            }
            Opcode::Gather | Opcode::Scatter { .. } => self.scalar_indexed(instr),
            Opcode::Sort { descending } => self.scalar_sort(instr, *descending),
            Opcode::TopK { largest } => self.scalar_sort(instr, *largest),
            Opcode::ReadScalar => self.read_scalar(instr),
            Opcode::SelectRows => self.select_rows(instr),
            op => Err(Missing(format!("`{op}` on the scalar unit"))),
        }
    }

    /// The value of an element.
    fn load_element(&mut self, array: &Array, index: &[Dim]) -> Result<Scalar> {
        let at = self.w.index(&array.at(index).offset)?;
        let (base, ty) = array.base.clone();
        let name = self.w.value(&format!("memref.load {base}[{at}] : {ty}"));
        self.widened(name, array.dtype)
    }

    /// Narrow floats are computed with as f32.
    fn widened(&mut self, name: String, dtype: DType) -> Result<Scalar> {
        Ok(match dtype {
            DType::F16 | DType::BF16 => {
                let name = self.w.value(&format!("arith.extf {name} : {} to f32", element(dtype)?));
                Scalar { name, dtype: DType::F32 }
            }
            DType::F32 => Scalar { name, dtype },
            dtype if dtype.is_integer() || dtype == DType::Bool => Scalar { name, dtype },
            dtype => return Err(Missing(format!("scalars of {dtype}"))),
        })
    }

    fn store_element(&mut self, array: &Array, index: &[Dim], value: &Scalar) -> Result<()> {
        let value = self.converted(value, array.dtype)?;
        let at = self.w.index(&array.at(index).offset)?;
        let (base, ty) = array.base.clone();
        self.w.line(&format!("memref.store {}, {base}[{at}] : {ty}", value.name));
        Ok(())
    }

    /// The conversion of the copy instruction.
    fn converted(&mut self, value: &Scalar, to: DType) -> Result<Scalar> {
        let from = value.dtype;
        if from == to {
            return Ok(value.clone());
        }
        let (from_ty, to_ty, name) = (element(from)?, element(to)?, &value.name);
        let float = |dtype: DType| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        let unsigned = |dtype: DType| matches!(dtype, DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64);
        let text = if to == DType::Bool {
            let zero = self.w.number(0.0, from)?;
            let compare = if float(from) { "cmpf une" } else { "cmpi ne" };
            let bit = self.w.value(&format!("arith.{compare}, {name}, {zero} : {from_ty}"));
            format!("arith.extui {bit} : i1 to i8")
        } else if float(from) && float(to) {
            let op = if from.bits() < to.bits() { "extf" } else { "truncf" };
            format!("arith.{op} {name} : {from_ty} to {to_ty}")
        } else if float(to) {
            format!("arith.{} {name} : {from_ty} to {to_ty}", if unsigned(from) { "uitofp" } else { "sitofp" })
        } else if float(from) {
            format!("arith.{} {name} : {from_ty} to {to_ty}", if unsigned(to) { "fptoui" } else { "fptosi" })
        } else if from_ty == to_ty {
            return Ok(Scalar { name: name.clone(), dtype: to });
        } else if from.bits() > to.bits() {
            format!("arith.trunci {name} : {from_ty} to {to_ty}")
        } else {
            format!("arith.{} {name} : {from_ty} to {to_ty}", if unsigned(from) { "extui" } else { "extsi" })
        };
        Ok(Scalar { name: self.w.value(&text), dtype: to })
    }

    fn immediate(&mut self, operand: &Operand, dtype: DType) -> Result<Scalar> {
        let computed = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
        let name = match operand {
            Operand::Real(value) => self.w.number(*value, computed)?,
            Operand::Index(dim) => self.number_of(dim, computed)?,
            _ => return Err(Missing("a number".into())),
        };
        Ok(Scalar { name, dtype: computed })
    }

    fn scalar_copy(&mut self, instr: &Instr) -> Result<()> {
        let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let src = spread(&src, &dst.size)?;
        let size = dst.size.clone();
        self.nest(&size, &mut |this, index| {
            if let Operand::Global(view @ View { fill: Some(fill), .. }) = &instr.src[0] {
                let inside = this.in_range(view, index)?;
                this.w.open(&format!("scf.if {inside} {{"));
                let value = this.load_element(&src, index)?;
                this.store_element(&dst, index, &value)?;
                this.w.close("} else {");
                this.w.open_again();
                let value = this.immediate(&Operand::Real(*fill), src.dtype)?;
                this.store_element(&dst, index, &value)?;
                this.w.close("}");
                return Ok(());
            }
            let value = this.load_element(&src, index)?;
            this.store_element(&dst, index, &value)
        })
    }

    /// Whether the element of a view lies inside its buffer.
    fn in_range(&mut self, view: &View, index: &[Dim]) -> Result<String> {
        let shape = self.kernel.params[view.param.0 as usize].shape.clone();
        let mut all = self.w.hoisted("arith.constant true");
        for (axis, size) in view.axes.iter().zip(&shape) {
            let at = axis.steps.iter().fold(axis.start.clone(), |sum, (of, by)| sum + index[*of].clone() * by.clone());
            let (at, size, zero) = (self.w.index(&at)?, self.w.index(size)?, self.w.integer(0));
            for text in [format!("sge, {at}, {zero}"), format!("slt, {at}, {size}")] {
                let holds = self.w.value(&format!("arith.cmpi {text} : index"));
                all = self.w.value(&format!("arith.andi {all}, {holds} : i1"));
            }
        }
        Ok(all)
    }

    fn scalar_iota(&mut self, instr: &Instr, axis: usize, step: i64) -> Result<()> {
        let dst = self.array(&instr.dst[0])?;
        let Operand::Index(first) = &instr.src[0] else { return Err(Missing("a count from a number".into())) };
        let size = dst.size.clone();
        self.nest(&size, &mut |this, index| {
            let value = first.clone() + index[axis].clone() * Dim::Const(step);
            let value = this.immediate(&Operand::Index(value), dst.dtype)?;
            this.store_element(&dst, index, &value)
        })
    }

    fn scalar_pointwise(&mut self, instr: &Instr) -> Result<()> {
        let dst = self.array(&instr.dst[0])?;
        let dtype = tarsia_tile::verify::compute_type(self.kernel, instr).unwrap_or(dst.dtype);
        let mut arrays = Vec::new();
        for operand in &instr.src {
            arrays.push(match operand {
                Operand::Tile(_) | Operand::Global(_) => {
                    let array = self.array(operand)?;
                    Some(spread(&array, &dst.size)?)
                }
                _ => None,
            });
        }
        let size = dst.size.clone();
        self.nest(&size, &mut |this, index| {
            let mut values = Vec::new();
            for (array, operand) in arrays.iter().zip(&instr.src) {
                values.push(match array {
                    Some(array) => this.load_element(array, index)?,
                    None => this.immediate(operand, dtype)?,
                });
            }
            let value = this.evaluate(&instr.op, &values)?;
            this.store_element(&dst, index, &value)
        })
    }

    /// A point-wise function of scalars.
    fn evaluate(&mut self, op: &Opcode, values: &[Scalar]) -> Result<Scalar> {
        match (op, values) {
            (Opcode::Fill, [value]) => Ok(value.clone()),
            (Opcode::Unary(function), [x]) => self.scalar_unary(*function, x),
            (Opcode::Binary(function), [a, b]) => self.scalar_binary(*function, a, b),
            (Opcode::Select, [condition, a, b]) => {
                let bit = self.bit(condition)?;
                let name = self.w.value(&format!("arith.select {bit}, {}, {} : {}", a.name, b.name, element(a.dtype)?));
                Ok(Scalar { name, dtype: a.dtype })
            }
            (Opcode::MulAdd, [a, b, c]) => {
                let product = self.scalar_binary(BinaryFn::Mul, a, b)?;
                self.scalar_binary(BinaryFn::Add, &product, c)
            }
            _ => Err(Missing(format!("`{op}` of scalars"))),
        }
    }

    fn bit(&mut self, value: &Scalar) -> Result<String> {
        let zero = self.w.number(0.0, value.dtype)?;
        Ok(self.w.value(&format!("arith.cmpi ne, {}, {zero} : {}", value.name, element(value.dtype)?)))
    }

    fn scalar_unary(&mut self, function: UnaryFn, x: &Scalar) -> Result<Scalar> {
        let (ty, float) = (element(x.dtype)?, x.dtype == DType::F32);
        let missing = || Missing(format!("`{}` of scalars of {}", function.name(), x.dtype));
        match function {
            UnaryFn::Neg => {
                let zero = Scalar { name: self.w.number(if float { -0.0 } else { 0.0 }, x.dtype)?, dtype: x.dtype };
                self.scalar_binary(BinaryFn::Sub, &zero, x)
            }
            UnaryFn::Abs => {
                let minus = self.scalar_unary(UnaryFn::Neg, x)?;
                self.scalar_binary(BinaryFn::Max, x, &minus)
            }
            UnaryFn::Reciprocal if float => {
                let one = Scalar { name: self.w.number(1.0, x.dtype)?, dtype: x.dtype };
                self.scalar_binary(BinaryFn::Div, &one, x)
            }
            UnaryFn::Not => {
                let one = self.w.number(1.0, x.dtype)?;
                Ok(Scalar { name: self.w.value(&format!("arith.xori {}, {one} : {ty}", x.name)), dtype: x.dtype })
            }
            UnaryFn::BitNot if !float => {
                let ones = self.w.number(-1.0, x.dtype)?;
                Ok(Scalar { name: self.w.value(&format!("arith.xori {}, {ones} : {ty}", x.name)), dtype: x.dtype })
            }
            UnaryFn::IsNan if float => self.scalar_compare("cmpf une", x, x),
            UnaryFn::Sign => {
                let zero = Scalar { name: self.w.number(0.0, x.dtype)?, dtype: x.dtype };
                let above = self.scalar_binary(BinaryFn::Gt, x, &zero)?;
                let below = self.scalar_binary(BinaryFn::Lt, x, &zero)?;
                let (above, below) = (self.converted(&above, x.dtype)?, self.converted(&below, x.dtype)?);
                self.scalar_binary(BinaryFn::Sub, &above, &below)
            }
            _ => Err(missing()),
        }
    }

    fn scalar_compare(&mut self, compare: &str, a: &Scalar, b: &Scalar) -> Result<Scalar> {
        let bit = self.w.value(&format!("arith.{compare}, {}, {} : {}", a.name, b.name, element(a.dtype)?));
        Ok(Scalar { name: self.w.value(&format!("arith.extui {bit} : i1 to i8")), dtype: DType::Bool })
    }

    fn scalar_binary(&mut self, function: BinaryFn, a: &Scalar, b: &Scalar) -> Result<Scalar> {
        use BinaryFn::{
            Add, And, BitAnd, BitOr, BitXor, Div, Eq, Ge, Gt, Le, Lt, Max, Min, Mod, Mul, Ne, Or, Rem, Sub, Xor,
        };
        let (ty, float) = (element(a.dtype)?, a.dtype == DType::F32);
        let unsigned = matches!(a.dtype, DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64);
        let sign = if unsigned { "u" } else { "s" };
        let op = match (function, float) {
            (Add, true) => "addf".to_owned(),
            (Sub, true) => "subf".to_owned(),
            (Mul, true) => "mulf".to_owned(),
            (Div, true) => "divf".to_owned(),
            (Min, true) => "minimumf".to_owned(),
            (Max, true) => "maximumf".to_owned(),
            (Rem, true) => "remf".to_owned(),
            (Add, false) => "addi".to_owned(),
            (Sub, false) => "subi".to_owned(),
            (Mul, false) => "muli".to_owned(),
            (Min, false) => format!("min{sign}i"),
            (Max, false) => format!("max{sign}i"),
            (And | BitAnd, false) => "andi".to_owned(),
            (Or | BitOr, false) => "ori".to_owned(),
            (Xor | BitXor, false) => "xori".to_owned(),
            (Div | Rem, false) => return self.whole_division(function, a, b, sign),
            (Mod, false) => {
                // The remainder takes the divisor's sign: (a rem b + b) rem b.
                let rest = self.whole_division(Rem, a, b, sign)?;
                let moved = self.scalar_binary(Add, &rest, b)?;
                return self.whole_division(Rem, &moved, b, sign);
            }
            (Eq, _) => return self.scalar_compare(if float { "cmpf oeq" } else { "cmpi eq" }, a, b),
            (Ne, _) => return self.scalar_compare(if float { "cmpf une" } else { "cmpi ne" }, a, b),
            (Lt | Le | Gt | Ge, _) => {
                let compare = if float {
                    format!("cmpf o{}", function.name())
                } else {
                    format!("cmpi {sign}{}", function.name())
                };
                return self.scalar_compare(&compare, a, b);
            }
            _ => return Err(Missing(format!("`{}` of scalars of {}", function.name(), a.dtype))),
        };
        let name = self.w.value(&format!("arith.{op} {}, {} : {ty}", a.name, b.name));
        Ok(Scalar { name, dtype: a.dtype })
    }

    /// Division by zero gives 0.
    fn whole_division(&mut self, function: BinaryFn, a: &Scalar, b: &Scalar, sign: &str) -> Result<Scalar> {
        let ty = element(a.dtype)?;
        let (zero, one) = (self.w.number(0.0, a.dtype)?, self.w.number(1.0, a.dtype)?);
        let by_zero = self.w.value(&format!("arith.cmpi eq, {}, {zero} : {ty}", b.name));
        let divisor = self.w.value(&format!("arith.select {by_zero}, {one}, {} : {ty}", b.name));
        let op = if function == BinaryFn::Div { "div" } else { "rem" };
        let quotient = self.w.value(&format!("arith.{op}{sign}i {}, {divisor} : {ty}", a.name));
        let name = self.w.value(&format!("arith.select {by_zero}, {zero}, {quotient} : {ty}"));
        Ok(Scalar { name, dtype: a.dtype })
    }

    fn identity(&mut self, function: ReduceFn, dtype: DType) -> Result<Scalar> {
        let computed = if dtype.is_float() { DType::F32 } else { dtype };
        let wide = dtype.bits().min(63) as i32;
        let (smallest, largest) = if dtype.is_float() {
            (f64::NEG_INFINITY, f64::INFINITY)
        } else if matches!(dtype, DType::I64) {
            (i64::MIN as f64, i64::MAX as f64)
        } else {
            (-(2f64.powi(wide - 1)), 2f64.powi(wide - 1) - 1.0)
        };
        let value = match function {
            ReduceFn::Sum => 0.0,
            ReduceFn::Prod => 1.0,
            ReduceFn::Min => largest,
            ReduceFn::Max => smallest,
            ReduceFn::Mean => return Err(Missing("a mean".into())),
        };
        Ok(Scalar { name: self.w.number(value, computed)?, dtype: computed })
    }

    fn scalar_reduce(&mut self, instr: &Instr, function: ReduceFn, axis: usize, accumulate: bool) -> Result<()> {
        let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let combine = binary_of(function)?;
        if !accumulate {
            let size = dst.size.clone();
            let first = self.identity(function, src.dtype)?;
            self.nest(&size, &mut |this, index| this.store_element(&dst, index, &first))?;
        }
        let size = src.size.clone();
        self.nest(&size, &mut |this, index| {
            let mut place = index.to_vec();
            place[axis] = Dim::ZERO;
            let (so_far, value) = (this.load_element(&dst, &place)?, this.load_element(&src, index)?);
            let value = this.scalar_binary(combine, &so_far, &value)?;
            this.store_element(&dst, &place, &value)
        })
    }

    fn scalar_arg(
        &mut self,
        instr: &Instr,
        (function, axis): (ArgReduceFn, usize),
        last: bool,
        accumulate: bool,
    ) -> Result<()> {
        let (values, places) = (self.array(&instr.dst[0])?, self.array(&instr.dst[1])?);
        let src = self.array(&instr.src[0])?;
        let Operand::Index(first) = &instr.src[1] else { return Err(Missing("a first position".into())) };
        if !accumulate {
            let size = values.size.clone();
            self.nest(&size, &mut |this, index| {
                let value = this.load_element(&src, index)?;
                this.store_element(&values, index, &value)?;
                let place = this.immediate(&Operand::Index(first.clone()), places.dtype)?;
                this.store_element(&places, index, &place)
            })?;
        }
        let better = match (function, last) {
            (ArgReduceFn::Max, false) => BinaryFn::Gt,
            (ArgReduceFn::Max, true) => BinaryFn::Ge,
            (ArgReduceFn::Min, false) => BinaryFn::Lt,
            (ArgReduceFn::Min, true) => BinaryFn::Le,
        };
        let size = src.size.clone();
        self.nest(&size, &mut |this, index| {
            let mut at = index.to_vec();
            at[axis] = Dim::ZERO;
            let (best, value) = (this.load_element(&values, &at)?, this.load_element(&src, index)?);
            let wins = this.scalar_binary(better, &value, &best)?;
            let wins = this.bit(&wins)?;
            this.w.open(&format!("scf.if {wins} {{"));
            this.store_element(&values, &at, &value)?;
            let place = this.immediate(&Operand::Index(first.clone() + index[axis].clone()), places.dtype)?;
            this.store_element(&places, &at, &place)?;
            this.w.close("}");
            Ok(())
        })
    }

    /// A running result in a loop that carries it.
    fn scalar_scan(
        &mut self,
        instr: &Instr,
        function: ReduceFn,
        axis: usize,
        (exclusive, reverse): (bool, bool),
    ) -> Result<()> {
        let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let initial = match &instr.src[1] {
            operand @ (Operand::Tile(_) | Operand::Global(_)) => Some(self.array(operand)?),
            _ => None,
        };
        let combine = binary_of(function)?;
        let mut outer = dst.size.clone();
        outer[axis] = Dim::ONE;
        let length = dst.size[axis].clone();
        self.nest(&outer, &mut |this, index| {
            let mut index = index.to_vec();
            index[axis] = Dim::ZERO;
            let start = match &initial {
                Some(array) => this.load_element(array, &index)?,
                None => this.immediate(&instr.src[1], src.dtype)?,
            };
            let ty = element(start.dtype)?;
            let (zero, end, one) = (this.w.integer(0), this.w.index(&length)?, this.w.integer(1));
            let (at, carried) = (this.w.fresh(), this.w.fresh());
            let result = this.w.fresh();
            this.w.open(&format!(
                "{result} = scf.for {at} = {zero} to {end} step {one} iter_args({carried} = {}) -> ({ty}) {{",
                start.name
            ));
            let symbol = tarsia_tensor::Symbol::new(&format!("{at} scan"));
            this.w.bind(&symbol, at);
            let position = Dim::symbol(symbol.name());
            index[axis] = if reverse { length.clone() - Dim::ONE - position } else { position };
            let so_far = Scalar { name: carried, dtype: start.dtype };
            let value = this.load_element(&src, &index)?;
            let next = this.scalar_binary(combine, &so_far, &value)?;
            this.store_element(&dst, &index, if exclusive { &so_far } else { &next })?;
            this.w.line(&format!("scf.yield {} : {ty}", next.name));
            this.w.close("}");
            Ok(())
        })
    }

    /// One element to another place, combined with what is there.
    pub fn move_element(&mut self, dst: (&Array, &[Dim]), src: (&Array, &[Dim]), function: ScatterFn) -> Result<()> {
        let value = self.load_element(src.0, src.1)?;
        let combine = match function {
            ScatterFn::Set => return self.store_element(dst.0, dst.1, &value),
            ScatterFn::Add => BinaryFn::Add,
            ScatterFn::Mul => BinaryFn::Mul,
            ScatterFn::Min => BinaryFn::Min,
            ScatterFn::Max => BinaryFn::Max,
        };
        let there = self.load_element(dst.0, dst.1)?;
        let value = self.scalar_binary(combine, &there, &value)?;
        self.store_element(dst.0, dst.1, &value)
    }

    /// Places of a sort one after the other: each is the best of what comes after the place before; equals keep their order.
    fn scalar_sort(&mut self, instr: &Instr, descending: bool) -> Result<()> {
        let (values, places) = (self.array(&instr.dst[0])?, self.array(&instr.dst[1])?);
        let src = self.array(&instr.src[0])?;
        let last = src.size.len() - 1;
        let (length, kept) = (src.size[last].clone(), values.size[last].clone());
        let (less, greater) = if descending { (BinaryFn::Lt, BinaryFn::Gt) } else { (BinaryFn::Gt, BinaryFn::Lt) };
        self.nest(&src.size[..last], &mut |this, index| {
            let (from, to, at) = (src.at(index), values.at(index), places.at(index));
            let first = this.load_element(&from, &[Dim::ZERO])?;
            let ty = element(first.dtype)?;
            let (zero, one) = (this.w.integer(0), this.w.integer(1));
            let (kept, end) = (this.w.index(&kept)?, this.w.index(&length)?);
            let (rank, value, place) = (this.w.fresh(), this.w.fresh(), this.w.fresh());
            let ranks = this.w.fresh();
            this.w.open(&format!(
                "{ranks}:2 = scf.for {rank} = {zero} to {kept} step {one} iter_args({value} = {}, {place} = {zero}) -> ({ty}, index) {{",
                first.name
            ));
            let before = Scalar { name: value, dtype: first.dtype };
            let (i, best, best_place, found, result) =
                (this.w.fresh(), this.w.fresh(), this.w.fresh(), this.w.fresh(), this.w.fresh());
            let (no, yes) = (this.w.hoisted("arith.constant false"), this.w.hoisted("arith.constant true"));
            this.w.open(&format!(
                "{result}:3 = scf.for {i} = {zero} to {end} step {one} iter_args({best} = {}, {best_place} = {zero}, {found} = {no}) -> ({ty}, index, i1) {{",
                before.name
            ));
            let symbol = tarsia_tensor::Symbol::new(&format!("{i} candidate"));
            this.w.bind(&symbol, i.clone());
            let candidate = this.load_element(&from, &[Dim::symbol(symbol.name())])?;
            let so_far = Scalar { name: best.clone(), dtype: first.dtype };
            let mut bits = Vec::new();
            for (function, with) in [(less, &before), (BinaryFn::Eq, &before), (greater, &so_far)] {
                let outcome = this.scalar_binary(function, &candidate, with)?;
                bits.push(this.bit(&outcome)?);
            }
            let later = this.w.value(&format!("arith.cmpi sgt, {i}, {place} : index"));
            let start = this.w.value(&format!("arith.cmpi eq, {rank}, {zero} : index"));
            let tie = this.w.value(&format!("arith.andi {}, {later} : i1", bits[1]));
            let after = this.w.value(&format!("arith.ori {}, {tie} : i1", bits[0]));
            let open = this.w.value(&format!("arith.ori {after}, {start} : i1"));
            let none = this.w.value(&format!("arith.xori {found}, {yes} : i1"));
            let better = this.w.value(&format!("arith.ori {}, {none} : i1", bits[2]));
            let wins = this.w.value(&format!("arith.andi {open}, {better} : i1"));
            let next = this.w.value(&format!("arith.select {wins}, {}, {best} : {ty}", candidate.name));
            let next_place = this.w.value(&format!("arith.select {wins}, {i}, {best_place} : index"));
            let next_found = this.w.value(&format!("arith.ori {wins}, {found} : i1"));
            this.w.line(&format!("scf.yield {next}, {next_place}, {next_found} : {ty}, index, i1"));
            this.w.close("}");
            let symbol = tarsia_tensor::Symbol::new(&format!("{rank} rank"));
            this.w.bind(&symbol, rank.clone());
            let rank = [Dim::symbol(symbol.name())];
            this.store_element(&to, &rank, &Scalar { name: format!("{result}#0"), dtype: first.dtype })?;
            let wide = this.w.value(&format!("arith.index_cast {result}#1 : index to i64"));
            this.store_element(&at, &rank, &Scalar { name: wide, dtype: DType::I64 })?;
            this.w.line(&format!("scf.yield {result}#0, {result}#1 : {ty}, index"));
            this.w.close("}");
            Ok(())
        })
    }

    /// An integer element as an index.
    pub fn index_element(&mut self, array: &Array, index: &[Dim]) -> Result<String> {
        let value = self.load_element(array, index)?;
        Ok(self.w.value(&format!("arith.index_cast {} : {} to index", value.name, element(value.dtype)?)))
    }

    fn read_scalar(&mut self, instr: &Instr) -> Result<()> {
        let src = self.array(&instr.src[0])?;
        let Operand::Scalar(symbol, _) = &instr.dst[0] else { return Err(Missing("a scalar".into())) };
        let index = vec![Dim::ZERO; src.size.len()];
        let value = self.index_element(&src, &index)?;
        self.w.bind(symbol, value);
        Ok(())
    }

    fn select_rows(&mut self, instr: &Instr) -> Result<()> {
        let (dst, src) = (self.array(&instr.dst[0])?, self.array(&instr.src[0])?);
        let Operand::Scalar(symbol, _) = &instr.dst[1] else { return Err(Missing("a scalar".into())) };
        let Operand::Index(first) = &instr.src[2] else { return Err(Missing("a first position".into())) };
        let wanted = self.immediate(&instr.src[1], src.dtype)?;
        let (zero, end, one) = (self.w.integer(0), self.w.index(&src.elements())?, self.w.integer(1));
        let (at, count, result) = (self.w.fresh(), self.w.fresh(), self.w.fresh());
        self.w.open(&format!(
            "{result} = scf.for {at} = {zero} to {end} step {one} iter_args({count} = {zero}) -> (index) {{"
        ));
        let names = [("row", &at), ("count", &count)].map(|(kind, name)| {
            let symbol = tarsia_tensor::Symbol::new(&format!("{name} {kind}"));
            self.w.bind(&symbol, name.clone());
            Dim::symbol(symbol.name())
        });
        let value = self.load_element(&src, &names[..1])?;
        let equal =
            self.w.value(&format!("arith.cmpi eq, {}, {} : {}", value.name, wanted.name, element(value.dtype)?));
        self.w.open(&format!("scf.if {equal} {{"));
        let place = self.immediate(&Operand::Index(first.clone() + names[0].clone()), dst.dtype)?;
        self.store_element(&dst, &names[1..], &place)?;
        self.w.close("}");
        let more = self.w.value(&format!("arith.addi {count}, {one} : index"));
        let next = self.w.value(&format!("arith.select {equal}, {more}, {count} : index"));
        self.w.line(&format!("scf.yield {next} : index"));
        self.w.close("}");
        self.w.bind(symbol, result);
        Ok(())
    }
}

fn binary_of(function: ReduceFn) -> Result<BinaryFn> {
    Ok(match function {
        ReduceFn::Sum => BinaryFn::Add,
        ReduceFn::Prod => BinaryFn::Mul,
        ReduceFn::Min => BinaryFn::Min,
        ReduceFn::Max => BinaryFn::Max,
        ReduceFn::Mean => return Err(Missing("a mean".into())),
    })
}
