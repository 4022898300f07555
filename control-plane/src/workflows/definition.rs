//! A workflow as a tenant writes it down, and the limits on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use isolation::TenantKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scan::Occasion;
use crate::media::Kind;
use crate::problem::ApiError;
use crate::sealing::{Place, Seal};
use crate::webhooks::{Secret, WebhookReach};

/// Most steps of a workflow.
const STEPS_MAX: usize = 10;

/// Most bytes of the name of a step.
const NAME_BYTES_MAX: usize = 63;

/// Longest that a step may take, in seconds.
const TIMEOUT_SECONDS_MAX: u32 = 600;

/// What the secrets of a workflow are sealed as.
const KIND: &str = "workflow";

/// Which media a workflow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Those of this kind.
    Of(Kind),
    /// Those whose kind has no workflow of its own.
    Any,
}

impl Subject {
    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Of(kind) => kind.as_str(),
            Self::Any => "any",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "any" { Ok(Self::Any) } else { text.parse().map(Self::Of) }
    }
}

/// What media go through.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Workflow {
    /// In this order: at most 10, those that are waited for first.
    steps: Vec<Step>,
}

/// One step: `scan` or `http`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it is called: 1 to 63 of `a-z`, `0-9`, `-` and `_`.
    pub name: String,
    /// Has the operator's scanner look for what is harmful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scan: Option<Scanner>,
    /// Asks an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<Endpoint>,
    /// Whether the medium is not delivered before this has passed.
    #[serde(default = "yes")]
    pub wait: bool,
    /// What counts when nobody has answered for good: `closed`, as if it had not passed; `open`, as if it had.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How long it may take, each time: 1 to 600 seconds.
    #[serde(default = "minute")]
    pub timeout_seconds: u32,
}

/// The operator's scanner. There is nothing to say of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Scanner {}

/// Who is asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where: https, or a host that the operator has listed in `webhooks.private`.
    pub url: String,
    /// What requests are signed with: `whsec_` and base64 of 24 to 64 bytes. Never shown again; left out, it stays that of the step of
    /// this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Of which media: those that were `created`, `replaced`, or whose scan was `requested`; all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<BTreeSet<Occasion>>,
}

/// What counts when nobody has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is as if it had passed.
    Open,
    /// It is as if it had not passed yet.
    #[default]
    Closed,
}

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub enum StepTask<'a> {
    /// It asks the operator's scanner.
    Scan,
    /// It asks an endpoint.
    Http(&'a Endpoint),
}

fn yes() -> bool {
    true
}

fn minute() -> u32 {
    60
}

impl Step {
    /// What it does.
    pub fn task(&self) -> StepTask<'_> {
        self.http.as_ref().map_or(StepTask::Scan, StepTask::Http)
    }

    /// Whether it is a step of media of which this has happened.
    pub fn is_for(&self, occasion: Occasion) -> bool {
        let events = self.http.as_ref().and_then(|http| http.events.as_ref());
        events.is_none_or(|events| events.contains(&occasion))
    }

    fn check(&self, reach: &WebhookReach) -> Result<(), ApiError> {
        let refused = |why: String| Err(ApiError::field("steps", format!("{:?}: {why}", shortened(&self.name))));
        let is_name = (1..=NAME_BYTES_MAX).contains(&self.name.len())
            && self.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if !is_name {
            return refused(format!("a name is 1 to {NAME_BYTES_MAX} of a-z, 0-9, \"-\" and \"_\""));
        }
        if self.scan.is_some() == self.http.is_some() {
            return refused("is either \"scan\" or \"http\"".to_owned());
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            return refused(format!("timeout_seconds is 1 to {TIMEOUT_SECONDS_MAX}"));
        }
        let Some(http) = &self.http else { return Ok(()) };
        if http.events.as_ref().is_some_and(BTreeSet::is_empty) {
            return refused("events are at least one".to_owned());
        }
        let checked = reach.url(&http.url).map(drop);
        let checked = checked.and_then(|()| http.secret.as_deref().map(Secret::parse).transpose());
        match checked {
            Err(error @ ApiError::Field { .. }) => refused(error.to_string()),
            checked => checked.map(drop),
        }
    }
}

/// A text in an error.
fn shortened(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).collect()
}

/// The secrets of a workflow, by the names of its steps.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// What a step signs with.
    pub fn of(&self, step: &str) -> Option<Secret> {
        self.0.get(step).and_then(|secret| Secret::parse(secret).ok())
    }

    /// As they are kept; `None` when there are none.
    ///
    /// # Errors
    /// [`ApiError::NoMasterKey`].
    pub fn sealed(&self, seal: &Seal, tenant: TenantKey, subject: &str) -> Result<Option<Vec<u8>>, ApiError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_vec(self).map_err(|_| ApiError::Internal)?;
        let sealed = seal.seal(&text, Place { tenant, kind: KIND, name: subject })?;
        sealed.ok_or(ApiError::NoMasterKey).map(Some)
    }
}

/// The secrets of a workflow as they were before they were sealed.
///
/// # Errors
/// [`ApiError::Seal`].
pub fn secrets_of(seal: &Seal, tenant: TenantKey, subject: &str, sealed: Option<&[u8]>) -> Result<Secrets, ApiError> {
    let Some(sealed) = sealed else { return Ok(Secrets::default()) };
    let text = seal.open(sealed, Place { tenant, kind: KIND, name: subject })?;
    serde_json::from_slice(&text).map_err(|_| ApiError::Internal)
}

impl Workflow {
    /// Whether the operator's scanner is needed.
    pub fn needs_scanner(&self) -> bool {
        self.steps.iter().any(|step| step.scan.is_some())
    }

    /// Holds it against the limits.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self, reach: &WebhookReach) -> Result<(), ApiError> {
        let refused = |why: String| Err(ApiError::field("steps", why));
        if self.steps.len() > STEPS_MAX {
            return refused(format!("are at most {STEPS_MAX}"));
        }
        self.steps.iter().try_for_each(|step| step.check(reach))?;
        let names: BTreeSet<_> = self.steps.iter().map(|step| &step.name).collect();
        if names.len() < self.steps.len() {
            return refused("have a name each, and no two the same".to_owned());
        }
        if !self.steps.is_sorted_by_key(|step| !step.wait) {
            return refused("that are waited for come before those that are not".to_owned());
        }
        Ok(())
    }

    /// What is shown, and what is not: secrets that were given, or else are known.
    ///
    /// # Errors
    /// [`ApiError::Field`] for an endpoint without a secret.
    pub fn parted(mut self, mut known: Secrets) -> Result<(Vec<Step>, Secrets), ApiError> {
        let mut secrets = Secrets::default();
        for step in &mut self.steps {
            let Some(http) = &mut step.http else { continue };
            let secret = http.secret.take().or_else(|| known.0.remove(&step.name));
            let why = || format!("{:?}: secret is missing, and there is none yet", step.name);
            secrets.0.insert(step.name.clone(), secret.ok_or_else(|| ApiError::field("steps", why()))?);
        }
        Ok((self.steps, secrets))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::webhooks::WebhookSettings;

    fn workflow(steps: Value) -> Workflow {
        serde_json::from_value(json!({ "steps": steps })).expect("steps")
    }

    fn reach() -> WebhookReach {
        WebhookReach(WebhookSettings::default().reach())
    }

    fn secret(bytes: usize) -> String {
        format!("whsec_{}", STANDARD.encode(vec![7; bytes]))
    }

    #[test]
    fn what_is_left_out_is_the_safe_thing() {
        let workflow = workflow(json!([{"name": "virus", "scan": {}}]));
        workflow.check(&reach()).expect("good");
        let step = &workflow.steps[0];
        assert!(step.wait && step.on_failure == OnFailure::Closed && step.timeout_seconds == 60);
        assert!(matches!(step.task(), StepTask::Scan) && workflow.needs_scanner());
        assert!(step.is_for(Occasion::Created) && step.is_for(Occasion::Requested));
    }

    #[test]
    fn what_is_not_allowed_is_told_with_the_step() {
        let http = |more: Value| {
            let mut http = json!({"url": "https://a.example/", "secret": secret(24)});
            http.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!([{"name": "look", "http": http}])
        };
        let many: Vec<_> = (0..11).map(|n| json!({"name": n.to_string(), "scan": {}})).collect();
        for (steps, told) in [
            (json!(many), "at most 10"),
            (json!([{"name": "", "scan": {}}]), "a name is"),
            (json!([{"name": "A", "scan": {}}]), "\"A\": a name is"),
            (json!([{"name": "a".repeat(64), "scan": {}}]), "a name is"),
            (json!([{"name": "a", "scan": {}}, {"name": "a", "scan": {}}]), "no two the same"),
            (json!([{"name": "a"}]), "either"),
            (json!([{"name": "a", "scan": {}, "http": {"url": "https://a.example/"}}]), "either"),
            (json!([{"name": "a", "scan": {}, "timeout_seconds": 0}]), "1 to 600"),
            (json!([{"name": "a", "scan": {}, "timeout_seconds": 601}]), "1 to 600"),
            (json!([{"name": "a", "scan": {}, "wait": false}, {"name": "b", "scan": {}}]), "come before"),
            (http(json!({"url": "ftp://a.example/"})), "\"look\": url: "),
            (http(json!({"url": "http://a.example/"})), "\"look\": url: begins with https://"),
            (http(json!({"url": "https://10.0.0.1/"})), "\"look\": url: "),
            (http(json!({"events": []})), "at least one"),
            (http(json!({"secret": "hunter2"})), "whsec_"),
            (http(json!({"secret": secret(23)})), "whsec_"),
            (http(json!({"secret": secret(65)})), "whsec_"),
        ] {
            let error = workflow(steps.clone()).check(&reach()).expect_err("refused").to_string();
            assert!(error.starts_with("steps: ") && error.contains(told), "{steps}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        workflow(http(json!({"events": ["created", "requested"]}))).check(&reach()).expect("good");
        workflow(json!([])).check(&reach()).expect("nothing to do is something to say");
    }

    #[test]
    fn a_secret_is_given_or_known_and_never_shown() {
        let given = workflow(json!([{"name": "look", "http": {"url": "https://a.example/", "secret": secret(24)}}]));
        let (steps, secrets) = given.parted(Secrets::default()).expect("given");
        assert!(!serde_json::to_string(&steps).expect("JSON").contains("whsec_"));
        assert_eq!(secrets.0["look"], secret(24));
        let again = || workflow(json!([{"name": "look", "http": {"url": "https://b.example/"}}]));
        let (_, kept) = again().parted(secrets).expect("known");
        assert!(kept.0["look"] == secret(24) && kept.of("look").is_some() && kept.of("see").is_none());
        assert!(again().parted(Secrets::default()).is_err());
        let renamed = workflow(json!([{"name": "see", "http": {"url": "https://b.example/"}}]));
        assert!(renamed.parted(kept).is_err());
    }
}
