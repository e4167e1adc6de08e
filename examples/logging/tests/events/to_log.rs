//! A logger of `log` that sends what it gets to the test.

use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

use crate::server::{received, run};

/// Sends each record as a line: its level, its target, its message and its key-values.
struct Lines(Mutex<Sender<String>>);

struct Line(String);

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0 += &format!(" {key}={value:?}");
        Ok(())
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = Line(format!("{} {} message={}", record.level(), record.target(), record.args()));
        record.key_values().visit(&mut line).unwrap();
        let _ = self.0.lock().unwrap().send(line.0);
    }

    fn flush(&self) {}
}

#[test]
fn events_reach_the_logger_with_their_levels_and_fields() {
    let (sender, lines) = mpsc::channel();
    log::set_boxed_logger(Box::new(Lines(Mutex::new(sender)))).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let address = run(baton_health_logging::to_log);
    let expected = [
        "ERROR baton_health message=failed what=\"connect\" error=\"connection refused\"".to_owned(),
        "DEBUG baton_health message=asked users=\"27\" groups=\"51\"".to_owned(),
        format!("INFO baton_health message=listening address=\"{address}\""),
        "WARN baton_health message=unhealthy reason=\"api: cannot sign in\"".to_owned(),
    ];
    assert_eq!(received(&lines, expected.len()), expected);
}
