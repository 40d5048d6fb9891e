//! The structure of models: operator sets, names, cycles, functions; and that all problems are told at once.

use onnx_protobuf::{ModelProto, attribute_proto::AttributeType};

use crate::build::{
    branch, call, full_node, function, graph, int, model, node, open, opset, problems, raw, reference, value,
};

fn relu() -> onnx_protobuf::GraphProto {
    graph(&["x"], &["y"], vec![node("Relu", &["x"], &["y"])])
}

fn with_opsets(imports: Vec<onnx_protobuf::OperatorSetIdProto>) -> ModelProto {
    ModelProto { opset_import: imports, ..model(relu(), vec![]) }
}

#[test]
fn operator_sets_1_to_28_are_read() {
    for version in 1..=28 {
        for domain in ["", "ai.onnx"] {
            let opened = open(&with_opsets(vec![opset(domain, version)])).unwrap();
            let node = opened.graph().nodes().next().unwrap();
            assert_eq!((node.domain(), node.version()), ("", Some(version)));
        }
    }
    for version in [-1, 0, 29] {
        let problems = problems(&with_opsets(vec![opset("", version)]));
        let expected =
            format!("node `Relu(y)` (Relu of ai.onnx {version}): operator set ai.onnx {version} is not one of 1 to 28");
        assert_eq!(problems, [expected]);
    }
}

#[test]
fn imports_that_no_node_uses_are_accepted() {
    let imports = vec![opset("", 9), opset("ai.onnx", 23), opset("com.example", 99), opset("ai.onnx.ml", -4)];
    let opened = open(&with_opsets(imports)).unwrap();
    // Two spellings of one domain: the higher version counts.
    let all: Vec<(&str, i64)> = opened.opsets().iter().collect();
    assert_eq!(all, [("", 23), ("ai.onnx.ml", -4), ("com.example", 99)]);
    assert_eq!(opened.opsets().version("ai.onnx"), Some(23));
}

#[test]
fn a_domain_that_is_not_imported_is_told_once() {
    let nodes = vec![node("A", &["x"], &["a"]), node("B", &["a"], &["y"])];
    let nodes = nodes.into_iter().map(|n| full_node("", "com.example", n, vec![])).collect();
    let problems = problems(&model(graph(&["x"], &["y"], nodes), vec![]));
    assert_eq!(problems, ["node `A(a)` (A of com.example): the operator set of domain `com.example` is not imported"]);
}

#[test]
fn ir_versions_3_to_14_are_read() {
    let at = |ir_version| ModelProto { ir_version, ..model(relu(), vec![]) };
    assert!((3..=14).all(|version| open(&at(version)).is_ok()));
    for version in [i64::MIN, 0, 2, 15, i64::MAX] {
        assert_eq!(problems(&at(version)), [format!("IR version {version} is not one of 3 to 14")]);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let nodes = vec![
        full_node("one", "", node("Add", &["x", "nowhere"], &["a"]), vec![int("k", 1), int("k", 2)]),
        full_node("two", "", node("Mul", &["a", ""], &["a"]), vec![]),
        full_node("three", "", node("", &["lost"], &["b"]), vec![]),
        full_node("four", "", node("Neg", &["x"], &["w"]), vec![reference("axis", "outer", AttributeType::INT)]),
    ];
    let mut main = graph(&["x", "x"], &["y"], nodes);
    main.initializer = vec![raw(1, &[1], &[0; 4]), raw(1, &[1], &[0; 4])];
    let found = problems(&model(main, vec![]));
    let expected = [
        "the value `x` is defined more than once",
        "the value `w` is defined more than once",
        "node `two` (Mul of ai.onnx 20): the value `a` is defined more than once",
        "node `four` (Neg of ai.onnx 20): the value `w` is defined more than once",
        "node `one` (Add of ai.onnx 20): nothing defines the value `nowhere`",
        "node `one` (Add of ai.onnx 20), attribute `k`: the attribute is given more than once",
        "node `three` ( of ai.onnx 20): nothing defines the value `lost`",
        "node `three` ( of ai.onnx 20): the node has no operator",
        "node `four` (Neg of ai.onnx 20), attribute `axis`: it stands for `outer` of a calling node, but is not in a function",
        "graph `g`: nothing defines its output `y`",
    ];
    // The duplicate definition of `a` belongs to the first node, so `two` only uses it.
    assert_eq!(found, expected);
}

#[test]
fn nodes_in_any_order_but_no_cycle() {
    let nodes = vec![node("C", &["b"], &["y"]), node("A", &["x"], &["a"]), node("B", &["a", "a"], &["b"])];
    let opened = open(&model(graph(&["x"], &["y"], nodes), vec![])).unwrap();
    let order: Vec<&str> = opened.graph().ordered_nodes().iter().map(|node| node.op_type()).collect();
    assert_eq!(order, ["A", "B", "C"]);
    let order: Vec<&str> = opened.graph().nodes().map(|node| node.op_type()).collect();
    assert_eq!(order, ["C", "A", "B"]);
}

#[test]
fn independent_nodes_keep_the_order_of_the_file() {
    let nodes = (0..100).map(|i| node("N", &["x"], &[&format!("v{}", (i * 37) % 100)])).collect();
    let opened = open(&model(graph(&["x"], &["v0"], nodes), vec![])).unwrap();
    let names = |nodes: Vec<tarsia_onnx::Node<'_>>| nodes.iter().map(|n| n.name()).collect::<Vec<_>>();
    assert_eq!(names(opened.graph().ordered_nodes()), names(opened.graph().nodes().collect()));
}

#[test]
fn every_cycle_is_named() {
    let named = |name: &str, input: &str, output: &str| full_node(name, "", node("N", &[input], &[output]), vec![]);
    let nodes = vec![
        named("a", "c", "a"),
        named("b", "a", "b"),
        named("c", "b", "c"),
        named("self", "s", "s"),
        named("after", "c", "y"),
        named("free", "x", "f"),
    ];
    let found = problems(&model(graph(&["x"], &["y"], nodes), vec![]));
    assert_eq!(
        found,
        [
            "nodes depend on one another in a cycle: b → c → a → b",
            "nodes depend on one another in a cycle: self → self"
        ]
    );
}

#[test]
fn a_cycle_through_a_sub_graph_is_found() {
    let body = graph(&[], &["t"], vec![node("Neg", &["y"], &["t"])]);
    let nodes = vec![
        full_node("if", "", node("If", &["c"], &["x"]), vec![branch("then_branch", body)]),
        full_node("neg", "", node("Neg", &["x"], &["y"]), vec![]),
    ];
    let found = problems(&model(graph(&["c"], &["y"], nodes), vec![]));
    assert_eq!(found, ["nodes depend on one another in a cycle: neg → if → neg"]);
}

#[test]
fn sub_graphs_see_the_graphs_around_them() {
    let inner = graph(&["i"], &["o"], vec![node("Add", &["i", "late"], &["m"]), node("Add", &["m", "x"], &["o"])]);
    let outer =
        graph(&["x"], &["o"], vec![full_node("loop", "", node("Loop", &[], &["o"]), vec![branch("body", inner)])]);
    let nodes = vec![
        full_node("if", "", node("If", &["c"], &["y"]), vec![branch("then_branch", outer)]),
        full_node("late", "", node("Neg", &["c"], &["late"]), vec![]),
    ];
    let main = graph(&["c"], &["y"], nodes);
    let opened = open(&model(main.clone(), vec![])).unwrap();
    let order: Vec<String> = opened.graph().ordered_nodes().iter().map(|node| node.name()).collect();
    assert_eq!(order, ["late", "if"]);
    let branch = opened.graph().nodes().next().unwrap().attr_graph("then_branch").unwrap();
    assert_eq!(branch.captures(), ["late"]);
    let body = branch.nodes().next().unwrap().attr_graph("body").unwrap();
    assert_eq!(body.captures(), ["late", "x"]);

    // What a sub-graph defines is not seen around it.
    let mut leak = main;
    leak.output.push(value("m"));
    assert_eq!(problems(&model(leak, vec![])), ["graph `g`: nothing defines its output `m`"]);
}

#[test]
fn an_initialiser_may_be_an_input_but_not_a_result() {
    let mut main = graph(&["w"], &["y"], vec![node("Neg", &["w"], &["y"])]);
    main.initializer = vec![raw(1, &[1], &[0; 4])];
    assert!(open(&model(main.clone(), vec![])).is_ok());
    main.node.push(node("Neg", &["y"], &["w"]));
    assert_eq!(
        problems(&model(main, vec![]))[0],
        "node `Neg(w)` (Neg of ai.onnx 20): the value `w` is defined more than once"
    );
}

#[test]
fn functions_that_call_themselves_are_refused() {
    let f = |name: &str, inner: &str| function(name, &["a"], &["b"], vec![call(inner, &["a"], &["b"])]);
    let main = graph(&["x"], &["y"], vec![call("f", &["x"], &["y"])]);
    let found = problems(&model(main.clone(), vec![f("f", "g"), f("g", "f")]));
    assert_eq!(found, ["functions call one another in a cycle: local::g → local::f → local::g"]);

    let inside = full_node(
        "if",
        "",
        node("If", &["a"], &["b"]),
        vec![branch("then_branch", graph(&[], &["t"], vec![call("f", &["a"], &["t"])]))],
    );
    let found = problems(&model(main, vec![function("f", &["a"], &["b"], vec![inside])]));
    assert_eq!(found, ["functions call one another in a cycle: local::f → local::f"]);
}

#[test]
fn wrong_functions_and_calls() {
    let f = || function("f", &["a"], &["b"], vec![node("Neg", &["a"], &["b"])]);
    let main = |node| graph(&["x"], &["y"], vec![node]);
    let found = problems(&model(main(call("f", &["x", "x"], &["y", "z"])), vec![f()]));
    assert_eq!(found.len(), 2);
    assert!(
        found[0].contains("node `f(y)` (f of local 1): the call has 2 inputs, but the function has 1"),
        "{found:?}"
    );
    assert!(found[1].contains("the call has 2 outputs, but the function has 1"), "{found:?}");
    let found = problems(&model(main(call("f", &["x"], &["y"])), vec![f(), f()]));
    assert_eq!(found, ["function local::f is defined more than once"]);
    let mut wanted = call("f", &["x"], &["y"]);
    wanted.overload = "other".into();
    assert!(problems(&model(main(wanted), vec![f()]))[0].contains("no function has this name with overload `other`"));
    let broken = function("f", &["a"], &["b"], vec![node("Neg", &["q"], &["b"])]);
    let found = problems(&model(main(call("f", &["x"], &["y"])), vec![broken]));
    assert_eq!(found, ["function local::f, node `Neg(b)` (Neg of ai.onnx 20): nothing defines the value `q`"]);
}

#[test]
fn a_function_has_its_own_operator_sets() {
    let mut f = function("f", &["a"], &["b"], vec![node("Neg", &["a"], &["b"])]);
    f.opset_import = vec![opset("", 13)];
    let main = model(graph(&["x"], &["y"], vec![call("f", &["x"], &["y"])]), vec![f.clone()]);
    let opened = open(&main).unwrap();
    let body = opened.graph().nodes().next().unwrap().call().unwrap();
    assert_eq!((body.opsets().version(""), body.nodes().next().unwrap().version()), (Some(13), Some(13)));
    f.opset_import.clear();
    let main = model(graph(&["x"], &["y"], vec![call("f", &["x"], &["y"])]), vec![f]);
    assert_eq!(
        problems(&main),
        ["function local::f, node `Neg(b)` (Neg of ai.onnx): the operator set of domain `ai.onnx` is not imported"]
    );
}

#[test]
fn graphs_are_not_given_to_functions() {
    let body = || branch("body", graph(&[], &["t"], vec![call("f", &[], &["t"])]));
    let refer = reference("then_branch", "body", AttributeType::GRAPH);
    let inside = full_node("if", "", node("If", &["a"], &["b"]), vec![refer]);
    let mut f = function("f", &["a"], &["b"], vec![inside]);
    f.attribute = vec!["body".into()];
    let main = |attributes| graph(&["x"], &["y"], vec![full_node("n", "local", node("f", &["x"], &["y"]), attributes)]);
    let found = problems(&model(main(vec![body()]), vec![f.clone()]));
    let expected = "node `n` (f of local 1), attribute `body`: not supported: a graph as an attribute of a function";
    assert_eq!(found, [expected]);
    (f.attribute, f.attribute_proto) = (vec![], vec![body()]);
    let found = problems(&model(main(vec![]), vec![f]));
    let expected = "function local::f: not supported: a graph as the default of the function's attribute `body`";
    assert_eq!(found, [expected]);
}

#[test]
fn control_characters_of_names_are_escaped() {
    let nodes = vec![full_node("a\x1b[2Jb", "", node("Neg", &["q\n"], &["y"]), vec![])];
    let found = problems(&model(graph(&[], &["y"], nodes), vec![]));
    assert_eq!(found, ["node `a\\u{1b}[2Jb` (Neg of ai.onnx 20): nothing defines the value `q\\n`"]);
}
