//! A subscriber of `tracing` that sends what it gets to the test.

use std::sync::mpsc::{self, Sender};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::server::{received, run};

/// Sends each event as a line: its level, its target and its fields.
struct Lines(Sender<String>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        let _ = self.0.send(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn events_reach_the_subscriber_with_their_levels_and_fields() {
    let (sender, lines) = mpsc::channel();
    tracing::subscriber::set_global_default(Lines(sender)).unwrap();
    let address = run(baton_health_logging::to_tracing);
    let expected = [
        "ERROR baton_health message=failed what=\"connect\" error=\"connection refused\"".to_owned(),
        "DEBUG baton_health message=asked more=\"users=27 groups=51\"".to_owned(),
        format!("INFO baton_health message=listening address=\"{address}\""),
        "WARN baton_health message=unhealthy reason=\"api: cannot sign in\"".to_owned(),
    ];
    assert_eq!(received(&lines, expected.len()), expected);
}
