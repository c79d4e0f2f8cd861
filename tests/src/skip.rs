//! What it means that a test cannot run on this machine.

use std::fmt::Display;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};

/// Set to anything but nothing, whatever cannot be tested fails its test.
const REQUIRED: &str = "LONGPOLE_TEST_REQUIRED";

/// Says on standard error that something is not tested here, and why.
///
/// # Errors
///
/// Everything is required.
pub fn skip(what: &str, reason: impl Display) -> Result<()> {
    skip_unless(is_set(REQUIRED), what, reason)
}

fn skip_unless(required: bool, what: &str, reason: impl Display) -> Result<()> {
    if required {
        bail!("{what}: {reason}");
    }
    // Past the capture of the test runner, which shows nothing of a test that passes.
    writeln!(std::io::stderr(), "skipped: {what}: {reason}").context("cannot write")
}

/// Whether an environment variable is set to anything but nothing.
pub(crate) fn is_set(key: &str) -> bool {
    std::env::var_os(key).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_is_not_skipped() {
        let error = skip_unless(true, "strace", "it is not here").unwrap_err();
        assert_eq!(error.to_string(), "strace: it is not here");
    }
}
