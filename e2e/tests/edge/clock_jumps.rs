//! A wall clock that is set forward and back while the edge runs: no picture stays old for it, no deadline depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

use testkit::clock::Clock;
use testkit::edge::{Edge, assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::Response;
use testkit::images;
use testkit::web::Page;
use transform_url::signing::Message;

use crate::support::{WebRig, cache_status};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;
const TARGET: &str = "/demo/w=32,f=png/@web/a.png";
const RED: [u8; 3] = [200, 0, 0];
const BLUE: [u8; 3] = [0, 0, 200];
const MEMORY: &str = "Calotype; hit; detail=memory";

/// A web server with a red picture, and an edge with a clock of its own, which is ahead by so much.
struct Rig {
    web: WebRig,
    clock: Clock,
    edge: Edge,
}

impl Rig {
    async fn start(policy: &str, seconds: i64) -> Self {
        let (web, clock) = (WebRig::start().await, Clock::new());
        clock.shift(seconds);
        let edge = web.edge().tenant(policy).clock(&clock).start().await;
        let rig = Self { web, clock, edge };
        rig.paint(RED);
        rig
    }

    fn paint(&self, colour: [u8; 3]) {
        let bytes = images::png::rgb(&images::swatches(&[colour], 64), &images::png::Extras::default());
        self.web.server.put("/img/a.png", Page::new(bytes));
    }

    async fn get(&self) -> Response {
        let answer = self.edge.get(TARGET).await;
        picture(&answer, "image/png");
        answer
    }

    /// Whether the edge believes that it is so many seconds off, by its access events.
    async fn assert_shifted(&self, seconds: i64) {
        let events = self.edge.setup().events().len();
        self.get().await;
        let last = self.edge.events(events + 1).await.pop().expect("there is one");
        let year = last["time"].as_str().and_then(|time| time[..4].parse::<i64>().ok()).expect("a year");
        let expected = 1970 + (unix_now() + seconds) / (YEAR + 6 * HOUR);
        assert!((year - expected).abs() <= 1, "{last}");
    }
}

fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(now.as_secs()).expect("it is not that late")
}

fn colour(answer: &Response) -> [u8; 3] {
    images::decode(&answer.body).to_rgb8().get_pixel(9, 9).0
}

fn age(answer: &Response) -> u64 {
    answer.header("age").map_or(0, |age| age.parse().expect("a number"))
}

#[tokio::test]
async fn forward_by_years_what_was_fresh_is_asked_for_again() {
    let rig = Rig::start("max_age_seconds = 3600\nstale_while_revalidate_seconds = 3600", 0).await;
    rig.get().await;
    assert_eq!(cache_status(&rig.get().await), MEMORY);

    rig.clock.shift(HOUR / 2);
    let hit = rig.get().await;
    assert_eq!(cache_status(&hit), MEMORY);
    assert!((1800..3600).contains(&age(&hit)), "{}", age(&hit));

    rig.clock.shift(HOUR + HOUR / 2);
    assert_eq!(cache_status(&rig.get().await), "Calotype; hit; detail=stale");
    let renewed = "calotype_refreshes_total{result=\"renewed\"}";
    eventually("the refresh", async || (rig.edge.metric(renewed).await == 1.0).then_some(())).await;

    rig.paint(BLUE);
    rig.clock.shift(30 * YEAR);
    let made = rig.get().await;
    assert_eq!((colour(&made), cache_status(&made)), (BLUE, "Calotype; fwd=stale; stored"));
    assert_eq!(cache_status(&rig.get().await), MEMORY);
    rig.assert_shifted(30 * YEAR).await;
    rig.edge.stop().await;
}

#[tokio::test]
async fn back_by_years_what_was_made_in_the_future_is_asked_for_again() {
    let rig = Rig::start("max_age_seconds = 3600\nstale_while_revalidate_seconds = 3600", 2 * YEAR).await;
    rig.get().await;
    assert_eq!(cache_status(&rig.get().await), MEMORY);
    rig.assert_shifted(2 * YEAR).await;

    // The clock is set right. By the times it was kept with, the red one is fresh for two years.
    rig.paint(BLUE);
    rig.clock.shift(0);
    let old = rig.get().await;
    assert_eq!((colour(&old), cache_status(&old), age(&old)), (RED, "Calotype; hit; detail=stale", 0));
    assert_eq!(old.header("cache-control"), Some("public, max-age=3600, stale-while-revalidate=3600"));
    let new = eventually("the blue one", async || Some(rig.get().await).filter(|new| colour(new) == BLUE)).await;
    assert!(age(&new) < 60, "{}", age(&new));
    assert_eq!(cache_status(&rig.get().await), MEMORY);
    rig.edge.stop().await;
}

#[tokio::test]
async fn back_by_years_what_must_not_be_used_stale_is_not_used() {
    let rig = Rig::start("max_age_seconds = 3600\nstale_while_revalidate_seconds = 0", 2 * YEAR).await;
    rig.get().await;
    rig.paint(BLUE);
    rig.clock.shift(0);
    assert_eq!(colour(&rig.get().await), BLUE);
    rig.edge.stop().await;
}

#[tokio::test]
async fn a_restart_under_another_clock_finds_what_is_on_disk() {
    let Rig { web, clock, mut edge } = Rig::start("max_age_seconds = 3600", 0).await;
    let made = edge.get(TARGET).await;
    // Made in the future, fresh, long expired, and when a machine has lost its clock.
    for seconds in [-2 * YEAR, 0, 2 * YEAR, -55 * YEAR] {
        let setup = edge.stop().await;
        clock.shift(seconds);
        edge = setup.start().await;
        assert_eq!(edge.readiness().await["cache_disk"], "ready", "{seconds}");
        let again = edge.get(TARGET).await;
        assert_eq!((again.status.as_u16(), &again.body), (200, &made.body), "{seconds}");
    }
    // It was asked whether it changed, and never made again.
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 0.0);
    assert!(web.relay.requests() > 1);
    edge.stop().await;
}

#[tokio::test]
async fn deadlines_and_waits_do_not_go_by_the_wall_clock() {
    let rig = Rig::start("max_age_seconds = 3600", 0).await;
    for (number, seconds) in [YEAR, -YEAR, -55 * YEAR].into_iter().enumerate() {
        rig.web.relay.set(Fault::StallBeforeHead);
        let before = rig.web.relay.requests();
        let (address, target) = (rig.edge.addr(), format!("/demo/w=20,f=png,v={number}/@web/a.png"));
        let client = tokio::spawn(async move { testkit::http::get(address, &target).await.expect("an answer") });
        rig.web.relay.wait_for_requests(before + 1).await.expect("the server is asked");
        rig.clock.shift(seconds);
        rig.web.relay.heal();
        picture(&client.await.expect("no panic"), "image/png");
    }
    // The other way round: standing still is no excuse for an origin that does.
    rig.clock.shift(0);
    let setup = rig.edge.stop().await;
    let edge = setup.set("transform.deadline_seconds", 1).start().await;
    rig.web.relay.set(Fault::StallBeforeHead);
    rig.clock.shift(-YEAR);
    assert_problem(&edge.get("/demo/w=40,f=png,v=late/@web/a.png").await, 504, "deadline");
    rig.web.relay.heal();
    edge.stop().await;
}

/// The clock decides here and nothing else can, so being wrong it is wrong about this.
#[tokio::test]
async fn signatures_expire_by_the_wall_clock() {
    let secret = "an example secret, 32 bytes or more";
    let rig = Rig::start(&format!("keys = {{ k1 = '{secret}' }}"), 0).await;
    let expires = u64::try_from(unix_now() + HOUR).expect("it is later than 1970");
    let path = "/w=32,f=png/@web/a.png";
    let message = Message { tenant_id: "demo", path, expires: Some(expires), key: "k1" };
    let target = format!("/demo{path}?{}", message.query(secret.as_bytes()));
    for (seconds, is_valid) in [(0, true), (2 * HOUR, false), (0, true), (-YEAR, true), (YEAR, false)] {
        rig.clock.shift(seconds);
        let answer = rig.edge.get(&target).await;
        if is_valid {
            picture(&answer, "image/png");
        } else {
            assert_problem(&answer, 403, "signature-expired");
        }
    }
    rig.edge.stop().await;
}
