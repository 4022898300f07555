//! The policy file: what it allows, and what happens when it changes under a running edge.

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually};

use crate::support::{Warm, cache_status, photo};

async fn sequence(edge: &Edge, expected: u64) {
    eventually("the new policy", async || (edge.readiness().await["policy_sequence"] == expected).then_some(())).await;
}

#[tokio::test]
async fn a_new_origin_serves_without_a_restart_and_a_removed_one_does_not() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    let more = edge.setup().home().join("more");
    std::fs::create_dir(&more).expect("ours");
    std::fs::write(more.join("a.jpg"), photo(60, 40)).expect("ours");
    let target = "/demo/w=30,f=jpeg/@more/a.jpg";
    assert_problem(&edge.get(target).await, 404, "unknown-origin");

    let before = edge.setup().policy();
    edge.setup().write_policy(&format!("{before}origins.more.folder = {:?}\n", more.display().to_string()));
    sequence(&edge, 2).await;
    assert_eq!(edge.get(target).await.status, 200);
    assert_eq!(cache_status(&edge.get(target).await), "Calotype; hit; detail=memory");
    warm.assert_hit(&edge).await;
    assert_eq!(edge.metric("calotype_policy_reloads_total{result=\"applied\"}").await, 1.0);

    edge.setup().write_policy(&before);
    sequence(&edge, 3).await;
    assert_problem(&edge.get(target).await, 404, "unknown-origin");
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn what_the_policy_no_longer_allows_is_not_served_from_the_cache_either() {
    let edge = EdgeSetup::new().start().await;
    Warm::up(&edge).await;
    edge.setup().write_policy(&edge.setup().policy().replace("open = true", "signed = \"required\""));
    sequence(&edge, 2).await;
    assert_problem(&edge.get("/demo/w=40,f=jpeg/@local/warm.jpg").await, 403, "signature-required");
    assert_problem(&edge.get("/demo/-/@local/warm.jpg").await, 403, "signature-required");
    edge.setup().write_policy("");
    sequence(&edge, 3).await;
    assert_problem(&edge.get("/demo/w=40,f=jpeg/@local/warm.jpg").await, 404, "unknown-tenant");
    edge.stop().await;
}

#[tokio::test]
async fn a_changed_preset_is_another_rendition() {
    let edge = EdgeSetup::new().tenant("presets.thumb = \"w=20,f=jpeg\"").start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let width = async || testkit::images::decode(&edge.get("/demo/p=thumb/@local/a.jpg").await.body).width();
    assert_eq!(width().await, 20);
    edge.setup().write_policy(&edge.setup().policy().replace("w=20", "w=30"));
    sequence(&edge, 2).await;
    assert_eq!(width().await, 30);
    edge.stop().await;
}

#[tokio::test]
async fn a_file_with_mistakes_never_replaces_a_policy_that_works() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    let good = edge.setup().policy();
    for (refusals, bad) in [(1.0, "this is not TOML"), (2.0, "[tenants.demo]\nopne = true"), (3.0, "[tenants.\"A B\"]")]
    {
        edge.setup().write_policy(bad);
        eventually("the refusal", async || {
            let text = edge.admin("/metrics").await.text();
            text.contains(&format!("calotype_policy_reloads_total{{result=\"refused\"}} {refusals}")).then_some(())
        })
        .await;
        assert_eq!(edge.readiness().await["policy_sequence"], 1);
        warm.assert_hit(&edge).await;
    }
    assert!(edge.log().contains("opne"), "the log names the mistake: {}", edge.log());

    std::fs::remove_file(edge.setup().home().join("policy.toml")).expect("there");
    eventually("the log", async || edge.log().contains("No such file").then_some(())).await;
    assert_eq!(edge.metric("calotype_policy_reloads_total{result=\"refused\"}").await, 4.0);
    warm.assert_hit(&edge).await;

    edge.setup().write_policy(&format!("{good}presets.x = \"w=1\"\n"));
    sequence(&edge, 2).await;
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_origin_that_cannot_be_opened_does_not_stop_the_others() {
    let edge = EdgeSetup::new().tenant("origins.gone.folder = \"/nonexistent/calotype\"").start().await;
    let warm = Warm::up(&edge).await;
    assert_problem(&edge.get("/demo/w=40/@gone/a.jpg").await, 502, "origin-misconfigured");
    assert_problem(&edge.get("/demo/-/@gone/a.jpg").await, 502, "origin-misconfigured");
    assert!(!edge.get("/demo/w=40/@gone/a.jpg").await.text().contains("/nonexistent"), "paths are not for clients");
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn tenants_do_not_share_renditions_of_one_folder() {
    let setup = EdgeSetup::new();
    let folder = setup.originals().display().to_string();
    let edge = setup.tables(&format!("[tenants.other]\nopen = true\norigins.local.folder = {folder:?}")).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    for tenant in ["demo", "other"] {
        let answer = edge.get(&format!("/{tenant}/w=30,f=jpeg/@local/a.jpg")).await;
        assert_eq!(cache_status(&answer), "Calotype; fwd=uri-miss; stored", "{tenant}");
    }
    edge.stop().await;
}
