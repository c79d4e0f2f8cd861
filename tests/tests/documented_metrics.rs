//! Promise: the README describes every metric of Longpole's own, and names none that is not there.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use std::collections::BTreeSet;
use std::time::Duration;

use longpole_tests::traffic::{now_nanos, request, trace};
use longpole_tests::{Server, eventually, package_dir};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Words that are a metric's whole name; `longpole_…_total` and file names are none.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("longpole_") && !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

/// Names of samples, without what help texts mention. Each has a help text.
fn metrics(server: &Server) -> anyhow::Result<BTreeSet<String>> {
    let answer = server.api().get("/metrics", "text/plain")?;
    let text = String::from_utf8(answer.body)?;
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, said) = help.split_once(' ').unwrap_or((help, ""));
        assert!(!said.trim().is_empty(), "nothing is said of {name}");
    }
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    Ok(types.filter(|name| name.starts_with("longpole_")).map(str::to_owned).collect())
}

#[test]
fn readme_and_metrics_name_the_same() {
    let server = Server::start().unwrap();
    let spans = trace(&mut StdRng::seed_from_u64(1), now_nanos());
    server.exporter().unwrap().export(&request(&spans)).unwrap();
    let has_all = || {
        let found = metrics(&server)?;
        // It is there once a span is.
        anyhow::ensure!(found.contains("longpole_oldest_span_timestamp_seconds"), "{found:?}");
        Ok(found)
    };
    let found = eventually("metrics of a stored span", Duration::from_secs(20), has_all).unwrap();

    let readme = std::fs::read_to_string(package_dir().join("../README.md")).unwrap();
    let described = names_in(&readme);
    let missing: Vec<_> = found.difference(&described).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    let unknown: Vec<_> = described.difference(&found).collect();
    assert!(unknown.is_empty(), "in the README, and not in /metrics: {unknown:?}");

    let status = server.api().json("/api/v1/status").unwrap();
    for counter in status["counters"].as_object().unwrap().keys() {
        let name = format!("longpole_{counter}_total");
        assert!(found.contains(&name), "{counter} of the status is not in /metrics as {name}");
    }
}
