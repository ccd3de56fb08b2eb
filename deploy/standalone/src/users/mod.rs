//! The command `users`: the administration of accounts, by calls of `AdminService` with the stored tokens of an
//! administrator (`taskey token login`). It does not open the database, so it works from any machine.
//!
//! # Layout
//! - `args`: the options. `admin`: the calls. `output`: prints accounts and sessions.

use std::io::{self, Write};

use service_kit::clock::Clock;
use taskey_proto::auth::v1::{
    DisableUserRequest, EnableUserRequest, ListUserSessionsRequest, ListUsersRequest, RevokeUserSessionsRequest,
    UnlockUserRequest,
};

mod admin;
mod args;
mod output;

use admin::Admin;
pub use args::UsersCommand;
use args::{ListArgs, SessionsArgs};

/// The number of accounts in a response.
const PAGE_SIZE: i32 = 100;

/// Runs a command.
///
/// # Errors
/// If the command fails; the message is for the user.
pub async fn run(command: UsersCommand, clock: &Clock) -> anyhow::Result<()> {
    match command {
        UsersCommand::List(arguments) => list(arguments, clock).await,
        UsersCommand::Sessions(arguments) => sessions(arguments, clock).await,
        UsersCommand::Disable(arguments) => {
            let (admin, user_id) = Admin::for_account(&arguments, clock).await?;
            let request = DisableUserRequest { user_id };
            let user = admin.call(request, async |mut client, request| client.disable_user(request).await).await?;
            print(&output::user(&user, arguments.common.json))
        }
        UsersCommand::Enable(arguments) => {
            let (admin, user_id) = Admin::for_account(&arguments, clock).await?;
            let request = EnableUserRequest { user_id };
            let user = admin.call(request, async |mut client, request| client.enable_user(request).await).await?;
            print(&output::user(&user, arguments.common.json))
        }
        UsersCommand::Unlock(arguments) => {
            let (admin, user_id) = Admin::for_account(&arguments, clock).await?;
            let request = UnlockUserRequest { user_id };
            let user = admin.call(request, async |mut client, request| client.unlock_user(request).await).await?;
            print(&output::user(&user, arguments.common.json))
        }
    }
}

/// Prints page after page, so that memory does not grow with the number of accounts.
async fn list(ListArgs { filter, common }: ListArgs, clock: &Clock) -> anyhow::Result<()> {
    let admin = Admin::open(&common.installation, clock).await?;
    let mut request = ListUsersRequest { page_size: PAGE_SIZE, filter, page_token: String::new() };
    loop {
        let page = request.clone();
        let page = admin.call(page, async |mut client, request| client.list_users(request).await).await?;
        page.users.iter().try_for_each(|user| print(&output::user(user, common.json)))?;
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

async fn sessions(SessionsArgs { revoke, account }: SessionsArgs, clock: &Clock) -> anyhow::Result<()> {
    let (admin, user_id) = Admin::for_account(&account, clock).await?;
    let json = account.common.json;
    if revoke {
        let request = RevokeUserSessionsRequest { user_id };
        let revoked = async |mut client: admin::Client, request| client.revoke_user_sessions(request).await;
        let revoked = admin.call(request, revoked).await?;
        return print(&output::revoked(revoked.revoked_count, json));
    }
    let request = ListUserSessionsRequest { user_id };
    let listed = admin.call(request, async |mut client, request| client.list_user_sessions(request).await).await?;
    listed.sessions.iter().try_for_each(|session| print(&output::session(session, json)))
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
