//! `repair`: a new database of what can still be read, when RocksDB does not know its files any more.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::check;
use crate::command::ServeArgs;
use crate::config::Config;

/// The store to repair.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Folder of the store; no server may have it open.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// YAML file of the server, for the width of partitions.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Repairs a store, verifies it, and says what came back and what did not. Whether all did.
pub(crate) fn repair(args: &RepairArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let serve = ServeArgs {
        config: args.config.clone(),
        data_dir: Some(args.data_dir.clone()),
        otlp_grpc: None,
        otlp_http: None,
        http: None,
    };
    let config = Config::load(&serve)?;
    let repaired = span_store::repair(&args.data_dir, &config.store)?;
    for file in &repaired.replaced {
        writeln!(out, "left out, others hold the same: {file}")?;
    }
    for file in &repaired.unusable {
        writeln!(out, "cannot be used: {file}")?;
    }
    for file in &repaired.missing {
        writeln!(out, "is gone: {file}")?;
    }
    let report = check(&args.data_dir)?;
    report.write(out)?;
    let is_whole = repaired.unusable.is_empty() && repaired.missing.is_empty() && report.is_clean();
    if repaired.is_rest {
        let old = repaired.old.display();
        writeln!(out, "took the last step of an interrupted repair; the old files are in {old}")?;
        return Ok(is_whole);
    }
    writeln!(
        out,
        "brought back {} segments with {} spans, {} dictionaries, {} rollups and {} log frames; the old files are in {}, \
         to be removed when all is well",
        repaired.segments,
        repaired.spans,
        repaired.dictionaries,
        repaired.rollups,
        repaired.frames,
        repaired.old.display()
    )?;
    Ok(is_whole)
}
