//! Exemplars: a few spans that stand for a histogram.
//!
//! A set keeps the slowest span, the slowest that failed, and up to three others from different bands of
//! duration, a band being one doubling. Who is kept depends only on the spans seen, so merging sets is
//! commutative, associative and idempotent:
//!
//! ```text
//! band (ns)   2^19-2^20     2^20-2^21         2^22-2^23     2^26-2^27
//! spans       a  b          c  d  e           f             g (slowest)
//! hash        7  3          9  1  5           4             8
//! kept           b             d              f             g
//! ```
//!
//! Of each band the span with the smallest hash of its ids stands for the band; of those the three with
//! the smallest hashes are kept. A band with many spans is likely to have a small one, so the typical
//! durations are among them.

use trace_model::{NanoDuration, SpanId, TraceId, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{DecodeError, put, take, take_byte, take_bytes};

const EXEMPLARS_FORMAT: u8 = 1;

/// Why an exemplar is kept, added up: 1 it is the slowest, 2 the slowest that failed, 4 it stands for its band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExemplarRoles(pub u8);

impl ExemplarRoles {
    /// Of the only span of a series.
    pub const fn of_only(failed: bool) -> Self {
        Self(SLOWEST | PICK | if failed { ERROR } else { 0 })
    }

    /// Whether it is the slowest.
    pub const fn is_slowest(self) -> bool {
        self.0 & SLOWEST != 0
    }
}

const SLOWEST: u8 = 1;
const ERROR: u8 = 2;
const PICK: u8 = 4;

/// How many bands are kept.
const BANDS: usize = 3;

/// One span, so that a number can be followed to what it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// How long it took.
    pub duration: NanoDuration,
    /// When it ended.
    pub time: UnixNanos,
}

impl Exemplar {
    /// Slower before faster; of equals the smaller ids, then the earlier.
    fn is_slower_than(&self, other: &Self) -> bool {
        let ids = |e: &Self| (e.trace_id, e.span_id, e.time);
        self.duration > other.duration || (self.duration == other.duration && ids(self) < ids(other))
    }

    /// What chooses the spans that stand for a band: xxh3-64 of the ids, one after the other.
    pub fn hash_of(trace_id: &TraceId, span_id: &SpanId) -> u64 {
        let mut ids = [0; 24];
        ids[..16].copy_from_slice(trace_id.as_bytes());
        ids[16..].copy_from_slice(span_id.as_bytes());
        xxh3_64(&ids)
    }

    fn hash(&self) -> u64 {
        Self::hash_of(&self.trace_id, &self.span_id)
    }

    fn band(&self) -> u32 {
        band_of(self.duration)
    }
}

/// The doubling that a duration lies in, 0 to 63.
pub(crate) fn band_of(duration: NanoDuration) -> u32 {
    duration.0.max(1).ilog2()
}

/// The exemplar that stands for a band, with its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pick {
    hash: u64,
    exemplar: Exemplar,
}

impl Pick {
    /// A total order: by hash, and for equal ids or a collision by everything else.
    fn order(&self) -> impl Ord + use<> {
        let e = self.exemplar;
        (self.hash, e.trace_id, e.span_id, e.duration, e.time)
    }
}

/// A handful of exemplars, at most five.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExemplarSet {
    slowest: Option<Exemplar>,
    error: Option<Exemplar>,
    /// One per band, sorted by `Pick::order`, at most `BANDS`.
    picks: Vec<Pick>,
}

impl ExemplarSet {
    /// A set of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers a span; `error` if it failed.
    pub fn observe(&mut self, exemplar: Exemplar, error: bool) {
        self.observe_slow(exemplar, error);
        self.observe_band(exemplar, exemplar.hash());
    }

    /// Offers a span as the slowest, and as the slowest that failed.
    pub(crate) fn observe_slow(&mut self, exemplar: Exemplar, error: bool) {
        keep_slower(&mut self.slowest, exemplar);
        if error {
            keep_slower(&mut self.error, exemplar);
        }
    }

    /// Offers a span, whose hash is known, for its band.
    pub(crate) fn observe_band(&mut self, exemplar: Exemplar, hash: u64) {
        self.offer(Pick { hash, exemplar });
    }

    /// Adds what another set holds.
    pub fn merge(&mut self, other: &Self) {
        if let Some(exemplar) = other.slowest {
            keep_slower(&mut self.slowest, exemplar);
        }
        if let Some(exemplar) = other.error {
            keep_slower(&mut self.error, exemplar);
        }
        other.picks.iter().for_each(|pick| self.offer(*pick));
    }

    fn offer(&mut self, pick: Pick) {
        let band = pick.exemplar.band();
        match self.picks.iter().position(|other| other.exemplar.band() == band) {
            Some(at) if self.picks[at].order() <= pick.order() => return,
            Some(at) => {
                self.picks.remove(at);
            }
            None => {}
        }
        let at = self.picks.partition_point(|other| other.order() < pick.order());
        if at < BANDS {
            self.picks.truncate(BANDS - 1);
            self.picks.reserve_exact(1);
            self.picks.insert(at, pick);
        }
    }

    /// The slowest span.
    pub const fn slowest(&self) -> Option<&Exemplar> {
        self.slowest.as_ref()
    }

    /// The slowest span that failed.
    pub const fn error(&self) -> Option<&Exemplar> {
        self.error.as_ref()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.slowest.is_none()
    }

    /// All exemplars, each once: the slowest, the error, then those of the bands.
    pub fn iter(&self) -> impl Iterator<Item = &Exemplar> {
        let error = self.error.iter().filter(|e| self.slowest.as_ref() != Some(e));
        let known = |e: &&Exemplar| self.slowest.as_ref() == Some(*e) || self.error.as_ref() == Some(*e);
        let picks = self.picks.iter().map(|pick| &pick.exemplar).filter(move |e| !known(e));
        self.slowest.iter().chain(error).chain(picks)
    }

    /// The fastest exemplar that took at least this long: the one to show beside a quantile.
    pub fn nearest_above(&self, duration: NanoDuration) -> Option<&Exemplar> {
        let above = self.iter().filter(|e| e.duration >= duration);
        above.min_by_key(|e| (e.duration, e.trace_id, e.span_id, e.time))
    }

    /// Appends the set's encoding: 2 bytes, and about 40 for each exemplar.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(EXEMPLARS_FORMAT);
        out.push(self.iter().count() as u8);
        for exemplar in self.iter() {
            out.push(self.roles(exemplar).0);
            out.extend_from_slice(exemplar.trace_id.as_bytes());
            out.extend_from_slice(exemplar.span_id.as_bytes());
            put(out, exemplar.duration.0);
            put(out, exemplar.time.0);
        }
    }

    /// Why one of its exemplars is kept.
    pub fn roles(&self, exemplar: &Exemplar) -> ExemplarRoles {
        let mut roles = 0;
        for (role, kept) in [(SLOWEST, &self.slowest), (ERROR, &self.error)] {
            roles |= if kept.as_ref() == Some(exemplar) { role } else { 0 };
        }
        let picked = self.picks.iter().any(|pick| pick.exemplar == *exemplar);
        ExemplarRoles(roles | if picked { PICK } else { 0 })
    }

    /// A set of stored exemplars.
    ///
    /// # Errors
    /// If they are not such a set, or with the first error of the exemplars.
    pub fn from_stored(
        exemplars: impl Iterator<Item = Result<(ExemplarRoles, Exemplar), DecodeError>>,
    ) -> Result<Self, DecodeError> {
        let mut set = Self::new();
        for stored in exemplars {
            let (ExemplarRoles(roles), exemplar) = stored?;
            let taken = (roles & SLOWEST != 0 && set.slowest.replace(exemplar).is_some())
                || (roles & ERROR != 0 && set.error.replace(exemplar).is_some());
            if taken || roles == 0 || roles > SLOWEST | ERROR | PICK {
                return Err(DecodeError::Inconsistent("an exemplar with no role, or that of another"));
            }
            if roles & PICK != 0 {
                set.offer(Pick { hash: exemplar.hash(), exemplar });
            }
        }
        let is_slowest = |slowest: Exemplar| set.iter().all(|e| !e.is_slower_than(&slowest));
        match set.slowest {
            Some(slowest) if is_slowest(slowest) => Ok(set),
            None if set == Self::new() => Ok(set),
            _ => Err(DecodeError::Inconsistent("the slowest exemplar is not the slowest")),
        }
    }

    /// Takes an encoded set off the front of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not an encoded set; `bytes` is left as it was.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut rest = *bytes;
        let set = decode_set(&mut rest)?;
        *bytes = rest;
        Ok(set)
    }
}

fn keep_slower(kept: &mut Option<Exemplar>, offered: Exemplar) {
    if kept.is_none_or(|kept| offered.is_slower_than(&kept)) {
        *kept = Some(offered);
    }
}

fn decode_set(bytes: &mut &[u8]) -> Result<ExemplarSet, DecodeError> {
    match take_byte(bytes)? {
        EXEMPLARS_FORMAT => {}
        other => return Err(DecodeError::Format(other)),
    }
    let exemplars =
        (0..take_byte(bytes)?).map(|_| Ok((ExemplarRoles(take_byte(bytes)?), take_exemplar(bytes)?)));
    ExemplarSet::from_stored(exemplars)
}

fn take_exemplar(bytes: &mut &[u8]) -> Result<Exemplar, DecodeError> {
    Ok(Exemplar {
        trace_id: TraceId::try_from(take_bytes(bytes, 16)?)?,
        span_id: SpanId::try_from(take_bytes(bytes, 8)?)?,
        duration: NanoDuration(take(bytes)?),
        time: UnixNanos(take(bytes)?),
    })
}
