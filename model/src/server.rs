//! The files under test, where they expect each other.

#[path = "../../src/server/quota.rs"]
pub(crate) mod quota;
#[path = "../../src/server/room.rs"]
pub(crate) mod room;
#[path = "../../src/server/slots.rs"]
pub(crate) mod slots;
#[path = "../../src/server/transitions.rs"]
pub(crate) mod transitions;
#[path = "../../src/server/validation.rs"]
pub(crate) mod validation;
