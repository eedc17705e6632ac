//! What the runner exits with.

/// It reported a result.
pub const DONE: u8 = 0;
/// Started in a way that it can't work.
pub const USAGE: u8 = 64;
/// The runner failed, not the program.
pub const FAILED: u8 = 70;
/// The interpreter did not come up.
pub const INTERPRETER: u8 = 71;
/// It was told to stop (128 + SIGTERM), and reported what there was. Not 0: the kubelet forgets that a Pod was
/// evicted, or past its deadline, when its containers end with 0.
pub const STOPPED: u8 = 143;

/// Whether a runner that exited with this code has itself written its termination log. One that the kernel
/// killed has not, and where there is no Landlock a program may have.
#[must_use]
pub fn wrote_its_last_words(code: i32) -> bool {
    [DONE, FAILED, INTERPRETER, STOPPED]
        .map(i32::from)
        .contains(&code)
}
