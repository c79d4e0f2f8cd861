//! An aligned table whose flexible columns give way when the screen is narrow.

use std::io::{self, Write};

use super::screen::{Ink, Screen};
use super::text;

/// Columns between two columns of a table.
const GAP: usize = 2;
/// A flexible column is not cut below this.
const MIN_FLEXIBLE: usize = 10;

/// To which side a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Names.
    Left,
    /// Numbers.
    Right,
    /// Names that may be cut when the screen is narrow.
    Flexible,
}

/// A column's title and side.
#[derive(Debug, Clone)]
pub(crate) struct Column(pub(crate) String, pub(crate) Side);

/// A cell: pieces of text, each with its colour.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell(Vec<(Ink, String)>);

impl Cell {
    /// A cell of one piece.
    pub(crate) fn new(ink: Ink, text: impl AsRef<str>) -> Self {
        Self::default().and(ink, text)
    }

    /// One more piece to the right.
    pub(crate) fn and(mut self, ink: Ink, text: impl AsRef<str>) -> Self {
        self.0.push((ink, text::harmless(text.as_ref())));
        self
    }

    fn columns(&self) -> usize {
        self.0.iter().map(|(_, piece)| text::columns(piece)).sum()
    }

    fn draw(&self, screen: &Screen, side: Side, width: usize) -> String {
        let mut drawn = String::new();
        let mut room = width;
        for (ink, piece) in &self.0 {
            let piece = text::cut(piece, room);
            room -= text::columns(&piece);
            drawn.push_str(&screen.ink(*ink, &piece));
        }
        let padding = " ".repeat(room);
        if side == Side::Right { padding + &drawn } else { drawn + &padding }
    }
}

/// A table being put together.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) const fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// One more row, a cell per column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Writes the table, two columns in from the left.
    pub(crate) fn write(&self, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        let widths = self.widths(screen.width);
        let titles: Vec<Cell> = self.columns.iter().map(|c| Cell::new(Ink::Faint, &c.0)).collect();
        self.write_row(&titles, &widths, screen, out)?;
        for row in &self.rows {
            self.write_row(row, &widths, screen, out)?;
        }
        Ok(())
    }

    fn write_row(
        &self,
        cells: &[Cell],
        widths: &[usize],
        screen: &Screen,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut line = String::new();
        for ((cell, width), column) in cells.iter().zip(widths).zip(&self.columns) {
            line.push_str(&" ".repeat(GAP));
            line.push_str(&cell.draw(screen, column.1, *width));
        }
        writeln!(out, "{}", line.trim_end())
    }

    fn widths(&self, available: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| text::columns(&c.0)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.columns());
            }
        }
        let mut excess = (widths.iter().sum::<usize>() + GAP * widths.len()).saturating_sub(available);
        while excess > 0 {
            let flexible = widths.iter_mut().zip(&self.columns).filter(|(_, c)| c.1 == Side::Flexible);
            match flexible.map(|(width, _)| width).max() {
                Some(widest) if *widest > MIN_FLEXIBLE => *widest -= 1,
                _ => break,
            }
            excess -= 1;
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_flexible_ones_give_way() {
        let columns = vec![Column("N".into(), Side::Right), Column("NAME".into(), Side::Flexible)];
        let mut table = Table::new(columns);
        table.row(vec![Cell::new(Ink::Plain, "5"), Cell::new(Ink::Plain, "a long operation name")]);
        table.row(vec![Cell::new(Ink::Plain, "50"), Cell::new(Ink::Plain, "b")]);
        let mut out = Vec::new();
        table.write(&Screen::plain(20, 0), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "   N  NAME\n   5  a long operat…\n  50  b\n");
    }
}
