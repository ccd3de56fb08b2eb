//! Services in separate processes, with a proxy on every link between them and to their database.

use std::net::ToSocketAddrs;

use service_kit::testing::TestDatabase;
use tonic::transport::Channel;

use super::{
    proxy::{Mode, Proxy, Upstream},
    service::Service,
};

/// Flags for most tests: cheap password hashes, and no rate limits because all calls come from one address. A config
/// that sets one of these flags overrides them.
const CHEAP_HASH_FLAGS: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];
const NO_RATE_LIMITS: [&str; 2] = ["--rate-limits", "off"];

/// The default costs of a hash.
pub const DEFAULT_HASH_FLAGS: [&str; 4] = ["--password-memory-kib", "19456", "--password-passes", "2"];

/// The number of replicas of each service, and their flags and environments.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterConfig<'a> {
    pub auth_replicas: usize,
    pub task_replicas: usize,
    pub auth_flags: &'a [&'a str],
    pub task_flags: &'a [&'a str],
    pub auth_environment: &'a [(String, String)],
    pub task_environment: &'a [(String, String)],
}

/// One of each service.
pub const ONE_EACH: ClusterConfig = ClusterConfig {
    auth_replicas: 1,
    task_replicas: 1,
    auth_flags: &[],
    task_flags: &[],
    auth_environment: &[],
    task_environment: &[],
};

/// Two replicas of each.
pub const TWO_EACH: ClusterConfig = ClusterConfig { auth_replicas: 2, task_replicas: 2, ..ONE_EACH };

pub struct Cluster {
    pub auth: Vec<Service>,
    pub task: Vec<Service>,
    /// The links from the task-services to each auth-service.
    pub feeds: Vec<Proxy>,
    /// The links from the auth-services and from the task-services to the database server.
    links: Option<[Proxy; 2]>,
    /// The database, whose folder also contains keys and logs.
    pub database: TestDatabase,
}

impl Cluster {
    /// Starts a cluster on SQLite.
    pub async fn on_sqlite(config: ClusterConfig<'_>) -> Self {
        let database = TestDatabase::sqlite();
        let url = |service| format!("sqlite:{}", database.folder().join(service).display());
        let urls = [url("auth.db"), url("task.db")];
        Self::start(config, urls, None, database).await
    }

    /// Starts a cluster on a new database of the shared PostgreSQL server. Returns `None` if there is no server.
    pub async fn on_postgres(config: ClusterConfig<'_>) -> Option<Self> {
        let database = TestDatabase::postgres().await?;
        let (_, rest) = database.url().split_once("://").expect("a URL");
        let (authority, path) = rest.split_once('/').expect("a database");
        let (user, host) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let address = host.to_socket_addrs().expect("a host and a port").next().expect("the host has an address");
        let links = [Upstream::Tcp(address), Upstream::Tcp(address)].map(Proxy::start);
        let urls = links.each_ref().map(|link| format!("postgres://{user}@{}/{path}", link.address()));
        Some(Self::start(config, urls, Some(links), database).await)
    }

    /// Starts a cluster on the test's own PostgreSQL server.
    pub async fn on_own_server(config: ClusterConfig<'_>, upstream: Upstream) -> Self {
        let links = [upstream.clone(), upstream].map(Proxy::start);
        let urls = links.each_ref().map(|link| format!("postgres://postgres@{}/postgres", link.address()));
        Self::start(config, urls, Some(links), TestDatabase::sqlite()).await
    }

    async fn start(
        config: ClusterConfig<'_>,
        urls: [String; 2],
        links: Option<[Proxy; 2]>,
        database: TestDatabase,
    ) -> Self {
        let keys = database.key_file().display().to_string();
        let [auth_database, task_database] = urls;
        let start = |name, url: &str, flags: &[&str], more: &[&str], environment| {
            let required = ["--database-url", url, "--key-file", &keys];
            let arguments = [&required[..], flags, more, unless_set(&NO_RATE_LIMITS, flags)].concat();
            let arguments = arguments.iter().map(ToString::to_string).collect();
            Service::start(name, database.folder(), arguments, environment)
        };
        let hash_flags = unless_set(&CHEAP_HASH_FLAGS, config.auth_flags);
        let auth: Vec<_> = (0..config.auth_replicas)
            .map(|_| start("auth", &auth_database, config.auth_flags, hash_flags, config.auth_environment))
            .collect();
        let feeds: Vec<_> = auth.iter().map(|auth| Proxy::start(Upstream::Tcp(auth.address()))).collect();
        let task = (0..config.task_replicas)
            .map(|first| {
                // Each task-service prefers a different auth-service.
                let peers =
                    (0..config.auth_replicas).map(|number| feeds[(first + number) % config.auth_replicas].address());
                let peers = peers.map(|peer| format!("http://{peer}")).collect::<Vec<_>>().join(",");
                start("task", &task_database, config.task_flags, &["--auth-url", &peers], config.task_environment)
            })
            .collect();
        let cluster = Self { auth, task, feeds, links, database };
        cluster.wait_until_ready().await;
        cluster
    }

    /// Starts a gateway in front of the first replica of each service.
    pub fn gateway(&self) -> Service {
        let url = |service: &Service| format!("http://{}", service.address());
        let arguments = ["--auth-url".to_owned(), url(&self.auth[0]), "--task-url".to_owned(), url(&self.task[0])];
        Service::start("gateway", self.database.folder(), arguments.to_vec(), &[])
    }

    /// Waits until every service reports that it serves.
    pub async fn wait_until_ready(&self) {
        for service in self.auth.iter().chain(&self.task) {
            service.wait_until_ready().await;
        }
    }

    /// Returns the link from the auth-services to the database server.
    pub fn auth_link(&self) -> &Proxy {
        &self.links.as_ref().expect("the cluster uses a database server")[0]
    }

    /// Returns the link from the task-services to the database server.
    pub fn task_link(&self) -> &Proxy {
        &self.links.as_ref().expect("the cluster uses a database server")[1]
    }

    /// Sets the mode of the links to every auth-service.
    pub fn set_feed_mode(&self, mode: Mode) {
        self.feeds.iter().for_each(|feed| feed.set(mode));
    }

    pub fn auth_channels(&self) -> Vec<Channel> {
        self.auth.iter().map(Service::channel).collect()
    }

    pub fn task_channels(&self) -> Vec<Channel> {
        self.task.iter().map(Service::channel).collect()
    }
}

/// Returns the flags, or none if `set` contains the first of them.
fn unless_set<'a>(flags: &'a [&'a str], set: &[&str]) -> &'a [&'a str] {
    if set.contains(&flags[0]) { &[] } else { flags }
}
