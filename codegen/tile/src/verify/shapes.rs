//! The shapes of an instruction's operands.

use tarsia_tensor::Dim;

use super::kernel::Check;
use crate::{Instr, Opcode, Operand};

impl Check<'_, '_> {
    pub(super) fn shapes(&mut self, instr: &Instr) {
        match &instr.op {
            Opcode::Copy { rows } => self.copy_shapes(instr, *rows),
            Opcode::Unary(_) | Opcode::Binary(_) | Opcode::Select | Opcode::MulAdd => self.pointwise_shapes(instr),
            Opcode::Reduce { axis, .. } => {
                self.rank_like(instr, 0, 0);
                self.reduced_shape(&instr.dst[0], &instr.src[0], *axis);
            }
            Opcode::ArgReduce { axis, .. } => {
                for dst in &instr.dst {
                    self.reduced_shape(dst, &instr.src[0], *axis);
                }
            }
            Opcode::Scan { axis, .. } => self.scan_shapes(instr, *axis),
            Opcode::Mmad { .. } => self.product_shapes(instr),
            Opcode::Gather => self.indexed_shapes(&instr.dst[0], &instr.src[0], &instr.src[1]),
            Opcode::Scatter { .. } => self.indexed_shapes(&instr.src[0], &instr.dst[0], &instr.src[1]),
            Opcode::SelectRows => self.compact_shapes(instr),
            Opcode::ReadScalar => {
                let size = self.size(&instr.src[0]);
                self.require_equal(&Dim::product(&size), &Dim::ONE, || {
                    "the number of elements read as a scalar".into()
                });
            }
            Opcode::Sort { .. } => {
                self.same_shape(&instr.dst[0], &instr.src[0]);
                self.same_shape(&instr.dst[1], &instr.src[0]);
            }
            Opcode::TopK { .. } => self.top_shapes(instr),
            Opcode::Random { .. } if matches!(instr.src[0], Operand::Tile(_) | Operand::Global(_)) => {
                self.same_shape(&instr.dst[0], &instr.src[0]);
            }
            _ => {}
        }
    }

    fn size(&self, operand: &Operand) -> Vec<Dim> {
        self.kernel.array(operand).map_or_else(Vec::new, |array| array.size.to_vec())
    }

    fn is_array(operand: &Operand) -> bool {
        matches!(operand, Operand::Tile(_) | Operand::Global(_))
    }

    fn rank_like(&mut self, instr: &Instr, dst: usize, src: usize) -> bool {
        let (a, b) = (self.size(&instr.dst[dst]).len(), self.size(&instr.src[src]).len());
        self.report.fault_if(a != b, || format!("the destination has {a} axes, the source {b}"));
        a == b
    }

    /// Equal sizes axis by axis.
    fn same_shape(&mut self, a: &Operand, b: &Operand) {
        let (a, b) = (self.size(a), self.size(b));
        self.report.fault_if(a.len() != b.len(), || format!("operands have {} and {} axes", a.len(), b.len()));
        for (axis, (a, b)) in a.iter().zip(&b).enumerate() {
            self.require_equal(a, b, || format!("the operands' sizes on axis {axis}"));
        }
    }

    /// Each size is the destination's, or 1.
    fn broadcasts_to(&mut self, dst: &[Dim], src: &[Dim]) {
        if dst.len() != src.len() {
            return self.report.fault(format!("the destination has {} axes, a source {}", dst.len(), src.len()));
        }
        for (axis, (to, from)) in dst.iter().zip(src).enumerate() {
            if !from.is(1) {
                self.require_equal(from, to, || format!("the size of a source on axis {axis}, which is not 1"));
            }
        }
    }

    fn pointwise_shapes(&mut self, instr: &Instr) {
        let dst = self.size(&instr.dst[0]);
        for src in instr.src.iter().filter(|src| Self::is_array(src)) {
            let src = self.size(src);
            self.broadcasts_to(&dst, &src);
        }
    }

    fn copy_shapes(&mut self, instr: &Instr, rows: usize) {
        let (Some(to), Some(from)) = (self.kernel.array(&instr.dst[0]), self.kernel.array(&instr.src[0])) else {
            return;
        };
        let (to_size, from_size) = (to.size.to_vec(), from.size.to_vec());
        if to_size.len() == from_size.len() {
            return self.broadcasts_to(&to_size, &from_size);
        }
        let (matrix, other) = if to_size.len() == 2 { (&to_size, &from_size) } else { (&from_size, &to_size) };
        if matrix.len() != 2 || other.len() < rows {
            let (a, b) = (to_size.len(), from_size.len());
            return self.report.fault(format!(
                "a copy between {b} and {a} axes, of which neither is a matrix with {rows} axes as rows"
            ));
        }
        let (down, across) = other.split_at(rows);
        self.require_equal(&matrix[0], &Dim::product(down), || "the number of rows".into());
        self.require_equal(&matrix[1], &Dim::product(across), || "the number of columns".into());
    }

    fn reduced_shape(&mut self, dst: &Operand, src: &Operand, axis: usize) {
        let (dst, src) = (self.size(dst), self.size(src));
        self.report.fault_if(dst.len() != src.len(), || format!("operands have {} and {} axes", dst.len(), src.len()));
        for (at, (to, from)) in dst.iter().zip(&src).enumerate() {
            let expected = if at == axis { &Dim::ONE } else { from };
            self.require_equal(to, expected, || format!("the size of the reduced result on axis {at}"));
        }
    }

    fn scan_shapes(&mut self, instr: &Instr, axis: usize) {
        self.same_shape(&instr.dst[0], &instr.src[0]);
        if Self::is_array(&instr.src[1]) {
            let (dst, first) = (self.size(&instr.dst[0]), self.size(&instr.src[1]));
            self.report.fault_if(!first.get(axis).is_some_and(|size| size.is(1)), || {
                format!("the value before the first has size 1 on axis {axis}")
            });
            self.broadcasts_to(&dst, &first);
        }
    }

    /// The accumulator may have its columns on several axes.
    fn product_shapes(&mut self, instr: &Instr) {
        let (acc, a, b) = (self.size(&instr.dst[0]), self.size(&instr.src[0]), self.size(&instr.src[1]));
        let ([m, k], [depth, n], [first, rest @ ..]) = (&a[..], &b[..], &acc[..]) else {
            return self.report.fault("a product takes two matrices and an accumulator of at least two axes");
        };
        self.report.fault_if(rest.is_empty(), || "an accumulator has at least two axes".into());
        self.require_equal(k, depth, || "the summed sizes".into());
        self.require_equal(&Dim::product(&acc), &(m.clone() * n.clone()), || "the size of the accumulator".into());
        if rest.len() == 1 {
            self.require_equal(first, m, || "the accumulator's rows".into());
        }
    }

    /// `array[j, …]` and `table[index[j], …]`.
    fn indexed_shapes(&mut self, array: &Operand, table: &Operand, index: &Operand) {
        self.same_shape(array, table);
        let (rows, index) = (self.size(table), self.size(index));
        let ([count], Some(rows)) = (&index[..], rows.first()) else {
            return self.report.fault("indices have one axis, and what they index at least one");
        };
        self.require_equal(count, rows, || "the number of indices".into());
    }

    fn compact_shapes(&mut self, instr: &Instr) {
        let (dst, src) = (self.size(&instr.dst[0]), self.size(&instr.src[0]));
        let ([to], [from]) = (&dst[..], &src[..]) else {
            return self.report.fault("positions and their source have one axis");
        };
        self.require(from.clone(), to.clone(), || "the number of positions that may be found".into());
        if let Operand::Scalar(_, bound) = &instr.dst[1] {
            self.require(from.clone(), bound.clone(), || {
                "the number of positions that may be found, against the scalar's bound".into()
            });
        }
    }

    fn top_shapes(&mut self, instr: &Instr) {
        self.same_shape(&instr.dst[1], &instr.dst[0]);
        let (dst, src) = (self.size(&instr.dst[0]), self.size(&instr.src[0]));
        self.report.fault_if(dst.len() != src.len() || dst.is_empty(), || {
            "operands have as many axes, and at least one".into()
        });
        for (axis, (to, from)) in dst.iter().zip(&src).enumerate() {
            if axis + 1 == dst.len() {
                self.require(to.clone(), from.clone(), || "the number of elements kept".into());
            } else {
                self.require_equal(to, from, || format!("the operands' sizes on axis {axis}"));
            }
        }
    }
}
