//! If, Loop and Scan: sub-graphs.

use super::Rows;

pub(super) const ROWS: Rows = &[];
