//! Settings of the environment: `LONGPOLE_SECTION__KEY` for every key.
//!
//! Every variable with the prefix is a key, means something else that is known, or is refused: one underscore too few must
//! not leave a default in force.

use std::ffi::OsString;

use super::keys;
use super::source::Setting;

const PREFIX: &str = "LONGPOLE_";
/// Without the prefix: the server to ask, and what the build and the tests read.
const OTHERS: [&str; 3] = ["SERVER", "COMMIT", "SEED"];
/// Beginnings of more of them.
const OTHERS_BEGIN: [&str; 3] = ["TEST_", "MODEL_", "FUZZ_"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// The settings among these variables; what is wrong with them goes to `errors`.
pub(super) fn settings(
    variables: impl Iterator<Item = (OsString, OsString)>,
    errors: &mut Vec<String>,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (name, value) in variables {
        let Some(name_of) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let Ok(value) = value.into_string() else {
            errors.push(format!("{PREFIX}{name_of}: its value is not UTF-8"));
            continue;
        };
        // Empty is how a compose file leaves a variable unset.
        if value.is_empty() || means_something_else(name_of, &value) {
            continue;
        }
        match key_of(name_of) {
            Some(key) => settings.push(Setting { key, value, origin: format!("{PREFIX}{name_of}") }),
            None => errors.push(format!(
                "{PREFIX}{name_of}: there is no such key; did you mean {}?",
                variable(keys::nearest(&name_of.to_lowercase()))
            )),
        }
    }
    settings
}

/// The key that a variable names. With two underscores it need not be there: that is told with all the others.
fn key_of(name_of: &str) -> Option<String> {
    let name_of = name_of.to_lowercase();
    match name_of.split_once("__") {
        Some((section, key)) => Some(format!("{section}.{key}")),
        None => keys::find(&name_of).map(|_| name_of),
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn means_something_else(name_of: &str, value: &str) -> bool {
    OTHERS.contains(&name_of)
        || OTHERS_BEGIN.iter().any(|beginning| name_of.starts_with(beginning))
        || is_service_link(name_of, value)
}

/// Kubernetes tells every container of a namespace where its Services are. For one called `longpole`, or `longpole-query`,
/// these variables have our prefix: `…SERVICE_HOST`, `…SERVICE_PORT_GRPC`, `…PORT=tcp://10.0.0.1:4317`,
/// `…PORT_4317_TCP_ADDR`. Docker's links have the same form, and `…NAME=/web/longpole` and `…ENV_PATH` besides.
fn is_service_link(name_of: &str, value: &str) -> bool {
    let name = format!("_{name_of}");
    let of_port = |rest: &str| {
        let mut words = rest.split('_');
        let is_number = words.next().is_some_and(|number| number.parse::<u16>().is_ok());
        is_number && words.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol))
    };
    name.ends_with("_NAME") && value.starts_with('/')
        || name.contains("_ENV_")
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && value.contains("://")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| of_port(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys with their values, and errors.
    fn read(variables: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<String>) {
        let mut errors = Vec::new();
        let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
        let settings = settings(variables, &mut errors);
        (settings.into_iter().map(|setting| (setting.key, setting.value)).collect(), errors)
    }

    #[test]
    fn names_become_keys() {
        let (found, errors) = read(&[
            ("LONGPOLE_SEAL__INTERVAL", "1s"),
            ("LONGPOLE_MEMORY", "1GiB"),
            ("LONGPOLE_SERVER", "x"),
            ("LONGPOLE_TEST_REQUIRED", "1"),
            ("HOME", "y"),
        ]);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found, [pair("seal.interval", "1s"), pair("memory", "1GiB")]);
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn a_variable_that_is_no_key_is_refused_with_the_nearest() {
        for (written, meant) in [
            ("LONGPOLE_STORE_RETENTION", "LONGPOLE_STORE__RETENTION"),
            ("LONGPOLE_RETENTION", "LONGPOLE_STORE__RETENTION"),
            ("LONGPOLE_DATA_DIR", "LONGPOLE_SERVER__DATA_DIR"),
            ("LONGPOLE_MEMROY", "LONGPOLE_MEMORY"),
        ] {
            let (found, errors) = read(&[(written, "1h")]);
            assert_eq!((found.len(), errors.len()), (0, 1), "{written}");
            assert!(errors[0].starts_with(&format!("{written}: there is no such key")), "{errors:?}");
            assert!(errors[0].ends_with(&format!("did you mean {meant}?")), "{errors:?}");
        }
    }

    #[test]
    fn what_others_say_of_services_is_let_through() {
        let (found, errors) = read(&[
            ("LONGPOLE_SERVICE_HOST", "10.0.0.1"),
            ("LONGPOLE_SERVICE_PORT", "4317"),
            ("LONGPOLE_SERVICE_PORT_OTLP_GRPC", "4317"),
            ("LONGPOLE_PORT", "tcp://10.0.0.1:4317"),
            ("LONGPOLE_PORT_4317_TCP", "tcp://10.0.0.1:4317"),
            ("LONGPOLE_PORT_4317_TCP_ADDR", "10.0.0.1"),
            ("LONGPOLE_PORT_4317_TCP_PROTO", "tcp"),
            ("LONGPOLE_QUERY_SERVICE_HOST", "10.0.0.2"),
            ("LONGPOLE_QUERY_PORT_16686_TCP_PORT", "16686"),
            ("LONGPOLE_NAME", "/web/longpole"),
            ("LONGPOLE_ENV_RUST_LOG", "info"),
            // Not set, as a compose file says it.
            ("LONGPOLE_LOG__LEVEL", ""),
        ]);
        assert_eq!((found.len(), errors), (0, Vec::new()));
    }
}
