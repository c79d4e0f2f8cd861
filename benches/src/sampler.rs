//! What a process uses and what its data folder holds, again and again.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};

use crate::quantiles::median;
use crate::resource::{self, Folder};

/// One look.
#[derive(Debug, Clone, Copy, serde::Serialize)]
#[allow(missing_docs)]
pub struct Sample {
    pub unix_ms: u64,
    pub rss_mib: f64,
    /// Of that, what is not of files.
    pub anonymous_mib: f64,
    /// User and system time since the start of the process.
    pub cpu_seconds: f64,
    pub open_files: usize,
    pub threads: f64,
    pub folder: Folder,
}

/// Takes samples until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl Sampler {
    /// Looks at a process every `interval`, and at its data folder if there is one.
    pub fn start(pid: u32, data: Option<PathBuf>, interval: Duration) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut samples = vec![sample(pid, data.as_deref())?];
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                samples.push(sample(pid, data.as_deref())?);
            }
            Ok(samples)
        });
        Self { stop, thread }
    }

    /// All samples.
    ///
    /// # Errors
    /// If the process ended meanwhile.
    pub fn stop(self) -> Result<Vec<Sample>> {
        // If it ended by itself, joining says why.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the sampler panicked"))?
    }
}

fn sample(pid: u32, data: Option<&Path>) -> Result<Sample> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Sample {
        unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        rss_mib: resource::rss_mib(pid)?,
        anonymous_mib: resource::anonymous_mib(pid)?,
        cpu_seconds: resource::cpu_seconds(pid)?,
        open_files: resource::open_files(pid)?,
        threads: resource::threads(pid)?,
        folder: data.map_or(Ok(Folder::default()), resource::folder)?,
    })
}

/// Resident memory in the first and in the last minute, MiB: the median of each. Of a run under three minutes, the
/// first and the last third.
pub fn first_and_last_minute(samples: &[Sample]) -> Option<(f64, f64)> {
    let (first, last) = (samples.first()?.unix_ms, samples.last()?.unix_ms);
    let minute = 60_000.min((last - first) / 3);
    let of = |in_it: &dyn Fn(u64) -> bool| {
        let values: Vec<f64> = samples.iter().filter(|s| in_it(s.unix_ms)).map(|s| s.rss_mib).collect();
        median(&values)
    };
    Some((of(&|at| at <= first + minute)?, of(&|at| at >= last - minute)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64, rss_mib: f64) -> Sample {
        let folder = Folder::default();
        Sample {
            unix_ms: second * 1_000,
            rss_mib,
            anonymous_mib: 0.0,
            cpu_seconds: 0.0,
            open_files: 0,
            threads: 0.0,
            folder,
        }
    }

    #[test]
    fn the_first_minute_and_the_last() {
        let long: Vec<Sample> = (0..=600).map(|s| at(s, s as f64)).collect();
        assert_eq!(first_and_last_minute(&long), Some((30.0, 570.0)));
        let short: Vec<Sample> = (0..=30).map(|s| at(s, s as f64)).collect();
        assert_eq!(first_and_last_minute(&short), Some((5.0, 25.0)));
        assert_eq!(first_and_last_minute(&[]), None);
    }

    #[test]
    fn samples_this_process() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("000007.log"), vec![7; 100_000]).unwrap();
        let data = Some(dir.path().to_owned());
        let samples = Sampler::start(std::process::id(), data, Duration::from_secs(60)).stop().unwrap();
        assert!(samples[0].rss_mib > 0.5 && samples[0].open_files > 2 && samples[0].threads >= 2.0);
        assert_eq!((samples[0].folder.files, samples[0].folder.wal_files), (1, 1));
    }
}
