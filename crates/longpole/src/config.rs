//! Configuration: defaults, then a YAML file, then `LONGPOLE_SECTION__KEY`, then flags.
//!
//! One table names every key with its unit, default and meaning; unknown keys are refused with the nearest
//! known one, and all errors are reported at once.

mod environment;
mod keys;
mod print;
mod source;
mod values;

use std::path::PathBuf;

use ingest::{AllowedOrigins, IngestLimits};
use query::RollupOptions;
use span_store::StoreOptions;
use trace_assemble::Options as AssembleOptions;
use trace_model::NanoDuration;

use crate::command::ServeArgs;
use crate::memory::{self, MEMORY_MIN, QueryMemory};
use crate::pipeline::SealOptions;

/// A segment is built in memory.
pub(crate) const SEAL_BYTES_MAX: usize = 512 << 20;
/// Partitions take a moment to make.
const SLICE_MIN: NanoDuration = NanoDuration::from_secs(1);
/// A group of requests must fit a log frame.
const REQUEST_BYTES_MAX: usize = 256 << 20;
/// Each level of a value is a call within a call.
const VALUE_DEPTH_MAX: usize = 32;

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n  {}", .0.join("\n  "))]
pub(crate) struct ConfigError(Vec<String>);

/// How logs are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogOptions {
    /// A `tracing` filter such as `info` or `info,span_store=debug`.
    pub(crate) level: String,
    /// `auto`, `text` or `json`.
    pub(crate) format: String,
}

/// Everything that can be set, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) otlp_grpc: String,
    pub(crate) otlp_http: String,
    pub(crate) http: String,
    /// Connections to the query port at a time.
    pub(crate) http_connections: usize,
    pub(crate) store: StoreOptions,
    pub(crate) rollup: RollupOptions,
    pub(crate) seal: SealOptions,
    pub(crate) assemble: AssembleOptions,
    /// Spans of one trace that are analysed together at most.
    pub(crate) trace_spans_max: usize,
    pub(crate) ingest: IngestLimits,
    pub(crate) cors_origins: AllowedOrigins,
    pub(crate) log: LogOptions,
    /// Resident memory in all, bytes.
    pub(crate) memory: usize,
    /// Divided from `memory`.
    pub(crate) query: QueryMemory,
    /// Whether somebody chose the folder of the store, were it the one that is the default.
    pub(crate) is_data_dir_given: bool,
    /// Keys whose value was divided from `memory`.
    derived: Vec<&'static str>,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All that is wrong with it, a line each.
    pub(crate) fn load(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut errors = Vec::new();
        let mut settings = Vec::new();
        if let Some(path) = &args.config {
            settings.extend(source::file(path, &mut errors));
        }
        settings.extend(environment::settings(std::env::vars_os(), &mut errors));
        settings.extend(source::flags(args));
        match Self::from_settings(&settings) {
            Ok(config) if errors.is_empty() => Ok(config),
            Ok(_) => Err(ConfigError(errors)),
            Err(more) => {
                errors.extend(more);
                Err(ConfigError(errors))
            }
        }
    }

    fn from_settings(settings: &[source::Setting]) -> Result<Self, Vec<String>> {
        let mut config = Self::default();
        let mut errors = Vec::new();
        for key in keys::KEYS {
            if let Err(error) = (key.set)(&mut config, key.default) {
                errors.push(format!("{}: {error}", key.name));
            }
        }
        for setting in settings {
            match keys::find(&setting.key) {
                Some(key) => {
                    if let Err(error) = (key.set)(&mut config, &setting.value) {
                        errors.push(format!("{} ({}): {error}", setting.key, setting.origin));
                    }
                }
                None => errors.push(format!(
                    "{} ({}): there is no such key; did you mean {}?",
                    setting.key,
                    setting.origin,
                    keys::nearest(&setting.key)
                )),
            }
        }
        config.is_data_dir_given = settings.iter().any(|setting| setting.key == keys::DATA_DIR);
        let show_zero = |key: &&keys::Key| key.default == keys::AUTO && (key.get)(&config) == keys::AUTO;
        let auto: Vec<&keys::Key> = keys::KEYS.iter().filter(show_zero).collect();
        memory::divide(&mut config);
        // The others come from something else.
        let is_divided = |key: &&&keys::Key| (key.get)(&config) != keys::AUTO;
        config.derived = auto.iter().filter(is_divided).map(|key| key.name).collect();
        errors.extend(config.out_of_range());
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    /// Values that parse and still cannot work.
    fn out_of_range(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.memory < MEMORY_MIN {
            errors.push(format!("memory: at least {}MiB", MEMORY_MIN >> 20));
        }
        if self.seal.bytes > SEAL_BYTES_MAX {
            errors.push("seal.bytes: at most 512MiB, since a segment is built in memory".to_owned());
        }
        if self.store.slice.is_some_and(|slice| slice < SLICE_MIN) {
            errors.push("store.slice: at least 1s, since each is a column family of its own".to_owned());
        }
        errors.extend(self.addresses_taken_twice());
        errors.extend(self.ingest_out_of_range());
        errors
    }

    fn ingest_out_of_range(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let ingest = &self.ingest;
        if ingest.request_bytes > REQUEST_BYTES_MAX {
            errors.push("ingest.request_bytes: at most 256MiB, since a log frame holds it".to_owned());
        }
        if ingest.wire_bytes > ingest.request_bytes {
            errors
                .push("ingest.wire_bytes: at most ingest.request_bytes, which holds it inflated".to_owned());
        }
        if ingest.value_depth > VALUE_DEPTH_MAX {
            errors.push("ingest.value_depth: at most 32, since every level takes of the stack".to_owned());
        }
        errors
    }

    fn addresses_taken_twice(&self) -> Vec<String> {
        let addresses = [
            ("server.otlp_grpc", &self.otlp_grpc),
            ("server.otlp_http", &self.otlp_http),
            ("server.http", &self.http),
        ];
        let mut errors = Vec::new();
        for (at, (key, address)) in addresses.iter().enumerate() {
            let same = addresses[..at].iter().find(|(_, other)| other == address);
            // Port 0 picks another one each time.
            if let Some((other, _)) = same.filter(|_| !address.ends_with(":0")) {
                errors.push(format!("{key}: `{address}` is the address of {other}; choose another"));
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use span_store::Durability;

    use super::source::Setting;
    use super::*;

    fn setting(key: &str, value: &str) -> Setting {
        Setting { key: key.to_owned(), value: value.to_owned(), origin: "test".to_owned() }
    }

    #[test]
    fn a_folder_that_was_chosen_is_told_from_the_default() {
        assert!(!Config::from_settings(&[]).unwrap().is_data_dir_given);
        let chosen = Config::from_settings(&[setting("server.data_dir", "longpole-data")]).unwrap();
        assert!(chosen.is_data_dir_given, "the demo must not take a folder of its own for it");
    }

    #[test]
    fn defaults_are_valid_and_print_as_they_parse() {
        let config = Config::from_settings(&[]).unwrap();
        assert_eq!(config.store.durability, Durability::Process);
        for key in keys::KEYS {
            let mut again = Config::default();
            (key.set)(&mut again, &(key.get)(&config)).unwrap();
            assert_eq!((key.get)(&again), (key.get)(&config), "{}", key.name);
        }
    }

    #[test]
    fn one_key_divides_memory_and_single_keys_win() {
        let small =
            Config::from_settings(&[setting("memory", "256MiB"), setting("seal.bytes", "9MiB")]).unwrap();
        let usual = Config::from_settings(&[]).unwrap();
        assert_eq!(small.seal.bytes, 9 << 20);
        let halves = small.assemble.spans_max * 2..small.assemble.spans_max * 3;
        assert!(
            halves.contains(&usual.assemble.spans_max),
            "a little less than half: some of it does not grow"
        );
        assert!(usual.seal.bytes > 20 << 20 && usual.ingest.queued_bytes > 30 << 20);
        let errors = Config::from_settings(&[setting("memory", "1MiB")]).unwrap_err().join("\n");
        assert!(errors.contains("memory: at least 128MiB"), "{errors}");
    }

    #[test]
    fn whatever_memory_there_is_its_parts_are_within_their_bounds() {
        for gib in [1, 11, 12, 64, 1 << 10, 16 << 10] {
            let config = Config::from_settings(&[setting("memory", &format!("{gib}GiB"))]).unwrap();
            assert!(config.seal.bytes <= SEAL_BYTES_MAX, "{gib}");
            assert!(config.store.generation_bytes < 64 << 20, "{gib}: the store's memtable of a generation");
            // Thrice: one gathering, two being sealed.
            assert!(config.store.unsealed_bytes_max > 3 * config.seal.bytes as u64, "{gib}");
        }
        let errors = Config::from_settings(&[setting("seal.bytes", "513MiB")]).unwrap_err().join("\n");
        assert!(errors.contains("seal.bytes: at most 512MiB"), "{errors}");
    }

    #[test]
    fn two_ports_at_one_address_are_refused_before_the_start() {
        let both = |address| [setting("server.http", address), setting("server.otlp_http", address)];
        assert!(Config::from_settings(&both("127.0.0.1:0")).is_ok());
        let errors = Config::from_settings(&both("127.0.0.1:4318")).unwrap_err().join("\n");
        assert!(
            errors.contains("server.http: `127.0.0.1:4318` is the address of server.otlp_http"),
            "{errors}"
        );
    }

    #[test]
    fn every_address_is_checked_at_once() {
        let settings = [
            setting("server.http", "unix:/x"),
            setting("server.otlp_grpc", "unix:"),
            setting("log.level", "warning"),
        ];
        let errors = Config::from_settings(&settings).unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn every_error_is_reported_and_names_the_nearest_key() {
        let settings = [setting("seal.intervall", "5m"), setting("seal.bytes", "many")];
        let errors = Config::from_settings(&settings).unwrap_err().join("\n");
        assert!(errors.contains("did you mean seal.interval?"), "{errors}");
        assert!(errors.contains("seal.bytes (test)"), "{errors}");
    }

    #[test]
    fn later_settings_win() {
        let settings = [setting("seal.interval", "5m"), setting("seal.interval", "500ms")];
        let config = Config::from_settings(&settings).unwrap();
        assert_eq!(config.seal.interval.0, 500_000_000);
    }
}
