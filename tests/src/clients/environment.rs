//! Where the environments of the clients are, and what it means when one is not there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::skip::{is_set, skip};

/// Set to anything but nothing, a client that cannot be run fails its test.
const REQUIRED: &str = "LONGPOLE_TEST_CLIENTS_REQUIRED";

/// What one client needs to run, as `scripts/clients.sh` made it.
#[derive(Debug, Clone)]
pub struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// The environment with this name. `None`, said on standard error, when this machine has none: then the test has
    /// nothing to do.
    ///
    /// # Errors
    ///
    /// None is there, but every client is required, or everything.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let folder = clients_dir()?.join(name);
        let Some(reason) = reason_against(&folder) else { return Ok(Some(Self { folder })) };
        if is_set(REQUIRED) {
            bail!("{name}: {reason}");
        }
        skip(name, reason)?;
        Ok(None)
    }

    /// One that is made of what is in this folder.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Something in it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside)
    }
}

/// `LONGPOLE_TEST_CLIENTS`, or `clients` in the target folder that this test is in.
fn clients_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("LONGPOLE_TEST_CLIENTS").filter(|f| !f.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let test = std::env::current_exe().context("cannot tell where this test is")?;
    // target/PROFILE/deps/test -> target/clients
    let target = test.ancestors().nth(3).context("this test is in no target folder")?;
    Ok(target.join("clients"))
}

/// Why the environment cannot be used; `None` when it can.
fn reason_against(folder: &Path) -> Option<String> {
    if folder.join("ready").is_file() {
        return None;
    }
    let said = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let reason = said("skipped").or_else(|| said("failed").map(|why| format!("NOT TESTED, {why}")));
    Some(reason.map_or_else(
        || format!("{} is not there; `make clients` makes it", folder.display()),
        |why| why.trim().to_owned(),
    ))
}
