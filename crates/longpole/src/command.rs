//! The command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use span_store::StoreError;
use tokio::sync::watch;

use crate::client::{self, Exit, LiveOverview, OverviewUrls, Screen, Server};
use crate::config::{Config, ConfigError};
use crate::copies;
use crate::demo::{ShopOptions, run_shop};
use crate::import;
use crate::serve::{self, Addresses};

/// Distributed tracing collector and latency analyzer: spans in over OTLP, the slow traces and the bottleneck
/// service out.
#[derive(Debug, Parser)]
#[command(name = "longpole", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect spans over OTLP, keep them, and answer questions over HTTP.
    Serve(ServeArgs),
    /// The server together with a simulated shop that sends it real OTLP.
    Demo(DemoArgs),
    /// Send files of spans to a running server, the same way as an SDK would.
    Import(import::ImportArgs),
    /// Copy a store, while it serves or not, and verify the copy.
    Backup(copies::BackupArgs),
    /// Copy a backup into a folder that is empty or does not exist, and verify it.
    Restore(copies::RestoreArgs),
    /// Read everything that is stored and say what is wrong with it; a server may have it open. Exit code 1 if
    /// anything is.
    Check(copies::CheckArgs),
    /// Make a new store of what can be read of one that does not open, because MANIFEST, CURRENT or another file of its
    /// catalog is gone. The old files are kept. Exit code 1 if not all came back.
    Repair(copies::RepairArgs),
    /// Ask a running server whether it is ready; for container health checks. Exit code 0 if it is.
    Healthcheck {
        /// The server's HTTP address.
        #[arg(long, default_value = "http://127.0.0.1:16686", env = "LONGPOLE_SERVER")]
        server: String,
    },
    /// Print every configuration key with its value, unit and meaning.
    Config(ServeArgs),
    #[command(flatten)]
    Client(Box<client::ClientCommand>),
}

/// What is given on the command line wins over the environment, which wins over the file.
#[derive(Debug, Args, Clone)]
pub(crate) struct ServeArgs {
    /// YAML file; every key may be left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the store [default: ./longpole-data; for the demo one that goes with it].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address for OTLP/gRPC [default: 127.0.0.1:4317]; port 0 picks a free one, unix:/path is a socket.
    #[arg(long, value_name = "ADDR")]
    pub(crate) otlp_grpc: Option<String>,
    /// Address for OTLP/HTTP [default: 127.0.0.1:4318]; port 0 picks a free one, unix:/path is a socket.
    #[arg(long, value_name = "ADDR")]
    pub(crate) otlp_http: Option<String>,
    /// Address for the API and /metrics [default: 127.0.0.1:16686]; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The same seed makes the same shop.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Traces a second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Stop after this many seconds; 0 goes on until interrupted.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
}

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", told(&error));
            exit_for(&error).into()
        }
    }
}

/// An error with its causes, each told once: some errors have the words of their cause in their own.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code that belongs to an error.
fn exit_for(error: &anyhow::Error) -> Exit {
    if error.is::<ConfigError>() {
        return Exit::Usage;
    }
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::NoStore(_)) => Exit::NotFound,
        _ => client::exit_for(error),
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        Command::Client(command) => Ok(client::run(&command, &Screen::stdout(), &mut out)?.into()),
        Command::Serve(args) => {
            let config = Config::load(&args)?;
            serve::init_logs(&config.log, false);
            runtime()?.block_on(serve::run(config, announce))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(args) => demo(args),
        Command::Import(args) => {
            let report = runtime()?.block_on(import::import(args))?;
            report.write(&mut out)?;
            Ok(report.exit().into())
        }
        Command::Backup(args) => Ok(clean(copies::backup(&args, &mut out)?)),
        Command::Restore(args) => Ok(clean(copies::restore(&args, &mut out)?)),
        Command::Check(args) => Ok(clean(copies::run_check(&args, &mut out)?)),
        Command::Repair(args) => Ok(clean(copies::repair(&args, &mut out)?)),
        Command::Healthcheck { server } => Ok(healthcheck(&server)),
        Command::Config(args) => {
            Config::load(&args)?.write(&mut out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn clean(clean: bool) -> ExitCode {
    ExitCode::from(u8::from(!clean))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The line that scripts wait for.
fn announce(at: &Addresses) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "ready otlp_grpc={} otlp_http={} http={}", at.otlp_grpc, at.otlp_http, at.http);
    let _ = out.flush();
}

/// Docker has a use of its own for 2, so whatever is wrong is 1.
fn healthcheck(server: &str) -> ExitCode {
    match Server::new(server).and_then(|server| server.ready()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "not ready: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let scratch = tempfile::tempdir()?;
    let mut config = Config::load(&args.serve)?;
    if !config.is_data_dir_given {
        config.data_dir = scratch.path().to_path_buf();
    }
    let terminal = std::io::stdout().is_terminal();
    serve::init_logs(&config.log, terminal);
    let (stop, stopped) = watch::channel(false);
    let (ready, addresses) = std::sync::mpsc::sync_channel(1);
    let runtime = runtime()?;
    let seconds = args.seconds;
    let result = runtime.block_on(async move {
        let server = tokio::spawn(serve::run(config, move |at| {
            let _ = ready.send(at.clone());
        }));
        // However long a replay takes; a server that ends instead hangs up.
        let addresses = tokio::task::spawn_blocking(move || addresses.recv()).await?;
        let Ok(at) = addresses else {
            return server.await?;
        };
        let options = ShopOptions {
            endpoint: at.otlp_grpc.to_string(),
            seed: args.seed,
            traces_per_second: args.rate,
            duration: (seconds > 0).then(|| Duration::from_secs(seconds)),
            ..ShopOptions::default()
        };
        let shop = tokio::spawn(run_shop(options, stopped.clone()));
        let screen = std::thread::spawn(move || show(&at, terminal, &stopped));
        let result = if seconds > 0 {
            let report = shop.await?;
            stop.send_replace(true);
            serve::request_stop();
            server.await??;
            report.map(|_| ())
        } else {
            let served = server.await?;
            stop.send_replace(true);
            let _ = shop.await;
            served
        };
        let _ = tokio::task::spawn_blocking(move || screen.join()).await;
        result
    });
    result?;
    Ok(ExitCode::SUCCESS)
}

/// Draws the overview until told to stop: every second on a terminal, now and then elsewhere.
fn show(at: &Addresses, terminal: bool, stopped: &watch::Receiver<bool>) {
    let http = format!("http://{}", at.http);
    let Ok(server) = Server::new(&http) else { return };
    let urls =
        OverviewUrls { otlp_grpc: at.otlp_grpc.to_string(), otlp_http: at.otlp_http.to_string(), http };
    let screen = Screen::stdout();
    let mut overview = LiveOverview::new(server, urls);
    // In tenths of a second. Elsewhere than on a terminal the first picture should have something to show.
    let (every, first) = if terminal { (10, 2) } else { (150, 80) };
    let mut out = std::io::stdout();
    let mut ticks = every - first;
    while !*stopped.borrow() {
        ticks += 1;
        if ticks >= every {
            ticks = 0;
            // The server may be starting or stopping; the next tick tries again.
            let _ = overview.tick(&screen, &mut out);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_what_was_wrong_by_the_exit_code() {
        let nowhere = PathBuf::from("/nowhere");
        let wrong = ServeArgs {
            config: Some(nowhere.clone()),
            data_dir: None,
            otlp_grpc: None,
            otlp_http: None,
            http: Some("nonsense".to_owned()),
        };
        let refused = anyhow::Error::from(Config::load(&wrong).unwrap_err());
        assert_eq!(exit_for(&refused), Exit::Usage);
        let text = told(&refused);
        assert!(text.contains("/nowhere: ") && text.contains("server.http (command line)"), "{text}");
        let absent = anyhow::Error::from(StoreError::NoStore(nowhere.clone()));
        assert_eq!(exit_for(&absent), Exit::NotFound);
        assert_eq!(exit_for(&anyhow::Error::from(StoreError::Locked(nowhere))), Exit::Failure);
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = std::io::Error::other("no such device");
        let error =
            anyhow::Error::from(StoreError::Folder { dir: "x".into(), source }).context("cannot copy");
        assert_eq!(told(&error), "cannot copy: cannot use the data folder x: no such device");
    }
}
