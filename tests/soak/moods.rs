//! What a connector's checks give, and which answers a client may get for it.

use baton_health::{Endpoint, ProbeError, ProbeErrorKind};
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Healthy,
    Fails,
    Panics,
    Hangs,
    NotReady,
}

/// A kind, and a number that its texts have and that no other mood has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mood {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Healthy, "healthy"),
    (Kind::Fails, "fails"),
    (Kind::Panics, "panics"),
    (Kind::Hangs, "hangs"),
    (Kind::NotReady, "not-ready"),
];

impl Mood {
    pub(crate) fn text(self) -> String {
        let name = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        format!("{name} {}", self.number)
    }

    pub(crate) fn parse(text: &str) -> Option<Mood> {
        let (name, number) = text.split_once(' ')?;
        let (kind, _) = KINDS.into_iter().find(|(_, other)| *other == name)?;
        Some(Mood { kind, number: number.parse().ok()? })
    }

    /// Whether a client may get this answer in this mood.
    pub(crate) fn allows(self, endpoint: Endpoint, answer: &Answer) -> bool {
        let fails_with = |text: &str| matches!(answer, Answer::Unavailable(body) if body.ends_with(text));
        match (endpoint, self.kind) {
            (Endpoint::Health, Kind::Fails | Kind::Panics) | (Endpoint::Ready, Kind::NotReady) => fails_with(&self.text()),
            (Endpoint::Health, Kind::Hangs) => fails_with("validation has not finished"),
            _ => *answer == Answer::Ok,
        }
    }
}

/// What a probe was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    /// 503, with the text of the answer.
    Unavailable(String),
    /// No answer, or another one.
    Lost(String),
}

impl Answer {
    pub(crate) fn of(result: Result<(), ProbeError>) -> Answer {
        match result {
            Ok(()) => Answer::Ok,
            Err(error) => match error.kind() {
                ProbeErrorKind::Status { code: 503, body, .. } => Answer::Unavailable(body.clone()),
                _ => Answer::Lost(error.to_string()),
            },
        }
    }
}

/// All moods so far, and which of them a client may notice now.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    moods: Vec<Mood>,
    /// The first mood whose verdict `/health` may still give: it may reuse one.
    health: usize,
    /// The same for `/ready`.
    ready: usize,
    /// Times at which threads became scarce or plenty. While they are scarce, this is odd.
    shortages: usize,
}

/// What a client may be told, as it was when the client began to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    first: usize,
    shortages: usize,
}

impl History {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on clients may notice this mood.
    pub(crate) fn begins(&self, mood: Mood) {
        self.with(|state| state.moods.push(mood));
    }

    /// From now on clients of that endpoint must not notice any earlier mood.
    pub(crate) fn has_changed(&self, endpoint: Endpoint) {
        self.with(|state| match endpoint {
            Endpoint::Health => state.health = state.moods.len() - 1,
            _ => state.ready = state.moods.len() - 1,
        });
    }

    pub(crate) fn threads_are_scarce(&self, scarce: bool) {
        self.with(|state| {
            assert_eq!(state.shortages % 2 == 0, scarce);
            state.shortages += 1;
        });
    }

    pub(crate) fn begin(&self, endpoint: Endpoint) -> Begun {
        self.with(|state| Begun {
            first: if endpoint == Endpoint::Health { state.health } else { state.ready },
            shortages: state.shortages,
        })
    }

    pub(crate) fn since(&self, begun: Begun) -> Vec<Mood> {
        self.with(|state| state.moods[begun.first..].to_vec())
    }

    /// Whether some mood since then allows the answer.
    pub(crate) fn allows(&self, begun: Begun, endpoint: Endpoint, answer: &Answer) -> bool {
        self.with(|state| {
            let scarce = begun.shortages % 2 == 1 || state.shortages != begun.shortages;
            let no_thread = Answer::Unavailable("connector validation failed: the system has no thread for this request".into());
            let not_ready = Answer::Unavailable("connector is not ready: the system has no thread for this request".into());
            let excused = scarce && endpoint != Endpoint::Live && (*answer == no_thread || *answer == not_ready);
            excused || state.moods[begun.first..].iter().any(|mood| mood.allows(endpoint, answer))
        })
    }
}
