//! Heads of answers, beside httparse.
#![no_main]

use baton_health::fuzzing::{self, MAX_HEAD};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let ours = fuzzing::response_head(bytes);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEAD];
    let mut theirs = httparse::Response::new(&mut headers);
    let parsed = theirs.parse(bytes);
    match (&ours, parsed) {
        (Ok(None), Ok(httparse::Status::Complete(len))) => panic!("whole with {len} bytes, and we wait"),
        (Ok(Some(head)), Ok(httparse::Status::Complete(len))) => {
            assert_eq!((head.len, head.status), (len, theirs.code.unwrap_or_default()));
            // httparse drops a reason with bytes beyond ASCII.
            let reason = theirs.reason.unwrap_or_default().as_bytes();
            assert!(head.text == reason || !head.text.is_ascii(), "{:?}", head.text);
        }
        // httparse knows 1.0 and 1.1 only; any 1.x is HTTP/1 (RFC 9110 section 2.5).
        (Ok(Some(_)), Err(httparse::Error::Version)) => {}
        (Ok(Some(_)), other) => panic!("accepted, and httparse says {other:?}"),
        (Err(_), Ok(httparse::Status::Complete(len))) => {
            // Our limit; empty lines in front, which only a server has to skip (RFC 9112 section 2.2);
            // codes below 100, which are none (RFC 9110 section 15).
            let explained = len > MAX_HEAD || matches!(bytes, [b'\r' | b'\n', ..]) || theirs.code < Some(100);
            assert!(explained, "refused, and httparse accepts {theirs:?}");
        }
        (Ok(None) | Err(_), _) => {}
    }
});
