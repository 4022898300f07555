//! Rounds that nobody disturbed: on a shared machine, others take cores, caches and turns, and the numbers with them.
//!
//! Must not look at what a round found: rounds are kept by what others took meanwhile, and by nothing else.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cpu_time;

/// A round in which others took more than this share of a core is done again.
const DISTURBED: f64 = 0.15;

/// Rounds are repeated until there have been this many times as many as wanted; then the quietest are kept.
const ATTEMPTS_PER_ROUND: usize = 2;

/// Rounds and how quiet it was.
#[derive(Debug)]
pub struct Quiet<T> {
    /// What the rounds found.
    pub rounds: Vec<T>,
    /// What others took in each of them, in per cent of a core.
    pub others_percent: Vec<f64>,
    /// Rounds that were left out.
    pub left_out: usize,
}

/// Does `wanted` rounds, and more when they are disturbed. `round` is given its number, from 0.
///
/// # Errors
/// The first error of a round.
pub async fn rounds<T>(
    wanted: usize,
    mut round: impl AsyncFnMut(usize) -> anyhow::Result<T>,
) -> anyhow::Result<Quiet<T>> {
    let mut done = Vec::new();
    for number in 0..wanted * ATTEMPTS_PER_ROUND {
        let watch = Watch::start()?;
        let found = round(number).await?;
        done.push((watch.others()?, found));
        if done.iter().filter(|(others, _)| *others <= DISTURBED).count() == wanted {
            break;
        }
    }
    Ok(quietest(done, wanted))
}

fn quietest<T>(mut done: Vec<(f64, T)>, wanted: usize) -> Quiet<T> {
    let left_out = done.len().saturating_sub(wanted);
    done.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    done.truncate(wanted);
    let (others, rounds) = done.into_iter().unzip::<f64, T, Vec<_>, Vec<_>>();
    Quiet { rounds, others_percent: others.into_iter().map(|others| others * 100.0).collect(), left_out }
}

/// Sees what all but this process and those it started take.
struct Watch {
    started: Instant,
    all: Duration,
    own: Duration,
}

impl Watch {
    fn start() -> anyhow::Result<Self> {
        Ok(Self { started: Instant::now(), all: machine_time()?, own: cpu_time::of_tree(std::process::id())? })
    }

    /// CPU time that others took since the start, in cores. The kernel samples it, so it may be off by a few per cent.
    fn others(&self) -> anyhow::Result<f64> {
        let all = machine_time()?.saturating_sub(self.all);
        let own = cpu_time::of_tree(std::process::id())?.saturating_sub(self.own);
        Ok(all.saturating_sub(own).as_secs_f64() / self.started.elapsed().as_secs_f64())
    }
}

/// CPU time of the whole machine so far, with what its host kept for itself.
fn machine_time() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    let ticks = busy_ticks(&stat).context("/proc/stat cannot be understood")?;
    Ok(cpu_time::of_ticks(ticks))
}

/// The first line's user, nice, system, irq, softirq and steal (proc(5)); idle and iowait are left out.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).collect();
    [0, 1, 2, 5, 6, 7].into_iter().map(|at| fields.get(at).copied()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_waiting_for_the_disk_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 64 128\ncpu0 9 9 9\n"), Some(63));
        assert_eq!(busy_ticks("cpu  1 2 4"), None);
    }

    #[test]
    fn the_quietest_are_kept_whatever_they_found() {
        let kept = quietest(vec![(0.5, 'a'), (0.1, 'b'), (0.3, 'c')], 2);
        assert_eq!((kept.rounds, kept.left_out), (vec!['b', 'c'], 1));
        assert_eq!(kept.others_percent, [10.0, 30.0]);
    }

    #[tokio::test]
    async fn an_error_ends_the_rounds() {
        let outcome = rounds(3, async |number| if number == 0 { Ok(()) } else { anyhow::bail!("broken") }).await;
        assert_eq!(outcome.expect_err("fails").to_string(), "broken");
    }
}
