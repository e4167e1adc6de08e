//! Bodies of answers to the probe, beside serde_json.
#![no_main]

use serde_json::Value;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(said) = baton_health::fuzzing::body(bytes) else { return };
    // Bytes that are not UTF-8 are shown as such.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let said = String::from_utf8(said).expect("text from text");
    let value: Value = serde_json::from_str(text).expect("what we understand is JSON");
    assert!(value["timestamp"].is_string());
    match &value["details"] {
        Value::Null => assert_eq!(value["status"], *said),
        Value::Object(details) => {
            for text in details.values().map(|text| text.as_str().expect("a text")) {
                // The milliseconds of an overdue validation are left out, and the times of checks.
                let kept = match text.rsplit_once(" (times: ") {
                    Some((kept, _)) if text.ends_with(" ms)") => kept,
                    _ => text,
                };
                assert!(said.contains(kept) || text.starts_with("validation has not finished after "), "{said:?} lacks {kept:?}");
            }
        }
        other => panic!("{other:?}"),
    }
});
