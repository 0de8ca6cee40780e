//! `rollcall reload`, and how the outcome of a change is shown.

use super::output::{Paint, Tone};
use super::{Context, Outcome};
use crate::control::schema::Applied;

pub(super) async fn run(context: &Context) -> Outcome {
    let applied: Applied = context.client.post("/v1/reload").await?;
    context.output.show(applied, render)
}

pub(super) fn render(applied: &Applied, paint: Paint) -> String {
    if applied.changes.is_empty() {
        return format!("nothing changed; revision {} runs\n", applied.revision);
    }
    let mut out = paint.text(Tone::Good, &format!("applied as revision {}", applied.revision)) + "\n";
    for change in &applied.changes {
        out += &format!("  {change}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_of_an_outcome_lists_changes_or_says_that_there_are_none() {
        let changed = Applied { revision: 3, changes: vec!["www/web-02: weight 1 → 3".into()] };
        assert_eq!(render(&changed, Paint::PLAIN), "applied as revision 3\n  www/web-02: weight 1 → 3\n");
        let same = Applied { revision: 3, changes: vec![] };
        assert_eq!(render(&same, Paint::PLAIN), "nothing changed; revision 3 runs\n");
    }
}
