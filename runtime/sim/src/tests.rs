//! Schedules computed by hand.
