//! A PostgreSQL server that requires TLS.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use service_kit::{
    args,
    db::Db,
    testing::{
        certificates::{Authority, Issued},
        report_skipped,
    },
};

use crate::postgres_sessions::{pool, try_open};

/// Stops the server and deletes its folder when standard input is closed, however the test ends.
const CLEAN_UP: &str = r#"
    trap '' HUP INT QUIT TERM
    read -r || true
    "$@" stop -s -m immediate -D data || true
    rm -rf "$PWD"
"#;

/// Accepts only clients with TLS; the user `with_certificate` only with a certificate of that name.
const ACCESS: &str = "hostssl all with_certificate all cert\nhostssl all all all trust\n";

struct Server {
    folder: PathBuf,
    port: u16,
    authority: Authority,
    cleaner: Child,
}

impl Server {
    /// Starts a server with a certificate for `localhost`. Without PostgreSQL, the test is skipped, or fails if `CI=true`.
    fn start() -> Option<Self> {
        let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/with-postgres");
        let found = Command::new(find).arg("--find").output().expect("the script runs");
        if !found.status.success() {
            report_skipped("a test on PostgreSQL with TLS", &String::from_utf8_lossy(&found.stderr));
            return None;
        }
        let programs = PathBuf::from(String::from_utf8(found.stdout).expect("UTF-8").trim());
        // Not in TMPDIR, which the user of the server may be unable to access.
        let folder = PathBuf::from(run(Command::new("mktemp").args(["-d", "/tmp/taskey-postgres-tls.XXXXXX"])));
        let user = user_of_server();
        let as_user = |program: &str| {
            let mut command = Command::new(if user.is_some() { "runuser" } else { "env" });
            command.args(user.iter().flat_map(|user| ["-u", *user, "--"])).arg(programs.join(program));
            command.current_dir(&folder).env("LC_ALL", "C");
            command
        };
        let mut cleaner = Command::new("bash");
        let pg_ctl = as_user("pg_ctl");
        cleaner.args(["-c", CLEAN_UP, "clean-up"]).arg(pg_ctl.get_program()).args(pg_ctl.get_args());
        cleaner.current_dir(&folder).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let cleaner = cleaner.spawn().expect("bash is installed");
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
        let server = Self { folder: folder.clone(), port, authority: Authority::new("test"), cleaner };

        _ = server.authority.write(&folder, "ca");
        _ = server.authority.issue(&["localhost"]).write(&folder, "server");
        fs::write(folder.join("access.conf"), ACCESS).expect("written");
        if let Some(user) = &user {
            run(Command::new("chown").args(["-R", user]).arg(&folder));
        }
        run(as_user("initdb").args(["-D", "data", "-U", "postgres", "--encoding=UTF8", "--no-sync"]));
        let path = |name: &str| folder.join(name).display().to_string();
        let settings = format!(
            "-c listen_addresses=localhost -c port={port} -c unix_socket_directories={} -c fsync=off -c ssl=on \
             -c ssl_cert_file={} -c ssl_key_file={} -c ssl_ca_file={} -c hba_file={}",
            folder.display(),
            path("server.crt"),
            path("server.key"),
            path("ca.pem"),
            path("access.conf"),
        );
        run(as_user("pg_ctl").args(["start", "-s", "-w", "-D", "data", "-l", "log", "-o", &settings]));
        Some(server)
    }

    /// Writes a certificate for a client, which belongs to the user of the test, and returns the parameters for it.
    fn client(&self, name: &str, issued: &Issued) -> String {
        let [certificate, key] = issued.write(&self.folder, name);
        format!("sslcert={}&sslkey={}", certificate.display(), key.display())
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Opens the database as a user, with these parameters.
    async fn open(&self, user: &str, parameters: &str) -> Result<Db, String> {
        let url = format!("postgres://{user}@localhost:{}/postgres?{parameters}", self.port);
        try_open(&url, &pool()).await.map_err(|error| format!("{error:#}"))
    }

    /// Returns the error of a database that cannot be opened.
    async fn error(&self, user: &str, parameters: &str) -> String {
        let error = self.open(user, parameters).await.expect_err("refused");
        assert!(!error.contains('\n'), "{error}");
        error
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        _ = self.cleaner.wait();
    }
}

/// Returns the user of the server if the test runs as root: PostgreSQL refuses to run as root.
fn user_of_server() -> Option<&'static str> {
    if run(Command::new("id").arg("-u")) != "0" {
        return None;
    }
    let exists = Command::new("id").arg("postgres").output().is_ok_and(|output| output.status.success());
    Some(if exists { "postgres" } else { "nobody" })
}

/// Runs a program, asserts that it succeeds, and returns its output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// Returns the version of TLS of a session, and the name in the certificate of the client.
async fn tls_of(db: &Db) -> String {
    const TLS: &str = "select version || ' ' || coalesce(client_dn, '') from pg_stat_ssl
        where pid = pg_backend_pid() and ssl";
    db.fetch_optional(TLS, args![]).await.expect("read").expect("the session uses TLS")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_is_verified_as_the_url_demands() {
    let Some(server) = Server::start() else { return };
    let authorities = format!("sslrootcert={}", server.path("ca.pem"));
    for mode in ["verify-full", "verify-ca", "require"] {
        let db = server.open("postgres", &format!("sslmode={mode}&{authorities}")).await.expect(mode);
        assert!(tls_of(&db).await.starts_with("TLSv1.3"));
        db.close().await;
    }
    assert!(server.error("postgres", "sslmode=disable").await.contains("no pg_hba.conf entry"));
    assert!(server.error("postgres", "sslmode=verify-full").await.contains("UnknownIssuer"));

    let other = Authority::new("another").write(&server.folder, "other");
    let untrusted = format!("sslrootcert={}", other.display());
    for mode in ["verify-full", "verify-ca", "require"] {
        let error = server.error("postgres", &format!("sslmode={mode}&{untrusted}")).await;
        assert!(error.contains("UnknownIssuer"), "{mode}: {error}");
    }
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?{authorities}&sslmode=", server.port);
    let error = format!("{:#}", try_open(&(url.clone() + "verify-full"), &pool()).await.expect_err("another host"));
    assert!(error.contains("not valid for name"), "{error}");
    try_open(&(url + "verify-ca"), &pool()).await.expect("the host is not verified").close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_authenticates_with_its_certificate() {
    let Some(server) = Server::start() else { return };
    let verified = format!("sslmode=verify-full&sslrootcert={}", server.path("ca.pem"));
    let admin = server.open("postgres", &verified).await.expect("opened");
    admin.execute("create role with_certificate superuser login", args![]).await.expect("created");
    admin.close().await;

    let name = "with_certificate";
    assert!(server.error(name, &verified).await.contains("valid client certificate"));
    let identity = server.client("client", &server.authority.issue(&[name]));
    let db = server.open(name, &format!("{verified}&{identity}")).await.expect("opened");
    assert!(tls_of(&db).await.contains(name));
    db.close().await;
    let other = server.client("other", &server.authority.issue(&["somebody"]));
    let error = server.error(name, &format!("{verified}&{other}")).await;
    assert!(error.contains("certificate authentication failed"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_files_are_named_in_the_error() {
    let folder = service_kit::testing::folder();
    let authority = Authority::new("test");
    let [certificate, key] = authority.issue(&["x"]).write(folder.path(), "client");
    let error = async |parameters: &str| {
        let url = format!("postgres://u@127.0.0.1:1/d?sslmode=verify-full&{parameters}");
        format!("{:#}", try_open(&url, &pool()).await.expect_err("refused"))
    };
    let missing = error("sslrootcert=/no/such/file").await;
    assert!(missing.contains("cannot read /no/such/file"), "{missing}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    let display = |path: &Path| path.display().to_string();
    let readable = error(&format!("sslcert={}&sslkey={}", display(&certificate), display(&key))).await;
    assert!(readable.contains("mode 0644"), "{readable}");
}
