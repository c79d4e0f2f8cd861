//! The threads of the stages. One that panics takes the process with it: the others would go on without it, and clients
//! would be put off for ever, or memory would grow without end, while all looks well. The log is replayed at the next
//! start, so nothing that was acknowledged is lost with it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use anyhow::Context;

/// Starts the thread of a stage.
pub(super) fn spawn(
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    Builder::new()
        .name(name.to_owned())
        .spawn(move || vital(name, body))
        .with_context(|| format!("cannot start the {name} thread"))
}

/// Runs what the process cannot do without. For a thread that others of the same stage wait for, where the panic would
/// not get as far as the stage's own thread.
pub(super) fn vital(stage: &str, body: impl FnOnce()) {
    // Nobody sees what it leaves behind.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        let why = message(&*panic);
        tracing::error!(
            stage,
            panic = why,
            "a stage of the pipeline panicked; the process ends, and the next start replays the log"
        );
        // Without the destructors that an exit would run: the other threads are still at work in the database.
        std::process::abort();
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Output};
    use std::sync::{Barrier, mpsc};

    use super::*;

    /// Set in the process that is to die.
    const DOOMED: &str = "LONGPOLE_TEST_DOOMED";

    /// Runs a test of this file in a process of its own.
    fn alone(test: &str) -> Output {
        let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &name, "--ignored", "--nocapture"]).env(DOOMED, "1").output().unwrap()
    }

    fn is_doomed() -> bool {
        let doomed = std::env::var_os(DOOMED).is_some();
        if doomed {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
        }
        doomed
    }

    fn died_of(output: &Output, stage: &str, why: &str) {
        let said = String::from_utf8_lossy(&output.stderr);
        // SIGABRT, which is no ordinary end for whoever starts it again.
        assert_eq!(output.status.signal(), Some(6), "{}: {said}", output.status);
        let told = said.lines().find(|line| line.contains("a stage of the pipeline panicked"));
        let told = told.unwrap_or_else(|| panic!("it does not say so: {said}"));
        assert!(told.contains(stage) && told.contains(why), "{told}");
    }

    #[test]
    fn a_stage_that_panics_ends_the_process_and_is_named() {
        died_of(&alone("one_stage_panics"), "assembling", "row 7 of 3");
    }

    #[test]
    #[ignore = "ends its process"]
    fn one_stage_panics() {
        if is_doomed() {
            let rows = 3;
            let stage = spawn("assembling", move || panic!("row 7 of {rows}")).unwrap();
            let _ = stage.join();
        }
    }

    /// As two sealers do: the second waits for the first one's turn to end.
    #[test]
    fn a_thread_that_panics_while_another_waits_for_it_ends_the_process() {
        died_of(&alone("one_of_two_panics"), "sealer", "cannot build");
    }

    #[test]
    #[ignore = "ends its process"]
    fn one_of_two_panics() {
        if is_doomed() {
            let turn = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| turn.wait());
                vital("sealer", || panic!("cannot build"));
            });
        }
    }

    #[test]
    fn a_stage_that_ends_ends_alone() {
        let (tell, told) = mpsc::channel();
        spawn("house", move || tell.send(1).unwrap()).unwrap().join().unwrap();
        assert_eq!(told.recv(), Ok(1));
    }
}
