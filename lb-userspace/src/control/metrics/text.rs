//! The exposition format itself: HELP, TYPE, escaped labels, and no family twice.

use std::fmt::Write;

/// A family's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

/// One family; its samples follow its header.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Text {
    /// Begins a family. A family without samples still says that it exists.
    pub(crate) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        write(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { name, text: &mut self.0 }
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample. Counters above 2^53 lose their last bits, as they do in Prometheus itself.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(self.name);
        for (i, (name, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            write(self.text, format_args!("{open}{name}=\"{}\"", escape(text)));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        write(self.text, format_args!(" {value}\n"));
    }
}

fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes all that is written to it");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_with_special_characters_escapes_them() {
        let mut text = Text::default();
        text.family(Kind::Gauge, "a", "Help.").sample(&[("l", "q\"b\\n\n")], 0.5);
        assert_eq!(text.finish(), "# HELP a Help.\n# TYPE a gauge\na{l=\"q\\\"b\\\\n\\n\"} 0.5\n");
    }
}
