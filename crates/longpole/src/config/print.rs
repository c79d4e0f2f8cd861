//! The configuration in force, as a YAML file that can be used as it is.

use std::io::Write;

use span_store::{DiskGuard, FreeMin, disk_space};

use super::Config;
use super::keys::{self, AUTO, Key};
use super::values::{bytes64, time};
use crate::memory;

impl Config {
    /// Writes every key with its value. Of one that is `auto` a comment says what that comes to.
    pub(crate) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut section = "";
        for key in keys::KEYS {
            let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if of != section {
                writeln!(out, "{of}:")?;
                section = of;
            }
            let indent = if of.is_empty() { "" } else { "  " };
            writeln!(out, "{indent}# {} Default: {}", key.help, key.default)?;
            match self.comes_to(key) {
                Some(text) => {
                    writeln!(out, "{indent}# {text}")?;
                    writeln!(out, "{indent}{name}: {AUTO:?}")?;
                }
                None => writeln!(out, "{indent}{name}: {:?}", (key.get)(self))?,
            }
        }
        Ok(())
    }

    /// What a key comes to that is `auto`.
    fn comes_to(&self, key: &Key) -> Option<String> {
        if self.derived.contains(&key.name) {
            return Some(format!("Now {}, from memory.", (key.get)(self)));
        }
        if (key.get)(self) != AUTO {
            return None;
        }
        Some(match key.name {
            "store.slice" => format!("Now {}, from store.retention.", time::show(&self.store.width())),
            "store.free_min" => self.free_min_of_disk(),
            "log.format" => "Text where standard error is a terminal, json elsewhere.".to_owned(),
            _ => "Found out at the start.".to_owned(),
        })
    }

    /// The data folder need not be there yet; the folder that it will be made in is on the same disk.
    fn free_min_of_disk(&self) -> String {
        let dir = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let found = dir.ancestors().find_map(|dir| disk_space(dir).ok());
        let Some(space) = found else { return "Found out at the start, from the disk.".to_owned() };
        let mut fitted = self.clone();
        // A disk that is too small for anything is refused at the start.
        let _ = memory::fit_to_disk(&mut fitted, space.total);
        let guard = DiskGuard::new(FreeMin::Auto, fitted.store.generation_bytes, fitted.seal.bytes as u64);
        let mib = guard.free_min(space.total) >> 20 << 20;
        format!("Now {}, from the disk.", bytes64::show(&mib))
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Setting;
    use super::*;

    fn printed(settings: &[(&str, &str)]) -> String {
        let setting = |&(key, value): &(&str, &str)| Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: "test".to_owned(),
        };
        let settings: Vec<Setting> = settings.iter().map(setting).collect();
        let mut text = Vec::new();
        Config::from_settings(&settings).unwrap().write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_auto_says_what_it_comes_to_and_from_what() {
        let text = printed(&[("store.retention", "48h")]);
        assert!(text.contains("# Now 22MiB, from memory.\n  bytes: \"auto\""), "{text}");
        assert!(text.contains("# Now 2h, from store.retention.\n  slice: \"auto\""), "{text}");
        assert!(
            text.contains("MiB, from the disk.\n  free_min: \"auto\"")
                || text.contains("GiB, from the disk.")
        );
        assert!(text.contains("json elsewhere.\n  format: \"auto\""), "{text}");
        assert!(!text.contains("Now auto"), "{text}");
    }

    #[test]
    fn what_was_set_is_printed_as_it_was() {
        let text = printed(&[("store.slice", "3h"), ("store.free_min", "5%"), ("seal.bytes", "9MiB")]);
        for line in ["  slice: \"3h\"", "  free_min: \"5%\"", "  bytes: \"9MiB\""] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("from the disk"), "{text}");
    }
}
