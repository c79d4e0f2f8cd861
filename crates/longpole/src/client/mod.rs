//! The commands that ask a running server: `traces`, `trace`, `latency`, `bottlenecks`.
//!
//! Each prints a table for people, or with `-o json` the body of the API as it came.

mod bottlenecks;
mod http;
mod latency;
mod model;
mod overview;
mod rows;
mod screen;
mod table;
mod terminal;
mod text;
mod trace;
mod traces;
mod waterfall;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

pub(crate) use bottlenecks::BottlenecksArgs;
pub(crate) use http::base_url;
pub(crate) use http::{ClientError, Server};
pub(crate) use latency::LatencyArgs;
pub(crate) use overview::{LiveOverview, OverviewUrls};
pub(crate) use screen::Screen;
pub(crate) use trace::TraceArgs;
pub(crate) use traces::TracesArgs;

/// How a command ended: the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Ok,
    /// It could not.
    Failure,
    /// What was asked makes no sense.
    Usage,
    /// What was asked for is not there.
    NotFound,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The commands against a running server, to be flattened into the program's own.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ClientCommand {
    /// Find traces: the slowest of a window, or the newest
    Traces(TracesArgs),
    /// Show one trace as a waterfall with its critical path
    Trace(TraceArgs),
    /// Percentiles, rates and errors of every operation
    Latency(LatencyArgs),
    /// Rank what requests wait for, by share of their critical path
    Bottlenecks(BottlenecksArgs),
}

/// Which server to ask and how to print its answer.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Base URL of the server
    #[arg(long, env = "LONGPOLE_SERVER", default_value = "http://127.0.0.1:16686", value_name = "URL")]
    pub(crate) server: String,
    /// `table` for people, `json` for programs: the API's answer as it is
    #[arg(short, long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned, with bars.
    Table,
    /// The body of the API.
    Json,
}

/// Runs a command against the server it names and writes the answer to `out`.
///
/// A reader that has seen enough (`| head`) is not an error.
///
/// # Errors
/// If `out` cannot be written, the server cannot be reached, or it refused. [`exit_for`] gives
/// the exit code of such an error.
pub(crate) fn run(command: &ClientCommand, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let done = match command {
        ClientCommand::Traces(args) => traces::run(args, screen, out),
        ClientCommand::Trace(args) => trace::run(args, screen, out),
        ClientCommand::Latency(args) => latency::run(args, screen, out),
        ClientCommand::Bottlenecks(args) => bottlenecks::run(args, screen, out),
    };
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Ok),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The exit code that belongs to an error of [`run`].
pub(crate) fn exit_for(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<ClientError>().map_or(Exit::Failure, ClientError::exit)
}

/// Parameters of a query, those given only.
#[derive(Debug, Default)]
pub(crate) struct Params(pub(crate) Vec<(&'static str, String)>);

impl Params {
    /// Adds `name=value` if there is a value.
    fn with<T: ToString>(mut self, name: &'static str, value: Option<&T>) -> Self {
        if let Some(value) = value {
            self.0.push((name, value.to_string()));
        }
        self
    }
}
