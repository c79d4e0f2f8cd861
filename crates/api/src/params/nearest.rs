//! The known name that is nearest to an unknown one.

/// The candidate with the least edit distance to `word`, the first of several.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    candidates.min_by_key(|candidate| distance(&word, candidate))
}

/// Levenshtein's distance.
fn distance(word: &[char], other: &str) -> usize {
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (i, b) in other.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, a) in word.iter().enumerate() {
            let replaced = diagonal + usize::from(*a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[word.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_name() {
        let names = ["service", "operation", "min_duration", "max_duration", "limit"];
        let near = |word| nearest(word, names.into_iter());
        assert_eq!(near("servce"), Some("service"));
        assert_eq!(near("minDuration"), Some("min_duration"));
        assert_eq!(near("LIMITS"), Some("limit"));
        assert_eq!(nearest("x", [].into_iter()), None);
    }
}
