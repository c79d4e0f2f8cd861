//! Promise: traces recorded from real applications arrive whole, and every critical path in them adds up.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::shop::critical_path;
use longpole_tests::{Api, Server, eventually, recorded};

/// From the beginning of the recordings to the end of them and more.
const ALL_TIME: &str = "start=2020-01-01T00:00:00Z&end=2030-01-01T00:00:00Z";

/// What one file gave.
struct Imported {
    server: Server,
    traces: Vec<String>,
}

#[test]
fn every_file_arrives_whole_and_adds_up() {
    let folder = recorded();
    let files = listed_files(&folder).unwrap();
    assert!(!files.is_empty(), "the README lists no files");
    for (name, spans, traces) in files {
        let imported = import(&folder.join(&name), spans, traces).unwrap();
        let api = imported.server.api();
        for trace in &imported.traces {
            critical_path(&api, trace).unwrap();
        }
        println!("{name}: {spans} spans, {traces} traces, every critical path adds up");
    }
}

#[test]
fn the_injected_delay_shows_where_it_was_injected() {
    let folder = recorded();
    let files = listed_files(&folder).unwrap();
    let shares = |name: &str| {
        let (file, spans, traces) = files.iter().find(|f| f.0.starts_with(name)).unwrap();
        shares(&import(&folder.join(file), *spans, *traces).unwrap()).unwrap()
    };
    let before = shares("online-boutique-baseline");
    let after = shares("online-boutique-currency-network-delay");
    let mut gains: Vec<(String, f64)> = after
        .iter()
        .map(|(service, share)| (service.clone(), share - before.get(service).copied().unwrap_or(0.0)))
        .collect();
    gains.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (service, gain) in &gains {
        let was = before.get(service).copied().unwrap_or(0.0);
        println!(
            "{service:<40} {:>6.2} % -> {:>6.2} %  ({:+.2})",
            was * 100.0,
            after[service] * 100.0,
            gain * 100.0
        );
    }
    // The delay is on the network, so it is either the service's own or the way of a client to it.
    let first = &gains.first().unwrap().0;
    assert!(first.contains("currencyservice"), "the greatest gain is that of {first}");
}

/// Files with their numbers of spans and traces, from the table in the README.
fn listed_files(folder: &Path) -> Result<Vec<(String, u64, usize)>> {
    let readme = std::fs::read_to_string(folder.join("README.md"))?;
    let mut files = Vec::new();
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number =
            |text: &str| text.replace(',', "").parse::<u64>().with_context(|| format!("{text} in {line}"));
        let spans = number(cells.get(2).context("no spans")?)?;
        let traces = number(cells.get(3).context("no traces")?)?;
        files.push((cells[1].trim_matches('`').to_owned(), spans, traces as usize));
    }
    Ok(files)
}

fn import(file: &Path, spans: u64, traces: usize) -> Result<Imported> {
    let server = Server::start()?;
    let address = server.grpc().to_owned();
    server.run_command(&["import", "--endpoint", &address], Some(file))?;
    let found = eventually("all spans and traces", Duration::from_secs(30), || {
        let api = server.api();
        let services = api.json("/api/v1/services")?;
        let list = services["services"].as_array().context("no services")?;
        let stored: u64 = list.iter().filter_map(|s| s["spans"].as_u64()).sum();
        ensure!(stored == spans, "{stored} of {spans} spans");
        let found = trace_ids(&api)?;
        ensure!(found.len() == traces, "{} of {traces} traces", found.len());
        Ok(found)
    })?;
    Ok(Imported { server, traces: found })
}

fn trace_ids(api: &Api) -> Result<Vec<String>> {
    let items = api.walk_traces(ALL_TIME, 200)?;
    items.iter().map(|t| Ok(t["trace_id"].as_str().context("a trace without an id")?.to_owned())).collect()
}

/// Share of each service, and of each way between two, in all critical paths together.
fn shares(imported: &Imported) -> Result<BTreeMap<String, f64>> {
    let api = imported.server.api();
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mut total = 0.0;
    for trace in &imported.traces {
        let path = api.json(&format!("/api/v1/traces/{trace}/critical-path?max_segments=100000"))?;
        for segment in path["segments"].as_array().context("no segments")? {
            let at = |key: &str| segment[key].as_str().and_then(|t| t.parse::<u64>().ok()).context("no time");
            let length = (at("end_unix_nano")? - at("start_unix_nano")?) as f64;
            let edge = &segment["edge"];
            let name = match (edge["client"].as_str(), edge["server"].as_str()) {
                (Some(client), Some(server)) => format!("{client} -> {server}"),
                _ => segment["service"].as_str().unwrap_or_default().to_owned(),
            };
            *sums.entry(name).or_default() += length;
            total += length;
        }
    }
    Ok(sums.into_iter().map(|(name, sum)| (name, sum / total)).collect())
}
