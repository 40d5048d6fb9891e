//! The library face of Tarsia.
