//! `backup`, `restore`, `check` and `repair`: copies of a store, whether all that is stored can be read, and a new
//! store of what can.

mod check;
mod checkpoints;
mod repair;
mod rollup;
mod segment;
mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use span_store::{SpanStore, StoreError, StoreOptions};

pub(crate) use check::{Report, check};
pub(crate) use checkpoints::{ABANDONED, ABANDONED_WITHOUT_ROOM, sweep};
pub(crate) use repair::{RepairArgs, repair};
pub(crate) use server::routes;

/// Which store, and where the copy goes.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Folder of a store that no server has open.
    #[arg(long, value_name = "DIR", conflicts_with = "endpoint")]
    data_dir: Option<PathBuf>,
    /// HTTP address of the server that has the store open, on this machine [default: http://127.0.0.1:16686].
    #[arg(long, value_name = "URL", env = "LONGPOLE_SERVER")]
    endpoint: Option<String>,
    /// Folder of the copy; must be empty or not exist.
    #[arg(value_name = "DEST")]
    target: PathBuf,
}

/// A copy, and where the store goes.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Folder that `longpole backup` wrote.
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Folder of the store; must be empty or not exist.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// The store to look at.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder of the store; a server may have it open.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Copies a store, verifies the copy, and says so.
pub(crate) fn backup(args: &BackupArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let checkpoint = match &args.data_dir {
        Some(dir) => offline(dir)?,
        None => server::ask(args.endpoint.as_deref().unwrap_or("http://127.0.0.1:16686"))?,
    };
    let copied = checkpoints::while_touched(&checkpoint, || span_store::restore(&checkpoint, &args.target));
    // Its files are shared with the store: it must not outlive what retention drops.
    checkpoints::remove(&checkpoint);
    copied?;
    verified(&args.target, "backed up to", out)
}

/// A checkpoint of a store that nobody serves.
fn offline(dir: &Path) -> anyhow::Result<PathBuf> {
    ensure!(dir.join("rocksdb/CURRENT").is_file(), StoreError::NoStore(dir.to_owned()));
    let (store, ..) = SpanStore::open(dir, StoreOptions::default()).map_err(|error| match error {
        StoreError::Locked(dir) => anyhow::anyhow!(
            "a server has {} open; ask it for the backup with --endpoint URL instead of --data-dir",
            dir.display()
        ),
        other => other.into(),
    })?;
    sweep(dir, Duration::ZERO);
    checkpoints::make(&store).context("cannot make a checkpoint")
}

/// Copies a backup back and verifies it.
pub(crate) fn restore(args: &RestoreArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    span_store::restore(&args.source, &args.data_dir)?;
    verified(&args.data_dir, "restored to", out)
}

fn verified(dir: &Path, done: &str, out: &mut dyn Write) -> anyhow::Result<bool> {
    let report = check(dir)?;
    report.write(out)?;
    writeln!(out, "{done} {}", dir.display())?;
    Ok(report.is_clean())
}

/// Verifies everything in a store.
pub(crate) fn run_check(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let report: Report = check(&args.data_dir)?;
    report.write(out)?;
    Ok(report.is_clean())
}
