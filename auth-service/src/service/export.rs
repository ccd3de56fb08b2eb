//! The export of an account, in pages of security events.

use service_kit::{page, status::ApiError};
use taskey_proto::auth::v1::{ExportMeRequest, ExportMeResponse};

use super::request;
use crate::{
    app::App,
    caller::ActiveCaller,
    response,
    store::{
        audit::{self, Selection},
        factors, personal_access_tokens, sessions,
    },
};

/// The arguments to which the page tokens are bound.
const ARGUMENTS: &[u8] = b"export";

/// Returns a page of the export of the caller's account. Without `with_credentials`, it lists neither personal access tokens nor
/// second factors.
///
/// # Errors
/// VALIDATION_FAILED or PAGE_TOKEN_INVALID.
pub async fn page(
    app: &App,
    caller: ActiveCaller,
    with_credentials: bool,
    request: ExportMeRequest,
) -> Result<ExportMeResponse, ApiError> {
    let App { db, clock, page_tokens, .. } = app;
    let ExportMeRequest { page_size, page_token } = request;
    let size = if page_size == 0 { page::MAX_SIZE } else { request::page_size(page_size)? };
    let user_id = caller.user.id;
    let before = page_tokens.open_id(user_id, ARGUMENTS, &page_token)?;
    let selection = Selection { user_id: Some(user_id), kind: None, before };
    let rows = audit::list(db, selection, size + 1).await?;
    let (events, next_page_token) = page_tokens.paginate(user_id, ARGUMENTS, rows, size, |event| event.id);
    let events = events.into_iter().map(Into::into).collect();
    let page = ExportMeResponse { events, next_page_token, ..ExportMeResponse::default() };
    if before.is_some() {
        return Ok(page);
    }
    let sessions = sessions::list_active(db, clock.now(), user_id).await?.into_iter();
    let page = ExportMeResponse {
        sessions: sessions.map(|session| response::session(session, caller.session_id)).collect(),
        user: Some(caller.user.into()),
        ..page
    };
    if !with_credentials {
        return Ok(page);
    }
    let tokens = personal_access_tokens::list(db, clock.now(), user_id).await?.into_iter();
    let factors = factors::list(db, user_id).await?.into_iter();
    Ok(ExportMeResponse {
        personal_access_tokens: tokens.map(Into::into).collect(),
        factors: factors.map(Into::into).collect(),
        ..page
    })
}
