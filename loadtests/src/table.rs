//! A table of a report, in Markdown.

/// Rows under a heading, all as wide as it.
#[derive(Debug)]
pub struct Table {
    text: String,
}

impl Table {
    /// A table with these columns.
    pub fn new<T: AsRef<str>>(columns: &[T]) -> Self {
        let mut table = Self { text: String::new() };
        table.row(columns);
        table.row(&vec!["---"; columns.len()]);
        table
    }

    /// One more row.
    pub fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        self.text.push('|');
        for cell in cells {
            self.text.push_str(&format!(" {} |", cell.as_ref()));
        }
        self.text.push('\n');
    }

    /// The Markdown.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Thousands of bytes.
pub fn kilobytes(bytes: f64) -> String {
    format!("{:.1} kB", bytes / 1000.0)
}

/// A quotient as a difference: `+3.1 %`.
pub fn difference(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["q", "score"]);
        table.row(&["80", "71.2"]);
        assert_eq!(table.into_text(), "| q | score |\n| --- | --- |\n| 80 | 71.2 |\n");
        assert_eq!(
            (difference(1.031), difference(0.9), kilobytes(1234.0)),
            ("+3.1 %".into(), "-10.0 %".into(), "1.2 kB".into())
        );
    }
}
