//! A store that fails: what does, and what becomes of it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use ingest::CommitError;
use query::{Refusal, State};
use span_store::{SpanStore, disk_space};

use super::{Flaw, Sealer, Span, World};

/// Numbers that the next file of the log may have.
const NEXT_FILES: u64 = 100;

/// What of the store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Failing {
    /// It is closed and cannot be opened again. Nothing can be read either.
    All,
    /// Every write to the log, for want of room.
    Log,
}

/// A store that fails until it is mended.
#[derive(Debug)]
pub(in super::super) enum Broken {
    /// What it takes to open it.
    Closed(Vec<u8>),
    /// In the place of the next files of the log, a device without room.
    Full(Vec<PathBuf>),
}

impl World {
    /// Has the store fail from now on.
    pub(in super::super) fn break_store(&self, what: Failing) -> Broken {
        match what {
            Failing::All => Broken::Closed(close(&self.store)),
            Failing::Log => Broken::Full(fill(&self.store)),
        }
    }

    /// The same group is offered and refused, retryably.
    pub(in super::super) fn refuse(&mut self, requests: &[Vec<Span>]) {
        let sound = |spans: &Vec<Span>| spans.iter().map(|span| (span.clone(), None)).collect();
        let requests: Vec<Vec<(Span, Option<Flaw>)>> = requests.iter().map(sound).collect();
        for mut answer in self.offer(&requests) {
            let told = answer.try_recv();
            assert!(matches!(told, Ok(Err(CommitError::Log(_)))), "{told:?}");
        }
        assert!(self.engine.ready().is_err(), "clients are told before they send");
    }

    /// Seals the oldest cut, if there is one and the store lets it, as a process does that is stopping: it tries once.
    pub(in super::super) fn try_to_seal(&mut self) -> bool {
        let Some(cut) = self.waiting.pop_front() else { return false };
        let before = self.state.view.read().sealed.len();
        let stopping = Arc::new(AtomicBool::new(true));
        let of_sealer = (Arc::clone(&self.state), Arc::clone(&self.store));
        Sealer::new(of_sealer.0, of_sealer.1, self.clock.clone(), stopping).seal(&cut);
        let view = self.state.snapshot_of_stored();
        match view.sealed.last().filter(|_| view.sealed.len() > before) {
            Some(last) => self.note(last.id, last.handle.disk_bytes(), &cut),
            None => self.waiting.push_front(cut),
        }
        view.sealed.len() > before
    }

    /// Stops while the store fails: everything is taken in and cut, and what cannot be sealed is left to the log.
    pub(in super::super) fn stop(&mut self) {
        while let Some(committed) = self.arrived.pop_front() {
            self.assembling.take(committed);
        }
        self.assembling.cut(self.now());
        self.waiting.extend(self.cuts.try_iter());
        while self.try_to_seal() {}
    }

    /// There is room again, or the file that was missing is back. Who opens the store anew finds it whole.
    pub(in super::super) fn mend_files(&self, broken: Broken) {
        match broken {
            Broken::Closed(current) => put_back(&self.store, &current),
            Broken::Full(links) => links.iter().for_each(|link| remove_link(link)),
        }
    }

    /// The cause is gone, and the guard gets the store over its error.
    pub(in super::super) fn mend(&self, broken: Broken) {
        let closed = matches!(broken, Broken::Closed(_));
        self.mend_files(broken);
        if closed {
            // The guard would only try after half a minute.
            self.store.reopen().unwrap();
        }
        self.guard().look(disk_space(self.dir()).unwrap());
        assert!(self.store.failure().is_none());
        // Sealing says for itself when it works again.
        assert_eq!(self.state.refuses(Refusal::Log), None);
    }

    /// Closes the database by opening it again in vain; opens it after `closed`.
    pub(in super::super) fn while_closed(&self, closed: impl FnOnce()) {
        let whole = close(&self.store);
        closed();
        open_again(&self.store, &whole);
    }
}

/// Some are gone by themselves: a log with a number that was passed over is superfluous to RocksDB, which removes it.
fn remove_link(link: &Path) {
    let removed = std::fs::remove_file(link);
    assert!(removed.is_ok() || !link.is_symlink(), "{}: {removed:?}", link.display());
}

/// Closes the database by opening it again in vain. What it takes to open it.
fn close(store: &SpanStore) -> Vec<u8> {
    let current = store.dir().join("rocksdb/CURRENT");
    let whole = std::fs::read(&current).unwrap();
    std::fs::write(&current, b"MANIFEST-none\n").unwrap();
    store.reopen().unwrap_err();
    whole
}

pub(super) fn close_until_waited_for(state: Arc<State>, store: Arc<SpanStore>, done: Sender<()>) {
    let whole = close(&store);
    std::thread::spawn(move || {
        let waits = || state.not_ready.lock().as_ref().is_none_or(|why| why.contains("tried again"));
        while !waits() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        open_again(&store, &whole);
        // Before the next process opens it.
        drop((state, store));
        done.send(()).unwrap();
    });
}

fn open_again(store: &SpanStore, current: &[u8]) {
    put_back(store, current);
    store.reopen().unwrap();
}

fn put_back(store: &SpanStore, current: &[u8]) {
    std::fs::write(store.dir().join("rocksdb/CURRENT"), current).unwrap();
}

/// Has the log go on in a file that takes nothing. The links in its place.
fn fill(store: &SpanStore) -> Vec<PathBuf> {
    // Whoever was opened again begins a new file of the log when the house is next kept.
    store.reopen().unwrap();
    let files = store.dir().join("rocksdb");
    let numbers = std::fs::read_dir(&files).unwrap().filter_map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name.rsplit('-').next()?.split('.').next()?.parse::<u64>().ok()
    });
    let last = numbers.max().unwrap();
    let next = (last + 1..=last + NEXT_FILES).map(|number| files.join(format!("{number:06}.log")));
    let links: Vec<PathBuf> = next.collect();
    links.iter().for_each(|link| symlink("/dev/full", link).unwrap());
    store.keep_house().unwrap();
    links
}
