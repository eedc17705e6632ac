//! A stack for the deepest tree that a text can make.
//!
//! A program of nothing but `-`, `.b` or `+b` makes a tree with a level for each of them. The parser gets itself more
//! stack as it goes down, but what drops a tree (in here, and inside of the parser where it gives a guess up) is
//! recursion that the compiler wrote, and that ends the process when the stack ends: no panic, nothing to catch.

/// Stack that a byte of a program can cost. Measured with the shapes of `tests/shapes`: less than 128 bytes in a release
/// build. Builds without optimization need several times as much, and pass the same tests.
const BYTES_PER_BYTE: usize = 1024;

/// Stack for what does not depend on the program.
const BASE: usize = 256 * 1024;

/// Runs on a stack that is large enough for a program of `length` bytes: the current one where it is, a new one
/// otherwise. A new one is memory that is only reserved: what a shallow program does not use costs nothing.
pub fn large_enough<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let needed = BASE + length.saturating_mul(BYTES_PER_BYTE);
    stacker::maybe_grow(needed, needed, work)
}
