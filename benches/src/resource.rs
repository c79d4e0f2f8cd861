//! What a process has used, from `/proc`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

/// User and system time of a process in seconds. Readable until the process is waited for, also after its end.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let fields = stat_fields(pid)?;
    let ticks = |index: usize| -> Result<f64> {
        let field = fields.get(index).context("/proc/PID/stat is too short")?;
        field.parse::<u64>().map(|t| t as f64).context("/proc/PID/stat holds no number where it should")
    };
    // Fields 14 and 15 of proc(5), counted behind the name in brackets. USER_HZ is 100 on every Linux.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Whether the process has ended and only waits to be collected.
pub fn has_ended(pid: u32) -> bool {
    match stat_fields(pid) {
        Ok(fields) => fields.first().is_some_and(|state| state == "Z" || state == "X"),
        Err(_) => true,
    }
}

fn stat_fields(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("cannot read /proc/PID/stat")?;
    let (_, rest) = text.rsplit_once(')').context("/proc/PID/stat has no name in it")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// The highest resident memory so far, in MiB.
pub fn peak_rss_mib(pid: u32) -> Result<f64> {
    Ok(number_after(&format!("/proc/{pid}/status"), "VmHWM:")? / 1024.0)
}

/// Resident memory now, in MiB.
pub fn rss_mib(pid: u32) -> Result<f64> {
    Ok(number_after(&format!("/proc/{pid}/status"), "VmRSS:")? / 1024.0)
}

/// Bytes that went to the block layer.
pub fn bytes_written(pid: u32) -> Result<f64> {
    number_after(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn number_after(path: &str, key: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|w| w.parse().ok()).with_context(|| format!("{path} has no number after {key}"))
}

/// Of the resident memory, what belongs to no file, in MiB.
pub fn anonymous_mib(pid: u32) -> Result<f64> {
    Ok(number_after(&format!("/proc/{pid}/status"), "RssAnon:")? / 1024.0)
}

/// Threads now.
pub fn threads(pid: u32) -> Result<f64> {
    number_after(&format!("/proc/{pid}/status"), "Threads:")
}

/// Files, sockets and the like that the process has open.
pub fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("cannot list /proc/PID/fd")?.count())
}

/// What lies below a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Folder {
    /// Files.
    pub files: u64,
    /// Bytes they take on disk (allocated blocks, as `du` counts).
    pub bytes: u64,
    /// Of the files, those of RocksDB's write-ahead log.
    pub wal_files: u64,
    /// What these take on disk.
    pub wal_bytes: u64,
}

/// Looks at all below a folder. What goes while it looks is not counted.
pub fn folder(dir: &Path) -> Result<Folder> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = Folder::default();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            let metadata = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = metadata.blocks() * 512;
            sum.files += 1;
            sum.bytes += bytes;
            if path.extension().is_some_and(|extension| extension == "log") {
                sum.wal_files += 1;
                sum.wal_bytes += bytes;
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(peak_rss_mib(pid).unwrap() > 0.5);
        assert!(!has_ended(pid));
    }

    #[test]
    fn sums_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("in/file"), vec![7; 100_000]).unwrap();
        fs::write(dir.path().join("000012.log"), vec![7; 50_000]).unwrap();
        let found = folder(dir.path()).unwrap();
        assert!(found.bytes >= 150_000 && found.wal_bytes >= 50_000 && found.wal_bytes < 100_000);
        assert_eq!((found.files, found.wal_files), (2, 1));
        assert_eq!(folder(&dir.path().join("gone")).unwrap(), Folder::default());
    }
}
