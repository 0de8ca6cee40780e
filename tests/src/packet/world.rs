//! The fixture of most packet tests: one service per family and protocol, two members each, and a client's flow through
//! its phases.

use lb_common::abi::{Algorithm, Reason, TrafficSlot};
use lb_common::wire::l4::{ACK, SYN, TCP, UDP};

use super::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use super::plane::{Plane, REDIRECT, Ran, Sizes, TX, backend_mac, table};

/// A family's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// A client.
    pub client: &'static str,
    /// The VIP.
    pub vip: &'static str,
    /// The source address of the pool.
    pub pool: &'static str,
    /// Backends' network; members 1 and 2 are `.1`/`.2` of it.
    pub backends: [&'static str; 2],
}

/// IPv4.
pub const V4: Family =
    Family { client: "198.51.100.7", vip: "192.0.2.10", pool: "10.9.9.1", backends: ["10.0.0.1", "10.0.0.2"] };
/// IPv6.
pub const V6: Family = Family {
    client: "[2001:db8:1::7]",
    vip: "[2001:db8::10]",
    pool: "[fd09::1]",
    backends: ["[fd00::1]", "[fd00::2]"],
};

impl Family {
    /// The client's address with a port.
    pub fn from(&self, port: u16) -> String {
        format!("{}:{port}", self.client)
    }

    /// The service's address: TCP and UDP listen on port 80.
    pub fn service(&self) -> String {
        format!("{}:80", self.vip)
    }
}

/// A loaded plane with services. Ids: 1 TCP over IPv4, 2 UDP over IPv4, 3 TCP over IPv6, 4 UDP over IPv6; members of
/// service `s` are `2s` and `2s + 1`, on port 8080 (so ports are translated).
pub struct World {
    /// The plane.
    pub plane: Plane,
}

impl World {
    /// With default sizes, `maglev`.
    pub fn new() -> Self {
        Self::with(&Sizes::default(), Algorithm::Maglev)
    }

    /// With these sizes.
    pub fn with(sizes: &Sizes, algorithm: Algorithm) -> Self {
        let mut plane = Plane::new(sizes);
        for (service, family, proto) in [(1, V4, TCP), (2, V4, UDP), (3, V6, TCP), (4, V6, UDP)] {
            let members = [service * 2, service * 2 + 1];
            plane.service(service, proto, &family.service(), algorithm, &table(&members, 8), 0);
            for (member, at) in members.iter().zip(family.backends) {
                plane.member(*member, service, &format!("{at}:8080"), 1);
            }
        }
        Self { plane }
    }

    /// Runs a packet that must be forwarded, and reads what left.
    #[track_caller]
    pub fn forwards(&mut self, packet: &Craft) -> Craft {
        let ran = self.plane.run(&packet.bytes());
        assert_eq!(ran.reason, None, "forwarded: {packet:?}");
        assert!(matches!(ran.verdict, TX | REDIRECT), "{ran:?}");
        Craft::read(&ran.packet)
    }

    /// Runs a packet that must not be forwarded.
    #[track_caller]
    pub fn refuses(&mut self, packet: &Craft) -> Ran {
        let ran = self.plane.run(&packet.bytes());
        assert!(ran.reason.is_some(), "not forwarded: {packet:?}");
        ran
    }

    /// Runs a packet and yields the reason it was counted under.
    #[track_caller]
    pub fn reason(&mut self, packet: &Craft) -> Reason {
        self.refuses(packet).reason.expect("refuses checked it")
    }

    /// A SYN through the edge: what the backend gets.
    #[track_caller]
    pub fn syn(&mut self, family: Family, port: u16, seq: u32) -> Craft {
        self.forwards(&Craft::tcp(&family.from(port), &family.service(), SYN, seq, 0))
    }

    /// A whole handshake; yields the SYN as the backend got it.
    #[track_caller]
    pub fn handshake(&mut self, family: Family, port: u16) -> Craft {
        let syn = self.syn(family, port, 100);
        self.forwards(&answer(&syn, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
        self.forwards(&Craft::tcp(&family.from(port), &family.service(), ACK, 101, 501));
        syn
    }

    /// Active flows of a member, by both counts that the program keeps.
    #[track_caller]
    pub fn active(&mut self, member: u32) -> u64 {
        let stats = self.plane.stats(member);
        assert_eq!(stats.opened - stats.closed, self.plane.compared(member), "member {member}");
        stats.opened - stats.closed
    }

    /// Packets forwarded by a member, client to backend and back.
    pub fn packets(&mut self, member: u32) -> (u64, u64) {
        (
            self.plane.traffic(TrafficSlot::forward(member)).packets,
            self.plane.traffic(TrafficSlot::reverse(member)).packets,
        )
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// What a backend sends back for a packet that it got.
pub fn answer(got: &Craft, l4: L4, payload: &[u8]) -> Craft {
    let mut answer = got.answered(l4, payload);
    answer.macs = (EDGE_MAC, got.macs.0);
    answer
}

/// The member id that a packet went to, by its MAC.
pub fn member_of(packet: &Craft) -> u32 {
    (0..16).find(|id| backend_mac(*id) == packet.macs.0).expect("a member's MAC")
}

/// Asserts that a packet is addressed back to the client.
#[track_caller]
pub fn is_to_client(packet: &Craft) {
    assert_eq!(packet.macs, (CLIENT_MAC, EDGE_MAC));
}
