//! The three endpoints: their names, paths and status words. Their checks are in
//! `server/validation`, the texts of their errors in `server/response`.

/// The start of the reason that `/health` gives while a validation takes too long. The server adds
/// ` after 4521 ms`, and the probe removes that again.
pub(crate) const OVERDUE: &str = "validation has not finished";

/// A check that a client can ask for. Default is [`Health`](Endpoint::Health).
///
/// ```
/// use baton_health::Endpoint;
///
/// assert_eq!(Endpoint::from_name("ready"), Some(Endpoint::Ready));
/// assert_eq!(Endpoint::Ready.path(), "/ready");
/// assert_eq!((Endpoint::Ready.ok_status(), Endpoint::Ready.failed_status()), ("ready", "not_ready"));
/// assert_eq!(Endpoint::ALL.map(Endpoint::name), ["health", "ready", "live"]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/health`: does the connector's `validate` succeed? For alarms and dashboards.
    #[default]
    Health,
    /// `/ready`: is the connector there, and can it serve? For readiness probes.
    Ready,
    /// `/live`: does the process answer at all? For liveness probes, which restart a process that fails.
    Live,
}

impl Endpoint {
    /// All endpoints, in the order in which texts for people list them.
    pub const ALL: [Endpoint; 3] = [Endpoint::Health, Endpoint::Ready, Endpoint::Live];

    /// The name on the command line: `health`, `ready` or `live`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Endpoint::Health => "health",
            Endpoint::Ready => "ready",
            Endpoint::Live => "live",
        }
    }

    /// The path in a request: `/health`, `/ready` or `/live`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Endpoint::Health => "/health",
            Endpoint::Ready => "/ready",
            Endpoint::Live => "/live",
        }
    }

    /// The `status` of a body that comes with 200: `healthy`, `ready` or `alive`.
    #[must_use]
    pub const fn ok_status(self) -> &'static str {
        match self {
            Endpoint::Health => "healthy",
            Endpoint::Ready => "ready",
            Endpoint::Live => "alive",
        }
    }

    /// The `status` of a body that comes with 503: `unhealthy` or `not_ready`; `/live` never fails.
    #[must_use]
    pub const fn failed_status(self) -> &'static str {
        match self {
            Endpoint::Health => "unhealthy",
            Endpoint::Ready => "not_ready",
            Endpoint::Live => "not_alive",
        }
    }

    /// The endpoint with that name on the command line.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Endpoint> {
        Endpoint::ALL.into_iter().find(|endpoint| endpoint.name() == name)
    }

    /// The endpoint with exactly that path: no trailing slash, no other case.
    #[must_use]
    pub fn from_path(path: &[u8]) -> Option<Endpoint> {
        Endpoint::ALL.into_iter().find(|endpoint| endpoint.path().as_bytes() == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_its_own_words() {
        let words = |endpoint: Endpoint| [endpoint.name(), endpoint.path(), endpoint.ok_status(), endpoint.failed_status()];
        assert_eq!(words(Endpoint::Health), ["health", "/health", "healthy", "unhealthy"]);
        assert_eq!(words(Endpoint::Ready), ["ready", "/ready", "ready", "not_ready"]);
        assert_eq!(words(Endpoint::Live), ["live", "/live", "alive", "not_alive"]);
        assert_eq!(Endpoint::default(), Endpoint::Health);
    }

    #[test]
    fn names_and_paths_lead_back_to_their_endpoint() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::from_name(endpoint.name()), Some(endpoint));
            assert_eq!(Endpoint::from_path(endpoint.path().as_bytes()), Some(endpoint));
            assert_eq!(endpoint.path().strip_prefix('/'), Some(endpoint.name()));
        }
        for other in ["", "/", "health", "/health/", "/HEALTH", "/healthz", "/heal"] {
            assert_eq!(Endpoint::from_path(other.as_bytes()), None, "{other}");
        }
        for other in ["", "Health", "/health", "alive", "health "] {
            assert_eq!(Endpoint::from_name(other), None, "{other}");
        }
    }
}
