//! Why a packet got its verdict. Every packet is counted once: forwarded ones in `TRAFFIC`, all others here.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $n:literal, $text:literal;)*) => {
        /// The reason of a verdict; its number is the index in `VERDICTS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])* $name = $n,)* }

        impl Reason {
            /// All reasons, by number.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The name that metrics and the CLI print.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// What it means, in words: `Pass: …`, `Drop: …` or `Sent: …`.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),*),)* }
            }
        }
    };
}

reasons! {
    /// Pass: not IPv4 or IPv6 (ARP among them), or more than two VLAN tags.
    PassNotIp = 0, "pass_not_ip";
    /// Pass: the frame is for another MAC (or broadcast, multicast).
    PassOtherMac = 1, "pass_other_mac";
    /// Pass: the destination address is none of ours.
    PassNotOurs = 2, "pass_not_ours";
    /// Pass: our address, but no service and no source port of ours.
    PassNoService = 3, "pass_no_service";
    /// Pass: our address, and a protocol that no service has, or ICMP that is the host's.
    PassOtherProtocol = 4, "pass_other_protocol";
    /// Pass: not well formed before its destination could be known.
    PassMalformed = 5, "pass_malformed";
    /// Pass: a fragment to our address that is the host's.
    PassFragment = 6, "pass_fragment";
    /// Drop: shorter than its IP length says, or its L4 header is cut.
    DropTruncated = 7, "drop_truncated";
    /// Drop: a header length or a field that cannot be.
    DropMalformed = 8, "drop_malformed";
    /// Drop: a first fragment without its whole L4 header, or a later one that overlaps it or of which no first one is known.
    DropFragment = 9, "drop_fragment";
    /// Drop: TTL or hop limit would reach zero, and the packet gets no answer.
    DropTtl = 10, "drop_ttl";
    /// Drop: no backend in the service's table.
    DropNoBackend = 11, "drop_no_backend";
    /// Drop: the backend's or the client's next hop is unknown, or the backend is in maintenance.
    DropNoNextHop = 12, "drop_no_next_hop";
    /// Drop: a TCP packet to a service, no SYN, of no known flow.
    DropNoFlow = 13, "drop_no_flow";
    /// Drop: a packet to a source address and port of ours, of no known flow.
    DropNoReplyFlow = 14, "drop_no_reply_flow";
    /// Drop: no source port free towards the backend.
    DropPortsExhausted = 15, "drop_ports_exhausted";
    /// Drop: the half-open slot is being changed by another CPU; the sender retransmits.
    DropBusy = 16, "drop_busy";
    /// Drop: the limit of established flows is reached.
    DropFlowsFull = 17, "drop_flows_full";
    /// Drop: an ACK of a half-open flow that does not acknowledge the backend's SYN.
    DropUnproven = 18, "drop_unproven";
    /// Drop: flags that no TCP sends (SYN with FIN or RST, none at all to no flow).
    DropFlags = 19, "drop_flags";
    /// Drop: no source address for this family.
    DropNoSource = 20, "drop_no_source";
    /// Drop: the frame could not be given its egress VLAN tags.
    DropTags = 21, "drop_tags";
    /// Drop: the source address is one of ours, or not a unicast address.
    DropMartian = 22, "drop_martian";
    /// Drop: a source pool without settings, or a map that is not as the program expects.
    DropInternal = 23, "drop_internal";
    /// Sent: a TCP packet of no known flow was answered with a reset.
    TxReset = 24, "tx_reset";
    /// Drop: larger than the link's MTU with its outer header.
    DropTooBig = 25, "drop_too_big";
    /// Pass: ICMP to one of our addresses while the program for it is missing.
    PassNoProgram = 26, "pass_no_program";
    /// Sent: an echo request to a VIP was answered.
    TxEcho = 27, "tx_echo";
    /// Sent: an ICMP error about a flow's packet was translated for its other side.
    TxIcmpError = 28, "tx_icmp_error";
    /// Drop: an ICMP error about a packet of a service or a source port of ours, of no known flow.
    DropIcmpNoFlow = 29, "drop_icmp_no_flow";
    /// Sent: a packet whose TTL or hop limit ends here was answered with ICMP "time exceeded".
    TxTimeExceeded = 30, "tx_time_exceeded";
    /// Drop: the program that a packet of ours needs is missing.
    DropNoProgram = 31, "drop_no_program";
}

impl Reason {
    /// Size of `VERDICTS`; room for reasons to come.
    pub const MAX: u32 = 48;
}
