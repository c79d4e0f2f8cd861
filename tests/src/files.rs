//! Where the program under test and the test data are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The `longpole` program that was built together with this test.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe().context("cannot tell where this test is")?;
    // target/PROFILE/deps/test -> target/PROFILE/longpole
    let profile = test.parent().and_then(Path::parent).context("this test is in no target folder")?;
    let program = profile.join("longpole");
    if !program.is_file() {
        bail!("{} is not there; run `make test`, which builds it first", program.display());
    }
    Ok(program)
}

/// The folder of this package, as cargo says it when the test runs: one that was compiled in may be that of
/// another clone with the same target folder.
pub fn package_dir() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The folder of recorded traces.
pub fn recorded() -> PathBuf {
    package_dir().join("fixtures/recorded")
}
