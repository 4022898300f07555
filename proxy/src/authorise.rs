//! Whether a URL may be answered at all: its signature, or what goes without one.
//!
//! A pure function of the tenant's policy and the URL. Must not look at a clock: an expiry is handed back, and
//! [`check_expiry`] is asked at each request. Must not look at origins: nobody learns about them without a right to.

use tenancy::{Signing, Tenant, Unsigned};
use transform_url::Ops;
use transform_url::native::{Delivery, Request, SignatureQuery};
use transform_url::signing::Message;
use transform_url::value::{Decimal, Format};

use crate::problem::EdgeError;

/// Densities that unsigned URLs may ask of a preset. Any other number between them would be another rendition to make.
const PRESET_DENSITIES: [Decimal; 7] = [
    Decimal::from_ten_thousandths(10_000),
    Decimal::from_ten_thousandths(15_000),
    Decimal::from_ten_thousandths(20_000),
    Decimal::from_ten_thousandths(25_000),
    Decimal::from_ten_thousandths(30_000),
    Decimal::from_ten_thousandths(35_000),
    Decimal::from_ten_thousandths(40_000),
];

/// How many presets, and how many widths, a refusal names.
const NAMED_MAX: usize = 20;

/// Refuses what the tenant's policy does not allow to this URL. Returns the expiry of a signed URL, in Unix seconds;
/// whether it has passed is still to be checked.
///
/// # Errors
/// Why it is refused, the signature before everything else.
pub fn authorise(tenant: &Tenant, request: &Request<'_>) -> Result<Option<u64>, EdgeError> {
    match request.signature {
        SignatureQuery { expires, key: Some(key), signature: Some(signature) } => {
            let message = Message { tenant_id: tenant.id.as_str(), path: request.signed_path, expires, key };
            check_signature(&tenant.signing, &message, signature)?;
            Ok(expires)
        }
        SignatureQuery { expires: None, key: None, signature: None } => check_unsigned(tenant, request).map(|()| None),
        _ => Err(EdgeError::SignatureIncomplete),
    }
}

/// Refuses a URL from its expiry on; both in Unix seconds.
///
/// # Errors
/// [`EdgeError::SignatureExpired`].
pub fn check_expiry(expires: Option<u64>, now: u64) -> Result<(), EdgeError> {
    match expires {
        Some(expires) if now >= expires => Err(EdgeError::SignatureExpired),
        _ => Ok(()),
    }
}

fn check_signature(signing: &Signing, message: &Message<'_>, signature: &str) -> Result<(), EdgeError> {
    let secret = signing.keys.get(message.key).ok_or_else(|| EdgeError::UnknownKey(message.key.to_owned()))?;
    if !message.is_signed_by(secret.expose().as_bytes(), signature) {
        return Err(EdgeError::SignatureMismatch);
    }
    if signing.expiry_required && message.expires.is_none() {
        return Err(EdgeError::ExpiryRequired);
    }
    Ok(())
}

fn check_unsigned(tenant: &Tenant, request: &Request<'_>) -> Result<(), EdgeError> {
    let signing = &tenant.signing;
    if signing.required {
        return Err(EdgeError::SignatureRequired { without: without(&Unsigned::default()) });
    }
    match &request.delivery {
        Delivery::Original if tenant.originals => Ok(()),
        Delivery::Original => Err(EdgeError::OriginalsOff),
        Delivery::Transform(_) if tenant.open => Ok(()),
        Delivery::Transform(ops) => check_ops(tenant, ops),
    }
}

/// What goes unsigned is a bounded number of renditions an original, or anyone could fill the cache.
fn check_ops(tenant: &Tenant, ops: &Ops) -> Result<(), EdgeError> {
    let unsigned = &tenant.signing.unsigned;
    let preset = ops.preset.as_ref().and_then(|name| tenant.presets.get(name));
    if unsigned.is_empty() {
        return Err(EdgeError::SignatureRequired { without: without(unsigned) });
    }
    for op in ops.names() {
        let is_allowed = match op {
            "preset" => ops.preset.as_ref().is_some_and(|name| unsigned.presets.contains(name)),
            "width" => device_width(ops, preset).is_some_and(|width| unsigned.widths.contains(&width)),
            // Without a preset there is nothing to multiply but the width, which is looked at above.
            "dpr" => ops.preset.is_none() || ops.dpr.is_some_and(|dpr| PRESET_DENSITIES.contains(&dpr.get())),
            "format" => ops.format == Some(Format::Auto),
            _ => false,
        };
        if !is_allowed {
            return Err(EdgeError::UnsignedNotAllowed { op, without: without(unsigned) });
        }
    }
    if ops.preset.is_none() && ops.width.is_none() {
        return Err(EdgeError::SignatureRequired { without: without(unsigned) });
    }
    Ok(())
}

/// The width with `dpr` multiplied in, the preset's if the URL has none; `None` beyond the largest.
fn device_width(ops: &Ops, preset: Option<&Ops>) -> Option<u32> {
    let width = ops.width?;
    let dpr = ops.dpr.or(preset.and_then(|preset| preset.dpr));
    let width = dpr.map_or(Ok(width), |dpr| width.scaled(dpr.get())).ok()?;
    Some(width.get())
}

/// What is served without a signature, in words.
fn without(unsigned: &Unsigned) -> String {
    let mut kinds = Vec::new();
    if !unsigned.presets.is_empty() {
        kinds.push(format!("preset={}", list(unsigned.presets.iter())));
    }
    if !unsigned.widths.is_empty() {
        kinds.push(format!("width={} (times dpr)", list(unsigned.widths.iter())));
    }
    match kinds.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{}, with dpr and format=auto", kinds.join(" and ")),
    }
}

fn list<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = if items.len() > NAMED_MAX { "|…" } else { "" };
    let named: Vec<String> = items.take(NAMED_MAX).map(|item| item.to_string()).collect();
    named.join("|") + more
}
