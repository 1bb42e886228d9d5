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
    /// The self-test gave other logits, or features, than the file says.
    #[error("self-test: {what} {index} is {found}, expected {expected}")]
    SelfTest {
        /// `logit` or `feature`.
        what: &'static str,
        /// First value that differs.
        index: usize,
        /// Value computed, shortest decimal form.
        found: alloc::string::String,
        /// Value in the file.
        expected: alloc::string::String,
    },
    /// The blob has no self-test.
    #[error("the file has no golden input, so there is nothing to test against")]
    NoSelfTest,
}
