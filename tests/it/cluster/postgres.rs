//! PostgreSQL servers of a test, from the packages of the system, as an ordinary user on loopback.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::test_node::free_port;

/// Settings of a server that is small and starts fast. It syncs, as the nodes ask for.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "shared_buffers=16MB",
    "max_connections=40",
    "wal_level=replica",
    "max_wal_senders=4",
    "log_min_messages=warning",
];

/// Folder of PostgreSQL's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions.map(|entry| entry.expect("an entry").path()).max();
    newest.expect("a version").join("bin")
}

/// Command of PostgreSQL, as a user who is not root: it refuses to run as root.
fn command(program: &str) -> Command {
    let mut command = Command::new(programs().join(program));
    let id = |flag: &str, name: &[&str]| {
        let output = Command::new("id").arg(flag).args(name).output();
        let output = String::from_utf8(output.expect("id runs").stdout).expect("text");
        output.trim().parse::<u32>().expect("a number")
    };
    if id("-u", &[]) == 0 {
        command
            .uid(id("-u", &["postgres"]))
            .gid(id("-g", &["postgres"]));
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let status = command.status().expect("PostgreSQL's programs run");
    assert!(status.success(), "{command:?}");
}

/// Running server; killed when dropped.
pub struct Postgres {
    folder: TempDir,
    pub port: u16,
    child: Child,
}

impl Postgres {
    /// Starts a new server, which waits for the standbys in `standby_names` at each commit.
    pub fn start(standby_names: &str) -> Self {
        let folder = tempfile::tempdir_in("/tmp").expect("a temporary folder");
        open_to_all(folder.path());
        let data = folder.path().join("data");
        run(command("initdb")
            .args([
                "--auth=trust",
                "--username=user_of_a_test",
                "--no-sync",
                "-D",
            ])
            .arg(&data));
        let port = free_port();
        // In its file, so that a test can change it.
        set_standby_names(&data, standby_names);
        let child = spawn_server(&data, port);
        let server = Self {
            folder,
            port,
            child,
        };
        server.wait_until_ready();
        server
    }

    /// Starts a standby of this server with the name `name`, once it has copied everything.
    pub fn start_standby(&self, name: &str) -> Self {
        let folder = tempfile::tempdir_in("/tmp").expect("a temporary folder");
        open_to_all(folder.path());
        let data = folder.path().join("data");
        let primary = format!(
            "host=127.0.0.1 port={} user=user_of_a_test application_name={name}",
            self.port
        );
        run(command("pg_basebackup")
            .args(["--checkpoint=fast", "--no-sync", "-R", "-d", &primary, "-D"])
            .arg(&data));
        set_standby_names(&data, "");
        let port = free_port();
        let child = spawn_server(&data, port);
        let server = Self {
            folder,
            port,
            child,
        };
        server.wait_until_ready();
        server
    }

    /// Makes a standby a primary that waits for nobody.
    pub fn promote(&self) {
        run(command("pg_ctl")
            .args(["promote", "-w", "-D"])
            .arg(self.folder.path().join("data")));
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        // The processes of its sessions end when they notice.
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was a child");
    }

    /// Starts a server again that was killed.
    pub fn restart(&mut self) {
        let data = self.folder.path().join("data");
        // The processes of the killed server may still hold its memory.
        for _ in 0..600 {
            self.child = spawn_server(&data, self.port);
            if self.try_wait_until_ready() {
                return;
            }
        }
        panic!("the server does not start again");
    }

    /// Executes `statement` and returns the first column of each row.
    pub async fn query(&self, statement: &str) -> Vec<String> {
        let address = format!(
            "host=127.0.0.1 port={} user=user_of_a_test dbname=postgres",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls)
            .await
            .expect("the server accepts connections");
        actix_rt::spawn(async move {
            // Ends with the client.
            let _ = connection.await;
        });
        let rows = client.simple_query(statement).await.expect("a statement");
        rows.iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    }

    fn wait_until_ready(&self) {
        for _ in 0..2_400 {
            if self.is_ready() {
                return;
            }
            thread::park_timeout(Duration::from_millis(25));
        }
        panic!("the server is not ready");
    }

    fn try_wait_until_ready(&mut self) -> bool {
        for _ in 0..2_400 {
            if self.is_ready() {
                return true;
            }
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            thread::park_timeout(Duration::from_millis(25));
        }
        false
    }

    fn is_ready(&self) -> bool {
        let mut ready = command("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        ready.status().expect("it runs").success()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Ignored: the server may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_standby_names(data: &Path, names: &str) {
    let line = format!("\nsynchronous_standby_names = '{names}'\n");
    let settings = data.join("postgresql.auto.conf");
    let written = fs::read_to_string(&settings).expect("a new server has it");
    fs::write(&settings, written + &line).expect("writable");
}

fn spawn_server(data: &Path, port: u16) -> Child {
    let mut server = command("postgres");
    server.arg("-D").arg(data).args(["-p", &port.to_string()]);
    server.arg("-k").arg(data);
    for setting in SETTINGS {
        server.args(["-c", setting]);
    }
    server.spawn().expect("the server starts")
}

/// Lets the server's user write to the folder.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder, all).expect("its owner");
}
