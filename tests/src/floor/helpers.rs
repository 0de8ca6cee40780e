//! The helpers and the release that brought each. Data and its look-up only.
//!
//! A release is that of the helper itself. That a program *type* was allowed to call it only later is not written here:
//! the boot tests load the object on real kernels and see that.

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

/// A helper's name and first kernel; `None` for ids this table does not know, which are newer than all of it.
pub fn helper(id: u32) -> Option<(&'static str, Kernel)> {
    let (first, since, names) = HELPERS.iter().rev().find(|(first, _, _)| *first <= id)?;
    let name = names.get((id - first) as usize)?;
    Some((name, *since))
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
}
