//! The drawn cases of `golden.txt`, as drawn, and again shifted to today's nanoseconds in another order.

use trace_analyze::{CriticalPath, Extent, Overrun, PathOptions, critical_path};
use trace_model::{NanoDuration, Trace};

use crate::support::{Drawn, MS, options};

const TODAY: u64 = 1_600_000_000_000_000_000;

struct Check<'a> {
    case: &'a str,
    drawn: Drawn,
    trace: Trace,
    zero: u64,
}

impl Check<'_> {
    fn path(&self, options: &PathOptions) -> CriticalPath {
        critical_path(&self.trace, self.trace.primary_root(), options)
    }

    fn written(&self, options: &PathOptions, want: &str) {
        let path = self.path(options);
        let got = self.drawn.write(&self.trace, &path, self.zero);
        assert_eq!(got, want, "case {} at {}, {options:?}", self.case, self.zero);
    }

    fn line(&self, verb: &str, want: &str) {
        let response = |overrun| self.written(&options(overrun, Extent::Response), want);
        match verb {
            "response" => [Overrun::Clip, Overrun::Auto, Overrun::Exclude].into_iter().for_each(response),
            "clip" => response(Overrun::Clip),
            "auto" => response(Overrun::Auto),
            "exclude" => response(Overrun::Exclude),
            "trace" => self.written(&options(Overrun::Clip, Extent::Trace), want),
            "eps" => {
                let (ms, want) = want.split_once(' ').unwrap();
                let epsilon = NanoDuration(ms.parse::<u64>().unwrap() * MS);
                self.written(&PathOptions { epsilon, ..PathOptions::default() }, want);
            }
            "flags" => {
                let flags = self.path(&PathOptions::default()).flags;
                assert_eq!(flags.names().join(" "), want, "flags of case {}", self.case);
            }
            other => panic!("`{other}` in case {}", self.case),
        }
    }
}

#[test]
fn drawn_cases_have_the_drawn_paths() {
    let mut checks = Vec::new();
    let mut lines = 0;
    let mut case = "";
    for line in include_str!("golden.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "case" => case = rest,
            "spans" => {
                let check = |zero| {
                    let drawn = Drawn::parse(rest).shifted(zero);
                    Check { case, trace: drawn.trace(), drawn, zero }
                };
                checks = vec![check(0), check(TODAY)];
            }
            _ => {
                lines += 1;
                checks.iter().for_each(|check| check.line(verb, rest));
            }
        }
    }
    assert!(lines > 80, "only {lines} lines were checked");
}
