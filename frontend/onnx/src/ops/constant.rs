//! Constants and generated tensors.

use super::Rows;

pub(super) const ROWS: Rows = &[];
