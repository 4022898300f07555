//! Settings from defaults, file and environment, and how mistakes are told.

use bootstrap::config::{self, ConfigError, Mistakes, Settings, Sources};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edge {
    listen: std::net::SocketAddr,
    threads: usize,
    cache: Cache,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    dir: String,
    bytes: u64,
}

impl Default for Edge {
    fn default() -> Self {
        let cache = Cache { dir: "cache".into(), bytes: 10 };
        Self { listen: "127.0.0.1:80".parse().expect("an address"), threads: 2, cache }
    }
}

impl Settings for Edge {
    const SECTION: &'static str = "edge";

    fn check(&self, mistakes: &mut Mistakes) {
        mistakes.unless(self.threads <= 8, "threads", self.threads, "at most 8");
    }
}

fn sources(file: Option<&str>, environment: &[(&str, &str)]) -> (Sources, Option<tempfile::NamedTempFile>) {
    let file = file.map(|text| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    });
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (Sources { file: file.as_ref().map(|file| file.path().to_owned()), environment }, file)
}

fn mistakes(file: Option<&str>, environment: &[(&str, &str)]) -> Vec<String> {
    let (sources, _file) = sources(file, environment);
    match config::load::<Edge>(&sources) {
        Err(ConfigError::Mistakes(mistakes)) => mistakes.all().iter().map(|mistake| mistake.key.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let (sources, _file) = sources(
        Some("[edge]\nthreads = 3\n[edge.cache]\nbytes = 20\n[other]\nunknown = 1"),
        &[("CALOTYPE_EDGE__CACHE__BYTES", "30"), ("CALOTYPE_DATA", "/x"), ("CALOTYPE_EDGE__LISTEN", "[::1]:9")],
    );
    let edge: Edge = config::load(&sources).expect("is right");
    assert_eq!((edge.threads, edge.cache.bytes, edge.cache.dir.as_str()), (3, 30, "cache"));
    assert_eq!(edge.listen.to_string(), "[::1]:9");
}

#[test]
fn every_mistake_is_told_with_key_value_and_cause() {
    let keys = mistakes(
        Some("[edge]\nthreads = 'many'\nlisten = 'here'\ncolour = 1\n[edge.cache]\nsize = 3"),
        &[("CALOTYPE_EDGE__CACHE__BYTES", "-1"), ("CALOTYPE_EDGE__TYPO", "x")],
    );
    assert_eq!(keys, ["cache.size", "colour", "listen", "threads", "cache.bytes", "typo"]);
    let (sources, _file) = sources(Some("[edge]\nlisten = 'here'"), &[]);
    let text = config::load::<Edge>(&sources).expect_err("is wrong").to_string();
    assert!(text.contains("listen = \"here\": "), "{text}");
    let (sources, _file) = self::sources(Some("[edge]\nthreads = -3\nlisten = true\n[edge.cache]\nbytes = 1.5"), &[]);
    let text = config::load::<Edge>(&sources).expect_err("is wrong").to_string();
    for shown in ["threads = -3: ", "listen = true: ", "cache.bytes = 1.5: "] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
}

#[test]
fn checks_run_beside_type_errors() {
    assert_eq!(mistakes(Some("[edge]\nthreads = 9\nlisten = 1"), &[]), ["listen", "threads"]);
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_told() {
    let missing = Sources { file: Some("/nonexistent/calotype.toml".into()), environment: Vec::new() };
    assert!(matches!(config::load::<Edge>(&missing), Err(ConfigError::Unreadable { .. })));
    let (sources, _file) = sources(Some("[edge"), &[]);
    assert!(matches!(config::load::<Edge>(&sources), Err(ConfigError::Syntax { .. })));
}
