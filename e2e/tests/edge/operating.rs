//! What `deploy/` and `docs/operations.md` say of the edge is what the edge has: metrics, labels, log fields, alerts with a
//! test and a text to follow. Whether the rules themselves are right is promtool's to say (`script/rules`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use testkit::edge::{Edge, EdgeSetup, picture};
use testkit::faulty::Fault;

use crate::support::{S3Rig, photo};

fn file(path: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rules() -> String {
    file("deploy/prometheus/calotype.rules.yml")
}

/// Every expression of the dashboard, and what its variables are made of.
fn dashboard_queries() -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    match value.as_str() {
                        Some(text) if key == "expr" || key == "query" => into.push(text.to_owned()),
                        _ => collect(value, into),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut queries = Vec::new();
    collect(&serde_json::from_str(&file("deploy/grafana/calotype.json")).expect("JSON"), &mut queries);
    assert!(queries.len() > 30, "{queries:?}");
    queries
}

/// The values after `key` at the start of a line of YAML.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let found: Vec<_> = yaml.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect();
    assert!(!found.is_empty(), "no {key}");
    found
}

/// The names of metrics in an expression, each with its selector: what stands in braces behind it.
fn selectors(expression: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let (name, behind) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let selector = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
        rest = selector.map_or(behind, |(_, behind)| behind);
        if ["calotype_", "calotype:", "foyer_", "process_"].iter().any(|ours| name.starts_with(ours)) {
            found.push((name, selector.map_or("", |(labels, _)| labels)));
        }
    }
    found
}

/// The labels of a selector that name values: those, one by one.
fn label_values(selector: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for matcher in selector.split(',').filter(|matcher| !matcher.is_empty()) {
        let (label, values) = matcher.split_once(['=', '!']).expect("a matcher");
        let values = values.trim_start_matches(['=', '~']).trim_matches('"');
        if !["job", "instance", "le"].contains(&label) {
            found.extend(values.split('|').map(|value| (label, value)));
        }
    }
    found
}

/// The metrics of an edge that has made, found, refused and renewed something.
async fn metrics_after_traffic() -> String {
    let setup = EdgeSetup::new().tls();
    let second_level = setup.home().join("second-level");
    std::fs::create_dir(&second_level).expect("the folder is new");
    let feed = setup.home().join("feed").display().to_string();
    let setup = setup
        .set("second_level.folder", format!("{second_level:?}"))
        // Nobody is there: it serves all the same.
        .set("control_plane.url", "\"http://127.0.0.1:1\"")
        .set("control_plane.token", "\"the token of a control plane that is away\"")
        .set("control_plane.dir", format!("{feed:?}"));
    let edge = setup.launch().await;
    edge.setup().put("a.jpg", photo(60, 40));
    for target in ["/demo/w=40,f=jpeg/@local/a.jpg", "/demo/w=40,f=jpeg/@local/a.jpg", "/demo/w=40/@local/none.jpg"] {
        edge.get(target).await;
    }
    let text = edge.admin("/metrics").await.text();
    edge.stop().await;
    text
}

#[tokio::test]
async fn every_metric_and_label_that_rules_and_dashboard_name_is_there() {
    let metrics = metrics_after_traffic().await;
    let series: Vec<&str> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
    let rules = rules();
    let recorded: BTreeSet<&str> = values(&rules, "- record:").into_iter().collect();
    let queries = dashboard_queries();
    let mut checked = BTreeSet::new();
    for (name, selector) in selectors(&rules).into_iter().chain(queries.iter().flat_map(|query| selectors(query))) {
        if name.starts_with("calotype:") {
            assert!(recorded.contains(name), "{name} is not recorded");
            continue;
        }
        let of_name: Vec<_> = series
            .iter()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .collect();
        assert!(!of_name.is_empty(), "the edge has no {name}");
        for (label, value) in label_values(selector) {
            let pair = format!("{label}=\"{value}\"");
            assert!(of_name.iter().any(|line| line.contains(&pair)), "the edge has no {name} with {pair}");
        }
        checked.insert(name);
    }
    assert!(checked.len() > 25, "{checked:?}");
}

/// The first column of each table under a heading of `docs/operations.md`.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = file("docs/operations.md");
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n## ").next().expect("there is a first part");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().expect("there is a first part").to_owned()).collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_no_other() {
    let metrics = metrics_after_traffic().await;
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    // Both caches have the same.
    let short = |name: &str| match name.strip_prefix("calotype_originals_cache_") {
        Some(rest) if metrics.contains(&format!("# TYPE calotype_cache_{rest} ")) => {
            "calotype_originals_cache_…".into()
        }
        _ => name.to_owned(),
    };
    let families: BTreeSet<String> = families.map(short).collect();
    assert_eq!(documented("Metrics"), families);
}

#[tokio::test]
async fn every_field_of_an_access_event_is_documented_and_no_other() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().set("trusted_proxies", "[\"127.0.0.1\"]").set("traces.endpoint", "\"http://127.0.0.1:1\"");
    let edge = edge.start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let request = testkit::http::Request::get("/demo/w=40,f=jpeg/@local/a.jpg").header("user-agent", "test/1");
    let request = request.header("x-forwarded-for", "203.0.113.9");
    picture(&edge.send(&request).await, "image/jpeg");
    rig.relay.take_down().await;
    testkit::edge::assert_problem(&edge.get("/demo/w=40,f=jpeg/@s3/a.jpg").await, 502, "source-unavailable");
    let events = edge.stop().await.events();
    let fields = events.iter().flat_map(|event| event.as_object().expect("an object").keys().cloned());
    assert_eq!(documented("Log fields"), fields.collect());
}

#[test]
fn every_alert_has_a_test_and_a_text_to_follow() {
    let (rules, tests, text) = (rules(), file("deploy/prometheus/tests.yml"), file("docs/operations.md"));
    let tested: BTreeSet<&str> = values(&tests, "- alertname:").into_iter().collect();
    let alerts = values(&rules, "- alert:");
    for alert in &alerts {
        assert!(tested.contains(alert), "no test lets {alert} fire");
        assert!(tests.contains(&format!("{{ alertname: {alert},")), "no test keeps {alert} quiet");
    }
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-'].contains(c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let headings: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### "))).map(slug).collect();
    let runbooks = values(&rules, "runbook: docs/operations.md#");
    assert_eq!(runbooks.len(), alerts.len());
    for runbook in runbooks {
        assert!(headings.contains(runbook), "docs/operations.md has no part {runbook}");
    }
}

async fn refreshes(edge: &Edge) -> BTreeMap<&'static str, f64> {
    let mut counts = BTreeMap::new();
    for result in ["renewed", "replaced", "failed"] {
        let series = format!("calotype_refreshes_total{{result=\"{result}\"}}");
        counts.insert(result, edge.metric(&series).await);
    }
    counts
}

/// Visitors see nothing of an origin that fails behind a warm cache; this is where an operator does.
#[tokio::test]
async fn refreshes_are_counted_by_what_came_of_them() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().tenant("max_age_seconds = 0\nstale_while_revalidate_seconds = 3600").start().await;
    let target = "/demo/w=40,f=jpeg/@s3/a.jpg";
    picture(&edge.get(target).await, "image/jpeg");
    assert!(refreshes(&edge).await.values().all(|count| *count == 0.0), "somebody waited for the first one");
    for (result, fault, change) in [
        ("renewed", None, false),
        ("replaced", None, true),
        ("failed", Some(Fault::Answer(http::StatusCode::INTERNAL_SERVER_ERROR)), false),
    ] {
        match fault {
            Some(fault) => rig.relay.set(fault),
            None => rig.relay.heal(),
        }
        if change {
            rig.put("a.jpg", photo(90, 60));
        }
        picture(&edge.get(target).await, "image/jpeg");
        testkit::edge::eventually(result, async || (refreshes(&edge).await[result] > 0.0).then_some(())).await;
    }
    edge.kill().await;
}

#[tokio::test]
async fn the_examples_for_containers_are_right() {
    let policy = EdgeSetup::new().home().join("policy.toml");
    std::fs::create_dir_all(policy.parent().expect("has one")).expect("ours");
    std::fs::write(&policy, file("deploy/compose/edge/policy.toml")).expect("ours");
    let mut command = tokio::process::Command::new(testkit::edge::program("proxy"));
    testkit::edge::without_settings_of_ours(&mut command);
    command.arg("--check-config").env("CALOTYPE_PROXY__POLICY_FILE", &policy);
    // What the image and the compose file set is a setting of the edge.
    let (image, compose) = (file("Dockerfile"), file("deploy/compose/compose.yml"));
    let mut count = 0;
    for (name, value) in image.lines().chain(compose.lines()).filter_map(setting_in) {
        if name != "CALOTYPE_PROXY__POLICY_FILE" {
            command.env(name, value);
            count += 1;
        }
    }
    assert!(count >= 6, "{count} settings found");
    let ended = command.output().await.expect("it can be started");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// `CALOTYPE_…=value` of a Dockerfile, `CALOTYPE_…: value` of a compose file.
fn setting_in(line: &str) -> Option<(&str, &str)> {
    let start = line.find("CALOTYPE_PROXY__")?;
    let (name, value) = line[start..].split_once(['=', ':'])?;
    let value = value.trim().trim_end_matches('\\').trim().trim_matches('"');
    // The default of a variable of the shell.
    let value = value.split_once(":-").map_or(value, |(_, default)| default.trim_end_matches('}'));
    name.chars().all(|c| c.is_ascii_uppercase() || c == '_').then_some((name, value))
}
