//! Who may depend on whom: the "must not" column of the design, over what Cargo has resolved.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Programs that are deployed on their own.
const SERVICES: [&str; 3] = ["proxy", "control-plane", "transcoder"];

/// Crates for developers and tests.
const TOOLS: [&str; 2] = ["devstack", "testkit"];

/// What each crate must not link, directly or through others; by exact name or, with a star, by its start.
const MUST_NOT: &[(&str, &[&str])] = &[
    ("proxy", &["sqlx*", "postgres*", "tokio-postgres*", "diesel*", "rocket*", "devstack", "testkit"]),
    ("control-plane", &["libvips*", "imaging", "ffmpeg*", "pingora*", "devstack", "testkit"]),
    ("transcoder", &["pingora*", "rocket*", "devstack", "testkit"]),
    ("transform-url", &["tokio*", "storage", "tenancy", "imaging", "cache", "hyper*", "aws-*", "libvips*", "figment"]),
    ("imaging", &["tokio*", "http", "hyper*", "reqwest", "pingora*", "foyer*", "storage", "tenancy", "cache", "aws-*"]),
    ("cache", &["pingora*", "libvips*", "imaging", "storage", "tenancy", "transform-url", "aws-*"]),
    ("memfile", &["tokio*", "http", "hyper*", "pingora*", "foyer*", "cache", "transform-url"]),
    ("storage", &["imaging", "libvips*", "pingora*", "foyer*", "cache", "tenancy", "transform-url"]),
    ("uploads", &["tokio-postgres*", "sqlx*", "rocket*", "pingora*", "tenancy", "cache", "imaging", "libvips*"]),
    (
        "isolation",
        &["rocket*", "http", "hyper*", "reqwest*", "pingora*", "tenancy", "storage", "cache", "imaging", "aws-*"],
    ),
    ("clamd", &["sqlx*", "hyper*", "reqwest*", "rocket*", "pingora*", "storage", "tenancy", "jobs", "isolation"]),
    ("fetch", &["pingora*", "storage", "tenancy", "imaging", "cache", "aws-*"]),
    (
        "tenancy",
        &["sqlx*", "http", "hyper*", "reqwest", "rocket*", "pingora*", "storage", "imaging", "cache", "tokio*"],
    ),
    ("jobs", &["ffmpeg", "imaging", "libvips*"]),
    ("ffmpeg", &["jobs", "tenancy", "sqlx*"]),
    ("bootstrap", &["transform-url", "tenancy", "imaging", "cache", "storage", "pingora*"]),
    ("traces", &["hyper*", "fetch", "transform-url", "tenancy", "imaging", "cache", "storage", "pingora*"]),
    ("cli", &["testkit", "rocket*", "sqlx*", "pingora*"]),
];

/// Every package that is linked into each member: normal dependencies, and theirs, for this platform.
struct Workspace {
    metadata: Metadata,
    linked: BTreeMap<String, BTreeSet<String>>,
}

impl Workspace {
    fn read() -> Self {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .other_options(vec!["--locked".into(), "--offline".into(), "--filter-platform".into(), platform])
            .exec()
            .expect("what these tests were built from can be resolved");
        let members: Vec<PackageId> = metadata.workspace_packages().iter().map(|package| package.id.clone()).collect();
        let linked = members.iter().map(|id| (name(&metadata, id), closure(&metadata, id))).collect();
        Self { metadata, linked }
    }

    fn members(&self) -> impl Iterator<Item = &String> {
        self.linked.keys()
    }
}

fn name(metadata: &Metadata, id: &PackageId) -> String {
    metadata[id].name.to_string()
}

/// Names of everything that `root` links, itself left out.
fn closure(metadata: &Metadata, root: &PackageId) -> BTreeSet<String> {
    let resolved = metadata.resolve.as_ref().expect("not asked to leave it out");
    let nodes: BTreeMap<&PackageId, _> = resolved.nodes.iter().map(|node| (&node.id, node)).collect();
    let (mut seen, mut next) = (BTreeSet::from([root]), vec![root]);
    while let Some(id) = next.pop() {
        for dependency in &nodes[id].deps {
            let is_linked = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if is_linked && seen.insert(&dependency.pkg) {
                next.push(&dependency.pkg);
            }
        }
    }
    seen.iter().filter(|id| **id != root).map(|id| name(metadata, id)).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

#[test]
fn no_crate_links_what_it_must_not() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    for (member, forbidden) in MUST_NOT {
        let Some(linked) = workspace.linked.get(*member) else { continue };
        for pattern in *forbidden {
            wrong.extend(linked.iter().filter(|name| matches(pattern, name)).map(|name| format!("{member} → {name}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_service_and_library_has_a_rule() {
    let workspace = Workspace::read();
    // Tools and measurements may use everything.
    let free = ["devstack", "testkit", "e2e", "loadtests"];
    for member in workspace.members().filter(|member| !free.contains(&member.as_str())) {
        assert!(MUST_NOT.iter().any(|(name, _)| name == member), "{member} is new: what must it not link?");
    }
}

#[test]
fn the_rules_would_notice() {
    let workspace = Workspace::read();
    for (member, linked) in [
        ("proxy", "storage"),
        ("proxy", "pingora-core"),
        ("proxy", "foyer"),
        ("imaging", "libvips"),
        ("storage", "aws-sdk-s3"),
        ("cli", "devstack"),
    ] {
        assert!(workspace.linked[member].contains(linked), "{member} no longer links {linked}");
    }
    assert!(matches("aws-*", "aws-sdk-s3") && !matches("http", "http-body"));
}

#[test]
fn services_do_not_depend_on_each_other_and_nothing_depends_on_a_service() {
    let workspace = Workspace::read();
    for (member, linked) in &workspace.linked {
        for service in SERVICES.iter().chain(&["cli"]) {
            assert!(!linked.contains(*service), "{member} → {service}");
        }
    }
}

#[test]
fn tools_for_tests_are_no_part_of_a_service() {
    let workspace = Workspace::read();
    let may = ["devstack", "testkit", "e2e", "loadtests", "cli"];
    for (member, linked) in workspace.linked.iter().filter(|(member, _)| !may.contains(&member.as_str())) {
        for tool in TOOLS {
            assert!(!linked.contains(tool), "{member} → {tool}");
        }
    }
}

/// Crates that can send HTTP requests.
const HTTP_CLIENTS: [&str; 8] =
    ["hyper*", "reqwest*", "ureq*", "curl*", "isahc", "awc", "attohttpc", "aws-smithy-http-client"];

#[test]
fn only_the_guarded_client_and_the_stores_send_http_requests() {
    let workspace = Workspace::read();
    let mut clients = BTreeSet::new();
    for package in workspace.metadata.workspace_packages() {
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        if normal.into_iter().any(|used| HTTP_CLIENTS.iter().any(|client| matches(client, &used.name))) {
            clients.insert(package.name.as_str());
        }
    }
    for tool in ["testkit", "devstack", "loadtests", "e2e"] {
        clients.remove(tool);
    }
    // What tenants name goes through `fetch`; what operators name may go through the SDK of S3, or be a collector of traces,
    // and the command line asks the operator's own edges.
    assert_eq!(clients, BTreeSet::from(["bootstrap", "cli", "fetch", "storage"]));
}

#[test]
fn nothing_that_is_linked_is_under_gpl_or_agpl() {
    let workspace = Workspace::read();
    let mut wrong = Vec::new();
    let everything: BTreeSet<&String> = workspace.linked.values().flatten().collect();
    for package in workspace.metadata.packages.iter().filter(|package| everything.contains(&package.name.to_string())) {
        match &package.license {
            Some(license) if is_permitted(license) => {}
            license => wrong.push(format!("{} {}: {license:?}", package.name, package.version)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether an SPDX expression (or Cargo's old form with a slash) leaves a choice without a GPL. The LGPL counts as one:
/// everything here is linked statically.
fn is_permitted(license: &str) -> bool {
    let alternatives = license.replace(['(', ')'], "").replace('/', " OR ");
    !alternatives.contains(" AND ") && alternatives.split(" OR ").any(|one| !one.contains("GPL"))
        || !license.contains("GPL")
}

#[test]
fn a_choice_is_permitted_and_an_obligation_is_not() {
    for (license, permitted) in [
        ("MIT OR Apache-2.0", true),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("MIT OR Apache-2.0 OR LGPL-2.1-or-later", true),
        ("GPL-3.0-only", false),
        ("AGPL-3.0-or-later", false),
        ("LGPL-2.1", false),
        ("MIT AND GPL-2.0", false),
        ("(MIT OR Apache-2.0) AND AGPL-3.0", false),
    ] {
        assert_eq!(is_permitted(license), permitted, "{license}");
    }
}

#[test]
fn every_member_takes_part_in_the_lints_and_the_licence() {
    let workspace = Workspace::read();
    for package in workspace.metadata.workspace_packages() {
        assert_eq!(package.license.as_deref(), Some("Apache-2.0"), "{}", package.name);
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("it was read a moment ago");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has lints of its own", package.name);
    }
}

/// The list of faults in `README.md` names tests that exist.
#[test]
fn every_fault_has_its_tests() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(folder.join("README.md")).expect("the list is there");
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().expect("has columns");
        for named in tests.split(", ") {
            let (file, test) = named.trim_matches('`').split_once(": ").unwrap_or_else(|| panic!("{named} is no test"));
            let source = std::fs::read_to_string(folder.join("tests").join(file)).expect("the file is there");
            assert!(source.contains(&format!("async fn {test}()")), "{file} has no test {test}");
        }
        rows += 1;
    }
    assert!(rows >= 14, "{rows} faults are listed");
}
