//! Inflating a body: within its limit, charged as it grows, and piece by piece, so that it can begin in one thread and
//! go on in another.

use std::io::Read;

use bytes::Bytes;

use crate::budget::{Budget, Charge};
use crate::digest::overloaded;
use crate::encoding::Encoding;
use crate::limits::IngestLimits;
use crate::received::Received;
use crate::refusal::{Reason, Refused};

/// Inflated bytes are charged and asked for in steps of this size.
const STEP: usize = 256 << 10;

/// What inflated bytes are held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) limit: usize,
    reason: Reason,
    key: &'static str,
}

impl Most {
    pub(crate) fn of(json: bool, limits: &IngestLimits) -> Self {
        if json && limits.json_bytes < limits.request_bytes {
            return Self { limit: limits.json_bytes, reason: Reason::JsonBytes, key: "ingest.json_bytes" };
        }
        Self { limit: limits.request_bytes, reason: Reason::RequestBytes, key: "ingest.request_bytes" }
    }

    pub(crate) fn refuse(&self) -> Refused {
        let message = format!("the inflated request has more than {} bytes ({})", self.limit, self.key);
        Refused::new(self.reason, message)
    }
}

/// A body of which a part is inflated.
pub(crate) struct Inflating {
    reader: Box<dyn Read + Send>,
    encoding: Encoding,
    out: Vec<u8>,
    /// Whether that is all of it.
    is_whole: bool,
    /// How much of the charge is for what came.
    wire_bytes: usize,
    steps: usize,
    charge: Charge,
    most: Most,
}

impl Inflating {
    /// Of a body of which nothing is inflated yet.
    ///
    /// # Errors
    /// If its beginning is not what the encoding says.
    pub(crate) fn new(body: Received, encoding: Encoding, most: Most) -> Result<Self, Refused> {
        let wire_bytes = body.len();
        let (reader, charge) = body.into_reader();
        let reader = encoding.reader(reader).map_err(|error| broken(encoding, &error))?;
        Ok(Self { reader, encoding, out: Vec::new(), is_whole: false, wire_bytes, steps: 0, charge, most })
    }

    /// Inflates until more than so many bytes are there, or all of them. It stops at the limit, whatever the rest would be.
    ///
    /// # Errors
    /// If it is over the limit, cannot be inflated, or has no room in the budget.
    pub(crate) fn run(&mut self, until: usize, budget: &Budget) -> Result<(), Refused> {
        while !self.is_whole && self.out.len() <= until {
            if !self.charge.grow(STEP) {
                return Err(overloaded(budget));
            }
            self.steps += 1;
            self.out.reserve(STEP);
            let mut step = self.reader.by_ref().take(STEP as u64);
            let n = step.read_to_end(&mut self.out).map_err(|error| broken(self.encoding, &error))?;
            if self.out.len() > self.most.limit {
                return Err(self.most.refuse());
            }
            self.is_whole = n < STEP;
        }
        Ok(())
    }

    /// How much is inflated so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// All of it, charged for itself alone.
    ///
    /// # Errors
    /// As those of [`run`](Self::run).
    pub(crate) fn finish(mut self, budget: &Budget) -> Result<(Bytes, Charge), Refused> {
        self.run(usize::MAX, budget)?;
        let Self { reader, mut out, wire_bytes, steps, mut charge, .. } = self;
        drop(reader);
        // What is kept lives until its segment is sealed: not with twice the memory.
        out.shrink_to_fit();
        charge.shrink(wire_bytes + steps * STEP - out.len());
        Ok((out.into(), charge))
    }
}

fn broken(encoding: Encoding, error: &std::io::Error) -> Refused {
    let message = format!("cannot inflate the request as {}: {error}", encoding.name());
    Refused::new(Reason::BrokenEncoding, message)
}
