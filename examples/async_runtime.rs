//! A connector beside an async runtime: `validate` and `serve` block on it, and `Stop` reaches its tasks.
//!
//! ```console
//! $ async_runtime --health-check
//! $ async_runtime --rounds=3
//! ```
//!
//! The runtime here is a stand-in of a few lines, so that the example needs no package. With tokio,
//! `Runtime` is `tokio::runtime::Runtime`, and `spawn_blocking`, `block_on` and the channel are its own.

use std::process::ExitCode;

use baton_health::{App, BoxError, Connector, Level, Setting, Settings, Stop, log};
use runtime::{Runtime, channel};

const ROUNDS: Setting<u64> =
    Setting::number("rounds", "COUNT").range(0..=1000).default(0).help("Rounds of syncing; 0 goes on until it is stopped");
const FAIL: Setting<bool> = Setting::switch("fail").help("Fail after the last round");

struct Upstream {
    runtime: Runtime,
    /// How many rounds there are; 0 is no end of them.
    rounds: u64,
    fails: bool,
}

impl Upstream {
    fn connect(settings: &Settings) -> Result<Upstream, BoxError> {
        Ok(Upstream { runtime: Runtime::new(), rounds: settings.get(&ROUNDS), fails: settings.get(&FAIL) })
    }

    async fn who_am_i(&self) -> Result<(), BoxError> {
        Ok(())
    }

    async fn sync(&self, mut stopped: channel::Receiver) -> Result<(), BoxError> {
        for round in 1..=self.rounds {
            log(Level::Info, "synced", &[("round", &round.to_string())]);
        }
        if self.fails {
            return Err("upstream is gone".into());
        }
        if self.rounds == 0 {
            // With tokio: a loop with a `select!` between this and the next interval.
            stopped.wait().await;
        }
        Ok(())
    }
}

impl Connector for Upstream {
    /// Runs on no thread of the runtime, so it may block on it.
    fn validate(&self) -> Result<(), BoxError> {
        self.runtime.block_on(self.who_am_i())
    }

    fn serve(&self, stop: &Stop) -> Result<(), BoxError> {
        let (sender, receiver) = channel::new();
        // The runtime's destructor waits for its blocking tasks. This one ends, since `Stop` is requested
        // when `serve` returns, for whatever reason.
        let stop = stop.clone();
        self.runtime.spawn_blocking(move || {
            stop.wait();
            sender.send();
        });
        self.runtime.block_on(self.sync(receiver))
    }
}

fn main() -> ExitCode {
    App::new("async_runtime", env!("CARGO_PKG_VERSION")).setting(&ROUNDS).setting(&FAIL).run(Upstream::connect)
}

/// What tokio brings.
mod runtime {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, JoinHandle, Thread};

    /// Its destructor waits for its blocking tasks, as tokio's does.
    pub(crate) struct Runtime {
        tasks: Mutex<Vec<JoinHandle<()>>>,
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    impl Runtime {
        pub(crate) fn new() -> Runtime {
            Runtime { tasks: Mutex::default() }
        }

        pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
            let mut future = pin!(future);
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            loop {
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(result) => return result,
                    Poll::Pending => thread::park(),
                }
            }
        }

        pub(crate) fn spawn_blocking(&self, task: impl FnOnce() + Send + 'static) {
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(thread::spawn(task));
        }
    }

    impl Drop for Runtime {
        fn drop(&mut self) {
            for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
                // A task that panicked has ended too.
                let _ = task.join();
            }
        }
    }

    /// A channel for one message.
    pub(crate) mod channel {
        use super::*;

        type Shared = Arc<Mutex<(bool, Option<Waker>)>>;

        pub(crate) struct Sender(Shared);
        pub(crate) struct Receiver(Shared);

        pub(crate) fn new() -> (Sender, Receiver) {
            let shared = Shared::default();
            (Sender(shared.clone()), Receiver(shared))
        }

        impl Sender {
            pub(crate) fn send(self) {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                state.0 = true;
                if let Some(waker) = state.1.take() {
                    waker.wake();
                }
            }
        }

        impl Receiver {
            pub(crate) fn wait(&mut self) -> impl Future<Output = ()> {
                std::future::poll_fn(|context| {
                    let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    if state.0 {
                        return Poll::Ready(());
                    }
                    state.1 = Some(context.waker().clone());
                    Poll::Pending
                })
            }
        }
    }
}
