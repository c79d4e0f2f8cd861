//! `longpole import`: files of OTLP, sent to a server the way an SDK would.
//!
//! A file is OTLP/JSON lines or OTLP protobuf, plain or compressed; which it is shows in its first
//! bytes. What cannot be read is named with its place and does not stop the rest.

mod channel;
mod fields;
mod json;
mod reader;
mod report;
mod send;
mod waiting;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use reader::{Encoding, Found, Unread};
use report::Collected;
use send::{Outcome, Sender};
use waiting::Waiting;

pub(crate) use channel::{channel, is_worth_a_retry};
pub(crate) use report::ImportReport;

/// Requests read ahead of what is being sent.
const READ_AHEAD: usize = 2;

/// What to import, and where to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// Files of OTLP/JSON lines or OTLP protobuf, plain, .gz or .zst; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// OTLP/gRPC address of the server: host:port, or unix:/path
    #[arg(long, default_value = "127.0.0.1:4317", value_name = "ADDR")]
    pub(crate) endpoint: String,
    /// Requests under way at the same time
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) in_flight: usize,
}

/// Sends the files' spans to the server. Bad lines are in the report, not an error.
///
/// # Errors
/// If the server cannot be reached, or stays unreachable while importing.
pub(crate) async fn import(args: ImportArgs) -> Result<ImportReport> {
    let bar = progress_bar(&args.files);
    let sender = Sender::connect(&args.endpoint, Waiting::new(bar.clone())).await?;
    let (found, mut next) = mpsc::channel(READ_AHEAD);
    // A thread of its own: one that waits for standard input must not hold up the end.
    let reading = std::thread::spawn({
        let (files, bar) = (args.files.clone(), bar.clone());
        move || reader::read_all(&files, &bar, &found)
    });
    let permits = Arc::new(Semaphore::new(args.in_flight.max(1)));
    let mut collected = Collected::default();
    let mut tasks: JoinSet<Vec<Outcome>> = JoinSet::new();
    while let Some(found) = next.recv().await {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let sender = sender.clone();
        tasks.spawn(async move {
            let outcomes = handle(&sender, found).await;
            drop(permit);
            outcomes
        });
        while let Some(done) = tasks.try_join_next() {
            collected.add_all(done?);
        }
        bar.set_message(collected.progress());
        if collected.has_given_up() {
            break;
        }
    }
    drop(next);
    while let Some(done) = tasks.join_next().await {
        collected.add_all(done?);
    }
    if !collected.has_given_up() && reading.join().is_err() {
        bail!("reading the files stopped unexpectedly after {}", collected.progress());
    }
    bar.finish_and_clear();
    collected.finish(&args.endpoint)
}

/// What became of one thing found in a file: an outcome for each request that was made of it.
async fn handle(sender: &Sender, found: Found) -> Vec<Outcome> {
    let place = found.place;
    let prepared = match found.content {
        Ok((encoding, bytes)) => tokio::task::spawn_blocking(move || prepare(encoding, &bytes)).await,
        Err(Unread::Message(reason)) => return vec![Outcome::Bad { place, reason }],
        Err(Unread::File(error)) => return vec![Outcome::Unopened { file: place.file, error }],
    };
    let requests = match prepared {
        Ok(Ok(requests)) => requests,
        Ok(Err(reason)) => return vec![Outcome::Bad { place, reason }],
        Err(stopped) => return vec![Outcome::Bad { place, reason: format!("could not be read: {stopped}") }],
    };
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        outcomes.push(sender.send(&place, request).await);
    }
    outcomes
}

/// The requests to send for what was found: as protobuf, none larger than a server takes.
fn prepare(encoding: Encoding, bytes: &[u8]) -> Result<Vec<fields::Request>, String> {
    match encoding {
        Encoding::Json => fields::split(&json::to_protobuf(bytes)?),
        Encoding::Protobuf => fields::split(bytes),
    }
}

/// A bar over the bytes of the files, on standard error if that is a terminal.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let sizes: Option<Vec<u64>> = files
        .iter()
        .map(|file| std::fs::metadata(file).ok().filter(|m| m.is_file()).map(|m| m.len()))
        .collect();
    let (bar, template) = match sizes {
        Some(sizes) => {
            let template = "  {bar:32.208/238} {percent:>3} %  {msg}  {binary_bytes_per_sec}  {eta} left";
            (ProgressBar::new(sizes.iter().sum()), template)
        }
        None => (ProgressBar::new_spinner(), "  {spinner} {binary_bytes} read  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests;
