//! Where settings come from: a YAML file, the environment, flags.

use std::path::Path;

use serde_json::Value;

use crate::command::ServeArgs;

/// A key, its value as text, and where it was set.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: String,
}

/// The settings of a file.
pub(super) fn file(path: &Path) -> Result<Vec<Setting>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = expand(&text, &|name| std::env::var(name).ok())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let value: Value =
        serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let origin = path.display().to_string();
    let Value::Object(sections) = value else {
        return Err(format!("{origin}: must be a map of sections such as `server:`"));
    };
    let mut settings = Vec::new();
    for (section, keys) in sections {
        let Value::Object(keys) = keys else {
            settings.push(Setting { key: section, value: scalar(&keys), origin: origin.clone() });
            continue;
        };
        for (key, value) in keys {
            let key = format!("{section}.{key}");
            settings.push(Setting { key, value: scalar(&value), origin: origin.clone() });
        }
    }
    Ok(settings)
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `LONGPOLE_SECTION__KEY` for every key.
pub(super) fn environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Setting> {
    variables
        .filter_map(|(name, value)| {
            let name_of = name.strip_prefix("LONGPOLE_")?;
            let key = match name_of.split_once("__") {
                Some((section, key)) => format!("{}.{}", section.to_lowercase(), key.to_lowercase()),
                // Of single words only the keys without a section; other variables may share the prefix.
                None if name_of == "MEMORY" => "memory".to_owned(),
                None => return None,
            };
            Some(Setting { key, value, origin: name })
        })
        .collect()
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

    #[test]
    fn environment_names_become_keys() {
        let variables = [("LONGPOLE_SEAL__INTERVAL", "1s"), ("LONGPOLE_SERVER", "x"), ("HOME", "y")];
        let settings =
            environment(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(settings.len(), 1);
        assert_eq!((settings[0].key.as_str(), settings[0].value.as_str()), ("seal.interval", "1s"));
    }
}
