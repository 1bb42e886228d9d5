//! Why an engine cannot be built or run.

/// Errors of [`Engine`](crate::Engine).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The arena would be larger than the caller allows.
    #[error("the network needs an arena of {need} bytes, the limit is {limit}")]
    Arena {
        /// Bytes needed.
        need: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The memory for the arena is not there.
    #[error("no memory for an arena of {need} bytes")]
    OutOfMemory {
        /// Bytes needed.
        need: usize,
    },
    /// A picture of another size than the network's input.
    #[error("the picture has {found} bytes, the network's input {expected}")]
    Input {
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// The self-test gave other logits than the file says.
    #[error("self-test: logit {index} is {found}, expected {expected}")]
    SelfTest {
        /// First logit that differs.
        index: usize,
        /// Logit computed, shortest decimal form.
        found: alloc::string::String,
        /// Logit in the file.
        expected: alloc::string::String,
    },
    /// The blob has no self-test.
    #[error("the file has no golden input, so there is nothing to test against")]
    NoSelfTest,
}
