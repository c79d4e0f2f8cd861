//! Checks of the workspace itself: `cargo run -p xtask -- check-pure`.
#![allow(clippy::print_stdout)]

mod graph;
mod rules;
mod source;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::graph::Graph;

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let outcome = match command.as_deref() {
        Some("check-pure") => check_pure(),
        other => {
            eprintln!("usage: cargo run -p xtask -- check-pure (got {other:?})");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check_pure() -> Result<()> {
    let metadata = MetadataCommand::new()
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .context("cargo metadata failed")?;
    let graph = Graph::from_metadata(&metadata)?;
    let mut problems = rules::check_graph(&graph);
    for member in graph.members() {
        if rules::kind_of(&member.name) == Some(rules::Kind::Pure) {
            problems.extend(source::check_crate(&member.name, &member.dir.join("src"))?);
        }
    }
    if !problems.is_empty() {
        bail!("{} problem(s)\n  {}", problems.len(), problems.join("\n  "));
    }
    println!(
        "check-pure: {} pure crates are pure, only span-store names RocksDB",
        rules::pure_crates().count()
    );
    Ok(())
}
