//! Decoders of what an encoder gives: sequences start with one token, and the keys and values of the encoder stand.

use tarsia_graph::{Op, ReduceFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Given, Prompt, buffer, decoded, empty_pasts, last_scores, mask_of, repeated};
use crate::{
    Node,
    import::{Ctx, Item, Outcome, invalid},
};

/// The encoder run once for each prompt, and the decoder for the first token of each of `beams` sequences.
///
/// The encoder takes ids and a mask and gives the keys and values of each layer; or it takes the first token too, and gives logits, its
/// states, and the decoder's pasts before these.
pub(super) fn prompt<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, beams: &Dim, mask: usize) -> Outcome<Prompt<'a>> {
    let (encoder, decoder) = (node.attr_graph("encoder")?, node.attr_graph("decoder")?);
    let ids = ctx.value(node, 0)?;
    let ids = ctx.cast(ids, DType::I32)?;
    let mut counts = mask_of(ctx, node, ids, mask)?;
    if ctx.item(node, mask).is_none() {
        // As in onnxruntime padding is what comes before the first token: the same number after it is a token.
        let seen = Op::Scan { function: ReduceFn::Max, axis: 1, exclusive: false, reverse: false };
        counts = ctx.add(seen, &[counts])?;
    }
    let mask = counts;
    let batch = ctx.size(ids, 0)?;
    let start = ctx.scalar(DType::I32, node.attr_int("decoder_start_token_id")? as f64);
    let start = ctx.broadcast(start, &[batch.clone(), Dim::ONE])?;
    let layers = decoder.outputs().len().saturating_sub(1);
    let starts = encoder.inputs().len() == 3;
    let taken = [ids, mask, start];
    let items: Vec<Item> = taken.into_iter().take(encoder.inputs().len()).map(Item::from).collect();
    let given_states = decoder.inputs().len() > 2 + 2 * layers;
    let expected = if starts { 2 + 2 * layers } else { layers };
    if !(2..=3).contains(&encoder.inputs().len()) || encoder.outputs().len() != expected || given_states && !starts {
        return Err(invalid(format!(
            "the encoder takes {} values and gives {} for a decoder of {layers} pasts",
            encoder.inputs().len(),
            encoder.outputs().len()
        )));
    }
    let results = ctx.inline(&encoder, &items)?;
    let values = results.iter().map(|item| ctx.item_value(item)).collect::<Outcome<Vec<Value>>>()?;
    let mut values = values.into_iter().map(|value| repeated(ctx, value, beams)).collect::<Outcome<Vec<Value>>>()?;
    let (start, mask) = (repeated(ctx, start, beams)?, repeated(ctx, mask, beams)?);
    let tokens = buffer(ctx, node, start)?;
    let most = ctx.size(tokens, 1)?;
    let back = values.split_off(expected - layers);
    let mut front = vec![mask];
    front.extend(values.get(1).copied().filter(|_| given_states));
    let (scores, given) = if starts {
        let scores = last_scores(ctx, node, values[0])?;
        (scores, Given { ids: start, front, pasts: values.split_off(2), back })
    } else {
        let sequences = ctx.size(tokens, 0)?;
        let declared: Vec<_> = decoder.inputs().into_iter().skip(2).take(layers).collect();
        let pasts = empty_pasts(ctx, &declared, &sequences)?;
        let given = Given { ids: start, front, pasts, back };
        let (scores, pasts) = decoded(ctx, node, &decoder, &given)?;
        (scores, Given { pasts, ..given })
    };
    Ok(Prompt { tokens, scores, given, length: Dim::ONE, most, decoder, is_encoded: true })
}
