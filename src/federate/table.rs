//! Owns aligned columns.

/// Rows of cells under headings, two blanks between columns; numbers read best at the right, which `#` before a heading asks
/// for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Table {
        let right = headings.iter().map(|heading| heading.starts_with('#')).collect();
        let headings = headings.iter().map(|heading| heading.trim_start_matches('#').to_owned()).collect();
        Table { right, rows: vec![headings] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, each beginning with `indent`.
    pub(crate) fn text(&self, indent: &str) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let blank = " ".repeat(width.saturating_sub(cell.chars().count()));
                line += &if *right { format!("{blank}{cell}  ") } else { format!("{cell}{blank}  ") };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "#N", "TEXT"]);
        table.row(vec!["a".into(), "10".into(), "x".into()]);
        table.row(vec!["longer".into(), "5".into(), String::new()]);
        assert_eq!(table.text("  "), "  NAME     N  TEXT\n  a       10  x\n  longer   5\n");
    }
}
