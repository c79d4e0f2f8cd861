//! Which crate is of which kind, and what that forbids.

use crate::graph::Graph;

/// What a crate may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes and values in, values out: no runtime, no clock, no files, no store.
    Pure,
    /// Threads and files, but no async runtime of its own making.
    Sync,
    /// Network services.
    Async,
    /// The program that joins them.
    Binary,
}

/// Every crate below `crates/`. A crate that is not here is refused, and so is a line without a crate.
const CRATES: &[(&str, Kind)] = &[
    ("trace-model", Kind::Pure),
    ("otlp-wire", Kind::Pure),
    ("latency", Kind::Pure),
    ("trace-analyze", Kind::Pure),
    ("trace-assemble", Kind::Pure),
    ("segment", Kind::Pure),
    ("span-store", Kind::Sync),
    ("query", Kind::Sync),
    ("ingest", Kind::Async),
    ("api", Kind::Async),
    ("longpole", Kind::Binary),
];

/// What must not be compiled into a pure crate, however far down.
const IMPURE: &[&str] = &["tokio", "rocksdb", "librocksdb-sys", "hyper", "tonic", "axum", "mio"];

const STORE: &str = "span-store";
const STORE_ENGINE: &[&str] = &["rocksdb", "librocksdb-sys"];

pub(crate) fn kind_of(name: &str) -> Option<Kind> {
    CRATES.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind)
}

pub(crate) fn pure_crates() -> impl Iterator<Item = &'static str> {
    CRATES.iter().filter(|(_, kind)| *kind == Kind::Pure).map(|(name, _)| *name)
}

/// Everything that is wrong with the graph, one line each.
pub(crate) fn check_graph(graph: &Graph) -> Vec<String> {
    let mut problems = unknown_names(graph);
    problems.extend(impure_dependencies(graph));
    problems.extend(engine_users(graph));
    problems
}

fn unknown_names(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, _) in CRATES {
        if !graph.members().any(|p| p.in_crates && p.name == *name) {
            problems.push(format!("{name}: listed in xtask/src/rules.rs, but there is no such crate"));
        }
    }
    for package in graph.members().filter(|p| p.in_crates && kind_of(&p.name).is_none()) {
        problems.push(format!("{}: not listed in xtask/src/rules.rs; say of which kind it is", package.name));
    }
    problems
}

fn impure_dependencies(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for name in pure_crates() {
        for impure in IMPURE {
            if let Some(path) = graph.path_to(name, impure) {
                problems.push(format!("{name}: depends on {impure} ({})", path.join(" -> ")));
            }
        }
    }
    problems
}

fn engine_users(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for package in graph.members().filter(|p| p.name != STORE) {
        for engine in STORE_ENGINE.iter().filter(|e| package.named.contains(**e)) {
            problems.push(format!("{}: names {engine}; only {STORE} may", package.name));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Package;

    fn add(graph: &mut Graph, name: &str, in_crates: bool, normal: &[&str]) {
        let package = Package {
            name: name.to_owned(),
            normal: normal.iter().map(|n| (*n).to_owned()).collect(),
            named: normal.iter().map(|n| (*n).to_owned()).collect(),
            member: in_crates,
            in_crates,
            ..Package::default()
        };
        graph.packages.insert(name.to_owned(), package);
    }

    /// All crates, with nothing wrong.
    fn clean() -> Graph {
        let mut graph = Graph::default();
        for (name, _) in CRATES {
            add(&mut graph, name, true, &[]);
        }
        for (name, normal) in [("tokio", &["mio"][..]), ("mio", &[]), ("rocksdb", &["librocksdb-sys"])] {
            add(&mut graph, name, false, normal);
        }
        add(&mut graph, "librocksdb-sys", false, &[]);
        add(&mut graph, "innocent", false, &["tokio"]);
        add(&mut graph, "span-store", true, &["rocksdb", "segment"]);
        graph
    }

    #[test]
    fn a_clean_graph_passes() {
        assert_eq!(check_graph(&clean()), Vec::<String>::new());
    }

    #[test]
    fn an_impure_dependency_is_found_however_deep_and_its_way_is_named() {
        let mut graph = clean();
        add(&mut graph, "segment", true, &["innocent"]);
        let problems = check_graph(&graph);
        assert_eq!(
            problems,
            [
                "segment: depends on tokio (segment -> innocent -> tokio)",
                "segment: depends on mio (segment -> innocent -> tokio -> mio)",
            ]
        );
    }

    #[test]
    fn a_cycle_of_dependencies_ends() {
        let mut graph = clean();
        add(&mut graph, "a", false, &["b"]);
        add(&mut graph, "b", false, &["a"]);
        add(&mut graph, "latency", true, &["a"]);
        assert!(check_graph(&graph).is_empty());
    }

    #[test]
    fn only_the_store_names_the_engine() {
        let mut graph = clean();
        add(&mut graph, "query", true, &["rocksdb"]);
        assert_eq!(check_graph(&graph), ["query: names rocksdb; only span-store may"]);
    }

    #[test]
    fn an_unknown_crate_and_a_missing_crate_are_errors() {
        let mut graph = clean();
        add(&mut graph, "newcomer", true, &[]);
        graph.packages.remove("latency");
        let problems = check_graph(&graph);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("latency: listed"), "{problems:?}");
        assert!(problems[1].starts_with("newcomer: not listed"), "{problems:?}");
    }
}
