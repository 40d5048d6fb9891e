//! Sorting and selection.

use super::Rows;

pub(super) const ROWS: Rows = &[];
