//! Programs for tests: written ones, and a strategy for arbitrary ones, well-formed in text but meaningless otherwise.

use proptest::prelude::*;
use tarsia_tensor::{Absent, BinaryFn, Content, DType, Dim, ReduceFn, ScatterFn, Symbol, UnaryFn};

use crate::*;

/// A product with a bias on a machine with one pipe, in panels.
pub(crate) const MATMUL: &str = include_str!("samples/matmul.tile");

/// Every kind of step.
pub(crate) const STEPS: &str = include_str!("samples/steps.tile");

/// A placed and synchronised product with double buffering on a machine with two pipes.
pub(crate) const TWOPIPE: &str = include_str!("samples/twopipe.tile");

/// Items that the cube core and two vector cores share as a pipeline, with flags between the cores.
pub(crate) const LANES: &str = include_str!("samples/lanes.tile");

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-z0-9_.]{0,6}", "\\PC{0,5}", Just("a \"quoted\"\n\\name".to_owned())]
}

fn dim() -> impl Strategy<Value = Dim> {
    let leaf = prop_oneof![
        prop_oneof![-9i64..70, Just(i64::MIN), Just(i64::MAX)].prop_map(Dim::Const),
        "[a-c]|%k|n 1".prop_map(|n| Dim::symbol(&n))
    ];
    let small = prop_oneof![(-9i64..70).prop_map(Dim::Const), "[a-c]|%k|n 1".prop_map(|n| Dim::symbol(&n))];
    let deep = small.prop_recursive(3, 16, 2, |inner| {
        (inner.clone(), inner, 0..7u8).prop_map(|(a, b, op)| match op {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            3 => a.floor_div(&b.maximum(&Dim::ONE)),
            4 => a.modulo(&b.maximum(&Dim::ONE)),
            5 => a.minimum(&b),
            _ => a.maximum(&b),
        })
    });
    prop_oneof![leaf, deep]
}

fn dims() -> impl Strategy<Value = Vec<Dim>> {
    prop::collection::vec(dim(), 0..4)
}

fn symbol() -> impl Strategy<Value = Symbol> {
    "[ijk][0-9]?|%v|odd name".prop_map(|name| Symbol::new(&name))
}

fn layout() -> impl Strategy<Value = Layout> {
    let order = || prop_oneof![Just(Order::Z), Just(Order::N)];
    let fractal = (order(), order(), 1usize..33, 1usize..33)
        .prop_map(|(outer, inner, r, c)| Layout::Fractal(Fractal { outer, inner, block: [r, c] }));
    prop_oneof![Just(Layout::RowMajor), fractal]
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL)
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("NaN is not equal to itself", |r| !r.is_nan()),
        Just(f64::INFINITY),
        Just(-0.5)
    ]
}

fn operand() -> impl Strategy<Value = Operand> {
    let region = (0u32..3, dim(), prop::collection::vec((dim(), dim()), 0..3)).prop_map(|(tile, slot, axes)| {
        let (offset, size) = axes.into_iter().unzip();
        Operand::Tile(Region { tile: TileId(tile), slot, offset, size })
    });
    let axis =
        (dim(), prop::collection::vec((0usize..4, dim()), 0..3)).prop_map(|(start, steps)| Axis { start, steps });
    let view = (0u32..3, prop::collection::vec(axis, 0..3), dims(), prop::option::of(real()))
        .prop_map(|(param, axes, size, fill)| Operand::Global(View { param: ParamId(param), axes, size, fill }));
    prop_oneof![
        region,
        view,
        real().prop_map(Operand::Real),
        dim().prop_map(Operand::Index),
        (symbol(), dim()).prop_map(|(s, d)| Operand::Scalar(s, d)),
    ]
}

fn opcode() -> impl Strategy<Value = Opcode> {
    prop_oneof![
        (0usize..4).prop_map(|rows| Opcode::Copy { rows }),
        Just(Opcode::Fill),
        prop::sample::select(UnaryFn::ALL).prop_map(Opcode::Unary),
        prop::sample::select(BinaryFn::ALL).prop_map(Opcode::Binary),
        (prop::sample::select(ReduceFn::ALL), 0usize..4, any::<bool>())
            .prop_map(|(function, axis, accumulate)| Opcode::Reduce { function, axis, accumulate }),
        prop::sample::select(ScatterFn::ALL).prop_map(|function| Opcode::Scatter { function }),
        any::<bool>().prop_map(|accumulate| Opcode::Mmad { accumulate }),
        (name(), name(), dim()).prop_map(|(from, to, event)| Opcode::SetEvent { from, to, event }),
        prop::option::of(name()).prop_map(|pipe| Opcode::Barrier { pipe }),
    ]
}

fn stmt() -> impl Strategy<Value = Stmt> {
    let operands = || prop::collection::vec(operand(), 0..3);
    let instr = (opcode(), operands(), operands()).prop_map(|(op, dst, src)| Stmt::Instr(Instr { op, dst, src }));
    instr.prop_recursive(3, 12, 3, |inner| {
        let block = || prop::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            (symbol(), dim(), any::<i64>(), block()).prop_map(|(var, end, step, body)| Stmt::For {
                var,
                end,
                step,
                body
            }),
            (dim(), block(), block()).prop_map(|(condition, then, otherwise)| Stmt::If { condition, then, otherwise }),
        ]
    })
}

fn kernel() -> impl Strategy<Value = Kernel> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Update)];
    let param = (name(), dtype(), dims(), layout(), access).prop_map(|(name, dtype, shape, layout, access)| Param {
        name,
        dtype,
        shape,
        layout,
        access,
    });
    let shape = prop::collection::vec(0usize..99, 0..3);
    let tile = (name(), name(), dtype(), shape, layout(), 1usize..4, prop::option::of(any::<usize>())).prop_map(
        |(name, space, dtype, shape, layout, slots, address)| Tile {
            name,
            space,
            dtype,
            shape,
            layout,
            slots,
            address,
        },
    );
    (
        name(),
        prop::collection::vec(name(), 0..3),
        prop::collection::vec(param, 0..3),
        prop::collection::vec(tile, 0..3),
        prop::collection::vec((symbol(), dim()), 0..3),
        prop::option::of((symbol(), 1usize..4, name()).prop_map(|(var, count, space)| Lanes { var, count, space })),
        prop::collection::vec(stmt(), 0..4),
    )
        .prop_map(|(name, origin, params, tiles, grid, lanes, body)| Kernel {
            name,
            origin,
            params,
            tiles,
            grid,
            lanes,
            body,
        })
}

fn port() -> impl Strategy<Value = Port> {
    (name(), 0u32..4, dims()).prop_map(|(name, buffer, shape)| Port { name, buffer: BufferId(buffer), shape })
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    prop::collection::vec(port(), 0..3)
}

fn ids() -> impl Strategy<Value = Vec<BufferId>> {
    prop::collection::vec((0u32..4).prop_map(BufferId), 0..3)
}

fn step(body: impl Strategy<Value = Program> + Clone + 'static) -> impl Strategy<Value = Step> {
    let pairs = prop::collection::vec((0u32..3, 0u32..3).prop_map(|(r, w)| (ParamId(r), ParamId(w))), 0..2);
    let numbers = (prop::collection::vec(any::<i64>(), 0..3), prop::collection::vec(real(), 0..3));
    let axis = || (0usize..3, any::<bool>());
    prop_oneof![
        (0u32..3, ids(), pairs).prop_map(|(kernel, args, in_place)| Step::Launch {
            kernel: KernelId(kernel),
            args,
            in_place
        }),
        (name(), numbers, ports(), ids()).prop_map(|(function, (ints, reals), operands, results)| Step::Host {
            function,
            ints,
            reals,
            operands,
            results
        }),
        (0u32..4, body.clone(), body.clone(), ports(), ids()).prop_map(|(c, a, b, operands, results)| Step::If {
            condition: BufferId(c),
            then_branch: Box::new(a),
            else_branch: Box::new(b),
            operands,
            results
        }),
        (body.clone(), port(), port(), ports(), ports(), ids()).prop_map(
            |(body, trip_count, condition, carried, captured, results)| {
                Step::Loop(Box::new(LoopStep { body, trip_count, condition, carried, captured, results }))
            }
        ),
        (
            body,
            ports(),
            prop::collection::vec((port(), axis()).prop_map(|(p, (a, r))| (p, a, r)), 0..3),
            ports(),
            prop::collection::vec(axis(), 0..3),
            ids()
        )
            .prop_map(|(body, states, inputs, captured, outputs, results)| {
                Step::Scan(Box::new(ScanStep { body, states, inputs, captured, outputs, results }))
            }),
    ]
}

fn shell(steps: impl Strategy<Value = Vec<Step>>) -> impl Strategy<Value = Program> {
    let kind =
        prop_oneof![Just(BufferKind::Input), (0u32..9).prop_map(BufferKind::Constant), Just(BufferKind::Temporary)];
    let buffer = (name(), dtype(), dims(), layout(), kind).prop_map(|(name, dtype, shape, layout, kind)| Buffer {
        name,
        dtype,
        shape,
        layout,
        kind,
    });
    let absent = (name(), 0usize..99).prop_map(|(origin, bytes)| Absent { origin: origin.into(), bytes });
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Content::from),
        absent.prop_map(Content::Absent),
    ];
    let constant = data.prop_map(|data| Constant { data });
    (
        (name(), name()),
        (ports(), ports()),
        prop::collection::vec(buffer, 0..4),
        prop::collection::vec(constant, 0..2),
        prop::collection::vec(kernel(), 0..2),
        steps,
    )
        .prop_map(|((name, target), (inputs, outputs), buffers, constants, kernels, steps)| Program {
            name,
            target,
            inputs,
            outputs,
            buffers,
            constants,
            kernels,
            steps,
        })
}

/// Any program, references out of range, duplicate and odd names included.
pub(crate) fn program() -> impl Strategy<Value = Program> {
    let leaf = shell(Just(Vec::new())).boxed();
    let middle = shell(prop::collection::vec(step(leaf), 0..3)).boxed();
    shell(prop::collection::vec(step(middle), 0..3))
}
