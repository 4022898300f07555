//! Whether a client takes its answer fast enough.
//!
//! Only the time that a write waits for the client counts, so that nobody pays for a slow origin. What the client has
//! taken is what its end has acknowledged: a write goes on only when a good part of the kernel's buffer is free, which
//! with an honest client on a slow line may take longer than any patience.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The patience with one client.
#[derive(Debug)]
pub(super) struct Patience {
    time: Duration,
    bytes_per_second: u64,
    window: Option<Window>,
}

/// A time in which the client has to take so many bytes.
#[derive(Debug)]
struct Window {
    taken_before: u64,
    /// How long writes have waited, without the one that waits now.
    waited: Duration,
    waits_since: Option<Instant>,
    /// Never later than when `waited` can reach the limit.
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Lasts until a client takes less than `bytes_per_second` for `time`.
    pub(super) fn new(time: Duration, bytes_per_second: u64) -> Self {
        Self { time, bytes_per_second, window: None }
    }

    /// A write waits; true when it has come to its end. `taken` tells what the client has taken of all that was written.
    pub(super) fn is_exhausted(&mut self, context: &mut Context<'_>, taken: impl Fn() -> u64) -> bool {
        let now = Instant::now();
        let time = self.time;
        let window = self.window.get_or_insert_with(|| Window {
            taken_before: taken(),
            waited: Duration::ZERO,
            waits_since: None,
            timer: Box::pin(sleep_until(now + time)),
        });
        let since = *window.waits_since.get_or_insert(now);
        while window.timer.as_mut().poll(context).is_ready() {
            let left = time.saturating_sub(window.waited + (now - since));
            if left.is_zero() {
                let (taken, least) = (taken(), self.bytes_per_second.saturating_mul(time.as_secs()));
                if taken.saturating_sub(window.taken_before) < least {
                    return true;
                }
                (window.taken_before, window.waited, window.waits_since) = (taken, Duration::ZERO, Some(now));
            }
            let left = if left.is_zero() { time } else { left };
            window.timer.as_mut().reset(now + left);
        }
        false
    }

    /// A write went on.
    pub(super) fn resume(&mut self) {
        if let Some(window) = &mut self.window
            && let Some(since) = window.waits_since.take()
        {
            window.waited += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Ten seconds of patience for 100 bytes a second.
    struct Client {
        patience: Patience,
        taken: u64,
    }

    impl Client {
        fn new() -> Self {
            Self { patience: Patience::new(10 * SECOND, 100), taken: 5000 }
        }

        fn is_exhausted(&mut self) -> bool {
            let taken = self.taken;
            self.patience.is_exhausted(&mut Context::from_waker(Waker::noop()), || taken)
        }

        /// A write that waits for so long while the client takes so many bytes; true when patience ends.
        async fn wait(&mut self, time: Duration, bytes: u64) -> bool {
            if self.is_exhausted() {
                return true;
            }
            advance(time).await;
            self.taken += bytes;
            let is_exhausted = self.is_exhausted();
            self.patience.resume();
            is_exhausted
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_when_its_time_is_over() {
        let mut client = Client::new();
        assert!(!client.wait(9 * SECOND, 0).await);
        assert!(client.wait(2 * SECOND, 0).await);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_add_up_and_time_between_them_does_not_count() {
        let mut client = Client::new();
        for _ in 0..9 {
            assert!(!client.wait(SECOND, 10).await);
            // The origin is slow.
            advance(100 * SECOND).await;
        }
        assert!(client.wait(2 * SECOND, 10).await, "100 bytes in ten seconds of waiting");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_enough_is_never_given_up() {
        let mut client = Client::new();
        for _ in 0..1000 {
            assert!(!client.wait(3 * SECOND, 300).await);
        }
        // Much at once is not for ever.
        assert!(!client.wait(SECOND, 1_000_000).await);
        assert!(!client.wait(20 * SECOND, 0).await);
        assert!(client.wait(11 * SECOND, 0).await);
    }
}
