//! PostgreSQL behind PgBouncer.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use service_kit::{
    args,
    db::PoolArgs,
    testing::{POSTGRES, TestDatabase, folder},
};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::postgres_sessions::{database_name, insert_many, open, pool, try_open};

/// A PgBouncer in front of the test server.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    async fn start(mode: &str) -> Self {
        let server: sqlx::postgres::PgConnectOptions =
            std::env::var(POSTGRES).expect("a server").parse().expect("a URL");
        let folder = folder();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permitted");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("bound").port();
        let file = folder.path().join("pgbouncer.ini");
        let mut config = fs::File::create(&file).expect("created");
        write!(
            config,
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 50\nuser = nobody\n\
             ignore_startup_parameters = extra_float_digits,options\n",
            server.get_host(),
            server.get_port(),
            server.get_username(),
        )
        .expect("written");
        let mut command = Command::new(find_pgbouncer());
        let child = command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let listening = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), listening).await.expect("it listens");
        Self { child, port, _folder: folder }
    }

    /// Returns the URL of a database behind this pooler.
    fn url(&self, database: &TestDatabase) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, database_name(database.url()))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns the path of PgBouncer, which Debian installs outside the `PATH` of ordinary users.
fn find_pgbouncer() -> &'static str {
    ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
        .into_iter()
        .find(|path| fs::exists(path).is_ok_and(|exists| exists))
        .expect("`make tools` installs PgBouncer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_pooler_preserves_settings() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let pooler = PgBouncer::start("session").await;
    let db = open(&pooler.url(&database)).await;
    assert!(insert_many(&db, 0).await.is_empty());
    let settings = "select current_schema() || ' ' || current_setting('statement_timeout') from items limit 1";
    let settings: Option<String> = db.fetch_optional(settings, args![]).await.expect("read");
    assert_eq!(settings.as_deref(), Some("test 2s"));
    let mut connection = PgConnection::connect(database.url()).await.expect("connected");
    let schemas: Vec<String> = sqlx::query_scalar("select schemaname::text from pg_tables where tablename = 'items'")
        .fetch_all(&mut connection)
        .await
        .expect("listed");
    assert_eq!(schemas, ["test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_and_migrations_can_bypass_a_pooler() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let pooler = PgBouncer::start("session").await;
    let args = PoolArgs { database_direct_url: Some(database.parsed_url()), ..pool() };
    let db = try_open(&pooler.url(&database), &args).await.expect("it opens");
    let woken = std::sync::Arc::new(tokio::sync::Notify::new());
    let (listener, notify) = (db.clone(), std::sync::Arc::clone(&woken));
    let listening = tokio::spawn(async move { listener.listen("test_channel", || notify.notify_one()).await });
    let notified = async || timeout(Duration::from_secs(10), woken.notified()).await.expect("woken");
    notified().await;
    db.write(|conn| Box::pin(conn.notify("test_channel"))).await.expect("notified");
    notified().await;
    listening.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_pooler_is_refused_with_a_one_line_error() {
    let Some(database) = TestDatabase::postgres().await else { return };
    for mode in ["transaction", "statement"] {
        let pooler = PgBouncer::start(mode).await;
        let error = format!("{:#}", try_open(&pooler.url(&database), &pool()).await.expect_err("refused"));
        assert!(error.contains("pool_mode = session") && !error.contains('\n'), "{error}");
    }
}
