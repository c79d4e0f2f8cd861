//! A fixed number of seeded inputs for every parser. Longer and guided by coverage: `make fuzz TARGET=walker`.

fn drive(name: &str) {
    let target = longpole_fuzz::target(name).expect("a target");
    longpole_fuzz::drive(target, &longpole_fuzz::corpus_dir());
}

macro_rules! parsers {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            drive(stringify!($name));
        })*

        #[test]
        fn every_target_is_driven() {
            let driven = [$(stringify!($name)),*];
            assert!(longpole_fuzz::TARGETS.iter().map(|target| target.name).eq(driven));
        }
    };
}

parsers!(
    walker,
    json,
    chunks,
    tables,
    rows,
    heads,
    paths,
    contexts,
    minutes,
    hashes,
    meta,
    dictionary,
    rolled_histograms,
    rolled_paths,
    rollup_meta,
    histogram,
    exemplars,
);
