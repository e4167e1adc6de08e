//! The bookkeeping of connections: nobody is stranded, and nobody has to go without need.

use std::cell::Cell;
use std::time::Duration;

use crate::check::{Scenario, choose, ensure};
use crate::crowd::{Habit, Outcome, Server};
use crate::limits::{BACKOFF, DRAIN_GRACE, ON_ACCEPTOR_TIMEOUT, THREAD_IDLE};
use crate::schedule::Time;
use crate::server::slots::Network;
use crate::spawn;
use crate::sync::sleep;

thread_local! {
    static LATE: Cell<bool> = const { Cell::new(false) };
}

/// Whether time passes while threads work, so that no wait can be measured.
pub(crate) fn late() -> bool {
    LATE.get()
}

macro_rules! scenarios {
    ($($function:ident)*) => {
        /// Each of them twice: to measure waits, and to have timeouts race.
        pub(crate) const SCENARIOS: &[Scenario] = &[$(
            Scenario { name: concat!("rooms::", stringify!($function)), time: Time::WhenAllWait, run: || {
                LATE.set(false);
                $function();
            } },
            Scenario { name: concat!("rooms::", stringify!($function), ", late"), time: Time::AtAnyMoment, run: || {
                LATE.set(true);
                $function();
            } },
        )*];
    };
}

scenarios! {
    two_clients_share_a_place
    quick_clients_are_answered_although_others_stall
    an_answer_keeps_its_place
    threads_end_when_nobody_comes_and_are_started_again
    threads_that_cannot_be_started
    descriptors_run_out
    draining_while_clients_come
    a_flood_of_evictions
}

const HERE: Network = Network::Loopback;
const ELSEWHERE: Network = Network::Remote(1);
/// Longer than any drain takes that ends.
const DRAIN: Duration = Duration::from_secs(60);

/// A client whose request came is answered at once, or refused at once.
fn at_once(habit: Habit, waited: Duration, outcome: Outcome) {
    within(habit, waited, outcome, Duration::ZERO);
}

fn within(habit: Habit, waited: Duration, outcome: Outcome, bound: Duration) {
    if habit == Habit::Quick {
        ensure!(outcome != Outcome::Dropped, "a client was dropped although its request had arrived");
        ensure!(late() || waited <= bound, "{habit:?} was {outcome:?} after {waited:?}, more than {bound:?}");
    }
}

/// Finishes, and checks that nothing is left.
fn ends_within(server: &Server, bound: Duration) {
    let took = server.drain(DRAIN);
    ensure!(late() || took <= bound, "draining took {took:?}, more than {bound:?}");
}

fn two_clients_share_a_place() {
    let server = Server::start(1, Duration::ZERO, 0);
    server.client(Habit::Stalled, HERE, at_once);
    server.client(Habit::Quick, HERE, at_once);
    sleep(Duration::from_millis(1));
    ensure!(server.evicted.get() <= 1, "{} evicted for one place", server.evicted.get());
    ends_within(&server, 2 * DRAIN_GRACE);
}

/// With as many places as quick clients none is refused: those who stall go first.
fn quick_clients_are_answered_although_others_stall() {
    let server = Server::start(2, Duration::ZERO, 0);
    for network in [ELSEWHERE, HERE, ELSEWHERE] {
        server.client(Habit::Stalled, network, at_once);
    }
    for network in [HERE, ELSEWHERE] {
        server.client(Habit::Quick, network, |habit, waited, outcome| {
            ensure!(late() || outcome == Outcome::Answered, "a quick client was {outcome:?}");
            at_once(habit, waited, outcome);
        });
    }
    sleep(Duration::from_millis(1));
    ensure!(server.evicted.get() <= 3, "{} of 5 evicted from two places", server.evicted.get());
    ends_within(&server, 2 * DRAIN_GRACE);
}

/// While both places work on an answer a third client is refused, and never evicts one of them.
fn an_answer_keeps_its_place() {
    const WORK: Duration = Duration::from_secs(1);
    let server = Server::start(2, WORK, 0);
    for _ in 0..4 {
        server.client(Habit::Quick, HERE, |habit, waited, outcome| within(habit, waited, outcome, 2 * WORK));
    }
    sleep(2 * WORK);
    ensure!(late() || server.refused.get() <= 2, "{} of 4 refused by two places", server.refused.get());
    ends_within(&server, DRAIN_GRACE + WORK);
}

fn threads_end_when_nobody_comes_and_are_started_again() {
    let server = Server::start(2, Duration::ZERO, 0);
    for _ in 0..2 {
        server.client(Habit::Quick, HERE, at_once);
        server.client(Habit::Clinging, HERE, at_once);
        // The threads are about to end, or have, when the next clients come.
        sleep(THREAD_IDLE);
    }
    ends_within(&server, 2 * DRAIN_GRACE);
}

fn threads_that_cannot_be_started() {
    spawn::refuse_one_of(2);
    let server = Server::start(3, Duration::ZERO, 0);
    for habit in [Habit::Stalled, Habit::Quick, Habit::Stalled, Habit::Quick, Habit::Quick] {
        // Both acceptors may serve one that stalls, or one and its successor.
        server.client(habit, HERE, |habit, waited, outcome| within(habit, waited, outcome, 2 * ON_ACCEPTOR_TIMEOUT));
    }
    sleep(3 * ON_ACCEPTOR_TIMEOUT);
    let (evicted, refused) = (server.evicted.get(), spawn::refused());
    ensure!(evicted <= 2 + refused, "{evicted} evicted for two clients beyond the places and {refused} threads");
    spawn::refuse_one_of(0);
    ends_within(&server, 2 * DRAIN_GRACE + ON_ACCEPTOR_TIMEOUT);
}

fn descriptors_run_out() {
    let server = Server::start(3, Duration::ZERO, 3);
    for habit in [Habit::Stalled, Habit::Stalled, Habit::Quick, Habit::Slow(BACKOFF), Habit::Quick] {
        server.client(habit, HERE, |habit, waited, outcome| within(habit, waited, outcome, 10 * BACKOFF));
    }
    sleep(20 * BACKOFF);
    ends_within(&server, 2 * DRAIN_GRACE + BACKOFF);
}

fn draining_while_clients_come() {
    const WORK: Duration = Duration::from_millis(100);
    let server = Server::start(2, WORK, 0);
    for habit in [Habit::Stalled, Habit::Clinging, Habit::Quick, Habit::Slow(WORK), Habit::Quick] {
        server.client(habit, HERE, |habit, waited, outcome| within(habit, waited, outcome, 4 * WORK));
    }
    if choose(2) == 0 {
        sleep(WORK);
    }
    // Each place may have to answer two, and wait for both to close.
    ends_within(&server, 2 * (DRAIN_GRACE + WORK) + DRAIN_GRACE);
}

/// More are told to go at once than acceptors let be.
fn a_flood_of_evictions() {
    let server = Server::start(1, Duration::ZERO, 0);
    for _ in 0..11 {
        server.client(Habit::Stalled, ELSEWHERE, at_once);
    }
    server.client(Habit::Quick, HERE, |habit, waited, outcome| within(habit, waited, outcome, 12 * BACKOFF));
    sleep(Duration::from_secs(1));
    ensure!(server.evicted.get() <= 11, "{} of 12 evicted from one place", server.evicted.get());
    ends_within(&server, 2 * DRAIN_GRACE);
}
