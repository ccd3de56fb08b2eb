//! Services in processes of their own, with a proxy on every way between them and to their database.

use std::net::ToSocketAddrs;

use service_kit::testing::TestDatabase;
use tonic::transport::Channel;

use super::{
    proxy::{Mode, Proxy, Upstream},
    service::Service,
};

/// A hash of a password costs next to nothing, and everybody comes from one address: most of these tests are about
/// other things. A plan that has one of these flags itself is taken as it is.
const CHEAP: [&str; 4] = ["--password-memory-kib", "8", "--password-passes", "1"];
const UNLIMITED: [&str; 2] = ["--rate-limits", "off"];

/// What a hash costs by default.
pub const IN_EARNEST: [&str; 4] = ["--password-memory-kib", "19456", "--password-passes", "2"];

/// How many of each service, and with which settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan<'a> {
    pub auths: usize,
    pub tasks: usize,
    pub auth_flags: &'a [&'a str],
    pub task_flags: &'a [&'a str],
    pub auth_environment: &'a [(String, String)],
    pub task_environment: &'a [(String, String)],
}

/// One of each service.
pub const ONE: Plan =
    Plan { auths: 1, tasks: 1, auth_flags: &[], task_flags: &[], auth_environment: &[], task_environment: &[] };

/// Two replicas of each.
pub const TWO: Plan = Plan { auths: 2, tasks: 2, ..ONE };

pub struct Cluster {
    pub auth: Vec<Service>,
    pub task: Vec<Service>,
    /// The way of the task-services to each auth-service.
    pub feeds: Vec<Proxy>,
    /// The ways of auth-services and task-services to the server.
    links: Option<[Proxy; 2]>,
    /// With the folder of the keys, the logs and the files.
    pub database: TestDatabase,
}

impl Cluster {
    /// On SQLite.
    pub async fn on_files(plan: Plan<'_>) -> Self {
        let database = TestDatabase::sqlite();
        let url = |service| format!("sqlite:{}", database.folder().join(service).display());
        let urls = [url("auth.db"), url("task.db")];
        Self::start(plan, urls, None, database).await
    }

    /// On a database of its own on the PostgreSQL server that all tests share. `None` if there is no server.
    pub async fn on_postgres(plan: Plan<'_>) -> Option<Self> {
        let database = TestDatabase::postgres().await?;
        let (_, rest) = database.url().split_once("://").expect("a URL");
        let (authority, path) = rest.split_once('/').expect("a database");
        let (user, host) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let address = host.to_socket_addrs().expect("a host and a port").next().expect("it has an address");
        let links = [Upstream::Tcp(address), Upstream::Tcp(address)].map(Proxy::start);
        let urls = links.each_ref().map(|link| format!("postgres://{user}@{}/{path}", link.address()));
        Some(Self::start(plan, urls, Some(links), database).await)
    }

    /// On a server that the test owns.
    pub async fn on_server(plan: Plan<'_>, upstream: Upstream) -> Self {
        let links = [upstream.clone(), upstream].map(Proxy::start);
        let urls = links.each_ref().map(|link| format!("postgres://postgres@{}/postgres", link.address()));
        Self::start(plan, urls, Some(links), TestDatabase::sqlite()).await
    }

    async fn start(plan: Plan<'_>, urls: [String; 2], links: Option<[Proxy; 2]>, database: TestDatabase) -> Self {
        let keys = database.key_file().display().to_string();
        let [for_auth, for_task] = urls;
        let start = |name, url: &str, flags: &[&str], more: &[&str], environment| {
            let own = ["--database-url", url, "--key-file", &keys];
            let arguments = [&own[..], flags, more, unless_given(&UNLIMITED, flags)].concat();
            let arguments = arguments.iter().map(ToString::to_string).collect();
            Service::start(name, database.folder(), arguments, environment)
        };
        let cheap = unless_given(&CHEAP, plan.auth_flags);
        let auth: Vec<_> =
            (0..plan.auths).map(|_| start("auth", &for_auth, plan.auth_flags, cheap, plan.auth_environment)).collect();
        let feeds: Vec<_> = auth.iter().map(|auth| Proxy::start(Upstream::Tcp(auth.address()))).collect();
        let task = (0..plan.tasks)
            .map(|first| {
                // Each begins with another.
                let peers = (0..plan.auths).map(|number| feeds[(first + number) % plan.auths].address());
                let peers = peers.map(|peer| format!("http://{peer}")).collect::<Vec<_>>().join(",");
                start("task", &for_task, plan.task_flags, &["--auth-url", &peers], plan.task_environment)
            })
            .collect();
        let cluster = Self { auth, task, feeds, links, database };
        cluster.ready().await;
        cluster
    }

    /// Starts a gateway before the first of each service.
    pub fn gateway(&self) -> Service {
        let url = |service: &Service| format!("http://{}", service.address());
        let arguments = ["--auth-url".to_owned(), url(&self.auth[0]), "--task-url".to_owned(), url(&self.task[0])];
        Service::start("gateway", self.database.folder(), arguments.to_vec(), &[])
    }

    /// Waits until every service says that it serves.
    pub async fn ready(&self) {
        for service in self.auth.iter().chain(&self.task) {
            service.ready().await;
        }
    }

    /// The way of the auth-services to the server.
    pub fn auth_link(&self) -> &Proxy {
        &self.links.as_ref().expect("there is a server")[0]
    }

    /// The way of the task-services to the server.
    pub fn task_link(&self) -> &Proxy {
        &self.links.as_ref().expect("there is a server")[1]
    }

    /// What happens on the ways to every auth-service.
    pub fn feed(&self, mode: Mode) {
        self.feeds.iter().for_each(|feed| feed.set(mode));
    }

    pub fn auth_channels(&self) -> Vec<Channel> {
        self.auth.iter().map(Service::channel).collect()
    }

    pub fn task_channels(&self) -> Vec<Channel> {
        self.task.iter().map(Service::channel).collect()
    }
}

/// These flags, unless the first of them is among those that are given.
fn unless_given<'a>(flags: &'a [&'a str], given: &[&str]) -> &'a [&'a str] {
    if given.contains(&flags[0]) { &[] } else { flags }
}
