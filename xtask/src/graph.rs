//! The dependency graph, reduced to what the rules ask about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata};

/// One package, by its id in `cargo metadata`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Ids of the packages that are compiled into it (neither dev nor build dependencies).
    pub(crate) normal: BTreeSet<String>,
    /// Names of all packages that its manifest names, of any kind.
    pub(crate) named: BTreeSet<String>,
    pub(crate) member: bool,
    /// In the workspace's `crates/` folder, and so bound by the rules for crates.
    pub(crate) in_crates: bool,
    pub(crate) dir: PathBuf,
}

/// Packages by id.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) packages: BTreeMap<String, Package>,
}

impl Graph {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let mut graph = Self::default();
        let crates = metadata.workspace_root.join("crates");
        for package in &metadata.packages {
            let dir = package.manifest_path.parent().context("a manifest without a folder")?;
            let member = metadata.workspace_members.contains(&package.id);
            let entry = Package {
                name: package.name.to_string(),
                normal: BTreeSet::new(),
                named: package.dependencies.iter().map(|d| d.name.clone()).collect(),
                member,
                in_crates: member && dir.starts_with(&crates),
                dir: dir.as_std_path().to_owned(),
            };
            graph.packages.insert(package.id.repr.clone(), entry);
        }
        let resolve = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
        for node in &resolve.nodes {
            let normal = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal))
                .map(|dep| dep.pkg.repr.clone())
                .collect();
            graph.packages.get_mut(&node.id.repr).context("a node without a package")?.normal = normal;
        }
        Ok(graph)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|p| p.member)
    }

    /// The shortest way from a package to one called `target`, by names, both ends included.
    pub(crate) fn path_to(&self, from: &str, target: &str) -> Option<Vec<String>> {
        let start = self.packages.iter().find(|(_, p)| p.member && p.name == from)?.0;
        let mut came_from: BTreeMap<&str, Option<&str>> = BTreeMap::from([(start.as_str(), None)]);
        let mut queue = VecDeque::from([start.as_str()]);
        while let Some(id) = queue.pop_front() {
            let package = self.packages.get(id)?;
            if package.name == target {
                return Some(self.names_back(&came_from, id));
            }
            for next in &package.normal {
                if !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, Some(id));
                    queue.push_back(next);
                }
            }
        }
        None
    }

    fn names_back(&self, came_from: &BTreeMap<&str, Option<&str>>, end: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = Some(end);
        while let Some(id) = at {
            names.push(self.packages.get(id).map_or_else(|| id.to_owned(), |p| p.name.clone()));
            at = came_from.get(id).copied().flatten();
        }
        names.reverse();
        names
    }
}
