//! Point-wise algebra: the laws of the op table by loop, and what connects subtraction, division and powers with them.

use tarsia_graph::{BinaryFn, Law};

use tarsia_tensor::{DType, Dim};

use super::{c_fixed, c_number, exact, float, real, require, result_shape};
use crate::{
    fold,
    rule::{Match, Miss, Rule},
};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = laws();
    #[rustfmt::skip]
    rules.extend([
        // Signs.
        exact("neg-neg",            "(neg (neg ?a))",                       "?a",                                   &[numeric]),
        exact("add-neg",            "(add ?a (neg ?b))",                    "(sub ?a ?b)",                          &[numeric]),
        exact("sub-neg",            "(sub ?a (neg ?b))",                    "(add ?a ?b)",                          &[numeric]),
        exact("neg-sub",            "(neg (sub ?a ?b))",                    "(sub ?b ?a)",                          &[float]),
        exact("zero-minus",         "(sub 0.0 ?a)",                         "(neg ?a)",                             &[numeric]),
        exact("times-minus-one",    "(mul ?a -1.0)",                        "(neg ?a)",                             &[numeric]),
        exact("mul-neg",            "(mul (neg ?a) (neg ?b))",              "(mul ?a ?b)",                          &[numeric]),
        // Quotients: a · 1/b = a/b; a constant divisor becomes a factor.
        exact("one-over",           "(div 1.0 ?a)",                         "(reciprocal ?a)",                      &[float]),
        real ("times-reciprocal",   "(mul ?a (reciprocal ?b))",             "(div ?a ?b)",                          &[float]),
        real ("div-constant",       "(div ?a ?c)",                          "(mul ?a (reciprocal ?c))",             &[many_floats, c_fixed, c_nonzero]),
        real ("reciprocal-sqrt",    "(reciprocal (sqrt ?a))",               "(rsqrt ?a)",                           &[float]),
        real ("sqrt-reciprocal",    "(sqrt (reciprocal ?a))",               "(rsqrt ?a)",                           &[float]),
        real ("over-sqrt",          "(div ?a (sqrt ?b))",                   "(mul ?a (rsqrt ?b))",                  &[float]),
        real ("reciprocal-twice",   "(reciprocal (reciprocal ?a))",         "?a",                                   &[float]),
        // Powers.
        exact("square",             "(pow ?a 2.0)",                         "(mul ?a ?a)",                          &[]),
        real ("cube",               "(pow ?a 3.0)",                         "(mul ?a (mul ?a ?a))",                 &[]),
        real ("power-half",         "(pow ?a 0.5)",                         "(sqrt ?a)",                            &[float]),
        real ("power-minus-half",   "(pow ?a -0.5)",                        "(rsqrt ?a)",                           &[float]),
        real ("power-minus-one",    "(pow ?a -1.0)",                        "(reciprocal ?a)",                      &[float]),
        // Numbers wander outwards and meet: (a·c)·b = (a·b)·c.
        real ("number-outwards",    "(mul (mul ?a ?c) ?b)",                 "(mul (mul ?a ?b) ?c)",                 &[float, c_number, b_no_number, a_no_number]),
        real ("number-through-neg", "(neg (mul ?a ?c))",                    "(mul ?a (neg ?c))",                    &[c_number, numeric]),
        // Logistic functions.
        real ("sigmoid",            "(reciprocal (add (exp (neg ?a)) 1.0))", "(sigmoid ?a)",                        &[float]),
        exact("silu",               "(mul ?a (sigmoid ?a))",                "(silu ?a)",                            &[float]),
        real ("silu-quotient",      "(div ?a (add (exp (neg ?a)) 1.0))",    "(silu ?a)",                            &[float]),
        real ("softplus",           "(log (add (exp ?a) 1.0))",             "(softplus ?a)",                        &[float]),
        // Choices.
        exact("select-same",        "(select ?c ?a ?a)",                    "?a",                                   &[]),
        exact("select-not",         "(select (not ?c) ?a ?b)",              "(select ?c ?b ?a)",                    &[]),
        exact("select-true",        "(select ?c ?a ?b)",                    "?a",                                   &[c_true]),
        exact("select-false",       "(select ?c ?a ?b)",                    "?b",                                   &[c_false]),
        exact("not-not",            "(not (not ?a))",                       "?a",                                   &[]),
        exact("not-eq",             "(not (eq ?a ?b))",                     "(ne ?a ?b)",                           &[]),
        exact("not-ne",             "(not (ne ?a ?b))",                     "(eq ?a ?b)",                           &[]),
        exact("and-true",           "(and ?a ?c)",                          "?a",                                   &[c_true]),
        exact("or-false",           "(or ?a ?c)",                           "?a",                                   &[c_false]),
        exact("max-of-select",      "(max (select ?p ?a ?b) ?c)",           "(select ?p (max ?a ?c) (max ?b ?c))",  &[c_number, a_number, b_number]),
        // Conversions: one through a type that holds every value of the operand's type is none.
        exact("cast-cast",          "(cast ?d ?s (cast ?m ?t ?a))",         "(cast ?d ?s ?a)",                      &[middle_holds_all]),
        exact("cast-same",          "(cast ?d ?s ?a)",                      "?a",                                   &[]),
        // Facts.
        exact("non-negative-lt",    "(lt ?a 0.0)",                          "(broadcast ?shape 0.0)",               &[a_non_negative, result_shape]),
        exact("non-negative-ge",    "(ge ?a 0.0)",                          "(broadcast ?shape 1.0)",               &[a_non_negative, result_shape]),
        exact("abs-non-negative",   "(abs ?a)",                             "?a",                                   &[a_non_negative]),
        exact("relu-non-negative",  "(max ?a 0.0)",                         "?a",                                   &[a_non_negative]),
    ]);
    rules
}

/// Rules from the laws of each binary function. Commutativity needs none: patterns match both orders. Associativity is
/// used only to bring constants together.
fn laws() -> Vec<Rule> {
    let mut rules = Vec::new();
    for &f in BinaryFn::ALL {
        for law in f.laws() {
            let rule = match law {
                Law::Commutes => continue,
                Law::RightIdentity(e) => exact(&format!("{f}-identity"), &format!("({f} ?a {e:?})"), "?a", &[]),
                Law::Idempotent => exact(&format!("{f}-idempotent"), &format!("({f} ?a ?a)"), "?a", &[]),
                Law::Absorbing(z) => {
                    let (left, right) = (format!("({f} ?a {z:?})"), format!("(broadcast ?shape {z:?})"));
                    exact(&format!("{f}-absorbing"), &left, &right, &[result_shape])
                }
                Law::Associates => {
                    let (left, right) = (format!("({f} ({f} ?a ?c) ?d)"), format!("({f} ?a ({f} ?c ?d))"));
                    real(&format!("{f}-constants"), &left, &right, &[c_fixed, d_fixed])
                }
            };
            rules.push(rule);
        }
    }
    rules
}

fn numeric(m: &mut Match) -> Result<(), Miss> {
    require(m.root_type()?.dtype != DType::Bool, "a bool")
}

/// Floats, not a single one: one division costs less than the rounding that it would save.
fn many_floats(m: &mut Match) -> Result<(), Miss> {
    float(m)?;
    require(m.root_type()?.count() != Dim::ONE, "a single number")
}

fn d_fixed(m: &mut Match) -> Result<(), Miss> {
    require(m.facts("d")?.fixed, "not a constant")
}

fn a_number(m: &mut Match) -> Result<(), Miss> {
    m.splat("a").map(|_| ())
}

fn b_number(m: &mut Match) -> Result<(), Miss> {
    m.splat("b").map(|_| ())
}

fn a_no_number(m: &mut Match) -> Result<(), Miss> {
    require(m.facts("a")?.splat.is_none(), "both are numbers")
}

fn b_no_number(m: &mut Match) -> Result<(), Miss> {
    require(!m.facts("b")?.fixed, "both are constants")
}

fn c_nonzero(m: &mut Match) -> Result<(), Miss> {
    require(m.splat("c")? != 0.0, "division by zero")
}

fn c_true(m: &mut Match) -> Result<(), Miss> {
    require(m.splat("c")? == 1.0, "not always true")
}

fn c_false(m: &mut Match) -> Result<(), Miss> {
    require(m.splat("c")? == 0.0, "not always false")
}

fn a_non_negative(m: &mut Match) -> Result<(), Miss> {
    require(m.facts("a")?.non_negative, "may be negative")
}

fn middle_holds_all(m: &mut Match) -> Result<(), Miss> {
    let (middle, from) = (m.dtype("m")?, m.ty("a")?.dtype);
    require(fold::holds_all(middle, from), "the conversion in the middle rounds")
}
