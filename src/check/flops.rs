//! How many arithmetic operations a graph takes, as a function of its symbols (see [`super::Check::flops`]).

use tarsia_graph::{Graph, Node, NodeId, Op, Type, Value, composite};
use tarsia_tensor::{Dim, Numbers};

/// The operations of a graph whose inputs are not known.
pub(super) fn flops(graph: &Graph) -> Dim {
    let mut varies = vec![false; graph.node_count()];
    let mut sum = Dim::ZERO;
    for id in graph.node_ids() {
        let node = &graph[id];
        let given = matches!(node.op, Op::Input { .. } | Op::Random { .. });
        let operands = graph.operands(id);
        varies[id.index()] = given || operands.iter().any(|value| varies[value.node.index()]);
        if varies[id.index()] {
            let types: Vec<&Type> = operands.iter().map(|&value| graph.ty(value)).collect();
            sum = sum + of_node(graph, id, node, &types);
        }
    }
    sum
}

fn of_node(graph: &Graph, id: NodeId, node: &Node, operands: &[&Type]) -> Dim {
    let result = node.types.first().map_or(Dim::ZERO, Type::count);
    let operand = |index: usize| operands.get(index).map_or(Dim::ZERO, |ty| ty.count());
    match &node.op {
        Op::Unary(_) | Op::Binary(_) => result,
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Scan { .. } => operand(0),
        Op::Contract { spec, .. } => contraction(&spec.lhs, &spec.rhs, operands),
        Op::Conv { .. } => {
            let window = operands.get(1).map_or(Dim::ZERO, |weights| Dim::product(weights.shape.iter().skip(1)));
            Dim::Const(2) * result * window
        }
        Op::WindowReduce { window, .. } => result * Dim::from(window.iter().product::<usize>()),
        Op::ScatterRows { .. } | Op::ScatterAlong { .. } => operand(2),
        Op::If { then_branch, else_branch, .. } => flops(then_branch).maximum(&flops(else_branch)),
        Op::Loop { body, carried, types } => iterations(graph, id, types.get(*carried)) * flops(body),
        Op::ScanLoop { body, states, input_axes, .. } => {
            let scanned = operands.get(*states).zip(input_axes.first());
            scanned.and_then(|(ty, &axis)| ty.shape.get(axis).cloned()).unwrap_or(Dim::ONE) * flops(body)
        }
        Op::Kernel { body } => flops(body),
        op => expanded(op, operands).unwrap_or(Dim::ZERO),
    }
}

/// What a composite expands to; `None` of other ops.
fn expanded(op: &Op, operands: &[&Type]) -> Option<Dim> {
    let mut graph = Graph::default();
    let values: Vec<Value> = operands.iter().map(|ty| graph.add_input("", (*ty).clone())).collect();
    composite::expand(&mut graph, op, &values, &tarsia_graph::Origin::default()).ok()??;
    Some(flops(&graph))
}

fn contraction(lhs: &[u8], rhs: &[u8], operands: &[&Type]) -> Dim {
    let [left, right, ..] = operands else { return Dim::ZERO };
    let free = rhs.iter().zip(&right.shape).filter(|(letter, _)| !lhs.contains(letter)).map(|(_, size)| size);
    Dim::Const(2) * left.count() * Dim::product(free)
}

/// How often a loop runs: its trip count where the graph knows it, else how many results it stacks, else a symbol named after it.
fn iterations(graph: &Graph, id: NodeId, stacked: Option<&Type>) -> Dim {
    // A larger count only says that the condition ends the loop.
    const LONGEST: i64 = 1 << 40;
    let count = graph.operands(id).first().copied();
    let known = count.and_then(|count| match &graph[count.node].op {
        Op::Size { dim } => Some(dim.clone()),
        _ => match graph.constant(count)?.numbers().ok()? {
            Numbers::Int(values) => values.first().filter(|&&count| count < LONGEST).map(|&count| Dim::Const(count)),
            _ => None,
        },
    });
    known.or_else(|| stacked?.shape.first().cloned()).unwrap_or_else(|| {
        let name = graph[id].origin.names().next().unwrap_or("loop").to_owned();
        Dim::symbol(&format!("{name}.iterations"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tarsia_graph::{Origin, ReduceFn, UnaryFn};
    use tarsia_tensor::{DType, Tensor};

    fn input(graph: &mut Graph, shape: &[Dim]) -> Value {
        graph.add_input("x", Type::new(DType::F32, shape.to_vec()))
    }

    fn add(graph: &mut Graph, op: Op, operands: &[Value]) -> Value {
        graph.add(op, operands, Origin::of("node")).expect("it fits").into()
    }

    #[test]
    fn a_multiply_add_is_two_and_a_function_one() {
        let (n, mut graph) = (Dim::symbol("n"), Graph::new("g"));
        let x = input(&mut graph, &[n.clone(), Dim::Const(4)]);
        let w = graph.add_constant(Tensor::from_slice(&[4, 3], &[0f32; 12]).expect("12 values"), Origin::default());
        let spec = "ab,bc->ac".parse().expect("a contraction");
        let y = add(&mut graph, Op::Contract { spec, dtype: DType::F32 }, &[x, w]);
        assert_eq!(flops(&graph).to_string(), "24*n");
        let z = add(&mut graph, Op::Unary(UnaryFn::Exp), &[y]);
        assert_eq!(flops(&graph).to_string(), "27*n");
        add(&mut graph, Op::Reduce { function: ReduceFn::Sum, axes: vec![1] }, &[z]);
        assert_eq!(flops(&graph).to_string(), "30*n");
        add(&mut graph, Op::Transpose { perm: vec![1, 0] }, &[z]);
        assert_eq!(flops(&graph).to_string(), "30*n", "a move is nothing");
        add(&mut graph, Op::Unary(UnaryFn::Exp), &[w]);
        assert_eq!(flops(&graph).to_string(), "30*n", "a constant is computed before the run");
        let before = flops(&graph);
        add(&mut graph, Op::Softmax { axis: 1 }, &[y]);
        assert_eq!(flops(&graph) - before, Dim::Const(15) * n, "max, subtract, exp, sum, divide");
    }

    #[test]
    fn loops_count_their_iterations_and_branches_the_longer_one() {
        let body = |count: usize| {
            let mut body = Graph::new("body");
            let x = input(&mut body, &[Dim::Const(8)]);
            let y = (0..count).fold(x, |y, _| add(&mut body, Op::Unary(UnaryFn::Exp), &[y]));
            body.add_output("y", y);
            Arc::new(body)
        };
        let mut graph = Graph::new("g");
        let condition = graph.add_input("c", Type::new(DType::Bool, Vec::new()));
        let x = input(&mut graph, &[Dim::Const(8)]);
        let types = vec![Type::new(DType::F32, vec![Dim::Const(8)])];
        add(&mut graph, Op::If { then_branch: body(1), else_branch: body(3), types }, &[condition, x]);
        assert_eq!(flops(&graph), Dim::Const(24));
    }
}
