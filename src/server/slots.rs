//! Who has a place, who is idle, and who is evicted: the bookkeeping, without sockets, threads or clocks.
//!
//! A connection is *idle* while it waits for its client: for the rest of a head, or for the close. It is
//! *active* while the server works on its answer. Only idle connections are evicted.

use std::net::IpAddr;

/// Names a connection. Larger ids were accepted later.
pub(crate) type Id = u64;

/// The places for connections; `C` is what it takes to evict one.
#[derive(Debug)]
pub(crate) struct Slots<C> {
    capacity: usize,
    last_id: Id,
    /// Connections that are not closed yet, those that were told to go included.
    open: usize,
    evicting: Vec<Id>,
    /// Oldest first.
    idle: Vec<Idle<C>>,
}

#[derive(Debug)]
struct Idle<C> {
    id: Id,
    network: Network,
    handle: C,
}

/// Where a client comes from, as far as eviction distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Network {
    Loopback,
    /// An IPv4 address, or the first 64 bits of an IPv6 one: one client can have all addresses below them.
    Remote(u64),
}

impl Network {
    pub(crate) fn of(client: IpAddr) -> Network {
        match client.to_canonical() {
            ip if ip.is_loopback() => Network::Loopback,
            IpAddr::V4(ip) => Network::Remote(ip.to_bits().into()),
            IpAddr::V6(ip) => Network::Remote((ip.to_bits() >> 64) as u64),
        }
    }
}

impl<C> Slots<C> {
    pub(crate) fn new(capacity: usize) -> Slots<C> {
        Slots { capacity, last_id: 0, open: 0, evicting: Vec::new(), idle: Vec::new() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Gives a connection a place, unless all places are taken.
    pub(crate) fn enter(&mut self) -> Option<Id> {
        if self.is_full() {
            return None;
        }
        self.last_id += 1;
        self.open += 1;
        Some(self.last_id)
    }

    /// The connection waits for its client from now on. That makes no difference to one that was told to go.
    pub(crate) fn becomes_idle(&mut self, id: Id, network: Network, handle: C) {
        let at = self.idle.partition_point(|idle| idle.id < id);
        let is_idle = self.idle.get(at).is_some_and(|idle| idle.id == id);
        if !is_idle && !self.is_evicted(id) {
            self.idle.insert(at, Idle { id, network, handle });
        }
    }

    /// The connection does not wait for its client any longer.
    pub(crate) fn becomes_active(&mut self, id: Id) {
        self.idle.retain(|idle| idle.id != id);
    }

    /// The connection is closed.
    pub(crate) fn leave(&mut self, id: Id) {
        self.becomes_active(id);
        self.evicting.retain(|other| *other != id);
        self.open -= 1;
    }

    /// Takes a place from an idle connection, which has to be told to go: the oldest one of the remote
    /// network that has the most idle connections, or else the oldest one from this machine. Only those that
    /// `may_go` allows count.
    pub(crate) fn evict(&mut self, may_go: &dyn Fn(Id) -> bool) -> Option<C> {
        let candidates = || self.idle.iter().filter(|idle| may_go(idle.id));
        let mut remote: Vec<Network> =
            candidates().map(|idle| idle.network).filter(|network| *network != Network::Loopback).collect();
        remote.sort_unstable();
        // Of equal counts the last one counts, which is as good as any other.
        let largest = remote.chunk_by(|a, b| a == b).max_by_key(|chunk| chunk.len()).and_then(|chunk| chunk.first());
        let network = *largest.unwrap_or(&Network::Loopback);
        let at = self.idle.iter().position(|idle| idle.network == network && may_go(idle.id))?;
        let idle = self.idle.remove(at);
        self.evicting.push(idle.id);
        Some(idle.handle)
    }

    /// Takes the places of all idle connections.
    pub(crate) fn evict_all(&mut self) -> Vec<C> {
        std::iter::from_fn(|| self.evict(&|_| true)).collect()
    }

    /// Whether the connection was told to go.
    pub(crate) fn is_evicted(&self, id: Id) -> bool {
        self.evicting.contains(&id)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open - self.evicting.len() >= self.capacity
    }

    /// Connections that are not closed yet, those that were told to go included.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Connections that were told to go, and are not closed yet.
    pub(crate) fn evicting(&self) -> usize {
        self.evicting.len()
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: Network = Network::Remote(1);
    const THIRD: Network = Network::Remote(2);

    /// Enters idle connections from those networks, named by their number.
    fn full_of(networks: &[Network]) -> Slots<usize> {
        let mut slots = Slots::new(networks.len());
        for (name, network) in networks.iter().enumerate() {
            let id = slots.enter().unwrap();
            slots.becomes_idle(id, *network, name);
        }
        slots
    }

    fn evicted(slots: &mut Slots<usize>) -> Vec<usize> {
        slots.evict_all()
    }

    #[test]
    fn the_oldest_idle_connection_goes_first() {
        let mut slots = full_of(&[Network::Loopback; 4]);
        assert_eq!(evicted(&mut slots), [0, 1, 2, 3]);
    }

    #[test]
    fn the_network_with_most_idle_connections_loses_one_first_and_this_machine_last() {
        let mut slots = full_of(&[Network::Loopback, ELSEWHERE, THIRD, THIRD, Network::Loopback, THIRD]);
        assert_eq!(evicted(&mut slots)[..2], [2, 3]);
        let mut slots = full_of(&[Network::Loopback, ELSEWHERE]);
        assert_eq!(evicted(&mut slots), [1, 0]);
    }

    #[test]
    fn an_active_connection_is_never_evicted() {
        let mut slots = full_of(&[Network::Loopback; 3]);
        slots.becomes_active(2);
        assert_eq!(evicted(&mut slots), [0, 2]);
        assert_eq!(slots.evict(&|_| true), None);
    }

    #[test]
    fn one_eviction_makes_room_for_one_connection() {
        let mut slots = full_of(&[Network::Loopback; 2]);
        assert_eq!(slots.enter(), None);
        assert_eq!(slots.evict(&|_| true), Some(0));
        assert_eq!(slots.enter(), Some(3));
        assert_eq!(slots.enter(), None, "the place is taken again");
        assert_eq!((slots.open(), slots.evicting()), (3, 1));
        slots.leave(1);
        assert_eq!((slots.open(), slots.evicting()), (2, 0));
        assert_eq!(slots.enter(), None, "its place was taken when it was evicted");
        slots.leave(2);
        assert_eq!(slots.enter(), Some(4));
    }

    #[test]
    fn a_connection_that_is_idle_again_keeps_its_age() {
        let mut slots = full_of(&[Network::Loopback; 3]);
        slots.becomes_active(1);
        slots.becomes_idle(1, Network::Loopback, 0);
        assert_eq!(evicted(&mut slots), [0, 1, 2]);
    }

    #[test]
    fn a_connection_is_idle_once_and_never_after_its_eviction() {
        let mut slots = full_of(&[Network::Loopback; 2]);
        slots.becomes_idle(1, Network::Loopback, 0);
        assert_eq!(slots.idle(), 2);
        assert_eq!(slots.evict(&|id| id != 1), Some(1));
        slots.becomes_idle(2, Network::Loopback, 1);
        assert_eq!((slots.idle(), slots.is_evicted(2)), (1, true));
    }

    #[test]
    fn a_client_has_one_ipv4_address_or_64_bits_of_an_ipv6_one() {
        let of = |ip: &str| Network::of(ip.parse().unwrap());
        for here in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(here), Network::Loopback, "{here}");
        }
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:2::1"), ("192.0.2.1", "127.0.0.1")] {
            assert_ne!(of(one), of(other), "{one} {other}");
        }
    }
}
