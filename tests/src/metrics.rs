//! Reading `/metrics` in Prometheus text.

use anyhow::{Context, Result, ensure};

/// The value of a metric that has no labels.
pub fn metric(text: &str, name: &str) -> Result<f64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = values.next().with_context(|| format!("no metric {name}"))?;
    ensure!(values.next().is_none(), "{name} is there more than once");
    // A timestamp may follow.
    let value = value.split(' ').next().unwrap_or(value);
    value.parse().with_context(|| format!("{name} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_counts() {
        let text = "# HELP a_total said\na_total_more 3\na_total 12\n";
        assert_eq!(metric(text, "a_total").unwrap(), 12.0);
        assert!(metric(text, "a").is_err());
        assert!(metric("a 1\na 2\n", "a").is_err());
    }
}
