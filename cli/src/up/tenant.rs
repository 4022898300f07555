//! The demo's tenant at the control plane: made once, with its keys.
//!
//! Must not print a key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::{Answer, Server};
use crate::credentials::Credentials;
use crate::private_file;

/// How long the control plane may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The public id of the demo's logo.
const LOGO: &str = "logo.png";

/// Is there until the tenant is whole: its key is shown once, and who is killed meanwhile has not noted it.
const MAKING: &str = "making-tenant";

#[derive(Deserialize)]
struct FoundTenant {
    id: String,
}

#[derive(Deserialize)]
struct MadeTenant {
    #[serde(flatten)]
    tenant: FoundTenant,
    api_key: MadeKey,
}

#[derive(Deserialize)]
struct MadeKey {
    key: String,
}

/// A control plane, and who asks it.
pub struct Tenants<'a> {
    /// Where it is.
    pub server: Server,
    /// The state folder.
    pub data: &'a Path,
    /// Whether nobody but `calotype up` uses its database.
    pub is_private: bool,
}

impl Tenants<'_> {
    /// Makes the tenant and its keys, unless they are there, and notes them.
    pub async fn make(&self, credentials: &mut Credentials) -> anyhow::Result<()> {
        let admin = credentials.admin_key.clone().context("there is no admin key")?;
        let path = format!("/v1/tenants/{}", credentials.tenant);
        let found = self.ask(Method::GET, &path, &admin, None).await?;
        match found.status {
            StatusCode::NOT_FOUND => self.create(&admin, credentials).await?,
            StatusCode::OK if credentials.api_key.is_some() => {
                let id = found.json::<FoundTenant>()?.id;
                if credentials.tenant_id.as_ref() != Some(&id) {
                    credentials.tenant_id = Some(id);
                    credentials.write(self.data)?;
                }
            }
            StatusCode::OK if self.is_private && self.making().exists() => {
                self.delete(&path, &admin).await?;
                self.create(&admin, credentials).await?;
            }
            StatusCode::OK => bail!("{}", self.lost(credentials)),
            _ => bail!("the tenant {} cannot be asked for: {}", credentials.tenant, found.refusal()),
        }
        self.add_signing_key(credentials).await?;
        if self.making().exists() {
            self.open(credentials).await?;
            std::fs::remove_file(self.making()).context(MAKING)?;
        }
        Ok(())
    }

    async fn create(&self, admin: &str, credentials: &mut Credentials) -> anyhow::Result<()> {
        private_file::write(&self.making(), "")?;
        let body = json!({ "slug": credentials.tenant, "name": "Demo" });
        let made = self.ask(Method::POST, "/v1/tenants", admin, Some(&body)).await?;
        ensure!(made.status == StatusCode::CREATED, "the tenant cannot be made: {}", made.refusal());
        let made: MadeTenant = made.json()?;
        (credentials.tenant_id, credentials.api_key) = (Some(made.tenant.id), Some(made.api_key.key));
        credentials.write(self.data)
    }

    /// Lets everybody try everything. Once only: what it is changed to later stays.
    async fn open(&self, credentials: &Credentials) -> anyhow::Result<()> {
        let key = credentials.api_key.as_deref().unwrap_or_default();
        let body = json!({ "open": true, "originals": true });
        let set = self.ask(Method::PUT, "/v1/policy", key, Some(&body)).await?;
        ensure!(set.status.is_success(), "the policy cannot be set: {}", set.refusal());
        self.register_logo(key).await
    }

    /// Gives the tenant a logo to lay over pictures, as an upload.
    async fn register_logo(&self, key: &str) -> anyhow::Result<()> {
        let (boundary, logo) = ("the-logo-of-the-demo", devstack::samples::logo()?);
        let part = |name: &str| format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
        let head = format!("{}\r\n\r\n{LOGO}\r\n{}; filename=\"{LOGO}\"\r\n\r\n", part("public_id"), part("file"));
        let end = format!("\r\n--{boundary}--\r\n");
        let form = [head.as_bytes(), &logo, end.as_bytes()];
        let kind = format!("multipart/form-data; boundary={boundary}");
        let sent = self.send(Method::POST, "/v1/media", key, Some((&kind, form.concat().into()))).await?;
        // It is there already when `up` was stopped right after.
        let is_there = sent.status.is_success() || sent.status == StatusCode::CONFLICT;
        ensure!(is_there, "the logo cannot be uploaded: {}", sent.refusal());
        let overlay = json!({ "source": LOGO });
        let set = self.ask(Method::PUT, "/v1/overlays/logo", key, Some(&overlay)).await?;
        ensure!(set.status.is_success(), "the logo cannot be registered: {}", set.refusal());
        Ok(())
    }

    /// A tenant that nobody has ever had a key of has nothing that could be lost.
    async fn delete(&self, path: &str, admin: &str) -> anyhow::Result<()> {
        for (method, body) in [(Method::PATCH, Some(json!({ "state": "suspended" }))), (Method::DELETE, None)] {
            let done = self.ask(method, path, admin, body.as_ref()).await?;
            ensure!(done.status.is_success(), "the tenant cannot be made anew: {}", done.refusal());
        }
        Ok(())
    }

    /// Gives the tenant the key that signs its URLs; this also tells whether its own key is good.
    async fn add_signing_key(&self, credentials: &Credentials) -> anyhow::Result<()> {
        let key = credentials.api_key.as_deref().unwrap_or_default();
        let body = json!({ "kid": credentials.signing.kid, "secret": credentials.signing.secret });
        let added = self.ask(Method::POST, "/v1/signing-keys", key, Some(&body)).await?;
        match added.status {
            StatusCode::CREATED | StatusCode::CONFLICT => Ok(()),
            StatusCode::UNAUTHORIZED => bail!("{}", self.lost(credentials)),
            _ => bail!("the signing key cannot be kept: {}", added.refusal()),
        }
    }

    fn lost(&self, credentials: &Credentials) -> String {
        let (tenant, path) = (&credentials.tenant, Credentials::path(self.data));
        let path = path.display();
        let anew = match self.is_private {
            true => format!("remove {} to begin with nothing", self.data.join("postgres").display()),
            false => format!("delete the tenant by the API, or write a key of it into {path} as api_key"),
        };
        format!("the tenant {tenant} is in the database, but {path} has no key of it: restore the file, or {anew}")
    }

    fn making(&self) -> PathBuf {
        self.data.join(MAKING)
    }

    async fn ask(&self, method: Method, path: &str, key: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        self.send(method, path, key, body.map(|body| ("application/json", body.to_string().into()))).await
    }

    async fn send(&self, method: Method, path: &str, key: &str, body: Option<(&str, Bytes)>) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.server.target(path))
            .header(AUTHORIZATION, format!("Bearer {key}"));
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
        let request = request.body(Full::new(body)).context("the key cannot be sent")?;
        let answer = timeout(ANSWER_LIMIT, self.server.send(request)).await;
        answer.unwrap_or_else(|_| bail!("no answer within {ANSWER_LIMIT:?}")).context("the control plane")
    }
}
