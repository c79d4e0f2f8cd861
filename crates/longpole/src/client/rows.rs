//! Which spans of a trace are shown, and in what order: a tree walked without recursion, with
//! orphans as roots, circles cut, and a bound on how many rows there are.

use std::collections::{HashMap, HashSet};

use super::waterfall::{Bar, Path, Waterfall};

/// Beyond this depth the indentation stays where it is and the depth is written as a number.
const MAX_INDENT: usize = 12;

/// A row: which span, how deep, and the tree's lines before it.
pub(super) struct Row {
    pub(super) bar: usize,
    pub(super) prefix: String,
}

impl Waterfall {
    /// The spans to show, parents before children, siblings by their start.
    pub(super) fn rows(&self, path: &Path<'_>) -> Vec<Row> {
        let shown = self.choose(path);
        let (roots, children) = self.tree();
        let mut rows = Vec::new();
        let mut stack: Vec<(usize, usize, String, bool)> = Vec::new();
        stack.extend(roots.iter().rev().filter(|i| shown.contains(i)).map(|i| (*i, 0, String::new(), true)));
        while let Some((bar, depth, before, last)) = stack.pop() {
            let mark = if depth == 0 { "" } else { ["├ ", "└ "][usize::from(last)] };
            rows.push(Row { bar, prefix: prefix(&before, mark, depth) });
            let below = match depth {
                0 => String::new(),
                d if d >= MAX_INDENT => before,
                _ => before + ["│ ", "  "][usize::from(last)],
            };
            let mut last = true;
            for child in children[bar].iter().rev().filter(|i| shown.contains(i)) {
                stack.push((*child, depth + 1, below.clone(), last));
                last = false;
            }
        }
        rows
    }

    /// Roots and children by start. A span whose parent is not here is a root; so is
    /// one span of a circle.
    fn tree(&self) -> (Vec<usize>, Vec<Vec<usize>>) {
        let mut order: Vec<usize> = (0..self.bars.len()).collect();
        order.sort_by_key(|i| (self.bars[*i].start, std::cmp::Reverse(self.bars[*i].end), *i));
        let parents = self.parents(&order);
        let mut roots = Vec::new();
        let mut children = vec![Vec::new(); self.bars.len()];
        for i in order {
            match parents[i] {
                Some(parent) => children[parent].push(i),
                None => roots.push(i),
            }
        }
        (roots, children)
    }

    /// The parent of each span, with circles cut.
    fn parents(&self, order: &[usize]) -> Vec<Option<usize>> {
        let by_id: HashMap<&str, usize> =
            self.bars.iter().enumerate().rev().map(|(i, bar)| (bar.span_id.as_str(), i)).collect();
        let find = |bar: &Bar| bar.parent.as_deref().and_then(|id| by_id.get(id).copied());
        let mut parents: Vec<Option<usize>> = self.bars.iter().map(find).collect();
        let mut seen_by = vec![usize::MAX; self.bars.len()];
        for &first in order {
            let mut at = first;
            while seen_by[at] == usize::MAX {
                seen_by[at] = first;
                match parents[at] {
                    Some(parent) => at = parent,
                    None => break,
                }
            }
            // Still with a parent, and met in this very walk: a circle, which is cut here.
            if seen_by[at] == first {
                parents[at] = None;
            }
        }
        parents
    }

    /// Which spans are shown: all if they fit, else those with most of the critical path, errors,
    /// then the longest, each with the way up to its root.
    fn choose(&self, path: &Path<'_>) -> HashSet<usize> {
        if self.bars.len() <= self.max_spans {
            return (0..self.bars.len()).collect();
        }
        let mut wanted: Vec<usize> = (0..self.bars.len()).collect();
        let weight = |i: usize| {
            let bar = &self.bars[i];
            let exclusive = path.exclusive.get(bar.span_id.as_str()).copied().unwrap_or(0);
            (exclusive, bar.error, bar.end - bar.start)
        };
        wanted.sort_by(|a, b| weight(*b).cmp(&weight(*a)).then(a.cmp(b)));
        let (roots, children) = self.tree();
        let mut parents = vec![None; self.bars.len()];
        for (parent, below) in children.iter().enumerate() {
            below.iter().for_each(|child| parents[*child] = Some(parent));
        }
        let mut shown: HashSet<usize> = roots.first().copied().into_iter().collect();
        for i in wanted {
            let up: Vec<usize> = std::iter::successors(Some(i), |at| parents[*at])
                .take_while(|at| !shown.contains(at))
                .take(self.max_spans + 1)
                .collect();
            if shown.len() + up.len() <= self.max_spans {
                shown.extend(up);
            }
            if shown.len() >= self.max_spans {
                break;
            }
        }
        if shown.len() < self.max_spans / 2 { self.first_in_tree(&roots, &children) } else { shown }
    }

    /// The first spans in tree order: what is left when every interesting one lies too deep.
    fn first_in_tree(&self, roots: &[usize], children: &[Vec<usize>]) -> HashSet<usize> {
        let mut shown = HashSet::new();
        let mut stack: Vec<usize> = roots.iter().rev().copied().collect();
        while let Some(i) = stack.pop() {
            if shown.len() >= self.max_spans {
                break;
            }
            shown.insert(i);
            stack.extend(children[i].iter().rev());
        }
        shown
    }
}

/// The lines of the tree before a name; deep ones say how deep instead.
fn prefix(before: &str, mark: &str, depth: usize) -> String {
    if depth > MAX_INDENT { format!("{before}{mark}[{depth}] ") } else { format!("{before}{mark}") }
}
