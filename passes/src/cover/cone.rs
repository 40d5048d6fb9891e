//! Cones: the classes that a kernel computes inside, one alternative each, down to the values it reads.

use std::hash::{DefaultHasher, Hash, Hasher};

use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, KernelKind, NodeId, Op, Origin, Value};

use super::{
    network::{Alternative, Network, Pin, Role, is_direct},
    work::CutWork,
};

/// What a cone computes and what it reads. The root is the last class of `inner`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cone {
    /// Class and alternative, ascending.
    pub inner: SmallVec<[(u32, u16); 8]>,
    /// What it reads from outside, ascending; immediates only where an op needs them stored.
    pub leaves: SmallVec<[Pin; 4]>,
}

impl Cone {
    /// A cone of one op, with nothing below it yet.
    pub fn root(class: u32, alternative: u16) -> Cone {
        Cone { inner: SmallVec::from_slice(&[(class, alternative)]), leaves: SmallVec::new() }
    }

    /// Whether `class` is computed inside.
    pub fn computes(&self, class: u32) -> bool {
        self.inner.binary_search_by_key(&class, |(class, _)| *class).is_ok()
    }

    /// Whether a result of `class` is read.
    pub fn reads(&self, class: u32) -> bool {
        self.leaves.iter().any(|pin| pin.class == class)
    }

    /// The cone with one more value read, unless it is computed inside.
    pub fn with_leaf(mut self, pin: Pin) -> Cone {
        if !self.computes(pin.class)
            && let Err(at) = self.leaves.binary_search(&pin)
        {
            self.leaves.insert(at, pin);
        }
        self
    }

    /// Both cones as one; `None` if they compute a class in different ways.
    pub fn union(&self, other: &Cone) -> Option<Cone> {
        let mut inner = SmallVec::with_capacity(self.inner.len() + other.inner.len());
        let (mut a, mut b) = (self.inner.as_slice(), other.inner.as_slice());
        while let (Some(x), Some(y)) = (a.first(), b.first()) {
            match x.0.cmp(&y.0) {
                std::cmp::Ordering::Equal if x.1 != y.1 => return None,
                std::cmp::Ordering::Equal => {
                    inner.push(*x);
                    (a, b) = (&a[1..], &b[1..]);
                }
                std::cmp::Ordering::Less => {
                    inner.push(*x);
                    a = &a[1..];
                }
                std::cmp::Ordering::Greater => {
                    inner.push(*y);
                    b = &b[1..];
                }
            }
        }
        inner.extend_from_slice(a);
        inner.extend_from_slice(b);
        let mut union = Cone { inner, leaves: SmallVec::new() };
        let mut leaves: SmallVec<[Pin; 4]> =
            self.leaves.iter().chain(&other.leaves).copied().filter(|pin| !union.computes(pin.class)).collect();
        leaves.sort_unstable();
        leaves.dedup();
        union.leaves = leaves;
        Some(union)
    }

    /// The root class.
    pub fn top(&self) -> u32 {
        self.inner.last().map_or(0, |(class, _)| *class)
    }

    /// The alternatives inside with their classes.
    pub fn members<'a>(&self, network: &'a Network) -> impl Iterator<Item = (u32, &'a Alternative)> {
        self.inner.iter().map(|&(class, alternative)| (class, network.get(class, alternative)))
    }

    /// What the body reads, in the order of its inputs: by first use.
    pub fn operands(&self, network: &Network) -> SmallVec<[Pin; 4]> {
        let mut operands: SmallVec<[Pin; 4]> = SmallVec::new();
        for (_, member) in self.members(network) {
            for &pin in &member.operands {
                if self.is_leaf(network, &member.op, pin) && !operands.contains(&pin) {
                    operands.push(pin);
                }
            }
        }
        operands
    }

    /// Whether an op inside reads `pin` from outside.
    fn is_leaf(&self, network: &Network, op: &Op, pin: Pin) -> bool {
        !self.computes(pin.class) && (network.role(pin) != Role::Immediate || is_direct(op))
    }

    /// A hash of what decides legality and work: structure, ops and types, but not which classes they are.
    pub fn key(&self, network: &Network) -> u128 {
        let (mut low, mut high) = (DefaultHasher::new(), DefaultHasher::new());
        high.write_u8(1);
        let mut operands: SmallVec<[Pin; 4]> = SmallVec::new();
        let mut put = |word: u128| {
            word.hash(&mut low);
            word.hash(&mut high);
        };
        for (_, member) in self.members(network) {
            put(member.signature);
            for &pin in &member.operands {
                if let Ok(place) = self.inner.binary_search_by_key(&pin.class, |(class, _)| *class) {
                    put((place as u128) << 8 | u128::from(pin.output) << 2);
                } else if self.is_leaf(network, &member.op, pin) {
                    let place = operands.iter().position(|known| *known == pin).unwrap_or_else(|| {
                        operands.push(pin);
                        put(network.classes[pin.class as usize].type_hash ^ u128::from(pin.output));
                        operands.len() - 1
                    });
                    put((place as u128) << 8 | 1);
                } else {
                    put(network.classes[pin.class as usize].alternatives.first().map_or(0, |a| a.signature));
                }
            }
        }
        u128::from(high.finish()) << 64 | u128::from(low.finish())
    }

    /// The body of the kernel. Its inputs are [`Cone::operands`].
    ///
    /// # Errors
    /// If an op does not fit its operands, which is a defect of the network.
    pub fn body(&self, network: &Network) -> Result<Graph, GraphError> {
        let mut body = Graph::new("");
        let operands = self.operands(network);
        let inputs: Vec<Value> = operands
            .iter()
            .enumerate()
            .map(|(i, &pin)| body.add_input(&format!("x{i}"), network.ty(pin).clone()))
            .collect();
        let mut constants: SmallVec<[(u32, Value); 4]> = SmallVec::new();
        let mut place: SmallVec<[NodeId; 8]> = SmallVec::new();
        for (_, member) in self.members(network) {
            let mut values: SmallVec<[Value; 4]> = SmallVec::new();
            for &pin in &member.operands {
                let inner = self.inner.binary_search_by_key(&pin.class, |(class, _)| *class);
                values.push(if let Ok(at) = inner {
                    Value { node: place[at], output: pin.output }
                } else if self.is_leaf(network, &member.op, pin) {
                    inputs[operands.iter().position(|known| *known == pin).unwrap_or_default()]
                } else {
                    immediate(network, &mut body, &mut constants, pin)
                });
            }
            place.push(body.add(member.op.clone(), &values, member.origin.clone())?);
        }
        if let Some(&root) = place.last() {
            for output in 0..body[root].types.len() as u32 {
                body.add_output(&format!("y{output}"), Value { node: root, output });
            }
        }
        Ok(body)
    }

    /// Where everything inside comes from.
    pub fn origin(&self, network: &Network) -> Origin {
        self.members(network).fold(Origin::default(), |origin, (_, member)| origin.merge(&member.origin))
    }

    /// The work of the kernel.
    pub fn work(&self, network: &Network, kind: KernelKind) -> CutWork {
        let extent = |class: u32| &network.classes[class as usize].extent;
        let root = extent(self.top());
        let outputs = network.classes[self.top() as usize].types.len() as f64;
        let mut work = CutWork {
            kind,
            read: self.leaves.iter().map(|&pin| self.bytes_read(network, pin)).sum(),
            written: root.bytes * outputs,
            macs: SmallVec::new(),
            vector: 0.0,
            transcendental: 0.0,
            strided: 0.0,
            items: root.count,
        };
        for (class, member) in self.members(network) {
            let again = repetitions(&extent(class).sizes, &root.sizes);
            work.vector += member.load.vector * again;
            work.transcendental += member.load.transcendental * again;
            work.strided += member.load.strided * again;
            if member.load.macs > 0.0 {
                work.macs.push((member.dtype, member.load.macs));
            }
        }
        work
    }

    /// Bytes of `pin` that the ops inside touch: slices and gathers do not read everything.
    fn bytes_read(&self, network: &Network, pin: Pin) -> f64 {
        let whole = network.classes[pin.class as usize].extent.bytes;
        let mut touched = 0.0;
        for (class, member) in self.members(network) {
            let places = member.operands.iter().enumerate().filter(|(_, operand)| **operand == pin);
            for (place, _) in places {
                touched += match (&member.op, place) {
                    (Op::Slice { .. }, _) | (Op::Gather { .. } | Op::TakeAlong { .. }, 0) => {
                        network.classes[class as usize].extent.bytes
                    }
                    (Op::Routed { .. }, 1) => routed_bytes(network, member, whole),
                    _ => whole,
                };
            }
        }
        touched.min(whole)
    }
}

/// Of the weights of a routed contraction only those that some row chooses are read.
fn routed_bytes(network: &Network, member: &Alternative, whole: f64) -> f64 {
    let extent = |place: usize| member.operands.get(place).map(|pin| &network.classes[pin.class as usize].extent);
    let (Some(weights), Some(ids)) = (extent(1), extent(2)) else { return whole };
    let experts = weights.sizes.first().copied().unwrap_or(1.0).max(1.0);
    whole * (ids.count / experts).min(1.0)
}

fn immediate(network: &Network, body: &mut Graph, constants: &mut SmallVec<[(u32, Value); 4]>, pin: Pin) -> Value {
    if let Some((_, value)) = constants.iter().find(|(class, _)| *class == pin.class) {
        return *value;
    }
    let tensor = network.immediate(pin).cloned().unwrap_or_else(|| tarsia_tensor::Tensor::scalar(0f32));
    let value = body.add_constant(tensor, Origin::default());
    constants.push((pin.class, value));
    value
}

/// Elements of a tile that a kernel computes at a time.
const TILE: f64 = 2048.0;

/// How often a value of these sizes is computed when it is broadcast inside a kernel to the root's: a tile computes what it
/// needs by itself, so a value that does not depend on an outer axis is computed again for every tile along it.
fn repetitions(own: &[f64], root: &[f64]) -> f64 {
    let (count, all): (f64, f64) = (own.iter().product(), root.iter().product());
    if all <= count || count == 0.0 {
        return 1.0;
    }
    let outer = if own.len() == root.len() {
        let inner = own.iter().rposition(|&size| size > 1.0).unwrap_or(0);
        (0..inner).filter(|&axis| own[axis] == 1.0).map(|axis| root[axis]).product()
    } else {
        all / count
    };
    (outer * (count / TILE).min(1.0)).max(1.0)
}
