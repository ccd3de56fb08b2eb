//! A Patroni cluster on loopback with the files of `deploy/ha`: HAProxy, and three nodes with PostgreSQL, Patroni and etcd.

mod host;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::template::{find_program, free_address, render};
use host::{cleaner, own, postgres_processes, postgres_programs, send, server_user};

/// How long three servers may take to start, on a machine with two cores.
const START_TIMEOUT: Duration = Duration::from_secs(120);

const POLL_PAUSE: Duration = Duration::from_millis(100);

const NODES: [&str; 3] = ["one", "two", "three"];

/// The passwords of the database users.
const PASSWORD: &str = "secret";

/// A running cluster. Dropping it ends all its programs.
pub struct Patroni {
    folder: TempDir,
    user: Option<[u32; 2]>,
    nodes: [Node; 3],
    haproxy: SocketAddr,
    cleaner: Child,
    programs: Vec<Child>,
}

/// A machine with a PostgreSQL server, Patroni and a member of etcd.
struct Node {
    name: &'static str,
    postgres: SocketAddr,
    api: SocketAddr,
    /// The addresses of etcd for clients and for its other members.
    etcd: [SocketAddr; 2],
    /// Etcd and Patroni, while they run.
    programs: Vec<Child>,
}

/// A member of the cluster, as Patroni describes it.
#[derive(Debug)]
struct Member {
    role: String,
    state: String,
}

impl Patroni {
    /// Starts a cluster, and waits until it has a primary with two replicas.
    pub async fn start(is_synchronous: bool) -> Self {
        // Not in TMPDIR, whose path may be too long for a socket.
        let folder = tempfile::Builder::new().prefix("taskey-ha.").tempdir_in("/tmp").expect("a folder");
        let user = server_user();
        own(folder.path(), user);
        let cleaner = cleaner(folder.path());
        let nodes = NODES.map(|name| Node {
            name,
            postgres: free_address(),
            api: free_address(),
            etcd: [free_address(), free_address()],
            programs: Vec::new(),
        });
        let mut cluster = Self { folder, user, nodes, haproxy: free_address(), cleaner, programs: Vec::new() };
        for index in 0..NODES.len() {
            cluster.start_etcd(index);
        }
        for index in 0..NODES.len() {
            cluster.start_patroni(index, is_synchronous);
        }
        cluster.start_haproxy();
        let complete = async {
            while !cluster.is_complete(is_synchronous).await {
                sleep(POLL_PAUSE).await;
            }
        };
        timeout(START_TIMEOUT, complete).await.expect("the cluster has a primary and two replicas");
        cluster
    }

    /// Returns the address of HAProxy, which connects to the primary.
    pub fn address(&self) -> SocketAddr {
        self.haproxy
    }

    /// Returns the environment of services that connect to the database.
    pub fn environment() -> [(String, String); 1] {
        [("PGPASSWORD".to_owned(), PASSWORD.to_owned())]
    }

    /// Returns the index of the primary.
    pub async fn primary(&self) -> usize {
        for (index, node) in self.nodes.iter().enumerate() {
            if get(node.api, "primary").await.is_some() {
                return index;
            }
        }
        panic!("no node is the primary")
    }

    /// Waits until a node other than `former` is the primary.
    pub async fn wait_for_other_primary(&self, former: usize, limit: Duration) {
        let others = || self.nodes.iter().enumerate().filter(|(index, _)| *index != former);
        let promoted = async {
            loop {
                for (_, node) in others() {
                    if get(node.api, "primary").await.is_some() {
                        return;
                    }
                }
                sleep(POLL_PAUSE).await;
            }
        };
        assert!(timeout(limit, promoted).await.is_ok(), "no replica was promoted within {limit:?}");
    }

    /// Kills all processes of a node, as a crash of its machine does.
    pub fn kill(&mut self, index: usize) {
        self.signal(index, "KILL");
        for mut program in self.nodes[index].programs.drain(..) {
            _ = program.wait();
        }
    }

    /// Stops all processes of a node. Its connections stay open.
    pub fn freeze(&self, index: usize) {
        self.signal(index, "STOP");
    }

    /// Lets a frozen node continue.
    pub fn thaw(&self, index: usize) {
        self.signal(index, "CONT");
    }

    /// Lets the primary send nothing more to the replicas.
    pub async fn stop_replication(&self) {
        let processes = postgres_processes(&self.data(self.primary().await));
        let command_line = |pid: &String| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let senders: Vec<_> = processes.into_iter().filter(|pid| command_line(pid).contains("walsender")).collect();
        assert_eq!(senders.len(), NODES.len() - 1, "each replica has a sender");
        send("STOP", &senders);
    }

    /// Sends a signal to all processes of a node, first to those that start others.
    fn signal(&self, index: usize, name: &str) {
        let programs: Vec<_> = self.nodes[index].programs.iter().map(|program| program.id().to_string()).collect();
        send(name, &programs);
        send(name, &postgres_processes(&self.data(index)));
    }

    fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(NODES[index])
    }

    fn start_etcd(&mut self, index: usize) {
        let members = self.nodes.each_ref().map(|node| format!("{}=http://{}", node.name, node.etcd[1])).join(",");
        let Node { name, etcd: [client, peer], .. } = self.nodes[index];
        let data = self.folder.path().join(name).with_extension("etcd").display().to_string();
        let variables = [
            ("NODE", name),
            ("DATA", &data),
            ("ADDRESS", "127.0.0.1"),
            ("CLIENT_PORT", &client.port().to_string()),
            ("PEER_PORT", &peer.port().to_string()),
            ("MEMBERS", &members),
        ];
        let file = self.folder.path().join(name).with_extension("etcd.yml");
        fs::write(&file, render("ha/etcd.yml", &variables) + "unsafe-no-fsync: true\n").expect("written");
        let mut command = Command::new(find_program("etcd"));
        command.arg("--config-file").arg(file);
        let etcd = self.spawn(command, &format!("etcd-{name}"));
        self.nodes[index].programs.push(etcd);
    }

    fn start_haproxy(&mut self) {
        let [one, two, three] = self.nodes.each_ref().map(|node| node.postgres.to_string());
        let [api_one, api_two, api_three] = self.nodes.each_ref().map(|node| node.api.port().to_string());
        let address = self.haproxy.to_string();
        let variables = [
            ("HAPROXY_ADDRESS", &address[..]),
            ("NODE_ONE", &one),
            ("NODE_TWO", &two),
            ("NODE_THREE", &three),
            ("API_ONE", &api_one),
            ("API_TWO", &api_two),
            ("API_THREE", &api_three),
        ];
        let file = self.folder.path().join("haproxy.cfg");
        fs::write(&file, render("ha/haproxy.cfg", &variables)).expect("written");
        let mut command = Command::new(find_program("haproxy"));
        command.arg("-db").arg("-f").arg(file);
        let haproxy = self.spawn(command, "haproxy");
        self.programs.push(haproxy);
    }

    fn start_patroni(&mut self, index: usize, is_synchronous: bool) {
        let etcd = self.nodes.each_ref().map(|node| node.etcd[0].to_string()).join(",");
        let (node, folder, data) = (&self.nodes[index], self.folder.path(), self.data(index));
        let (api_port, postgres_port) = (node.api.port().to_string(), node.postgres.port().to_string());
        let (data, programs) = (data.display().to_string(), postgres_programs());
        let variables = [
            ("NODE", node.name),
            ("ETCD", &etcd),
            ("ADDRESS", "127.0.0.1"),
            ("NETWORK", "127.0.0.0/8"),
            ("API_PORT", &api_port),
            ("POSTGRES_PORT", &postgres_port),
            ("SYNCHRONOUS", if is_synchronous { "true" } else { "false" }),
            ("DATA", &data),
            ("POSTGRES_BIN", &programs),
            ("SOCKETS", folder.to_str().expect("made of ASCII")),
            ("SUPERUSER_PASSWORD", PASSWORD),
            ("REPLICATION_PASSWORD", PASSWORD),
            ("REWIND_PASSWORD", PASSWORD),
        ];
        let file = folder.join(node.name).with_extension("yml");
        fs::write(&file, render("ha/patroni.yml", &variables)).expect("written");
        own(&file, self.user);
        let mut command = Command::new(find_program("patroni"));
        command.arg(file);
        let patroni = self.spawn(command, node.name);
        self.nodes[index].programs.push(patroni);
    }

    /// Starts a program as the user of the servers. Its log and its process id are files in the folder.
    fn spawn(&self, mut command: Command, name: &str) -> Child {
        let file = |extension: &str| self.folder.path().join(name).with_extension(extension);
        let log = fs::File::create(file("log")).expect("a log");
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("LC_ALL", "C");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        if let Some([user, group]) = self.user {
            command.uid(user).gid(group).env("HOME", self.folder.path());
        }
        let child = command.spawn().expect("the program starts");
        fs::write(file("pid"), format!("{}\n", child.id())).expect("written");
        child
    }

    /// Reports whether there is a primary, and each replica receives its WAL.
    async fn is_complete(&self, is_synchronous: bool) -> bool {
        let members = self.members().await;
        let count = |role: &str| {
            let receives = |member: &&Member| role == "leader" || ["streaming", "running"].contains(&&member.state[..]);
            members.iter().filter(|member| member.role == role).filter(receives).count()
        };
        let synchronous = count("sync_standby");
        count("leader") == 1 && synchronous + count("replica") == 2 && (synchronous == 1) == is_synchronous
    }

    async fn members(&self) -> Vec<Member> {
        let Some(cluster) = get(self.nodes[0].api, "cluster").await else { return Vec::new() };
        let text = |member: &Value, name: &str| member[name].as_str().unwrap_or_default().to_owned();
        let member = |member| Member { role: text(member, "role"), state: text(member, "state") };
        cluster["members"].as_array().map(|members| members.iter().map(member).collect()).unwrap_or_default()
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let etcd = NODES.map(|name| format!("etcd-{name}"));
            for log in NODES.into_iter().chain(["haproxy"]).chain(etcd.iter().map(String::as_str)) {
                let text = fs::read_to_string(self.folder.path().join(log).with_extension("log")).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                _ = writeln!(io::stderr(), "-- the end of the log of {log}\n{end}");
            }
        }
        drop(self.cleaner.stdin.take());
        _ = self.cleaner.wait();
        let on_nodes = self.nodes.iter_mut().flat_map(|node| node.programs.drain(..));
        for mut program in self.programs.drain(..).chain(on_nodes) {
            _ = program.wait();
        }
    }
}

/// Calls the API of Patroni. Returns `None` unless the response is a success.
async fn get(api: SocketAddr, path: &str) -> Option<Value> {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--fail", "--max-time", "1", &format!("http://{api}/{path}")]);
    let output = command.output().await.expect("curl is installed");
    serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
}
