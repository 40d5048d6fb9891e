//! Which axes of two operands a contraction pairs, sums over and keeps: a two-operand Einstein summation.

use std::{collections::BTreeSet, fmt, str::FromStr};

use thiserror::Error;

/// `lhs,rhs->out`, each axis named by a letter. Letters in both operands and the result are batch axes, in both operands
/// only are summed over; a letter of one operand is in the result. No letter occurs twice in one operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Contraction {
    /// Letters of the left operand's axes.
    pub lhs: Vec<u8>,
    /// Letters of the right operand's axes.
    pub rhs: Vec<u8>,
    /// Letters of the result's axes.
    pub out: Vec<u8>,
}

/// Why a text is not a contraction.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a contraction `ab,bc->ac`: {1}")]
pub struct ContractionError(String, &'static str);

impl Contraction {
    /// Checks that letters are used as a contraction allows.
    ///
    /// # Errors
    /// If a letter repeats in an operand, or the result has letters that no operand has or lacks one of a single operand.
    pub fn new(lhs: Vec<u8>, rhs: Vec<u8>, out: Vec<u8>) -> Result<Contraction, ContractionError> {
        let spec = Contraction { lhs, rhs, out };
        let error = |reason| ContractionError(spec.to_string(), reason);
        let set = |letters: &[u8]| letters.iter().copied().collect::<BTreeSet<u8>>();
        let (lhs, rhs, out) = (set(&spec.lhs), set(&spec.rhs), set(&spec.out));
        if lhs.len() < spec.lhs.len() || rhs.len() < spec.rhs.len() || out.len() < spec.out.len() {
            return Err(error("a letter occurs twice in one term"));
        }
        if !out.iter().all(|l| lhs.contains(l) || rhs.contains(l)) {
            return Err(error("the result has a letter that no operand has"));
        }
        if !lhs.symmetric_difference(&rhs).all(|l| out.contains(l)) {
            return Err(error("a letter of one operand is missing in the result"));
        }
        Ok(spec)
    }

    /// `[…, m, k] · […, k, n] -> […, m, n]` with `batch` leading axes in both operands.
    pub fn matmul(batch: usize) -> Contraction {
        let letters: Vec<u8> = (0..batch).map(letter).collect();
        let (m, k, n) = (letter(batch), letter(batch + 1), letter(batch + 2));
        let term = |a, b| letters.iter().copied().chain([a, b]).collect();
        Contraction { lhs: term(m, k), rhs: term(k, n), out: term(m, n) }
    }

    /// Axes in both operands and the result, in the result's order.
    pub fn batch(&self) -> Vec<u8> {
        self.out.iter().copied().filter(|l| self.lhs.contains(l) && self.rhs.contains(l)).collect()
    }

    /// Axes of the left operand only, in the result's order.
    pub fn rows(&self) -> Vec<u8> {
        self.out.iter().copied().filter(|l| !self.rhs.contains(l)).collect()
    }

    /// Axes of the right operand only, in the result's order.
    pub fn columns(&self) -> Vec<u8> {
        self.out.iter().copied().filter(|l| !self.lhs.contains(l)).collect()
    }

    /// Axes that are summed over, in the left operand's order.
    pub fn summed(&self) -> Vec<u8> {
        self.lhs.iter().copied().filter(|l| !self.out.contains(l)).collect()
    }

    /// The same contraction with letters renamed `a, b, c …` in order of occurrence.
    pub fn canonical(&self) -> Contraction {
        let mut order: Vec<u8> = Vec::new();
        for &l in self.lhs.iter().chain(&self.rhs) {
            if !order.contains(&l) {
                order.push(l);
            }
        }
        let rename =
            |term: &[u8]| term.iter().map(|l| letter(order.iter().position(|o| o == l).unwrap_or_default())).collect();
        Contraction { lhs: rename(&self.lhs), rhs: rename(&self.rhs), out: rename(&self.out) }
    }

    /// The contraction with the operands swapped.
    pub fn swapped(&self) -> Contraction {
        Contraction { lhs: self.rhs.clone(), rhs: self.lhs.clone(), out: self.out.clone() }
    }

    /// A letter that is not used yet.
    pub fn fresh(&self) -> u8 {
        (0..).map(letter).find(|l| !self.lhs.contains(l) && !self.rhs.contains(l)).unwrap_or(b'?')
    }
}

/// The `index`-th axis letter: a…z, then A…Z.
pub(crate) fn letter(index: usize) -> u8 {
    match index {
        0..26 => b'a' + index as u8,
        26..52 => b'A' + (index - 26) as u8,
        _ => b'?',
    }
}

impl fmt::Display for Contraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |term: &[u8]| term.iter().map(|&l| char::from(l)).collect::<String>();
        write!(f, "{},{}->{}", text(&self.lhs), text(&self.rhs), text(&self.out))
    }
}

impl FromStr for Contraction {
    type Err = ContractionError;

    fn from_str(text: &str) -> Result<Contraction, ContractionError> {
        let error = |reason| ContractionError(text.to_owned(), reason);
        let (operands, out) = text.split_once("->").ok_or_else(|| error("`->` is missing"))?;
        let (lhs, rhs) = operands.split_once(',').ok_or_else(|| error("`,` is missing"))?;
        if ![lhs, rhs, out].iter().all(|t| t.bytes().all(|b| b.is_ascii_alphabetic())) {
            return Err(error("axes are named by letters"));
        }
        Contraction::new(lhs.into(), rhs.into(), out.into())
    }
}
