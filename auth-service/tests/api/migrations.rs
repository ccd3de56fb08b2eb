//! Migrations keep the data that earlier versions have stored.

use clap::Parser;
use service_kit::{
    args,
    auth::{claims::AccessClaims, keys::KeySet, token},
    clock::Clock,
    db::{Db, Migrate, PoolArgs},
    on_each_database,
    ops::config::TokenArgs,
    testing::{TestDatabase, assert_compatible, assert_unchanged},
};
use sqlx::migrate::Migrator;
use taskey_proto::auth::v1::ListSessionsRequest;
use uuid::Uuid;

use crate::support::{Server, bearer, query_string};

on_each_database! {
    migrations_keep_existing_sessions,
    earlier_programs_can_use_the_tables,
}

const USER: Uuid = Uuid::from_u128(1);
const ACTIVE: Uuid = Uuid::from_u128(2);
const REVOKED: Uuid = Uuid::from_u128(3);

/// Opens the database and applies the migrations up to `last`.
pub async fn open(database: &TestDatabase, last: i64) -> Db {
    #[derive(Parser)]
    struct Pool {
        #[command(flatten)]
        args: PoolArgs,
    }
    let migrations = sqlx::migrate!().iter().filter(|migration| migration.version <= last).cloned().collect();
    let migrations = Migrator::with_migrations(migrations);
    Db::open(&database.parsed_url(), "auth", &migrations, Migrate::Always, &Pool::parse_from([""]).args)
        .await
        .expect("the database opens")
}

async fn migrations_keep_existing_sessions(database: TestDatabase) {
    const ACCOUNT: &str = "insert into users values ($1, 'ann@example.com', 'Ann', '', false, '', false, 5, 6)";
    const SESSION: &str = "insert into sessions values
        ($1, $2, 'phone', 'agent', '192.0.2.1', 7, 8, 9, 10, $3, $3 + 1, $4, false, $5)";
    let (db, now) = (open(&database, 4).await, Clock::system().now());
    let end = now + std::time::Duration::from_secs(3600);
    for (sql, values) in [
        (ACCOUNT, args![USER]),
        (SESSION, args![ACTIVE, USER, end, None::<i64>, None::<i64>]),
        (SESSION, args![REVOKED, USER, end, now, 1_i64]),
        ("update feed set last_revocation = 1", args![]),
    ] {
        db.execute(sql, values).await.expect("the statement succeeds");
    }
    db.close().await;

    let columns = "select string_agg(cast(label || user_agent || ip_address || generation || ':' || created_at || ':'
        || rotated_at || ':' || previous_rotated_at || ':' || (ends_at - expires_at) as text), ',') from sessions";
    let server = Server::start(database).await;
    let keys = KeySet::read(&server.database.key_file(), server.clock.now()).expect("a key file");
    let token_args = TokenArgs { issuer: "taskey".to_owned(), audience: "taskey".to_owned() };
    let token = |session_id| {
        let (issued_at, roles) = (server.clock.now(), vec![]);
        let expires_at = issued_at + std::time::Duration::from_secs(300);
        let claims = AccessClaims {
            id: ACTIVE,
            user_id: USER,
            session_id,
            roles,
            scopes: None,
            authentication: None,
            issued_at,
            expires_at,
            actors: Vec::new(),
        };
        token::sign(&keys, &token_args, &claims).expect("signed")
    };
    let mut account = server.account();
    let listed = account.list_sessions(bearer(&token(ACTIVE), ListSessionsRequest {})).await;
    let listed = listed.expect("listed").into_inner().sessions;
    let listed: Vec<_> = listed.iter().map(|session| (&session.id[..], &session.label[..], session.current)).collect();
    assert_eq!(listed, [(&ACTIVE.to_string()[..], "phone", true)]);
    service_kit::assert_refused!(server.get_me(&token(REVOKED)).await.map(|_| ()), Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(query_string(&server.database, columns).await, ["phoneagent192.0.2.17:8:9:10:1"; 2].join(","));
    server.stop().await;
}

async fn earlier_programs_can_use_the_tables(database: TestDatabase) {
    let db = open(&database, i64::MAX).await;
    assert_compatible(&db, &sqlx::migrate!(), 11).await;
    db.close().await;
}

#[test]
fn released_migrations_are_not_edited() {
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
            (9, "fa3b71b53ddb5057ac5e21bdf3a0afb6"),
            (10, "5a3406b29d3408e66bd8e749cf027078"),
            (11, "da3b42a879fb6dfd37ed316007ff8bf4"),
            (12, "70c116beeca964ac8905c6777d4f00be"),
            (13, "d18eb43a95c923d2b1144aaffbee0b39"),
            (14, "bd80e0498b1d24663707aec8623c576b"),
            (15, "bc4458f712d849e084da15b351985466"),
            (16, "427d1fb9bbf218d1120a5cac600d309e"),
            (17, "51f37927e3d9361693bda27172d4216f"),
            (18, "2866ef5dbd5f2a546da7a94ca3de68ff"),
            (19, "4a434a7b15517bb78809cf9c0cef503b"),
            (20, "62792c22fbde93ba291715cd60f86a73"),
            (21, "d172678e79bbcb89539fe6384c8411d5"),
            (22, "9aca77d94ad37b1961e91c1ce5b59628"),
            (23, "e37703a809773c0768144b321b79e92a"),
            (24, "0f087703893977ce5ea3a5e20d58e038"),
            (25, "9a362ff758932f5b742836870e8016e6"),
        ],
    );
}
