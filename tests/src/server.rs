//! `longpole serve` as a child process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::api::Api;
use crate::child::terminate;
use crate::export::Exporter;
use crate::files::program;
use crate::wait::eventually;

const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What a server is started with, and what stays when it is started again.
#[derive(Debug)]
pub struct ServerOptions {
    env: Vec<(String, String)>,
    otlp_grpc: String,
    otlp_http: String,
    http: String,
    folder: TempDir,
    data: Option<PathBuf>,
    open_files: Option<(u32, u32)>,
}

impl ServerOptions {
    /// Defaults and an empty store.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("longpole-test-").tempdir()?;
        let any = || "127.0.0.1:0".to_owned();
        let (otlp_grpc, otlp_http, http) = (any(), any(), any());
        Ok(Self { env: Vec::new(), otlp_grpc, otlp_http, http, folder, data: None, open_files: None })
    }

    /// Sets a configuration key by its environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets where OTLP/gRPC and OTLP/HTTP listen, instead of on free ports.
    #[must_use]
    pub fn otlp(mut self, grpc: &str, http: &str) -> Self {
        (self.otlp_grpc, self.otlp_http) = (grpc.to_owned(), http.to_owned());
        self
    }

    /// Puts the store elsewhere, for instance on another disk.
    #[must_use]
    pub fn data_in(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Sets the limits on open files that it is started with, soft and hard.
    #[must_use]
    pub fn open_files(mut self, soft: u32, hard: u32) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    /// Traces are taken for finished soon, and sealed soon: several segments in a short test.
    #[must_use]
    pub fn hasty(self) -> Self {
        self.env("LONGPOLE_ASSEMBLE__IDLE", "200ms")
            .env("LONGPOLE_ASSEMBLE__ROOT_WAIT", "200ms")
            .env("LONGPOLE_ASSEMBLE__IDLE_ROOTLESS", "2s")
            .env("LONGPOLE_SEAL__INTERVAL", "500ms")
    }

    /// Listens on a loopback address of its own and on the usual ports, which it finds free again when it is started
    /// again. See [`own_address`](crate::own_address).
    #[must_use]
    pub fn host(mut self, host: Ipv4Addr) -> Self {
        self.otlp_grpc = format!("{host}:4317");
        self.otlp_http = format!("{host}:4318");
        self.http = format!("{host}:16686");
        self
    }

    /// Where the store is.
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Server> {
        let (child, ready) = spawn(&self)?;
        Ok(Server { options: self, child: Some(child), ready })
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// The end of what the server said on standard error.
    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// A running server; it is killed when dropped.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    child: Option<Child>,
    ready: HashMap<String, String>,
}

impl Server {
    /// Starts with defaults.
    pub fn start() -> Result<Self> {
        ServerOptions::new()?.start()
    }

    /// `host:port` of OTLP/gRPC.
    pub fn grpc(&self) -> &str {
        self.ready.get("otlp_grpc").map_or("", String::as_str)
    }

    /// `host:port` of OTLP/HTTP.
    pub fn otlp_http(&self) -> &str {
        self.ready.get("otlp_http").map_or("", String::as_str)
    }

    /// `host:port` of the API.
    pub fn http(&self) -> &str {
        self.ready.get("http").map_or("", String::as_str)
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::new(self.http())
    }

    /// A client of its OTLP/gRPC.
    pub fn exporter(&self) -> Result<Exporter> {
        Exporter::connect(self.grpc())
    }

    /// Where the store is.
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir()
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it said on standard error, the end of it.
    pub fn log_tail(&self) -> String {
        self.options.log_tail()
    }

    /// Ends it at once, as a crash would: `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let child = self.child.take().context("the server is not running")?;
        terminate(child, STOP_LIMIT).with_context(|| format!("it said:\n{}", self.options.log_tail()))
    }

    /// Sets a configuration key for the next start.
    pub fn set_env(&mut self, key: &str, value: &str) {
        self.options.env.push((key.to_owned(), value.to_owned()));
    }

    /// The next start has the API where it is now, so that it can be asked before it is ready.
    pub fn stay_at_http(&mut self) {
        self.options.http = self.http().to_owned();
    }

    /// Starts it again over the same store. Unless it has a host of its own, the ports may be others.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the server is still running");
        }
        let (child, ready) = spawn(&self.options)?;
        self.child = Some(child);
        self.ready = ready;
        Ok(())
    }

    /// Starts it again and does not wait until it is ready. Where it listens must be said in its options, or be as before.
    pub fn begin_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the server is still running");
        }
        let mut command = command(&self.options, log(&self.options)?)?;
        self.child = Some(command.stdout(Stdio::null()).spawn().context("cannot start longpole")?);
        Ok(())
    }

    /// Starts it again, so that it looks at once for a dictionary for small segments, of which it has some, and waits
    /// until what is sealed from now on has one.
    pub fn adopt_dictionary(&mut self) -> Result<()> {
        self.terminate()?;
        self.start_again()?;
        eventually("a dictionary is adopted", Duration::from_secs(20), || {
            let status = self.api().json("/api/v1/status")?;
            ensure!(status["housekeeping"]["dictionaries"]["adopted"] == 1, "{}", status["housekeeping"]);
            Ok(())
        })
    }

    /// Runs another `longpole` command to its end and returns what it printed.
    pub fn run_command(&self, args: &[&str], file: Option<&Path>) -> Result<String> {
        let mut command = Command::new(program()?);
        command.args(args).args(file).stdin(Stdio::null());
        let output = command.output().context("cannot run longpole")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("longpole {args:?}: {}\n{text}\n{said}", output.status);
        }
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(options: &ServerOptions) -> Result<(Child, HashMap<String, String>)> {
    let mut child = command(options, log(options)?)?.spawn().context("cannot start longpole")?;
    let stdout = child.stdout.take().context("no standard output")?;
    match wait_until_ready(stdout) {
        Ok(ready) => Ok((child, ready)),
        Err(reason) => {
            let _ = child.kill();
            let _ = child.wait();
            bail!("longpole did not get ready: {reason:#}; it said:\n{}", options.log_tail())
        }
    }
}

fn log(options: &ServerOptions) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(options.log_path())?)
}

fn command(options: &ServerOptions, log: File) -> Result<Command> {
    let mut command = match options.open_files {
        None => Command::new(program()?),
        Some((soft, hard)) => limited(&program()?, soft, hard),
    };
    command.arg("serve").arg("--data-dir").arg(options.data_dir());
    command.args(["--otlp-grpc", &options.otlp_grpc, "--otlp-http", &options.otlp_http]);
    command.args(["--http", &options.http]);
    // Nothing of the caller's own settings.
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("LONGPOLE_")) {
        command.env_remove(key);
    }
    command.envs(options.env.iter().map(|(k, v)| (k, v)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    Ok(command)
}

/// The program under limits on open files, which only a shell sets without unsafe code.
fn limited(program: &Path, soft: u32, hard: u32) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(r#"ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" "$@""#))
        .arg(program);
    command
}

fn wait_until_ready(stdout: ChildStdout) -> Result<HashMap<String, String>> {
    let (sender, lines) = mpsc::channel();
    // Reads to the end, so that the server never waits for room in the pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).context("it ended, or said nothing for a minute")?;
        if let Some(rest) = line.strip_prefix("ready ") {
            let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
            let ready: HashMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            for key in ["otlp_grpc", "otlp_http", "http"] {
                ready.get(key).with_context(|| format!("no {key} in the ready line: {line}"))?;
            }
            return Ok(ready);
        }
    }
}
