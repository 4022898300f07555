//! Logging to standard error: JSON for machines, text for people.
//!
//! Must not write access events: each service has its own, on standard output.

use std::fmt;
use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
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
        LogFormat::Json => {
            let json = format().json().flatten_event(true).with_current_span(false);
            registry.with(layer.json().event_format(WithTrace(json, LogFormat::Json))).try_init()
        }
        LogFormat::Text => registry.with(layer.event_format(WithTrace(format().compact(), LogFormat::Text))).try_init(),
    };
    drop(started);
}

/// Lines as they are, and with the ids of the current trace and span where there is one.
struct WithTrace<F>(F, LogFormat);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some((trace, span)) = traces::current_ids() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        let mut inner = Writer::new(&mut line);
        self.0.format_event(context, inner.by_ref(), event)?;
        let line = line.trim_end_matches('\n');
        match (self.1, line.strip_suffix('}')) {
            (LogFormat::Json, Some(open)) => {
                writeln!(writer, r#"{open},"trace_id":"{trace}","span_id":"{span}"}}"#)
            }
            _ => writeln!(writer, "{line} trace_id={trace} span_id={span}"),
        }
    }
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
