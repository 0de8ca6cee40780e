//! Aligned columns, two spaces apart, no lines. Widths are those of the text, not of its colour. Where the terminal is too
//! narrow for a row, the note goes below it, and then the least important columns go.

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

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self::new(Tone::Plain, value.to_string())
    }
}

/// A table. Headers that begin with `>` are aligned to the right; a column without a title belongs to the one before it.
#[derive(Debug)]
pub(super) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    note: Option<&'static str>,
    spare: &'static [&'static str],
}

/// Between columns.
const GAP: usize = 2;
/// Of a note below its row.
const NOTE_INDENT: usize = 4;
/// Narrower than this, a note is not wrapped.
const NOTE_MIN: usize = 20;

impl Table {
    /// With these headers.
    pub(super) fn new<const N: usize>(headers: [&'static str; N]) -> Self {
        Self { headers: headers.into(), rows: Vec::new(), note: None, spare: &[] }
    }

    /// For terminals that are too narrow: the title of the column that goes below its row, and those that are left out,
    /// least important first.
    pub(super) fn narrow(self, note: Option<&'static str>, spare: &'static [&'static str]) -> Self {
        Self { note, spare, ..self }
    }

    /// Adds a row. Missing cells at its end stay empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Leaves out a column of which all cells are empty.
    pub(super) fn leave_out_if_empty(&mut self, title: &str) {
        let Some(at) = self.headers.iter().position(|header| *header == title) else { return };
        if self.rows.iter().all(|row| row.get(at).is_none_or(|cell| cell.text.is_empty())) {
            self.headers.remove(at);
            self.rows.iter_mut().filter(|row| row.len() > at).for_each(|row| drop(row.remove(at)));
        }
    }

    /// Whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text; each line ends with a newline and has no spaces before it.
    pub(super) fn render(&self, indent: usize, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.headers.len()).map(|i| self.width(i)).collect();
        let mut columns: Vec<usize> = (0..self.headers.len()).collect();
        let mut note = None;
        if let Some(room) = paint.width {
            let fits = |columns: &[usize]| {
                let text: usize = columns.iter().map(|c| widths[*c]).sum();
                indent + text + GAP * columns.len().saturating_sub(1) <= room
            };
            if !fits(&columns)
                && let Some(at) = self.note.and_then(|title| self.headers.iter().position(|h| *h == title))
            {
                note = Some((at, room));
                columns.retain(|c| *c != at);
            }
            for title in self.spare {
                if fits(&columns) {
                    break;
                }
                columns.retain(|c| self.group(*c) != *title);
            }
        }
        let header: Vec<_> = self.headers.iter().map(|h| Cell::new(Tone::Dim, title(h))).collect();
        let mut out = self.line(&header, &columns, &widths, indent, paint);
        for row in &self.rows {
            out += &self.line(row, &columns, &widths, indent, paint);
            if let Some((at, room)) = note
                && let Some(cell) = row.get(at)
            {
                let before = indent + NOTE_INDENT;
                for part in wrap(&cell.text, room.saturating_sub(before).max(NOTE_MIN)) {
                    out += &format!("{:before$}{}\n", "", paint.text(cell.tone, &part));
                }
            }
        }
        out
    }

    /// The title that a column belongs to.
    fn group(&self, column: usize) -> &'static str {
        self.headers[..=column].iter().rev().map(|h| title(h)).find(|t| !t.is_empty()).unwrap_or_default()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|r| r.get(column)).map(Cell::width);
        cells.chain([title(self.headers[column]).chars().count()]).max().unwrap_or(0)
    }

    fn line(&self, row: &[Cell], columns: &[usize], widths: &[usize], indent: usize, paint: Paint) -> String {
        let mut line = " ".repeat(indent);
        // Spaces are owed until a cell with text comes: no line ends in them, coloured or not.
        let mut owed = 0;
        for &i in columns {
            let Some(cell) = row.get(i) else { break };
            let width = cell.width();
            let slack = widths[i] - width;
            let (before, after) = if self.headers[i].starts_with('>') { (slack, 0) } else { (0, slack) };
            if width > 0 {
                line.extend(std::iter::repeat_n(' ', owed + before));
                line += &paint.text(cell.tone, &cell.text);
                owed = after + GAP;
            } else {
                owed += widths[i] + GAP;
            }
        }
        line.push('\n');
        line
    }
}

fn title(header: &'static str) -> &'static str {
    header.trim_start_matches('>')
}

/// In lines of at most `width` characters, broken between words; a longer word has its own line.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
        let text = table.render(2, Paint::PLAIN);
        let expected =
            ["  NAME          N  WHY", "  a             1", "  long-name  1000  x", "  b                → y"];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn render_with_colour_has_the_widths_of_the_text() {
        let mut table = Table::new(["A", "B"]);
        table.row([Cell::new(Tone::Bad, "xx"), "1".into()]);
        let paint = Paint { colour: true, ..Paint::PLAIN };
        assert_eq!(table.render(0, paint).lines().nth(1), Some("\x1b[31mxx\x1b[0m  1"));
    }

    #[test]
    fn render_too_wide_puts_the_note_below_and_then_leaves_out_columns_with_what_belongs_to_them() {
        let mut table = Table::new(["NAME", ">IN", ">", ">OUT", "WHY"]).narrow(Some("WHY"), &["IN", "OUT"]);
        table.row(["web-01".into(), "1 pkt".into(), "10 kB".into(), "22".into(), "".into()]);
        table.row(["web-02".into(), "1 pkt".into(), "9 kB".into(), "3".into(), "a reason of several words".into()]);
        let lines = |width| {
            let text = table.render(0, Paint { width: Some(width), ..Paint::PLAIN });
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let whole = table.render(0, Paint::PLAIN);
        let width = whole.lines().map(|l| l.chars().count()).max().unwrap();
        assert_eq!(lines(width), whole.lines().collect::<Vec<_>>());
        let note = ["    a reason of several", "    words"];
        assert_eq!(
            lines(25),
            ["NAME       IN         OUT", "web-01  1 pkt  10 kB   22", "web-02  1 pkt   9 kB    3", note[0], note[1]]
        );
        assert_eq!(lines(24)[..3], ["NAME    OUT", "web-01   22", "web-02    3"]);
        assert_eq!(lines(8)[..3], ["NAME", "web-01", "web-02"]);
    }
}
