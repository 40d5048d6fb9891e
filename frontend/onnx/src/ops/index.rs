//! Computed indices: gather and scatter by elements and by n-dimensional index, one-hot.

use super::Rows;

pub(super) const ROWS: Rows = &[];
