//! Sequences and optional values, which exist at import only.

use super::Rows;

pub(super) const ROWS: Rows = &[];
