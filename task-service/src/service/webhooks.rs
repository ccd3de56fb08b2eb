//! `taskey.task.v1.WebhookService`.

use std::sync::Arc;

use service_kit::{
    auth::{interceptor::Caller, scope::Scope},
    epoch::Epoch,
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

use super::{App, Writer, respond};
use crate::{
    error::{
        validation_failed, webhook_redeliveries_rate_limited, webhook_sync_token_invalid, webhook_tests_rate_limited,
    },
    model::{
        Target,
        sync::SyncPoint,
        webhook::{ATTEMPT_RETENTION, WebhookRow, secret::Secret},
    },
    request::{self, options::WriteOptions},
    response,
    store::{
        transaction::{Outcome, is_repeated},
        webhook_attempts,
        webhook_writes::{self, NewRow, WebhookChange, WebhookWrite},
        webhooks,
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
        let request = request.into_inner();
        let options = WriteOptions::parse("CreateWebhook", &request, &request.request_id, false)?;
        let write = self.write(owner, options, response::encoded_webhook_with_secret);
        let new = request::webhook::create(request)?;
        let since = SyncPoint::open(page_tokens, owner, &new.sync_token).map_err(|_| webhook_sync_token_invalid())?;
        since.map_or(Ok(()), |_| self.check_redelivery(owner))?;
        self.check_url(&write, &new.url).await?;
        let id = clock.new_id();
        let sealed_secret = self.sender.secrets().seal(owner, id, &Secret::new(random::bytes()))?;
        let request::webhook::NewWebhook { url, filter, is_paused, .. } = new;
        let row = NewRow { id, is_paused, since, sealed_secret, url: url.into(), filter };
        let tokens = page_tokens.clone();
        let seal = move |point: SyncPoint| point.seal(&tokens, owner);
        let outcome = webhook_writes::create(db, owner_queue, write, row, seal).await?;
        self.app.watches.notify(owner);
        self.respond_with_secret(owner, outcome)
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
        let options = WriteOptions::parse("UpdateWebhook", &request, &request.request_id, false)?;
        let write = self.write(owner, options, response::encoded_webhook);
        let update = request::webhook::update(&metadata, request)?;
        if let Some(url) = &update.url {
            self.check_url(&write, url).await?;
        }
        let request::webhook::WebhookUpdate { target, url, filter, is_paused, repeated } = update;
        let change = WebhookChange::Update { url: url.map(Into::into), filter, is_paused, repeated };
        let outcome = self.change(write, target, change).await?;
        self.respond(owner, outcome)
    }

    async fn delete_webhook(&self, request: Request<DeleteWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = self.app.writer(&request)?.owner;
        let request = request.into_inner();
        let options = WriteOptions::parse("DeleteWebhook", &request, &request.request_id, false)?;
        let target = request::target("id", &request.id, &request.etag)?;
        let write = self.write(owner, options, response::encoded_webhook);
        let App { db, owner_queue, .. } = &*self.app;
        let outcome = webhook_writes::delete(db, owner_queue, write, target).await?;
        self.respond(owner, outcome)
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
        webhook_attempts::insert(db, owner, id, attempt.clone()).await.map_err(ApiError::from)?;
        Ok(Response::new(response::webhook_attempt(attempt)))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<RotateWebhookSecretRequest>,
    ) -> Result<Response<Webhook>, Status> {
        let owner = self.writer(&request)?.owner;
        let request = request.into_inner();
        let options = WriteOptions::parse("RotateWebhookSecret", &request, &request.request_id, false)?;
        let target = request::target("id", &request.id, &request.etag)?;
        let sealed_secret = self.sender.secrets().seal(owner, target.id, &Secret::new(random::bytes()))?;
        let write = self.write(owner, options, response::encoded_webhook_with_secret);
        let outcome = self.change(write, target, WebhookChange::Rotate { sealed_secret }).await?;
        self.respond_with_secret(owner, outcome)
    }

    async fn redeliver_webhook(&self, request: Request<RedeliverWebhookRequest>) -> Result<Response<Webhook>, Status> {
        let owner = self.writer(&request)?.owner;
        let request = request.into_inner();
        let options = WriteOptions::parse("RedeliverWebhook", &request, &request.request_id, false)?;
        let target = request::target("id", &request.id, &request.etag)?;
        let sync_token = request.sync_token;
        let since = SyncPoint::open(&self.app.page_tokens, owner, &sync_token)?;
        self.check_redelivery(owner)?;
        let position = since.map(|point| point.change).unwrap_or_default();
        let write = self.write(owner, options, response::encoded_webhook);
        let outcome = self.change(write, target, WebhookChange::Redeliver { position, sync_token }).await?;
        self.respond(owner, outcome)
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

    /// Checks that messages of an owner may be sent to a URL, unless the request was executed before.
    async fn check_url(&self, write: &WebhookWrite, url: &Url) -> Result<(), ApiError> {
        let WebhookWrite { owner, now, options, .. } = write;
        let Err(error) = self.sender.check_url(*owner, url).await else { return Ok(()) };
        if is_repeated(&self.app.db, *owner, *now, options).await? {
            return Ok(());
        }
        Err(validation_failed("webhook.url", &error.to_string()))
    }

    fn write(&self, owner: Uuid, options: WriteOptions, encode: fn(WebhookRow, Epoch) -> Vec<u8>) -> WebhookWrite {
        let App { clock, page_tokens, .. } = &*self.app;
        WebhookWrite { owner, now: clock.now(), options, epoch: page_tokens.epoch().get(), encode }
    }

    async fn change(
        &self,
        write: WebhookWrite,
        target: Target,
        change: WebhookChange,
    ) -> Result<Outcome<WebhookRow>, ApiError> {
        webhook_writes::change(&self.app.db, &self.app.owner_queue, write, target, change).await
    }

    /// Wakes the dispatcher, because a webhook may be due, and returns the response to a write.
    fn respond(&self, owner: Uuid, outcome: Outcome<WebhookRow>) -> Result<Response<Webhook>, Status> {
        let owners = self.app.watches.webhook_owners();
        owners.remember(owner);
        owners.notify(owner);
        respond(match outcome {
            Outcome::Done(row) => Outcome::Done(self.message(row)),
            Outcome::Replayed(bytes) => Outcome::Replayed(bytes),
        })
    }

    /// Like [`respond`](Self::respond), with the secret of the write, which is encrypted in a stored response.
    fn respond_with_secret(&self, owner: Uuid, outcome: Outcome<WebhookRow>) -> Result<Response<Webhook>, Status> {
        let sealed = match &outcome {
            Outcome::Done(row) => Some(row.secrets.current.clone()),
            Outcome::Replayed(_) => None,
        };
        let mut response = self.respond(owner, outcome)?;
        let webhook = response.get_mut();
        let id = webhook.id.parse().map_err(ApiError::internal)?;
        let sealed = sealed.unwrap_or_else(|| std::mem::take(&mut webhook.secret));
        webhook.secret = self.sender.secrets().open(owner, id, &sealed)?.to_text();
        Ok(response)
    }
}
