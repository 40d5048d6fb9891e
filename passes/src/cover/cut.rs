//! Priority cuts: the few best ways to compute a class by one kernel.
//!
//! The cuts of a class are its op with, for every operand, either the operand read or one of the operand's own cuts taken
//! inside. What results is asked for legality and cost, both remembered by structure, so that equal layers are asked once.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{KernelKind, Kind, Op, kernel};

use super::{
    CostModel, Options,
    cone::Cone,
    network::{Network, Pin, Role, is_direct},
};

/// What a cut becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A reshape of a stored value: no work.
    Alias,
    /// A kernel.
    Kernel(KernelKind),
}

/// A legal cone with its time.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub cone: Cone,
    pub form: Form,
    /// Seconds.
    pub time: f64,
    /// Hash of its body.
    pub key: u128,
}

/// A cone that is no kernel.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// What it would have computed.
    pub inner: SmallVec<[(u32, u16); 8]>,
    pub reason: Arc<str>,
}

/// What is known about a class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts {
    /// Best first.
    pub cuts: Vec<Cut>,
    /// Cones without anchors that are no kernels by themselves, but may be parts of larger ones whose axes are finer.
    pub fragments: Vec<Cone>,
    pub refusals: Vec<Refusal>,
    /// Time of the class and all it needs, shared evenly among users.
    pub flow: f64,
}

/// Seconds that a value without any kernel counts, so that equal values with one are preferred.
const UNCOVERED: f64 = 1e-3;
const ONE_ANCHOR: &str = "a kernel has one product, convolution or pooling";

type Verdict = Result<(KernelKind, f64), Arc<str>>;

/// Finds cuts; remembers verdicts by structure.
pub(crate) struct Cutter<'a> {
    pub network: &'a Network,
    pub model: &'a dyn CostModel,
    pub options: &'a Options,
    verdicts: FxHashMap<u128, Verdict>,
}

impl<'a> Cutter<'a> {
    pub fn new(network: &'a Network, model: &'a dyn CostModel, options: &'a Options) -> Cutter<'a> {
        Cutter { network, model, options, verdicts: FxHashMap::default() }
    }

    /// The cuts of every class.
    pub fn all(&mut self) -> Vec<Cuts> {
        let mut known: Vec<Cuts> = Vec::with_capacity(self.network.classes.len());
        for class in 0..self.network.classes.len() as u32 {
            let cuts = self.of_class(class, &known);
            known.push(cuts);
        }
        known
    }

    fn of_class(&mut self, class: u32, known: &[Cuts]) -> Cuts {
        let network = self.network;
        let place = &network.classes[class as usize];
        let mut found = Cuts::default();
        match place.role {
            Role::Stored | Role::Immediate => return found,
            Role::Plain => {
                found.flow = self.flow_of_operands(class, known) / f64::from(place.users.max(1));
                return found;
            }
            Role::Compute => {}
        }
        for alternative in 0..place.alternatives.len() as u16 {
            self.of_alternative(class, alternative, known, &mut found);
        }
        self.keep_best(known, &mut found);
        let best = match found.cuts.first() {
            Some(cut) => flow(cut, known),
            None => UNCOVERED + self.flow_of_operands(class, known),
        };
        found.flow = best / f64::from(place.users.max(1));
        found
    }

    /// Flow of what a node reads that is no kernel.
    fn flow_of_operands(&self, class: u32, known: &[Cuts]) -> f64 {
        let operands = self.network.classes[class as usize].alternatives.first().map(|a| a.operands.as_slice());
        operands.unwrap_or_default().iter().map(|pin| known[pin.class as usize].flow).sum()
    }

    fn of_alternative(&mut self, class: u32, alternative: u16, known: &[Cuts], found: &mut Cuts) {
        let member = self.network.get(class, alternative);
        let root = Cone::root(class, alternative);
        let mut cones = vec![root.clone()];
        let mut seen: SmallVec<[Pin; 4]> = SmallVec::new();
        for (position, &pin) in member.operands.iter().enumerate() {
            if seen.contains(&pin) || self.network.role(pin) == Role::Immediate && !is_direct(&member.op) {
                continue;
            }
            seen.push(pin);
            cones = self.extended(&root, position, pin, cones, known, found);
        }
        if let (Op::Reshape { .. }, Some(&operand)) = (&member.op, member.operands.first())
            && self.network.role(operand) != Role::Immediate
        {
            let cone = Cone::root(class, alternative).with_leaf(operand);
            let key = cone.key(self.network);
            found.cuts.push(Cut { cone, form: Form::Alias, time: 0.0, key });
            cones.retain(|cone| cone.inner.len() > 1);
        }
        for cone in cones {
            self.judge(cone, found);
        }
    }

    /// Every cone with the operand read or one of its cuts taken inside; the most promising ones.
    fn extended(
        &self,
        root: &Cone,
        position: usize,
        pin: Pin,
        cones: Vec<Cone>,
        known: &[Cuts],
        found: &mut Cuts,
    ) -> Vec<Cone> {
        let op = root.members(self.network).map(|(_, member)| &member.op).next();
        let Some(op) = op else { return cones };
        let below = &known[pin.class as usize];
        let kind = |cut: &Cut| if let Form::Kernel(kind) = cut.form { kind } else { KernelKind::Map };
        let cuts = below.cuts.iter().map(|cut| (&cut.cone, kind(cut)));
        let fragments = below.fragments.iter().map(|cone| (cone, KernelKind::Map));
        let mut inside: SmallVec<[&Cone; 8]> = SmallVec::new();
        let computed = self.network.role(pin) == Role::Compute;
        for (part, kind) in cuts.chain(fragments).filter(|_| computed) {
            match (self.absorbs(op, position, part, kind), root.union(part)) {
                (Ok(()), Some(union)) if self.anchors(&union) > 1 => self.refuse(&union, ONE_ANCHOR, found),
                (Ok(()), _) => inside.push(part),
                (Err(reason), Some(union)) => self.refuse(&union, reason, found),
                (Err(_), None) => {}
            }
        }
        let mut next: Vec<Cone> = Vec::with_capacity(cones.len() * (1 + inside.len()));
        for cone in cones {
            for part in &inside {
                if let Some(union) = cone.union(part)
                    && union.inner.len() <= self.options.body
                    && self.anchors(&union) <= 1
                    && !next.contains(&union)
                {
                    next.push(union);
                }
            }
            let leaf = cone.with_leaf(pin);
            if !next.contains(&leaf) {
                next.push(leaf);
            }
        }
        self.beam(next, known)
    }

    /// The cones that read least, and always the largest and the smallest.
    fn beam(&self, mut cones: Vec<Cone>, known: &[Cuts]) -> Vec<Cone> {
        let width = self.options.beam.max(2);
        if cones.len() <= width {
            return cones;
        }
        let largest = cones.iter().max_by_key(|cone| cone.inner.len()).cloned();
        let smallest = cones.iter().min_by_key(|cone| cone.inner.len()).cloned();
        cones.sort_by(|a, b| reads(a, known).total_cmp(&reads(b, known)).then(a.inner.len().cmp(&b.inner.len())));
        cones.truncate(width - 2);
        for extreme in [largest, smallest].into_iter().flatten() {
            if !cones.contains(&extreme) {
                cones.push(extreme);
            }
        }
        cones
    }

    /// Notes why a cone is no kernel.
    fn refuse(&self, cone: &Cone, reason: impl Into<Arc<str>>, found: &mut Cuts) {
        if found.refusals.len() < self.options.refusals {
            found.refusals.push(Refusal { inner: cone.inner.clone(), reason: reason.into() });
        }
    }

    /// Why `op` cannot take a cut of its operand inside, as far as can be told at a glance; `legal` has the last word.
    fn absorbs(&self, op: &Op, position: usize, cone: &Cone, kind: KernelKind) -> Result<(), &'static str> {
        let moves = || cone.members(self.network).all(|(_, member)| kernel::moves_operand(&member.op));
        let scatters = |op: &Op| matches!(op, Op::ScatterRows { .. } | Op::ScatterAlong { .. });
        if kind == KernelKind::Order || cone.members(self.network).any(|(_, member)| scatters(&member.op)) {
            return Err("what is sorted or scattered is not complete before the kernel ends");
        }
        let (fits, otherwise) = match KernelKind::anchored_by(op) {
            None => return Ok(()),
            Some(KernelKind::Rows) => (
                matches!(kind, KernelKind::Map | KernelKind::Rows),
                "rows are reduced of what is computed point by point",
            ),
            Some(KernelKind::Attention) if position == 3 => {
                (kind == KernelKind::Map, "a mask is computed point by point")
            }
            Some(KernelKind::Attention) if position == 1 => {
                let joins = |op: &Op| kernel::moves_operand(op) || matches!(op, Op::Concat { .. });
                (
                    cone.members(self.network).all(|(_, member)| joins(&member.op)),
                    "keys are read several times: they are moved and joined on the way, not computed",
                )
            }
            Some(KernelKind::Contract | KernelKind::Attention) => {
                (moves(), "a product reads its operands several times: they are moved on the way, not computed")
            }
            Some(_) => (false, "its elements are read several times or in another order than they are computed in"),
        };
        if fits { Ok(()) } else { Err(otherwise) }
    }

    /// How many anchors other than reductions are inside.
    fn anchors(&self, cone: &Cone) -> usize {
        cone.members(self.network).filter(|(_, member)| is_direct(&member.op)).count()
    }

    fn judge(&mut self, cone: Cone, found: &mut Cuts) {
        let key = cone.key(self.network);
        if found.cuts.iter().any(|cut| cut.form != Form::Alias && cut.cone == cone) {
            return;
        }
        let verdict = match self.verdicts.get(&key) {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = self.verdict(&cone);
                self.verdicts.insert(key, verdict.clone());
                verdict
            }
        };
        match verdict {
            Ok((kind, time)) => found.cuts.push(Cut { cone, form: Form::Kernel(kind), time, key }),
            Err(reason) => {
                self.refuse(&cone, reason, found);
                let loose = |op: &Op| matches!(op.kind(), Kind::Pointwise | Kind::Movement);
                if cone.members(self.network).all(|(_, member)| loose(&member.op)) {
                    found.fragments.push(cone);
                }
            }
        }
    }

    fn verdict(&self, cone: &Cone) -> Verdict {
        let body = cone.body(self.network).map_err(|error| Arc::from(error.to_string()))?;
        let kind = kernel::legal(&body).map_err(Arc::from)?;
        if !self.options.kinds.contains(&kind) {
            return Err(format!("the target has no {kind} kernels").into());
        }
        Ok((kind, self.model.time(&cone.work(self.network, kind))))
    }

    /// Keeps the best cuts by area flow, and always the largest and the smallest.
    fn keep_best(&self, known: &[Cuts], found: &mut Cuts) {
        const FRAGMENTS: usize = 2;
        found.fragments.sort_by(|a, b| {
            let order = reads(a, known).total_cmp(&reads(b, known));
            order.then(a.inner.len().cmp(&b.inner.len()))
        });
        found.fragments.truncate(FRAGMENTS);
        let size = |cut: &Cut| cut.cone.inner.len();
        found.cuts.sort_by(|a, b| flow(a, known).total_cmp(&flow(b, known)).then(size(a).cmp(&size(b))));
        let keep = self.options.cuts.max(3);
        if found.cuts.len() <= keep {
            return;
        }
        let mut rest = found.cuts.split_off(keep - 2);
        let take = |rest: &mut Vec<Cut>, place: Option<usize>| place.map(|place| rest.remove(place));
        let largest = (0..rest.len()).max_by_key(|&i| size(&rest[i]));
        let largest = take(&mut rest, largest);
        let smallest = (0..rest.len()).min_by_key(|&i| size(&rest[i]));
        let smallest = take(&mut rest, smallest);
        found.cuts.extend(largest);
        found.cuts.extend(smallest);
    }
}

/// Time of a cut and of all it reads, each class shared evenly among its users.
pub(crate) fn flow(cut: &Cut, known: &[Cuts]) -> f64 {
    cut.time + reads(&cut.cone, known)
}

/// Time of all that a cone reads, each class shared evenly among its users.
fn reads(cone: &Cone, known: &[Cuts]) -> f64 {
    let mut classes: SmallVec<[u32; 8]> = cone.leaves.iter().map(|pin| pin.class).collect();
    classes.dedup();
    classes.into_iter().map(|class| known[class as usize].flow).sum()
}
