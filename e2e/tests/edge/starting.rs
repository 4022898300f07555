//! Settings and policies that are refused before any port is bound.

use testkit::edge::EdgeSetup;

/// BSD's `EX_USAGE`: the one exit code that says "correct the configuration".
const EXIT_USAGE: i32 = 64;

async fn assert_refused(setup: EdgeSetup, mistakes: &[&str]) {
    for arguments in [&[][..], &["--check-config"]] {
        let ended = setup.run_to_end(arguments).await;
        assert_eq!(ended.status.code(), Some(EXIT_USAGE), "{}", ended.stderr);
        for mistake in mistakes {
            assert!(ended.stderr.contains(mistake), "{mistake} is not in: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn all_mistakes_in_the_settings_are_named_at_once() {
    let setup = EdgeSetup::new()
        .set("treads", 4)
        .set("drain_seconds", "\"soon\"")
        .set("transform.queue", 0)
        .set("transform.deadline_seconds", 601)
        .set("transform.fills", -1)
        .set("limits.megapixels", 0)
        .set("limits.source_bytes", 1_000_000_000_000_u64)
        .set("cache.memory_bytes", 5)
        .set("cache.disk_bytes", 1000)
        .set("log.level", "\"proxy=loud\"");
    let mistakes = [
        "treads",
        "drain_seconds = \"soon\"",
        "transform.queue = 0",
        "transform.deadline_seconds = 601",
        "transform.fills = -1",
        "limits.megapixels = 0",
        "limits.source_bytes",
        "cache.memory_bytes = 5",
        "cache.disk_bytes = 1000",
        "log.level = \"proxy=loud\"",
    ];
    assert_refused(setup, &mistakes).await;
}

#[tokio::test]
async fn all_mistakes_in_the_policy_are_named_at_once() {
    let setup = EdgeSetup::new()
        .tenant("presets.bad = \"wdith=1\"\norigins.relative.folder = \"pictures\"\norigins.empty = {}")
        .tenant("max_age_seconds = 99999999999")
        .tables("[tenants.healthz]\nhosts = [\"http://x/\"]");
    let mistakes = [
        "tenants.demo.presets.bad",
        "tenants.demo.origins.relative.folder",
        "tenants.demo.origins.empty",
        "tenants.demo.max_age_seconds",
        "tenants.healthz",
    ];
    assert_refused(setup, &mistakes).await;
}

#[tokio::test]
async fn files_that_are_missing_or_no_toml() {
    assert_refused(EdgeSetup::new().tenant("this is no TOML"), &["policy"]).await;
    assert_refused(EdgeSetup::new().set("threads", "= ="), &["edge.toml"]).await;
    assert_refused(EdgeSetup::new().set("policy_file", "\"/nonexistent/policy.toml\""), &["/nonexistent/policy.toml"])
        .await;
}

#[tokio::test]
async fn good_settings_pass_the_check_and_nothing_is_started() {
    let setup = EdgeSetup::new();
    let ended = setup.run_to_end(&["--check-config"]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!setup.cache_dir().exists(), "a check must not make folders");
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_so() {
    let first = EdgeSetup::new().start().await;
    let taken = format!("\"{}\"", first.addr());
    for setting in ["listen", "admin_listen"] {
        let ended = EdgeSetup::new().set(setting, &taken).run_to_end(&[]).await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(setting) && ended.stderr.contains("cannot be listened on"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    first.stop().await;
}

/// The examples in `deploy/` are settings and a policy that the edge takes.
#[tokio::test]
async fn the_example_settings_are_right() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let mut command = tokio::process::Command::new(testkit::edge::program("proxy"));
    command.args(["--config", "proxy.toml", "--check-config"]).current_dir(folder);
    testkit::edge::without_settings_of_ours(&mut command);
    let ended = command.output().await.expect("it can be started");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
