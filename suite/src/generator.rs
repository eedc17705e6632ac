//! Programs made of other programs.
