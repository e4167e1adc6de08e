//! Socket addresses: parsed without a resolver, printed, and where to reach a server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::text::{push_digits, push_number};

/// The address that the server listens on, and the probe asks, unless told otherwise: `127.0.0.1`.
pub const DEFAULT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The port that the server listens on, and the probe asks, unless told otherwise: 8081.
///
/// ```
/// use baton_health::{DEFAULT_ADDRESS, DEFAULT_PORT, Probe};
///
/// let probe = Probe::new((DEFAULT_ADDRESS, DEFAULT_PORT).into());
/// assert_eq!(probe.get_address().to_string(), "127.0.0.1:8081");
/// ```
pub const DEFAULT_PORT: u16 = 8081;

/// Parses an IP address, with or without brackets, or `localhost`. These need no resolver.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(DEFAULT_ADDRESS);
    }
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// The address at which a server can connect to its own listener: for an unspecified address, the loopback
/// address of the same family. The probe uses [`candidates`] instead, since it does not know the family.
#[must_use]
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some_and(|ip| ip.is_unspecified()) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return address,
    };
    SocketAddr::new(ip, address.port())
}

/// The address itself, or the IPv4 address that an IPv4-mapped one stands for: several systems give IPv6 sockets
/// no IPv4, Windows among them.
#[must_use]
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
        // With its zone.
        IpAddr::V6(_) => address,
    }
}

/// The addresses that the probe tries, in order, if `address` is configured. An unspecified address means
/// all addresses of both families, and the server may listen on only one of the two.
#[must_use]
pub(crate) fn candidates(address: SocketAddr) -> (SocketAddr, Option<SocketAddr>) {
    let address = canonical(address);
    if !address.ip().is_unspecified() {
        return (address, None);
    }
    let on = |ip: IpAddr| SocketAddr::new(ip, address.port());
    (on(Ipv4Addr::LOCALHOST.into()), Some(on(Ipv6Addr::LOCALHOST.into())))
}

/// Prints an address as [`SocketAddr`] does, with 5 kB less code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.push(&mut text);
        f.write_str(&text)
    }
}

impl Address {
    /// Writes the address with its zone, for people.
    pub(crate) fn push(self, out: &mut String) {
        let zone = match self.0 {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        self.push_with_zone(out, zone);
    }

    /// Writes the value of a `Host` field. It has no zone: a zone means nothing on another machine, and the
    /// grammar has no place for one (RFC 9110 section 7.2, RFC 6874 section 1).
    pub(crate) fn push_host(self, out: &mut String) {
        self.push_with_zone(out, 0);
    }

    fn push_with_zone(self, out: &mut String, zone: u32) {
        match self.0.ip() {
            IpAddr::V4(ip) => push_ipv4(out, ip),
            IpAddr::V6(ip) => {
                out.push('[');
                push_ipv6(out, ip);
                if zone != 0 {
                    out.push('%');
                    push_digits(out, zone.into(), 1);
                }
                out.push(']');
            }
        }
        out.push(':');
        push_digits(out, self.0.port().into(), 1);
    }
}

fn push_ipv4(out: &mut String, ip: Ipv4Addr) {
    for (place, byte) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            out.push('.');
        }
        push_digits(out, byte.into(), 1);
    }
}

/// The text form of RFC 5952: lower case, no leading zeros, and `::` for the first of the longest
/// runs of two or more zeros. An IPv4-mapped address ends in dotted decimal (section 5).
fn push_ipv6(out: &mut String, ip: Ipv6Addr) {
    if let Some(ip) = ip.to_ipv4_mapped() {
        out.push_str("::ffff:");
        return push_ipv4(out, ip);
    }
    let segments = ip.segments();
    let zeros = |from: usize| segments.iter().skip(from).take_while(|&&segment| segment == 0).count();
    let (mut start, mut count) = (segments.len(), 1);
    for from in 0..segments.len() {
        if zeros(from) > count {
            (start, count) = (from, zeros(from));
        }
    }
    let mut colon = false;
    for (place, &segment) in segments.iter().enumerate() {
        if place == start {
            out.push_str("::");
            colon = false;
        } else if !(start..start + count).contains(&place) {
            if colon {
                out.push(':');
            }
            colon = true;
            push_number(out, segment.into(), 16, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_std_prints_them() {
        let same = |address: SocketAddr| assert_eq!(Address(address).to_string(), address.to_string());
        for text in
            ["127.0.0.1:0", "0.0.0.0:65535", "255.255.255.255:8081", "10.9.100.199:80", "[::]:1", "[::1]:10", "[fe80::1%7]:80"]
        {
            assert_eq!(Address(text.parse().unwrap()).to_string(), text);
        }
        // Every pattern of zeros, digits of every length, IPv4 in IPv6, and addresses that only look like that.
        for zeros in (0..=255_u8).step_by(if cfg!(miri) { 15 } else { 1 }) {
            for digits in [1_u16, 0xf, 0x10, 0xab, 0x100, 0x1000, 0xffff] {
                let segments = std::array::from_fn(|place| if zeros >> place & 1 == 1 { 0 } else { digits });
                same(SocketAddr::new(Ipv6Addr::from(segments).into(), u16::from(zeros) * 257));
            }
        }
        for segments in [[0, 0, 0, 0, 0, 0xffff, 0x102, 0xfffe], [0, 0, 0, 0, 0xffff, 0, 1, 2], [0, 0, 0, 0, 0, 0, 0x102, 0x304]] {
            same(SocketAddr::new(Ipv6Addr::from(segments).into(), 80));
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn addresses_are_literals_or_localhost() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("localhost", Some("127.0.0.1")),
            ("::1", Some("::1")),
            ("[::1]", Some("::1")),
            ("::ffff:127.0.0.1", Some("::ffff:127.0.0.1")),
            ("", None),
            ("example.com", None),
            ("127.1", None),
            ("0127.0.0.1", None),
            ("127.0.0.1:80", None),
            ("[127.0.0.1]", None),
            ("[::1", None),
            ("::1]", None),
            ("[[::1]]", None),
            ("fe80::1%lo", None),
        ] {
            assert_eq!(parse_ip(text).map(|ip| ip.to_string()).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_host_field_has_no_zone() {
        for (address, expected) in [
            ("[fe80::1%2]:8081", "[fe80::1]:8081"),
            ("[fe80::1]:8081", "[fe80::1]:8081"),
            ("[::ffff:192.0.2.1]:80", "[::ffff:192.0.2.1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let mut host = String::new();
            Address(address.parse().unwrap()).push_host(&mut host);
            assert_eq!(host, expected, "{address}");
        }
    }

    #[test]
    fn an_unspecified_address_is_tried_in_both_families_ipv4_first() {
        for (address, first, second) in [
            ("0.0.0.0:80", "127.0.0.1:80", Some("[::1]:80")),
            ("[::]:80", "127.0.0.1:80", Some("[::1]:80")),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1:80", Some("[::1]:80")),
            ("127.0.0.1:80", "127.0.0.1:80", None),
            ("[::1]:80", "[::1]:80", None),
            ("192.0.2.1:80", "192.0.2.1:80", None),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80", None),
            ("[fe80::1%7]:80", "[fe80::1%7]:80", None),
        ] {
            let expected = (first.parse().unwrap(), second.map(|second| second.parse().unwrap()));
            assert_eq!(candidates(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_server_reaches_its_own_unspecified_address_on_loopback() {
        for (address, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()), expected.parse().unwrap(), "{address}");
        }
    }
}
