//! Columns of strings.
//!
//! A column is a constant; or a number of the segment's table a string, in place or out of a list of the
//! column's own; or, where strings differ in their numbers only, a template and those numbers. A string that the
//! table does not have lies in the block itself.

use hashbrown::HashMap;

use crate::codec::{Cursor, ReadError, put, same};
use crate::columns::{Packed, Streams, put_packed};
use crate::template::{self, Literals};
use crate::values::{ChunkTables, ValueTable};

const CONSTANT: u64 = 0;
const DIRECT: u64 = 1;
const LISTED: u64 = 2;
const TEMPLATES: u64 = 3;

/// After this many strings, a column is judged by how many of them were new.
const PROBE: usize = 64;
/// A column whose strings were mostly new in more blocks than this is not looked up any more.
const DOUBTS: u8 = 3;
/// A column of fewer strings is not made templates of.
const TEMPLATED_MIN: usize = 3;

/// What a column turned out to be in the block before, so that the next one begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Strings that come again, as far as is known; blocks in which most were new.
    Repeated(u8),
    /// Strings that differ in numbers.
    Templated,
    /// Strings that do not come again.
    Unique,
}

impl Default for Hint {
    fn default() -> Self {
        Self::Repeated(0)
    }
}

/// Writes columns. Reuse it.
#[derive(Debug, Default)]
pub(crate) struct TextWriter {
    /// Number in the table, or [`NEW`].
    codes: Vec<u32>,
    /// For each number of the table, the column that last had it and its place in that column's list.
    places: Vec<(u32, u32)>,
    column: u32,
    list: Vec<u32>,
    index: Vec<u32>,
    template: Vec<u8>,
    /// Of the last template.
    literals: Literals,
    templates: HashMap<Vec<u8>, u32>,
    numbers: Vec<u64>,
    /// Where the numbers of each string begin.
    firsts: Vec<u32>,
}

/// A string that lies in the block.
const NEW: u32 = u32::MAX;

impl TextWriter {
    /// Writes a column of at least one string.
    pub(crate) fn put<'a>(
        &mut self,
        streams: &mut Streams,
        table: &mut ValueTable,
        hint: &mut Hint,
        strings: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) {
        let first = strings.clone().next().unwrap_or_default();
        if strings.clone().all(|string| same(string, first)) {
            put(&mut streams.heads, CONSTANT);
            put_one(streams, table.string(first), first);
            return;
        }
        if *hint == Hint::Templated {
            if self.put_templates(streams, table, strings.clone()) {
                return;
            }
            *hint = Hint::default();
        }
        let mut new = 0;
        self.codes.clear();
        for string in strings.clone() {
            let code = if *hint == Hint::Unique { NEW } else { table.string(string).unwrap_or(NEW) };
            new += usize::from(code == NEW);
            self.codes.push(code);
            let judged = self.codes.len() == PROBE.min(strings.len());
            if judged && new * 2 > self.codes.len() && *hint != Hint::Unique {
                if self.put_templates(streams, table, strings.clone()) {
                    *hint = Hint::Templated;
                    return;
                }
                if let Hint::Repeated(blocks) = hint
                    && strings.len() >= PROBE
                {
                    *hint = if *blocks < DOUBTS { Hint::Repeated(*blocks + 1) } else { Hint::Unique };
                }
            }
        }
        self.put_codes(streams, table.strings(), strings);
    }

    fn put_codes<'a>(
        &mut self,
        streams: &mut Streams,
        numbered: usize,
        strings: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) {
        self.make_list(numbered);
        let new = self.codes.iter().filter(|code| **code == NEW).count();
        let width = |most: usize| (usize::BITS - most.leading_zeros()) as usize;
        let most = self.codes.iter().filter(|code| **code != NEW).max().copied().unwrap_or(0) as usize;
        let direct = self.codes.len() * width(most + 1);
        let listed = self.list.len() * width(most + 1) + self.codes.len() * width(self.list.len() - 1);
        let top = if new == 0 { 0 } else { most as u64 + 2 };
        let coded = move |code: u32| if code == NEW { top - 1 } else { u64::from(code) };
        if listed < direct {
            put(&mut streams.heads, LISTED);
            put(&mut streams.heads, self.list.len() as u64);
            put(&mut streams.heads, top);
            put_packed(streams, self.list.iter().map(|code| coded(*code)));
        } else {
            put(&mut streams.heads, DIRECT);
            put(&mut streams.heads, top);
            put_packed(streams, self.codes.iter().map(|code| coded(*code)));
        }
        if new > 0 {
            let codes = self.codes.iter();
            let inside = || codes.clone().zip(strings.clone()).filter(|(code, _)| **code == NEW);
            put_packed(streams, inside().map(|(_, string)| string.len() as u64));
            inside().for_each(|(_, string)| streams.text.extend_from_slice(string));
        }
        if listed < direct {
            put_packed(streams, self.index.iter().map(|at| u64::from(*at)));
        }
    }

    /// The distinct numbers in the order of their first use, every new string by itself; and for each string its
    /// place among them.
    fn make_list(&mut self, numbered: usize) {
        self.column += 1;
        self.list.clear();
        self.index.clear();
        self.places.resize(self.places.len().max(numbered), (0, 0));
        for &code in &self.codes {
            let next = self.list.len() as u32;
            let at = match self.places.get_mut(code as usize) {
                Some((column, at)) if *column == self.column => *at,
                Some(place) => {
                    *place = (self.column, next);
                    next
                }
                None => next,
            };
            if at == next {
                self.list.push(code);
            }
            self.index.push(at);
        }
    }

    /// Writes the column as templates and numbers, unless that is no gain.
    fn put_templates<'a>(
        &mut self,
        streams: &mut Streams,
        table: &mut ValueTable,
        strings: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> bool {
        if strings.len() < TEMPLATED_MIN || !self.take_apart(strings.clone()) {
            return false;
        }
        let mut templates: Vec<&[u8]> = vec![&[]; self.templates.len()];
        self.templates.iter().for_each(|(template, at)| templates[*at as usize] = template);
        put(&mut streams.heads, TEMPLATES);
        put(&mut streams.heads, templates.len() as u64);
        for template in &templates {
            put_one(streams, table.string(template), template);
        }
        put_packed(streams, self.index.iter().map(|at| u64::from(*at)));
        let holes = templates.iter().map(|template| template::holes(template)).max().unwrap_or(0);
        let ends = self.firsts.iter().skip(1).copied().chain([self.numbers.len() as u32]);
        let spans: Vec<(u32, u32)> = self.firsts.iter().copied().zip(ends).collect();
        for hole in 0..holes as u32 {
            let having = spans.iter().filter(|(first, end)| first + hole < *end);
            put_packed(streams, having.map(|(first, _)| self.numbers[(first + hole) as usize]));
        }
        true
    }

    fn take_apart<'a>(&mut self, strings: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
        let most = (strings.len() / 8).max(1);
        self.templates.clear();
        self.numbers.clear();
        self.firsts.clear();
        self.index.clear();
        let mut last = None;
        for string in strings {
            self.firsts.push(self.numbers.len() as u32);
            if let Some(last) = last
                && self.literals.follow(string, &mut self.numbers)
            {
                self.index.push(last);
                continue;
            }
            self.template.clear();
            if !template::split(string, &mut self.template, &mut self.numbers) {
                return false;
            }
            let next = self.templates.len() as u32;
            let at = match self.templates.get(&self.template) {
                Some(at) => *at,
                None if next as usize == most => return false,
                None => {
                    self.templates.insert(self.template.clone(), next);
                    next
                }
            };
            self.index.push(at);
            self.literals.set(&self.template);
            last = Some(at);
        }
        true
    }
}

fn put_one(streams: &mut Streams, number: Option<u32>, string: &[u8]) {
    match number {
        Some(number) => put(&mut streams.heads, u64::from(number) + 1),
        None => {
            put(&mut streams.heads, 0);
            put(&mut streams.heads, string.len() as u64);
            streams.text.extend_from_slice(string);
        }
    }
}

/// Where a string lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the segment's table.
    Table(u32),
    /// In the block's text, from here to there.
    Block(u32, u32),
}

#[derive(Debug)]
enum Places {
    /// Numbers of the table, as they are stored.
    Stored(Packed),
    Resolved(Vec<Place>),
}

/// A column that was written by [`TextWriter`].
#[derive(Debug)]
pub(crate) struct TextColumn {
    places: Places,
    index: Option<Packed>,
    holes: Vec<Hole>,
}

/// The numbers at one place of the templates.
#[derive(Debug)]
struct Hole {
    numbers: Packed,
    /// For each string, how many before it have such a number; `None` if all have one.
    ranks: Option<Vec<u32>>,
}

/// What columns are read from.
pub(crate) struct Source<'a> {
    pub(crate) heads: Cursor<'a>,
    pub(crate) bits: &'a [u8],
    pub(crate) bits_start: usize,
    pub(crate) text: &'a [u8],
    pub(crate) text_start: usize,
    pub(crate) tables: &'a ChunkTables,
}

impl<'a> Source<'a> {
    pub(crate) fn packed(&mut self, count: usize) -> Result<Packed, ReadError> {
        Packed::read(&mut self.heads, self.bits, &mut self.bits_start, count)
    }

    fn take_text(&mut self, length: u64) -> Result<Place, ReadError> {
        let start = self.text_start;
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        match end {
            Some(end) if end <= self.text.len() => {
                self.text_start = end;
                Ok(Place::Block(start as u32, end as u32))
            }
            _ => Err(self.heads.damaged()),
        }
    }

    fn one(&mut self) -> Result<Place, ReadError> {
        match self.heads.u32()?.checked_sub(1) {
            Some(number) => Ok(Place::Table(number)),
            None => {
                let length = self.heads.u64()?;
                self.take_text(length)
            }
        }
    }

    /// Numbers of the table, or places where some strings lie in the block.
    fn places(&mut self, count: usize) -> Result<Places, ReadError> {
        let top = self.heads.u64()?;
        let codes = self.packed(count)?;
        let Some(inside) = top.checked_sub(1) else { return Ok(Places::Stored(codes)) };
        let new = (0..count).filter(|&at| codes.get(self.bits, at) == inside).count();
        let lengths = self.packed(new)?;
        let mut nth = 0;
        let mut places = Vec::with_capacity(count);
        for at in 0..count {
            let code = codes.get(self.bits, at);
            places.push(if code == inside {
                nth += 1;
                self.take_text(lengths.get(self.bits, nth - 1))?
            } else {
                Place::Table(u32::try_from(code).map_err(|_| self.heads.damaged())?)
            });
        }
        Ok(Places::Resolved(places))
    }
}

impl TextColumn {
    /// Reads the head of a column of `count` strings.
    pub(crate) fn read(source: &mut Source<'_>, count: usize) -> Result<Self, ReadError> {
        let plain = |places, index| Self { places, index, holes: Vec::new() };
        match source.heads.u64()? {
            CONSTANT => Ok(plain(Places::Resolved(vec![source.one()?]), None)),
            DIRECT => Ok(plain(source.places(count)?, None)),
            LISTED => {
                let listed = source.heads.u64()? as usize;
                if listed > count {
                    return Err(source.heads.damaged());
                }
                Ok(plain(source.places(listed)?, Some(source.packed(count)?)))
            }
            TEMPLATES => Self::read_templates(source, count),
            _ => Err(source.heads.damaged()),
        }
    }

    fn read_templates(source: &mut Source<'_>, count: usize) -> Result<Self, ReadError> {
        let listed = source.heads.count()?;
        let places = (0..listed).map(|_| source.one()).collect::<Result<Vec<_>, _>>()?;
        let index = source.packed(count)?;
        let tables = source.tables;
        let holes_of: Vec<usize> = places
            .iter()
            .map(
                |place| Ok(template::holes(string_at(*place, tables, source.text)?).min(template::HOLES_MAX)),
            )
            .collect::<Result<_, ReadError>>()?;
        let mut holes = Vec::new();
        for hole in 0..holes_of.iter().copied().max().unwrap_or(0) {
            if holes_of.iter().all(|has| *has > hole) {
                holes.push(Hole { numbers: source.packed(count)?, ranks: None });
                continue;
            }
            let (mut ranks, mut having) = (Vec::with_capacity(count), 0);
            for at in 0..count {
                ranks.push(having);
                let template = index.get(source.bits, at) as usize;
                having += u32::from(holes_of.get(template).is_some_and(|has| *has > hole));
            }
            holes.push(Hole { numbers: source.packed(having as usize)?, ranks: Some(ranks) });
        }
        Ok(Self { places: Places::Resolved(places), index: Some(index), holes })
    }

    /// Appends the string at a place of the column.
    pub(crate) fn get(
        &self,
        at: usize,
        tables: &ChunkTables,
        bits: &[u8],
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let listed = match (&self.index, &self.places) {
            (Some(index), _) => index.get(bits, at) as usize,
            (None, Places::Resolved(places)) if places.len() == 1 => 0,
            (None, _) => at,
        };
        let place = match &self.places {
            Places::Stored(codes) => Place::Table(codes.get(bits, listed) as u32),
            Places::Resolved(places) => *places.get(listed).ok_or(ReadError::Damaged("chunk block"))?,
        };
        let string = string_at(place, tables, text)?;
        if self.holes.is_empty() {
            out.extend_from_slice(string);
            return Ok(());
        }
        let number = |nth: usize| {
            let Some(hole) = self.holes.get(nth) else { return 0 };
            let rank = hole.ranks.as_ref().map_or(at, |ranks| ranks.get(at).map_or(0, |rank| *rank as usize));
            hole.numbers.get(bits, rank)
        };
        template::join(string, number, out);
        Ok(())
    }

    /// Bytes of memory beside the block's own.
    pub(crate) fn bytes(&self) -> usize {
        let places = match &self.places {
            Places::Stored(codes) => codes.bytes(),
            Places::Resolved(places) => places.len() * size_of::<Place>(),
        };
        let holes = self
            .holes
            .iter()
            .map(|hole| hole.numbers.bytes() + hole.ranks.as_ref().map_or(0, |ranks| ranks.len() * 4));
        size_of::<Self>() + places + holes.sum::<usize>() + self.index.as_ref().map_or(0, Packed::bytes)
    }
}

fn string_at<'a>(place: Place, tables: &'a ChunkTables, text: &'a [u8]) -> Result<&'a [u8], ReadError> {
    let string = match place {
        Place::Table(number) => tables.string(number),
        Place::Block(start, end) => text.get(start as usize..end as usize),
    };
    string.ok_or(ReadError::Damaged("chunk block"))
}
