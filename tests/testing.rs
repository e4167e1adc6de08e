//! How to test a connector: what it makes of its settings, what `/health` says of it, and how its work ends.
//! Copy what you need.
#![cfg(feature = "cli")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use baton_health::{
    App, BoxError, Config, Connector, Endpoint, HealthServer, Probe, ProbeErrorKind, Secret, Setting, Settings, Stop,
};

// The connector. Its `main` would be `app().run(Directory::connect)`.

const ADDRESS: Setting<String> = Setting::text("address", "HOST:PORT").help("Where the directory is");
const TOKEN: Setting<Secret> = Setting::secret("token").help("What the directory knows us by");
const INTERVAL: Setting<Duration> = Setting::duration("interval").default(Duration::from_secs(60)).help("Time between two syncs");

fn app() -> App {
    App::new("baton-directory", "1.0.0").setting(&ADDRESS).setting(&TOKEN).setting(&INTERVAL)
}

struct Directory {
    address: String,
    interval: Duration,
    syncs: AtomicU32,
}

impl Directory {
    fn connect(settings: &Settings) -> Result<Directory, BoxError> {
        let address = settings.get(&ADDRESS);
        if !address.contains(':') {
            return Err(settings.error(&ADDRESS, &"it has no port"));
        }
        if settings.get(&TOKEN).expose().len() < 5 {
            return Err(settings.error(&TOKEN, &"it is too short"));
        }
        Ok(Directory { address, interval: settings.get(&INTERVAL), syncs: AtomicU32::new(0) })
    }
}

impl Connector for Directory {
    fn validate(&self) -> Result<(), BoxError> {
        if self.address == "down:80" { Err("the directory is down".into()) } else { Ok(()) }
    }

    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        while !stop.wait_for(self.interval) {
            self.syncs.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

// Its settings.

fn connect(arguments: &[&str]) -> Result<Directory, BoxError> {
    Directory::connect(&app().try_parse_from(arguments, &[("BATON_TOKEN", "hunter2")])?)
}

#[test]
fn settings_are_read_and_their_mistakes_told() {
    let directory = connect(&["--address=here:80", "--interval=5m"]).expect("all is well");
    assert_eq!((&*directory.address, directory.interval), ("here:80", Duration::from_secs(300)));
    for (arguments, expected) in [
        (&["--address=here"][..], "invalid --address \"here\": it has no port"),
        (&[], "--address or BATON_ADDRESS is required (see --help)"),
        (&["--adress=here:80"], "unknown flag --adress (did you mean --address?)"),
        (&["health-check"], "these arguments do not run the connector"),
    ] {
        assert_eq!(connect(arguments).map(drop).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_secret_may_come_from_a_file() {
    let path = std::env::temp_dir().join(format!("baton-directory-token-{}", std::process::id()));
    let flag = format!("--token-file={}", path.display());
    let token = |variables: &[(&str, &str)]| {
        let settings = app().try_parse_from(["--address=here:80", &flag], variables)?;
        Ok::<_, BoxError>((settings.get(&TOKEN).expose().to_owned(), settings.origin(&TOKEN)))
    };
    for contents in ["hunter2\n", "hunter2\r\n", "hunter2"] {
        std::fs::write(&path, contents).expect("room for a file");
        assert_eq!(token(&[]).expect("it is there"), ("hunter2".into(), "--token-file".into()));
    }
    let both = token(&[("BATON_TOKEN", "hunter2")]).unwrap_err().to_string();
    assert_eq!(both, "BATON_TOKEN and --token-file are both set: one is enough");
    std::fs::write(&path, vec![b'x'; 65_536]).expect("room for a file");
    assert_eq!(token(&[]).expect("it is just small enough").0.len(), 65_536);
    for (contents, reason) in [(Vec::new(), "the file is empty"), (vec![b'x'; 65_537], "larger than 64 KiB")] {
        std::fs::write(&path, contents).expect("room for a file");
        assert_eq!(token(&[]).unwrap_err().to_string(), format!("--token-file {}: {reason}", path.display()));
    }
    std::fs::remove_file(&path).expect("it is there");
    let missing = token(&[]).unwrap_err().to_string();
    assert!(missing.starts_with(&format!("--token-file {}: ", path.display())), "{missing}");
}

// What `/health` says: a server on any free port, and a probe beside it.

#[test]
fn health_is_what_validate_says() {
    let mut config = Config::default();
    config.address.set_port(0);
    let server = HealthServer::bind(config).expect("a free port");
    let probe = |endpoint| Probe::new(server.local_addr()).endpoint(endpoint).run();
    assert!(probe(Endpoint::Live).is_ok() && probe(Endpoint::Ready).is_err(), "nothing is attached yet");
    server.attach(Arc::new(connect(&["--address=down:80"]).expect("it can be built")));
    assert!(probe(Endpoint::Ready).is_ok());
    match probe(Endpoint::Health).unwrap_err().kind() {
        ProbeErrorKind::Status { code: 503, body, .. } => assert!(body.contains("the directory is down"), "{body}"),
        other => panic!("{other:?}"),
    }
}

// How its work goes, and ends.

#[test]
fn serve_syncs_until_it_is_asked_to_stop() {
    let directory = connect(&["--address=here:80", "--interval=1ms"]).expect("it can be built");
    let stop = Stop::default();
    thread::scope(|scope| {
        let serving = scope.spawn(|| directory.serve(&stop));
        while directory.syncs.load(Ordering::SeqCst) < 2 && !serving.is_finished() {
            thread::yield_now();
        }
        stop.request();
        assert!(serving.join().expect("it does not panic").is_ok());
    });
}
