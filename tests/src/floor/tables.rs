//! What each kernel brought: helpers, map types, map flags, program sections and BTF kinds, each with the first release
//! that had it. Data and its look-ups only; what the object uses is found by [`super::object`].
//!
//! A helper's release is that of the helper itself. That a program *type* was allowed to call it only later is not
//! written here: the boot tests load the object on real kernels and see that.

use super::Kernel;

/// Helpers by release: the first id, the release, and the names in the order of their ids (without `bpf_`).
const HELPERS: &[(u32, Kernel, &[&str])] = &[
    (1, Kernel(3, 18), &["map_lookup_elem", "map_update_elem"]),
    (3, Kernel(3, 19), &["map_delete_elem"]),
    (
        4,
        Kernel(4, 1),
        &[
            "probe_read",
            "ktime_get_ns",
            "trace_printk",
            "get_prandom_u32",
            "get_smp_processor_id",
            "skb_store_bytes",
            "l3_csum_replace",
            "l4_csum_replace",
        ],
    ),
    (
        12,
        Kernel(4, 2),
        &["tail_call", "clone_redirect", "get_current_pid_tgid", "get_current_uid_gid", "get_current_comm"],
    ),
    (
        17,
        Kernel(4, 3),
        &[
            "get_cgroup_classid",
            "skb_vlan_push",
            "skb_vlan_pop",
            "skb_get_tunnel_key",
            "skb_set_tunnel_key",
            "perf_event_read",
        ],
    ),
    (23, Kernel(4, 4), &["redirect", "get_route_realm", "perf_event_output"]),
    (26, Kernel(4, 5), &["skb_load_bytes"]),
    (27, Kernel(4, 6), &["get_stackid", "csum_diff", "skb_get_tunnel_opt", "skb_set_tunnel_opt"]),
    (
        31,
        Kernel(4, 8),
        &[
            "skb_change_proto",
            "skb_change_type",
            "skb_under_cgroup",
            "get_hash_recalc",
            "get_current_task",
            "probe_write_user",
        ],
    ),
    (
        37,
        Kernel(4, 9),
        &["current_task_under_cgroup", "skb_change_tail", "skb_pull_data", "csum_update", "set_hash_invalid"],
    ),
    (42, Kernel(4, 10), &["get_numa_node_id", "skb_change_head", "xdp_adjust_head"]),
    (45, Kernel(4, 11), &["probe_read_str"]),
    (46, Kernel(4, 12), &["get_socket_cookie", "get_socket_uid"]),
    (48, Kernel(4, 13), &["set_hash", "setsockopt", "skb_adjust_room"]),
    (51, Kernel(4, 14), &["redirect_map", "sk_redirect_map", "sock_map_update"]),
    (54, Kernel(4, 15), &["xdp_adjust_meta", "perf_event_read_value", "perf_prog_read_value", "getsockopt"]),
    (58, Kernel(4, 16), &["override_return", "sock_ops_cb_flags_set"]),
    (60, Kernel(4, 17), &["msg_redirect_map", "msg_apply_bytes", "msg_cork_bytes", "msg_pull_data", "bind"]),
    (
        65,
        Kernel(4, 18),
        &[
            "xdp_adjust_tail",
            "skb_get_xfrm_state",
            "get_stack",
            "skb_load_bytes_relative",
            "fib_lookup",
            "sock_hash_update",
            "msg_redirect_hash",
            "sk_redirect_hash",
            "lwt_push_encap",
            "lwt_seg6_store_bytes",
            "lwt_seg6_adjust_srh",
            "lwt_seg6_action",
            "rc_repeat",
            "rc_keydown",
            "skb_cgroup_id",
            "get_current_cgroup_id",
        ],
    ),
    (81, Kernel(4, 19), &["get_local_storage", "sk_select_reuseport", "skb_ancestor_cgroup_id"]),
    (
        84,
        Kernel(4, 20),
        &[
            "sk_lookup_tcp",
            "sk_lookup_udp",
            "sk_release",
            "map_push_elem",
            "map_pop_elem",
            "map_peek_elem",
            "msg_push_data",
        ],
    ),
    (91, Kernel(5, 0), &["msg_pop_data", "rc_pointer_rel"]),
    (93, Kernel(5, 1), &["spin_lock", "spin_unlock", "sk_fullsock", "tcp_sock", "skb_ecn_set_ce", "get_listener_sock"]),
    (
        99,
        Kernel(5, 2),
        &[
            "skc_lookup_tcp",
            "tcp_check_syncookie",
            "sysctl_get_name",
            "sysctl_get_current_value",
            "sysctl_get_new_value",
            "sysctl_set_new_value",
            "strtol",
            "strtoul",
            "sk_storage_get",
            "sk_storage_delete",
        ],
    ),
    (109, Kernel(5, 3), &["send_signal"]),
    (110, Kernel(5, 4), &["tcp_gen_syncookie"]),
    (
        111,
        Kernel(5, 5),
        &["skb_output", "probe_read_user", "probe_read_kernel", "probe_read_user_str", "probe_read_kernel_str"],
    ),
    (116, Kernel(5, 6), &["tcp_send_ack", "send_signal_thread", "jiffies64"]),
    (
        119,
        Kernel(5, 7),
        &[
            "read_branch_records",
            "get_ns_current_pid_tgid",
            "xdp_output",
            "get_netns_cookie",
            "get_current_ancestor_cgroup_id",
            "sk_assign",
        ],
    ),
    (
        125,
        Kernel(5, 8),
        &[
            "ktime_get_boot_ns",
            "seq_printf",
            "seq_write",
            "sk_cgroup_id",
            "sk_ancestor_cgroup_id",
            "ringbuf_output",
            "ringbuf_reserve",
            "ringbuf_submit",
            "ringbuf_discard",
            "ringbuf_query",
            "csum_level",
        ],
    ),
    (
        136,
        Kernel(5, 9),
        &[
            "skc_to_tcp6_sock",
            "skc_to_tcp_sock",
            "skc_to_tcp_timewait_sock",
            "skc_to_tcp_request_sock",
            "skc_to_udp6_sock",
            "get_task_stack",
        ],
    ),
    (
        142,
        Kernel(5, 10),
        &[
            "load_hdr_opt",
            "store_hdr_opt",
            "reserve_hdr_opt",
            "inode_storage_get",
            "inode_storage_delete",
            "d_path",
            "copy_from_user",
            "snprintf_btf",
            "seq_printf_btf",
            "skb_cgroup_classid",
            "redirect_neigh",
            "per_cpu_ptr",
            "this_cpu_ptr",
            "redirect_peer",
        ],
    ),
    (
        156,
        Kernel(5, 11),
        &[
            "task_storage_get",
            "task_storage_delete",
            "get_current_task_btf",
            "bprm_opts_set",
            "ktime_get_coarse_ns",
            "ima_inode_hash",
            "sock_from_file",
        ],
    ),
    (163, Kernel(5, 12), &["check_mtu"]),
    (164, Kernel(5, 13), &["for_each_map_elem", "snprintf"]),
    (166, Kernel(5, 14), &["sys_bpf", "btf_find_by_name_kind", "sys_close"]),
    (
        169,
        Kernel(5, 15),
        &[
            "timer_init",
            "timer_set_callback",
            "timer_start",
            "timer_cancel",
            "get_func_ip",
            "get_attach_cookie",
            "task_pt_regs",
        ],
    ),
    (176, Kernel(5, 16), &["get_branch_snapshot", "trace_vprintk", "skc_to_unix_sock", "kallsyms_lookup_name"]),
    (180, Kernel(5, 17), &["find_vma", "loop", "strncmp", "get_func_arg", "get_func_ret", "get_func_arg_cnt"]),
    (
        186,
        Kernel(5, 18),
        &[
            "get_retval",
            "set_retval",
            "xdp_get_buff_len",
            "xdp_load_bytes",
            "xdp_store_bytes",
            "copy_from_user_task",
            "skb_set_tstamp",
            "ima_file_hash",
        ],
    ),
    (
        194,
        Kernel(5, 19),
        &[
            "kptr_xchg",
            "map_lookup_percpu_elem",
            "skc_to_mptcp_sock",
            "dynptr_from_mem",
            "ringbuf_reserve_dynptr",
            "ringbuf_submit_dynptr",
            "ringbuf_discard_dynptr",
            "dynptr_read",
            "dynptr_write",
            "dynptr_data",
        ],
    ),
    (
        204,
        Kernel(6, 0),
        &[
            "tcp_raw_gen_syncookie_ipv4",
            "tcp_raw_gen_syncookie_ipv6",
            "tcp_raw_check_syncookie_ipv4",
            "tcp_raw_check_syncookie_ipv6",
        ],
    ),
    (208, Kernel(6, 1), &["ktime_get_tai_ns", "user_ringbuf_drain"]),
    (210, Kernel(6, 2), &["cgrp_storage_get", "cgrp_storage_delete"]),
];

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

/// A helper's name and first kernel; `None` for ids this table does not know, which are newer than all of it.
pub fn helper(id: u32) -> Option<(&'static str, Kernel)> {
    let (first, since, names) = HELPERS.iter().rev().find(|(first, _, _)| *first <= id)?;
    let name = names.get((id - first) as usize)?;
    Some((name, *since))
}

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

    /// Each run of names must end where the next begins, or every later id would have a neighbour's name.
    #[test]
    fn helpers_runs_are_contiguous_and_ordered() {
        for pair in HELPERS.windows(2) {
            let ((first, since, names), (next, next_since, _)) = (pair[0], pair[1]);
            assert_eq!(first as usize + names.len(), next as usize, "the run of {since} does not reach {next}");
            assert!(since < next_since, "{since} before {next_since}");
        }
    }

    #[test]
    fn helper_ids_of_the_uapi_header_have_their_names() {
        assert_eq!(helper(1), Some(("map_lookup_elem", Kernel(3, 18))));
        assert_eq!(helper(44), Some(("xdp_adjust_head", Kernel(4, 10))));
        assert_eq!(helper(88), Some(("map_pop_elem", Kernel(4, 20))));
        assert_eq!(helper(118), Some(("jiffies64", Kernel(5, 6))));
        assert_eq!(helper(175), Some(("task_pt_regs", Kernel(5, 15))));
        assert_eq!(helper(181), Some(("loop", Kernel(5, 17))));
        assert_eq!(helper(211), Some(("cgrp_storage_delete", Kernel(6, 2))));
        assert_eq!(helper(0), None);
        assert_eq!(helper(212), None);
    }

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
