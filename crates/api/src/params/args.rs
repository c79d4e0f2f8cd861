//! The parameters of one request, checked against the table of its route.

use axum::extract::Query;
use axum::http::Uri;
use trace_model::{NanoDuration, UnixNanos};

use super::nearest::nearest;
use super::table::{Kind, Param, Route};
use super::time::{clip, duration, instant};
use crate::ApiError;

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Time(UnixNanos),
    Duration(NanoDuration),
    Word(&'static str),
    Words(Vec<&'static str>),
    Integer(u64),
    Quantiles(Vec<f64>),
    Flag(bool),
}

/// The parameters that were given, and the defaults of those that were not.
#[derive(Debug)]
pub(crate) struct Args {
    values: Vec<(&'static str, Value)>,
    now: UnixNanos,
}

impl Args {
    /// Checks the query of `uri`. `now` is what `now` means in it.
    pub(crate) fn read(route: &Route, uri: &Uri, now: UnixNanos) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| ApiError::invalid_query("the query string cannot be taken apart into name=value"))?;
        let mut values: Vec<(&'static str, Value)> = Vec::with_capacity(pairs.len());
        for (name, text) in &pairs {
            let param = find(route, name)?;
            let value = value_of(param, text, now)?;
            if values.iter().any(|(known, _)| *known == param.name) {
                return Err(ApiError::invalid(name, format!("{name} is given more than once")));
            }
            values.push((param.name, value));
        }
        for param in route.params {
            let Some(default) = param.default else { continue };
            let known = values.iter().any(|(known, _)| *known == param.name);
            // The default of a time depends on the other end of its window: see `window`.
            if !known && !matches!(param.kind, Kind::Time) {
                values.push((param.name, value_of(param, default, now)?));
            }
        }
        Ok(Self { values, now })
    }

    /// What `now` means.
    pub(crate) fn now(&self) -> UnixNanos {
        self.now
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A text, or what a cursor was given as.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let Some(Value::Text(text)) = self.get(name) else { return None };
        Some(text)
    }

    /// An instant.
    pub(crate) fn time(&self, name: &str) -> Option<UnixNanos> {
        let Some(Value::Time(at)) = self.get(name) else { return None };
        Some(*at)
    }

    /// A duration.
    pub(crate) fn duration(&self, name: &str) -> Option<NanoDuration> {
        let Some(Value::Duration(duration)) = self.get(name) else { return None };
        Some(*duration)
    }

    /// One of the words of the table.
    pub(crate) fn word(&self, name: &str) -> Option<&'static str> {
        let Some(Value::Word(word)) = self.get(name) else { return None };
        Some(word)
    }

    /// Some of the words of the table.
    pub(crate) fn words(&self, name: &str) -> &[&'static str] {
        let Some(Value::Words(words)) = self.get(name) else { return &[] };
        words
    }

    /// A whole number, also a part in thousandths.
    pub(crate) fn integer(&self, name: &str) -> Option<u64> {
        let Some(Value::Integer(number)) = self.get(name) else { return None };
        Some(*number)
    }

    /// Quantiles.
    pub(crate) fn quantiles(&self, name: &str) -> &[f64] {
        let Some(Value::Quantiles(quantiles)) = self.get(name) else { return &[] };
        quantiles
    }

    /// Whether the JSON is to be indented.
    pub(crate) fn pretty(&self) -> bool {
        self.get("pretty") == Some(&Value::Flag(true))
    }
}

fn find(route: &Route, name: &str) -> Result<&'static Param, ApiError> {
    route.params.iter().find(|param| param.name == name).ok_or_else(|| {
        let near = nearest(name, route.params.iter().map(|param| param.name)).unwrap_or("pretty");
        let name = clip(name);
        ApiError::unknown(&name, format!("{} has no parameter `{name}`; did you mean `{near}`?", route.path))
    })
}

fn value_of(param: &Param, text: &str, now: UnixNanos) -> Result<Value, ApiError> {
    let invalid = |message: String| ApiError::invalid(param.name, message);
    match param.kind {
        Kind::Later(reason) => Err(ApiError::not_supported(param.name, reason)),
        Kind::Text | Kind::Cursor if text.is_empty() => {
            Err(invalid(format!("{} must not be empty; leave it out for any", param.name)))
        }
        Kind::Text | Kind::Cursor => Ok(Value::Text(text.to_owned())),
        Kind::Time => instant(text, now).map(Value::Time).map_err(invalid),
        Kind::Duration => duration(text).map(Value::Duration).map_err(invalid),
        Kind::Word { built, later } => word(param.name, text, built, later),
        Kind::Words(known) => words(text, known).map(Value::Words).map_err(invalid),
        Kind::Integer { least, most } => integer(text, least, most).map(Value::Integer).map_err(invalid),
        Kind::Quantiles => quantiles(text).map(Value::Quantiles).map_err(invalid),
        Kind::Permille => permille(text).map(Value::Integer).map_err(invalid),
        Kind::Flag => flag(text).map(Value::Flag).map_err(invalid),
    }
}

fn word(name: &str, text: &str, built: &[&'static str], later: &[&'static str]) -> Result<Value, ApiError> {
    if let Some(word) = built.iter().find(|word| **word == text) {
        return Ok(Value::Word(word));
    }
    let accepted = built.join(", ");
    if later.contains(&text) {
        return Err(ApiError::not_supported(
            name,
            format!("{name}={text} is not built yet; accepted: {accepted}"),
        ));
    }
    Err(ApiError::invalid(name, format!("`{}` is not one of {accepted}", clip(text))))
}

fn words(text: &str, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
    if text.is_empty() || text == "none" {
        return Ok(Vec::new());
    }
    let one = |part: &str| known.iter().find(|word| **word == part).copied();
    text.split(',')
        .map(|part| one(part).ok_or_else(|| format!("`{}` is not one of {}", clip(part), known.join(", "))))
        .collect()
}

fn integer(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("`{}` is not a whole number from {least} to {most}", clip(text)))
}

fn quantiles(text: &str) -> Result<Vec<f64>, String> {
    const MOST: usize = 20;
    let one = |part: &str| part.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q));
    let parsed: Option<Vec<f64>> = text.split(',').map(one).collect();
    parsed.filter(|list| list.len() <= MOST).ok_or_else(|| {
        format!("`{}` is not a list of up to {MOST} numbers from 0 to 1, such as 0.5,0.99", clip(text))
    })
}

/// A part from 0 to 1 in thousandths.
fn permille(text: &str) -> Result<u64, String> {
    let read = || {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
            return None;
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths).filter(|sum| *sum <= 1_000)
    };
    read().ok_or_else(|| format!("`{}` is not a part from 0 to 1 with at most three decimals", clip(text)))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{}` is neither true nor false", clip(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{BOTTLENECKS, LATENCY, TRACES};
    use super::*;

    fn read(route: &Route, query: &str) -> Result<Args, ApiError> {
        let uri = format!("{}?{query}", route.path.replace(['{', '}'], "")).parse().unwrap();
        Args::read(route, &uri, UnixNanos(1_700_000_000_000_000_000))
    }

    #[test]
    fn values_are_read_and_defaults_filled_in() {
        let args = read(&TRACES, "service=check%20out&min_duration=1.5s&kind=server&pretty=true").unwrap();
        assert_eq!(args.text("service"), Some("check out"));
        assert_eq!(args.duration("min_duration"), Some(NanoDuration(1_500_000_000)));
        assert_eq!(args.word("kind"), Some("server"));
        assert_eq!(args.word("order"), Some("slowest"));
        assert_eq!(args.integer("limit"), Some(20));
        assert_eq!(args.time("start"), None);
        assert!(args.pretty());
        let args = read(&LATENCY, "group_by=service,status&quantiles=0.5,1").unwrap();
        assert_eq!(args.words("group_by"), ["service", "status"]);
        assert_eq!(args.quantiles("quantiles"), [0.5, 1.0]);
        assert!(read(&LATENCY, "group_by=none").unwrap().words("group_by").is_empty());
        assert_eq!(read(&BOTTLENECKS, "what_if=0.25").unwrap().integer("what_if"), Some(250));
        assert_eq!(read(&BOTTLENECKS, "what_if=1").unwrap().integer("what_if"), Some(1_000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let bad = [
            (&TRACES, "limit=0", "invalid_parameter", "limit"),
            (&TRACES, "limit=1001", "invalid_parameter", "limit"),
            (&TRACES, "limit=-1", "invalid_parameter", "limit"),
            (&TRACES, "limit=5&limit=5", "invalid_parameter", "limit"),
            (&TRACES, "service=", "invalid_parameter", "service"),
            (&TRACES, "kind=Server", "invalid_parameter", "kind"),
            (&TRACES, "status=bad", "invalid_parameter", "status"),
            (&TRACES, "min_duration=5", "invalid_parameter", "min_duration"),
            (&TRACES, "start=yesterday", "invalid_parameter", "start"),
            (&TRACES, "pretty=maybe", "invalid_parameter", "pretty"),
            (&TRACES, "servce=a", "unknown_parameter", "servce"),
            (&TRACES, "attr=a%3Db", "not_supported", "attr"),
            (&TRACES, "q=x", "not_supported", "q"),
            (&LATENCY, "quantiles=", "invalid_parameter", "quantiles"),
            (&LATENCY, "quantiles=0.5,1.1", "invalid_parameter", "quantiles"),
            (&LATENCY, "quantiles=NaN", "invalid_parameter", "quantiles"),
            (&LATENCY, "group_by=service,color", "invalid_parameter", "group_by"),
            (&BOTTLENECKS, "band=p99", "not_supported", "band"),
            (&BOTTLENECKS, "band=p98", "invalid_parameter", "band"),
            (&BOTTLENECKS, "group_by=call_path", "not_supported", "group_by"),
            (&BOTTLENECKS, "what_if=1.001", "invalid_parameter", "what_if"),
            (&BOTTLENECKS, "what_if=0.1234", "invalid_parameter", "what_if"),
            (&BOTTLENECKS, "what_if=-0.5", "invalid_parameter", "what_if"),
        ];
        for (route, query, code, parameter) in bad {
            let error = read(route, query).unwrap_err();
            assert_eq!((error.code(), error.parameter()), (code, Some(parameter)), "{query}");
            assert_eq!(error.status().as_u16(), 400, "{query}");
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_known_one() {
        let error = read(&TRACES, "minDuration=5ms").unwrap_err();
        assert_eq!(
            error.message(),
            "/api/v1/traces has no parameter `minDuration`; did you mean `min_duration`?"
        );
    }
}
