//! One table of the file, read key by key. Remembers where each value stood, reports unknown and missing keys, and goes
//! on after an error, so that one reading finds all.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::error::{At, Report};
use super::super::keys::{self, Absent, Scope};
use super::values::Refusal;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    /// The value.
    pub(crate) value: T,
    /// Its place.
    pub(crate) at: At,
}

/// What a key held. `Bad` is already reported and silences rules that would only repeat it.
#[derive(Clone, Debug)]
pub(crate) enum Field<T> {
    /// The key is not there.
    Absent,
    /// Its value was refused.
    Bad,
    /// Its value.
    Good(Located<T>),
}

impl<T> Field<T> {
    /// The value, if there is a good one.
    pub(crate) fn good(&self) -> Option<&Located<T>> {
        match self {
            Self::Good(located) => Some(located),
            _ => None,
        }
    }

    /// The value, if there is a good one.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Good(located) => Some(located.value),
            _ => None,
        }
    }

    /// The value or, if there is no good one, the default. After `Bad` no configuration results anyway.
    pub(crate) fn or(self, default: T) -> T {
        self.value().unwrap_or(default)
    }
}

/// A table being read.
pub(crate) struct Section<'r, 't> {
    scope: Scope,
    at: At,
    report: &'r Report<'t>,
    entries: BTreeMap<&'r str, (Range<usize>, &'r Spanned<DeValue<'t>>)>,
    asked: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    /// The top level.
    pub(crate) fn root(table: &'r DeTable<'t>, report: &'r Report<'t>) -> Self {
        Self::new(Scope::Root, At { key: String::new(), span: 0..0 }, table, report)
    }

    fn new(scope: Scope, at: At, table: &'r DeTable<'t>, report: &'r Report<'t>) -> Self {
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value))).collect();
        Self { scope, at, report, entries, asked: Vec::new() }
    }

    /// Where it stands.
    pub(crate) fn at(&self) -> &At {
        &self.at
    }

    /// Where problems go.
    pub(crate) fn report(&self) -> &'r Report<'t> {
        self.report
    }

    /// Reads an optional key.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Field<T> {
        let Some((_, value)) = self.take(key) else { return Field::Absent };
        let at = At { key: self.path(key), span: value.span() };
        self.located(key, at, value.get_ref(), parse)
    }

    /// Reads a key that must be there.
    pub(crate) fn require<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Field<T> {
        let field = self.read(key, parse);
        if matches!(field, Field::Absent) {
            let at = At { key: self.path(key), span: self.at.span.clone() };
            self.report.place(&at, "is missing", format!("add {}", self.example(key)));
            return Field::Bad;
        }
        field
    }

    /// Reads an array, each element with its own place.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Field<Vec<Located<T>>> {
        let Some((_, value)) = self.take(key) else { return Field::Absent };
        let at = At { key: self.path(key), span: value.span() };
        let DeValue::Array(array) = value.get_ref() else {
            self.refuse(key, &at, Refusal::of_type("an array", value.get_ref()));
            return Field::Bad;
        };
        let mut good = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            let at = At { key: format!("{}[{}]", at.key, i + 1), span: element.span() };
            if let Field::Good(located) = self.located(key, at, element.get_ref(), &parse) {
                good.push(located);
            }
        }
        if good.len() == array.len() { Field::Good(Located { value: good, at }) } else { Field::Bad }
    }

    /// A table below this one.
    pub(crate) fn table(&mut self, scope: Scope) -> Option<Section<'r, 't>> {
        let (key_span, value) = self.take(scope.name())?;
        let at = At { key: self.path(scope.name()), span: key_span };
        let Some(table) = value.get_ref().as_table() else {
            let found = super::values::type_name(value.get_ref());
            self.report.place(&at, format!("must be a table, not {found}"), format!("write {}", scope.header()));
            return None;
        };
        Some(Section::new(scope, at, table, self.report))
    }

    /// The tables of an array of tables below this one, `None` if it is something else. Their paths name them by the
    /// value of their first key.
    pub(crate) fn tables(&mut self, scope: Scope) -> Option<Vec<Section<'r, 't>>> {
        let Some((key_span, value)) = self.take(scope.name()) else { return Some(Vec::new()) };
        let at = At { key: self.path(scope.name()), span: key_span };
        let wrong = |at: &At, found: &DeValue<'_>| {
            let found = super::values::type_name(found);
            self.report.place(
                at,
                format!("must be an array of tables, not {found}"),
                format!("write {} with double brackets for each", scope.header()),
            );
        };
        let Some(array) = value.get_ref().as_array() else {
            wrong(&at, value.get_ref());
            return None;
        };
        let id = scope.keys().next().map_or("", |key| key.name);
        let mut sections = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            let Some(table) = element.get_ref().as_table() else {
                wrong(&At { key: format!("{}[{}]", at.key, i + 1), span: element.span() }, element.get_ref());
                continue;
            };
            let name = table.iter().find(|(key, _)| key.get_ref() == id).and_then(|(_, v)| v.get_ref().as_str());
            let path = match name {
                Some(name) if super::values::is_name(name) => format!("{}.{name}", at.key),
                _ => format!("{}[{}]", at.key, i + 1),
            };
            let header = element.span().start..element.span().start;
            sections.push(Section::new(scope, At { key: path, span: header }, table, self.report));
        }
        Some(sections)
    }

    /// Ends the reading: what was not asked for does not exist.
    pub(crate) fn finish(self) {
        debug_assert!(
            self.scope
                .keys()
                .map(|k| k.name)
                .chain(self.scope.children().map(Scope::name))
                .all(|k| self.asked.contains(&k)),
            "{:?}: the reader asks for {:?} only",
            self.scope,
            self.asked,
        );
        for (name, (span, _)) in &self.entries {
            if !self.asked.contains(name) {
                let at = At { key: self.path(name), span: span.clone() };
                self.report.place(&at, "no such key", suggestion(self.scope, name));
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(Range<usize>, &'r Spanned<DeValue<'t>>)> {
        debug_assert!(
            keys::find(self.scope, key).is_some() || self.scope.children().any(|child| child.name() == key),
            "{key} is not in the table of keys"
        );
        self.asked.push(key);
        self.entries.get(key).cloned()
    }

    fn located<T>(
        &self,
        key: &'static str,
        at: At,
        value: &DeValue<'_>,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Field<T> {
        match parse(value) {
            Ok(value) => Field::Good(Located { value, at }),
            Err(refusal) => {
                self.refuse(key, &at, refusal);
                Field::Bad
            }
        }
    }

    fn refuse(&self, key: &'static str, at: &At, refusal: Refusal) {
        let mend = refusal.mend.unwrap_or_else(|| format!("for example {}", self.example(key)));
        self.report.value(at, refusal.rule, mend);
    }

    fn example(&self, key: &str) -> String {
        let example = keys::find(self.scope, key).map_or("…", |key| match key.absent {
            Absent::Default(default) if default != "[]" => default,
            _ => key.example,
        });
        format!("{key} = {example}")
    }

    fn path(&self, key: &str) -> String {
        // A key that people may not read as one word is quoted, as TOML would have it.
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        if self.at.key.is_empty() { key } else { format!("{}.{key}", self.at.key) }
    }
}

/// What may have been meant by an unknown key.
fn suggestion(scope: Scope, name: &str) -> String {
    let known: Vec<&str> = scope.keys().map(|key| key.name).chain(scope.children().map(Scope::name)).collect();
    let elsewhere =
        |other: &Scope| keys::find(*other, name).is_some() || other.children().any(|child| child.name() == name);
    if let Some(other) = Scope::ALL.iter().find(|other| elsewhere(other)) {
        return format!("it belongs to {}", other.header());
    }
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the keys of {} are {}", scope.header(), known.join(", ")),
    }
}

/// The closest of `known`, if it is close.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= (k.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
