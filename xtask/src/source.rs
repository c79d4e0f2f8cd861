//! What a pure crate's own source must not name: the clock, files, the network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const FORBIDDEN: &[&str] = &["std::time::Instant", "std::time::SystemTime", "std::fs", "std::net"];

/// Everything forbidden that the sources below `dir` name, one line each.
pub(crate) fn check_crate(name: &str, dir: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in rust_files(dir)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for path in forbidden_paths(&text) {
            let shown = file.strip_prefix(dir).unwrap_or(&file).display();
            problems.push(format!("{name}: src/{shown} names {path}"));
        }
    }
    Ok(problems)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The forbidden paths that a source names, also inside `use std::{…}` groups. Comments do not count.
fn forbidden_paths(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .flat_map(|line| line.chars().chain(std::iter::once(' ')))
        .collect();
    let packed = pack(&code);
    let mut found = Vec::new();
    for (at, _) in packed.match_indices("std::") {
        let before = packed[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        expand("", &packed[at..], &mut found);
    }
    let mut hits: Vec<String> = found.into_iter().filter(|p| is_forbidden(p)).collect();
    hits.sort();
    hits.dedup();
    hits
}

fn is_forbidden(path: &str) -> bool {
    FORBIDDEN.iter().any(|f| path == *f || path.strip_prefix(f).is_some_and(|rest| rest.starts_with("::")))
        || path == "std::time::*"
}

/// Spaces only where they keep two words apart.
fn pack(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut pending = false;
    for c in code.chars() {
        if c.is_whitespace() {
            pending = true;
            continue;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if pending && word(c) && out.chars().next_back().is_some_and(word) {
            out.push(' ');
        }
        pending = false;
        out.push(c);
    }
    out
}

/// Reads one path or `use` tree at the start of `rest`, adds every path it names, returns what it took.
fn expand(prefix: &str, rest: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    let mut at = 0;
    loop {
        let tail = &rest[at..];
        if tail.starts_with('{') {
            return at + expand_group(&path, tail, found);
        }
        let word = tail.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(tail.len());
        path.push_str(&tail[..word]);
        at += word;
        if word == 0 || !rest[at..].starts_with("::") {
            found.push(path);
            return at;
        }
        path.push_str("::");
        at += 2;
    }
}

fn expand_group(prefix: &str, group: &str, found: &mut Vec<String>) -> usize {
    let mut at = 1;
    loop {
        at += expand(prefix, &group[at..], found);
        // Whatever stands between two branches: `as name`, blanks, the comma.
        match group[at..].find([',', '}']) {
            Some(end) if group[at + end..].starts_with(',') => at += end + 1,
            Some(end) => return at + end + 1,
            None => return group.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_found() {
        assert_eq!(forbidden_paths("let t = std::time::Instant::now();"), ["std::time::Instant::now"]);
        assert_eq!(forbidden_paths("use std::fs;"), ["std::fs"]);
        assert_eq!(forbidden_paths("fn f(a: ::std::net::IpAddr) {}"), ["std::net::IpAddr"]);
    }

    #[test]
    fn groups_are_opened() {
        let text =
            "use std::{collections::{BTreeMap, BTreeSet}, fs as files,\n  time::{Duration, SystemTime}};";
        assert_eq!(forbidden_paths(text), ["std::fs", "std::time::SystemTime"]);
        assert_eq!(forbidden_paths("use std::time::*;"), ["std::time::*"]);
    }

    #[test]
    fn what_only_looks_alike_passes() {
        for text in [
            "use std::time::Duration;",
            "// std::fs is not used here",
            "use my_std::fs;",
            "use std::fmt;",
            "use std::{io::{self, Read}, mem};",
        ] {
            assert_eq!(forbidden_paths(text), Vec::<String>::new(), "{text}");
        }
    }
}
