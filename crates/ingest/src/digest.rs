//! From received bytes to rows: inflate, transcode, walk. Ordinary code that blocks; who calls it decides where.

use bytes::Bytes;
use otlp_wire::{JsonError, WireFault, WireLimits};
use query::NameTable;

use crate::admit::{AdmitError, Prepared, prepare_with_room};
use crate::budget::{Budget, Charge};
use crate::drain::jittered;
use crate::encoding::Encoding;
use crate::inflate::{Inflating, Most};
use crate::limits::IngestLimits;
use crate::received::Received;
use crate::refusal::{Reason, Refused};

/// Work on more than this does not happen where connections are served.
const HEAVY_RAW: usize = 1 << 20;
/// The same for JSON, and for compressed bytes as they came: these take longer.
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

/// A message whose weight is known.
pub(crate) struct Begun {
    content: Content,
    json: bool,
    wire_bytes: usize,
}

enum Content {
    Plain(Received),
    /// So much that nothing is inflated before it is worked on: what inflates takes memory that is not charged.
    Packed(Received, Encoding),
    Begun(Inflating),
}

impl Message {
    /// Inflates its beginning, no more than may be where connections are served: a few bytes may inflate to very many, so that
    /// their number says nothing.
    ///
    /// # Errors
    /// If it is over a limit or cannot be inflated.
    pub(crate) fn begin(self, limits: &IngestLimits, budget: &Budget) -> Result<Begun, Refused> {
        let Self { body, encoding, json } = self;
        let wire_bytes = body.len();
        if encoding == Encoding::Identity {
            return Ok(Begun { content: Content::Plain(body), json, wire_bytes });
        }
        if wire_bytes > HEAVY_PACKED {
            return Ok(Begun { content: Content::Packed(body, encoding), json, wire_bytes });
        }
        let mut inflating = Inflating::new(body, encoding, Most::of(json, limits))?;
        inflating.run(heavy(json), budget)?;
        Ok(Begun { content: Content::Begun(inflating), json, wire_bytes })
    }
}

/// How many bytes are too many to be worked on where connections are served.
fn heavy(json: bool) -> usize {
    if json { HEAVY_PACKED } else { HEAVY_RAW }
}

impl Begun {
    /// Whether it takes so long that it must not hold up a thread which serves connections.
    pub(crate) fn is_heavy(&self) -> bool {
        match &self.content {
            Content::Plain(body) => body.len() > heavy(self.json),
            Content::Packed(..) => true,
            Content::Begun(inflating) => !inflating.is_whole() || inflating.len() > heavy(self.json),
        }
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
        let Self { content, json, wire_bytes } = self;
        let most = Most::of(json, limits);
        let (mut bytes, mut charge) = match content {
            Content::Plain(body) => body.into_bytes(),
            Content::Packed(body, encoding) => Inflating::new(body, encoding, most)?.finish(budget)?,
            Content::Begun(inflating) => inflating.finish(budget)?,
        };
        // What came as it is has not been measured yet.
        if bytes.len() > most.limit {
            return Err(most.refuse());
        }
        if json {
            bytes = transcode(bytes, &mut charge, budget, limits)?;
        }
        let mut prepared = lay_out(bytes, names, &limits.wire(), &mut charge, budget)?;
        if prepared.rejected > 0 && !prepared.batch.rows.is_empty() {
            prepared = without_rejected(prepared, &limits.wire(), &mut charge, budget)?;
        }
        Ok(Digested { prepared, charge, wire_bytes })
    }
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

/// Rows and contexts of an ordinary request are a part of what is kept free beside requests; what they take beyond its
/// length is charged before they are there.
fn lay_out(
    request: Bytes,
    names: &NameTable,
    limits: &WireLimits,
    charge: &mut Charge,
    budget: &Budget,
) -> Result<Prepared, Refused> {
    let (length, mut charged) = (request.len(), 0);
    let has_room = |derived: usize| {
        charged = derived.saturating_sub(length);
        charge.grow(charged)
    };
    let laid_out = prepare_with_room(request, names, limits, has_room).map_err(|error| unreadable(&error))?;
    let prepared = laid_out.ok_or_else(|| overloaded(budget))?;
    charge.shrink(charged - prepared.derived_bytes().saturating_sub(length).min(charged));
    Ok(prepared)
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
    use WireFault::{TooDeep, TooManyScopes, TooManySpans, TooMuchContext};
    match error.0.fault {
        fault @ (TooManySpans { .. } | TooManyScopes { .. } | TooMuchContext { .. } | TooDeep { .. }) => {
            over_limit(fault)
        }
        _ => Refused::new(Reason::Unreadable, error.to_string()),
    }
}

/// The refusal of a request that could be read and has too much of something.
fn over_limit(fault: WireFault) -> Refused {
    let (reason, key) = match fault {
        WireFault::TooManySpans { .. } | WireFault::TooManyScopes { .. } => {
            (Reason::Spans, "ingest.request_spans")
        }
        WireFault::TooMuchContext { .. } => (Reason::RequestBytes, "ingest.request_bytes"),
        _ => (Reason::Depth, "ingest.value_depth"),
    };
    Refused::new(reason, format!("over a limit: {fault} ({key})"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use segment::SpanRow;

    use super::*;

    const TEXT: &[u8] =
        br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","name":"a"}]}]}]}"#;

    fn digest_in(budget: &Arc<Budget>, message: Message) -> Result<Digested, Reason> {
        let limits = IngestLimits::default();
        let begun = message.begin(&limits, budget);
        let digested = begun.and_then(|begun| begun.digest(&limits, budget, &NameTable::default()));
        digested.map_err(|refused| refused.reason)
    }

    fn message(budget: &Arc<Budget>, bytes: Bytes, encoding: Encoding, json: bool) -> Message {
        let mut body = Received::new(budget.charge());
        assert!(body.push(bytes));
        Message { body, encoding, json }
    }

    /// Digests JSON beside another request of one byte, with room for so many more.
    fn digest(text: &'static [u8], room: usize) -> (Result<usize, Reason>, usize) {
        let budget = Budget::new(room + 1);
        let mut other = budget.charge();
        assert!(other.grow(1));
        let message = message(&budget, Bytes::from_static(text), Encoding::Identity, true);
        let digested = digest_in(&budget, message);
        let charged = budget.used() - 1;
        (digested.map(|digested| digested.prepared.batch.request.len()), charged)
    }

    fn field(field: u8, payload: &[u8]) -> Vec<u8> {
        let length = [payload.len() as u8 & 0x7f | 0x80, (payload.len() >> 7) as u8];
        [&[field << 3 | 2], &length[..], payload].concat()
    }

    fn span() -> Vec<u8> {
        field(2, &[field(1, &[7; 16]), field(2, &[7; 8])].concat())
    }

    /// What is charged for a request alone in a budget of so many bytes, after all that were charged.
    fn charged(request: &Bytes, room: usize) -> usize {
        let budget = Budget::new(room);
        let digested = digest_in(&budget, message(&budget, request.clone(), Encoding::Identity, false));
        let charge = digested.unwrap().charge;
        assert_eq!(budget.used(), charge.bytes().min(room));
        charge.bytes()
    }

    #[test]
    fn a_resource_that_comes_again_with_each_scope_is_charged() {
        let resource = field(1, &field(9, &[b'r'; 900]));
        let contexts = 4 * (resource.len() + 2);
        let request: Bytes = field(1, &[resource, field(2, &span()).repeat(4)].concat()).into();
        assert!(contexts > 2 * request.len());
        let derived = contexts + 4 * (size_of::<SpanRow>() + size_of::<(u32, u32)>());
        assert_eq!(charged(&request, 2 * derived), derived);
        assert_eq!(charged(&request, derived - 1), derived, "alone it passes");
    }

    #[test]
    fn rows_of_tiny_spans_are_charged_and_those_of_others_are_a_part_of_their_request() {
        let tiny: Bytes = field(1, &field(2, &span().repeat(300))).into();
        let rows = 300 * size_of::<SpanRow>();
        assert!(rows > 2 * tiny.len());
        let charge = charged(&tiny, 1 << 20);
        assert!((rows..rows + 20).contains(&charge), "{charge}");
        let long = field(2, &[field(1, &[7; 16]), field(2, &[7; 8]), field(5, &[b'n'; 200])].concat());
        let ordinary: Bytes = field(1, &field(2, &long.repeat(50))).into();
        assert_eq!(charged(&ordinary, 1 << 20), ordinary.len());
    }

    #[test]
    fn little_that_inflates_to_much_is_heavy() {
        let many: Vec<u8> = field(1, &field(2, &span().repeat(300))).repeat(200);
        for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Deflate] {
            for (bytes, is_heavy) in [(&many[..], true), (&many[..many.len() / 200], false)] {
                let budget = Budget::new(1 << 30);
                let packed = encoding.deflate(bytes).unwrap();
                assert!(packed.len() <= HEAVY_PACKED, "{encoding:?}: {}", packed.len());
                let message = message(&budget, packed.into(), encoding, false);
                let begun = message.begin(&IngestLimits::default(), &budget).unwrap();
                assert_eq!(begun.is_heavy(), is_heavy, "{encoding:?}");
                // So much was inflated, and no more.
                let Content::Begun(inflating) = &begun.content else { panic!("its beginning is inflated") };
                assert!(inflating.len() < 2 * HEAVY_RAW);
                let digested =
                    begun.digest(&IngestLimits::default(), &budget, &NameTable::default()).unwrap();
                assert!(digested.prepared.batch.request == bytes, "{encoding:?}");
                assert_eq!(budget.used(), digested.charge.bytes());
            }
        }
        let text = [TEXT, &[b' '; HEAVY_PACKED][..]].concat();
        let budget = Budget::new(1 << 30);
        let packed = Encoding::Gzip.deflate(&text).unwrap();
        let begun = message(&budget, packed.into(), Encoding::Gzip, true);
        assert!(begun.begin(&IngestLimits::default(), &budget).unwrap().is_heavy());
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
