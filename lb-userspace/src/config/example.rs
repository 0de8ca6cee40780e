//! The example file: every key with its meaning, made from the table of keys.

use super::keys::{Absent, Key, Scope};

/// Columns of the comments.
const WIDTH: usize = 100;

/// A commented file that says the same as an empty one: keys with a default are set to it, all others stand commented
/// out (`#key = …`, while prose begins with `# `) with an example.
pub fn default_text() -> String {
    let mut out = String::new();
    prose(&mut out, "Rollcall's configuration. What is set here is the default; what begins with # is an example.");
    prose(&mut out, "Durations are a number and a unit of ms, s, m, h or d: \"500ms\", \"1h30m\".");
    for scope in Scope::ALL {
        out.push('\n');
        prose(&mut out, scope.doc());
        // Items that must not exist by default are commented out as a whole.
        let item = matches!(
            scope,
            Scope::Heartbeat
                | Scope::Backend
                | Scope::Memory
                | Scope::AgentCheck
                | Scope::Service
                | Scope::Probe
                | Scope::Member
                | Scope::AlertRoute
        );
        if scope != Scope::Root {
            out.push_str(if item { "#" } else { "" });
            out.push_str(scope.header());
            out.push('\n');
        }
        for key in scope.keys() {
            describe(&mut out, key, item);
        }
    }
    out
}

fn describe(out: &mut String, key: &Key, commented: bool) {
    let (absent, value) = match key.absent {
        Absent::Refused => ("Must be given.".to_owned(), None),
        Absent::Default(default) => (format!("Default: {default}."), Some(default)),
        Absent::Means(words) => (format!("Without it: {words}."), None),
    };
    out.push('\n');
    prose(out, &format!("{} ({}.) {absent}", key.doc, key.kind.replace('`', "")));
    match value.filter(|_| !commented) {
        Some(value) => out.push_str(&format!("{} = {value}\n", key.name)),
        None => out.push_str(&format!("#{} = {}\n", key.name, key.example)),
    }
}

/// Writes comment lines, broken at words.
fn prose(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > WIDTH {
            out.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push('\n');
}
