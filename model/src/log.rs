//! In place of the product's log: events go to the scenario's function, and nowhere else.

use std::fmt;
use std::sync::Arc;

use crate::event::Event;

#[derive(Clone)]
pub(crate) struct Log(pub(crate) Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Log {
    pub(crate) fn emit(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

pub(crate) fn to_stderr(event: &Event<'_>) {
    eprintln!("{event:?}");
}
