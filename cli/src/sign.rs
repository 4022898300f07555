//! `calotype sign PATH`: a signed delivery URL, without a server.
//!
//! Must not print a secret. None is taken from the command line, where other users of the machine would see it.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tenancy::{PolicyFile, Secret, Tenant};
use transform_url::TenantSlug;
use transform_url::native::{self, Request};
use transform_url::signing::{KeyName, Message, SECRET_BYTES, check_wire_form};

use crate::credentials::Credentials;

/// Holds `kid:secret`.
pub const KEY_VARIABLE: &str = "CALOTYPE_SIGNING_KEY";

/// The latest expiry that URLs can carry: 12 digits.
const EXPIRES_MAX: u64 = 999_999_999_999;

/// Arguments of `calotype sign`.
#[derive(Args)]
#[command(
    after_help = "The key comes from the policy file, or from CALOTYPE_SIGNING_KEY=kid:secret in the environment, \
    or from credentials.json in the state folder, where `calotype up` keeps it."
)]
pub struct SignArguments {
    /// What to sign: /w=400/@local/a.jpg, or with its tenant /demo/w=400/@local/a.jpg.
    path: String,
    /// Takes the key from this policy file.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The tenant, where neither PATH nor the policy file leaves only one.
    #[arg(long)]
    tenant: Option<String>,
    /// The tenant's unchanging id at the control plane, for a key out of the environment; without it the name is the id.
    #[arg(long, env = "CALOTYPE_TENANT_ID", value_name = "ID")]
    tenant_id: Option<String>,
    /// The key's name, where the tenant has several.
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// Seconds from now until the URL is refused.
    #[arg(long, value_name = "SECONDS", conflicts_with = "expires_at")]
    expires_in: Option<u64>,
    /// Unix seconds from which on the URL is refused.
    #[arg(long, value_name = "UNIX")]
    expires_at: Option<u64>,
    /// Leaves the tenant out, for a host of its own; the signature is the same.
    #[arg(long)]
    host_form: bool,
    /// Put before the path, such as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", default_value = "")]
    base: String,
    /// Where state is kept.
    #[arg(long, env = "CALOTYPE_DATA", default_value = ".data")]
    data: PathBuf,
}

/// A key, and whose it is.
#[derive(Clone)]
pub struct Signer {
    /// The tenant's name.
    pub tenant: TenantSlug,
    /// Its unchanging id, which outside of a control plane is its name.
    pub tenant_id: String,
    /// The key's name.
    pub key: KeyName,
    /// Its secret.
    pub secret: Secret,
}

/// Runs the command.
pub fn run(arguments: &SignArguments) -> anyhow::Result<()> {
    let named = arguments.tenant.as_deref().map(slug).transpose()?;
    let (tenant, request) = read_path(&arguments.path, named)?;
    let signer = signer(arguments, tenant)?;
    let expires = expires(arguments)?;
    let path = signer.sign(request.signed_path, expires);
    let base = arguments.base.trim_end_matches('/');
    match arguments.host_form {
        true => println!("{base}{path}"),
        false => println!("{base}/{}{path}", signer.tenant),
    }
    Ok(())
}

impl Signer {
    /// The path after the tenant part, with the query that signs it.
    pub fn sign(&self, path: &str, expires: Option<u64>) -> String {
        let message = Message { tenant_id: &self.tenant_id, path, expires, key: self.key.as_str() };
        format!("{path}?{}", message.query(self.secret.expose().as_bytes()))
    }

    /// The key that `calotype up` keeps.
    pub fn of_credentials(credentials: Credentials) -> anyhow::Result<Self> {
        let tenant = credentials.tenant()?;
        let signer = Self::checked(tenant, &credentials.signing.kid, credentials.signing.secret)?;
        Ok(Self { tenant_id: credentials.tenant_id.unwrap_or(signer.tenant_id), ..signer })
    }

    /// A key out of the environment: `kid:secret`, of a tenant with this id; without one its name is the id.
    pub fn of_variable(tenant: TenantSlug, id: Option<&str>, value: &str) -> anyhow::Result<Self> {
        let (key, secret) =
            value.split_once(':').with_context(|| format!("{KEY_VARIABLE} is not of the form kid:secret"))?;
        let signer = Self::checked(tenant, key, secret.to_owned()).context(KEY_VARIABLE)?;
        Ok(Self { tenant_id: id.map_or(signer.tenant_id, str::to_owned), ..signer })
    }

    fn checked(tenant: TenantSlug, key: &str, secret: String) -> anyhow::Result<Self> {
        let key = KeyName::new(key).with_context(|| format!("the name of a key is {}", KeyName::ALLOWED))?;
        let (min, max) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        ensure!(
            SECRET_BYTES.contains(&secret.len()),
            "the secret of key {key} has {} bytes, allowed are {min} to {max}",
            secret.len()
        );
        Ok(Self { tenant_id: tenant.to_string(), tenant, key, secret: Secret::new(secret) })
    }
}

/// Reads PATH in either form. The first segment tells: ops have a "=" or are "-", and no tenant's name has or is one.
fn read_path(path: &str, named: Option<TenantSlug>) -> anyhow::Result<(Option<TenantSlug>, Request<'_>)> {
    let first = path.strip_prefix('/').unwrap_or(path).split('/').next().unwrap_or_default();
    let has_tenant = first != "-" && !first.contains('=');
    // What the parser reads does not depend on whose host it is.
    let host = slug("host")?;
    let request = native::parse(path.as_bytes(), (!has_tenant).then_some(&host)).with_context(|| path.to_owned())?;
    ensure!(request.signature.is_empty(), "{path}: exp, kid and sig are for this command to add");
    check_wire_form(request.signed_path).with_context(|| path.to_owned())?;
    let tenant = match (has_tenant, named) {
        (true, Some(named)) if named != request.tenant => {
            bail!("the path is of tenant {}, but --tenant is {named}", request.tenant)
        }
        (true, _) => Some(request.tenant.clone()),
        (false, named) => named,
    };
    Ok((tenant, request))
}

fn slug(text: &str) -> anyhow::Result<TenantSlug> {
    TenantSlug::new(text).with_context(|| format!("{text:?} is not a tenant's name"))
}

fn signer(arguments: &SignArguments, tenant: Option<TenantSlug>) -> anyhow::Result<Signer> {
    if let Some(file) = &arguments.policy {
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let tenants = PolicyFile::load(&text).with_context(|| file.display().to_string())?;
        return of_policy(&tenants, tenant, arguments.key.as_deref()).with_context(|| file.display().to_string());
    }
    let signer = match std::env::var(KEY_VARIABLE) {
        Ok(value) => {
            let tenant = tenant.clone().context("whose URL is it? write it into the path or give --tenant")?;
            Signer::of_variable(tenant, arguments.tenant_id.as_deref(), &value)?
        }
        Err(std::env::VarError::NotUnicode(_)) => bail!("{KEY_VARIABLE} is not UTF-8"),
        Err(std::env::VarError::NotPresent) => {
            let path = Credentials::path(&arguments.data);
            let credentials = Credentials::read(&arguments.data)?.with_context(|| {
                format!("there is no key: give --policy, or set {KEY_VARIABLE}; {} does not exist", path.display())
            })?;
            Signer::of_credentials(credentials).with_context(|| path.display().to_string())?
        }
    };
    match (tenant, arguments.key.as_deref()) {
        (Some(tenant), _) if tenant != signer.tenant => {
            bail!("the key is of tenant {}, not of {tenant}", signer.tenant)
        }
        (_, Some(key)) if key != signer.key.as_str() => bail!("the key there is {}, not {key}", signer.key),
        _ => Ok(signer),
    }
}

fn of_policy(tenants: &[Tenant], tenant: Option<TenantSlug>, key: Option<&str>) -> anyhow::Result<Signer> {
    let tenant: &Tenant = match &tenant {
        Some(slug) => {
            tenants.iter().find(|tenant| tenant.slug == *slug).with_context(|| format!("there is no tenant {slug}"))?
        }
        None => {
            let mut tenants = tenants.iter();
            let (Some(tenant), None) = (tenants.next(), tenants.next()) else {
                bail!("there are several tenants or none: write one into the path or give --tenant")
            };
            tenant
        }
    };
    let keys = &tenant.signing.keys;
    let found = match key {
        Some(name) => keys.get_key_value(name),
        None if keys.len() == 1 => keys.first_key_value(),
        None => None,
    };
    let (key, secret) = found.with_context(|| {
        let names: Vec<&str> = keys.keys().map(KeyName::as_str).collect();
        match names.as_slice() {
            [] => format!("tenant {} has no keys", tenant.slug),
            names => format!("choose one of the keys of tenant {} with --key: {}", tenant.slug, names.join(", ")),
        }
    })?;
    let tenant_id = tenant.id.to_string();
    Ok(Signer { tenant_id, tenant: tenant.slug.clone(), key: key.clone(), secret: secret.clone() })
}

fn expires(arguments: &SignArguments) -> anyhow::Result<Option<u64>> {
    expiry(arguments.expires_in, arguments.expires_at)
}

/// Unix seconds, of what was given.
///
/// # Errors
/// When URLs cannot carry it.
pub fn expiry(seconds: Option<u64>, at: Option<u64>) -> anyhow::Result<Option<u64>> {
    let expires = match (seconds, at) {
        (None, at) => at,
        (Some(seconds), _) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
            Some(now.saturating_add(seconds))
        }
    };
    ensure!(expires.is_none_or(|expires| expires <= EXPIRES_MAX), "the expiry is later than {EXPIRES_MAX}");
    Ok(expires)
}
