//! Which values a setting allows, and the reason why it refuses one.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};

use super::mistakes;
use super::row::{Kind, Row, Source};
use super::value::{boolean, duration, level, whole_number};
use crate::address::parse_ip;

impl Row {
    /// Why `value` is not allowed; `None` if it is.
    pub(super) fn problem(&self, value: &OsStr, source: Source) -> Option<String> {
        let empty = matches!(self.kind, Kind::Text | Kind::Path | Kind::Secret) && value.is_empty();
        if empty {
            return Some("must not be empty".into());
        }
        if matches!(self.kind, Kind::Path) {
            return None;
        }
        let Some(text) = value.to_str() else { return Some("expected UTF-8".into()) };
        let allowed = match self.kind {
            Kind::Text | Kind::Path | Kind::Secret | Kind::List => true,
            Kind::Switch => boolean(text).is_some(),
            Kind::Number(least, most) => whole_number(text).is_some_and(|number| (least..=most).contains(&number)),
            Kind::Duration(least, most) => duration(text).is_some_and(|time| (least..=most).contains(&time)),
            Kind::Choice(words) => words.contains(&text),
            Kind::Address => parse_ip(text).is_some_and(can_be_bound),
            Kind::Level => level(text).is_some(),
        };
        if allowed { None } else { Some(["expected ", &self.expected(), &mistakes::hint(self, text, source)].concat()) }
    }

    /// What is allowed, for an error message.
    fn expected(&self) -> String {
        let mut out = String::from(match self.kind {
            Kind::Switch => "true or false (also 1 t T TRUE True, 0 f F FALSE False)",
            Kind::Number(..) => "a whole number in plain digits",
            Kind::Duration(..) => "a time such as 30s or 5m",
            Kind::Address => "an IP address or localhost",
            _ => "",
        });
        self.push_range(&mut out, ", from ");
        let words = self.words();
        for (place, word) in words.iter().enumerate() {
            let before = match place {
                0 => "",
                _ if place + 1 == words.len() => " or ",
                _ => ", ",
            };
            out.extend([before, word]);
        }
        out
    }
}

fn can_be_bound(ip: IpAddr) -> bool {
    !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}
