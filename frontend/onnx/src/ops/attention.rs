//! Attention, rotary embedding and root-mean-square normalisation.

use super::Rows;

pub(super) const ROWS: Rows = &[];
