//! The testbed's shapes: who is joined to whom, and under which addresses.
//!
//! Two arms: clients and the edge's `front` on one switch, the edge's `back` and the backends on another. One arm: all on
//! one switch. Backends have no route to the clients, so that only what the edge translated can come back.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::testbed::netns::{self, Namespace};
use crate::testbed::scratch::{KEPT, Scratch};
use crate::testbed::xdp_pass;

/// How the edge is joined to the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Clients on `front`, backends on `back`.
    TwoArm,
    /// Clients and backends on `front`.
    OneArm,
}

/// A side of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// That of the first client.
    Client,
    /// That of the first backend.
    Backend,
}

/// IP family of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Begins the names of all that is made.
    pub prefix: &'static str,
    /// The shape.
    pub shape: Shape,
    /// Client hosts.
    pub clients: u8,
    /// Addresses of each client in each family.
    pub addresses: u8,
    /// Backend hosts.
    pub backends: u8,
}

impl Plan {
    /// The usual bed of a test.
    pub const fn test(shape: Shape, backends: u8) -> Self {
        Self { prefix: "rc-test", shape, clients: 2, addresses: 20, backends }
    }
}

/// A testbed. Fields are dropped in this order.
pub struct Bed {
    /// Client hosts.
    pub clients: Vec<Namespace>,
    /// The edge host.
    pub edge: Namespace,
    /// Backend hosts.
    pub backends: Vec<Namespace>,
    switches: Vec<Namespace>,
    /// Files and the BPF file system.
    pub scratch: Scratch,
    plan: Plan,
}

impl Bed {
    /// Builds it.
    #[track_caller]
    pub fn build(plan: Plan) -> Self {
        let scratch = Scratch::create(plan.prefix);
        let make = |role: &str| Namespace::create(&format!("{}-{role}", scratch.name()));
        let edge = make("edge");
        let mut switches = vec![switch(make("front"))];
        if plan.shape == Shape::TwoArm {
            switches.push(switch(make("back")));
        }
        let clients: Vec<_> = (0..plan.clients).map(|i| make(&format!("client{}", i + 1))).collect();
        let backends: Vec<_> = (0..plan.backends).map(|i| make(&format!("b{}", i + 1))).collect();
        let bed = Self { clients, edge, backends, switches, scratch, plan };
        bed.wire();
        bed
    }

    /// The interfaces that the program is to be attached to.
    pub fn interfaces(&self) -> &'static [&'static str] {
        match self.plan.shape {
            Shape::TwoArm => &["front", "back"],
            Shape::OneArm => &["front"],
        }
    }

    /// The virtual address.
    pub fn vip(&self, family: Family) -> IpAddr {
        front(family, 255, 1)
    }

    /// The source address towards the backends.
    pub fn pool(&self, family: Family) -> IpAddr {
        self.behind(family, 0, 2)
    }

    /// The edge host's own address on the clients' side.
    pub fn edge_address(&self, family: Family) -> IpAddr {
        front(family, 0, 1)
    }

    /// Address of backend `index`, from 0.
    pub fn backend_address(&self, family: Family, index: u8) -> IpAddr {
        self.behind(family, 1, index + 1)
    }

    /// Addresses of client `index`, from 0.
    pub fn client_addresses(&self, family: Family, index: u8) -> Vec<IpAddr> {
        (1..=self.plan.addresses).map(|n| front(family, 10 + index, n)).collect()
    }

    /// Leaves all of it standing when the guard goes.
    pub fn keep(&mut self) {
        std::fs::write(self.scratch.path(KEPT), "").expect("the testbed's folder is writable");
        self.scratch.keep();
        let all = [&mut self.clients, &mut self.backends, &mut self.switches];
        all.into_iter().flatten().for_each(Namespace::keep);
        self.edge.keep();
    }

    fn behind(&self, family: Family, group: u8, host: u8) -> IpAddr {
        match self.plan.shape {
            Shape::TwoArm => back(family, group, host),
            Shape::OneArm => front(family, group, host),
        }
    }

    /// Takes the edge's front interface away, as a hot-unplug would.
    pub fn unplug_front(&self) {
        self.edge.ip("link delete front\n");
        // The far end's link is defunct now.
        std::fs::remove_file(self.front_pin()).expect("it was pinned when the interface was made");
    }

    /// Makes the edge's front interface, with its own addresses.
    pub fn plug_front(&self) {
        let outer = &self.switches[0];
        plug(&self.edge, "front", outer, "edge", &pair(front, 0, 1));
        xdp_pass::attach(outer, "edge", &self.front_pin());
    }

    /// Takes the cable of backend `index`, from 0, out of its switch, or puts it back.
    pub fn set_cable(&self, index: usize, plugged: bool) {
        let switch = self.switches.last().expect("there is at least one");
        switch.ip(&format!("link set b{index} {}\n", if plugged { "up" } else { "down" }));
    }

    /// Puts a router between the first host of a side and its switch, in two arms. What leaves it towards the host fits
    /// `mtu`; the host itself knows nothing of that. Addresses stay.
    #[track_caller]
    pub fn insert_router(&self, side: Side, mtu: u16) -> Namespace {
        let near: fn(Family, u8, u8) -> IpAddr = if side == Side::Client { front } else { back };
        let (host, switch) = match side {
            Side::Client => (&self.clients[0], &self.switches[0]),
            Side::Backend => (&self.backends[0], &self.switches[1]),
        };
        let own: Vec<IpAddr> = match side {
            Side::Client => FAMILIES.iter().flat_map(|&f| self.client_addresses(f, 0)).collect(),
            Side::Backend => FAMILIES.map(|f| self.backend_address(f, 0)).to_vec(),
        };
        let router = Namespace::create(&format!("{}-{side:?}-router", self.scratch.name()).to_lowercase());
        host.ip("link delete eth0\n");
        plug(&router, "near", switch, "router", &pair(near, 20, 1));
        netns::join((&router, "far"), (host, "eth0"));
        for key in ["net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"] {
            router.sysctl(key, "1");
        }
        // Each error is wanted, however soon after the last one.
        for key in ["net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"] {
            router.sysctl(key, "0");
        }
        router.ip(&format!(
            "link set far mtu {mtu}\nlink set far up\naddress add 169.254.1.1/32 dev far\naddress add fe80::1/64 dev far nodad\n"
        ));
        host.ip("link set eth0 up\n");
        for address in &own {
            let (bits, flags) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
            let via = near(if address.is_ipv4() { Family::V4 } else { Family::V6 }, 20, 1);
            host.ip(&format!("address add {address}/{bits} dev eth0 {flags}\n"));
            router.ip(&format!("route add {address}/{bits} dev far\n"));
            self.edge.ip(&format!("route add {address}/{bits} via {via}\n"));
        }
        host.ip("route add 169.254.1.1/32 dev eth0\nroute add default via 169.254.1.1\nroute add default via fe80::1 dev eth0\n");
        router
    }

    fn front_pin(&self) -> std::path::PathBuf {
        self.scratch.bpf().join(self.switches[0].name())
    }

    fn wire(&self) {
        let outer = &self.switches[0];
        let inner = self.switches.last().expect("there is at least one");
        self.plug_front();
        if self.plan.shape == Shape::TwoArm {
            plug(&self.edge, "back", inner, "edge", &pair(back, 0, 1));
        }
        for switch in &self.switches[1..] {
            xdp_pass::attach(switch, "edge", &self.scratch.bpf().join(switch.name()));
        }
        for (index, client) in (0..).zip(&self.clients) {
            let addresses: Vec<_> =
                [Family::V4, Family::V6].iter().flat_map(|&f| self.client_addresses(f, index)).collect();
            plug(client, "eth0", outer, &format!("client{index}"), &addresses);
            // Many clients on few hosts: all ports may be used, and the closed ones at once again.
            client.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        }
        for (index, backend) in (0..).zip(&self.backends) {
            let addresses = [Family::V4, Family::V6].map(|f| self.backend_address(f, index));
            plug(backend, "eth0", inner, &format!("b{index}"), &addresses);
        }
    }
}

/// An address on the clients' side: 10.77.group.host, fd77:1::group:host.
fn front(family: Family, group: u8, host: u8) -> IpAddr {
    address(family, 77, 1, group, host)
}

/// An address on the backends' side of two arms: 10.78.group.host, fd77:2::group:host.
fn back(family: Family, group: u8, host: u8) -> IpAddr {
    address(family, 78, 2, group, host)
}

fn address(family: Family, net4: u8, net6: u16, group: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, net4, group, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd77, net6, 0, 0, 0, 0, group.into(), host.into()).into(),
    }
}

fn pair(side: fn(Family, u8, u8) -> IpAddr, group: u8, host: u8) -> Vec<IpAddr> {
    FAMILIES.iter().map(|&f| side(f, group, host)).collect()
}

/// Makes a namespace a switch. No multicast snooping: neighbour discovery must work from the first packet.
fn switch(namespace: Namespace) -> Namespace {
    namespace.ip("link add sw type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set sw up\n");
    namespace
}

fn plug(host: &Namespace, interface: &str, switch: &Namespace, port: &str, addresses: &[IpAddr]) {
    netns::join((host, interface), (switch, port));
    switch.ip(&format!("link set {port} master sw\nlink set {port} up\n"));
    // A real card keeps its MAC when it is pulled and put back; a new veth would get a random one.
    let mac = addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(v4.octets()),
        IpAddr::V6(_) => None,
    });
    let [a, b, c, d] = mac.expect("every host has an IPv4 address");
    let mut lines =
        format!("link set {interface} address 02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}\nlink set {interface} up\n");
    for address in addresses {
        let (bits, flags) = if address.is_ipv4() { (16, "") } else { (64, "nodad") };
        writeln!(lines, "address add {address}/{bits} dev {interface} {flags}").expect("a string takes all");
    }
    host.ip(&lines);
}
