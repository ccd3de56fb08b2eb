//! Parses webhooks.

use std::sync::LazyLock;

use service_kit::{
    status::{ApiError, Violations},
    update_mask::{ReadOnlyFields, RepeatedFields},
};
use taskey_proto::task::v1::{CreateWebhookRequest, UpdateWebhookRequest, webhook::State};
use tonic::metadata::MetadataMap;
use url::Url;

use super::MISSING;
use crate::{
    error::filter_invalid,
    model::{
        Target,
        field::{self, FieldError},
        filter::Filter,
    },
};

const MAX_URL_CHARS: usize = 2000;

/// The fields that an update can change.
const UPDATABLE: [&str; 3] = ["url", "filter", "state"];

/// A webhook to create.
pub(crate) struct NewWebhook {
    pub(crate) url: Url,
    pub(crate) filter: String,
    pub(crate) is_paused: bool,
    /// Empty to start with the changes after the creation.
    pub(crate) sync_token: String,
}

/// The new values of a webhook. Those that are `None` do not change.
pub(crate) struct WebhookUpdate {
    pub(crate) target: Target,
    pub(crate) url: Option<Url>,
    pub(crate) filter: Option<String>,
    pub(crate) is_paused: Option<bool>,
    /// The fields that must repeat the current values.
    pub(crate) repeated: RepeatedFields,
}

/// Parses a creation.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields, or FILTER_INVALID.
pub(crate) fn create(request: CreateWebhookRequest) -> Result<NewWebhook, ApiError> {
    let mut violations = Violations::default();
    let webhook = violations.check("webhook", request.webhook.ok_or(MISSING));
    let Some(webhook) = webhook else { return violations.finish(None) };
    let url = violations.check("webhook.url", url(&webhook.url));
    let is_paused = violations.check("webhook.state", is_paused(webhook.state, Some(false)));
    let parsed = violations.finish(url.zip(is_paused))?;
    check_filter(&webhook.filter)?;
    let (url, is_paused) = parsed;
    Ok(NewWebhook { url, filter: webhook.filter, is_paused, sync_token: webhook.sync_token })
}

/// Parses an update.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields, or FILTER_INVALID.
pub(crate) fn update(metadata: &MetadataMap, mut request: UpdateWebhookRequest) -> Result<WebhookUpdate, ApiError> {
    static READ_ONLY: LazyLock<ReadOnlyFields> =
        LazyLock::new(|| ReadOnlyFields::of("taskey.task.v1.Webhook", "webhook"));
    let repeated = READ_ONLY.split_off(metadata, request.update_mask.as_mut(), request.webhook.as_ref());
    let mut violations = Violations::default();
    let Some(webhook) = violations.check("webhook", request.webhook.ok_or(MISSING)) else {
        return violations.finish(None);
    };
    let paths = request.update_mask.unwrap_or_default().paths;
    let is_known = |path: &str| path == "*" || UPDATABLE.contains(&path);
    if let Some(path) = paths.iter().find(|path| !is_known(path)) {
        // Truncated, because the path may be long. No field name is longer than this.
        let path: String = path.chars().take(50).collect();
        violations
            .add("update_mask", format!("{path:?} cannot be updated; the mask may contain url, filter, state, or *"));
    }
    let is_in_mask = |name: &str| paths.iter().any(|path| path == name);
    let is_updated = |name: &str, is_set: bool| is_in_mask(name) || is_in_mask("*") || (paths.is_empty() && is_set);
    let id = violations.check("webhook.id", field::id(&webhook.id));
    let url = is_updated("url", !webhook.url.is_empty()).then(|| violations.check("webhook.url", url(&webhook.url)));
    let is_paused = is_updated("state", webhook.state != 0)
        .then(|| violations.check("webhook.state", is_paused(webhook.state, None)))
        .flatten();
    let target = violations.finish(id.map(|id| Target::new(id, &webhook.etag)))?;
    let filter = is_updated("filter", !webhook.filter.is_empty()).then(|| webhook.filter.clone());
    filter.as_deref().map_or(Ok(()), check_filter)?;
    Ok(WebhookUpdate { target, url: url.flatten(), filter, is_paused, repeated })
}

/// Parses the URL of a receiver. Whether its host is permitted is known when it is resolved.
fn url(text: &str) -> Result<Url, FieldError> {
    const TOO_LONG: FieldError = "must not be longer than 2000 characters, with percent-encoding";
    if text.chars().nth(MAX_URL_CHARS).is_some() {
        return Err(TOO_LONG);
    }
    let url = Url::parse(text).map_err(|_| "must be an https URL with a host")?;
    // What is stored, and what an update sends back.
    if url.as_str().len() > MAX_URL_CHARS {
        return Err(TOO_LONG);
    }
    if !["https", "http"].contains(&url.scheme()) || !url.has_host() {
        return Err("must be an https URL with a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or a password");
    }
    if url.fragment().is_some() {
        return Err("must not contain a fragment");
    }
    Ok(url)
}

/// Reports whether a state is that of a paused webhook.
fn is_paused(state: i32, default: Option<bool>) -> Result<bool, FieldError> {
    match State::try_from(state) {
        Ok(State::Active) => Ok(false),
        Ok(State::Paused) => Ok(true),
        Ok(State::Unspecified) => default.ok_or("must be STATE_ACTIVE or STATE_PAUSED"),
        Err(_) => Err("must be STATE_ACTIVE or STATE_PAUSED"),
    }
}

fn check_filter(filter: &str) -> Result<(), ApiError> {
    Filter::parse(filter).map(drop).map_err(|error| filter_invalid("webhook.filter", &error.to_string()))
}
