//! A client program: it prints lines of JSON, and runs until its standard input ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::wait::eventually;

const LINE_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(60);

/// One running program; killed when dropped. It stays in the process group of the test, so that whoever ends that
/// ends it as well, and it ends by itself when the test does, as its standard input closes then.
#[derive(Debug)]
pub struct App {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
}

impl App {
    /// Starts `command`; what it says on standard error goes to a file in `logs`.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the program never waits for room in the pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Self { name: name.to_owned(), child, stdin, lines, log })
    }

    /// What it said on standard error.
    pub fn said(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The port that its first line says.
    pub fn port(&self) -> Result<u16> {
        let line = self.lines.recv_timeout(LINE_LIMIT);
        let line = line.with_context(|| format!("{} says no port: {}", self.name, self.said()))?;
        let line: Value = serde_json::from_str(&line).with_context(|| format!("{}: {line}", self.name))?;
        let port = line["port"].as_u64().with_context(|| format!("{}: no port in {line}", self.name))?;
        Ok(u16::try_from(port)?)
    }

    /// Lets it end by itself, which must succeed, and returns the lines that it printed since.
    pub fn finish(&mut self) -> Result<Vec<Value>> {
        drop(self.stdin.take());
        let status = eventually(&self.name, END_LIMIT, || {
            self.child.try_wait()?.context("the program is still running")
        })?;
        if !status.success() {
            bail!("{}: {status}: {}", self.name, self.said());
        }
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(LINE_LIMIT) {
            lines.push(serde_json::from_str(&line).with_context(|| format!("{}: {line}", self.name))?);
        }
        Ok(lines)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
