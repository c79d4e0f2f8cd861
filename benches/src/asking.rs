//! Questions that go on while the load runs: a few a second, of every kind in turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use crate::http_client::HttpClient;

/// What is asked. What looks at one minute costs the same all the time; what looks at all that is kept grows with
/// it until retention holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Question {
    Slowest,
    TraceById,
    Latency,
    Bottlenecks,
    LatencyOfAll,
    BottlenecksOfAll,
    Status,
    Metrics,
}

impl Question {
    /// Those that are answered in milliseconds.
    pub const QUICK: [Self; 5] = [Self::Slowest, Self::TraceById, Self::Latency, Self::Status, Self::Metrics];

    /// Those that read much. They are asked over a connection of their own, so that the others need not wait; and of one service
    /// where traces begin, because with others there is hardly anything to sum up, and so few answers could not be compared.
    pub const LONG: [Self; 3] = [Self::Bottlenecks, Self::LatencyOfAll, Self::BottlenecksOfAll];

    /// What it is called in the verdict.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slowest => "slowest 20, last minute",
            Self::TraceById => "trace by id",
            Self::Latency => "percentiles, last minute",
            Self::Bottlenecks => "bottlenecks, last minute",
            Self::LatencyOfAll => "percentiles, last hour",
            Self::BottlenecksOfAll => "bottlenecks, last hour",
            Self::Status => "status",
            Self::Metrics => "metrics",
        }
    }

    fn path(self, service: &str, trace_id: &str, number: usize) -> String {
        // Another quantile each time, so that no cache of answers is measured.
        let quantile = 0.9 + (number % 1_000) as f64 / 11_000.0;
        match self {
            Self::Slowest => format!("/api/v1/traces?service={service}&limit=20&start=now-1m"),
            Self::TraceById => format!("/api/v1/traces/{trace_id}"),
            Self::Latency => {
                format!("/api/v1/latency?service={service}&quantiles=0.5,{quantile:.6}&start=now-1m")
            }
            Self::LatencyOfAll => {
                format!("/api/v1/latency?service={service}&quantiles=0.5,{quantile:.6}&start=now-1h")
            }
            Self::Bottlenecks => format!("/api/v1/bottlenecks?service={service}&start=now-1m"),
            Self::BottlenecksOfAll => format!("/api/v1/bottlenecks?service={service}&start=now-1h"),
            Self::Status => "/api/v1/status".to_owned(),
            Self::Metrics => "/metrics".to_owned(),
        }
    }
}

/// One question and how long its answer took.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Asked {
    pub unix_ms: u64,
    pub question: Question,
    pub took: Duration,
    pub status: u16,
}

/// What a status answer says of what is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub struct Stored {
    pub unix_ms: u64,
    pub segments: u64,
    pub partitions: u64,
    pub segment_bytes: u64,
    pub log_bytes: u64,
    pub open_spans: u64,
    pub rollups: u64,
    pub rollup_bytes: u64,
    pub merged_partitions: u64,
    pub merged_segments: u64,
    pub freed_partitions: u64,
    pub postponed: u64,
    pub damaged: u64,
}

impl Stored {
    /// Reads an answer of `/api/v1/status`.
    pub fn of(status: &Value, unix_ms: u64) -> Self {
        let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let tiers =
            || status["housekeeping"]["rollups"].as_object().into_iter().flatten().map(|(_, tier)| tier);
        let of_tiers = |key: &str| tiers().filter_map(|tier| tier[key].as_u64()).sum();
        Self {
            unix_ms,
            segments: number("/store/segments"),
            partitions: number("/store/partitions"),
            segment_bytes: number("/store/stored_bytes"),
            log_bytes: number("/store/log_bytes"),
            open_spans: number("/open/spans"),
            rollups: of_tiers("rollups"),
            rollup_bytes: of_tiers("bytes"),
            merged_partitions: number("/housekeeping/merged/partitions"),
            merged_segments: number("/housekeeping/merged/segments_before"),
            freed_partitions: number("/housekeeping/freed/partitions"),
            postponed: number("/housekeeping/postponed"),
            damaged: status["damaged"].as_array().map_or(0, |list| list.len() as u64),
        }
    }
}

/// All that was asked, and what the status answers said.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Answers {
    pub asked: Vec<Asked>,
    pub stored: Vec<Stored>,
}

impl Answers {
    /// Questions that were not answered with success, by kind and status. A trace that retention took between two
    /// questions is a 404.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for asked in self.asked.iter().filter(|asked| asked.status != 200) {
            *failures.entry(format!("{} {}", asked.question.name(), asked.status)).or_default() += 1;
        }
        failures
    }
}

/// Asks until it is stopped.
#[derive(Debug)]
pub struct Asking {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<Answers>>,
}

impl Asking {
    /// Asks the API so many of these questions a second, in turn and one after the other.
    pub fn start(http: &str, questions: &'static [Question], a_second: f64) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let client = HttpClient::new(http);
        let stop = Arc::clone(&stopping);
        let interval = Duration::from_secs_f64(1.0 / a_second.clamp(0.01, 1_000.0));
        let thread = std::thread::spawn(move || ask(&client, questions, interval, &stop));
        Self { stopping, thread }
    }

    /// Ends it after the question that is under way.
    ///
    /// # Errors
    /// If the server could not be reached.
    pub fn stop(self) -> Result<Answers> {
        self.stopping.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the questioner panicked"))?
    }
}

fn ask(
    client: &HttpClient,
    questions: &[Question],
    interval: Duration,
    stop: &AtomicBool,
) -> Result<Answers> {
    let mut answers = Answers::default();
    let (mut services, mut traces, mut entry) = (Vec::new(), Vec::new(), None);
    let mut due = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + interval).max(Instant::now());
        if services.is_empty() {
            services = names(&client.json("/api/v1/services")?, "services", "name");
        }
        let Some(question) = questions.get(number % questions.len().max(1)).copied() else { continue };
        number += 1;
        let is_long = Question::LONG.contains(&question);
        if is_long && entry.is_none() {
            entry = entry_service(&client.json("/api/v1/traces?limit=100")?);
        }
        let rotating = || pick(&services, number / questions.len());
        let Some(service) = (if is_long { entry.as_ref() } else { rotating() }) else { continue };
        let trace_id = pick(&traces, number);
        if question == Question::TraceById && trace_id.is_none() {
            continue;
        }
        let path = question.path(service, trace_id.map_or("", String::as_str), number);
        let answer = client.ask(&path)?;
        let unix_ms = unix_ms()?;
        answers.asked.push(Asked { unix_ms, question, took: answer.took, status: answer.status });
        let body = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        match question {
            Question::Slowest => traces = names(&body(), "traces", "trace_id"),
            Question::Status => answers.stored.push(Stored::of(&body(), unix_ms)),
            _ => {}
        }
    }
    Ok(answers)
}

fn pick(list: &[String], number: usize) -> Option<&String> {
    list.get(number.checked_rem(list.len())?)
}

/// The service where most of these traces begin.
fn entry_service(answer: &Value) -> Option<String> {
    let mut traces = BTreeMap::new();
    for trace in answer["traces"].as_array()? {
        if let Some(service) = trace["root"]["service"].as_str() {
            *traces.entry(service).or_insert(0) += 1;
        }
    }
    traces.into_iter().max_by_key(|(_, count)| *count).map(|(service, _)| service.to_owned())
}

fn names(answer: &Value, list: &str, key: &str) -> Vec<String> {
    let items = answer[list].as_array().into_iter().flatten();
    items.filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
}

fn unix_ms() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(u64::try_from(now.as_millis())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_question_is_asked() {
        let paths: Vec<String> = Question::QUICK
            .iter()
            .chain(&Question::LONG)
            .map(|question| question.path("cart", "ab", 3))
            .collect();
        let distinct: std::collections::BTreeSet<&String> = paths.iter().collect();
        assert_eq!((paths.len(), distinct.len()), (8, 8));
        assert!(paths.contains(&"/api/v1/traces/ab".to_owned()), "{paths:?}");
    }

    #[test]
    fn long_questions_are_about_a_service_where_traces_begin() {
        let began = |services: &[Option<&str>]| {
            let trace = |service: &Option<&str>| match service {
                Some(service) => json!({"root": {"service": service}}),
                None => json!({"root": null}),
            };
            json!({"traces": services.iter().map(trace).collect::<Vec<_>>()})
        };
        let answer = began(&[Some("cart"), None, Some("web"), Some("web"), None, None]);
        assert_eq!(entry_service(&answer), Some("web".to_owned()));
        assert_eq!(entry_service(&began(&[None])), None);
        assert_eq!(entry_service(&json!({})), None);
    }

    #[test]
    fn a_status_is_read() {
        let status = json!({
            "store": {"segments": 7, "partitions": 2, "stored_bytes": 900, "log_bytes": 30},
            "open": {"spans": 4},
            "housekeeping": {"merged": {"partitions": 1, "segments_before": 20}, "freed": {"partitions": 3},
                "postponed": 1,
                "rollups": {"minute": {"rollups": 2, "bytes": 70}, "hour": {"rollups": 1, "bytes": 5}}},
            "damaged": ["x"],
        });
        let wanted = Stored {
            unix_ms: 5,
            segments: 7,
            partitions: 2,
            segment_bytes: 900,
            log_bytes: 30,
            open_spans: 4,
            rollups: 3,
            rollup_bytes: 75,
            merged_partitions: 1,
            merged_segments: 20,
            freed_partitions: 3,
            postponed: 1,
            damaged: 1,
        };
        assert_eq!(Stored::of(&status, 5), wanted);
    }
}
