//! When what was not taken is tried again.

use std::time::Duration;

/// Each pause is so many times as long as the one before.
const GROWTH: u32 = 4;

/// Longest pause that an endpoint may ask for: a day.
const ASKED_MAX: Duration = Duration::from_secs(24 * 3600);

/// Pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// How often an event is tried.
    pub attempts: u16,
    /// The first pause.
    pub pause: Duration,
    /// The longest.
    pub pause_max: Duration,
}

impl Schedule {
    /// The pause after this attempt, from 1; `None` when it was the last. `chance`, from 0 to 1, adds up to a quarter, so that
    /// what failed together does not come back together. What the endpoint has `asked` for is the least.
    pub fn pause_after(&self, attempt: u16, chance: f64, asked: Option<Duration>) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let grown = GROWTH.checked_pow(u32::from(attempt.saturating_sub(1))).and_then(|by| self.pause.checked_mul(by));
        let pause = grown.unwrap_or(self.pause_max).min(self.pause_max);
        let spread = pause.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0);
        Some(spread.max(asked.unwrap_or_default().min(ASKED_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::WebhookSettings;

    #[test]
    fn by_default_an_event_is_tried_for_three_days() {
        let schedule = WebhookSettings::default().schedule();
        let pauses = |chance| (1..).map_while(move |attempt| schedule.pause_after(attempt, chance, None));
        let seconds: Vec<_> = pauses(0.0).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [5, 20, 80, 320, 1280, 5120, 20_480, 43_200, 43_200, 43_200, 43_200, 43_200]);
        let guide = include_str!("../../../docs/webhooks.md");
        let told = seconds.iter().map(|seconds| format!("{seconds} s")).collect::<Vec<_>>().join(", ");
        assert!(
            guide.contains(&told) && guide.contains(&format!("There are {} attempts", schedule.attempts)),
            "{told}"
        );
        let days = |chance| pauses(chance).sum::<Duration>().as_secs_f64() / 86_400.0;
        assert!((2.8..3.0).contains(&days(0.0)) && (3.4..3.7).contains(&days(1.0)), "{} {}", days(0.0), days(1.0));
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_but_not_for_less_or_for_ever() {
        let schedule = Schedule { attempts: 3, pause: Duration::from_secs(10), pause_max: Duration::from_secs(15) };
        for (attempt, asked, expected) in [
            (1, None, Some(10)),
            (1, Some(3), Some(10)),
            (1, Some(100), Some(100)),
            (1, Some(u64::MAX), Some(24 * 3600)),
            (2, None, Some(15)),
            (3, Some(1), None),
            (u16::MAX, None, None),
        ] {
            let pause = schedule.pause_after(attempt, 0.0, asked.map(Duration::from_secs));
            assert_eq!(pause, expected.map(Duration::from_secs), "{attempt} {asked:?}");
        }
    }
}
