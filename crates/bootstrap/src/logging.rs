//! Logging to standard error: JSON for machines, text for people.
//!
//! Must not write access events: each service has its own, on standard output.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Mistakes;

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading in a terminal.
    Text,
}

/// Settings of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The shape of a line.
    pub format: LogFormat,
    /// Levels: `info`, or `warn,proxy=debug`.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info,pingora_core=warn,foyer_storage=warn".to_owned() }
    }
}

impl LogSettings {
    /// Adds what is wrong with the levels.
    pub fn check(&self, mistakes: &mut Mistakes) {
        // A lone word that is no level would be read as the name of a module, and silence all others.
        let is_known = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
        let parsed = self.level.parse::<Targets>().map_err(|error| error.to_string());
        let unknown = self.level.split(',').find(|part| !is_known(part.trim()));
        if let Some(why) = parsed.err().or_else(|| unknown.map(|part| format!("{part:?} is not a level"))) {
            mistakes.add("log.level", format!("{:?}", self.level), format!("{why}; write info, or warn,proxy=debug"));
        }
    }
}

/// Starts logging for the process. What libraries write through `log` comes along.
///
/// A second start changes nothing.
pub fn start(settings: &LogSettings) {
    let targets: Targets = settings.level.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let registry = tracing_subscriber::registry().with(targets);
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let started = match settings.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
        LogFormat::Text => registry.with(layer.compact()).try_init(),
    };
    drop(started);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_a_mistake() {
        let mistakes = |level: &str| {
            let mut mistakes = Mistakes::default();
            LogSettings { level: level.to_owned(), ..LogSettings::default() }.check(&mut mistakes);
            mistakes.all().len()
        };
        assert_eq!(mistakes(&LogSettings::default().level), 0);
        assert_eq!(["info", "WARN,proxy=debug", "off", "proxy=trace"].map(mistakes), [0; 4]);
        assert_eq!(["loud", "info,proxy", "proxy=loud"].map(mistakes), [1; 3]);
    }
}
