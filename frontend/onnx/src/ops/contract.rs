//! Matrix products.

use super::Rows;

pub(super) const ROWS: Rows = &[];
