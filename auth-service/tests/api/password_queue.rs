//! One client may have a part of the queue of passwords that wait to be hashed.

use std::{net::Ipv4Addr, time::Duration};

use service_kit::{
    assert_refused, on_each_database,
    testing::{TestDatabase, refusal},
};
use taskey_proto::auth::v1::{
    ChangePasswordRequest, LoginRequest, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::support::{PASSWORD, Server, bearer};

on_each_database! {
    passwords_of_one_client_leave_room_for_the_logins_of_others,
}

/// More calls than the queue has room for.
const CALLS: usize = 80;

/// Pause of each caller after a refused call, so that refused calls do not use all the time of the machine.
const PAUSE: Duration = Duration::from_millis(200);

/// How many logins of others are tried.
const LOGINS: usize = 5;

/// One hash at a time. A hash takes a few milliseconds, so that the queue does not become empty.
const FLAGS: [&str; 6] = ["--password-concurrency", "1", "--password-memory-kib", "4096", "--password-passes", "2"];

/// Connects from the loopback address with this last byte.
fn connect(server: &Server, host: u8) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("a URL");
    endpoint.local_address(Some(Ipv4Addr::new(127, 0, 0, host).into())).connect_lazy()
}

/// Calls ChangePassword, whose current password is compared before the new one is refused, until the call is refused as
/// overload. Returns that error.
async fn change_until_refused(channel: Channel, access_token: String) -> Status {
    loop {
        let (current_password, new_password) = (PASSWORD.to_owned(), "short".to_owned());
        let request = bearer(&access_token, ChangePasswordRequest { current_password, new_password });
        let status = AccountServiceClient::new(channel.clone()).change_password(request).await.expect_err("refused");
        if status.code() == Code::ResourceExhausted {
            return status;
        }
        assert_refused!(Err::<(), _>(status), InvalidArgument, "PASSWORD_REJECTED", "new_password");
    }
}

/// Repeats such calls for ever.
async fn change_forever(channel: Channel, access_token: String) {
    loop {
        change_until_refused(channel.clone(), access_token.clone()).await;
        sleep(PAUSE).await;
    }
}

async fn passwords_of_one_client_leave_room_for_the_logins_of_others(database: TestDatabase) {
    let server = Server::start_with(database, &FLAGS).await;
    server.sign_up("ann@example.com").await.expect("signed up");
    let access_token = server.sign_up_and_login("mallory@example.com").await.access_token;
    let (attacker, other) = (connect(&server, 2), connect(&server, 3));
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        calls.spawn(change_forever(attacker.clone(), access_token.clone()));
    }
    let refused = change_until_refused(attacker, access_token).await;
    assert!(refused.get_error_details().retry_info().is_some(), "{refused:?}");
    assert_eq!(refusal(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned(), vec![]));
    for _ in 0..LOGINS {
        let (email, password) = ("ann@example.com".to_owned(), PASSWORD.to_owned());
        let login = LoginRequest { email, password, ..LoginRequest::default() };
        AuthServiceClient::new(other.clone()).login(login).await.expect("others can log in");
    }
    calls.shutdown().await;
    server.stop().await;
}
