//! Stands in for the product's limits, which are so large that a fuzzer would hardly ever reach them.

pub(crate) const MAX_REQUEST_HEAD: usize = 192;
pub(crate) const MAX_RESPONSE_HEAD: usize = 192;
