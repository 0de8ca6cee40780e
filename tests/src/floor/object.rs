//! Takes the eBPF object apart: entry points, the functions each of them reaches, their instructions, maps and BTF.
//!
//! Instructions come from the ELF file itself, not from a loader's view of it. Maps come from aya's parser, since what
//! it makes of the definitions is what gets created.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context, Result, bail, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind};

use super::insn::{Insn, Needs};
use super::{Use, User, Verdict, helpers, tables};

const INSN: u64 = 8;

/// A function in an executable section: section, first and last byte (exclusive).
#[derive(Clone, Debug)]
struct Function {
    name: String,
    section: SectionIndex,
    start: u64,
    end: u64,
    global: bool,
}

/// All that the object asks of the kernel.
pub fn scan(elf: &[u8]) -> Result<BTreeSet<Use>> {
    let file = object::File::parse(elf).context("the eBPF object is not an ELF file")?;
    let functions = functions(&file)?;
    let mut uses = BTreeSet::new();
    let mut programs = 0;
    for entry in &functions {
        let section = file.section_by_index(entry.section)?.name()?.to_owned();
        if section == ".text" || !entry.global {
            continue;
        }
        programs += 1;
        let user = User::Program(entry.name.clone());
        uses.insert(section_use(&section, &user));
        for function in reachable(&file, &functions, entry)? {
            for (_, insn) in code(&file, function)? {
                uses.insert(insn_use(insn, &user));
            }
        }
    }
    ensure!(programs > 0, "the eBPF object has no program: no global function outside .text");
    let parsed = aya_obj::Object::parse(elf).context("aya does not parse the eBPF object")?;
    for (name, map) in &parsed.maps {
        uses.extend(map_uses(name, map.map_type(), map.map_flags()));
    }
    if let Some(btf) = file.section_by_name(".BTF") {
        uses.extend(btf_kinds(btf.data()?)?.into_iter().map(btf_use));
    }
    Ok(uses)
}

fn functions(file: &object::File<'_>) -> Result<Vec<Function>> {
    let mut functions = Vec::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let section = symbol.section_index().context("a function without a section")?;
        functions.push(Function {
            name: symbol.name()?.to_owned(),
            section,
            start: symbol.address(),
            end: symbol.address() + symbol.size(),
            global: symbol.is_global(),
        });
    }
    Ok(functions)
}

/// A function's instructions with their offsets in the section; the second half of a wide load is skipped.
fn code(file: &object::File<'_>, function: &Function) -> Result<Vec<(u64, Insn)>> {
    let section = file.section_by_index(function.section)?;
    let bytes = section
        .data()?
        .get(function.start as usize..function.end as usize)
        .with_context(|| format!("function {} reaches beyond its section", function.name))?;
    let (insns, rest) = bytes.as_chunks();
    ensure!(rest.is_empty(), "function {} ends within an instruction", function.name);
    Ok(decode(insns).map(|(index, insn)| (function.start + index * INSN, insn)).collect())
}

/// Decodes a run of instructions: the index of each and itself.
fn decode(insns: &[[u8; 8]]) -> impl Iterator<Item = (u64, Insn)> {
    let mut second_half = false;
    (0..).zip(insns).filter_map(move |(index, bytes)| {
        if std::mem::take(&mut second_half) {
            return None;
        }
        let insn = Insn::decode(*bytes);
        second_half = insn.is_wide();
        Some((index, insn))
    })
}

/// The entry point itself and every function it calls or whose address it takes, directly or not.
fn reachable<'f>(file: &object::File<'_>, functions: &'f [Function], entry: &'f Function) -> Result<Vec<&'f Function>> {
    let mut seen = HashSet::from([(entry.section, entry.start)]);
    let mut found = vec![entry];
    let mut next = 0;
    while let Some(function) = found.get(next).copied() {
        next += 1;
        for (section, address) in references(file, function)? {
            let target = functions
                .iter()
                .find(|f| f.section == section && (f.start..f.end).contains(&address))
                .with_context(|| format!("{} calls into nothing at {address:#x}", function.name))?;
            if seen.insert((target.section, target.start)) {
                found.push(target);
            }
        }
    }
    Ok(found)
}

/// The addresses of code that a function refers to, by relocation or, within its section, by a relative call.
fn references(file: &object::File<'_>, function: &Function) -> Result<Vec<(SectionIndex, u64)>> {
    let section = file.section_by_index(function.section)?;
    let relocations: BTreeMap<u64, RelocationTarget> =
        section.relocations().map(|(offset, relocation)| (offset, relocation.target())).collect();
    let mut references = Vec::new();
    for (offset, insn) in code(file, function)? {
        let relocation = relocations.get(&offset);
        match relocation {
            Some(RelocationTarget::Symbol(index)) => {
                let symbol = file.symbol_by_index(*index)?;
                let Some(section) = symbol.section_index() else {
                    bail!("{} refers to `{}`, which the object does not define", function.name, symbol.name()?);
                };
                if insn.is_local_call() {
                    // Relative to the symbol, in instructions, counted from the next one.
                    references.push((section, symbol.address().wrapping_add_signed((i64::from(insn.imm) + 1) * 8)));
                } else if file.section_by_index(section)?.kind() == object::SectionKind::Text {
                    // The address of a function, for a callback; the immediate is its offset in bytes.
                    references.push((section, symbol.address().wrapping_add_signed(i64::from(insn.imm))));
                }
            }
            Some(other) => bail!("{}: relocation against {other:?}, expected a symbol", function.name),
            None if insn.is_local_call() => {
                references.push((function.section, offset.wrapping_add_signed((i64::from(insn.imm) + 1) * 8)));
            }
            None => {}
        }
    }
    Ok(references)
}

fn since_or_refused(known: Option<(&str, super::Kernel)>, unknown: String) -> (String, Verdict) {
    match known {
        Some((name, since)) => (name.to_owned(), Verdict::Since(since)),
        None => (unknown, Verdict::Refused("unknown: look up the first kernel that has it".into())),
    }
}

fn section_use(section: &str, user: &User) -> Use {
    let (name, verdict) = since_or_refused(tables::section(section), section.to_owned());
    Use { class: "section", name, user: user.clone(), verdict }
}

/// What one instruction asks for.
pub fn insn_use(insn: Insn, user: &User) -> Use {
    let (class, (name, verdict)) = match insn.needs() {
        Needs::Feature { name, since } => ("instruction", (name.to_owned(), Verdict::Since(since))),
        Needs::Helper(id) => ("helper", since_or_refused(helpers::helper(id), format!("#{id}"))),
        Needs::Refused { name, why } => {
            ("instruction", (format!("{name} (code {:#04x})", insn.code), Verdict::Refused(why.to_owned())))
        }
    };
    Use { class, name, user: user.clone(), verdict }
}

/// What one map asks for: its type and each of its flags.
pub fn map_uses(map: &str, map_type: u32, flags: u32) -> Vec<Use> {
    // aya creates perf event and ring buffer maps like any other; no type is rewritten for older kernels.
    let named = |class, (name, verdict)| Use { class, name, user: User::Object, verdict };
    let mut uses = vec![named("map type", since_or_refused(tables::map_type(map_type), format!("{map}: #{map_type}")))];
    for flag in tables::map_flags(flags) {
        let unknown = flag.err().map(|bit| format!("{map}: {bit:#x}")).unwrap_or_default();
        uses.push(named("map flag", since_or_refused(flag.ok(), unknown)));
    }
    uses
}

fn btf_use(kind: u32) -> Use {
    let (name, verdict) = match tables::btf_kind(kind) {
        Some((name, since)) => (name.to_owned(), Verdict::Rewritten(since)),
        None => (format!("#{kind}"), Verdict::Refused("unknown BTF kind".into())),
    };
    Use { class: "btf kind", name, user: User::Object, verdict }
}

/// The kinds of type in a `.BTF` section.
pub fn btf_kinds(btf: &[u8]) -> Result<BTreeSet<u32>> {
    const MAGIC: u32 = 0xeb9f;
    let word = |at: usize| -> Result<u32> {
        let bytes = btf.get(at..at + 4).with_context(|| format!(".BTF ends before byte {at}"))?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("the slice above is four bytes")))
    };
    ensure!(word(0)? & 0xffff == MAGIC, ".BTF has no magic number");
    let header = word(4)?;
    let mut at = (header + word(8)?) as usize;
    let end = at + word(12)? as usize;
    let mut kinds = BTreeSet::new();
    while at < end {
        let info = word(at + 4)?;
        let (kind, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        // Behind the common 12 bytes: what the kind adds, by the format's definition.
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * members,
                6 | 13 => 8 * members,
                2 | 7..=12 | 16 | 18 => 0,
                _ => bail!("BTF kind {kind} is unknown; look up its layout and first kernel"),
            };
        kinds.insert(kind);
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::bpf_map_type;

    use super::*;
    use crate::floor::{FLOOR, violations};

    fn program() -> User {
        User::Program("lb".into())
    }

    fn complaints(uses: impl IntoIterator<Item = Use>) -> Vec<String> {
        violations(&uses.into_iter().collect(), FLOOR, &[])
    }

    fn insns(code: &[[u8; 8]]) -> Vec<Use> {
        decode(code).map(|(_, insn)| insn_use(insn, &program())).collect()
    }

    #[test]
    fn program_of_old_instructions_passes() {
        let mov_exit = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(complaints(insns(&mov_exit)), [] as [String; 0]);
    }

    #[test]
    fn program_with_a_v4_instruction_fails() {
        let movsx = [[0xbf, 0x21, 8, 0, 0, 0, 0, 0]];
        assert_eq!(
            complaints(insns(&movsx)),
            ["lb: instruction `sign-extending move (CPU v4)`: needs 6.6, allowed is 5.15"]
        );
    }

    #[test]
    fn program_with_a_too_new_helper_fails() {
        let call_loop = [[0x85, 0, 0, 0, 181, 0, 0, 0]];
        assert_eq!(complaints(insns(&call_loop)), ["lb: helper `loop`: needs 5.17, allowed is 5.15"]);
    }

    #[test]
    fn program_with_an_unknown_helper_fails() {
        let call = [[0x85, 0, 0, 0, 0xff, 0x7f, 0, 0]];
        assert_eq!(complaints(insns(&call)).len(), 1);
    }

    /// The second half of a wide load holds data: bytes that look like a v4 instruction there mean nothing.
    #[test]
    fn program_with_a_wide_constant_is_not_misread() {
        let wide = [[0x18, 1, 0, 0, 1, 0, 0, 0], [0xbf, 0x21, 8, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(complaints(insns(&wide)), [] as [String; 0]);
    }

    #[test]
    fn map_of_a_too_new_type_fails() {
        let user_ringbuf = bpf_map_type::BPF_MAP_TYPE_USER_RINGBUF as u32;
        assert_eq!(
            complaints(map_uses("EVENTS", user_ringbuf, 0)),
            ["object: map type `user_ringbuf`: needs 6.1, allowed is 5.15"]
        );
        assert_eq!(complaints(map_uses("NEW", 999, 0)).len(), 1);
    }

    #[test]
    fn map_with_an_unknown_flag_fails() {
        let hash = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
        assert_eq!(complaints(map_uses("FLOWS4", hash, 1)), [] as [String; 0]);
        assert_eq!(complaints(map_uses("FLOWS4", hash, 1 << 25)).len(), 1);
    }

    #[test]
    fn section_of_frags_fails_at_the_floor_and_unknown_ones_always() {
        assert_eq!(complaints([section_use("xdp.frags", &program())]).len(), 1);
        assert_eq!(complaints([section_use("netfilter", &program())]).len(), 1);
        assert_eq!(complaints([section_use("xdp", &program())]).len(), 0);
    }

    #[test]
    fn btf_kinds_are_walked_by_their_lengths() {
        let mut btf = Vec::new();
        let words = |out: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|w| out.extend(w.to_le_bytes()));
        // An int (4 bytes more), a struct of one member (12 more), a float (none): 12 + 4 + 12 + 12 + 12 bytes.
        words(&mut btf, &[0x0001_eb9f, 24, 0, 52, 52, 0]);
        words(&mut btf, &[0, 1 << 24, 4, 0x20, 0, 4 << 24 | 1, 4, 0, 1, 0, 0, 16 << 24, 8]);
        assert_eq!(btf_kinds(&btf).expect("well formed"), BTreeSet::from([1, 4, 16]));
        btf.truncate(40);
        assert!(btf_kinds(&btf).is_err(), "a cut section is an error, not an empty set");
    }

    #[test]
    fn scan_of_something_else_is_an_error() {
        assert!(scan(b"not an object").is_err());
    }
}
