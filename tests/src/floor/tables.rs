//! What each kernel brought: map types, map flags, program sections and BTF kinds, each with the first release that had
//! it. Data and its look-ups only; what the object uses is found by [`super::object`]. Helpers: [`super::helpers`].

use super::Kernel;

/// Map types: name, id, release.
const MAP_TYPES: &[(&str, u32, Kernel)] = &[
    ("hash", 1, Kernel(3, 19)),
    ("array", 2, Kernel(3, 19)),
    ("prog_array", 3, Kernel(4, 2)),
    ("perf_event_array", 4, Kernel(4, 3)),
    ("percpu_hash", 5, Kernel(4, 6)),
    ("percpu_array", 6, Kernel(4, 6)),
    ("stack_trace", 7, Kernel(4, 6)),
    ("cgroup_array", 8, Kernel(4, 8)),
    ("lru_hash", 9, Kernel(4, 10)),
    ("lru_percpu_hash", 10, Kernel(4, 10)),
    ("lpm_trie", 11, Kernel(4, 11)),
    ("array_of_maps", 12, Kernel(4, 12)),
    ("hash_of_maps", 13, Kernel(4, 12)),
    ("devmap", 14, Kernel(4, 14)),
    ("sockmap", 15, Kernel(4, 14)),
    ("cpumap", 16, Kernel(4, 15)),
    ("xskmap", 17, Kernel(4, 18)),
    ("sockhash", 18, Kernel(4, 18)),
    ("cgroup_storage", 19, Kernel(4, 19)),
    ("reuseport_sockarray", 20, Kernel(4, 19)),
    ("percpu_cgroup_storage", 21, Kernel(4, 20)),
    ("queue", 22, Kernel(4, 20)),
    ("stack", 23, Kernel(4, 20)),
    ("sk_storage", 24, Kernel(5, 2)),
    ("devmap_hash", 25, Kernel(5, 4)),
    ("struct_ops", 26, Kernel(5, 6)),
    ("ringbuf", 27, Kernel(5, 8)),
    ("inode_storage", 28, Kernel(5, 10)),
    ("task_storage", 29, Kernel(5, 11)),
    ("bloom_filter", 30, Kernel(5, 16)),
    ("user_ringbuf", 31, Kernel(6, 1)),
    ("cgrp_storage", 32, Kernel(6, 2)),
    ("arena", 33, Kernel(6, 9)),
];

/// Flags of map creation: name, bit, release.
const MAP_FLAGS: &[(&str, u32, Kernel)] = &[
    ("no_prealloc", 1 << 0, Kernel(4, 6)),
    ("no_common_lru", 1 << 1, Kernel(4, 10)),
    ("numa_node", 1 << 2, Kernel(4, 14)),
    ("rdonly", 1 << 3, Kernel(4, 15)),
    ("wronly", 1 << 4, Kernel(4, 15)),
    ("stack_build_id", 1 << 5, Kernel(4, 17)),
    ("zero_seed", 1 << 6, Kernel(5, 0)),
    ("rdonly_prog", 1 << 7, Kernel(5, 2)),
    ("wronly_prog", 1 << 8, Kernel(5, 2)),
    ("clone", 1 << 9, Kernel(5, 4)),
    ("mmapable", 1 << 10, Kernel(5, 5)),
    ("preserve_elems", 1 << 11, Kernel(5, 10)),
    ("inner_map", 1 << 12, Kernel(5, 10)),
];

/// Program sections, without what follows a `/` where that is the target's name.
const SECTIONS: &[(&str, Kernel)] = &[
    ("xdp", Kernel(4, 8)),
    ("xdp/devmap", Kernel(5, 8)),
    ("xdp/cpumap", Kernel(5, 9)),
    ("xdp.frags", Kernel(5, 18)),
    ("xdp.frags/devmap", Kernel(5, 18)),
    ("xdp.frags/cpumap", Kernel(5, 18)),
    ("tracepoint", Kernel(4, 7)),
    ("raw_tracepoint", Kernel(4, 17)),
    ("raw_tp", Kernel(4, 17)),
    ("classifier", Kernel(4, 1)),
    ("syscall", Kernel(5, 14)),
];

/// BTF kinds in the order of their numbers, from 1.
const BTF_KINDS: &[(&str, Kernel)] = &[
    ("int", Kernel(4, 18)),
    ("ptr", Kernel(4, 18)),
    ("array", Kernel(4, 18)),
    ("struct", Kernel(4, 18)),
    ("union", Kernel(4, 18)),
    ("enum", Kernel(4, 18)),
    ("fwd", Kernel(4, 18)),
    ("typedef", Kernel(4, 18)),
    ("volatile", Kernel(4, 18)),
    ("const", Kernel(4, 18)),
    ("restrict", Kernel(4, 18)),
    ("func", Kernel(5, 0)),
    ("func_proto", Kernel(5, 0)),
    ("var", Kernel(5, 2)),
    ("datasec", Kernel(5, 2)),
    ("float", Kernel(5, 13)),
    ("decl_tag", Kernel(5, 16)),
    ("type_tag", Kernel(5, 17)),
    ("enum64", Kernel(6, 0)),
];

/// A map type's name and first kernel.
pub fn map_type(id: u32) -> Option<(&'static str, Kernel)> {
    MAP_TYPES.iter().find(|(_, known, _)| *known == id).map(|(name, _, since)| (*name, *since))
}

/// Each flag set in `flags`: its name and first kernel, or the unknown bit.
pub fn map_flags(flags: u32) -> impl Iterator<Item = Result<(&'static str, Kernel), u32>> {
    (0..u32::BITS).map(|shift| 1 << shift).filter(move |bit| flags & bit != 0).map(|bit| {
        MAP_FLAGS.iter().find(|(_, known, _)| *known == bit).map(|(name, _, since)| (*name, *since)).ok_or(bit)
    })
}

/// A program section's kind and first kernel: `tracepoint/xdp/xdp_redirect_err` is a `tracepoint`.
pub fn section(name: &str) -> Option<(&'static str, Kernel)> {
    let exact = SECTIONS.iter().find(|(known, _)| *known == name);
    exact
        .or_else(|| {
            let kind = name.split('/').next().unwrap_or(name);
            SECTIONS.iter().find(|(known, _)| *known == kind)
        })
        .copied()
}

/// A BTF kind's name and first kernel.
pub fn btf_kind(kind: u32) -> Option<(&'static str, Kernel)> {
    BTF_KINDS.get(kind.checked_sub(1)? as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_with_a_target_is_its_kind() {
        assert_eq!(section("tracepoint/xdp/xdp_redirect_err"), Some(("tracepoint", Kernel(4, 7))));
        assert_eq!(section("xdp.frags"), Some(("xdp.frags", Kernel(5, 18))));
        assert_eq!(section("xdp/devmap"), Some(("xdp/devmap", Kernel(5, 8))));
        assert_eq!(section("lsm/file_open"), None);
    }

    #[test]
    fn map_flags_names_known_bits_and_returns_unknown_ones() {
        let flags: Vec<_> = map_flags((1 << 10) | (1 << 30)).collect();
        assert_eq!(flags, [Ok(("mmapable", Kernel(5, 5))), Err(1 << 30)]);
    }
}
