//! Einstein summation of any number of operands, as diagonals, sums and two-operand contractions from left to right.

use tarsia_graph::{BinaryFn, ReduceFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[Row::new("Einsum", 12, One(einsum))];

/// A value whose axes have letters.
struct Term {
    value: Value,
    letters: Vec<u8>,
}

/// An equation: letters of each operand and of the result.
struct Equation {
    terms: Vec<Vec<u8>>,
    result: Vec<u8>,
}

fn einsum<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let values = ctx.values(node)?;
    let ranks: Vec<usize> = values.iter().map(|&value| ctx.rank(value)).collect();
    let Equation { terms, result } = Equation::parse(node.attr_str("equation")?, &ranks)?;
    let mut terms: Vec<Term> = values.into_iter().zip(terms).map(|(value, letters)| Term { value, letters }).collect();
    for term in &mut terms {
        diagonals(ctx, term)?;
    }
    drop_repeated(ctx, &mut terms)?;
    let mut rest = terms.into_iter();
    let mut left = rest.next().ok_or_else(|| invalid("it has no operands"))?;
    let mut rest: Vec<Term> = rest.collect();
    while !rest.is_empty() {
        let right = rest.remove(0);
        let needed = |letter: &u8| result.contains(letter) || rest.iter().any(|term| term.letters.contains(letter));
        left = pair(ctx, left, right, needed)?;
    }
    let left = summed(ctx, left, |letter| result.contains(letter))?;
    arranged(ctx, &left, &result)
}

impl Equation {
    fn parse(text: &str, ranks: &[usize]) -> Outcome<Equation> {
        let wrong = |why: String| invalid(format!("the equation `{text}`: {why}"));
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (operands, result) = match compact.split_once("->") {
            Some((operands, result)) => (operands, Some(result)),
            None => (compact.as_str(), None),
        };
        let operands: Vec<&str> = operands.split(',').collect();
        if operands.len() != ranks.len() {
            return Err(wrong(format!("{} terms for {} operands", operands.len(), ranks.len())));
        }
        // The letters that stand for the axes under an ellipsis, counted from the last one, are ones that the equation does not use.
        let unused: Vec<u8> =
            (b'a'..=b'z').chain(b'A'..=b'Z').filter(|letter| !compact.as_bytes().contains(letter)).collect();
        let mut covered = 0;
        let mut terms = Vec::with_capacity(operands.len());
        for (operand, &rank) in operands.iter().zip(ranks) {
            let named = operand.len() - if operand.contains("...") { 3 } else { 0 };
            let hidden = rank.checked_sub(named).filter(|&hidden| hidden == 0 || operand.contains("..."));
            let hidden = hidden.ok_or_else(|| wrong(format!("`{operand}` for an operand of {rank} axes")))?;
            if hidden > unused.len() {
                return Err(unsupported(format!("an ellipsis for {hidden} axes")));
            }
            covered = covered.max(hidden);
            terms.push(spelled(operand, &unused[..hidden]).ok_or_else(|| wrong(format!("`{operand}`")))?);
        }
        let ellipsis = &unused[..covered];
        let result = match result {
            Some(result) => spelled(result, ellipsis).ok_or_else(|| wrong(format!("`{result}`")))?,
            None => implied(&terms, ellipsis),
        };
        let known = |letter: &u8| terms.iter().any(|term| term.contains(letter));
        let twice = (1..result.len()).any(|i| result[..i].contains(&result[i]));
        if twice || !result.iter().all(known) {
            return Err(wrong("its result is not made of its operands' letters, each once".into()));
        }
        Ok(Equation { terms, result })
    }
}

/// The letters of a term, with the given ones (last axis first) in place of its ellipsis.
fn spelled(term: &str, ellipsis: &[u8]) -> Option<Vec<u8>> {
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphabetic()).then(|| text.bytes().collect::<Vec<u8>>());
    match term.split_once("...") {
        None => letters(term),
        Some((before, after)) => {
            let hidden: Vec<u8> = ellipsis.iter().rev().copied().collect();
            Some([letters(before)?, hidden, letters(after)?].concat())
        }
    }
}

/// The result where the equation gives none: the ellipsis, then the letters that occur once, in alphabetical order.
fn implied(terms: &[Vec<u8>], ellipsis: &[u8]) -> Vec<u8> {
    let count = |letter: u8| terms.iter().flatten().filter(|&&other| other == letter).count();
    let once = (b'A'..=b'Z').chain(b'a'..=b'z').filter(|&letter| count(letter) == 1 && !ellipsis.contains(&letter));
    ellipsis.iter().rev().copied().chain(once).collect()
}

/// Takes the diagonal of axes that have one letter.
fn diagonals(ctx: &mut Ctx<'_, '_>, term: &mut Term) -> Outcome<()> {
    while let Some((first, second)) = repeated(&term.letters) {
        let size = ctx.size(term.value, first)?;
        let rank = term.letters.len();
        let mask = |ctx: &mut Ctx<'_, '_>, axis: usize| {
            let mut shape = vec![Dim::ONE; rank];
            shape[axis] = size.clone();
            ctx.iota(DType::I64, &shape, axis)
        };
        let (rows, columns) = (mask(ctx, first)?, mask(ctx, second)?);
        let on = ctx.binary(BinaryFn::Eq, rows, columns)?;
        let zero = ctx.scalar_like(term.value, 0.0);
        let kept = ctx.select(on, term.value, zero)?;
        let kept = ctx.reduce(ReduceFn::Sum, kept, &[second])?;
        term.value = ctx.squeeze(kept, &[second])?;
        term.letters.remove(second);
    }
    Ok(())
}

fn repeated(letters: &[u8]) -> Option<(usize, usize)> {
    let pairs = (0..letters.len()).flat_map(|second| (0..second).map(move |first| (first, second)));
    pairs.into_iter().find(|&(first, second)| letters[first] == letters[second])
}

/// Takes axes of size 1 away that another operand has with another size: they are repeated.
fn drop_repeated(ctx: &mut Ctx<'_, '_>, terms: &mut [Term]) -> Outcome<()> {
    let mut long = Vec::new();
    for term in terms.iter() {
        let shape = ctx.shape(term.value);
        long.extend(term.letters.iter().zip(&shape).filter(|(_, size)| !size.is(1)).map(|(&letter, _)| letter));
    }
    for term in terms {
        let shape = ctx.shape(term.value);
        let short: Vec<usize> =
            (0..shape.len()).filter(|&axis| shape[axis].is(1) && long.contains(&term.letters[axis])).collect();
        if !short.is_empty() {
            term.value = ctx.squeeze(term.value, &short)?;
            let letters = std::mem::take(&mut term.letters).into_iter().enumerate();
            term.letters = letters.filter(|(axis, _)| !short.contains(axis)).map(|(_, letter)| letter).collect();
        }
    }
    Ok(())
}

/// Sums over the axes whose letters are not needed.
fn summed(ctx: &mut Ctx<'_, '_>, term: Term, needed: impl Fn(&u8) -> bool) -> Outcome<Term> {
    let axes: Vec<usize> = (0..term.letters.len()).filter(|&axis| !needed(&term.letters[axis])).collect();
    let sum = ctx.reduce(ReduceFn::Sum, term.value, &axes)?;
    let value = ctx.squeeze(sum, &axes)?;
    Ok(Term { value, letters: term.letters.into_iter().filter(|letter| needed(letter)).collect() })
}

/// The product of two terms, summed over the letters that nothing else needs.
fn pair(ctx: &mut Ctx<'_, '_>, left: Term, right: Term, needed: impl Fn(&u8) -> bool) -> Outcome<Term> {
    let (mine, others) = (left.letters.clone(), right.letters.clone());
    let left = summed(ctx, left, |letter| needed(letter) || others.contains(letter))?;
    let right = summed(ctx, right, |letter| needed(letter) || mine.contains(letter))?;
    let only_right = right.letters.iter().filter(|letter| !left.letters.contains(letter));
    let letters: Vec<u8> = left.letters.iter().chain(only_right).copied().filter(|letter| needed(letter)).collect();
    let text = |letters: &[u8]| letters.iter().map(|&letter| char::from(letter)).collect::<String>();
    let spec = format!("{},{}->{}", text(&left.letters), text(&right.letters), text(&letters));
    // Narrow integers wrap as wider ones do.
    let dtype = ctx.dtype(left.value);
    let wide = if dtype.is_integer() && dtype.bits() < 32 { DType::I32 } else { dtype };
    let (left, right) = (ctx.cast(left.value, wide)?, ctx.cast(right.value, wide)?);
    let product = ctx.contract(&spec, left, right)?;
    Ok(Term { value: ctx.cast(product, dtype)?, letters })
}

/// The term's axes in the order of `letters`.
fn arranged(ctx: &mut Ctx<'_, '_>, term: &Term, letters: &[u8]) -> Outcome<Value> {
    let place = |letter: &u8| term.letters.iter().position(|own| own == letter);
    let perm: Option<Vec<usize>> = letters.iter().map(place).collect();
    ctx.transpose(term.value, &perm.ok_or_else(|| invalid("a letter of the result is missing"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ranks: &[usize]) -> (Vec<String>, String) {
        let equation = Equation::parse(text, ranks).expect("an equation");
        let text = |letters: &Vec<u8>| letters.iter().map(|&letter| char::from(letter)).collect::<String>();
        (equation.terms.iter().map(text).collect(), text(&equation.result))
    }

    #[test]
    fn an_ellipsis_stands_for_the_last_axes_it_covers() {
        let (terms, result) = parse("...x, ...xy -> ...y", &[3, 3]);
        assert_eq!((terms[0].as_str(), terms[1].as_str(), result.as_str()), ("bax", "axy", "bay"));
    }

    #[test]
    fn a_result_that_is_not_given_has_the_letters_that_occur_once() {
        assert_eq!(parse("ij,jk", &[2, 2]).1, "ik");
        assert_eq!(parse("ii", &[2]).1, "");
        assert_eq!(parse("b...a", &[3]).1, "cab");
    }

    #[test]
    fn wrong_equations_are_refused() {
        for (text, ranks) in
            [("ij->ijk", &[2][..]), ("ij->ii", &[2]), ("i,j->ij", &[1]), ("i1->i", &[2]), ("ij->i", &[3])]
        {
            assert!(Equation::parse(text, ranks).is_err(), "{text}");
        }
    }
}
