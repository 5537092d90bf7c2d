//! Tables: aligned columns, of which one gives way when the terminal is narrow.

use console::measure_text_width;

use super::text::cut;

/// What stands between two columns.
const GAP: &str = "  ";

/// The least the giving column keeps, so that it stays readable.
const LEAST_WIDTH: usize = 12;

/// A table that is being filled.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    gives: usize,
    right: Vec<usize>,
}

impl Table {
    /// An empty table. The column with number `gives` is cut when the rest leaves too little room.
    pub fn new(gives: usize) -> Self {
        Self { rows: Vec::new(), gives, right: Vec::new() }
    }

    /// Aligns these columns to the right.
    pub fn right(self, columns: &[usize]) -> Self {
        Self { right: columns.to_vec(), ..self }
    }

    /// Adds a row; cells may be painted.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text, one line a row.
    pub fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut out = String::new();
        for row in &self.rows {
            let mut text = String::new();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    text.push_str(GAP);
                }
                let room = widths[column];
                let cell = if column == self.gives { cut(cell, room) } else { cell.clone() };
                let padding = " ".repeat(room.saturating_sub(measure_text_width(&cell)));
                if self.right.contains(&column) {
                    text.push_str(&padding);
                    text.push_str(&cell);
                } else {
                    text.push_str(&cell);
                    text.push_str(&padding);
                }
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                widths[column] = widths[column].max(measure_text_width(cell));
            }
        }
        let total: usize = widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1);
        if total > width && self.gives < columns {
            let wanted = widths[self.gives];
            widths[self.gives] = wanted.saturating_sub(total - width).max(LEAST_WIDTH.min(wanted));
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_one_gives_way() {
        let mut table = Table::new(1).right(&[0]);
        table.row(["1", "short", "x"].map(str::to_owned));
        table.row(["12", "a title that is far too long", "yy"].map(str::to_owned));
        assert_eq!(
            table.render(usize::MAX),
            " 1  short                         x\n12  a title that is far too long  yy\n"
        );
        assert_eq!(table.render(24), " 1  short             x\n12  a title that is…  yy\n");
    }

    #[test]
    fn painted_cells_are_as_wide_as_they_look() {
        let mut table = Table::new(0);
        table.row(["\x1b[1mbold\x1b[0m".to_owned(), "x".to_owned()]);
        table.row(["plain".to_owned(), "y".to_owned()]);
        assert_eq!(table.render(80), "\x1b[1mbold\x1b[0m   x\nplain  y\n");
    }
}
