//! Matrix products and convolutions: tiled over K, fractal and plain operands, every type.

mod programs;

use half::{bf16, f16};
use programs::*;
use tarsia_tensor::{DType, Numbers, Overflow, Tensor};
use tarsia_tile::*;

const LEFT: Layout = Layout::Fractal(Fractal { outer: Order::Z, inner: Order::N, block: [12, 1] });
const RIGHT: Layout = Layout::Fractal(Fractal { outer: Order::N, inner: Order::Z, block: [1, 32] });

/// How a product is written.
struct Shape {
    dtype: DType,
    accumulator: DType,
    left: Layout,
    right: Layout,
    /// Rows, columns, depth of a block.
    block: [i64; 3],
    /// Whether the right operand is given as `[n, k]`.
    transposed: bool,
}

fn product(s: &Shape) -> Program {
    let [bm, bn, bk] = s.block;
    let grid = [format!("(m + {}) // {bm}", bm - 1), format!("(n + {}) // {bn}", bn - 1)];
    let mut kernel = kernel("product", &[("i", &grid[0]), ("j", &grid[1])]);
    let k = &mut kernel;
    let b_shape: [&str; 2] = if s.transposed { ["n", "k"] } else { ["k", "n"] };
    let (a, b) = (k.param(s.dtype, &["m", "k"], Access::Read), k.param(s.dtype, &b_shape, Access::Read));
    let y = k.param(s.accumulator, &["m", "n"], Access::Write);
    let [m, n, depth] = [bm as usize, bn as usize, bk as usize];
    let left = k.tile_in("left", s.dtype, &[m, depth], s.left);
    let right = k.tile_in("right", s.dtype, &[depth, n], s.right);
    let acc = k.tile_in("acc", s.accumulator, &[m, n], Layout::RowMajor);
    let (i, j) = (format!("{bm}*i"), format!("{bn}*j"));
    let (rows, cols) = (format!("min({bm}, m - {i})"), format!("min({bn}, n - {j})"));
    let (rows, cols) = (rows.as_str(), cols.as_str());
    k.instr(Opcode::Fill, vec![t(acc, &[rows, cols])], vec![Operand::Real(0.0)]);
    k.each("p", "k", bk, |k| {
        let part = format!("min({bk}, k - p)");
        let part = part.as_str();
        k.copy(t(left, &[rows, part]), v(a, &[&i, "p"], &[rows, part]));
        let from = match s.transposed {
            false => v(b, &["p", &j], &[part, cols]),
            true => view(b, &[(&j, &[(1, "1")]), ("p", &[(0, "1")])], &[part, cols], None),
        };
        k.copy(t(right, &[part, cols]), from);
        let operands = vec![t(left, &[rows, part]), t(right, &[part, cols])];
        k.instr(Opcode::Mmad { accumulate: true }, vec![t(acc, &[rows, cols])], operands);
    });
    k.copy(v(y, &[&i, &j], &[rows, cols]), t(acc, &[rows, cols]));
    let mut p = P::new("product");
    let args =
        [p.input("a", s.dtype, &["m", "k"]), p.input("b", s.dtype, &b_shape), p.temp(s.accumulator, &["m", "n"])];
    p.output("y", args[2]);
    p.launch(kernel, &args);
    p.0
}

fn check(shape: &Shape, [m, n, k]: [usize; 3], values: impl Fn(usize) -> f64, tolerance: f64) {
    let make = |count: usize, seed: usize, shape_: &[usize]| {
        let numbers = Numbers::Float((0..count).map(|i| values(i * 7 + seed)).collect());
        let numbers = numbers.cast(DType::F64, shape.dtype, Overflow::Special);
        (Tensor::from_numbers(shape.dtype, shape_, &numbers).expect("a tensor"), numbers.to_f64())
    };
    let (a, av) = make(m * k, 1, &[m, k]);
    let (b, bv) = make(k * n, 2, &if shape.transposed { [n, k] } else { [k, n] });
    let at = |p: usize, j: usize| if shape.transposed { bv[j * k + p] } else { bv[p * n + j] };
    let element = |i: usize, j: usize| (0..k).map(|p| av[i * k + p] * at(p, j)).sum::<f64>();
    let expected: Vec<f64> = (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect();
    near(&run_everywhere(&product(shape), &[a, b])[0], &[m, n], &expected, tolerance);
}

fn wave(i: usize) -> f64 {
    ((i * 37 % 101) as f64 - 50.0) / 64.0
}

#[test]
fn float_products_in_panels_and_rows() {
    let f32s = |left, right, transposed| Shape {
        dtype: DType::F32,
        accumulator: DType::F32,
        left,
        right,
        block: [24, 64, 40],
        transposed,
    };
    for extents in [[1, 1, 1], [12, 32, 40], [25, 67, 83], [30, 10, 0], [0, 3, 4]] {
        for (left, right) in
            [(LEFT, RIGHT), (LEFT, Layout::RowMajor), (Layout::RowMajor, RIGHT), (Layout::RowMajor, Layout::RowMajor)]
        {
            check(&f32s(left, right, false), extents, wave, 1e-5);
        }
        check(&f32s(LEFT, RIGHT, true), extents, wave, 1e-5);
    }
}

#[test]
fn products_of_other_types_and_fractals() {
    let zz = |block| Layout::Fractal(Fractal { outer: Order::Z, inner: Order::Z, block });
    let nz = Layout::Fractal(Fractal { outer: Order::N, inner: Order::Z, block: [16, 16] });
    let fractal = |outer, inner, block| Layout::Fractal(Fractal { outer, inner, block });
    let (bytes_left, bytes_right) = (fractal(Order::Z, Order::Z, [12, 4]), fractal(Order::N, Order::N, [4, 32]));
    let cases = [
        (DType::I8, DType::I32, bytes_left, bytes_right),
        (DType::U8, DType::I32, bytes_left, bytes_right),
        (DType::F16, DType::F32, zz([16, 16]), nz),
        (DType::BF16, DType::F32, LEFT, RIGHT),
        (DType::F64, DType::F64, Layout::RowMajor, zz([4, 8])),
        (DType::I8, DType::I32, zz([16, 32]), nz),
        (DType::U8, DType::I32, LEFT, RIGHT),
        (DType::I32, DType::I32, Layout::RowMajor, Layout::RowMajor),
        (DType::I64, DType::I64, nz, nz),
    ];
    for (dtype, accumulator, left, right) in cases {
        let shape = Shape { dtype, accumulator, left, right, block: [20, 30, 18], transposed: false };
        let whole = |i: usize| (i % 11) as f64;
        check(&shape, [33, 41, 29], whole, 1e-6);
    }
}

#[test]
fn constants_in_panels_are_read_where_they_are() {
    // The right operand is a constant in panels, of f32, f16 and bf16; the left is read from its buffer.
    let (m, n, k) = (5usize, 70usize, 9usize);
    let Layout::Fractal(panels) = RIGHT else { unreachable!() };
    let value = |p: usize, j: usize| wave(p * n + j);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let mut packed = vec![0f64; RIGHT.elements(&[k, n]).expect("fits")];
        for p in 0..k {
            (0..n).for_each(|j| packed[panels.position(k, n, p, j)] = value(p, j));
        }
        let data = Tensor::from_numbers(dtype, &[packed.len()], &Numbers::Float(packed)).expect("a tensor");
        let mut kernel = kernel("packed", &[("j", "3")]);
        let a = kernel.param(DType::F32, &["m", "9"], Access::Read);
        let b = kernel.blocked_param(dtype, &["9", "70"], Access::Read, RIGHT);
        let y = kernel.param(DType::F32, &["m", "70"], Access::Write);
        let cols = "min(32, 70 - 32*j)";
        let dst = v(y, &["0", "32*j"], &["m", cols]);
        let operands = vec![v(a, &["0", "0"], &["m", "9"]), v(b, &["0", "32*j"], &["9", cols])];
        kernel.instr(Opcode::Mmad { accumulate: false }, vec![dst], operands);
        let mut p = P::new("packed");
        let a = p.input("a", DType::F32, &["m", "9"]);
        let b = p.constant(&data);
        p.0.buffers[b.0 as usize].shape = ds(&["9", "70"]);
        p.0.buffers[b.0 as usize].layout = RIGHT;
        let y = p.temp(DType::F32, &["m", "70"]);
        p.output("y", y);
        p.launch(kernel, &[a, b, y]);
        let x = noise(m * k, 5);
        let rounded = |p, j| match dtype {
            DType::F16 => f16::from_f64(value(p, j)).to_f64(),
            DType::BF16 => bf16::from_f64(value(p, j)).to_f64(),
            _ => value(p, j) as f32 as f64,
        };
        let element = |i: usize, j: usize| (0..k).map(|p| f64::from(x[i * k + p]) * rounded(p, j)).sum::<f64>();
        let expected: Vec<f64> = (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect();
        near(&run_everywhere(&p.0, &[f32s(&[m, k], &x)])[0], &[m, n], &expected, 1e-5);
    }
}

/// A 3 × 3 convolution as a product with the image's windows as columns.
fn convolution(stride: i64) -> Program {
    let out = |size: &str| format!("({size} + 1) // {stride}").replace("// 1", "");
    let (oh, ow) = if stride == 1 { ("h".to_owned(), "w".to_owned()) } else { (out("h"), out("w")) };
    let mut kernel = kernel("conv", &[("r", &oh)]);
    let k = &mut kernel;
    let x = k.param(DType::F32, &["3", "h", "w"], Access::Read);
    let weights = k.param(DType::F32, &["5", "27"], Access::Read);
    let y = k.param(DType::F32, &["5", &oh, &ow], Access::Write);
    let columns = k.tile_in("right", DType::F32, &[27, 64], RIGHT);
    let filter = k.tile_in("left", DType::F32, &[5, 27], LEFT);
    let acc = k.tile(DType::F32, &[5, 64]);
    let step = stride.to_string();
    let start = format!("{stride}*r - 1");
    let axes: [(&str, &[(usize, &str)]); 3] =
        [("0", &[(0, "1")]), (&start, &[(1, "1"), (3, &step)]), ("-1", &[(2, "1"), (4, &step)])];
    let windows = view(x, &axes, &["3", "3", "3", "1", &ow], Some(0.0));
    k.instr(Opcode::Copy { rows: 3 }, vec![t(columns, &["27", &ow])], vec![windows]);
    k.copy(t(filter, &["5", "27"]), v(weights, &["0", "0"], &["5", "27"]));
    let operands = vec![t(filter, &["5", "27"]), t(columns, &["27", &ow])];
    k.instr(Opcode::Mmad { accumulate: false }, vec![t(acc, &["5", &ow])], operands);
    let dst = view(y, &[("0", &[(0, "1")]), ("r", &[]), ("0", &[(1, "1")])], &["5", &ow], None);
    k.copy(dst, t(acc, &["5", &ow]));
    let mut p = P::new("conv");
    let args = [
        p.input("x", DType::F32, &["3", "h", "w"]),
        p.input("weights", DType::F32, &["5", "27"]),
        p.temp(DType::F32, &["5", &oh, &ow]),
    ];
    p.output("y", args[2]);
    p.launch(kernel, &args);
    p.0
}

#[test]
fn convolutions_gather_their_windows() {
    for stride in [1usize, 2] {
        for (h, w) in [(1, 1), (4, 7), (9, 50)] {
            let (oh, ow) = ((h - 1) / stride + 1, (w - 1) / stride + 1);
            let (x, weights) = (noise(3 * h * w, 6), noise(5 * 27, 7));
            let mut expected = Vec::new();
            for (o, i, j) in (0..5).flat_map(|o| (0..oh).flat_map(move |i| (0..ow).map(move |j| (o, i, j)))) {
                let mut sum = 0.0;
                for (c, a, b) in (0..3).flat_map(|c| (0..3).flat_map(move |a| (0..3).map(move |b| (c, a, b)))) {
                    let (r, s) = ((i * stride + a).wrapping_sub(1), (j * stride + b).wrapping_sub(1));
                    if r < h && s < w {
                        sum += f64::from(x[(c * h + r) * w + s]) * f64::from(weights[o * 27 + c * 9 + a * 3 + b]);
                    }
                }
                expected.push(sum);
            }
            let inputs = [f32s(&[3, h, w], &x), f32s(&[5, 27], &weights)];
            near(&run_everywhere(&convolution(stride as i64), &inputs)[0], &[5, oh, ow], &expected, 1e-5);
        }
    }
}

#[test]
fn blocked_tiles_are_operands_of_vector_instructions() {
    let mut k = kernel("blocked", &[]);
    let (x, y) = (k.param(DType::F32, &["m", "n"], Access::Read), k.param(DType::F32, &["m", "n"], Access::Write));
    let layout = Layout::Fractal(Fractal { outer: Order::N, inner: Order::Z, block: [4, 3] });
    let (a, b) = (k.tile_in("l0", DType::F32, &[10, 11], layout), k.tile_in("l0", DType::F32, &[10, 11], LEFT));
    let size = ["m", "n"];
    k.copy(t(a, &size), v(x, &["0", "0"], &size));
    k.instr(Opcode::Unary(tarsia_tensor::UnaryFn::Neg), vec![t(a, &size)], vec![t(a, &size)]);
    k.copy(t(b, &size), t(a, &size));
    k.copy(v(y, &["0", "0"], &size), t(b, &size));
    let mut p = P::new("blocked");
    let args = [p.input("x", DType::F32, &["m", "n"]), p.temp(DType::F32, &["m", "n"])];
    p.output("y", args[1]);
    p.launch(k, &args);
    for (m, n) in [(10, 11), (7, 5), (1, 1)] {
        let x = noise(m * n, 8);
        let expected: Vec<f64> = x.iter().map(|&x| -f64::from(x)).collect();
        near(&run_everywhere(&p.0, &[f32s(&[m, n], &x)])[0], &[m, n], &expected, 0.0);
    }
}
