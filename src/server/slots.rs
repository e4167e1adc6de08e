//! Counts the places for connections, and chooses which connection to evict. It has no sockets, threads
//! or clocks.
//!
//! A connection is *idle* while it waits for its client: for the rest of a head, or for the close. It is
//! *active* while the server works on its answer. Only idle connections are evicted.

use std::net::IpAddr;

/// Identifies a connection. One that was accepted later has a larger id.
pub(crate) type Id = u64;

/// The places for connections. `C` is the handle that evicts one.
#[derive(Debug)]
pub(crate) struct Slots<C> {
    capacity: usize,
    last_id: Id,
    /// Connections that are not closed yet, evicted ones included.
    open: usize,
    /// Evicted connections that are not closed yet.
    evicting: Vec<Id>,
    /// Oldest first.
    idle: Vec<Idle<C>>,
    /// How many idle connections each network has, this machine included.
    networks: Vec<(Network, usize)>,
}

#[derive(Debug)]
struct Idle<C> {
    id: Id,
    network: Network,
    handle: C,
}

/// The network a client comes from, as eviction counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Loopback,
    /// An IPv4 address, or the first 64 bits of an IPv6 address: one client can have all addresses of a /64.
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
        Slots { capacity, last_id: 0, open: 0, evicting: Vec::new(), idle: Vec::new(), networks: Vec::new() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// An id for a connection that was accepted now.
    pub(crate) fn arrival(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }

    /// Gives a connection a place: that of a connection that was evicted for it, or a free one. Returns whether
    /// there is one.
    pub(crate) fn enter(&mut self, replaces_another: bool) -> bool {
        let entered = replaces_another || !self.is_full();
        self.open += usize::from(entered);
        entered
    }

    /// Marks the connection idle, unless it is idle already or evicted.
    pub(crate) fn becomes_idle(&mut self, id: Id, network: Network, handle: C) {
        let at = self.idle.partition_point(|idle| idle.id < id);
        let is_idle = self.idle.get(at).is_some_and(|idle| idle.id == id);
        if !is_idle && !self.is_evicted(id) {
            self.idle.insert(at, Idle { id, network, handle });
            match self.networks.iter_mut().find(|(other, _)| *other == network) {
                Some((_, count)) => *count += 1,
                None => self.networks.push((network, 1)),
            }
        }
    }

    /// Marks the connection active, and returns what `becomes_idle` needs to mark it idle again.
    pub(crate) fn take_idle(&mut self, id: Id) -> Option<(Network, C)> {
        let at = self.idle.iter().position(|idle| idle.id == id)?;
        let idle = self.remove_idle(at);
        Some((idle.network, idle.handle))
    }

    fn remove_idle(&mut self, at: usize) -> Idle<C> {
        let idle = self.idle.remove(at);
        self.networks.retain_mut(|(network, count)| {
            *count -= usize::from(*network == idle.network);
            *count > 0
        });
        idle
    }

    /// Marks the connection active.
    pub(crate) fn becomes_active(&mut self, id: Id) {
        drop(self.take_idle(id));
    }

    /// Marks the connection active for good, since its request has arrived. Returns whether it was evicted.
    pub(crate) fn stays(&mut self, id: Id) -> bool {
        self.becomes_active(id);
        let evicting = self.evicting.len();
        self.evicting.retain(|other| *other != id);
        self.evicting.len() < evicting
    }

    /// Removes a connection that has closed.
    pub(crate) fn leave(&mut self, id: Id) {
        self.stays(id);
        self.open -= 1;
    }

    /// Evicts the oldest idle connection of the remote networks that have the most idle ones, or if there is none,
    /// the oldest one from this machine. The caller ends the connection through the handle.
    pub(crate) fn evict(&mut self) -> Option<C> {
        let remote = || self.networks.iter().filter(|(network, _)| *network != Network::Loopback);
        let most = remote().map(|(_, count)| *count).max();
        let is_next = |idle: &Idle<C>| most.is_none_or(|most| remote().any(|entry| *entry == (idle.network, most)));
        let at = self.idle.iter().position(is_next)?;
        let idle = self.remove_idle(at);
        self.evicting.push(idle.id);
        Some(idle.handle)
    }

    /// Evicts all idle connections.
    pub(crate) fn evict_all(&mut self) -> Vec<C> {
        let mut evicted = Vec::new();
        while let Some(handle) = self.evict() {
            evicted.push(handle);
        }
        evicted
    }

    /// Whether the connection was evicted.
    pub(crate) fn is_evicted(&self, id: Id) -> bool {
        self.evicting.contains(&id)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open - self.evicting.len() >= self.capacity
    }

    /// Connections that are not closed yet, evicted ones included.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Evicted connections that are not closed yet.
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

    /// The id of one more connection, if there is a place for it.
    fn enter(slots: &mut Slots<usize>) -> Option<Id> {
        slots.enter(false).then(|| slots.arrival())
    }

    /// Slots full of idle connections from those networks. Each has its index as its handle.
    fn full_of(networks: &[Network]) -> Slots<usize> {
        let mut slots = Slots::new(networks.len());
        for (name, network) in networks.iter().enumerate() {
            let id = enter(&mut slots).unwrap();
            slots.becomes_idle(id, *network, name);
        }
        slots
    }

    fn evicted(slots: &mut Slots<usize>) -> Vec<usize> {
        slots.evict_all()
    }

    #[test]
    fn the_oldest_idle_connection_is_evicted_first() {
        let mut slots = full_of(&[Network::Loopback; 4]);
        assert_eq!(evicted(&mut slots), [0, 1, 2, 3]);
    }

    #[test]
    fn the_network_with_most_idle_connections_loses_one_first_and_loopback_last() {
        let mut slots = full_of(&[Network::Loopback, ELSEWHERE, THIRD, THIRD, Network::Loopback, THIRD]);
        assert_eq!(evicted(&mut slots)[..2], [2, 3]);
        let mut slots = full_of(&[Network::Loopback, ELSEWHERE]);
        assert_eq!(evicted(&mut slots), [1, 0]);
    }

    #[test]
    fn of_networks_with_equally_many_the_one_with_the_oldest_connection_loses_it() {
        let mut slots = full_of(&[Network::Loopback, ELSEWHERE, THIRD, THIRD, ELSEWHERE, Network::Remote(3)]);
        assert_eq!(evicted(&mut slots), [1, 2, 3, 4, 5, 0]);
    }

    #[test]
    fn an_active_connection_is_never_evicted() {
        let mut slots = full_of(&[Network::Loopback; 3]);
        slots.becomes_active(2);
        assert_eq!(evicted(&mut slots), [0, 2]);
        assert_eq!(slots.evict(), None);
    }

    #[test]
    fn one_eviction_makes_room_for_one_connection() {
        let mut slots = full_of(&[Network::Loopback; 2]);
        assert_eq!(enter(&mut slots), None);
        assert_eq!(slots.evict(), Some(0));
        assert_eq!(enter(&mut slots), Some(3));
        assert_eq!(enter(&mut slots), None, "the place is taken again");
        assert_eq!((slots.open(), slots.evicting()), (3, 1));
        slots.leave(1);
        assert_eq!((slots.open(), slots.evicting()), (2, 0));
        assert_eq!(enter(&mut slots), None, "its place was taken when it was evicted");
        slots.leave(2);
        assert_eq!(enter(&mut slots), Some(4));
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
        assert_eq!(slots.evict(), Some(0));
        slots.becomes_idle(1, Network::Loopback, 0);
        assert_eq!((slots.idle(), slots.is_evicted(1)), (1, true));
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

    #[test]
    fn a_request_that_arrives_takes_an_eviction_back() {
        let mut slots = full_of(&[Network::Loopback; 2]);
        assert!(!slots.stays(2), "it was not evicted");
        assert_eq!(slots.idle(), 1);
        assert_eq!(slots.evict(), Some(0));
        assert!(slots.stays(1) && !slots.stays(1));
        assert_eq!((slots.evicting(), slots.idle()), (0, 0));
    }
}
