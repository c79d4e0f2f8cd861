//! The servers under test, each a process of its own in a folder of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::resource;
use crate::schedule::Limit;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs)]
pub enum Target {
    NullRaw,
    NullProst,
    Longpole,
}

impl Target {
    /// Its name in the tables, which is its program's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::NullRaw => "null-raw",
            Self::NullProst => "null-prost",
            Self::Longpole => "longpole",
        }
    }
}

/// A program next to this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    let path = here.parent().context("this program is in no folder")?.join(name);
    if !path.is_file() {
        bail!("{} is not there; build it with `cargo build --release --workspace`", path.display());
    }
    Ok(path)
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    target: Target,
    child: Child,
    dir: TempDir,
    settings: Settings,
    ready: HashMap<String, String>,
}

/// Longpole's settings, as environment variables and their values.
pub type Settings = Vec<(String, String)>;

impl Server {
    /// Starts a target with an empty store below `parent` and waits until it is ready.
    pub fn start(target: Target, parent: &Path, settings: Settings) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("longpole-bench-").tempdir_in(parent)?;
        let (child, ready) = launch(target, dir.path(), &settings)?;
        Ok(Self { target, child, dir, settings, ready })
    }

    /// Starts it again over the same store, after [`Server::drain`] or [`Server::crash`]. Returns how long it took to be ready.
    pub fn start_again(&mut self) -> Result<Duration> {
        self.child.wait()?;
        let started = Instant::now();
        (self.child, self.ready) = launch(self.target, self.dir.path(), &self.settings)?;
        Ok(started.elapsed())
    }

    /// Ends it at once, as a crash would: `kill -9`.
    pub fn crash(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it said on standard error since it was last started.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("stderr.log"))?)
    }

    /// An address from the ready line.
    pub fn address(&self, key: &str) -> Result<&str> {
        self.ready.get(key).map(String::as_str).with_context(|| format!("the ready line has no {key}"))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data folder, which the null servers do not make.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Waits until it uses next to no CPU: five seconds in a row under 0.05 s each, three minutes at most.
    pub fn wait_until_idle(&self) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(180);
        let mut quiet = 0;
        let mut last = resource::cpu_seconds(self.pid())?;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_secs(1));
            let now = resource::cpu_seconds(self.pid())?;
            quiet = if now - last < 0.05 { quiet + 1 } else { 0 };
            last = now;
            if quiet == 5 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks it to stop and waits until it has. It can still be measured until it is dropped.
    pub fn drain(&mut self) -> Result<()> {
        // The shell's `kill` keeps this package free of unsafe code.
        let status = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        if !status.success() {
            bail!("cannot signal process {}", self.pid());
        }
        let deadline = Instant::now() + Duration::from_secs(180);
        while !resource::has_ended(self.pid()) {
            if Instant::now() > deadline {
                bail!("the server did not stop within three minutes of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(target: Target, dir: &Path, settings: &Settings) -> Result<(Child, HashMap<String, String>)> {
    let mut command = Command::new(program(target.name())?);
    match target {
        Target::Longpole => {
            command.arg("serve").arg("--data-dir").arg(dir.join("data"));
            // It is held, not kept: it must not count among the bytes that spans take.
            command.env("LONGPOLE_STORE__BALLAST", "0B");
            command.envs(settings.iter().map(|(key, value)| (key, value)));
            for flag in ["--otlp-grpc", "--otlp-http", "--http"] {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        Target::NullRaw | Target::NullProst => {
            command.args(["--listen", "127.0.0.1:0"]);
        }
    }
    let log = File::create(dir.join("stderr.log"))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", target.name()))?;
    let stdout = child.stdout.take().context("no standard output")?;
    match wait_until_ready(stdout) {
        Ok(ready) => Ok((child, ready)),
        Err(reason) => {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(dir.join("stderr.log")).unwrap_or_default();
            Err(reason).with_context(|| format!("{} did not get ready; it said:\n{log}", target.name()))
        }
    }
}

fn wait_until_ready(stdout: std::process::ChildStdout) -> Result<HashMap<String, String>> {
    let (sender, lines) = mpsc::channel();
    // Reads to the end, so that the server never waits for room in the pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).context("no ready line within a minute, or it ended before")?;
        if let Some(rest) = line.strip_prefix("ready ") {
            let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
            return Ok(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        }
    }
}

/// What the load generator is to do.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Sending<'a> {
    pub address: &'a str,
    pub limit: Limit,
    /// Spans a second; as fast as it goes without one.
    pub rate: Option<u64>,
    pub seed: u64,
    pub files: &'a [PathBuf],
    /// Spans of a request and of the pool, if not those of the generator.
    pub batch: Option<(usize, usize)>,
}

/// Runs the load generator and returns what it printed.
///
/// # Errors
/// If it fails, or prints no JSON.
pub fn loadgen(sending: &Sending<'_>) -> Result<Value> {
    let mut command = Command::new(program("loadgen")?);
    command.args(["--endpoint", sending.address, "--samples", "300", "--seed", &sending.seed.to_string()]);
    match sending.limit {
        Limit::Spans(spans) => command.args(["--spans", &spans.to_string()]),
        Limit::Time(time) => command.args(["--seconds", &time.as_secs().to_string()]),
    };
    if let Some(rate) = sending.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if let Some((batch, pool)) = sending.batch {
        command.args(["--batch", &batch.to_string(), "--pool", &pool.to_string()]);
    }
    let output = command
        .args(sending.files.iter().flat_map(|file| [Path::new("--file"), file]))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run loadgen")?;
    if !output.status.success() {
        bail!("loadgen failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("loadgen printed no JSON")
}
