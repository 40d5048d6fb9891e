//! The tile IR: tile instructions, machine descriptions, verifier, text form, compiled file.
