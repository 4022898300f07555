//! How the bytes of a medium have fared in their workflow: kept beside them, shown to the tenant, and gone by.
//!
//! Pure: each function says what follows from an answer, and somebody else does it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::InForce;
use super::definition::{OnFailure, Step};

/// Failures in a row after which a step that is open on failure is given up.
const FAILURES_MAX: u32 = 5;

/// Why there is something to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// The medium is new.
    Created,
    /// It is given other bytes.
    Replaced,
    /// Somebody has asked for it.
    Requested,
}

/// What is known of bytes, or of what a step thinks of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing yet.
    Pending,
    /// They may be served.
    Passed,
    /// They may not.
    Rejected,
    /// Nothing, and nobody is asked any more. Only of a step.
    Unknown,
}

/// Which workflow it was, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowMark {
    /// The kind that it is for, or `any`.
    pub kind: String,
    /// Its version.
    pub version: i64,
    /// When it was put. Versions begin anew when it is deleted.
    #[serde(with = "time::serde::rfc3339")]
    pub put_at: OffsetDateTime,
}

/// How bytes have fared.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Scan {
    /// The job that sees to it; `null` where there was no workflow.
    pub job: Option<Uuid>,
    /// Why.
    pub event: Occasion,
    /// By which workflow.
    pub workflow: Option<WorkflowMark>,
    /// What came of it.
    pub verdict: Verdict,
    /// Somebody has decided, and not the workflow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Why it was rejected, or let through by hand.
    pub reason: Option<String>,
    /// By step.
    pub steps: Vec<Finding>,
    /// What steps have found that is to be said of the medium once it is let through.
    #[serde(default, skip_serializing_if = "Found::is_empty")]
    pub found: Found,
}

/// What a step thinks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The step.
    pub name: String,
    /// Whether it is waited for.
    pub wait: bool,
    /// What it thinks.
    pub verdict: Verdict,
    /// Why, or why it is not known.
    pub note: Option<String>,
    /// How often in a row it could not be asked, or has not answered.
    pub failures: u32,
    /// When this was noted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
}

/// What is to be said of a medium.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// Beside what is said already, and in its place under the same key.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Beside those that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Found {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.tags.is_empty()
    }

    fn add(&mut self, more: Self) {
        self.metadata.extend(more.metadata);
        self.tags.extend(more.tags);
    }
}

/// What came of asking.
#[derive(Debug)]
pub enum Answered {
    /// The bytes are all right.
    Passed(Found),
    /// They are not, for this reason.
    Rejected(String),
    /// There is no answer, for this reason.
    Not {
        /// Why.
        why: String,
        /// Whether there may be one another time.
        may_pass: bool,
    },
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Goes,
    /// The bytes may be served.
    Release,
    /// They may not.
    Reject,
}

impl Finding {
    fn of(step: &Step) -> Self {
        Self { name: step.name.clone(), wait: step.wait, verdict: Verdict::Pending, note: None, failures: 0, at: None }
    }

    fn is_open(&self) -> bool {
        self.verdict == Verdict::Pending
    }
}

impl Scan {
    /// Nothing is known yet, and no job sees to it.
    pub fn new(event: Occasion, workflow: &InForce) -> Self {
        let steps: Vec<_> = workflow.steps.iter().filter(|step| step.is_for(event)).map(Finding::of).collect();
        let verdict = if steps.is_empty() { Verdict::Passed } else { Verdict::Pending };
        Self { verdict, steps, workflow: Some(workflow.mark.clone()), ..Self::without_workflow(event) }
    }

    /// Nothing is known, and nobody is to be asked.
    pub fn without_workflow(event: Occasion) -> Self {
        Self {
            job: None,
            event,
            workflow: None,
            verdict: Verdict::Passed,
            by_hand: false,
            reason: None,
            steps: Vec::new(),
            found: Found::default(),
        }
    }

    /// Forgets what is known, because another workflow is in force.
    pub fn restart(&mut self, workflow: &InForce) {
        *self = Self { job: self.job, ..Self::new(self.event, workflow) };
    }

    /// Whether the bytes must not be served before more is known.
    pub fn holds(&self) -> bool {
        self.steps.iter().any(|finding| finding.wait && finding.is_open())
    }

    /// Whether nobody has to be asked any more.
    pub fn is_over(&self) -> bool {
        self.verdict != Verdict::Pending
    }

    /// The next step to ask after the first so many: after one that is waited for, none before it has answered.
    pub fn next(&self, after: usize) -> Option<usize> {
        let at = (after..self.steps.len()).find(|at| self.steps[*at].is_open())?;
        let is_held = self.steps[..at].iter().any(|finding| finding.wait && finding.is_open());
        (!is_held).then_some(at)
    }

    /// Notes what came of a step.
    pub fn note(&mut self, at: usize, step: &Step, answered: Answered, now: OffsetDateTime) -> Outcome {
        let held = self.holds();
        let finding = &mut self.steps[at];
        finding.at = Some(now);
        match answered {
            Answered::Passed(found) => {
                (finding.verdict, finding.note) = (Verdict::Passed, None);
                self.found.add(found);
            }
            Answered::Rejected(why) => {
                (finding.verdict, finding.note) = (Verdict::Rejected, Some(why.clone()));
                self.reason = Some(format!("{}: {why}", finding.name));
                self.verdict = Verdict::Rejected;
                return Outcome::Reject;
            }
            Answered::Not { why, may_pass } => {
                finding.failures += 1;
                finding.note = Some(why);
                let is_enough = !may_pass || finding.failures >= FAILURES_MAX;
                // Nobody waits for it, and there is nothing to wait for.
                let is_vain = !may_pass && !finding.wait;
                if is_vain || (is_enough && step.on_failure == OnFailure::Open) {
                    finding.verdict = Verdict::Unknown;
                }
            }
        }
        if self.steps.iter().all(|finding| !finding.is_open()) {
            self.verdict = Verdict::Passed;
        }
        if held && !self.holds() { Outcome::Release } else { Outcome::Goes }
    }

    /// Somebody has decided.
    pub fn decide(&mut self, verdict: Verdict, reason: String) {
        self.verdict = verdict;
        self.reason = Some(reason);
        self.by_hand = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn in_force(steps: Value) -> InForce {
        let mark = WorkflowMark { kind: "any".to_owned(), version: 1, put_at: OffsetDateTime::UNIX_EPOCH };
        InForce { mark, steps: serde_json::from_value(steps).expect("steps"), secrets: None }
    }

    struct Rig {
        workflow: InForce,
        scan: Scan,
    }

    impl Rig {
        fn new(steps: Value) -> Self {
            let workflow = in_force(steps);
            let scan = Scan::new(Occasion::Created, &workflow);
            Self { workflow, scan }
        }

        fn note(&mut self, at: usize, answered: Answered) -> Outcome {
            self.scan.note(at, &self.workflow.steps[at], answered, OffsetDateTime::UNIX_EPOCH)
        }
    }

    fn passed() -> Answered {
        Answered::Passed(Found::default())
    }

    fn failed(may_pass: bool) -> Answered {
        Answered::Not { why: "away".to_owned(), may_pass }
    }

    fn two(on_failure: &str) -> Value {
        json!([{"name": "a", "scan": {}, "on_failure": on_failure}, {"name": "b", "scan": {}, "wait": false}])
    }

    #[test]
    fn bytes_are_let_through_once_all_that_is_waited_for_has_passed() {
        let mut rig = Rig::new(
            json!([{"name": "a", "scan": {}}, {"name": "b", "scan": {}}, {"name": "c", "scan": {}, "wait": false}]),
        );
        assert!(rig.scan.holds());
        assert_eq!(rig.scan.next(0), Some(0));
        assert_eq!(rig.scan.next(1), None, "the second is not asked before the first has answered");
        assert_eq!(rig.note(0, passed()), Outcome::Goes);
        assert_eq!(rig.scan.next(0), Some(1));
        assert_eq!(rig.note(1, passed()), Outcome::Release);
        assert!(!rig.scan.holds() && !rig.scan.is_over());
        assert_eq!(rig.scan.next(0), Some(2));
        assert_eq!(rig.note(2, passed()), Outcome::Goes, "they are through already");
        assert_eq!((rig.scan.verdict, rig.scan.next(0)), (Verdict::Passed, None));
    }

    #[test]
    fn one_rejection_is_enough_at_any_time() {
        for at in 0..2 {
            let mut rig = Rig::new(two("open"));
            for earlier in 0..at {
                rig.note(earlier, passed());
            }
            assert_eq!(rig.note(at, Answered::Rejected("bad".to_owned())), Outcome::Reject);
            assert!(rig.scan.is_over());
            assert_eq!(rig.scan.reason, Some(format!("{}: bad", ["a", "b"][at])));
        }
    }

    #[test]
    fn what_cannot_be_known_passes_only_when_it_may() {
        let mut rig = Rig::new(two("closed"));
        for _ in 0..100 {
            assert_eq!(rig.note(0, failed(true)), Outcome::Goes);
        }
        assert_eq!(rig.note(0, failed(false)), Outcome::Goes);
        assert!(rig.scan.holds() && rig.scan.next(0) == Some(0));
        let mut rig = Rig::new(two("open"));
        for _ in 1..FAILURES_MAX {
            assert_eq!(rig.note(0, failed(true)), Outcome::Goes);
        }
        assert_eq!(rig.note(0, failed(true)), Outcome::Release);
        assert_eq!(rig.scan.steps[0].verdict, Verdict::Unknown);
        let mut rig = Rig::new(two("open"));
        assert_eq!(rig.note(0, failed(false)), Outcome::Release, "another try would be of no use");
    }

    #[test]
    fn what_is_beside_fails_by_itself() {
        let mut rig =
            Rig::new(json!([{"name": "a", "scan": {}, "wait": false}, {"name": "b", "scan": {}, "wait": false}]));
        assert!(!rig.scan.holds());
        assert_eq!(rig.note(0, failed(true)), Outcome::Goes);
        assert_eq!(rig.scan.next(1), Some(1));
        assert_eq!(rig.note(1, passed()), Outcome::Goes);
        assert!(!rig.scan.is_over());
        assert_eq!((rig.scan.next(0), rig.scan.next(1)), (Some(0), None));
        assert_eq!(rig.note(0, failed(false)), Outcome::Goes);
        assert_eq!((rig.scan.steps[0].verdict, rig.scan.verdict), (Verdict::Unknown, Verdict::Passed));
    }

    #[test]
    fn steps_for_other_occasions_are_left_out_and_none_is_none() {
        let only = json!([{"name": "a", "http": {"url": "https://a.example/", "events": ["replaced"]}}]);
        let scan = Scan::new(Occasion::Created, &in_force(only.clone()));
        assert!(scan.is_over() && !scan.holds());
        assert!(Scan::new(Occasion::Replaced, &in_force(only)).holds());
    }

    #[test]
    fn what_was_found_is_gathered_and_the_last_word_counts() {
        let mut rig = Rig::new(two("closed"));
        let found = |value: Value, tag: &str| {
            Answered::Passed(Found {
                metadata: value.as_object().expect("an object").clone(),
                tags: vec![tag.to_owned()],
            })
        };
        rig.note(0, found(json!({"a": 1, "b": 1}), "x"));
        rig.note(1, found(json!({"b": 2}), "y"));
        assert_eq!(Value::Object(rig.scan.found.metadata), json!({"a": 1, "b": 2}));
        assert_eq!(rig.scan.found.tags, ["x", "y"]);
    }

    #[test]
    fn a_scan_is_read_back() {
        let mut rig = Rig::new(two("open"));
        rig.note(0, Answered::Rejected("bad".to_owned()));
        let text = serde_json::to_value(&rig.scan).expect("JSON");
        let read: Scan = serde_json::from_value(text.clone()).expect("ours");
        assert_eq!(serde_json::to_value(&read).expect("JSON"), text);
    }
}
