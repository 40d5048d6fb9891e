//! Graphs as DOT, to be drawn by Graphviz: a box per node, sub-graphs as clusters.

use std::fmt::{self, Write};

use crate::{Attr, Graph, NodeId, Op, text};

/// Attributes longer than this are cut.
const LONGEST: usize = 40;

/// The graph in the DOT language.
pub fn dot(graph: &Graph) -> Dot<'_> {
    Dot(graph)
}

/// A graph to be printed with `{}`.
#[derive(Clone, Copy, Debug)]
pub struct Dot<'a>(&'a Graph);

impl fmt::Display for Dot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "digraph {} {{", Label(&self.0.name))?;
        writeln!(f, "  node [shape=box, fontname=monospace, fontsize=10];")?;
        writeln!(f, "  edge [fontname=monospace, fontsize=8];")?;
        draw(f, self.0, "n", 1)?;
        writeln!(f, "}}")
    }
}

/// Nodes are named by `prefix` and their id, so that those of sub-graphs differ.
fn draw(f: &mut fmt::Formatter<'_>, graph: &Graph, prefix: &str, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for id in graph.node_ids() {
        let (label, style) = (describe(graph, id), style(&graph[id].op));
        writeln!(f, "{indent}{prefix}{} [label={}{style}];", id.index(), Label(&label))?;
        let operands = graph.operands(id);
        for (i, value) in operands.iter().enumerate() {
            write!(f, "{indent}{prefix}{} -> {prefix}{}", value.node.index(), id.index())?;
            match (graph[value.node].types.len(), operands.len()) {
                (1, 1) => writeln!(f, ";")?,
                (1, _) => writeln!(f, " [headlabel=\"{i}\"];")?,
                _ => writeln!(f, " [headlabel=\"{i}\", taillabel=\":{}\"];", value.output)?,
            }
        }
        draw_bodies(f, graph, id, prefix, depth)?;
    }
    for (i, output) in graph.outputs().iter().enumerate() {
        writeln!(f, "{indent}{prefix}out{i} [label={}, shape=oval, style=bold];", Label(&output.name))?;
        writeln!(f, "{indent}{prefix}{} -> {prefix}out{i};", output.value.node.index())?;
    }
    Ok(())
}

fn draw_bodies(f: &mut fmt::Formatter<'_>, graph: &Graph, id: NodeId, prefix: &str, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for (i, body) in graph[id].op.subgraphs().into_iter().enumerate() {
        let inner = format!("{prefix}{}_{i}_", id.index());
        writeln!(f, "{indent}subgraph cluster_{inner} {{")?;
        writeln!(f, "{indent}  label={};", Label(&format!("%{} {}", id.index(), body.name)))?;
        draw(f, body, &inner, depth + 1)?;
        writeln!(f, "{indent}}}")?;
        if body.node_count() > 0 {
            writeln!(f, "{indent}{prefix}{} -> {inner}0 [style=dashed, arrowhead=none];", id.index())?;
        }
    }
    Ok(())
}

fn style(op: &Op) -> &'static str {
    match op {
        Op::Input { .. } => ", shape=oval, style=bold",
        Op::Constant { .. } => ", style=dashed",
        Op::Kernel { .. } => ", style=filled, fillcolor=lightgrey",
        _ => "",
    }
}

/// Id and op, attributes, result types and origin, a line each.
fn describe(graph: &Graph, id: NodeId) -> String {
    let node = &graph[id];
    let mut label = format!("%{} {}", id.index(), node.op.name());
    if let Op::Input { index, .. } = &node.op {
        let name = graph.inputs().get(*index).map_or("", |(name, _)| name);
        let _ = write!(label, " {name}");
    } else {
        let shown =
            node.op.attrs().into_iter().filter(|(name, attr)| *name != "types" && !matches!(attr, Attr::Graph(_)));
        for (name, attr) in shown {
            let value = text::attribute(&attr);
            let cut: String = value.chars().take(LONGEST).collect();
            let dots = if cut.len() < value.len() { "…" } else { "" };
            let _ = write!(label, "\n{name}: {cut}{dots}");
        }
    }
    for ty in &node.types {
        let _ = write!(label, "\n{ty}");
    }
    for name in node.origin.names() {
        let _ = write!(label, "\n# {name}");
    }
    label
}

/// A quoted label; only quotes, backslashes and ends of line have a meaning in DOT.
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn nodes_edges_and_clusters_are_drawn() {
        let text = "graph @\"a \\\"b\\\"\"(%x \"in\\\\put\": f32[n]) {
  %1 = constant 2.0 : f32[]
  %2 = mul(%x, %1)  # scale
  %3 = kernel(%2) {body: graph @k(%x: f32[n]) {
    %1 = top_k(%x) {axis: 0, k: 1, largest: true}
    %2 = cast(%1:1) {dtype: f32, saturate: true}
    return %2 as \"y\"
  }}
  return %3 as \"y\"
}";
        let graph: Graph = text.parse().unwrap();
        let expected = r#"digraph "a \"b\"" {
  node [shape=box, fontname=monospace, fontsize=10];
  edge [fontname=monospace, fontsize=8];
  n0 [label="%0 input in\\put\nf32[n]", shape=oval, style=bold];
  n1 [label="%1 constant\nvalue: 2.0\nf32[]", style=dashed];
  n2 [label="%2 mul\nf32[n]\n# scale"];
  n0 -> n2 [headlabel="0"];
  n1 -> n2 [headlabel="1"];
  n3 [label="%3 kernel\nf32[1]", style=filled, fillcolor=lightgrey];
  n2 -> n3;
  subgraph cluster_n3_0_ {
    label="%3 k";
    n3_0_0 [label="%0 input x\nf32[n]", shape=oval, style=bold];
    n3_0_1 [label="%1 top_k\naxis: 0\nk: 1\nlargest: true\nf32[1]\ni64[1]"];
    n3_0_0 -> n3_0_1;
    n3_0_2 [label="%2 cast\ndtype: f32\nsaturate: true\nf32[1]"];
    n3_0_1 -> n3_0_2 [headlabel="0", taillabel=":1"];
    n3_0_out0 [label="y", shape=oval, style=bold];
    n3_0_2 -> n3_0_out0;
  }
  n3 -> n3_0_0 [style=dashed, arrowhead=none];
  nout0 [label="y", shape=oval, style=bold];
  n3 -> nout0;
}
"#;
        assert_eq!(dot(&graph).to_string(), expected);
    }

    #[test]
    fn every_random_graph_is_drawn_with_balanced_quotes() {
        for seed in 0..100 {
            let (graph, _) = random::graph(seed, &random::Options::default());
            let drawing = dot(&graph).to_string();
            let quotes = |line: &str| line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            assert!(drawing.lines().all(|line| quotes(line) % 2 == 0), "seed {seed}\n{drawing}");
            assert_eq!(drawing.matches('{').count(), drawing.matches('}').count(), "seed {seed}");
        }
    }
}
