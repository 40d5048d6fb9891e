//! Running tile programs.
