//! Services and operations.

use query::{Incomplete, OperationRow, ServiceRow};
use serde::Serialize;

use super::{Completeness, Text};
use crate::cursor::write_name;
use crate::params::NamePage;

/// `GET /services`.
#[derive(Debug, Serialize)]
pub(crate) struct Services<'a> {
    services: Vec<Service<'a>>,
    next_cursor: Option<String>,
    #[serde(flatten)]
    completeness: Completeness<'a>,
}

#[derive(Debug, Serialize)]
struct Service<'a> {
    name: &'a str,
    spans: u64,
    errors: u64,
    first_seen_unix_nano: Text<u64>,
    last_seen_unix_nano: Text<u64>,
}

impl<'a> Services<'a> {
    pub(crate) fn new(rows: &'a [ServiceRow], incomplete: &'a [Incomplete], page: &NamePage) -> Self {
        let (rows, next_cursor) = page_of(rows, page, |row| (&row.name, 0));
        let services = rows.into_iter().map(Service::from).collect();
        Self { services, next_cursor, completeness: Completeness::of(incomplete) }
    }
}

impl<'a> From<&'a ServiceRow> for Service<'a> {
    fn from(row: &'a ServiceRow) -> Self {
        Self {
            name: &row.name,
            spans: row.spans,
            errors: row.errors,
            first_seen_unix_nano: Text(row.first_seen.0),
            last_seen_unix_nano: Text(row.last_seen.0),
        }
    }
}

/// `GET /services/{service}/operations`.
#[derive(Debug, Serialize)]
pub(crate) struct Operations<'a> {
    operations: Vec<Operation<'a>>,
    next_cursor: Option<String>,
    #[serde(flatten)]
    completeness: Completeness<'a>,
}

#[derive(Debug, Serialize)]
struct Operation<'a> {
    name: &'a str,
    kind: &'static str,
    spans: u64,
    errors: u64,
}

impl<'a> Operations<'a> {
    pub(crate) fn new(rows: &'a [OperationRow], incomplete: &'a [Incomplete], page: &NamePage) -> Self {
        let (rows, next_cursor) = page_of(rows, page, |row| (&row.name, row.kind as u8));
        let operations = rows.into_iter().map(Operation::from).collect();
        Self { operations, next_cursor, completeness: Completeness::of(incomplete) }
    }
}

impl<'a> From<&'a OperationRow> for Operation<'a> {
    fn from(row: &'a OperationRow) -> Self {
        Self { name: &row.name, kind: row.kind.as_str(), spans: row.spans, errors: row.errors }
    }
}

/// The rows of a page, sorted by key, and where the next page begins.
fn page_of<'a, T>(
    rows: &'a [T],
    page: &NamePage,
    key: impl Fn(&'a T) -> (&'a str, u8),
) -> (Vec<&'a T>, Option<String>) {
    let after = page.after.as_ref().map(|(name, kind)| (name.as_str(), *kind));
    let mut rows: Vec<&T> = rows.iter().filter(|row| after.is_none_or(|after| key(row) > after)).collect();
    rows.sort_by_key(|row| key(row));
    let more = rows.len() > page.limit;
    rows.truncate(page.limit);
    let last = rows.last().filter(|_| more).map(|row| key(row));
    (rows, last.map(|(name, kind)| write_name(name, kind)))
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};
    use trace_model::SpanKind;

    use super::*;
    use crate::cursor::read_name;
    use crate::fake;

    #[test]
    fn services_have_this_shape() {
        let incomplete = [Incomplete { reason: "damaged_segment", detail: "segment 7 is damaged".into() }];
        let page = NamePage { after: None, limit: 10 };
        let services = to_value(Services::new(&[fake::service("shop")], &incomplete, &page)).unwrap();
        let wanted = json!({
            "services": [{"name": "shop", "spans": 9, "errors": 1,
                "first_seen_unix_nano": "1700000000000000000", "last_seen_unix_nano": "1700000000000000900"}],
            "next_cursor": null,
            "complete": false,
            "incomplete": [{"reason": "damaged_segment", "detail": "segment 7 is damaged"}]
        });
        assert_eq!(services, wanted);
    }

    #[test]
    fn a_walk_over_pages_gives_each_operation_once() {
        let row = |name: &str, kind| OperationRow { name: name.into(), kind, spans: 1, errors: 0 };
        let rows = [row("b", SpanKind::Server), row("a", SpanKind::Client), row("b", SpanKind::Internal)];
        let mut page = NamePage { after: None, limit: 1 };
        let mut seen = Vec::new();
        loop {
            let answer = Operations::new(&rows, &[], &page);
            seen.extend(
                answer.operations.iter().map(|operation| (operation.name.to_owned(), operation.kind)),
            );
            let Some(next) = answer.next_cursor else { break };
            page.after = read_name(&next);
        }
        let wanted = [("a", "client"), ("b", "internal"), ("b", "server")];
        assert_eq!(seen, wanted.map(|(name, kind)| (name.to_owned(), kind)));
    }
}
