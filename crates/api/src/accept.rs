//! Choosing a media type by the `Accept` header.

use axum::http::{HeaderMap, header};

/// The index of the offered type that the client prefers; earlier offers win ties. `None` if it refuses all.
/// Without an `Accept` header, or with one that cannot be read, the first offer.
pub(crate) fn preferred(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    let text: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<(&str, u16)> = text.iter().flat_map(|line| line.split(',')).filter_map(range).collect();
    if ranges.is_empty() {
        return Some(0);
    }
    let mut best: Option<(usize, u16)> = None;
    for (index, media_type) in offered.iter().enumerate() {
        let weight = weight_of(media_type, &ranges);
        if weight > 0 && best.is_none_or(|(_, most)| weight > most) {
            best = Some((index, weight));
        }
    }
    best.map(|(index, _)| index)
}

/// One element of the header: the media range and its weight in thousandths.
fn range(element: &str) -> Option<(&str, u16)> {
    let mut parts = element.split(';').map(str::trim);
    let media_range = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
    Some((media_range, (weight.clamp(0.0, 1.0) * 1000.0) as u16))
}

/// The weight that the most specific matching range gives.
fn weight_of(media_type: &str, ranges: &[(&str, u16)]) -> u16 {
    let (class, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let specificity = |range: &str| match range {
        _ if range.eq_ignore_ascii_case(media_type) => 3,
        "*/*" => 1,
        _ => match range.strip_suffix("/*") {
            Some(prefix) if prefix.eq_ignore_ascii_case(class) => 2,
            _ => 0,
        },
    };
    let matching = ranges.iter().map(|(range, weight)| (specificity(range), *weight));
    matching.filter(|(rank, _)| *rank > 0).max().map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(accept: &str) -> Option<usize> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        preferred(&headers, &["application/json", "application/x-protobuf"])
    }

    #[test]
    fn the_client_chooses_and_the_first_offer_wins_ties() {
        assert_eq!(preferred(&HeaderMap::new(), &["a/b"]), Some(0));
        assert_eq!(choose("application/x-protobuf"), Some(1));
        assert_eq!(choose("*/*"), Some(0));
        assert_eq!(choose("application/*;q=0.5"), Some(0));
        assert_eq!(choose("application/json;q=0.1, Application/X-Protobuf;q=0.9"), Some(1));
        assert_eq!(choose("*/*;q=0.2, application/json;q=0.1"), Some(1));
        assert_eq!(choose("text/html"), None);
        assert_eq!(choose("application/json;q=0, text/html"), None);
    }
}
