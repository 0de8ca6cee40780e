//! The table of keys: what exists, where, of which type, with which default. Unknown keys, hints in errors, the example
//! file and the reference in `docs/configuration.md` all come from here. The reader and this table cannot drift apart:
//! a debug assertion in `raw::section` compares what is asked for with what is listed.

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Top level.
    Root,
    /// `[edge]`.
    Edge,
    /// `[source_pool]`.
    SourcePool,
    /// `[conntrack]`.
    Conntrack,
    /// `[control]`.
    Control,
    /// `[heartbeat]`.
    Heartbeat,
    /// `[[backend]]`.
    Backend,
    /// `[backend.memory]`.
    Memory,
    /// `[backend.agent_check]`.
    AgentCheck,
    /// `[[service]]`.
    Service,
    /// `[service.probe]`.
    Probe,
    /// `[[service.member]]`.
    Member,
    /// `[[alert_route]]`.
    AlertRoute,
}

impl Scope {
    /// All, in the order of the example.
    pub(super) const ALL: [Self; 13] = [
        Self::Root,
        Self::Edge,
        Self::SourcePool,
        Self::Conntrack,
        Self::Control,
        Self::Heartbeat,
        Self::Backend,
        Self::Memory,
        Self::AgentCheck,
        Self::Service,
        Self::Probe,
        Self::Member,
        Self::AlertRoute,
    ];

    /// Its own name in its parent.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Edge => "edge",
            Self::SourcePool => "source_pool",
            Self::Conntrack => "conntrack",
            Self::Control => "control",
            Self::Heartbeat => "heartbeat",
            Self::Backend => "backend",
            Self::Memory => "memory",
            Self::AgentCheck => "agent_check",
            Self::Service => "service",
            Self::Probe => "probe",
            Self::Member => "member",
            Self::AlertRoute => "alert_route",
        }
    }

    /// Its header line.
    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Root => "top level",
            Self::Edge => "[edge]",
            Self::SourcePool => "[source_pool]",
            Self::Conntrack => "[conntrack]",
            Self::Control => "[control]",
            Self::Heartbeat => "[heartbeat]",
            Self::Backend => "[[backend]]",
            Self::Memory => "[backend.memory]",
            Self::AgentCheck => "[backend.agent_check]",
            Self::Service => "[[service]]",
            Self::Probe => "[service.probe]",
            Self::Member => "[[service.member]]",
            Self::AlertRoute => "[[alert_route]]",
        }
    }

    /// What it is about.
    pub(super) const fn doc(self) -> &'static str {
        match self {
            Self::Root => "Keys before the first table.",
            Self::Edge => "The host that Rollcall runs on.",
            Self::SourcePool => {
                "Addresses and ports of this host that backends see as the clients'. Each family that a service of mode \
                 `\"nat\"` uses needs at least one address; `\"dsr-ipip\"` sends its outer headers from here, `\"dsr-l2\"` \
                 needs none. Keep the ports out of `net.ipv4.ip_local_port_range`."
            }
            Self::Conntrack => "Limits and idle times of flows.",
            Self::Control => "Paths and listeners of the daemon.",
            Self::Heartbeat => {
                "A dead man's switch: while all is well, a URL elsewhere is asked; whoever watches there (such as \
                 healthchecks.io, or Alertmanager behind a small gateway) raises the alarm when it stops. It stops with the \
                 daemon, and while `rollcall check` is critical. Leave the table out for none."
            }
            Self::Backend => "A server, once for each. What it serves is said by the services' members.",
            Self::Memory => "Where the memory of the backend above is read. Without this table it is not monitored.",
            Self::AgentCheck => {
                "Where an agent of the backend above gives advice by HAProxy's agent-check protocol: a share of its \
                 weight, a wish to be drained. Advice never overrides a probe."
            }
            Self::Service => "A virtual address, port and protocol that clients connect to.",
            Self::Probe => {
                "How members of the service above are probed. Without this table a TCP service gets a TCP connect \
                 probe; a UDP service must have one, if only `type = \"none\"`."
            }
            Self::Member => "A backend of the service above; at least one, each backend once.",
            Self::AlertRoute => {
                "Where alerts go, once for each way. What alerts there are: [playbook](playbook.md). Several routes with \
                 growing `after` are steps of an escalation."
            }
        }
    }

    /// Its tables.
    pub(super) fn children(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |child| match child {
            Self::Root => false,
            Self::Memory | Self::AgentCheck => self == Self::Backend,
            Self::Probe | Self::Member => self == Self::Service,
            _ => self == Self::Root,
        })
    }

    /// Its keys.
    pub(super) fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.scope == self)
    }
}

/// What holds if a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// It must be given.
    Refused,
    /// This value, as TOML.
    Default(&'static str),
    /// This, in words.
    Means(&'static str),
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its table.
    pub(super) scope: Scope,
    /// Its name.
    pub(super) name: &'static str,
    /// Its type and range, in words.
    pub(super) kind: &'static str,
    /// What holds without it.
    pub(super) absent: Absent,
    /// A value, as TOML.
    pub(super) example: &'static str,
    /// What it means.
    pub(super) doc: &'static str,
}

/// The key of this name in this table.
pub(super) fn find(scope: Scope, name: &str) -> Option<&'static Key> {
    scope.keys().find(|key| key.name == name)
}

const fn key(
    scope: Scope,
    name: &'static str,
    kind: &'static str,
    absent: Absent,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { scope, name, kind, absent, example, doc }
}

use Absent::{Default, Means, Refused};
use Scope::{
    AgentCheck, AlertRoute, Backend, Conntrack, Control, Edge, Heartbeat, Member, Memory, Probe, Root, Service,
    SourcePool,
};

const INTERVAL: &str = "duration, 1s to 5m";
const TIMEOUT: &str = "duration, 100ms to 7d";
const SLOW_START: &str = "duration, 5s to 1h";
const NAME: &str = "string, 1 to 63 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit";

/// All keys, by table, in the order of the example.
pub(super) const KEYS: &[Key] = &[
    key(
        Root,
        "config_owner",
        "`\"cli\"` or `\"external\"`",
        Default("\"cli\""),
        "\"cli\"",
        "Who edits this file. With `\"cli\"` the editing verbs of the command line rewrite it and keep comments; with \
         `\"external\"` (Ansible, an editor) they refuse.",
    ),
    key(
        Edge,
        "interfaces",
        "array of 0 to 4 interface names",
        Default("[]"),
        "[\"eth0\"]",
        "Interfaces that the program is attached to: the clients' side first, the backends' side last. May be empty only \
         while there is no service.",
    ),
    key(
        Edge,
        "mode",
        "`\"auto\"`, `\"native\"` or `\"generic\"`",
        Default("\"auto\""),
        "\"auto\"",
        "How it is attached. `\"auto\"`: native where every interface's driver can, else generic on all; what really \
         attached is reported. `\"native\"`: native or fail.",
    ),
    key(
        Edge,
        "manage_vips",
        "boolean",
        Default("true"),
        "true",
        "Whether the daemon adds VIPs to the first interface and source addresses to the last, and announces them. If \
         false, that is yours to do.",
    ),
    key(SourcePool, "ipv4", "array of 0 to 8 IPv4 addresses", Default("[]"), "[\"192.0.2.2\"]", "For IPv4 backends."),
    key(SourcePool, "ipv6", "array of 0 to 8 IPv6 addresses", Default("[]"), "[\"2001:db8::2\"]", "For IPv6 backends."),
    key(
        SourcePool,
        "ports",
        "string `\"first-last\"`, 1 to 65535",
        Default("\"1024-65535\""),
        "\"1024-65535\"",
        "Source ports. Each address and backend can hold so many flows at once.",
    ),
    key(
        Conntrack,
        "max_flows",
        "integer, 4 to 16777216",
        Default("131072"),
        "131072",
        "Established flows per address family. When full, new flows are refused. Fixed while the data plane is up.",
    ),
    key(
        Conntrack,
        "max_half_open",
        "integer, 4 to 16777216, a power of two",
        Default("65536"),
        "65536",
        "Half-open flows per address family. Newcomers overwrite the oldest. Fixed while the data plane is up.",
    ),
    key(
        Conntrack,
        "arena_slots",
        "integer, 2 to 67108863",
        Default("4194304"),
        "4194304",
        "Slots of all tables together, 4 bytes each; at least twice the sum of all `table_size`, since a table is \
         built beside the one in use. The default holds 128 services of the default `table_size`. Fixed while the data \
         plane is up.",
    ),
    key(
        Conntrack,
        "seed",
        "integer, 0 to 4294967295",
        Means("random for each set of maps"),
        "305419896",
        "Seed of the flow hash. Edge hosts that should choose alike need the same one. Fixed while the data plane is \
         up.",
    ),
    key(
        Conntrack,
        "half_open_timeout",
        TIMEOUT,
        Default("\"10s\""),
        "\"10s\"",
        "Life of a half-open flow that is not completed.",
    ),
    key(
        Conntrack,
        "tcp_timeout",
        TIMEOUT,
        Default("\"2h4m\""),
        "\"2h4m\"",
        "Idle limit of an established TCP flow (RFC 5382, REQ-5).",
    ),
    key(
        Conntrack,
        "udp_timeout",
        TIMEOUT,
        Default("\"2m\""),
        "\"2m\"",
        "Idle limit of an established UDP flow (RFC 4787, REQ-5).",
    ),
    key(
        Conntrack,
        "closing_timeout",
        TIMEOUT,
        Default("\"2m\""),
        "\"2m\"",
        "Idle limit of a TCP flow of which one side has finished.",
    ),
    key(
        Conntrack,
        "closed_timeout",
        TIMEOUT,
        Default("\"10s\""),
        "\"10s\"",
        "How long a source port rests after a reset or a close by the client.",
    ),
    key(
        Conntrack,
        "time_wait_timeout",
        TIMEOUT,
        Default("\"1m\""),
        "\"1m\"",
        "How long it rests after a close by the backend, whose TIME_WAIT would refuse it.",
    ),
    key(
        Conntrack,
        "reset_unknown",
        "boolean",
        Default("true"),
        "true",
        "Whether a TCP packet to a service that belongs to no known flow is answered with a reset, or dropped.",
    ),
    key(
        Control,
        "socket",
        "string, absolute path of at most 107 bytes",
        Default("\"/run/rollcall/control.sock\""),
        "\"/run/rollcall/control.sock\"",
        "Unix socket that the command line speaks to.",
    ),
    key(
        Control,
        "state_dir",
        "string, absolute path",
        Default("\"/var/lib/rollcall\""),
        "\"/var/lib/rollcall\"",
        "Directory of `state.db` and `journal.db`.",
    ),
    key(
        Control,
        "pin_dir",
        "string, absolute path",
        Default("\"/sys/fs/bpf/rollcall\""),
        "\"/sys/fs/bpf/rollcall\"",
        "Directory on a bpffs where program, links and maps are pinned. Fixed while the data plane is up.",
    ),
    key(
        Control,
        "metrics",
        "string `\"address:port\"`",
        Means("`/metrics` on the control socket only"),
        "\"127.0.0.1:9464\"",
        "TCP listener for Prometheus. Whoever reaches it can read it: keep it on the loopback or a management network.",
    ),
    key(
        Heartbeat,
        "url",
        "string, a URL of `http` or `https` without a user",
        Refused,
        "\"https://hc-ping.com/00000000-0000-0000-0000-000000000000\"",
        "What is asked with GET. Any status from 200 to 299 will do; certificates are verified. A request that fails or takes \
         more than 5 s is a warning, and tried again at the next time.",
    ),
    key(Heartbeat, "interval", "duration, 5s to 1d", Default("\"30s\""), "\"30s\"", "Time between two requests."),
    key(Backend, "name", NAME, Refused, "\"s1\"", "Its name, unique. Leases, history and the roll call go by it."),
    key(
        Backend,
        "ipv4",
        "string, IPv4 address",
        Means("not reached over IPv4"),
        "\"192.0.2.11\"",
        "Its IPv4 address. At least one of the two families is needed.",
    ),
    key(
        Backend,
        "ipv6",
        "string, IPv6 address",
        Means("not reached over IPv6"),
        "\"2001:db8::11\"",
        "Its IPv6 address.",
    ),
    key(
        Backend,
        "owner",
        "string, 1 to 255 bytes",
        Means("nobody is named"),
        "\"web team\"",
        "Who is called for its memory, and when it is out of a service that has no owner of its own.",
    ),
    key(
        Backend,
        "max_flows",
        "integer, 1 to 4294967295",
        Means("what it carried before is the evidence"),
        "5000",
        "Active flows, over all its services, that it can carry. At that number it gets no new ones, until it is back under \
         90 %, unless all others that could serve are at theirs. Counted every ten seconds, so it may be exceeded between \
         two counts. Before a server is taken out, the others are measured by it.",
    ),
    key(
        Backend,
        "slow_start",
        SLOW_START,
        Means("as its services say"),
        "\"1m\"",
        "As `slow_start` of a service, for this server, whatever its services say.",
    ),
    key(
        Memory,
        "source",
        "`\"agent\"` or `\"node-exporter\"`",
        Refused,
        "\"agent\"",
        "What answers there. `\"agent\"`: `rollcall agent`, which knows cgroups, too. `\"node-exporter\"`: Prometheus' \
         node_exporter, which knows the system's memory only.",
    ),
    key(
        Memory,
        "address",
        "string, IPv4 or IPv6 address",
        Means("the backend's IPv4 address, else its IPv6 address"),
        "\"198.51.100.11\"",
        "Where it is asked, for example on a management network.",
    ),
    key(
        Memory,
        "port",
        "integer, 1 to 65535",
        Means("9465 for `\"agent\"`, 9100 for `\"node-exporter\"`"),
        "9465",
        "Its port.",
    ),
    key(
        Memory,
        "interval",
        INTERVAL,
        Default("\"5s\""),
        "\"5s\"",
        "Time between two readings. One reading may take a second.",
    ),
    key(
        Memory,
        "token_file",
        "string, absolute path",
        Means("no token is sent"),
        "\"/etc/rollcall/agent.token\"",
        "File with the token that the agent was started with. Read anew for each reading. `\"agent\"` only.",
    ),
    key(AgentCheck, "port", "integer, 1 to 65535", Refused, "9777", "The agent's port, at the backend's address."),
    key(AgentCheck, "interval", INTERVAL, Default("\"5s\""), "\"5s\"", "Time between two questions."),
    key(Service, "name", NAME, Refused, "\"web\"", "Its name, unique."),
    key(
        Service,
        "vip",
        "string, IPv4 or IPv6 address",
        Refused,
        "\"192.0.2.80\"",
        "The virtual address. Services may share one; with port and protocol it is unique.",
    ),
    key(Service, "port", "integer, 1 to 65535", Refused, "80", "The port that clients connect to."),
    key(Service, "protocol", "`\"tcp\"` or `\"udp\"`", Default("\"tcp\""), "\"tcp\"", "The protocol."),
    key(
        Service,
        "mode",
        "`\"nat\"`, `\"dsr-l2\"` or `\"dsr-ipip\"`",
        Default("\"nat\""),
        "\"nat\"",
        "How packets reach the backends. `\"nat\"`: addresses and ports are translated, both ways; needs nothing on the \
         backends. `\"dsr-l2\"`: to the backend's MAC, else as they came. `\"dsr-ipip\"`: in an outer IP header; IPv4 may \
         travel in IPv6. With both the backends hold the VIP and answer the clients themselves, see [modes](modes.md).",
    ),
    key(
        Service,
        "algorithm",
        "`\"maglev\"`, `\"round-robin\"`, `\"least-conn\"` or `\"source\"`",
        Default("\"maglev\""),
        "\"maglev\"",
        "How new flows are spread. `\"maglev\"`: by hash, with least movement when members change. `\"round-robin\"`: \
         in turn, by weight. `\"least-conn\"`: to the one of two members, the next in turn and one by hash, that has \
         fewer active flows for its weight. `\"source\"`: by the client's address alone, so that a client stays with \
         one member, and has the same in every service with the same members and weights.",
    ),
    key(
        Service,
        "hash",
        "`\"5-tuple\"`, `\"addresses\"` or `\"destination\"`; for `\"maglev\"` only",
        Default("\"5-tuple\""),
        "\"5-tuple\"",
        "What is hashed. `\"5-tuple\"`: addresses, ports and protocol. `\"addresses\"`: without ports, so that a \
         client's flows to one VIP go to one member. `\"destination\"`: VIP, port and protocol, so that all clients' \
         flows to one port go to one member.",
    ),
    key(
        Service,
        "affinity_timeout",
        "duration, 1s to 7d; for `\"source\"` only",
        Means("the table alone decides"),
        "\"10m\"",
        "A client that opened a flow within this time keeps its member when the table changes, as long as that takes new \
         flows. Remembered for the 65,536 latest clients of each edge node.",
    ),
    key(
        Service,
        "table_size",
        "integer, 1 to 4194303, at least the number of members; a prime for `\"maglev\"` and `\"source\"`",
        Default("16381"),
        "16381",
        "Slots of the selection table. Take 1,000 for each member you ever expect: the size is fixed for the life of \
         the service, as refitting it would move most flows. For the other algorithms it is an upper bound.",
    ),
    key(
        Service,
        "one_way",
        "boolean, `true` for UDP only",
        Default("false"),
        "false",
        "Whether clients send without getting answers (syslog, metrics), so that an answer cannot be waited for before \
         a flow counts as established.",
    ),
    key(
        Service,
        "second_chance",
        "boolean, for TCP only",
        Default("true"),
        "true",
        "Whether a connection attempt that a member refuses is given to another at once, and one that it does not answer \
         when the client sends its SYN again; at most three members are tried. A service whose members all refuse still \
         refuses at once.",
    ),
    key(
        Service,
        "owner",
        "string, 1 to 255 bytes",
        Means("nobody is named"),
        "\"web team\"",
        "Who is called when something is wrong with it.",
    ),
    key(
        Service,
        "expected_out",
        "duration, 1s to 7d",
        Default("\"10m\""),
        "\"10m\"",
        "How long a member may be out of rotation before that escalates.",
    ),
    key(
        Service,
        "min_in_rotation",
        "integer, 0 to the number of primary members",
        Default("1"),
        "1",
        "So many members should always take new flows: what would leave fewer is refused, and drained servers are \
         called back when there are fewer.",
    ),
    key(
        Service,
        "expect_backends",
        "integer, 1 to 65535",
        Means("any number"),
        "2",
        "How many members there should be. Fewer is shown as a warning, whoever shortened the list.",
    ),
    key(
        Service,
        "panic",
        "`\"refuse\"` or `\"all\"`",
        Default("\"refuse\""),
        "\"refuse\"",
        "What becomes of new flows when no member can serve, no backup either, and no drained one can be called back. \
         `\"refuse\"`: they are dropped. `\"all\"`: they go to all members, although down, except those in maintenance or \
         drained with `--no-recall`, until the first is up.",
    ),
    key(
        Service,
        "slow_start",
        SLOW_START,
        Means("the full weight at once"),
        "\"30s\"",
        "Time in which a member that comes into rotation goes from 1/16 of its weight to all of it. Only while the others \
         in rotation hold at least half of the weight and none of them is short of memory; never at a start, and not when \
         most come back at once.",
    ),
    key(
        Probe,
        "type",
        "`\"tcp\"`, `\"http\"`, `\"https\"` or `\"none\"`",
        Refused,
        "\"https\"",
        "What one check does. `\"tcp\"`: a connection is accepted. `\"http\"`, `\"https\"`: a request is answered as \
         expected. `\"none\"`: nothing; members count as up.",
    ),
    key(Probe, "port", "integer, 1 to 65535", Means("the member's port"), "8443", "Port that is probed."),
    key(Probe, "interval", "duration, 10ms to 1h", Default("\"2s\""), "\"2s\"", "Time between two checks of a member."),
    key(
        Probe,
        "timeout",
        "duration, 10ms to `interval`",
        Means("`\"1s\"`, or `interval` if that is shorter"),
        "\"1s\"",
        "Time one check may take.",
    ),
    key(Probe, "rise", "integer, 1 to 100", Default("2"), "2", "Consecutive successes until a member is up."),
    key(Probe, "fall", "integer, 1 to 100", Default("3"), "3", "Consecutive failures until it is down."),
    key(
        Probe,
        "path",
        "string beginning with `/`, at most 2048 bytes of printable ASCII",
        Default("\"/\""),
        "\"/healthz\"",
        "Request target. HTTP and HTTPS only, as all keys below.",
    ),
    key(
        Probe,
        "status",
        "code, string `\"first-last\"`, or an array of these; 100 to 599",
        Default("\"200-399\""),
        "[200, \"300-399\"]",
        "Status codes that count as success.",
    ),
    key(
        Probe,
        "body",
        "string, 1 to 1024 bytes",
        Means("any body will do"),
        "\"ok\"",
        "Text that the first 64 KiB of the answer must contain.",
    ),
    key(
        Probe,
        "host",
        "string, 1 to 255 bytes of printable ASCII without spaces",
        Means("the member's address and port"),
        "\"www.example.org\"",
        "The `Host` header.",
    ),
    key(
        Probe,
        "server_name",
        "string, DNS name or IP address",
        Means("none is sent"),
        "\"www.example.org\"",
        "Name for TLS: sent as SNI and, with `verify`, sought in the certificate. HTTPS only.",
    ),
    key(
        Probe,
        "verify",
        "boolean",
        Default("false"),
        "false",
        "Whether the certificate is verified. Off by default: a probe asks whether the server answers. HTTPS only.",
    ),
    key(Member, "backend", "string, name of a `[[backend]]`", Refused, "\"s1\"", "The server."),
    key(
        Member,
        "port",
        "integer, 1 to 65535",
        Means("the service's port"),
        "8080",
        "Its port, if it differs from the service's, which it can with `mode = \"nat\"` only.",
    ),
    key(
        Member,
        "weight",
        "integer, 1 to 65535",
        Default("1"),
        "1",
        "Its share of new flows, in proportion to the others'. 0 is refused: to take a server out, remove it from the service; its connections go on until they end.",
    ),
    key(
        Member,
        "tier",
        "`\"primary\"` or `\"backup\"`",
        Default("\"primary\""),
        "\"primary\"",
        "When it takes new flows. `\"primary\"`: whenever it can. `\"backup\"`: while no primary member can; until then it \
         is probed and stands by. At least one member must be primary.",
    ),
    key(AlertRoute, "name", NAME, Refused, "\"oncall\"", "Its name, unique."),
    key(
        AlertRoute,
        "type",
        "`\"journald\"`, `\"mail\"`, `\"command\"`, `\"webhook\"` or `\"alertmanager\"`",
        Refused,
        "\"webhook\"",
        "What it does with an alert. `\"journald\"`: writes it to the journal, each part in a field of its own. \
         `\"mail\"`: sends a mail by sendmail. `\"command\"`: runs a program with the alert as JSON on its standard input. \
         `\"webhook\"`: POSTs that JSON. `\"alertmanager\"`: POSTs it to Alertmanager's v2 API, again each minute.",
    ),
    key(
        AlertRoute,
        "url",
        "string, `http://` or `https://` URL without user and fragment, at most 2048 bytes",
        Means("must be given for `\"webhook\"` and `\"alertmanager\"`"),
        "\"https://oncall.example.org/hook\"",
        "Where to POST. Of an Alertmanager its own address, without `/api/v2/alerts`. Certificates are verified; \
         redirects are not followed.",
    ),
    key(
        AlertRoute,
        "to",
        "array of 1 to 16 mail addresses",
        Means("must be given for `\"mail\"`"),
        "[\"oncall@example.org\"]",
        "Who gets the mail.",
    ),
    key(
        AlertRoute,
        "command",
        "array of 1 to 32 strings, the first an absolute path",
        Means("must be given for `\"command\"`; for `\"mail\"` `[\"/usr/sbin/sendmail\"]`"),
        "[\"/usr/local/bin/page\", \"--edge\"]",
        "Program and arguments. No shell is between. For mail it gets `-i --` and the recipients besides.",
    ),
    key(
        AlertRoute,
        "user",
        "string, name of a user of this host",
        Default("\"nobody\""),
        "\"nobody\"",
        "User that the program of `\"command\"` runs as, with that user's own group alone.",
    ),
    key(
        AlertRoute,
        "severity",
        "`\"info\"`, `\"warning\"` or `\"critical\"`",
        Default("\"warning\""),
        "\"warning\"",
        "The least severity that goes this way.",
    ),
    key(
        AlertRoute,
        "after",
        "duration, 0s to 7d",
        Default("\"0s\""),
        "\"15m\"",
        "How long an alert must have stood before it goes this way.",
    ),
    key(
        AlertRoute,
        "repeat",
        "duration, 1m to 7d",
        Default("\"4h\""),
        "\"4h\"",
        "How often an alert that still stands goes this way again. Not for `\"alertmanager\"`, which has its own.",
    ),
    key(
        AlertRoute,
        "labels",
        "table of strings; names are letters, digits and `_`, not beginning with a digit",
        Default("{}"),
        "{ site = \"fra1\" }",
        "Added to every alert that goes this way.",
    ),
];
