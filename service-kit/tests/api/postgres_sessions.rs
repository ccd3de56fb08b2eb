//! PostgreSQL sessions under settings and failures that an administrator or a failover can cause.

use std::time::Duration;

use service_kit::{
    args,
    db::{DatabaseUrl, Db, Error, Migrate, PoolArgs, QueryBuilder},
    status::ApiError,
    testing::{POSTGRES, TestDatabase, folder},
};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

/// Everything must work again within this time after the cause of a failure is removed.
const MAX_RECOVERY_TIME: Duration = Duration::from_secs(2);

pub(crate) fn pool() -> PoolArgs {
    PoolArgs { database_connections: 5, database_timeout: Duration::from_secs(2), database_direct_url: None }
}

fn migrations() -> Migrator {
    let table = SqlStr::from_static("create table items (id bigint primary key, name text not null default '')");
    Migrator::with_migrations(vec![Migration::new(1, "items".into(), MigrationType::Simple, table, false)])
}

pub(crate) async fn try_open(url: &str, args: &PoolArgs) -> anyhow::Result<Db> {
    let url: DatabaseUrl = url.parse().expect("a valid URL");
    Db::open(&url, "test", &migrations(), Migrate::Always, args).await
}

pub(crate) async fn open(url: &str) -> Db {
    try_open(url, &pool()).await.expect("the database opens")
}

/// Inserts a row in a transaction of two statements.
async fn insert(db: &Db, id: i64) -> Result<(), Error> {
    db.write(move |conn| {
        Box::pin(async move {
            let count: i64 = conn.fetch_one("select count(*) from items", args![]).await?;
            conn.execute("insert into items (id) values ($1)", args![id + count - count]).await.map(drop)
        })
    })
    .await
}

/// Inserts rows on all connections of the pool simultaneously, and returns the errors.
pub(crate) async fn insert_many(db: &Db, first: i64) -> Vec<Error> {
    let mut inserts = JoinSet::new();
    for id in first..first + 20 {
        let db = db.clone();
        inserts.spawn(async move { insert(&db, id).await });
    }
    inserts.join_all().await.into_iter().filter_map(Result::err).collect()
}

fn assert_unavailable(errors: Vec<Error>) {
    assert!(!errors.is_empty());
    for error in errors {
        let text = error.to_string();
        assert_eq!(ApiError::from(error).code(), Code::Unavailable, "{text}");
    }
}

/// Waits until every connection of the pool works again, and checks that this does not take too long.
async fn assert_recovers(db: &Db, first: i64) {
    let start = Instant::now();
    let recovered = async {
        for round in 0.. {
            if insert_many(db, first + round * 100).await.is_empty() {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), recovered).await.expect("it recovers");
    assert!(start.elapsed() < MAX_RECOVERY_TIME, "it took {:?}", start.elapsed());
}

/// Connects to the test server as its administrator.
async fn connect_as_admin() -> PgConnection {
    let server = std::env::var(POSTGRES).expect("a server");
    PgConnection::connect(&server).await.expect("the test server is reachable")
}

async fn execute_as_admin(sql: &str) {
    let mut connection = connect_as_admin().await;
    for statement in sql.split(';') {
        let statement = AssertSqlSafe(statement.to_owned());
        connection.execute(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Ends all connections to a database.
async fn disconnect(database: &str) {
    let sql = format!("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{database}'");
    execute_as_admin(&sql).await;
}

/// Returns the name of the database in a URL.
pub(crate) fn database_name(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or_default();
    path.rsplit('/').next().expect("a URL has a path")
}

/// Replaces the credentials in a URL.
fn with_credentials(url: &str, credentials: &str) -> String {
    let (_, rest) = url.split_once('@').expect("the test URL has a user");
    format!("postgres://{credentials}@{rest}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_was_temporarily_read_only_accepts_writes_again() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let (db, name) = (open(database.url()).await, database_name(database.url()).to_owned());
    assert!(insert_many(&db, 0).await.is_empty());
    execute_as_admin(&format!("alter database {name} set default_transaction_read_only = on")).await;
    disconnect(&name).await;
    // The first calls after the failover fail because their connections were closed.
    _ = insert_many(&db, 100).await;
    assert_unavailable(insert_many(&db, 200).await);
    execute_as_admin(&format!("alter database {name} reset default_transaction_read_only")).await;
    assert_recovers(&db, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_administrator_do_not_affect_sessions() {
    for setting in [
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_isolation = 'serializable'",
        "lock_timeout = '1ms'",
        "statement_timeout = '30ms'",
        "search_path = 'pg_catalog'",
        "idle_session_timeout = '300ms'",
        "client_encoding = 'LATIN1'",
    ] {
        let Some(database) = TestDatabase::postgres().await else { return };
        execute_as_admin(&format!("alter database {} set {setting}", database_name(database.url()))).await;
        let db = open(database.url()).await;
        let update =
            "insert into items (id, name) values (1, '') on conflict (id) do update set name = items.name || 'é'";
        let mut updates = JoinSet::new();
        for _ in 0..40 {
            let db = db.clone();
            updates.spawn(async move {
                db.write(move |conn| {
                    Box::pin(async move {
                        conn.fetch_all::<String>("select name from items", args![]).await?;
                        conn.execute(update, args![]).await
                    })
                })
                .await
            });
        }
        for outcome in updates.join_all().await {
            assert!(outcome.is_ok(), "{setting}: {outcome:?}");
        }
        let name: Option<String> =
            db.fetch_optional("select name from items where id = 1", args![]).await.expect("read");
        assert_eq!(name.map(|name| name.chars().count()), Some(39), "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn synchronous_commit_overrides_the_setting_of_the_administrator() {
    let Some(database) = TestDatabase::postgres().await else { return };
    execute_as_admin(&format!("alter database {} set synchronous_commit = off", database_name(database.url()))).await;
    let db = open(database.url()).await;
    let value: Option<String> =
        db.fetch_optional("select current_setting('synchronous_commit')", args![]).await.expect("read");
    assert_eq!(value.as_deref(), Some("on"));
}

/// Breaks all new connections, checks that calls and health report it, repairs the cause and checks the recovery.
async fn assert_breaks_and_recovers(db: &Db, name: &str, break_sql: &str, repair_sql: &str) {
    let (healthy, mut is_healthy) = watch::channel(true);
    let watching = tokio::spawn({
        let db = db.clone();
        async move { db.watch_health(healthy).await }
    });
    assert!(insert_many(db, 0).await.is_empty());
    execute_as_admin(break_sql).await;
    disconnect(name).await;
    _ = insert_many(db, 100).await;
    assert_unavailable(insert_many(db, 200).await);
    let unhealthy = timeout(Duration::from_secs(10), is_healthy.wait_for(|healthy| !healthy));
    assert!(unhealthy.await.expect("the change is noticed").is_ok());
    execute_as_admin(repair_sql).await;
    assert_recovers(db, 1000).await;
    let healthy = timeout(Duration::from_secs(10), is_healthy.wait_for(|healthy| *healthy));
    assert!(healthy.await.expect("the change is noticed").is_ok());
    watching.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_database_is_unavailable_until_its_name_is_restored() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let (db, name) = (open(database.url()).await, database_name(database.url()).to_owned());
    // A database that is in use cannot be renamed.
    let rename = format!(
        "alter database {name} allow_connections false;
         select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}';
         alter database {name} rename to {name}_away"
    );
    let restore = format!("alter database {name}_away rename to {name}; alter database {name} allow_connections true");
    assert_breaks_and_recovers(&db, &name, &rename, &restore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_password_makes_the_database_unavailable_until_it_is_restored() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let name = database_name(database.url()).to_owned();
    // The test server requires a password only from this role.
    let role = "with_password";
    let create = format!("create role {role} superuser login");
    // The role may exist already: roles outlive the databases of tests if the server is reused.
    _ = connect_as_admin().await.execute(AssertSqlSafe(create)).await;
    execute_as_admin(&format!("alter role {role} password 'first'")).await;
    let wrong = PgConnection::connect(&with_credentials(database.url(), &format!("{role}:wrong"))).await;
    assert!(wrong.is_err(), "the server requires a password");
    let db = open(&with_credentials(database.url(), &format!("{role}:first"))).await;
    let (change, restore) =
        (format!("alter role {role} password 'second'"), format!("alter role {role} password 'first'"));
    assert_breaks_and_recovers(&db, &name, &change, &restore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_log_in_makes_the_database_unavailable() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let name = database_name(database.url()).to_owned();
    let role = format!("role_{name}");
    execute_as_admin(&format!("create role {role} superuser login")).await;
    let db = open(&with_credentials(database.url(), &role)).await;
    assert_breaks_and_recovers(&db, &name, &format!("alter role {role} nologin"), &format!("alter role {role} login"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_dropped_makes_the_database_unavailable() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let db = open(database.url()).await;
    insert(&db, 1).await.expect("inserted");
    let mut connection = PgConnection::connect(database.url()).await.expect("connected");
    connection.execute("alter schema test rename to away").await.expect("renamed");
    assert_unavailable(insert_many(&db, 100).await);
    connection.execute("alter schema away rename to test").await.expect("renamed");
    assert_recovers(&db, 1000).await;
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_at_start() {
    let Some(database) = TestDatabase::postgres().await else { return };
    for encoding in ["LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"] {
        let name = format!("{}_{}", database_name(database.url()), encoding.to_lowercase());
        execute_as_admin(&format!(
            "create database {name} template template0 encoding '{encoding}' locale_provider libc lc_collate 'C' lc_ctype 'C'"
        ))
        .await;
        let url = database.url().replace(database_name(database.url()), &name);
        let error = format!("{:#}", try_open(&url, &pool()).await.expect_err("refused"));
        assert!(error.contains(&format!("its encoding is {encoding}")) && !error.contains('\n'), "{error}");
        let mut connection = PgConnection::connect(&url).await.expect("connected");
        let schemas: i64 = sqlx::query_scalar("select count(*) from pg_namespace where nspname = 'test'")
            .fetch_one(&mut connection)
            .await
            .expect("counted");
        assert_eq!(schemas, 0, "nothing is left behind");
    }
}

#[tokio::test]
async fn schema_of_another_program_is_refused_and_unchanged() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let mut connection = PgConnection::connect(database.url()).await.expect("connected");
    connection.execute("create schema test; create table test.users (id int)").await.expect("created");
    let error = format!("{:#}", try_open(database.url(), &pool()).await.expect_err("refused"));
    assert!(error.contains("tables of another program") && error.contains("--schema"), "{error}");
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class join pg_namespace n on n.oid = relnamespace where nspname = 'test'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("listed");
    assert_eq!(tables, ["users"]);
}

#[tokio::test]
async fn an_empty_schema_is_used() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let mut connection = PgConnection::connect(database.url()).await.expect("connected");
    connection.execute("create schema test").await.expect("created");
    insert(&open(database.url()).await, 1).await.expect("inserted");
}

#[tokio::test]
async fn a_command_line_tool_does_not_migrate_the_database_of_an_older_server() {
    let Some(database) = TestDatabase::postgres().await else { return };
    for (url, _folder) in [(database.url().to_owned(), None), {
        let folder = folder();
        (format!("sqlite:{}", folder.path().join("x.db").display()), Some(folder))
    }] {
        let url: DatabaseUrl = url.parse().expect("a URL");
        let open = async |migrations: &Migrator, migrate| Db::open(&url, "test", migrations, migrate, &pool()).await;
        open(&migrations(), Migrate::IfEmpty).await.expect("tables are created").close().await;
        let mut newer: Vec<_> = migrations().iter().cloned().collect();
        let table = SqlStr::from_static("create table others (id bigint primary key)");
        newer.push(Migration::new(2, "others".into(), MigrationType::Simple, table, false));
        let newer = Migrator::with_migrations(newer);
        let error = format!("{:#}", open(&newer, Migrate::IfEmpty).await.expect_err("refused"));
        assert!(error.contains("older than this program"), "{error}");
        insert(&open(&migrations(), Migrate::IfEmpty).await.expect("the database is unchanged"), 1)
            .await
            .expect("inserted");
        open(&newer, Migrate::Always).await.expect("a server migrates").close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn url_with_a_unix_socket_is_accepted() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let mut connection = connect_as_admin().await;
    let folder: String = sqlx::query_scalar("select current_setting('unix_socket_directories')")
        .fetch_one(&mut connection)
        .await
        .expect("read");
    let port: String =
        sqlx::query_scalar("select current_setting('port')").fetch_one(&mut connection).await.expect("read");
    let url = format!("postgres://postgres@/{}?host={folder}&port={port}", database_name(database.url()));
    insert(&open(&url).await, 1).await.expect("inserted");
}

/// Returns the plan of the prepared statement that contains `part`.
async fn plan(db: &Db, part: &'static str) -> String {
    db.write(move |conn| {
        Box::pin(async move {
            let prepared = "select name from pg_prepared_statements
                where position($1 in statement) > 0 and position('pg_prepared_statements' in statement) = 0";
            let name: String = conn.fetch_one(prepared, args![part]).await?;
            let (explain, args) = QueryBuilder::new(format!("explain execute {name} (1)")).build();
            Ok::<_, Error>(conn.fetch_all::<String>(explain, args).await?.join("\n"))
        })
    })
    .await
    .expect("a plan")
}

#[tokio::test]
async fn statements_are_replanned_after_tables_have_grown() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let db = try_open(database.url(), &PoolArgs { database_connections: 1, ..pool() }).await.expect("opened");
    for statement in [
        "create table entries (id bigint primary key, note text not null)",
        "insert into entries values (1, '')",
        "analyze entries",
    ] {
        db.execute(statement, args![]).await.expect("executed");
    }
    for _ in 0..10 {
        let select = "select note from entries where id = $1";
        let note: Option<String> = db.fetch_optional(select, args![1]).await.expect("selected");
        assert_eq!(note.as_deref(), Some(""));
    }
    let early = plan(&db, "select note").await;
    assert!(early.contains("Seq Scan"), "{early}");
    let grow = "insert into entries select n, '' from generate_series(2, 20000) n";
    db.execute(grow, args![]).await.expect("inserted");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    let late = plan(&db, "select note").await;
    assert!(late.contains("entries_pkey"), "{late}");
}
