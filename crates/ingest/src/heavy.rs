//! Work that takes too long for the threads that serve connections.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Runs heavy work on blocking threads, no more of it at a time than there are places. Queries need those threads
/// as well.
#[derive(Debug)]
pub(crate) struct Heavy {
    places: Arc<Semaphore>,
}

impl Heavy {
    /// One place a processor.
    pub(crate) fn new() -> Self {
        Self::with_places(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_places(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// What the work returns, which begins when there is a place for it; `None` if it panicked or the process is ending.
    ///
    /// Work that has begun goes on when nobody waits for it any more, and keeps its place for as long: clients that come and
    /// go must not start more of it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_keeps_its_place_when_nobody_waits_for_it() {
        let heavy = Arc::new(Heavy::with_places(1));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        let running = Arc::clone(&heavy);
        let client = tokio::spawn(async move {
            let work = move || {
                let _ = begun.send(());
                let _ = ends.recv();
            };
            running.run(work).await
        });
        has_begun.await.unwrap();
        client.abort();
        assert!(client.await.is_err());
        assert_eq!(heavy.places.available_permits(), 0, "the work is not done");
        end.send(()).unwrap();
        assert_eq!(heavy.run(|| 7).await, Some(7));
        assert_eq!(heavy.places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_panic_gives_the_place_back() {
        let heavy = Heavy::with_places(1);
        assert_eq!(heavy.run(|| panic!("at once")).await, None::<()>);
        assert_eq!(heavy.places.available_permits(), 1);
    }
}
