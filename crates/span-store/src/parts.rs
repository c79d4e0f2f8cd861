//! Work over much that is stored, in as many threads as there are processors, at most four.

use std::num::NonZero;
use std::thread::Builder;

const THREADS_MAX: usize = 4;

/// What `work` makes of each part of `items`; the parts are in order and none is empty. A thread is started for no fewer
/// than `worth` items.
pub fn in_parts<T: Sync, R: Send>(items: &[T], worth: usize, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let threads = processors.min(items.len() / worth.max(1)).max(1);
    let mut parts = items.chunks(items.len().div_ceil(threads).max(1));
    let Some(first) = parts.next() else { return Vec::new() };
    let work = &work;
    std::thread::scope(|scope| {
        let started: Vec<_> = parts
            .map(|part| {
                let thread = Builder::new().name("stored".to_owned()).spawn_scoped(scope, move || work(part));
                // Without a thread it is done here, later.
                thread.map_err(|_| part)
            })
            .collect();
        let mut done = vec![work(first)];
        done.extend(started.into_iter().map(|started| match started {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(part) => work(part),
        }));
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_order_and_whole() {
        for (count, worth) in [(0, 4), (1, 4), (4, 4), (9, 4), (1_000, 4), (1_000, 0), (3, 1)] {
            let items: Vec<usize> = (0..count).collect();
            let parts = in_parts(&items, worth, <[usize]>::to_vec);
            assert!(parts.len() <= THREADS_MAX && parts.iter().all(|part| !part.is_empty()), "{count}");
            assert_eq!(parts.concat(), items);
        }
    }
}
