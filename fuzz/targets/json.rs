//! JSON strings, beside serde_json.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (text, json) = baton_health::fuzzing::written_json(bytes);
    assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);

    // The first string in what was given, and where it ends.
    let ours = baton_health::fuzzing::read_json(&text);
    let mut theirs = serde_json::Deserializer::from_str(&text).into_iter::<String>();
    let their_string = theirs.next().and_then(Result::ok);
    match ours {
        Some((string, rest)) => {
            // serde_json also wants to see the next token.
            if rest.is_empty() || rest.starts_with([' ', ',', ':', ']', '}']) {
                assert_eq!((Some(string), theirs.byte_offset()), (their_string, text.len() - rest.len()));
            }
        }
        // It skips spaces first.
        None => assert!(their_string.is_none() || !text.starts_with('"'), "{their_string:?}"),
    }
});
