//! The transcoder against its oracle, which walks a parsed document: the same verdict, the same bytes.

use longpole_fuzz::otlp::drawn::{mutate, mutations};
use proptest::prelude::*;

use super::{drawn, json_to_traces, oracle, protobuf_len_max};

/// Whether the text is taken.
fn check(text: &[u8]) -> bool {
    let shown = || String::from_utf8_lossy(text).into_owned();
    match (json_to_traces(text), oracle::transcode(text)) {
        (Ok(ours), Some(want)) => {
            assert_eq!(ours, want, "{}", shown());
            assert_eq!(ours.capacity(), protobuf_len_max(text.len()), "it had to grow for {}", shown());
            return true;
        }
        (Err(_), None) => {}
        // The oracle's parser reads what is skipped as well, and counts levels of all of the document.
        (Ok(_), None) => {
            let error = serde_json::from_slice::<serde_json::Value>(text).unwrap_err().to_string();
            let stricter = error.starts_with("number out of range") || error.starts_with("recursion limit");
            assert!(stricter, "only the oracle refuses: {error}\n{}", shown());
        }
        // The oracle's parser takes the last of several members, and rounds integers over 64 bits.
        (Err(error), Some(_)) => {
            let error = error.to_string();
            let known = error.contains("given once only") || error.contains("got -922337203685477");
            assert!(known, "only the oracle takes it: {error}\n{}", shown());
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn drawn_documents_become_what_the_oracle_says(seed in any::<u64>()) {
        check(drawn::document(seed).as_bytes());
    }

    #[test]
    fn mutated_documents_become_what_the_oracle_says(seed in any::<u64>(), mutations in mutations()) {
        let mut text = drawn::document(seed).into_bytes();
        mutate(&mut text, mutations);
        check(&text);
    }
}

/// Otherwise the properties prove nothing.
#[test]
fn most_drawn_documents_are_taken_and_some_are_not() {
    let taken = (0..2_000).filter(|seed| check(drawn::document(*seed).as_bytes())).count();
    assert!((1_000..1_950).contains(&taken), "{taken} of 2000");
}

/// Every prefix of a document is refused, and every document stays one with white space around it.
#[test]
fn documents_end_where_they_end() {
    for seed in 0..50 {
        let text = drawn::document(seed);
        let text = text.trim_ascii();
        let taken = check(text.as_bytes());
        for end in 0..text.len() {
            assert!(!check(&text.as_bytes()[..end]), "{end} of {text}");
        }
        assert_eq!(check(format!(" \r\n\t{text}\t\n ").as_bytes()), taken);
        assert!(!check(format!("{text},").as_bytes()) && !check(format!("{text}{text}").as_bytes()));
    }
}
