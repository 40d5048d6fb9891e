//! The functions of point-wise instructions as sequences of templates.
//!
//! What has no template of its own is composed here: the logistic function, hyperbolic tangent, error function, sine and cosine,
//! powers, remainders; comparisons give bits, which a cast by way of f16 makes bytes, and a selection makes bits of bytes.

use tarsia_tensor::{BinaryFn, DType, UnaryFn};
use tarsia_tile::Opcode;

use super::{
    Emitter, Missing, Result,
    array::{Array, Piece},
    pointwise::{Source, Value, binary_name},
};

/// Memory that a function needs in between.
#[derive(Clone, Debug, Default)]
pub struct Need {
    /// Arrays as long as the piece worked on: element type, and another spelling of it.
    pub arrays: Vec<(DType, Option<&'static str>)>,
    /// Arrays of a fixed length.
    pub fixed: Vec<(DType, usize)>,
}

/// Bits of a mask.
const BITS: (DType, Option<&str>) = (DType::I8, Some("i1"));

/// The error function as x·P(x²)/Q(x²) for |x| ≤ 4, highest power first (the rational approximation that XLA and Eigen use;
/// error below 1e-7).
const ERF_P: [f64; 7] = [
    -2.726_142_258_013_06e-10,
    2.770_681_424_959_02e-8,
    -2.101_024_020_825_08e-6,
    -5.692_506_394_623_46e-5,
    -7.349_906_303_268_55e-4,
    -2.954_599_808_540_25e-3,
    -1.609_603_332_624_15e-2,
];
const ERF_Q: [f64; 5] = [
    -1.456_607_184_649_96e-5,
    -2.133_740_552_789_05e-4,
    -1.682_826_974_382_03e-3,
    -7.373_329_167_204_68e-3,
    -1.426_473_905_141_89e-2,
];

/// sin(r) for |r| ≤ π/2 as r·S(r²): minimax coefficients, highest power first.
const SIN: [f64; 5] =
    [2.601_903_085_732_49e-6, -1.980_741_845_250_64e-4, 8.333_025_176_987_14e-3, -1.666_665_671_348_62e-1, 1.0];

/// π in three parts of which multiples of small integers are exact in f32.
const PI_PARTS: [f64; 3] = [3.140_625, 9.675_025_939_941_406e-4, 1.509_957_990_978_376_4e-7];

impl Emitter<'_> {
    /// What a function needs beside its operands; `None` for nothing.
    pub fn need(&self, op: &Opcode, dtype: DType, dst: &Array, sources: &[Source]) -> Option<Need> {
        let arrays = |count: usize| Some(Need { arrays: vec![(dtype, None); count], fixed: Vec::new() });
        match op {
            Opcode::Unary(UnaryFn::Erf) => arrays(3),
            Opcode::Unary(UnaryFn::Sin | UnaryFn::Cos) => arrays(4),
            Opcode::Unary(UnaryFn::Softplus | UnaryFn::Sinh | UnaryFn::Cosh) => arrays(1),
            Opcode::Unary(UnaryFn::IsInf) => {
                Some(Need { arrays: vec![(dtype, None), BITS, (DType::F16, None)], fixed: vec![(DType::F16, 48)] })
            }
            Opcode::Unary(UnaryFn::IsNan) => {
                Some(Need { arrays: vec![BITS, (DType::F16, None)], fixed: vec![(DType::F16, 48)] })
            }
            Opcode::Binary(function) if function.is_comparison() => {
                Some(Need { arrays: vec![BITS, (DType::F16, None)], fixed: vec![(DType::F16, 48)] })
            }
            Opcode::Binary(BinaryFn::Mod | BinaryFn::Rem) => arrays(1),
            Opcode::Select => Some(Need { arrays: vec![BITS, (DType::F16, None)], fixed: vec![(dtype, 64)] }),
            Opcode::MulAdd if self.meets(dst, sources.get(2)) => arrays(1),
            Opcode::Binary(BinaryFn::Sub | BinaryFn::Div)
                if matches!(sources, [Source::Number(..), Source::Number(..)]) =>
            {
                arrays(1)
            }
            _ => None,
        }
    }

    /// Whether a source lies where the destination does.
    fn meets(&self, dst: &Array, source: Option<&Source>) -> bool {
        let Some(Source::Array(array)) = source else { return false };
        match (self.span(dst), self.span(array)) {
            (Some(a), Some(b)) => a.0 < b.1 && b.0 < a.1,
            _ => true,
        }
    }

    /// One function of operands that are memrefs of one shape or numbers.
    pub fn function(
        &mut self,
        op: &Opcode,
        dtype: DType,
        dst_array: &Array,
        dst: &Piece,
        values: &[Value],
        between: &[Piece],
    ) -> Result<()> {
        let float = matches!(dtype, DType::F32 | DType::F16);
        match (op, values) {
            (Opcode::Fill, [value]) => {
                self.spread_number(value, dst);
                Ok(())
            }
            (Opcode::Unary(function), [x]) if function.is_predicate() => {
                self.predicate(*function, dtype, x, dst, between)
            }
            (Opcode::Unary(function), [x]) => self.one(*function, dtype, x, dst, between),
            (Opcode::Binary(function), [a, b]) if function.is_comparison() => {
                let [bits, half, rest] = between else { return Err(Missing("scratch for a comparison".into())) };
                self.compare(*function, dtype, (a, b), (bits, half, rest), dst)
            }
            (Opcode::Binary(BinaryFn::Pow), [a, b]) if float => self.power(dtype, a, b, dst),
            (Opcode::Binary(function @ (BinaryFn::Mod | BinaryFn::Rem)), [a, b]) if dtype == DType::F32 => {
                let mode = if *function == BinaryFn::Mod { "floor" } else { "trunc" };
                let t = first(between)?;
                self.binary("vdiv", a, b, t)?;
                self.cast_piece(t, t, mode);
                self.binary("vmul", &Value::Piece(t.clone()), b, t)?;
                self.binary("vsub", a, &Value::Piece(t.clone()), dst)
            }
            (Opcode::Binary(function), [a, b]) => {
                let name = binary_name(*function, dtype)
                    .ok_or_else(|| Missing(format!("a template of `{}` in {dtype}", function.name())))?;
                self.binary(name, a, b, dst)
            }
            (Opcode::Select, [condition, a, b]) => self.select(condition, a, b, dst, between),
            (Opcode::MulAdd, [a, b, c]) if float || dtype == DType::I32 => {
                let product = between.first().unwrap_or(dst).clone();
                self.binary("vmul", a, b, &product)?;
                self.binary("vadd", &Value::Piece(product), c, dst)
            }
            _ => Err(Missing(format!("`{op}` of {} in {dtype}", dst_array.dtype))),
        }
    }

    fn one(&mut self, function: UnaryFn, dtype: DType, x: &Value, dst: &Piece, between: &[Piece]) -> Result<()> {
        if function == UnaryFn::Neg && matches!(dtype, DType::F32 | DType::F16 | DType::I32) {
            let minus = self.constant(-1.0, dtype)?;
            return self.binary("vmul", x, &minus, dst);
        }
        if !matches!(dtype, DType::F32 | DType::F16) {
            return Err(Missing(format!("a template of `{}` in {dtype}", function.name())));
        }
        let one = self.constant(1.0, dtype)?;
        let here = Value::Piece(dst.clone());
        match function {
            UnaryFn::Abs => self.unary("vabs", x, dst),
            UnaryFn::Exp => self.unary("vexp", x, dst),
            UnaryFn::Log => self.unary("vln", x, dst),
            UnaryFn::Sqrt => self.unary("vsqrt", x, dst),
            UnaryFn::Rsqrt => {
                // The template of the reciprocal root is an approximation.
                self.unary("vsqrt", x, dst)?;
                self.binary("vdiv", &one, &here, dst)
            }
            UnaryFn::Reciprocal => self.binary("vdiv", &one, x, dst),
            UnaryFn::Sigmoid => {
                let minus = self.constant(-1.0, dtype)?;
                self.binary("vmul", x, &minus, dst)?;
                self.unary("vexp", &here, dst)?;
                self.binary("vadd", &here, &one, dst)?;
                self.binary("vdiv", &one, &here, dst)
            }
            UnaryFn::Tanh => self.tanh(dtype, x, dst),
            UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Trunc if dtype == DType::F32 => {
                let Value::Piece(x) = x else { return Err(Missing("rounding of a number".into())) };
                let mode = match function {
                    UnaryFn::Floor => "floor",
                    UnaryFn::Ceil => "ceil",
                    UnaryFn::Round => "rint",
                    _ => "trunc",
                };
                self.cast_piece(dst, x, mode);
                Ok(())
            }
            UnaryFn::Erf => self.erf(dtype, x, dst, between),
            UnaryFn::Sin | UnaryFn::Cos if dtype == DType::F32 => self.sine(function, x, dst, between),
            UnaryFn::Softplus => self.softplus(dtype, x, dst, between),
            UnaryFn::Sinh | UnaryFn::Cosh => {
                let t = first(between)?;
                let (value, half) = (Value::Piece(t.clone()), self.constant(0.5, dtype)?);
                self.unary("vexp", x, t)?;
                self.binary("vdiv", &one, &value, dst)?;
                self.binary(if function == UnaryFn::Sinh { "vsub" } else { "vadd" }, &value, &here, dst)?;
                self.binary("vmul", &here, &half, dst)
            }
            _ => Err(Missing(format!("a template of `{}`", function.name()))),
        }
    }

    /// 1 - 2/(1 + e^2x), which is right at both infinities.
    fn tanh(&mut self, dtype: DType, x: &Value, dst: &Piece) -> Result<()> {
        let here = Value::Piece(dst.clone());
        let (one, two, minus) = (self.constant(1.0, dtype)?, self.constant(2.0, dtype)?, self.constant(-2.0, dtype)?);
        self.binary("vmul", x, &two, dst)?;
        self.unary("vexp", &here, dst)?;
        self.binary("vadd", &here, &one, dst)?;
        self.binary("vdiv", &minus, &here, dst)?;
        self.binary("vadd", &here, &one, dst)
    }

    /// max(x, 0) + log(1 + e^-|x|).
    fn softplus(&mut self, dtype: DType, x: &Value, dst: &Piece, between: &[Piece]) -> Result<()> {
        let t = first(between)?;
        let (value, here) = (Value::Piece(t.clone()), Value::Piece(dst.clone()));
        let (one, minus, zero) = (self.constant(1.0, dtype)?, self.constant(-1.0, dtype)?, self.constant(0.0, dtype)?);
        self.unary("vabs", x, t)?;
        self.binary("vmul", &value, &minus, t)?;
        self.unary("vexp", &value, t)?;
        self.binary("vadd", &value, &one, t)?;
        self.unary("vln", &value, t)?;
        self.binary("vmax", x, &zero, dst)?;
        self.binary("vadd", &here, &value, dst)
    }

    fn erf(&mut self, dtype: DType, x: &Value, dst: &Piece, between: &[Piece]) -> Result<()> {
        let [square, p, q] = between else { return Err(Missing("scratch for `erf`".into())) };
        let here = Value::Piece(dst.clone());
        let (four, minus) = (self.constant(4.0, dtype)?, self.constant(-4.0, dtype)?);
        self.binary("vmin", x, &four, dst)?;
        self.binary("vmax", &here, &minus, dst)?;
        self.binary("vmul", &here, &here, square)?;
        self.horner(dtype, square, &ERF_P, p)?;
        self.horner(dtype, square, &ERF_Q, q)?;
        self.binary("vmul", &here, &Value::Piece(p.clone()), dst)?;
        self.binary("vdiv", &here, &Value::Piece(q.clone()), dst)
    }

    /// A polynomial, highest power first.
    fn horner(&mut self, dtype: DType, x: &Piece, coefficients: &[f64], dst: &Piece) -> Result<()> {
        let (x, here) = (Value::Piece(x.clone()), Value::Piece(dst.clone()));
        let highest = self.constant(coefficients[0], dtype)?;
        self.binary("vmul", &x, &highest, dst)?;
        for (at, coefficient) in coefficients.iter().enumerate().skip(1) {
            let coefficient = self.constant(*coefficient, dtype)?;
            self.binary("vadd", &here, &coefficient, dst)?;
            if at + 1 < coefficients.len() {
                self.binary("vmul", &here, &x, dst)?;
            }
        }
        Ok(())
    }

    /// With x = kπ + r: (-1)^k sin r; the cosine is the sine a quarter of a turn later.
    fn sine(&mut self, function: UnaryFn, x: &Value, dst: &Piece, between: &[Piece]) -> Result<()> {
        let [k, r, t, product] = between else { return Err(Missing("scratch for a sine".into())) };
        let dtype = DType::F32;
        let (kv, rv, tv) = (Value::Piece(k.clone()), Value::Piece(r.clone()), Value::Piece(t.clone()));
        let cosine = function == UnaryFn::Cos;
        let (inverse, half) = (self.constant(std::f64::consts::FRAC_1_PI, dtype)?, self.constant(0.5, dtype)?);
        self.binary("vmul", x, &inverse, k)?;
        if cosine {
            // cos x = sin(x + π/2): k counts half turns from there.
            self.binary("vadd", &kv, &half, k)?;
        }
        self.cast_piece(k, k, "rint");
        let turns = if cosine { t } else { k };
        if cosine {
            self.binary("vsub", &kv, &half, t)?;
        }
        let turns = Value::Piece(turns.clone());
        for (at, part) in PI_PARTS.iter().enumerate() {
            let part = self.constant(*part, dtype)?;
            self.binary("vmul", &turns, &part, product)?;
            let from = if at == 0 { x.clone() } else { rv.clone() };
            self.binary("vsub", &from, &Value::Piece(product.clone()), r)?;
        }
        self.binary("vmul", &rv, &rv, t)?;
        self.horner(dtype, t, &SIN, dst)?;
        self.binary("vmul", &Value::Piece(dst.clone()), &rv, dst)?;
        // The sign: 1 - 2·(k - 2·floor(k/2)).
        self.binary("vmul", &kv, &half, t)?;
        self.cast_piece(t, t, "floor");
        let (four, minus, one) = (self.constant(4.0, dtype)?, self.constant(-2.0, dtype)?, self.constant(1.0, dtype)?);
        self.binary("vmul", &tv, &four, t)?;
        self.binary("vmul", &kv, &minus, k)?;
        self.binary("vadd", &kv, &tv, k)?;
        self.binary("vadd", &kv, &one, k)?;
        self.binary("vmul", &Value::Piece(dst.clone()), &kv, dst)
    }

    /// Powers with a number as exponent: small whole ones by multiplication, others as e^(y·ln x).
    fn power(&mut self, dtype: DType, x: &Value, y: &Value, dst: &Piece) -> Result<()> {
        let Value::Number(..) = y else { return Err(Missing("powers with an array of exponents".into())) };
        let exponent =
            self.w.number_text(y).ok_or_else(|| Missing("powers with an exponent computed at run time".into()))?;
        let here = Value::Piece(dst.clone());
        let exact = |value: f64| (exponent - value).abs() < 1e-12;
        if exact(2.0) {
            return self.binary("vmul", x, x, dst);
        }
        if exact(0.5) {
            return self.unary("vsqrt", x, dst);
        }
        if exact(-1.0) {
            let one = self.constant(1.0, dtype)?;
            return self.binary("vdiv", &one, x, dst);
        }
        let aliased = matches!(x, Value::Piece(x) if x.span == dst.span);
        if exact(3.0) && !aliased {
            self.binary("vmul", x, x, dst)?;
            return self.binary("vmul", &here, x, dst);
        }
        if exponent.fract() == 0.0 {
            return Err(Missing(format!("powers with the exponent {exponent}")));
        }
        self.unary("vln", x, dst)?;
        self.binary("vmul", &here, y, dst)?;
        self.unary("vexp", &here, dst)
    }

    fn predicate(&mut self, function: UnaryFn, dtype: DType, x: &Value, dst: &Piece, between: &[Piece]) -> Result<()> {
        match (function, between) {
            (UnaryFn::IsNan, [bits, half, rest]) => self.compare(BinaryFn::Ne, dtype, (x, x), (bits, half, rest), dst),
            (UnaryFn::IsInf, [magnitude, bits, half, rest]) => {
                let infinity = self.constant(f64::INFINITY, dtype)?;
                self.unary("vabs", x, magnitude)?;
                let magnitude = Value::Piece(magnitude.clone());
                self.compare(BinaryFn::Eq, dtype, (&magnitude, &infinity), (bits, half, rest), dst)
            }
            _ => Err(Missing(format!("a template of `{}`", function.name()))),
        }
    }

    /// Bits, then f16 zeros and ones, then bytes.
    fn compare(
        &mut self,
        function: BinaryFn,
        dtype: DType,
        (a, b): (&Value, &Value),
        (bits, half, rest): (&Piece, &Piece, &Piece),
        dst: &Piece,
    ) -> Result<()> {
        let equality = matches!(function, BinaryFn::Eq | BinaryFn::Ne);
        if !(matches!(dtype, DType::F32 | DType::F16) || dtype == DType::I32 && equality) {
            return Err(Missing(format!("a template of `{}` in {dtype}", function.name())));
        }
        // A number comes second: turned round, less becomes greater.
        let (a, b, mode) = match (a, b) {
            (Value::Number(..), Value::Piece(_)) => (b, a, turned(function)),
            (Value::Number(..), Value::Number(..)) => return Err(Missing("a comparison of two numbers".into())),
            _ => (a, b, function.name()),
        };
        let ((a_name, a_ty), (b_name, b_ty)) = (a.text(), b.text());
        let text = format!(
            "hivm.hir.vcmp ins({a_name}, {b_name} : {a_ty}, {b_ty}) outs({} : {}) compare_mode = #hivm.compare_mode<{mode}>",
            bits.name, bits.ty
        );
        let reads: Vec<&Piece> = [a, b].into_iter().filter_map(Value::piece).collect();
        self.vector(&text, &reads, &[bits]);
        let text = format!(
            "hivm.hir.vcast ins({} : {}) outs({} : {}) temp_buffer({} : {}) round_mode = #hivm.round_mode<rint>",
            bits.name, bits.ty, half.name, half.ty, rest.name, rest.ty
        );
        self.vector(&text, &[bits], &[half, rest]);
        self.cast_piece(dst, half, "trunc");
        Ok(())
    }

    /// Bytes, then f16, then bits, by which the template selects.
    fn select(&mut self, condition: &Value, a: &Value, b: &Value, dst: &Piece, between: &[Piece]) -> Result<()> {
        let ([bits, half, rest], Value::Piece(condition)) = (between, condition) else {
            return Err(Missing("a selection by one bool for a row".into()));
        };
        self.cast_piece(half, condition, "rint");
        let zero = self.constant(0.0, DType::F16)?;
        let (zero, zero_ty) = zero.text();
        let text = format!(
            "hivm.hir.vcmp ins({}, {zero} : {}, {zero_ty}) outs({} : {}) compare_mode = #hivm.compare_mode<ne>",
            half.name, half.ty, bits.name, bits.ty
        );
        self.vector(&text, &[half], &[bits]);
        let ((a_name, a_ty), (b_name, b_ty)) = (a.text(), b.text());
        let text = format!(
            "hivm.hir.vsel ins({}, {a_name}, {b_name} : {}, {a_ty}, {b_ty}) outs({} : {}) temp_buffer({} : {})",
            bits.name, bits.ty, dst.name, dst.ty, rest.name, rest.ty
        );
        let reads: Vec<&Piece> = [a, b].into_iter().filter_map(Value::piece).chain([bits]).collect();
        self.vector(&text, &reads, &[dst, rest]);
        Ok(())
    }

    /// A number of an element type.
    pub fn constant(&mut self, value: f64, dtype: DType) -> Result<Value> {
        Ok(Value::Number(self.w.number(value, dtype)?, super::writer::element(dtype)?))
    }
}

fn first(between: &[Piece]) -> Result<&Piece> {
    between.first().ok_or_else(|| Missing("scratch".into()))
}

fn turned(function: BinaryFn) -> &'static str {
    match function {
        BinaryFn::Lt => "gt",
        BinaryFn::Le => "ge",
        BinaryFn::Gt => "lt",
        BinaryFn::Ge => "le",
        other => other.name(),
    }
}
