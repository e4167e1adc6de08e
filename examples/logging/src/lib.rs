//! The events of a health server in `tracing` and in `log`: functions for `Config::on_event` to copy.
//!
//! An event becomes a level, a fixed message to search for, and fields.
//!
//! ```
//! use baton_health::Config;
//! use std::sync::Arc;
//!
//! let mut config = Config::default();
//! config.on_event = Arc::new(baton_health_logging::to_tracing);
//! ```

use std::fmt::Write;

use baton_health::{Event, Level};

/// What `tracing` and `log` call the target, for their filters: `baton_health=warn`.
pub const TARGET: &str = "baton_health";

/// Hands an event to the subscriber of `tracing`.
///
/// The fields of an event of `tracing` are fixed where it is written, so all names of fields stand in the macro below. Of
/// those, an event has the ones that have a value. Names that only a line of the connector's own has
/// (`Event::Message`) go into the field `more`.
pub fn to_tracing(event: &Event<'_>) {
    let [mut address, mut seconds, mut reason, mut what, mut error] = [const { None::<String> }; 5];
    let mut more = None::<String>;
    event.for_each_field(|name, value| {
        let field = match name {
            "address" => &mut address,
            "seconds" => &mut seconds,
            "reason" => &mut reason,
            "what" => &mut what,
            "error" => &mut error,
            _ => {
                let more = more.get_or_insert_default();
                let separator = if more.is_empty() { "" } else { " " };
                // Writing to a string cannot fail.
                let _ = write!(more, "{separator}{name}={value}");
                return;
            }
        };
        *field = Some(value.to_string());
    });
    // The level is fixed there as well.
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(target: TARGET, tracing::Level::$level, address, seconds, reason, what, error, more, "{}", event.message())
        };
    }
    match event.level() {
        Level::Debug => emit!(DEBUG),
        Level::Info => emit!(INFO),
        Level::Warn => emit!(WARN),
        // A level that a later version adds is one to look at.
        _ => emit!(ERROR),
    }
}

/// Hands an event to the logger of `log`, with its fields as key-values.
///
/// For a logger that does not show key-values, make `"{event}"` the message: it has the fields in its text.
pub fn to_log(event: &Event<'_>) {
    let level = match event.level() {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        _ => log::Level::Error,
    };
    if !log::log_enabled!(target: TARGET, level) {
        return;
    }
    let mut fields = Vec::new();
    event.for_each_field(|name, value| fields.push((name.to_owned(), value.to_string())));
    let mut record = log::Record::builder();
    record.level(level).target(TARGET).key_values(&fields);
    log::logger().log(&record.args(format_args!("{}", event.message())).build());
}
