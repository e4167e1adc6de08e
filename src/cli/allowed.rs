//! What a setting allows, and what is said of a value that it does not.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};

use super::mistakes;
use super::row::{FORMATS, Kind, LEVELS, Row, Source};
use super::value::{boolean, duration, level, whole_number};
use crate::address::parse_ip;
use crate::endpoint::Endpoint;

impl Row {
    /// Why `value` is not allowed, if it is not.
    pub(super) fn problem(&self, value: &OsStr, source: Source) -> Option<String> {
        let empty = matches!(self.kind, Kind::Text | Kind::Path | Kind::Secret) && value.is_empty();
        if empty {
            return Some("must not be empty".into());
        }
        if self.kind == Kind::Path {
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
            Kind::Endpoint => Endpoint::from_name(text).is_some(),
            Kind::Level => level(text).is_some(),
            Kind::Format => FORMATS.contains(&text),
        };
        if allowed { None } else { Some(["expected ", &self.expected(), &mistakes::hint(self, text, source)].concat()) }
    }

    /// What is allowed, for an error message.
    fn expected(&self) -> String {
        let mut out = String::new();
        match self.kind {
            Kind::Switch => out.push_str("true or false (also 1 t T TRUE True, 0 f F FALSE False)"),
            Kind::Number(..) => {
                out.push_str("a whole number");
                self.push_range(&mut out, " from ");
                out.push_str(" in plain digits");
            }
            Kind::Duration(..) => {
                out.push_str("a time such as 30s or 5m");
                self.push_range(&mut out, ", from ");
            }
            Kind::Choice(words) => push_choice(&mut out, words),
            Kind::Endpoint => push_choice(&mut out, &Endpoint::ALL.map(Endpoint::name)),
            Kind::Level => push_choice(&mut out, &LEVELS),
            Kind::Format => push_choice(&mut out, &FORMATS),
            Kind::Address => out.push_str("an IP address or localhost"),
            Kind::Text | Kind::Path | Kind::Secret | Kind::List => {}
        }
        out
    }
}

fn can_be_bound(ip: IpAddr) -> bool {
    !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn push_choice(out: &mut String, words: &[&str]) {
    for (place, word) in words.iter().enumerate() {
        if place > 0 {
            out.push_str(if place + 1 == words.len() { " or " } else { ", " });
        }
        out.push_str(word);
    }
}
