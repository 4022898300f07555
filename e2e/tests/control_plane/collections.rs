//! Collections: media put together by hand, in an order of its own, by many at once.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::ControlPlane;
use testkit::http::{Request, Response};

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{etag, ok, problem};

/// Small media of these names, and their ids.
async fn media(rig: &MediaRig, names: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for name in names {
        ids.push(id(&ok(&rig.post(TestForm::file(name.as_bytes()).text("public_id", name)).await, 201)));
    }
    ids
}

/// A tenant's collection.
struct Shelf<'a> {
    api: &'a ControlPlane,
    key: &'a str,
    path: String,
}

impl<'a> Shelf<'a> {
    async fn make(rig: &'a MediaRig, name: &str) -> Self {
        let (api, key) = (&rig.api, &rig.shop.key[..]);
        let made = ok(&api.json(Method::POST, key, "/v1/collections", &json!({"name": name})).await, 201);
        Self { api, key, path: format!("/v1/collections/{}", id(&made)) }
    }

    async fn put(&self, body: Value) -> Response {
        self.api.json(Method::POST, self.key, &format!("{}/media", self.path), &body).await
    }

    async fn remove(&self, ids: &[&String]) -> Response {
        self.api.json(Method::POST, self.key, &format!("{}/media/remove", self.path), &json!({"ids": ids})).await
    }

    async fn get(&self) -> Value {
        ok(&self.api.get(self.key, &self.path).await, 200)
    }

    /// The ids of what is in it, by pages of this many.
    async fn ids(&self, limit: usize) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = format!("{}/media?limit={limit}{cursor}", self.path);
            let page = ok(&self.api.get(self.key, &page).await, 200);
            ids.extend(page["items"].as_array().expect("a list").iter().map(id));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }
}

#[tokio::test]
async fn a_collection_is_put_together_and_taken_apart() {
    let rig = MediaRig::start().await;
    let (api, key) = (&rig.api, &rig.shop.key[..]);
    let media = media(&rig, &["a", "b", "c", "d"]).await;
    let [a, b, c, d] = &media[..] else { panic!("four") };

    let said = json!({"name": " Summer ", "description": "Two\nlines", "metadata": {"year": 2026}});
    let made = api.json(Method::POST, key, "/v1/collections", &said).await;
    let (collection, first) = (ok(&made, 201), etag(&made));
    let path = format!("/v1/collections/{}", id(&collection));
    assert_eq!(made.header("location"), Some(&path[..]));
    assert_eq!((&collection["name"], &collection["description"]), (&json!("Summer"), &json!("Two\nlines")));
    let shelf = Shelf { api, key, path };
    assert_eq!((&shelf.get().await["media_count"], shelf.ids(2).await.len()), (&json!(0), 0));

    assert_eq!(ok(&shelf.put(json!({"ids": [c, a]})).await, 200), json!({"added": 2, "media_count": 2}));
    assert_eq!(shelf.ids(1).await, [c.clone(), a.clone()]);
    // Those that are in it stay where they are.
    assert_eq!(ok(&shelf.put(json!({"ids": [a, b, c]})).await, 200), json!({"added": 1, "media_count": 3}));
    assert_eq!(shelf.ids(2).await, [c.clone(), a.clone(), b.clone()]);
    // With a place, all of them go there.
    assert_eq!(ok(&shelf.put(json!({"ids": [d, b], "before": a})).await, 200), json!({"added": 1, "media_count": 4}));
    assert_eq!(shelf.ids(3).await, [c.clone(), d.clone(), b.clone(), a.clone()]);
    ok(&shelf.put(json!({"ids": [c], "after": b})).await, 200);
    assert_eq!(shelf.ids(100).await, [d.clone(), b.clone(), c.clone(), a.clone()]);
    ok(&shelf.put(json!({"ids": [a], "at": "start"})).await, 200);
    ok(&shelf.put(json!({"ids": [d], "at": "end"})).await, 200);
    assert_eq!(shelf.ids(100).await, [a.clone(), b.clone(), c.clone(), d.clone()]);

    let counted = shelf.get().await;
    assert_eq!((&counted["media_count"], &counted["bytes"]), (&json!(4), &json!(4)));
    let listed = ok(&api.get(key, &format!("/v1/collections?media={b}")).await, 200);
    assert_eq!(listed["items"].as_array().expect("a list").len(), 1);

    // A medium that is deleted is in no collection any more; a collection that is deleted takes nothing with it.
    assert_eq!(rig.delete(b).await.status, 204);
    assert_eq!(shelf.ids(100).await, [a.clone(), c.clone(), d.clone()]);
    assert_eq!(ok(&shelf.remove(&[c, b]).await, 200), json!({"removed": 1, "media_count": 2}));
    assert_eq!(shelf.ids(100).await, [a.clone(), d.clone()]);

    let stale = Request::new(Method::PATCH, &shelf.path).header("authorization", format!("Bearer {key}"));
    let stale = stale.header("content-type", "application/json").header("if-match", first).body("{\"name\":\"x\"}");
    problem(&api.send(&stale).await, 412, "changed");
    let changed = ok(&api.json(Method::PATCH, key, &shelf.path, &json!({"name": "Autumn"})).await, 200);
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("Autumn"), &json!({"year": 2026})));
    assert_eq!(api.delete(key, &shelf.path).await.status, 204);
    problem(&api.get(key, &shelf.path).await, 404, "not-found");
    problem(&api.get(key, &format!("{}/media", shelf.path)).await, 404, "not-found");
    assert_eq!(rig.get(a).await.status, 200);

    // Who has done what is written down, an order as one entry.
    let log = ok(&api.get(key, "/v1/audit-log?resource=collection&limit=1000").await, 200);
    let arranged = |entry: &&Value| entry["action"] == "update" && entry["after"].get("arranged_at").is_some();
    let entries = log["items"].as_array().expect("a list");
    assert_eq!(entries.iter().filter(arranged).count(), 4, "{log}");
    let log = ok(&api.get(key, "/v1/audit-log?resource=collection_media&limit=1000").await, 200);
    assert_eq!(log["items"].as_array().expect("a list").len(), 5, "four were put in, one was taken out: {log}");
}

/// Each time half of the room between two is left, until all are given new places.
#[tokio::test]
async fn many_can_be_put_at_the_same_place() {
    let rig = MediaRig::start().await;
    let names: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    let media = media(&rig, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let shelf = Shelf::make(&rig, "x").await;
    let mut expected = vec![media[0].clone(), media[1].clone()];
    ok(&shelf.put(json!({"ids": expected})).await, 200);
    for one in &media[2..] {
        ok(&shelf.put(json!({"ids": [one], "after": media[0]})).await, 200);
        expected.insert(1, one.clone());
    }
    assert_eq!(shelf.ids(7).await, expected);
    // And all of them at once, the other way around.
    expected.reverse();
    ok(&shelf.put(json!({"ids": expected, "at": "start"})).await, 200);
    assert_eq!(shelf.ids(1000).await, expected);
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let rig = MediaRig::start().await;
    let (api, key) = (&rig.api, &rig.shop.key[..]);
    let media = media(&rig, &["a", "b"]).await;
    let shelf = Shelf::make(&rig, "x").await;
    ok(&shelf.put(json!({"ids": [media[0]]})).await, 200);
    let nobody = "00000000-0000-7000-8000-000000000000";
    let many: Vec<String> = (0..1001).map(|n| format!("00000000-0000-7000-8000-{n:012}")).collect();
    for (bad, code) in [
        (json!({"ids": []}), "bad-field"),
        (json!({"ids": many}), "bad-field"),
        (json!({"ids": ["x"]}), "bad-json"),
        (json!({"ids": [media[1], media[1]]}), "bad-field"),
        (json!({"ids": [media[1], nobody]}), "bad-field"),
        (json!({"ids": [media[1]], "before": media[1]}), "bad-field"),
        (json!({"ids": [media[1]], "after": nobody}), "bad-field"),
        (json!({"ids": [media[1]], "before": media[0], "at": "end"}), "bad-field"),
        (json!({"ids": [media[1]], "at": "middle"}), "bad-json"),
        (json!({"ids": [media[1]], "place": 1}), "bad-json"),
    ] {
        let status = if code == "bad-json" { 400 } else { 422 };
        problem(&shelf.put(bad).await, status, code);
    }
    assert_eq!(shelf.ids(100).await, media[..1], "all or nothing");
    let missing = problem(&shelf.put(json!({"ids": [nobody]})).await, 422, "bad-field");
    assert!(missing.contains(nobody), "{missing}");
    let elsewhere = Shelf { api, key, path: format!("/v1/collections/{nobody}") };
    problem(&elsewhere.put(json!({"ids": [media[0]]})).await, 404, "not-found");
    problem(&elsewhere.remove(&[&media[0]]).await, 404, "not-found");
    problem(&api.get(key, "/v1/collections/x").await, 404, "not-found");
    problem(&api.get(key, "/v1/collections?media=x").await, 422, "bad-field");
    problem(&api.get(key, "/v1/collections?folder=x").await, 422, "bad-field");
    for bad in [json!({"name": ""}), json!({"name": "a\u{0}"}), json!({"name": "x", "metadata": []})] {
        problem(&api.json(Method::POST, key, "/v1/collections", &bad).await, 422, "bad-field");
    }

    // More than one may have.
    rig.sql(
        "INSERT INTO media (tenant_id, id, public_id, kind, revision, content_type, bytes, sha256)
         SELECT tenant_id, gen_random_uuid(), 'm' || n, kind, revision, content_type, bytes, sha256
         FROM media, generate_series(1, 9999) AS n WHERE public_id = 'a'",
    )
    .await;
    rig.sql(
        "INSERT INTO collection_media (tenant_id, collection_id, media_id, position)
         SELECT media.tenant_id, collections.id, media.id, 1 FROM media, collections WHERE public_id LIKE 'm%'",
    )
    .await;
    let full = problem(&shelf.put(json!({"ids": [media[1]]})).await, 422, "bad-field");
    assert!(full.contains("10000"), "{full}");
    ok(&shelf.put(json!({"ids": [media[0]], "at": "start"})).await, 200);
    ok(&shelf.remove(&[&media[0]]).await, 200);
    assert_eq!(ok(&shelf.put(json!({"ids": [media[1]]})).await, 200), json!({"added": 1, "media_count": 10_000}));
}

#[tokio::test]
async fn what_is_sent_twice_is_done_once() {
    let rig = MediaRig::start().await;
    let (api, key) = (&rig.api, &rig.shop.key[..]);
    let send = async |body: &str| {
        let request = Request::new(Method::POST, "/v1/collections").header("authorization", format!("Bearer {key}"));
        let request = request.header("content-type", "application/json").header("idempotency-key", "one");
        api.send(&request.body(body.to_owned())).await
    };
    let (first, second) = (send("{\"name\":\"x\"}").await, send("{\"name\":\"x\"}").await);
    assert_eq!((ok(&first, 201), etag(&first)), (ok(&second, 201), etag(&second)));
    problem(&send("{\"name\":\"y\"}").await, 422, "idempotency-mismatch");
    assert_eq!(rig.count("collections").await, 1);
}

/// Some put media in, some arrange it, some take it out, some delete it: nobody waits for somebody who waits for him.
#[tokio::test]
async fn many_change_the_same_collections_at_once() {
    let rig = MediaRig::start().await;
    let names: Vec<String> = (0..24).map(|n| format!("m{n}")).collect();
    let media = media(&rig, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let shelves = [Shelf::make(&rig, "one").await, Shelf::make(&rig, "other").await];
    let (gone, left) = media.split_at(8);
    let putting = async |shelf: &Shelf<'_>, turn: usize| {
        for at in ["start", "end", "start"] {
            let mut ids = media.clone();
            ids.rotate_left(turn * 5);
            let answer = shelf.put(json!({"ids": ids, "at": at})).await;
            // What was deleted meanwhile is told of.
            assert!(matches!(answer.status.as_u16(), 200 | 422), "{}", answer.text());
            let answer = shelf.put(json!({"ids": left, "at": at})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = shelf.remove(&ids.iter().take(6).collect::<Vec<_>>()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    let deleting = async {
        for id in gone {
            let answer = rig.delete(id).await;
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
    };
    tokio::join!(
        putting(&shelves[0], 0),
        putting(&shelves[0], 1),
        putting(&shelves[1], 2),
        putting(&shelves[1], 3),
        deleting
    );
    for shelf in &shelves {
        ok(&shelf.put(json!({"ids": left, "at": "end"})).await, 200);
        assert_eq!(shelf.ids(5).await, left);
    }
}

/// A page begins after what the one before has ended with, wherever that is by then.
#[tokio::test]
async fn pages_go_on_where_the_last_one_has_ended() {
    let rig = MediaRig::start().await;
    let media = media(&rig, &["a", "b", "c", "d"]).await;
    let shelf = Shelf::make(&rig, "x").await;
    ok(&shelf.put(json!({"ids": media})).await, 200);
    let path = format!("{}/media?limit=2", shelf.path);
    let first = ok(&rig.api.get(&rig.shop.key, &path).await, 200);
    let cursor = first["next_cursor"].as_str().expect("there is more").to_owned();
    assert_eq!(rig.delete(&media[1]).await.status, 204);
    let second = ok(&rig.api.get(&rig.shop.key, &format!("{path}&cursor={cursor}")).await, 200);
    let ids: BTreeSet<String> = second["items"].as_array().expect("a list").iter().map(id).collect();
    assert_eq!((ids, &second["next_cursor"]), (media[2..].iter().cloned().collect(), &Value::Null));
    problem(&rig.api.get(&rig.shop.key, &format!("/v1/media?cursor={cursor}")).await, 400, "bad-cursor");
}
