//! Lines of the log, beside serde_json.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let ([message, name, value], line) = baton_health::fuzzing::log_line(bytes);
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line[&name], *value);
    // A connector may choose a name that the line has already: the last one counts then.
    if !["time", "level", "msg"].contains(&&*name) {
        assert_eq!((&line["msg"], &line["level"]), (&message.into(), &"info".into()));
    }
});
