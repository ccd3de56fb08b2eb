//! Parses webhooks.

use service_kit::status::{ApiError, Violations};
use taskey_proto::task::v1::{CreateWebhookRequest, UpdateWebhookRequest, Webhook, webhook::State};
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

/// The fields that an update cannot change. A PATCH with the whole webhook of a GET has them in its mask.
const READ_ONLY: [&str; 7] = ["id", "sync_token", "failing_since_time", "create_time", "update_time", "etag", "secret"];

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
    /// The creation time and the secret of the request, if the mask has them.
    repeated: Webhook,
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
pub(crate) fn update(request: UpdateWebhookRequest) -> Result<WebhookUpdate, ApiError> {
    let mut violations = Violations::default();
    let Some(webhook) = violations.check("webhook", request.webhook.ok_or(MISSING)) else {
        return violations.finish(None);
    };
    let paths = request.update_mask.unwrap_or_default().paths;
    let is_known = |path: &str| path == "*" || UPDATABLE.contains(&path) || READ_ONLY.contains(&path);
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
    let repeated = Webhook {
        create_time: webhook.create_time.filter(|_| is_in_mask("create_time")),
        secret: if is_in_mask("secret") { webhook.secret } else { String::new() },
        ..Webhook::default()
    };
    Ok(WebhookUpdate { target, url: url.flatten(), filter, is_paused, repeated })
}

impl WebhookUpdate {
    /// Checks that the fields that cannot be updated repeat the current values.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the fields that have other values.
    pub(crate) fn check_repeated(&self, current: &Webhook) -> Result<(), ApiError> {
        let mut violations = Violations::default();
        if self.repeated.create_time.is_some() && self.repeated.create_time != current.create_time {
            violations.add("webhook.create_time", "cannot be changed");
        }
        if !self.repeated.secret.is_empty() {
            violations.add("webhook.secret", "cannot be changed; RotateWebhookSecret replaces it");
        }
        violations.finish(Some(()))
    }
}

/// Parses the URL of a receiver. Whether its host is permitted is known when it is resolved.
fn url(text: &str) -> Result<Url, FieldError> {
    if text.chars().nth(MAX_URL_CHARS).is_some() {
        return Err("must not be longer than 2000 characters");
    }
    let url = Url::parse(text).map_err(|_| "must be an https URL with a host")?;
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
