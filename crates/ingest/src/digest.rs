//! From received bytes to rows: inflate, transcode, walk. Ordinary code that blocks; who calls it decides where.

use std::io::Read;

use bytes::Bytes;
use otlp_wire::{JsonError, WireFault, WireLimits};
use query::NameTable;

use crate::admit::{AdmitError, Prepared, prepare};
use crate::budget::{Budget, Charge};
use crate::drain::jittered;
use crate::encoding::Encoding;
use crate::limits::IngestLimits;
use crate::received::Received;
use crate::refusal::{Reason, Refused};

/// Inflated bytes are charged and asked for in steps of this size.
const STEP: usize = 256 << 10;
/// Work on more than this does not happen where connections are served.
const HEAVY_RAW: usize = 1 << 20;
/// The same for compressed bytes and JSON, which take longer.
const HEAVY_PACKED: usize = 64 << 10;

/// A body that is there.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: Received,
    pub(crate) encoding: Encoding,
    pub(crate) json: bool,
}

/// A request that can go to the log.
#[derive(Debug)]
pub(crate) struct Digested {
    pub(crate) prepared: Prepared,
    pub(crate) charge: Charge,
    pub(crate) wire_bytes: usize,
}

impl Message {
    /// Whether it takes so long that it must not hold up a thread which serves connections.
    pub(crate) fn is_heavy(&self) -> bool {
        let plain = self.encoding == Encoding::Identity && !self.json;
        self.body.len() > if plain { HEAVY_RAW } else { HEAVY_PACKED }
    }

    /// Inflates, transcodes and walks it.
    ///
    /// # Errors
    /// If it is over a limit or not OTLP.
    pub(crate) fn digest(
        self,
        limits: &IngestLimits,
        budget: &Budget,
        names: &NameTable,
    ) -> Result<Digested, Refused> {
        let wire_bytes = self.body.len();
        let (json, encoding) = (self.json, self.encoding);
        let (mut bytes, mut charge) = if encoding == Encoding::Identity {
            self.body.into_bytes()
        } else {
            inflate(self.body, encoding, Inflated::of(json, limits), budget)?
        };
        // What came as it is has not been measured yet.
        let most = Inflated::of(json, limits);
        if bytes.len() > most.limit {
            return Err(most.refuse());
        }
        if json {
            bytes = transcode(bytes, &mut charge, budget, limits)?;
        }
        let mut prepared = prepare(bytes, names, &limits.wire()).map_err(|error| unreadable(&error))?;
        if prepared.rejected > 0 && !prepared.batch.rows.is_empty() {
            prepared = without_rejected(prepared, &limits.wire(), &mut charge, budget)?;
        }
        // Those of an ordinary request are a small part of it; with many scopes under one long resource they are not.
        let batch = &prepared.batch;
        if !charge.grow(batch.context_bytes.len().saturating_sub(batch.request.len())) {
            return Err(overloaded(budget));
        }
        Ok(Digested { prepared, charge, wire_bytes })
    }
}

/// What inflated bytes are held to.
struct Inflated {
    limit: usize,
    reason: Reason,
    key: &'static str,
}

impl Inflated {
    fn of(json: bool, limits: &IngestLimits) -> Self {
        if json && limits.json_bytes < limits.request_bytes {
            return Self { limit: limits.json_bytes, reason: Reason::JsonBytes, key: "ingest.json_bytes" };
        }
        Self { limit: limits.request_bytes, reason: Reason::RequestBytes, key: "ingest.request_bytes" }
    }

    fn refuse(&self) -> Refused {
        let message = format!("the inflated request has more than {} bytes ({})", self.limit, self.key);
        Refused::new(self.reason, message)
    }
}

/// Stops at the limit, whatever the rest would be.
fn inflate(
    body: Received,
    encoding: Encoding,
    most: Inflated,
    budget: &Budget,
) -> Result<(Bytes, Charge), Refused> {
    let wire = body.len();
    let (reader, mut charge) = body.into_reader();
    let broken = |error: std::io::Error| {
        Refused::new(
            Reason::BrokenEncoding,
            format!("cannot inflate the request as {}: {error}", encoding.name()),
        )
    };
    let mut reader = encoding.reader(reader).map_err(broken)?;
    let mut out = Vec::new();
    loop {
        if !charge.grow(STEP) {
            return Err(overloaded(budget));
        }
        out.reserve(STEP);
        let n = reader.by_ref().take(STEP as u64).read_to_end(&mut out).map_err(broken)?;
        if out.len() > most.limit {
            return Err(most.refuse());
        }
        if n < STEP {
            break;
        }
    }
    drop(reader);
    // What is kept lives until its segment is sealed: not with twice the memory.
    out.shrink_to_fit();
    let steps = out.len() / STEP + 1;
    charge.shrink(wire + steps * STEP - out.len());
    Ok((out.into(), charge))
}

/// The text is charged; for as long as it is there together with its protobuf, both are.
fn transcode(
    text: Bytes,
    charge: &mut Charge,
    budget: &Budget,
    limits: &IngestLimits,
) -> Result<Bytes, Refused> {
    let most = otlp_wire::protobuf_len_max(text.len());
    if !charge.grow(most) {
        return Err(overloaded(budget));
    }
    let mut protobuf = otlp_wire::json_to_traces(&text).map_err(|error| match error {
        JsonError::TooDeep { .. } => over_limit(WireFault::TooDeep { limit: limits.wire().depth }),
        error => Refused::new(Reason::Unreadable, error.to_string()),
    })?;
    let text_bytes = text.len();
    drop(text);
    protobuf.shrink_to_fit();
    charge.shrink(text_bytes + most - protobuf.len());
    Ok(protobuf.into())
}

/// What is left of the request is charged; for as long as it is there together with all of it, both are.
fn without_rejected(
    prepared: Prepared,
    limits: &WireLimits,
    charge: &mut Charge,
    budget: &Budget,
) -> Result<Prepared, Refused> {
    let whole = prepared.batch.request.len();
    if !charge.grow(whole) {
        return Err(overloaded(budget));
    }
    let prepared = prepared.without_rejected(limits).map_err(|error| unreadable(&error))?;
    charge.shrink(2 * whole - prepared.batch.request.len());
    Ok(prepared)
}

/// The refusal of a request that came while too much was on the way.
pub(crate) fn overloaded(budget: &Budget) -> Refused {
    let message = "too much is on its way to the log (ingest.queued_bytes)";
    Refused::until(Reason::Overloaded, message, jittered(budget.wait()))
}

fn unreadable(error: &AdmitError) -> Refused {
    use WireFault::{TooDeep, TooManySpans, TooMuchContext};
    match error.0.fault {
        fault @ (TooManySpans { .. } | TooMuchContext { .. } | TooDeep { .. }) => over_limit(fault),
        _ => Refused::new(Reason::Unreadable, error.to_string()),
    }
}

/// The refusal of a request that could be read and has too much of something.
fn over_limit(fault: WireFault) -> Refused {
    let (reason, key) = match fault {
        WireFault::TooManySpans { .. } => (Reason::Spans, "ingest.request_spans"),
        WireFault::TooMuchContext { .. } => (Reason::RequestBytes, "ingest.request_bytes"),
        _ => (Reason::Depth, "ingest.value_depth"),
    };
    Refused::new(reason, format!("over a limit: {fault} ({key})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","name":"a"}]}]}]}"#;

    /// Digests JSON beside another request of one byte, with room for so many more.
    fn digest(text: &'static [u8], room: usize) -> (Result<usize, Reason>, usize) {
        let budget = Budget::new(room + 1);
        let mut other = budget.charge();
        assert!(other.grow(1));
        let mut body = Received::new(budget.charge());
        assert!(body.push(Bytes::from_static(text)));
        let message = Message { body, encoding: Encoding::Identity, json: true };
        let digested = message.digest(&IngestLimits::default(), &budget, &NameTable::default());
        let charged = budget.used() - 1;
        (
            digested.map(|digested| digested.prepared.batch.request.len()).map_err(|refused| refused.reason),
            charged,
        )
    }

    #[test]
    fn a_resource_that_comes_again_with_each_scope_is_charged() {
        let bytes = |field: u8, payload: &[u8]| {
            let length = [payload.len() as u8 & 0x7f | 0x80, (payload.len() >> 7) as u8];
            [&[field << 3 | 2], &length[..], payload].concat()
        };
        let span = bytes(2, &[bytes(1, &[7; 16]), bytes(2, &[7; 8])].concat());
        let resource = bytes(1, &bytes(9, &[b'r'; 900]));
        let contexts = 4 * (resource.len() + 2);
        let request: Bytes = bytes(1, &[resource, bytes(2, &span).repeat(4)].concat()).into();
        let charged = |room: usize| {
            let budget = Budget::new(room);
            let mut body = Received::new(budget.charge());
            assert!(body.push(request.slice(..)));
            let message = Message { body, encoding: Encoding::Identity, json: false };
            let digested = message.digest(&IngestLimits::default(), &budget, &NameTable::default());
            digested.map(|_digested| budget.used()).map_err(|refused| refused.reason)
        };
        assert!(contexts > 2 * request.len());
        assert_eq!(charged(contexts), Ok(contexts));
        assert_eq!(charged(contexts - 1), Ok(contexts - 1), "alone it passes");
    }

    #[test]
    fn json_and_its_protobuf_are_charged_while_both_are_there() {
        let both = TEXT.len() + otlp_wire::protobuf_len_max(TEXT.len());
        let (taken, charged) = digest(TEXT, both);
        assert!(taken.is_ok_and(|protobuf| protobuf == charged && charged < TEXT.len()), "{charged}");
        assert_eq!(digest(TEXT, both - 1), (Err(Reason::Overloaded), 0));
        assert_eq!(digest(b"{", 1_000), (Err(Reason::Unreadable), 0));
    }
}
