//! The same edit on the text. Handles `[[…]]` tables as well as inline arrays of inline tables; whatever else TOML
//! allows is refused by the comparison in the parent module.
//!
//! Of a removed entry goes what stands from its header to its last key. Comments above its header stay: whether they
//! speak of it alone or of all that follows cannot be known, and a lost comment is worse than one too many.

use std::net::IpAddr;

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value, value};

use crate::control::daemon::Edit;

/// Carries the edit out. The error says what about the layout was not understood.
pub(super) fn apply(text: &str, edit: &Edit) -> Result<String, String> {
    let mut doc: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.message().to_owned())?;
    match edit {
        Edit::AddBackend { name, addresses, owner, services, port, weight } => {
            if find(doc.as_table_mut(), "backend", "name", name.as_str())?.is_none() {
                let mut entry: Entry = vec![("name", name.as_str().into())];
                for address in addresses {
                    let family = if matches!(address, IpAddr::V4(_)) { "ipv4" } else { "ipv6" };
                    entry.push((family, address.to_string().into()));
                }
                entry.extend(owner.iter().map(|owner| ("owner", owner.as_str().into())));
                append(doc.as_table_mut(), "backend", entry)?;
            }
            for service in services {
                let table = find(doc.as_table_mut(), "service", "name", service.as_str())?
                    .ok_or_else(|| format!("service {service} was not found"))?;
                let mut entry: Entry = vec![("backend", name.as_str().into())];
                entry.extend(port.map(|port| ("port", i64::from(port.get()).into())));
                entry.extend(weight.map(|weight| ("weight", i64::from(weight.get()).into())));
                append(table, "member", entry)?;
            }
        }
        Edit::RemoveBackend { name, service, .. } => {
            let mut carry = Vec::new();
            for table in entries(doc.as_table_mut(), "service")? {
                let here = service.as_ref().is_none_or(|service| is(table, "name", service.as_str()));
                if here {
                    carry.extend(remove(table, "member", "backend", name.as_str())?);
                }
            }
            if service.is_none() {
                carry.extend(remove(doc.as_table_mut(), "backend", "name", name.as_str())?);
            }
            // The last first, so that comments moved together keep their order.
            carry.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
            for (position, comment) in carry {
                put_back(&mut doc, position, &comment);
            }
        }
        Edit::SetBackend { name, service, weight, port, owner, .. } => {
            for table in entries(doc.as_table_mut(), "service")? {
                let here = service.as_ref().is_none_or(|service| is(table, "name", service.as_str()));
                if !here {
                    continue;
                }
                if let Some(member) = find(table, "member", "backend", name.as_str())? {
                    if let Some(port) = port {
                        set(member, "port", i64::from(port.get()).into());
                    }
                    if let Some(weight) = weight {
                        set(member, "weight", i64::from(weight.get()).into());
                    }
                }
            }
            if let Some(owner) = owner
                && let Some(backend) = find(doc.as_table_mut(), "backend", "name", name.as_str())?
            {
                set(backend, "owner", owner.as_str().into());
            }
        }
    }
    let edited = doc.to_string();
    // The writer ends every line with \n.
    Ok(if text.contains("\r\n") { edited.replace("\r\n", "\n").replace('\n', "\r\n") } else { edited })
}

/// Keys and values of a new entry.
type Entry = Vec<(&'static str, Value)>;

/// The entries of an array of tables, in either notation.
fn entries<'t>(parent: &'t mut dyn TableLike, key: &str) -> Result<Vec<&'t mut dyn TableLike>, String> {
    match parent.get_mut(key) {
        None => Ok(Vec::new()),
        Some(Item::ArrayOfTables(tables)) => Ok(tables.iter_mut().map(|table| table as &mut dyn TableLike).collect()),
        Some(Item::Value(Value::Array(array))) => array
            .iter_mut()
            .map(|element| element.as_inline_table_mut().map(|table| table as &mut dyn TableLike))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("{key} holds something else than tables")),
        Some(_) => Err(format!("{key} is no array of tables")),
    }
}

fn is(table: &dyn TableLike, id: &str, name: &str) -> bool {
    table.get(id).and_then(Item::as_str) == Some(name)
}

fn find<'t>(
    parent: &'t mut dyn TableLike,
    key: &str,
    id: &str,
    name: &str,
) -> Result<Option<&'t mut dyn TableLike>, String> {
    Ok(entries(parent, key)?.into_iter().find(|table| is(*table, id, name)))
}

/// Sets a key and keeps the comment behind its old value.
fn set(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            let indent = indent_of_keys(table);
            table.insert(key, Item::Value(new));
            if let Some(mut key) = table.key_mut(key) {
                key.leaf_decor_mut().set_prefix(indent);
            }
        }
    }
}

fn append(parent: &mut dyn TableLike, key: &str, entry: Entry) -> Result<(), String> {
    match parent.get_mut(key) {
        None => {
            let mut tables = ArrayOfTables::new();
            tables.push(table_like(None, entry));
            parent.insert(key, Item::ArrayOfTables(tables));
        }
        Some(Item::ArrayOfTables(tables)) => {
            let last = tables.iter().last();
            let table = table_like(last, entry);
            tables.push(table);
        }
        Some(Item::Value(Value::Array(array))) => push_inline(array, entry),
        Some(_) => return Err(format!("{key} is no array of tables")),
    }
    Ok(())
}

/// A table spaced and indented like `model`.
fn table_like(model: Option<&Table>, entry: Entry) -> Table {
    let mut table = Table::new();
    let mut indent = String::new();
    if let Some(model) = model {
        let prefix = text_of(model.decor().prefix());
        let blank = if prefix.contains('\n') || prefix.is_empty() && model.position() == Some(0) { "\n" } else { "" };
        table.decor_mut().set_prefix(format!("{blank}{}", last_line(prefix)));
        indent = indent_of_keys(model);
    }
    for (key, new) in entry {
        table.insert(key, value(new));
        if let Some(mut key) = table.key_mut(key) {
            key.leaf_decor_mut().set_prefix(indent.as_str());
        }
    }
    table
}

fn push_inline(array: &mut Array, entry: Entry) {
    let mut table = InlineTable::new();
    for (key, new) in entry {
        table.insert(key, new);
    }
    let mut new = Value::InlineTable(table);
    let multiline = array.iter().any(|element| text_of(element.decor().prefix()).contains('\n'));
    if let Some(last) = array.len().checked_sub(1).and_then(|last| array.get_mut(last)) {
        let indent = last_line(text_of(last.decor().prefix())).to_owned();
        new.decor_mut().set_prefix(if multiline { format!("\n{indent}") } else { " ".into() });
        // What stood between the last element and the bracket stays before the bracket.
        new.decor_mut().set_suffix(text_of(last.decor().suffix()).to_owned());
        last.decor_mut().set_suffix("");
    }
    let trailing = text_of(Some(array.trailing())).to_owned();
    if let Some(comments) = trailing.rfind('\n').map(|end| &trailing[..end])
        && comments.contains('#')
    {
        // A comment behind the last element's comma stays with that element.
        let prefix = format!("{comments}{}", text_of(new.decor().prefix()));
        new.decor_mut().set_prefix(prefix);
        let rest = trailing[comments.len()..].to_owned();
        array.set_trailing(rest);
    }
    array.push_formatted(new);
}

/// Removes an entry. Returns comments that stood above it and now need a place, with its position in the file.
fn remove(parent: &mut dyn TableLike, key: &str, id: &str, name: &str) -> Result<Option<(isize, String)>, String> {
    let Some(index) = entries(parent, key)?.iter().position(|table| is(*table, id, name)) else { return Ok(None) };
    match parent.get_mut(key) {
        Some(Item::ArrayOfTables(tables)) => {
            let removed = tables.remove(index);
            if tables.is_empty() {
                parent.remove(key);
            }
            let comment = text_of(removed.decor().prefix());
            Ok(removed.position().filter(|_| comment.contains('#')).map(|position| (position, comment.to_owned())))
        }
        Some(Item::Value(Value::Array(array))) => {
            remove_inline(array, index);
            Ok(None)
        }
        _ => Err(format!("{key} is no array of tables")),
    }
}

fn remove_inline(array: &mut Array, index: usize) {
    let removed = array.remove(index);
    let prefix = text_of(removed.decor().prefix());
    let comment = prefix.rfind('\n').map_or("", |end| &prefix[..end]);
    let suffix = text_of(removed.decor().suffix()).to_owned();
    let carried = if comment.contains('#') { comment } else { "" };
    match array.get_mut(index) {
        Some(next) => {
            let own = text_of(next.decor().prefix());
            // The first element of a one-line array has no space before it.
            let own = if index == 0 && carried.is_empty() && !own.contains('\n') { prefix } else { own };
            let moved = format!("{carried}{own}");
            next.decor_mut().set_prefix(moved);
        }
        None => {
            let trailing = format!("{carried}{suffix}{}", text_of(Some(array.trailing())));
            array.set_trailing(trailing);
        }
    }
}

/// Puts comments above whatever now follows `position`, or at the end of the file.
fn put_back(doc: &mut DocumentMut, position: isize, comment: &str) {
    let mut next = None;
    positions(doc.as_table(), &mut |other| {
        if other > position && next.is_none_or(|next| other < next) {
            next = Some(other);
        }
    });
    match next {
        Some(next) => prepend(doc.as_table_mut(), next, comment),
        None => {
            let trailing = format!("{comment}{}", text_of(Some(doc.trailing())));
            doc.set_trailing(trailing);
        }
    }
}

fn positions(table: &Table, visit: &mut impl FnMut(isize)) {
    for (_, item) in table.iter() {
        let below = item.as_table().into_iter().chain(item.as_array_of_tables().into_iter().flatten());
        for below in below {
            // An implied table has no header to put a comment above.
            if let Some(position) = below.position().filter(|_| !below.is_implicit() && !below.is_dotted()) {
                visit(position);
            }
            positions(below, visit);
        }
    }
}

fn prepend(table: &mut Table, position: isize, comment: &str) {
    fn one(table: &mut Table, position: isize, comment: &str) {
        if table.position() == Some(position) && !table.is_implicit() && !table.is_dotted() {
            let prefix = format!("{comment}{}", text_of(table.decor().prefix()));
            table.decor_mut().set_prefix(prefix);
        }
        prepend(table, position, comment);
    }
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(below) => one(below, position, comment),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|below| one(below, position, comment)),
            _ => {}
        }
    }
}

fn text_of(raw: Option<&RawString>) -> &str {
    raw.and_then(RawString::as_str).unwrap_or("")
}

/// The white space that a line begins with, from what stands before its first word.
fn last_line(prefix: &str) -> &str {
    prefix.rsplit('\n').next().unwrap_or("")
}

fn indent_of_keys(table: &dyn TableLike) -> String {
    let first = table.iter().next().map(|(key, _)| key.to_owned());
    let key = first.as_deref().and_then(|key| table.key(key));
    key.map_or(String::new(), |key| last_line(text_of(key.leaf_decor().prefix())).to_owned())
}
