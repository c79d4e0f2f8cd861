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

use anyhow::Context;
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
    /// HTTP address of the server that has the store open, on this machine [env: LONGPOLE_SERVER] [default:
    /// http://127.0.0.1:16686].
    // Not clap's `env`: what the environment says would be in conflict with `--data-dir`.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Folder of the copy; must be empty or not exist.
    #[arg(value_name = "DEST")]
    target: PathBuf,
}

impl BackupArgs {
    fn endpoint_or(&self, of_environment: Option<String>) -> String {
        let given = self.endpoint.clone().or(of_environment);
        given.unwrap_or_else(|| "http://127.0.0.1:16686".to_owned())
    }
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
        None => server::ask(&args.endpoint_or(std::env::var("LONGPOLE_SERVER").ok()))?,
    };
    let copied = checkpoints::while_touched(&checkpoint, || span_store::restore(&checkpoint, &args.target));
    // Its files are shared with the store: it must not outlive what retention drops.
    checkpoints::remove(&checkpoint);
    copied?;
    verified(&args.target, "backed up to", out)
}

/// A checkpoint of a store that nobody serves.
fn offline(dir: &Path) -> anyhow::Result<PathBuf> {
    span_store::find(dir)?;
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        backup: BackupArgs,
    }

    #[test]
    fn a_server_of_the_environment_is_a_default_and_in_nobody_s_way() {
        let parse =
            |line: &[&str]| Line::try_parse_from(["backup"].iter().chain(line)).map(|line| line.backup);
        let none = parse(&["copy"]).unwrap();
        assert_eq!(none.endpoint_or(None), "http://127.0.0.1:16686");
        assert_eq!(none.endpoint_or(Some("http://b:1".to_owned())), "http://b:1");
        let given = parse(&["--endpoint", "http://a:1", "copy"]).unwrap();
        assert_eq!(given.endpoint_or(Some("http://b:1".to_owned())), "http://a:1");
        assert!(parse(&["--endpoint", "http://a:1", "--data-dir", "x", "copy"]).is_err());
        use clap::CommandFactory as _;
        let reads_environment = |argument: &clap::Arg| argument.get_env().is_some();
        assert!(!Line::command().get_arguments().any(reads_environment), "clap would count it as given");
    }

    #[test]
    fn a_server_is_found_at_every_form_of_its_address() {
        for wrong in ["https://127.0.0.1:1", ""] {
            let error = server::ask(wrong).unwrap_err().to_string();
            assert!(error.contains("is not a server URL"), "{error}");
        }
        let error = format!("{:#}", server::ask("127.0.0.1:1").unwrap_err());
        assert!(error.contains("no server at http://127.0.0.1:1") && error.contains("refused"), "{error}");
    }
}
