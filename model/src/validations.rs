use crate::check::Scenario;
pub(crate) const SCENARIOS: &[Scenario] = &[];
