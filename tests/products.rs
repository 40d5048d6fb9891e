//! Products of which every core keeps an operand in the exchange space, and attentions, which are products in a pipeline: results are those
//! of the reference evaluation, whatever the sizes, and all of it can be said in HIVM.

use tarsia::{
    DType, Machine, Options, Phase, Session, SessionOptions, Start, Tensor, compile_with,
    graph::{Graph, eval, text},
    hivm::export::{Form, export},
    tile::Program,
};

/// What the right operand is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Right {
    /// A matrix as it lies, or turned around.
    Rows,
    Turned,
    /// 8-bit numbers times a scale for every column.
    Quantised,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// Rows, columns and depth.
    size: [usize; 3],
    right: Right,
    /// Whether vector cores finish the product.
    finished: bool,
    cores: usize,
}

const fn case(size: [usize; 3], right: Right, finished: bool, cores: usize) -> Case {
    Case { size, right, finished, cores }
}

const CASES: [Case; 9] = [
    case([1024, 768, 768], Right::Rows, false, 2),
    case([1000, 700, 900], Right::Rows, false, 2),
    case([1024, 768, 768], Right::Turned, false, 2),
    case([1024, 512, 640], Right::Turned, true, 2),
    case([1024, 512, 640], Right::Rows, true, 2),
    case([512, 768, 512], Right::Quantised, false, 2),
    case([500, 600, 700], Right::Quantised, true, 2),
    // One column of blocks; one core.
    case([2048, 200, 512], Right::Rows, false, 3),
    case([1111, 333, 600], Right::Rows, false, 1),
];

impl Case {
    fn graph(&self) -> Graph {
        let Case { size: [m, n, k], right, finished, .. } = *self;
        let (b, spec) = match right {
            Right::Rows => (format!("f16[{k}, {n}]"), "ab,bc->ac"),
            Right::Turned => (format!("f16[{n}, {k}]"), "ab,cb->ac"),
            Right::Quantised => (format!("i8[{k}, {n}]"), "ab,bc->ac"),
        };
        let scaled = match right {
            Right::Quantised => format!(
                "%3 = cast(%1) {{dtype: f16, saturate: true}} : f16[{k}, {n}]\n  %4 = mul(%3, %2) : f16[{k}, {n}]\n  "
            ),
            _ => String::new(),
        };
        let operand = if right == Right::Quantised { "%4" } else { "%1" };
        let (last, result) = match finished {
            true => (format!("%6 = gelu(%5) {{tanh: false}} : f16[{m}, {n}]\n  "), "%6"),
            false => (String::new(), "%5"),
        };
        let text = format!(
            "graph @product(%0 \"a\": f16[{m}, {k}], %1 \"b\": {b}, %2 \"scale\": f16[{n}]) {{\n  {scaled}%5 = \
             contract(%0, {operand}) {{spec: \"{spec}\", dtype: f16}} : f16[{m}, {n}]\n  {last}return {result} as \
             \"y\"\n}}\n"
        );
        text::parse(&text).expect("a graph")
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Case { size: [m, n, k], right, .. } = *self;
        let right = match right {
            Right::Rows => random(DType::F16, &[k, n], 1.0, 2),
            Right::Turned => random(DType::F16, &[n, k], 1.0, 2),
            Right::Quantised => random(DType::I8, &[k, n], 100.0, 2),
        };
        vec![random(DType::F16, &[m, k], 1.0 / (k as f64).sqrt(), 1), right, random(DType::F16, &[n], 0.01, 3)]
    }
}

/// Numbers that look random, between `-most` and `most`.
fn random(dtype: DType, shape: &[usize], most: f64, seed: u64) -> Tensor {
    let mut drawn = seed;
    let mut draw = || {
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((drawn >> 40) as f64 / f64::from(1 << 23) - 1.0) * most) as f32
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    let values = Tensor::from_slice(shape, &values).expect("as many as the shape has");
    Tensor::from_numbers(dtype, shape, &values.numbers().expect("numbers")).expect("as many as the shape has")
}

/// How many chunks cores keep: the copies of a tile in the exchange space, if they are more than a ring has.
fn kept(program: &Program) -> Option<usize> {
    let tiles = program.kernels.iter().flat_map(|kernel| &kernel.tiles);
    tiles.filter(|tile| tile.space == "ws" && tile.slots > 2).map(|tile| tile.slots).next()
}

/// Compiles a graph for so many cores of a machine, and compares its result with the reference evaluation.
fn check(what: &str, graph: &Graph, inputs: &[Tensor], machine: &Machine, cores: usize) -> Program {
    let machine = tarsia::with_cores(machine, cores).expect("fewer cores");
    let start = Start::Graph(graph.clone());
    let compiled = compile_with(start, Phase::Tiles, &machine, Options::default()).expect("it compiles");
    let program = compiled.program.expect("a program");
    let missing = export(&program, &machine, Form::Placed).unsupported;
    assert!(missing.is_empty(), "{what}: not in HIVM: {missing:?}");
    let expected = eval::run(graph, inputs).expect("it evaluates").remove(0);
    let session = Session::new(program.clone(), &SessionOptions::default()).expect("a session");
    let found = session.run(inputs).expect("it runs").remove(0);
    let tolerance = tarsia::Tolerance { rtol: 2e-3, atol: 2e-3, random: false };
    let error = tarsia::difference("y", &expected, &found, tolerance);
    assert!(error.reason.is_empty(), "{what}: {}", error.reason);
    program
}

/// How many chunks of a product's operand stay.
fn staying(case: Case, machine: &Machine) -> Option<usize> {
    kept(&check(&format!("{case:?}"), &case.graph(), &case.inputs(), machine, case.cores))
}

/// Attention over a cache that all heads share: `batch` sequences, heads, rows, keys; a key is a latent part, which is the value too, and a
/// part of its own.
fn shared_cache(
    [batch, heads, rows, keys]: [usize; 4],
    latent: usize,
    own: usize,
    cores: usize,
    machine: &Machine,
) -> Program {
    let head = latent + own;
    let text = format!(
        "graph @latent(%0 \"q\": f16[{batch}, {heads}, {rows}, {head}], %1 \"c\": f16[{batch}, 1, {keys}, {latent}], %2 \"r\": \
         f16[{batch}, 1, {keys}, {own}]) {{\n  %3 = concat(%1, %2) {{axis: 3}} : f16[{batch}, 1, {keys}, {head}]\n  %4 = \
         attention(%0, %3, %1) {{scale: {}}} : f16[{batch}, {heads}, {rows}, {latent}]\n  return %4 as \"y\"\n}}\n",
        1.0 / (head as f64).sqrt()
    );
    let inputs = [
        random(DType::F16, &[batch, heads, rows, head], 3.0, 1),
        random(DType::F16, &[batch, 1, keys, latent], 1.0, 2),
        random(DType::F16, &[batch, 1, keys, own], 1.0, 3),
    ];
    let graph = text::parse(&text).expect("a graph");
    check(&format!("{:?}", [batch, heads, rows, keys]), &graph, &inputs, machine, cores)
}

#[test]
fn attention_over_a_shared_cache_is_right_whatever_its_length() {
    let machine = Machine::builtin("ascend910b2").expect("a built-in machine");
    // Shorter than a step of parts, one, two, and two and a bit; more than a chunk of keys; a length that is whole chunks.
    for (size, cores) in [
        ([1, 16, 1, 33], 1),
        ([2, 32, 1, 96], 1),
        ([3, 128, 1, 192], 1),
        ([2, 100, 1, 200], 2),
        ([5, 64, 1, 1100], 2),
        ([3, 32, 2, 2048], 1),
    ] {
        shared_cache(size, 512, 64, cores, &machine);
    }
    shared_cache([4, 8, 3, 700], 128, 32, 3, &machine);
}

/// Every core makes parts a block of keys later than the one before: by less than a pass, by a pass and more, by almost a chunk.
#[test]
fn attention_whose_cores_begin_one_after_the_other_is_right() {
    let text = "extends = \"ascend910b2\"\nname = \"low\"\n[[space]]\nname = \"l1\"\nbytes = 393216\n";
    let low = Machine::from_toml(text).expect("a description");
    // Two passes of six and five blocks of 96 keys.
    let program = shared_cache([26, 8, 1, 2200], 512, 64, 12, &low);
    assert!(program.to_string().contains("mod(%core, 11)"), "cores begin together");
    // Two passes of four blocks of 128 keys; whole chunks.
    let machine = Machine::builtin("ascend910b2").expect("a built-in machine");
    let program = shared_cache([16, 4, 1, 3072], 512, 64, 8, &machine);
    assert!(program.to_string().contains("mod(%core, 8)"), "cores begin together");
    // Three passes; one pass, of which every other core is late.
    shared_cache([26, 4, 1, 2100], 768, 64, 12, &machine);
    shared_cache([6, 8, 1, 2100], 128, 32, 3, &machine);
}

#[test]
fn an_operand_that_stays_changes_no_result() {
    let machine = Machine::builtin("ascend910b2").expect("a built-in machine");
    let kept: Vec<Option<usize>> = CASES.iter().map(|&case| staying(case, &machine)).collect();
    let stays =
        |right: Right| CASES.iter().zip(&kept).filter(move |(case, kept)| case.right == right && kept.is_some());
    for right in [Right::Rows, Right::Turned, Right::Quantised] {
        assert!(stays(right).count() > 0, "{right:?} stays nowhere: {kept:?}");
    }
}

#[test]
fn what_the_exchange_space_does_not_hold_is_loaded_as_it_lies() {
    let machine = Machine::builtin("ascend910b2").expect("a built-in machine");
    let case = case([1024, 768, 2048], Right::Rows, false, 1);
    let whole = staying(case, &machine).expect("all of it stays");
    let text = "extends = \"ascend910b2\"\nname = \"narrow\"\n[[space]]\nname = \"ws\"\nbytes = 1048576\n";
    let narrow = Machine::from_toml(text).expect("a description");
    let part = staying(case, &narrow).expect("a part of it stays");
    assert!(part < whole, "{part} of {whole} chunks");
}
