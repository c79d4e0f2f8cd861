//! What a damaged segment says of itself leads to errors or odd answers, never to a panic.

use std::sync::Arc;

use query::{BottleneckQuery, Engine, GroupBy, LatencyQuery, Window};
use segment::SegmentMeta;
use span_store::{SpanStore, StoreOptions};

use crate::checks::random_search;
use crate::model::live;
use crate::spans::{Dice, SERVICES, STEP};
use crate::world::state_of;

fn damage(meta: &mut SegmentMeta, dice: &mut Dice) {
    let odd = dice.pick(&[0, 1, 7, u32::MAX]);
    let odd_long = dice.pick(&[0, 1, 1 << 40, u64::MAX]);
    match dice.below(16) {
        0 => meta.row_blocks.iter_mut().for_each(|block| block.service = odd),
        1 => meta.operations.iter_mut().for_each(|operation| operation.service = odd),
        2 => meta.services.truncate(odd as usize),
        3 => meta.operations.truncate(odd as usize),
        4 => meta.service_totals.truncate(odd as usize),
        5 => meta.chunk_first_low.truncate(odd as usize),
        6 => meta.chunk_first_high.truncate(odd as usize),
        7 => meta.chunk_first_trace.truncate(odd as usize),
        8 => meta.chunk_first_trace.iter_mut().for_each(|first| *first = odd),
        9 => meta.chunk_first_trace.extend([odd, 5, 0]),
        10 => meta.minutes.push(odd),
        11 => meta.trace_blocks.extend(meta.trace_blocks.clone()),
        12 => meta.row_blocks.extend(meta.row_blocks.clone()),
        13 => (meta.start_min, meta.start_max) = (odd_long, odd_long / 2),
        14 => meta.row_blocks.iter_mut().for_each(|block| block.duration_max = odd_long),
        _ => meta.revised_traces.truncate(odd as usize),
    }
}

#[test]
fn a_damaged_meta_is_no_panic() {
    for seed in 1..=80 {
        let mut dice = Dice(seed);
        let dir = tempfile::tempdir().unwrap();
        let (world, oracle) = live(dir.path(), &mut dice, false);
        world.close();
        let (store, mut segments, _) = SpanStore::open(dir.path(), StoreOptions::default()).unwrap();
        for stored in &mut segments {
            (0..1 + dice.below(2)).for_each(|_| damage(&mut stored.meta, &mut dice));
        }
        let state = state_of(segments);
        let engine = Engine::new(state, Arc::new(store));
        for _ in 0..8 {
            let _ = engine.search(&random_search(&mut dice, STEP));
        }
        for id in oracle.traces.keys() {
            let _ = engine.trace(*id);
            let _ = engine.critical_path(&query::CriticalPathQuery {
                trace_id: *id,
                options: trace_analyze::PathOptions::default(),
            });
        }
        let start = trace_model::UnixNanos(crate::spans::BASE);
        for window in [Window::ALL, Window { start, ..Window::ALL }] {
            let _ = engine.services(Some(window));
            let _ = engine.bottlenecks(&BottleneckQuery {
                service: None,
                operation: None,
                window,
                group_by: query::BottleneckGroup::Operation,
                faster_permille: 1_000,
                limit: 10,
            });
            let _ = engine.latency(&LatencyQuery {
                service: None,
                operation: None,
                kind: None,
                status: None,
                window,
                step: None,
                quantiles: vec![0.5],
                group_by: GroupBy::default(),
                limit: 1_000,
            });
        }
        let _ = (engine.operations(SERVICES[0], None), engine.status(), engine.operation_metrics());
    }
}
