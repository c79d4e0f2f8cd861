//! Where settings come from: a YAML file and flags. Those of the environment are read in [`environment`](super::environment).

use std::path::Path;

use serde_json::{Map, Value};
use serde_saphyr::UserMessageFormatter;

use super::keys;
use crate::command::ServeArgs;

/// A key, its value as text, and where it was set.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: String,
}

/// The settings of a file; what is wrong with it goes to `errors`.
pub(super) fn file(path: &Path, errors: &mut Vec<String>) -> Vec<Setting> {
    let origin = path.display().to_string();
    let sections = match read(path) {
        Ok(sections) => sections,
        Err(error) => {
            errors.push(format!("{origin}: {error}"));
            return Vec::new();
        }
    };
    let mut settings = Vec::new();
    for (name, value) in sections {
        match value {
            Value::Object(keys) if keys::find(&name).is_none() => {
                for (key, value) in keys {
                    settings.extend(setting(format!("{name}.{key}"), &value, &origin, errors));
                }
            }
            // A section of which every line is a comment.
            Value::Null if keys::first_of(&name).is_some() => {}
            value => settings.extend(setting(name, &value, &origin, errors)),
        }
    }
    settings
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = expand(&text, &|name| std::env::var(name).ok())?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    // As YAML 1.2 says: `off` is a word, and a level of the log.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error: serde_saphyr::Error| error.render_with_formatter(&UserMessageFormatter))?;
    match value {
        Value::Object(sections) => Ok(sections),
        _ => Err("must be a map of sections such as `server:`".to_owned()),
    }
}

/// A key of a file and its value, which must be a single one.
fn setting(key: String, value: &Value, origin: &str, errors: &mut Vec<String>) -> Option<Setting> {
    let is_single = !matches!(value, Value::Null | Value::Array(_) | Value::Object(_));
    let value = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(first) = keys::first_of(&key) {
        let (_, name) = first.name.split_once('.').unwrap_or_default();
        errors.push(format!(
            "{key} ({origin}): a section is expected, with keys on lines of their own below it such as \
             `{name}: {}`, not `{value}`",
            first.default
        ));
        return None;
    }
    if keys::find(&key).is_some() && !is_single {
        errors.push(format!("{key} ({origin}): a single value is expected, not `{value}`"));
        return None;
    }
    Some(Setting { key, value, origin: origin.to_owned() })
}

/// What the command line says.
pub(super) fn flags(args: &ServeArgs) -> Vec<Setting> {
    let data_dir = args.data_dir.as_ref().map(|dir| dir.display().to_string());
    [
        ("server.data_dir", &data_dir),
        ("server.otlp_grpc", &args.otlp_grpc),
        ("server.otlp_http", &args.otlp_http),
        ("server.http", &args.http),
    ]
    .into_iter()
    .filter_map(|(key, value)| {
        let value = value.clone()?;
        Some(Setting { key: key.to_owned(), value, origin: "command line".to_owned() })
    })
    .collect()
}

/// Puts values in for `${env:NAME}` and `${env:NAME:-default}`.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${env:") {
        out.push_str(before);
        let (inside, tail) = after.split_once('}').ok_or("`${env:` without a closing brace")?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inside, None),
        };
        let value = variable(name)
            .or(default)
            .ok_or_else(|| format!("`{name}` is not set; write ${{env:{name}:-default}} for a default"))?;
        out.push_str(&value);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_their_defaults_are_put_in() {
        let variable = |name: &str| (name == "A").then(|| "1".to_owned());
        assert_eq!(expand("x: ${env:A} ${env:B:-2}", &variable).unwrap(), "x: 1 2");
        assert!(expand("${env:B}", &variable).unwrap_err().contains("B"));
        assert!(expand("${env:A", &variable).is_err());
    }

    /// The settings of a file with this text, and what is wrong with it.
    fn read_text(text: &str) -> (Vec<(String, String)>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longpole.yaml");
        std::fs::write(&path, text).unwrap();
        let mut errors = Vec::new();
        let settings = file(&path, &mut errors).into_iter().map(|setting| (setting.key, setting.value));
        (settings.collect(), errors.join("\n"))
    }

    #[test]
    fn words_that_were_booleans_once_are_words() {
        let (settings, errors) = read_text("log:\n  level: off\n  format: auto\n");
        assert_eq!(errors, "");
        assert!(settings.contains(&("log.level".to_owned(), "off".to_owned())), "{settings:?}");
    }

    #[test]
    fn an_empty_section_is_empty() {
        let (settings, errors) = read_text("store:\n  # retention: 1h\nseal:\n  interval: 1s\n");
        assert_eq!(settings, [("seal.interval".to_owned(), "1s".to_owned())]);
        assert_eq!(errors, "");
        let (settings, _) = read_text("shop:\n");
        assert_eq!(settings.len(), 1, "one that is not known is refused");
    }

    #[test]
    fn what_is_no_section_and_what_is_no_value_is_said_so() {
        let (settings, errors) = read_text("store: 5\nmemory:\nseal:\n  bytes: [1]\nserver:\n  data_dir:\n");
        assert_eq!(settings, []);
        let wanted = [
            "store (",
            "a section is expected",
            "`durability: process`",
            "memory (",
            "not `null`",
            "seal.bytes (",
            "not `[1]`",
            "server.data_dir (",
        ];
        assert!(wanted.iter().all(|text| errors.contains(text)), "{errors}");
        assert_eq!(errors.lines().count(), 4, "{errors}");
    }

    #[test]
    fn a_key_that_is_there_twice_is_named_without_advice_for_programmers() {
        let (_, errors) = read_text("memory: 1GiB\nmemory: 2GiB\n");
        assert!(errors.contains("duplicate") && errors.contains("memory"), "{errors}");
        assert!(errors.contains("line 2") && !errors.contains("Options"), "{errors}");
    }
}
