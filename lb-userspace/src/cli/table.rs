//! Aligned columns, two spaces apart, no lines. Widths are those of the text, not of its colour.

use super::output::{Paint, Tone};

/// A cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// In a tone.
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self::new(Tone::Plain, value.to_string())
    }
}

/// A table. Headers that begin with `>` are aligned to the right.
#[derive(Debug)]
pub(super) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// With these headers.
    pub(super) fn new<const N: usize>(headers: [&'static str; N]) -> Self {
        Self { headers: headers.into(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells at its end stay empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text; each line ends with a newline and has no spaces before it.
    pub(super) fn render(&self, indent: usize, paint: Paint) -> String {
        let title = |h: &'static str| h.trim_start_matches('>');
        let widths: Vec<usize> = (self.headers.iter().enumerate())
            .map(|(i, h)| {
                let cells = self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.text.chars().count());
                cells.chain([title(h).chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let header = self.headers.iter().map(|h| Cell::new(Tone::Dim, title(h))).collect();
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            // Spaces are owed until a cell with text comes: no line ends in them, coloured or not.
            let mut owed = 0;
            for (i, cell) in row.iter().enumerate() {
                let width = cell.text.chars().count();
                let slack = widths[i] - width;
                let (before, after) = if self.headers[i].starts_with('>') { (slack, 0) } else { (0, slack) };
                if width > 0 {
                    line.extend(std::iter::repeat_n(' ', owed + before));
                    line += &paint.text(cell.tone, &cell.text);
                    owed = after + 2;
                } else {
                    owed += widths[i] + 2;
                }
            }
            out += &line;
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_aligns_by_header_and_ends_no_line_in_spaces() {
        let mut table = Table::new(["NAME", ">N", "WHY"]);
        table.row(["a".into(), 1.into(), "".into()]);
        table.row(["long-name".into(), 1000.into(), "x".into()]);
        table.row(["b".into(), "".into(), "→ y".into()]);
        let text = table.render(2, Paint(false));
        let expected =
            ["  NAME          N  WHY", "  a             1", "  long-name  1000  x", "  b                → y"];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn render_with_colour_has_the_widths_of_the_text() {
        let mut table = Table::new(["A", "B"]);
        table.row([Cell::new(Tone::Bad, "xx"), "1".into()]);
        assert_eq!(table.render(0, Paint(true)).lines().nth(1), Some("\x1b[31mxx\x1b[0m  1"));
    }
}
