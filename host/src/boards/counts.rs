//! Counted instructions, functions and cache lines: the counter's output, read and subtracted.
//!
//! ```text
//! form  <TAB> smlal.4s           <TAB> 490143744     executed instructions of an opcode form
//! func  <TAB> vgg_edge::run      <TAB> 1203          executed instructions in a function
//! cache <TAB> l2_miss            <TAB> 25034831      lines; l1_miss l1_writeback l2_miss l2_writeback
//! ```
//!
//! Laps are the same lines behind the number of the lap: what happened between two readings of the clock.
//!
//! ```
//! use vgg_edge_host::boards::Counts;
//! let two = Counts::parse("form\tfmla.4s\t30\ncache\tl2_miss\t5\n")?;
//! let one = Counts::parse("form\tfmla.4s\t10\ncache\tl2_miss\t3\n")?;
//! let steady = two.minus(&one);
//! assert_eq!((steady.instructions(), steady.dram_bytes()), (20, Some(128.0)));
//! # Ok::<(), vgg_edge_host::boards::CountsError>(())
//! ```

use std::collections::HashMap;

use super::{LINE_BYTES, classify};

/// Named counts in the order in which they were met.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<(String, i64)>,
    index: HashMap<String, usize>,
}

impl Table {
    fn add(&mut self, name: &str, n: i64) {
        match self.index.get(name) {
            Some(&i) => self.rows[i].1 = self.rows[i].1.saturating_add(n),
            None => {
                self.index.insert(name.to_owned(), self.rows.len());
                self.rows.push((name.to_owned(), n));
            }
        }
    }

    /// The count of `name`, 0 if it was never met.
    pub fn get(&self, name: &str) -> i64 {
        self.index.get(name).map_or(0, |&i| self.rows[i].1)
    }

    /// Every name with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.rows.iter().map(|(name, n)| (name.as_str(), *n))
    }

    /// Sums over what `key` makes equal, largest first.
    pub fn largest_by(&self, key: impl Fn(&str) -> String) -> Vec<(String, i64)> {
        let mut sums = Table::default();
        self.iter().for_each(|(name, n)| sums.add(&key(name), n));
        sums.rows.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        sums.rows
    }

    fn plus(&mut self, other: &Self, sign: i64) {
        other.iter().for_each(|(name, n)| self.add(name, n.saturating_mul(sign)));
    }
}

/// What a run of a program executed.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Instructions by opcode form.
    pub forms: Table,
    /// Instructions by function.
    pub functions: Table,
    /// Cache lines by event; empty when caches were not modelled.
    pub cache: Table,
}

/// Why counts cannot be read; lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountsError {
    /// Too few or too many columns.
    #[error("line {line}: found {found} columns, expected {expected}")]
    Columns {
        /// Line.
        line: usize,
        /// Columns there.
        found: usize,
        /// Columns that belong there.
        expected: usize,
    },
    /// A kind of count that this program does not know.
    #[error("line {line}: found kind `{found}`, expected form, func or cache")]
    Kind {
        /// Line.
        line: usize,
        /// First column.
        found: String,
    },
    /// A count that is no number.
    #[error("line {line}: found count `{found}`, expected a whole number")]
    Number {
        /// Line.
        line: usize,
        /// The text.
        found: String,
    },
    /// No instruction was counted.
    #[error("found no `form` line, expected executed instructions")]
    Empty,
}

impl Counts {
    /// Reads what the counter wrote.
    ///
    /// # Errors
    /// [`CountsError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, CountsError> {
        let mut counts = Self::default();
        for (i, line) in text.lines().enumerate() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [kind, name, n] = columns[..] else {
                return Err(CountsError::Columns { line: i + 1, found: columns.len(), expected: 3 });
            };
            counts.add(i + 1, kind, name, n)?;
        }
        if counts.forms.rows.is_empty() { Err(CountsError::Empty) } else { Ok(counts) }
    }

    fn add(&mut self, line: usize, kind: &str, name: &str, n: &str) -> Result<(), CountsError> {
        let table = match kind {
            "form" => &mut self.forms,
            "func" => &mut self.functions,
            "cache" => &mut self.cache,
            _ => return Err(CountsError::Kind { line, found: kind.to_owned() }),
        };
        table.add(name, n.parse().map_err(|_| CountsError::Number { line, found: n.to_owned() })?);
        Ok(())
    }

    /// What this run did and `base` did not. "Two inferences minus one" leaves the steady state of one.
    pub fn minus(mut self, base: &Self) -> Self {
        self.forms.plus(&base.forms, -1);
        self.functions.plus(&base.functions, -1);
        self.cache.plus(&base.cache, -1);
        self.forms =
            self.forms.rows.iter().filter(|(_, n)| *n > 0).fold(Table::default(), |mut table, (name, n)| {
                table.add(name, *n);
                table
            });
        self
    }

    /// Adds another run.
    pub fn plus(mut self, other: &Self) -> Self {
        self.forms.plus(&other.forms, 1);
        self.functions.plus(&other.functions, 1);
        self.cache.plus(&other.cache, 1);
        self
    }

    /// The lines that [`Counts::parse`] reads: cache, forms and functions with a count.
    pub fn to_tsv(&self) -> String {
        let lines = |kind: &'static str, table: &Table| -> String {
            table.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{kind}\t{name}\t{n}\n")).collect()
        };
        lines("cache", &self.cache) + &lines("form", &self.forms) + &lines("func", &self.functions)
    }

    /// Executed instructions.
    pub fn instructions(&self) -> i64 {
        self.forms.iter().fold(0, |sum, (_, n)| sum.saturating_add(n))
    }

    /// Bytes that moved between the last cache and DRAM; `None` when caches were not modelled.
    pub fn dram_bytes(&self) -> Option<f64> {
        let lines = self.cache.get("l2_miss").saturating_add(self.cache.get("l2_writeback"));
        (!self.cache.rows.is_empty()).then_some(lines as f64 * LINE_BYTES as f64)
    }

    /// Instructions by class, largest first; ` 128` behind the classes of 128-bit forms.
    pub fn classes(&self) -> Vec<(String, i64)> {
        self.forms.largest_by(|form| {
            let (class, wide) = classify(form);
            format!("{}{}", class.name(), if wide { " 128" } else { "" })
        })
    }
}

/// What happened between readings of the clock.
#[derive(Clone, Debug, Default)]
pub struct Laps(pub Vec<Counts>);

impl Laps {
    /// Reads what the counter wrote; lap 0 ends with the first reading.
    ///
    /// # Errors
    /// [`CountsError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, CountsError> {
        let mut laps = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let columns: Vec<&str> = line.split('\t').collect();
            let [lap, kind, name, n] = columns[..] else {
                return Err(CountsError::Columns { line: i + 1, found: columns.len(), expected: 4 });
            };
            // In order: a lap is the last one or the next, so that no line makes the list long.
            match lap.parse::<usize>() {
                Ok(lap) if lap + 1 == laps.len() => {}
                Ok(lap) if lap == laps.len() => laps.push(Counts::default()),
                _ => return Err(CountsError::Number { line: i + 1, found: lap.to_owned() }),
            }
            if let Some(counts) = laps.last_mut() {
                counts.add(i + 1, kind, name, n)?;
            }
        }
        Ok(Self(laps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Counts::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(error(""), "found no `form` line, expected executed instructions");
        assert_eq!(error("form\tb\t1\nform b 2\n"), "line 2: found 1 columns, expected 3");
        assert_eq!(error("lap\tb\t1\n"), "line 1: found kind `lap`, expected form, func or cache");
        assert_eq!(error("form\tb\t1.5\n"), "line 1: found count `1.5`, expected a whole number");
        assert_eq!(
            error("form\tb\t99999999999999999999\n").split(',').next_back(),
            Some(" expected a whole number")
        );
        let laps = Laps::parse("0\tform\tb\t1\n9000000000\tform\tb\t1\n").unwrap_err();
        assert_eq!(laps.to_string(), "line 2: found count `9000000000`, expected a whole number");
    }

    #[test]
    fn a_form_that_only_the_base_has_is_left_out() {
        let two = Counts::parse("form\ta\t5\nform\tb\t2\nfunc\tf\t7\n").unwrap();
        let one = Counts::parse("form\tb\t2\nform\tc\t9\nfunc\tg\t1\n").unwrap();
        let steady = two.minus(&one);
        assert_eq!(steady.forms.iter().collect::<Vec<_>>(), [("a", 5)]);
        assert_eq!(steady.functions.iter().collect::<Vec<_>>(), [("f", 7), ("g", -1)]);
        assert_eq!(steady.dram_bytes(), None);
    }

    #[test]
    fn sums_stop_at_the_ends() {
        let max = format!("form\ta\t{}\nform\ta\t{}\n", i64::MAX, i64::MAX);
        assert_eq!(Counts::parse(&max).unwrap().forms.get("a"), i64::MAX);
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "cache\tl2_miss\t3\nform\ta\t5\nfunc\tf\t7\n";
        assert_eq!(Counts::parse(text).unwrap().to_tsv(), text);
    }

    #[test]
    fn laps_are_told_apart() {
        let laps = Laps::parse("0\tform\ta\t1\n1\tform\ta\t2\n1\tcache\tl2_miss\t3\n").unwrap();
        assert_eq!(laps.0.iter().map(Counts::instructions).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(laps.0[1].dram_bytes(), Some(192.0));
    }
}
