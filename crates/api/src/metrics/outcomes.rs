//! What the outcomes that the engine counts mean, in a sentence each.

use super::Counter;

/// By the name under which the status has it.
const HELP: &[(&str, &str)] = &[
    ("spans", "Distinct spans."),
    ("duplicate_spans", "Spans that had come before."),
    ("late_spans", "Spans of traces that had been finished."),
    (
        "spans_ahead_of_clock",
        "Spans that start more than a minute after they came: their clock is ahead of Longpole's.",
    ),
    (
        "spans_behind_clock",
        "Spans that ended more than a minute before they came: they were sent late, or their clock is behind \
         Longpole's.",
    ),
    ("seals", "Segments sealed."),
    ("damaged_frames", "Log frames found damaged at the start."),
    ("lost_frames", "Log frames that had been written and were gone at the start."),
    (
        "torn_log_ends",
        "Ends of the log found torn at the start, which is what a crash leaves of a write under way.",
    ),
    ("refused_requests", "Requests that had been read and that the log did not take."),
    ("disk_full", "Times that the disk became too full to take spans."),
    ("segments_dropped_for_room", "Segments dropped before their time on a full disk."),
    ("spans_not_rolled_up", "Spans in segments dropped for room of which not even a rollup is left."),
    ("reopen_lookups", "Sealed traces taken back for a span."),
    (
        "lookups_failed",
        "Look-ups of stored spans on arrival that could not read all of them: spans that had come before may have \
         counted again.",
    ),
    ("traces_finished_early", "Analyses before their time, for want of memory."),
    (
        "names_over_limit",
        "Look-ups of a service or an operation beyond a limit, which count as __overflow__.",
    ),
    ("metrics_over_limit", "Spans of operations that are not told apart here, which count as __overflow__."),
    ("traces_analysed", "Analyses of traces."),
    ("traces_analysed_again", "Analyses of traces after late spans."),
    ("traces_too_large", "Analyses of traces with too many spans, which have no critical path."),
    (
        "traces_held_in_part",
        "Sealed traces taken back for a span without their spans, for want of room or because some are damaged.",
    ),
    ("traces_joined_from_files", "Sealed traces that were found on disk only when they were due."),
    (
        "revisions_not_written",
        "Times that the list of traces analysed again had no room in memory and could not be written to the disk.",
    ),
    ("anomaly_missing_parent", "Spans whose parent is not there, at every analysis of their trace."),
    ("anomaly_self_parent", "Spans that are their own parent, at every analysis of their trace."),
    ("anomaly_cycle", "Circles of parents, at every analysis of their trace."),
    (
        "anomaly_id_conflict",
        "Spans with the id of another that is not the same, at every analysis of their trace.",
    ),
    (
        "anomaly_shared_id",
        "Server spans with the id of their client's span, at every analysis of their trace.",
    ),
    ("anomaly_end_before_start", "Spans that end before they start, at every analysis of their trace."),
    ("anomaly_second_root", "Spans without a parent beside their trace's first, at every analysis of it."),
    (
        "anomaly_before_parent",
        "Spans that end before their parent starts, so that clocks disagree, at every analysis of their trace.",
    ),
];

/// An outcome as a counter. One that has no sentence yet is shown with none.
pub(super) fn counter(name: &'static str, value: u64) -> Counter {
    let help = HELP.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help);
    Counter::new(name, help, value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sentence_is_one_and_belongs_to_one_outcome() {
        let (names, texts): (BTreeSet<_>, BTreeSet<_>) = HELP.iter().copied().unzip();
        assert_eq!((names.len(), texts.len()), (HELP.len(), HELP.len()));
        for text in texts {
            assert!(
                text.starts_with(char::is_uppercase) && text.ends_with('.') && text.contains(' '),
                "{text}"
            );
        }
        assert_eq!(
            counter("lost_frames", 2).help,
            "Log frames that had been written and were gone at the start."
        );
    }
}
