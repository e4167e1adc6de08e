//! How to test a connector with an upstream: its settings, what `/health` says of it, and how its work ends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use baton_health::{Config, HealthServer, Probe, ProbeErrorKind};

use super::*;

const HERE: &str = "--url=https://localhost/api/";

fn connect(arguments: &[&str]) -> Result<Directory, BoxError> {
    Directory::connect(&app().try_parse_from(arguments, &[("BATON_TOKEN", "hunter2")])?)
}

#[test]
fn settings_are_read_and_their_mistakes_told() {
    let directory = connect(&[HERE, "--page-size=7"]).expect("all is well");
    assert_eq!((&*directory.url, &*directory.page_size), ("https://localhost/api", "7"));
    for (arguments, expected) in [
        (&[][..], "--url or BATON_URL is required (see --help)"),
        (&["--url=http://a"], "invalid --url \"http://a\": expected https://HOST[:PORT][/PATH]"),
        (&["--url=localhost"], "invalid --url \"localhost\": expected https://HOST[:PORT][/PATH]"),
        (&["--url=https://u@a"], "invalid --url \"https://u@a\": expected https://HOST[:PORT][/PATH]"),
        (&[HERE, "--ca-file=/dev/null"], "invalid --ca-file \"/dev/null\": it holds no certificate"),
        (&[HERE, "--ca-file=/none"], "invalid --ca-file \"/none\": No such file or directory (os error 2)"),
    ] {
        assert_eq!(connect(arguments).map(drop).unwrap_err().to_string(), expected);
    }
    assert!(connect(&[HERE, "--page-size=0"]).is_err() && connect(&[HERE, "--page-size=1000"]).is_ok());
    let settings = app().try_parse_from([HERE], &[("BATON_TOKEN", "hunter\n2")]).expect("a token");
    let refused = Directory::connect(&settings).map(drop).unwrap_err().to_string();
    assert_eq!(refused, "invalid BATON_TOKEN: no header can hold it");
}

/// A connector and its directory, which answers a request's target with `answer`. Plain HTTP is enough here.
fn upstream(mut answer: impl FnMut(&str) -> String + Send + 'static) -> Directory {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let mut directory = connect(&[HERE, "--page-size=2"]).expect("it can be built");
    directory.url = format!("http://{}", listener.local_addr().expect("it listens"));
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut stream = BufReader::new(stream);
            let head: Vec<String> = stream.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let known = head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer hunter2"));
            let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("");
            let answer = if known { answer(target) } else { "HTTP/1.1 401 \r\n\r\n".into() };
            // A client that has gone is its own affair.
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    directory
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Three users on two pages.
fn good(target: &str) -> String {
    match target {
        "/whoami" => ok("{}"),
        "/users?limit=2&after=" => ok(r#"{"users":[{"id":"1","name":"a"},{"id":"2","name":"b"}],"next":"2&","total":3}"#),
        "/users?limit=2&after=2%26" => ok(r#"{"users":[{"id":"3","name":"c"}],"total":3}"#),
        _ => "HTTP/1.1 404 \r\n\r\n".into(),
    }
}

/// What a probe hears about `/health`, from a server on any free port.
fn health(directory: Directory) -> Result<(), String> {
    let mut config = Config::default();
    config.address.set_port(0);
    let server = HealthServer::bind(config).expect("a free port");
    server.attach(Arc::new(directory));
    Probe::new(server.local_addr()).run().map(drop).map_err(|error| match error.kind() {
        ProbeErrorKind::Status { code: 503, body, .. } => body.clone(),
        other => format!("{other:?}"),
    })
}

#[test]
fn health_asks_the_directory() {
    health(upstream(good)).expect("all is well");
    for (answer, expected) in [
        ("HTTP/1.1 401 hunter2\r\nContent-Length: 7\r\n\r\nhunter2", "/whoami: the directory refuses our token"),
        ("HTTP/1.1 302 \r\nLocation: http://localhost/hunter2\r\n\r\n", "/whoami: status 302"),
        ("HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nhunter2", "/whoami: "),
        ("hunter2", "/whoami: "),
    ] {
        let told = health(upstream(|_| answer.into())).unwrap_err();
        assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_list_that_cannot_be_whole_is_an_error() {
    for (page, expected) in [
        (r#"{"users":[{"id":"1","name":"a"}],"total":5}"#, "the list is cut short: 1 of 5 users"),
        (r#"{"users":[{"id":"1","name":"a"}],"next":"1","total":5}"#, "the list is cut short: 1 of 5 users"),
        (r#"{"users":"hunter2","total":5}"#, "not a page of users: line 1 column 18"),
        (r#"{"users":[]"#, "not a page of users: line 1 column 11"),
    ] {
        let mut asked = 0;
        let directory = upstream(move |target| {
            asked += 1;
            assert!(asked < 10, "it asks for ever");
            if target == "/whoami" { good(target) } else { ok(page) }
        });
        directory.sync(&Stop::default());
        assert_eq!(directory.ready().unwrap_err().to_string(), "not synced yet");
        let told = health(directory).unwrap_err();
        assert!(told.contains("the last sync failed: ") && told.contains(expected) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn serve_goes_on_after_a_failure_until_it_is_asked_to_stop() {
    let asked = AtomicU32::new(0);
    let mut directory = upstream(move |target| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => "HTTP/1.1 500 \r\n\r\n".into(),
        _ => good(target),
    });
    directory.interval = Duration::from_millis(1);
    let stop = Stop::default();
    thread::scope(|scope| {
        let serving = scope.spawn(|| directory.serve(&stop));
        while directory.synced().at.is_none() {
            assert!(!serving.is_finished(), "it goes on until it is asked to stop");
            thread::yield_now();
        }
        stop.request();
        assert!(serving.join().expect("it does not panic").is_ok());
    });
    assert_eq!(directory.synced().users.values().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(directory.synced().failure.is_none());
}
