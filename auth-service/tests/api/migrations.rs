//! What earlier versions have stored is kept.

use clap::Parser;
use service_kit::{
    args,
    auth::{claims::AccessClaims, keys::KeySet, token},
    clock::Clock,
    db::{Db, Migrate, PoolArgs},
    on_each_database,
    ops::config::TokenArgs,
    testing::{TestDatabase, assert_unchanged},
};
use sqlx::migrate::Migrator;
use taskey_proto::auth::v1::ListSessionsRequest;
use uuid::Uuid;

use crate::support::{Server, bearer, look_up};

on_each_database! {
    sessions_from_before_accounts_could_be_deleted_are_kept,
}

const USER: Uuid = Uuid::from_u128(1);
const LIVE: Uuid = Uuid::from_u128(2);
const REVOKED: Uuid = Uuid::from_u128(3);

/// The database as the migrations up to `last` leave it.
async fn open(database: &TestDatabase, last: i64) -> Db {
    #[derive(Parser)]
    struct Pool {
        #[command(flatten)]
        args: PoolArgs,
    }
    let migrations = sqlx::migrate!().iter().filter(|migration| migration.version <= last).cloned().collect();
    let migrations = Migrator::with_migrations(migrations);
    Db::open(&database.parsed_url(), "auth", &migrations, Migrate::Always, &Pool::parse_from([""]).args)
        .await
        .expect("it opens")
}

async fn sessions_from_before_accounts_could_be_deleted_are_kept(database: TestDatabase) {
    const ACCOUNT: &str = "insert into users values ($1, 'ann@example.com', 'Ann', '', false, '', false, 5, 6)";
    const SESSION: &str = "insert into sessions values
        ($1, $2, 'phone', 'agent', '192.0.2.1', 7, 8, 9, 10, $3, $3 + 1, $4, false, $5)";
    let (db, now) = (open(&database, 4).await, Clock::system().now());
    let end = now + std::time::Duration::from_secs(3600);
    for (sql, values) in [
        (ACCOUNT, args![USER]),
        (SESSION, args![LIVE, USER, end, None::<i64>, None::<i64>]),
        (SESSION, args![REVOKED, USER, end, now, 1_i64]),
        ("update feed set last_revocation = 1", args![]),
    ] {
        db.execute(sql, values).await.expect("the rows are made");
    }
    db.close().await;

    let columns = "select string_agg(cast(label || user_agent || ip_address || generation || ':' || created_at || ':'
        || rotated_at || ':' || previous_rotated_at || ':' || (ends_at - expires_at) as text), ',') from sessions";
    let server = Server::start(database).await;
    let keys = KeySet::read(&server.database.key_file(), server.clock.now()).expect("a key file");
    let names = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    let token = |session_id| {
        let (issued_at, roles) = (server.clock.now(), vec![]);
        let expires_at = issued_at + std::time::Duration::from_secs(300);
        let claims = AccessClaims { id: LIVE, user_id: USER, session_id, roles, issued_at, expires_at };
        token::sign(&keys, &names, &claims).expect("signed")
    };
    let mut account = server.account();
    let listed = account.list_sessions(bearer(&token(LIVE), ListSessionsRequest {})).await;
    let listed = listed.expect("let in").into_inner().sessions;
    let listed: Vec<_> = listed.iter().map(|session| (&session.id[..], &session.label[..], session.current)).collect();
    assert_eq!(listed, [(&LIVE.to_string()[..], "phone", true)]);
    service_kit::assert_refused!(server.me(&token(REVOKED)).await.map(|_| ()), Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(look_up(&server.database, columns).await, ["phoneagent192.0.2.17:8:9:10:1"; 2].join(","));
    server.stop().await;
}

#[test]
fn migrations_that_have_landed_are_never_edited() {
    assert_unchanged(
        &sqlx::migrate!(),
        &[
            (1, "ca166af0bfe01c0509c04247dc78df2f"),
            (2, "05a48abe86ce5c52e1f2c72e017b9813"),
            (3, "2c1d0eb9febe8d06b63146e3be4f50e0"),
            (4, "fa5ffc1631c219a15da46e9dfab9542e"),
            (5, "6338c7dd472c468b582809cf0353dc90"),
            (6, "b28378f1051249b128b6b35035e7ead7"),
            (7, "24d07625b7617eaddf60f64b35c38f8a"),
            (8, "f5a0401dc29c7774c21919a0e91a4078"),
        ],
    );
}
