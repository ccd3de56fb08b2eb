//! `taskey.task.v1.WebhookService`.

use std::sync::Arc;

use service_kit::{
    auth::{interceptor::Caller, scope::Scope},
    ops::config::OnOff,
    page, random,
    rate_limit::RateLimit,
    status::ApiError,
};
use taskey_proto::task::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, GetWebhookRequest, ListWebhookAttemptsRequest,
    ListWebhookAttemptsResponse, ListWebhooksRequest, ListWebhooksResponse, RedeliverWebhookRequest,
    RotateWebhookSecretRequest, TestWebhookRequest, UpdateWebhookRequest, WatchTasksResponse, Webhook, WebhookAttempt,
    webhook_service_server::WebhookService,
};
use tonic::{Request, Response, Status};
use url::Url;
use uuid::Uuid;

use super::{App, Writer};
use crate::{
    error::{
        validation_failed, webhook_redeliveries_rate_limited, webhook_sync_token_invalid, webhook_tests_rate_limited,
    },
    model::{
        Target,
        sync::SyncPoint,
        webhook::{ATTEMPT_RETENTION, WebhookRow, secret::Secret},
    },
    request, response,
    store::{
        webhook_queue,
        webhooks::{self, NewRow, WebhookChange},
    },
    webhooks::{
        message::{self, ChangedFields},
        sender::{Sender, TEST_WINDOW},
    },
};

/// The arguments of the page tokens of `ListWebhooks`.
const ARGUMENTS: &[u8] = b"webhooks";

/// The rate limit of tests per user: each sends a request to a server that the user names.
const TEST_RATE: &str = "10+10/m";

/// The rate limit of redeliveries, and of creations with an earlier position, per user: each may read and send all tasks.
const REDELIVERY_RATE: &str = "10+10/m";

/// The service.
pub(crate) struct Webhooks {
    app: Arc<App>,
    sender: Arc<Sender>,
    tests: RateLimit,
    redeliveries: RateLimit,
}

#[tonic::async_trait]
impl WebhookService for Webhooks {
    async fn create_webhook(&self, request: Request<CreateWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = self.writer(&request)?.owner;
        let App { db, owner_queue, clock, page_tokens, .. } = &*self.app;
        let new = request::webhook::create(request.into_inner())?;
        let since = SyncPoint::open(page_tokens, owner, &new.sync_token).map_err(|_| webhook_sync_token_invalid())?;
        since.map_or(Ok(()), |_| self.check_redelivery(owner))?;
        self.check_url(owner, &new.url).await?;
        let (id, secret) = (clock.new_id(), Secret::new(random::bytes()));
        let sealed_secret = self.sender.secrets().seal(owner, id, &secret)?;
        let (now, url) = (clock.now(), new.url.into());
        let row = NewRow {
            owner_id: owner,
            id,
            now,
            is_paused: new.is_paused,
            since,
            sealed_secret,
            url,
            filter: new.filter,
        };
        let tokens = page_tokens.clone();
        let seal = move |point: SyncPoint| point.seal(&tokens, owner);
        let created = webhooks::create(db, owner_queue, row, page_tokens.epoch().get(), seal).await?;
        self.app.watches.notify(owner);
        Ok(Response::new(Webhook { secret: secret.to_text(), ..self.wake_and_convert(created) }))
    }

    async fn get_webhook(&self, request: Request<GetWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let id = request::target("id", &request.into_inner().id, "")?.id;
        Ok(Response::new(self.message(webhooks::get(&self.app.db, owner, id).await?)))
    }

    async fn list_webhooks(
        &self,
        request: Request<ListWebhooksRequest>,
    ) -> Result<Response<ListWebhooksResponse>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let App { db, page_tokens, .. } = &*self.app;
        let ListWebhooksRequest { page_size, page_token } = request.into_inner();
        let size = request::page_size(page_size)?;
        let after = page_tokens.open_id(owner, ARGUMENTS, &page_token)?;
        let rows = webhooks::list(db, owner, after, size + 1).await.map_err(ApiError::from)?;
        let (rows, next_page_token) = page_tokens.paginate(owner, ARGUMENTS, rows, size, |webhook| webhook.id);
        let webhooks = rows.into_iter().map(|row| self.message(row)).collect();
        Ok(Response::new(ListWebhooksResponse { webhooks, next_page_token }))
    }

    async fn update_webhook(&self, request: Request<UpdateWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = self.writer(&request)?.owner;
        let (metadata, _, request) = request.into_parts();
        let update = request::webhook::update(&metadata, request)?;
        let current = webhooks::get(&self.app.db, owner, update.target.id).await?;
        update.repeated.check(&self.message(current))?;
        if let Some(url) = &update.url {
            self.check_url(owner, url).await?;
        }
        let request::webhook::WebhookUpdate { target, url, filter, is_paused, .. } = update;
        let change = WebhookChange::Update { url: url.map(Into::into), filter, is_paused };
        Ok(Response::new(self.change(owner, target, change).await?))
    }

    async fn delete_webhook(&self, request: Request<DeleteWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = self.app.writer(&request)?.owner;
        let DeleteWebhookRequest { id, etag } = request.into_inner();
        let target = request::target("id", &id, &etag)?;
        let App { db, owner_queue, .. } = &*self.app;
        Ok(Response::new(self.message(webhooks::delete(db, owner_queue, owner, target).await?)))
    }

    async fn test_webhook(&self, request: Request<TestWebhookRequest>) -> Result<Response<WebhookAttempt>, Status> {
        let owner = self.writer(&request)?.owner;
        let App { db, rate_limits, .. } = &*self.app;
        let id = request::target("id", &request.into_inner().id, "")?.id;
        if *rate_limits == OnOff::On {
            self.tests.check(&owner).map_err(webhook_tests_rate_limited)?;
        }
        let webhook = webhooks::get(db, owner, id).await?;
        let sync_token = webhook.sync_token.clone();
        let content = WatchTasksResponse { sync_token, checkpoint: true, ..WatchTasksResponse::default() };
        let body = message::to_json(&content, &ChangedFields::new(), false)?;
        let message_id = format!("msg_{}", random::id().simple());
        let attempt = self.sender.send(&webhook, message_id, body, TEST_WINDOW).await?;
        webhook_queue::add_attempt(db, owner, id, attempt.clone()).await.map_err(ApiError::from)?;
        Ok(Response::new(response::webhook_attempt(attempt)))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<RotateWebhookSecretRequest>,
    ) -> Result<Response<Webhook>, Status> {
        let owner = self.writer(&request)?.owner;
        let target = request::target("id", &request.into_inner().id, "")?;
        let secret = Secret::new(random::bytes());
        let sealed_secret = self.sender.secrets().seal(owner, target.id, &secret)?;
        let webhook = self.change(owner, target, WebhookChange::Rotate { sealed_secret }).await?;
        Ok(Response::new(Webhook { secret: secret.to_text(), ..webhook }))
    }

    async fn redeliver_webhook(&self, request: Request<RedeliverWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = self.writer(&request)?.owner;
        let RedeliverWebhookRequest { id, sync_token } = request.into_inner();
        let target = request::target("id", &id, "")?;
        let since = SyncPoint::open(&self.app.page_tokens, owner, &sync_token)?;
        self.check_redelivery(owner)?;
        let position = since.map(|point| point.change).unwrap_or_default();
        let webhook = self.change(owner, target, WebhookChange::Redeliver { position, sync_token }).await?;
        Ok(Response::new(webhook))
    }

    async fn list_webhook_attempts(
        &self,
        request: Request<ListWebhookAttemptsRequest>,
    ) -> Result<Response<ListWebhookAttemptsResponse>, Status> {
        let owner = Caller::from_request(&request)?.user_id();
        let App { db, page_tokens, clock, .. } = &*self.app;
        let ListWebhookAttemptsRequest { webhook_id, page_size, page_token } = request.into_inner();
        let size = request::page_size(page_size)?;
        let id = request::target("webhook_id", &webhook_id, "")?.id;
        let arguments = [b"webhook attempts", &id.as_bytes()[..]].concat();
        let after = page_tokens.open(owner, &arguments, &page_token)?.map(|cursor| number(&cursor)).transpose()?;
        webhooks::get(db, owner, id).await?;
        let since = clock.now() - ATTEMPT_RETENTION;
        let rows = webhooks::list_attempts(db, owner, id, since, after, size + 1).await.map_err(ApiError::from)?;
        let last = (rows.len() > size).then(|| rows[size - 1].number);
        let next_page_token = last.map(|last| page_tokens.seal(owner, &arguments, &last.to_be_bytes()));
        let attempts = rows.into_iter().take(size).map(|row| response::webhook_attempt(row.attempt)).collect();
        Ok(Response::new(ListWebhookAttemptsResponse {
            attempts,
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }
}

/// Decodes the cursor of a page of attempts.
fn number(cursor: &[u8]) -> Result<i64, ApiError> {
    cursor.try_into().map(i64::from_be_bytes).map_err(|_| page::invalid())
}

impl Webhooks {
    pub(crate) fn new(app: Arc<App>, sender: Arc<Sender>) -> Self {
        let limit = |rate: &str| RateLimit::new(rate.parse().expect("a rate"), app.clock.clone());
        let (tests, redeliveries) = (limit(TEST_RATE), limit(REDELIVERY_RATE));
        Self { app, sender, tests, redeliveries }
    }

    /// Returns the caller who writes. The token must also permit to read tasks, because a webhook sends them.
    ///
    /// # Errors
    /// SCOPE_MISSING, and those of [`App::writer`].
    fn writer<T>(&self, request: &Request<T>) -> Result<Writer, ApiError> {
        Caller::from_request(request)?.require_scope(Scope::TasksRead)?;
        self.app.writer(request)
    }

    fn message(&self, row: WebhookRow) -> Webhook {
        response::webhook(row, self.app.page_tokens.epoch().get())
    }

    /// Checks that an owner has not moved the positions of webhooks too often.
    fn check_redelivery(&self, owner: Uuid) -> Result<(), ApiError> {
        let is_limited = self.app.rate_limits == OnOff::On;
        let checked = if is_limited { self.redeliveries.check(&owner) } else { Ok(()) };
        checked.map_err(webhook_redeliveries_rate_limited)
    }

    /// Checks that messages of an owner may be sent to a URL.
    async fn check_url(&self, owner: Uuid, url: &Url) -> Result<(), ApiError> {
        self.sender.check_url(owner, url).await.map_err(|error| validation_failed("webhook.url", &error.to_string()))
    }

    async fn change(&self, owner: Uuid, target: Target, change: WebhookChange) -> Result<Webhook, ApiError> {
        let App { db, owner_queue, clock, .. } = &*self.app;
        let changed = webhooks::change(db, owner_queue, owner, clock.now(), target, change).await?;
        Ok(self.wake_and_convert(changed))
    }

    /// Wakes the dispatcher, because a webhook is due.
    fn wake_and_convert(&self, row: WebhookRow) -> Webhook {
        let owners = self.app.watches.webhook_owners();
        owners.remember(row.owner_id);
        owners.notify(row.owner_id);
        self.message(row)
    }
}
