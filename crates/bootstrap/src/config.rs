//! Typed settings: defaults, then a TOML file, then the environment, with every mistake reported at once.
//!
//! A setting `cache.memory_bytes` of the service `proxy` is `memory_bytes` under `[proxy.cache]` in the file and
//! `CALOTYPE_PROXY__CACHE__MEMORY_BYTES` in the environment.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The settings of one service.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// The service's name in file and environment.
    const SECTION: &'static str;

    /// Adds what no type can express: ranges, and settings that contradict each other.
    fn check(&self, mistakes: &mut Mistakes);
}

/// Where settings are read from.
#[derive(Debug, Default)]
pub struct Sources {
    /// A TOML file that must exist.
    pub file: Option<PathBuf>,
    /// Names and values, as of the process.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// This file and the environment of this process.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        Self { file, environment: std::env::vars().collect() }
    }
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Settings that are unknown or not allowed, all of them.
    #[error("the configuration has mistakes:{0}")]
    Mistakes(Mistakes),
}

/// Every mistake that was found.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

/// One mistake.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, with dots.
    pub key: String,
    /// The value as given.
    pub value: String,
    /// What is wrong with it, or what is allowed.
    pub why: String,
}

impl Mistakes {
    /// Adds one.
    pub fn add(&mut self, key: impl Into<String>, value: impl Display, why: impl Into<String>) {
        self.0.push(Mistake { key: key.into(), value: value.to_string(), why: why.into() });
    }

    /// Adds one unless `allowed`.
    pub fn unless(&mut self, allowed: bool, key: &str, value: impl Display, why: &str) {
        if !allowed {
            self.add(key, value, why);
        }
    }

    /// All of them, in the order they were found.
    pub fn all(&self) -> &[Mistake] {
        &self.0
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Mistake { key, value, why }| write!(f, "\n  {key} = {value}: {why}"))
    }
}

/// Reads the settings of a service.
///
/// # Errors
/// [`ConfigError`], with all mistakes together.
pub fn load<S: Settings>(sources: &Sources) -> Result<S, ConfigError> {
    let mut given = Vec::new();
    if let Some(path) = &sources.file {
        given.extend(leaves_of_file(path, S::SECTION)?);
    }
    given.extend(leaves_of_environment(&sources.environment, S::SECTION));

    let mut mistakes = Mistakes::default();
    let mut figment = Figment::from(Serialized::defaults(S::default()));
    for (key, value) in given {
        // Each setting is tried alone over the defaults, so that one mistake does not hide the next.
        let alone = Figment::from(Serialized::defaults(S::default())).merge((key.as_str(), value.clone()));
        match alone.extract::<S>() {
            Ok(_) => figment = figment.merge((key.as_str(), value)),
            Err(error) => mistakes.add(key, shown(&value), why(&error)),
        }
    }
    let settings: S = figment.extract().map_err(|error| {
        let mut mistakes = Mistakes::default();
        mistakes.add(error.path.join("."), "", why(&error));
        ConfigError::Mistakes(mistakes)
    })?;
    settings.check(&mut mistakes);
    if mistakes.0.is_empty() { Ok(settings) } else { Err(ConfigError::Mistakes(mistakes)) }
}

/// The cause without figment's own words on where it was, which the mistake names better.
fn why(error: &figment::Error) -> String {
    error.kind.to_string()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Dict(..) => "{…}".to_owned(),
        Value::Array(_, values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Bool(_, flag) => flag.to_string(),
        other => {
            let whole = other.to_i128().map(|number| number.to_string());
            let whole = whole.or_else(|| other.to_u128().map(|number| number.to_string()));
            let number = whole.or_else(|| other.to_num().and_then(|num| num.to_f64()).map(|number| number.to_string()));
            number.unwrap_or_else(|| "(nothing)".to_owned())
        }
    }
}

fn leaves_of_file(path: &Path, section: &str) -> Result<Vec<(String, Value)>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let dict: Dict = <Toml as Format>::from_str(&text)
        .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    let mut leaves = Vec::new();
    if let Some(value) = dict.get(section) {
        collect_leaves("", value, &mut leaves);
    }
    Ok(leaves)
}

fn collect_leaves(key: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Dict(_, dict) => {
            for (name, value) in dict {
                let dot = if key.is_empty() { "" } else { "." };
                collect_leaves(&format!("{key}{dot}{name}"), value, leaves);
            }
        }
        value => leaves.push((key.to_owned(), value.clone())),
    }
}

fn leaves_of_environment(environment: &[(String, String)], section: &str) -> Vec<(String, Value)> {
    let prefix = format!("CALOTYPE_{}__", section.to_ascii_uppercase().replace('-', "_"));
    let mut leaves: Vec<_> = environment
        .iter()
        .filter_map(|(name, text)| {
            let key = name.strip_prefix(&prefix)?.to_ascii_lowercase().replace("__", ".");
            let Ok(value) = text.parse::<Value>();
            Some((key, value))
        })
        .collect();
    leaves.sort_by(|(a, _), (b, _)| a.cmp(b));
    leaves
}
