//! Each thing that can be wrong, and the exact error.
//!
//! A case replaces a piece of `GOOD` once; the lines are all that may be reported, so that no rule repeats another.

use rstest::rstest;

use super::{GOOD, parse};

#[rstest]
#[case::unknown_key(r#"interfaces = ["eth0"]"#, r#"interface = ["eth0"]"#, r#"r.toml:2:2: edge.interfaces: services need an interface; name the interface that clients are reached by, for example interfaces = ["eth0"]
r.toml:3:1: edge.interface: no such key; did you mean interfaces?"#)]
#[case::unknown_key_of_another_table(
    "[edge]",
    r#"[edge]
socket = "/x""#,
    "r.toml:3:1: edge.socket: no such key; it belongs to [control]"
)]
#[case::unknown_key_far_off(
    "[edge]",
    r#"[edge]
zzzzzz = 1"#,
    "r.toml:3:1: edge.zzzzzz: no such key; the keys of [edge] are interfaces, mode, manage_vips"
)]
#[case::unknown_table("# Servers.", "[conntrak]", "r.toml:9:2: conntrak: no such key; did you mean conntrack?")]
#[case::unknown_member_key(
    "weight = 3",
    "wieght = 3",
    "r.toml:32:1: service.web.member.s2.wieght: no such key; did you mean weight?"
)]
#[case::port_that_dsr_cannot_translate(
    "port = 80\n",
    "port = 80\nmode = \"dsr-l2\"\n",
    "r.toml:32:8: service.web.member.s2.port = 8080: must be the service's port, 80, since mode \"dsr-l2\" translates no ports; remove it, or take mode \"nat\""
)]
#[case::mode_unknown(
    "port = 80\n",
    "port = 80\nmode = \"dsr\"\n",
    "r.toml:24:8: service.web.mode = \"dsr\": must be \"nat\" or \"dsr-l2\" or \"dsr-ipip\"; for example mode = \"nat\""
)]
#[case::syntax(
    r#"name = "s2""#,
    "name = s2",
    "r.toml:16:8: not TOML: string values must be quoted, expected literal string; see https://toml.io for the syntax"
)]
#[case::key_twice(
    r#"name = "s2""#,
    r#"name = "s2"
name = "s2""#,
    "r.toml:17:1: not TOML: duplicate key; see https://toml.io for the syntax"
)]
#[case::string_for_integer(
    "port = 8080",
    r#"port = "8080""#,
    r#"r.toml:31:8: service.web.member.s2.port = "8080": must be an integer, not a string; for example port = 8080"#
)]
#[case::integer_for_duration(r#"type = "http""#, r#"type = "http"
interval = 2"#, r#"r.toml:41:12: service.web6.probe.interval = 2: must be a string with a unit, not an integer; for example interval = "2s""#)]
#[case::duration_without_unit(r#"type = "http""#, r#"type = "http"
interval = "2""#, r#"r.toml:41:12: service.web6.probe.interval = "2": must be a whole number and a unit of ms, s, m, h or d, without spaces; for example interval = "2s""#)]
#[case::duration_zero(
    "[edge]",
    r#"[conntrack]
tcp_timeout = "0s"
[edge]"#,
    r#"r.toml:3:15: conntrack.tcp_timeout = "0s": must be 100ms to 7d; for example tcp_timeout = "2h4m""#
)]
#[case::duration_absurd(
    "[edge]",
    r#"[conntrack]
udp_timeout = "999d"
[edge]"#,
    r#"r.toml:3:15: conntrack.udp_timeout = "999d": must be 100ms to 7d; for example udp_timeout = "2m""#
)]
#[case::single_brackets(
    r#"[[service]]
name = "web6""#,
    r#"[[service]]
name = "u"
vip = "192.0.2.81"
port = 1
member = { backend = "s1" }
[[service]]
name = "web6""#,
    "r.toml:38:1: service.u.member: must be an array of tables, not a table; write [[service.member]] with double brackets for each"
)]
#[case::table_as_value(r#"[edge]
interfaces = ["eth0"]"#, "edge = 1", r#"r.toml:1:1: edge.interfaces: services need an interface; name the interface that clients are reached by, for example interfaces = ["eth0"]
r.toml:2:1: edge: must be a table, not an integer; write [edge]"#)]
#[case::config_owner(
    "# The edge in rack 4.",
    r#"config_owner = "ansible""#,
    r#"r.toml:1:16: config_owner = "ansible": must be "cli" or "external"; for example config_owner = "cli""#
)]
#[case::name_by_rule(r#"name = "s2""#, r#"name = "-s2""#, r#"r.toml:16:8: backend[2].name = "-s2": a name is 1 to 63 letters, digits, dots, underscores or hyphens and begins with a letter or digit; for example name = "s1""#)]
#[case::name_missing(
    r#"name = "s2"
"#,
    "",
    r#"r.toml:15:1: backend[2].name: is missing; add name = "s1""#
)]
#[case::duplicate_backend(
    r#"name = "s2""#,
    r#"name = "s1""#,
    r#"r.toml:16:8: backend.s1.name = "s1": a backend of this name is already at line 11; rename or remove one
r.toml:30:11: service.web.member.s2.backend = "s2": there is no backend of this name; did you mean "s1"?"#
)]
#[case::duplicate_backend_address("192.0.2.12", "192.0.2.11", r#"r.toml:17:8: backend.s2.ipv4 = "192.0.2.11": another backend has this address (line 12); a server is one backend; list it once and make it a member of several services"#)]
#[case::backend_without_address(
    r#"ipv4 = "192.0.2.12"
"#,
    "",
    r#"r.toml:15:1: backend.s2: a backend needs an address; add ipv4 = "…" or ipv6 = "…""#
)]
#[case::family_key_mixed_up(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "2001:db8::12""#,
    r#"r.toml:17:8: backend.s2.ipv4 = "2001:db8::12": must be an IPv4 address, not IPv6; write it under ipv6"#
)]
#[case::prefix_length("192.0.2.12", "192.0.2.12/24", r#"r.toml:17:8: backend.s2.ipv4 = "192.0.2.12/24": must be an IPv4 address; leave out the prefix length: "192.0.2.12""#)]
#[case::address_no_address(
    "192.0.2.12",
    "s2.example.org",
    r#"r.toml:17:8: backend.s2.ipv4 = "s2.example.org": must be an IPv4 address; for example ipv4 = "192.0.2.11""#
)]
#[case::unspecified("192.0.2.12", "0.0.0.0", r#"r.toml:17:8: backend.s2.ipv4 = "0.0.0.0": must not be an unspecified address; use a unicast address that the network routes"#)]
#[case::loopback("192.0.2.12", "127.0.0.1", r#"r.toml:17:8: backend.s2.ipv4 = "127.0.0.1": must not be a loopback address; use a unicast address that the network routes"#)]
#[case::multicast("192.0.2.12", "239.1.1.1", r#"r.toml:17:8: backend.s2.ipv4 = "239.1.1.1": must not be a multicast address; use a unicast address that the network routes"#)]
#[case::broadcast("192.0.2.12", "255.255.255.255", r#"r.toml:17:8: backend.s2.ipv4 = "255.255.255.255": must not be a broadcast address; use a unicast address that the network routes"#)]
#[case::reserved("192.0.2.12", "240.0.0.1", r#"r.toml:17:8: backend.s2.ipv4 = "240.0.0.1": must not be a reserved address; use a unicast address that the network routes"#)]
#[case::loopback6("2001:db8::11", "::1", r#"r.toml:13:8: backend.s1.ipv6 = "::1": must not be a loopback address; use a unicast address that the network routes"#)]
#[case::unspecified6("2001:db8::11", "::", r#"r.toml:13:8: backend.s1.ipv6 = "::": must not be an unspecified address; use a unicast address that the network routes"#)]
#[case::multicast6("2001:db8::11", "ff02::1", r#"r.toml:13:8: backend.s1.ipv6 = "ff02::1": must not be a multicast address; use a unicast address that the network routes"#)]
#[case::link_local6("2001:db8::11", "fe80::1", r#"r.toml:13:8: backend.s1.ipv6 = "fe80::1": must not be a link-local address; use a unicast address that the network routes"#)]
#[case::mapped("2001:db8::80", "::ffff:192.0.2.80", r#"r.toml:36:7: service.web6.vip = "::ffff:192.0.2.80": must not be an IPv4-mapped address; write "192.0.2.80" as an IPv4 address"#)]
#[case::owner_empty(
    r#"name = "s2""#,
    r#"name = "s2"
owner = " ""#,
    r#"r.toml:17:9: backend.s2.owner = " ": must be 1 to 255 bytes on one line; for example owner = "web team""#
)]
#[case::duplicate_service(
    r#"name = "web6""#,
    r#"name = "web""#,
    r#"r.toml:35:8: service.web.name = "web": a service of this name is already at line 21; rename or remove one"#
)]
#[case::duplicate_listener(r#"name = "web6"
vip = "2001:db8::80""#, r#"name = "web6"
vip = "192.0.2.80""#, r#"r.toml:36:7: service.web6.vip = "192.0.2.80": service.web (line 20) already has this VIP with TCP port 80; change VIP, port or protocol of one"#)]
#[case::port_zero(
    "port = 8080",
    "port = 0",
    "r.toml:31:8: service.web.member.s2.port = 0: must be 1 to 65535; for example port = 8080"
)]
#[case::port_too_large(
    "port = 8080",
    "port = 65536",
    "r.toml:31:8: service.web.member.s2.port = 65536: must be 1 to 65535; for example port = 8080"
)]
#[case::port_missing(
    r#"vip = "192.0.2.80"
port = 80
"#,
    r#"vip = "192.0.2.80"
"#,
    "r.toml:20:1: service.web.port: is missing; add port = 80"
)]
#[case::protocol(
    "weight = 3 # a big one",
    r#"[[service]]
name = "u"
vip = "192.0.2.80"
port = 53
protocol = "upd"
[[service.member]]
backend = "s1""#,
    r#"r.toml:36:12: service.u.protocol = "upd": must be "tcp" or "udp"; did you mean "udp"?"#
)]
#[case::udp_without_probe(r#"port = 80

# M"#, r#"port = 80
protocol = "udp"

# M"#, r#"r.toml:20:1: service.web.probe: a UDP service must say how it is probed; add [service.probe] with type = "tcp" or "http" and a port that tells, or type = "none""#)]
#[case::one_way_for_tcp(
    r#"port = 80

# M"#,
    r#"port = 80
one_way = true

# M"#,
    "r.toml:24:11: service.web.one_way = true: TCP always answers; one_way is for UDP; remove it"
)]
#[case::algorithm(r#"port = 80

# M"#, r#"port = 80
algorithm = "roundrobin"

# M"#, r#"r.toml:24:13: service.web.algorithm = "roundrobin": must be "maglev" or "round-robin" or "least-conn" or "source"; did you mean "round-robin"?"#)]
#[case::second_chance_of_datagrams(
    r#"port = 80

# M"#,
    r#"port = 80
protocol = "udp"
second_chance = true
# M"#,
    "r.toml:20:1: service.web.probe: a UDP service must say how it is probed; add [service.probe] with type = \"tcp\" or \"http\" and a port that tells, or type = \"none\"\nr.toml:25:17: service.web.second_chance = true: UDP has no connection attempts; second_chance is for TCP; remove it"
)]
#[case::hash_of_another_algorithm(
    r#"port = 80

# M"#,
    r#"port = 80
algorithm = "source"
hash = "addresses"
# M"#,
    r#"r.toml:25:8: service.web.hash: it is for algorithm "maglev", not "source"; remove it, or set algorithm = "maglev""#
)]
#[case::affinity_of_another_algorithm(
    r#"port = 80

# M"#,
    r#"port = 80
affinity_timeout = "10m"
# M"#,
    r#"r.toml:24:20: service.web.affinity_timeout: it is for algorithm "source", not "maglev"; remove it, or set algorithm = "source""#
)]
#[case::table_size_no_prime_source(
    r#"port = 80

# M"#,
    r#"port = 80
algorithm = "source"
table_size = 1000
# M"#,
    r#"r.toml:25:14: service.web.table_size = 1000: must be a prime for algorithm "source"; take 1000 for each member ever expected, for example 1009"#
)]
#[case::table_size_no_prime(r#"port = 80

# M"#, r#"port = 80
table_size = 1000

# M"#, r#"r.toml:24:14: service.web.table_size = 1000: must be a prime for algorithm "maglev"; take 1000 for each member ever expected, for example 1009"#)]
#[case::table_size_below_members(
    r#"port = 80

# M"#,
    r#"port = 80
table_size = 1

# M"#,
    "r.toml:24:14: service.web.table_size: 1 slots for 2 members: each needs at least one; take 1000 for each member ever expected"
)]
#[case::table_size_too_large(
    r#"port = 80

# M"#,
    r#"port = 80
table_size = 4194304

# M"#,
    "r.toml:24:14: service.web.table_size = 4194304: must be 1 to 4194303; for example table_size = 16381"
)]
#[case::arena_too_small(
    "[edge]",
    r#"[conntrack]
arena_slots = 65523
[edge]"#,
    "r.toml:3:15: conntrack.arena_slots: 65523 slots are too few: two generations of the tables of 2 services need 65524; set conntrack.arena_slots to at least 65524, or table_size of some services lower"
)]
#[case::default_arena_too_small(
    r#"port = 80

# M"#,
    r#"port = 80
table_size = 2097143

# M"#,
    "r.toml:1:1: conntrack.arena_slots: 4194304 slots are too few: two generations of the tables of 2 services need 4227048; set conntrack.arena_slots to at least 4227048, or table_size of some services lower"
)]
#[case::half_open_no_power_of_two(
    "[edge]",
    r#"[conntrack]
max_half_open = 1000
[edge]"#,
    "r.toml:3:17: conntrack.max_half_open = 1000: must be a power of two; the nearest are 512 and 1024"
)]
#[case::max_flows_zero(
    "[edge]",
    r#"[conntrack]
max_flows = 0
[edge]"#,
    "r.toml:3:13: conntrack.max_flows = 0: must be 4 to 16777216; for example max_flows = 131072"
)]
#[case::seed_negative(
    "[edge]",
    r#"[conntrack]
seed = -1
[edge]"#,
    "r.toml:3:8: conntrack.seed = -1: must be 0 to 4294967295; for example seed = 305419896"
)]
#[case::weight_zero(
    "weight = 3",
    "weight = 0",
    "r.toml:32:10: service.web.member.s2.weight = 0: must be 1 to 65535; to take a server out for a while, drain it (rollcall backend drain): its connections go on until they end, and it comes back by itself"
)]
#[case::weight_negative(
    "weight = 3",
    "weight = -1",
    "r.toml:32:10: service.web.member.s2.weight = -1: must be 1 to 65535; for example weight = 1"
)]
#[case::no_members(r#"
# Members of web.
[[service.member]]
backend = "s1"

[[service.member]]
backend = "s2"
port = 8080
weight = 3 # a big one"#, "", r#"r.toml:20:1: service.web.member: a service needs at least one member; add [[service.member]] with backend = "…" below it, or remove the service"#)]
#[case::unknown_backend(
    r#"backend = "s2""#,
    r#"backend = "s3""#,
    r#"r.toml:30:11: service.web.member.s3.backend = "s3": there is no backend of this name; did you mean "s1"?"#
)]
#[case::unknown_backend_far_off(r#"backend = "s2""#, r#"backend = "mail""#, r#"r.toml:30:11: service.web.member.mail.backend = "mail": there is no backend of this name; add a [[backend]] of this name"#)]
#[case::tier_unknown(
    "weight = 3",
    "tier = \"spare\"",
    r#"r.toml:32:8: service.web.member.s2.tier = "spare": must be "primary" or "backup"; for example tier = "primary""#
)]
#[case::panic_unknown(
    "port = 80\n\n# Members",
    "port = 80\npanic = \"none\"\n\n# Members",
    r#"r.toml:24:9: service.web.panic = "none": must be "refuse" or "all"; for example panic = "refuse""#
)]
#[case::slow_start_zero(
    "port = 80\n\n# Members",
    "port = 80\nslow_start = \"0s\"\n\n# Members",
    r#"r.toml:24:14: service.web.slow_start = "0s": must be 5s to 1h; for example slow_start = "30s""#
)]
#[case::no_primary("backend = \"s1\"\n# The end.", "backend = \"s1\"\ntier = \"backup\"\n# The end.", r#"r.toml:44:8: service.web6.member.s1.tier = "backup": all members are backups; a service needs at least one primary; remove tier from one of them"#)]
#[case::more_needed_than_primaries(
    "port = 80\n\n# Members of web.\n[[service.member]]\nbackend = \"s1\"",
    "port = 80\nmin_in_rotation = 2\n\n# Members of web.\n[[service.member]]\nbackend = \"s1\"\ntier = \"backup\"",
    "r.toml:24:19: service.web.min_in_rotation = 2: only 1 of its 2 members is primary; lower it, or add members"
)]
#[case::member_twice(r#"backend = "s2""#, r#"backend = "s1""#, r#"r.toml:30:11: service.web.member.s1.backend = "s1": this backend is already a member (line 27); remove one; a larger share is a larger weight"#)]
#[case::member_of_the_wrong_family(r#"type = "http"

[[service.member]]
backend = "s1""#, r#"type = "http"

[[service.member]]
backend = "s2""#, r#"r.toml:43:11: service.web6.member.s2.backend = "s2": the VIP is IPv6, and this backend has no IPv6 address; add ipv6 to the backend, or remove the member"#)]
#[case::no_source_address(r#"ipv6 = ["2001:db8::2"]
"#, "", r#"r.toml:35:7: service.web6.vip = "2001:db8::80": there is no IPv6 source address to reach its backends from; add one to ipv6 in [source_pool]"#)]
#[case::pool_too_large(r#"ipv4 = ["192.0.2.2"]"#, r#"ipv4 = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8", "10.0.0.9"]"#, "r.toml:6:8: source_pool.ipv4: at most 8 addresses, not 9; remove some")]
#[case::pool_address_twice(
    r#"ipv4 = ["192.0.2.2"]"#,
    r#"ipv4 = ["192.0.2.2", "192.0.2.2"]"#,
    r#"r.toml:6:22: source_pool.ipv4[2] = "192.0.2.2": the same address twice; remove one"#
)]
#[case::pool_address_of_a_backend(r#"ipv4 = ["192.0.2.2"]"#, r#"ipv4 = ["192.0.2.11"]"#, r#"r.toml:12:8: backend.s1.ipv4 = "192.0.2.11": a backend's address cannot also be a source address (line 6); give each its own address"#)]
#[case::pool_address_of_a_vip(r#"ipv4 = ["192.0.2.2"]"#, r#"ipv4 = ["192.0.2.80"]"#, r#"r.toml:22:7: service.web.vip = "192.0.2.80": a VIP cannot also be a source address (line 6); give each its own address"#)]
#[case::vip_of_a_backend(r#"vip = "192.0.2.80""#, r#"vip = "192.0.2.12""#, r#"r.toml:22:7: service.web.vip = "192.0.2.12": a VIP cannot also be a backend's address (line 17); give each its own address"#)]
#[case::ports_backwards(r#"ipv4 = ["192.0.2.2"]"#, r#"ipv4 = ["192.0.2.2"]
ports = "2000-1000""#, r#"r.toml:7:9: source_pool.ports = "2000-1000": must be first-last with 1 <= first <= last <= 65535; for example ports = "1024-65535""#)]
#[case::ports_zero(r#"ipv4 = ["192.0.2.2"]"#, r#"ipv4 = ["192.0.2.2"]
ports = "0-1000""#, r#"r.toml:7:9: source_pool.ports = "0-1000": must be first-last with 1 <= first <= last <= 65535; for example ports = "1024-65535""#)]
#[case::interfaces_empty(r#"interfaces = ["eth0"]"#, "interfaces = []", r#"r.toml:3:14: edge.interfaces: services need an interface; name the interface that clients are reached by, for example interfaces = ["eth0"]"#)]
#[case::interfaces_missing(r#"[edge]
interfaces = ["eth0"]
"#, "", r#"r.toml:1:1: edge.interfaces: services need an interface; name the interface that clients are reached by, for example interfaces = ["eth0"]"#)]
#[case::interfaces_too_many(
    r#"interfaces = ["eth0"]"#,
    r#"interfaces = ["e0", "e1", "e2", "e3", "e4"]"#,
    "r.toml:3:14: edge.interfaces: at most 4 interfaces, not 5; remove some"
)]
#[case::interface_twice(
    r#"interfaces = ["eth0"]"#,
    r#"interfaces = ["eth0", "eth0"]"#,
    r#"r.toml:3:23: edge.interfaces[2] = "eth0": the same interface twice; remove one"#
)]
#[case::interface_name_too_long(r#"interfaces = ["eth0"]"#, r#"interfaces = ["a123456789012345"]"#, r#"r.toml:3:15: edge.interfaces[1] = "a123456789012345": an interface's name has 1 to 15 bytes; see ip link for the names"#)]
#[case::interface_name_odd(
    r#"interfaces = ["eth0"]"#,
    r#"interfaces = ["eth0/1"]"#,
    r#"r.toml:3:15: edge.interfaces[1] = "eth0/1": is not an interface's name; see ip link for the names"#
)]
#[case::mode(
    "[edge]",
    r#"[edge]
mode = "skb""#,
    r#"r.toml:3:8: edge.mode = "skb": must be "auto" or "native" or "generic"; for example mode = "auto""#
)]
#[case::relative_path("[edge]", r#"[control]
socket = "run/control.sock"
[edge]"#, r#"r.toml:3:10: control.socket = "run/control.sock": must be an absolute path; for example socket = "/run/rollcall/control.sock""#)]
#[case::socket_path_too_long("[edge]", r#"[control]
socket = "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[edge]"#, r#"r.toml:3:10: control.socket = "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…: a socket's path has at most 107 bytes; choose a shorter one"#)]
#[case::heartbeat_without_url(
    "[edge]",
    r#"[heartbeat]
interval = "1s"
[edge]"#,
    r#"r.toml:2:2: heartbeat.url: is missing; add url = "https://hc-ping.com/00000000-0000-0000-0000-000000000000"
r.toml:3:12: heartbeat.interval = "1s": must be 5s to 1d; for example interval = "30s""#
)]
#[case::heartbeat_of_another_scheme("[edge]", r#"[heartbeat]
url = "ftp://example.org/"
[edge]"#, r#"r.toml:3:7: heartbeat.url = "ftp://example.org/": must be a URL that begins with http:// or https://; for example url = "https://hc-ping.com/00000000-0000-0000-0000-000000000000""#)]
#[case::heartbeat_with_a_password("[edge]", r#"[heartbeat]
url = "https://ada:secret@example.org/"
[edge]"#, r#"r.toml:3:7: heartbeat.url = "https://ada:secret@example.org/": must not hold a user or password: they would be shown wherever the URL is; for example url = "https://hc-ping.com/00000000-0000-0000-0000-000000000000""#)]
#[case::metrics_without_port("[edge]", r#"[control]
metrics = "127.0.0.1"
[edge]"#, r#"r.toml:3:11: control.metrics = "127.0.0.1": must be an IP address and a port, an IPv6 address in square brackets; for example metrics = "127.0.0.1:9464""#)]
#[case::metrics_port_zero("[edge]", r#"[control]
metrics = "127.0.0.1:0"
[edge]"#, r#"r.toml:3:11: control.metrics = "127.0.0.1:0": the port must be 1 to 65535; for example metrics = "127.0.0.1:9464""#)]
#[case::probe_type_missing(
    r#"type = "http"
"#,
    r#"rise = 1
"#,
    r#"r.toml:39:10: service.web6.probe.type: is missing; add type = "https""#
)]
#[case::probe_timeout_above_interval(r#"type = "http""#, r#"type = "http"
interval = "1s"
timeout = "1500ms""#, r#"r.toml:42:11: service.web6.probe.timeout = "1500ms": must be at most the interval, 1s; shorten the timeout or lengthen the interval"#)]
#[case::probe_timeout_above_default_interval(r#"type = "http""#, r#"type = "http"
timeout = "3s""#, r#"r.toml:41:11: service.web6.probe.timeout = "3s": must be at most the interval, 2s; shorten the timeout or lengthen the interval"#)]
#[case::rise_zero(
    r#"type = "http""#,
    r#"type = "http"
rise = 0"#,
    "r.toml:41:8: service.web6.probe.rise = 0: must be 1 to 100; for example rise = 2"
)]
#[case::fall_zero(
    r#"type = "http""#,
    r#"type = "http"
fall = 0"#,
    "r.toml:41:8: service.web6.probe.fall = 0: must be 1 to 100; for example fall = 3"
)]
#[case::probe_path_relative(
    r#"type = "http""#,
    r#"type = "http"
path = "healthz""#,
    r#"r.toml:41:8: service.web6.probe.path = "healthz": must begin with /; for example path = "/""#
)]
#[case::probe_path_injection(r#"type = "http""#, r#"type = "http"
path = "/ HTTP/1.1\r\nX: y""#, r#"r.toml:41:8: service.web6.probe.path = "/ HTTP/1.1\r\nX: y": must be printable ASCII without spaces and line breaks; write other characters percent-encoded, for example %20"#)]
#[case::probe_host_injection(r#"type = "http""#, r#"type = "http"
host = "a\r\nX: y""#, r#"r.toml:41:8: service.web6.probe.host = "a\r\nX: y": must be 1 to 255 bytes of printable ASCII without spaces and line breaks; for example host = "www.example.org""#)]
#[case::probe_status(r#"type = "http""#, r#"type = "http"
status = "2xx""#, r#"r.toml:41:10: service.web6.probe.status = "2xx": must be a code, "first-last", or an array of these, all of 100 to 599; for example status = "200-399""#)]
#[case::probe_status_backwards(r#"type = "http""#, r#"type = "http"
status = ["399-200"]"#, r#"r.toml:41:10: service.web6.probe.status = ["399-200"]: must be a code, "first-last", or an array of these, all of 100 to 599; for example status = "200-399""#)]
#[case::probe_status_range(r#"type = "http""#, r#"type = "http"
status = [200, 600]"#, r#"r.toml:41:10: service.web6.probe.status = [200, 600]: must be a code, "first-last", or an array of these, all of 100 to 599; for example status = "200-399""#)]
#[case::probe_status_empty(r#"type = "http""#, r#"type = "http"
status = []"#, r#"r.toml:41:10: service.web6.probe.status = []: must be a code, "first-last", or an array of these, all of 100 to 599; for example status = "200-399""#)]
#[case::probe_body_empty(r#"type = "http""#, r#"type = "http"
body = """#, r#"r.toml:41:8: service.web6.probe.body = "": must have 1 to 1024 bytes; look for a short, telling part of the body"#)]
#[case::probe_server_name(r#"type = "http""#, r#"type = "https"
server_name = "a b""#, r#"r.toml:41:15: service.web6.probe.server_name = "a b": must be a DNS name or an IP address; for example server_name = "www.example.org""#)]
#[case::probe_key_of_another_type(r#"type = "http""#, r#"type = "tcp"
path = "/""#, r#"r.toml:41:8: service.web6.probe.path = "/": has no effect: it is for type "http" and "https"; remove it, or change type"#)]
#[case::probe_key_of_https(r#"type = "http""#, r#"type = "http"
verify = true"#, r#"r.toml:41:10: service.web6.probe.verify = true: has no effect: it is for type "https"; remove it, or change type"#)]
#[case::probe_key_of_none(r#"type = "http""#, r#"type = "none"
rise = 1"#, r#"r.toml:41:8: service.web6.probe.rise = 1: has no effect: type = "none" makes no checks; remove it, or change type"#)]
#[case::memory_without_source(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"

[backend.memory]
port = 9465"#,
    r#"r.toml:19:10: backend.s2.memory.source: is missing; add source = "agent""#
)]
#[case::memory_source(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"

[backend.memory]
source = "agnet""#,
    r#"r.toml:20:10: backend.s2.memory.source = "agnet": must be "agent" or "node-exporter"; did you mean "agent"?"#
)]
#[case::memory_interval_too_short(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"

[backend.memory]
source = "agent"
interval = "500ms""#,
    r#"r.toml:21:12: backend.s2.memory.interval = "500ms": must be 1s to 5m; for example interval = "5s""#
)]
#[case::memory_token_of_node_exporter(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"

[backend.memory]
source = "node-exporter"
token_file = "/etc/t""#,
    r#"r.toml:21:14: backend.s2.memory.token_file = "/etc/t": has no effect: it is for source "agent"; remove it, or change source"#
)]
#[case::memory_token_relative(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"

[backend.memory]
source = "agent"
token_file = "t""#,
    r#"r.toml:21:14: backend.s2.memory.token_file = "t": must be an absolute path; for example token_file = "/etc/rollcall/agent.token""#
)]
#[case::memory_address_of_loopback(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"

[backend.memory]
source = "agent"
address = "127.0.0.1""#,
    r#"r.toml:21:11: backend.s2.memory.address = "127.0.0.1": must not be a loopback address; use a unicast address that the network routes"#
)]
#[case::agent_check_without_port(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"
agent_check = { interval = "5s" }"#,
    r#"r.toml:18:1: backend.s2.agent_check.port: is missing; add port = 9777"#
)]
#[case::agent_check_key_of_memory(
    r#"ipv4 = "192.0.2.12""#,
    r#"ipv4 = "192.0.2.12"
agent_check = { port = 1, token_file = "/t" }"#,
    r#"r.toml:18:27: backend.s2.agent_check.token_file: no such key; it belongs to [backend.memory]"#
)]
#[case::alert_route_without_its_url(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"webhook\"",
    "r.toml:44:1: alert_route.r: needs url; add url = \"https://oncall.example.org/hook\""
)]
#[case::alert_route_with_a_key_of_another_type(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"journald\"\nto = [\"root\"]",
    "r.toml:47:6: alert_route.r.to = [\"root\"]: has no effect: it is for type \"mail\"; remove it, or change type"
)]
#[case::alert_route_twice(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"journald\"\n[[alert_route]]\nname = \"r\"\ntype = \"journald\"",
    "r.toml:48:8: alert_route.r.name = \"r\": an alert route of this name is already at line 45; rename or remove one"
)]
#[case::alert_route_of_an_unknown_type(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"web-hook\"",
    "r.toml:46:8: alert_route.r.type = \"web-hook\": must be \"journald\" or \"mail\" or \"command\" or \"webhook\" or \"alertmanager\"; did you mean \"webhook\"?"
)]
#[case::alert_route_with_a_password_in_its_url(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"webhook\"\nurl = \"http://a:b@c/\"",
    "r.toml:47:7: alert_route.r.url = \"http://a:b@c/\": must be an http:// or https:// URL of printable ASCII, without user and fragment; for example url = \"https://oncall.example.org/hook\""
)]
#[case::alert_route_to_the_api_of_an_alertmanager(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"alertmanager\"\nurl = \"http://[::1]:9093/api/v2/alerts\"",
    "r.toml:47:7: alert_route.r.url = \"http://[::1]:9093/api/v2/alerts\": must not name the API's path or a query; name Alertmanager's own address, for example url = \"http://127.0.0.1:9093\""
)]
#[case::alert_route_with_an_address_that_is_an_option(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"mail\"\nto = [\"-oQ/tmp\"]",
    "r.toml:47:7: alert_route.r.to[1] = \"-oQ/tmp\": must be a plain mail address, without a name and angle brackets; for example to = [\"oncall@example.org\"]"
)]
#[case::alert_route_with_a_relative_program(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"command\"\ncommand = [\"page\"]",
    "r.toml:47:11: alert_route.r.command = [\"page\"]: must be an array of 1 to 32 strings, the first an absolute path; for example command = [\"/usr/local/bin/page\", \"--edge\"]"
)]
#[case::alert_route_with_a_label_of_the_alerts_own(
    "# The end.",
    "[[alert_route]]\nname = \"r\"\ntype = \"journald\"\nlabels = { severity = \"x\" }",
    "r.toml:47:10: alert_route.r.labels = { severity = \"x\" }: severity is a label that alerts have themselves; choose another name"
)]
fn parse_of_a_broken_file_says_where_what_why_and_the_mend(#[case] old: &str, #[case] new: &str, #[case] wanted: &str) {
    assert!(GOOD.contains(old), "the case no longer fits the file");
    let errors = parse(&GOOD.replacen(old, new, 1)).unwrap_err();
    assert_eq!(errors, wanted);
}

#[test]
fn parse_of_a_file_with_many_errors_reports_all_in_order() {
    let text =
        GOOD.replace("eth0", "").replace("192.0.2.12", "x").replace("port = 8080", "port = 0").replace("weight", "w");
    let errors = parse(&text).unwrap_err();
    let places: Vec<&str> = errors.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["r.toml:3:15", "r.toml:17:8", "r.toml:31:8", "r.toml:32:1"]);
}

#[test]
fn weight_of_zero_names_the_verb_that_takes_a_server_out() {
    let errors = parse(&GOOD.replace("weight = 3", "weight = 0")).unwrap_err();
    assert!(errors.contains("rollcall backend drain"));
}
