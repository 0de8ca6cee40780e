//! The kernel's own tables against what the daemon says of them.
//!
//! The testbed opens the pinned maps itself: a daemon that believes it wrote what it did not write reports itself settled,
//! and only the maps can tell. Both sides are brought into one plain form, [`Tables`], and must be equal in all of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use lb_common::abi::{Addr6, Algorithm, Hop, LocalKind, Member, NO_MEMBER, ServiceKey, Settings};
use rollcall::core::kernel::KernelState;
use rollcall::io::bpf::DataPlane;
use serde_json::Value;

/// What a service listens on, and its IP protocol.
type Listen = (SocketAddr, u8);

/// What clients and servers notice of the tables. Ids, offsets and generations are the daemon's own affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    services: BTreeMap<Listen, Service>,
    /// Kind bits by address.
    locals: BTreeMap<IpAddr, u32>,
    /// Source addresses, sorted.
    pool: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    algorithm: String,
    members: BTreeMap<SocketAddr, Place>,
}

/// A member in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    in_rotation: bool,
    /// Share of the slots in parts of 10⁹; one slot of the largest table is 238 of them.
    share: u64,
    /// MAC address and interface of the next hop.
    hop: Option<(String, u32)>,
}

impl Tables {
    /// What a status reports, and the configured source addresses, which no status names.
    #[track_caller]
    pub fn reported(status: &Value, pool: &[IpAddr]) -> Self {
        let mut tables = Self { pool: pool.to_vec(), ..Self::default() };
        tables.pool.sort();
        for address in pool {
            *tables.locals.entry(*address).or_default() |= LocalKind::POOL;
        }
        for service in status["services"].as_array().expect("a status has services") {
            let listen = endpoint(&service["listen"]);
            *tables.locals.entry(listen.ip()).or_default() |= LocalKind::VIP;
            let members = service["backends"].as_array().expect("a service has backends");
            let members = members.iter().map(|member| (endpoint(member), Place::reported(member))).collect();
            let algorithm = service["algorithm"].as_str().expect("a service has an algorithm").to_owned();
            let protocol = if service["listen"]["protocol"] == "tcp" { libc::IPPROTO_TCP } else { libc::IPPROTO_UDP };
            let protocol = u8::try_from(protocol).expect("it is one byte on the wire");
            tables.services.insert((listen, protocol), Service { algorithm, members });
        }
        tables
    }

    /// What the maps pinned below `pin_dir` hold. Fails where they contradict themselves, such as by a slot that names
    /// another service's member.
    pub fn pinned(pin_dir: &Path) -> Result<Self, String> {
        let plane = DataPlane::open_readonly(pin_dir).map_err(|e| e.to_string())?;
        Self::held(&plane.read_state().map_err(|e| e.to_string())?)
    }

    /// Without members that take no new flows.
    #[must_use]
    pub fn serving(mut self) -> Self {
        for service in self.services.values_mut() {
            service.members.retain(|_, place| place.in_rotation);
        }
        self
    }

    fn held(state: &KernelState) -> Result<Self, String> {
        let mut tables = Self { locals: state.locals.clone(), pool: pool(&state.settings), ..Self::default() };
        for (key, info) in &state.services {
            let table = state.tables.get(&info.id).ok_or_else(|| format!("service {} has no table", info.id))?;
            let algorithm = match table.descriptor.algorithm() {
                n if n == Algorithm::Maglev as u8 => "maglev",
                n if n == Algorithm::RoundRobin as u8 => "round-robin",
                n if n == Algorithm::LeastConn as u8 => "least-conn",
                n if n == Algorithm::Source as u8 => "source",
                n => return Err(format!("service {} has the algorithm {n}", info.id)),
            };
            let mut slots: BTreeMap<u32, u64> = BTreeMap::new();
            for &id in table.slots.iter().filter(|&&id| id != NO_MEMBER) {
                *slots.entry(id).or_default() += 1;
            }
            let size = u64::from(table.descriptor.size());
            let mut members = BTreeMap::new();
            for (id, member) in state.members.iter().filter(|(_, member)| member.service == info.id) {
                let place = Place::held(member, slots.remove(id).unwrap_or(0), size);
                if members.insert(member_endpoint(member), place).is_some() {
                    return Err(format!("service {} has the member {} twice", info.id, member_endpoint(member)));
                }
            }
            if !slots.is_empty() {
                return Err(format!("service {} has slots of members that are not its own: {slots:?}", info.id));
            }
            tables.services.insert(listen(key), Service { algorithm: algorithm.to_owned(), members });
        }
        let ids: Vec<u32> = state.services.values().map(|info| info.id).collect();
        match state.members.iter().find(|(_, member)| !ids.contains(&member.service)) {
            Some((id, member)) => Err(format!("member {id} is of service {}, which is not there", member.service)),
            None => Ok(tables),
        }
    }
}

impl Place {
    #[track_caller]
    fn reported(member: &Value) -> Self {
        let share = member["share"].as_f64().expect("a member has a share");
        let hop = member["next_hop"].as_object().map(|hop| {
            let mac = hop["mac"].as_str().expect("a next hop has a MAC").to_owned();
            (mac, u32::try_from(hop["ifindex"].as_u64().expect("a next hop has an interface")).expect("it is a u32"))
        });
        // The share is between 0 and 1.
        Self { in_rotation: member["in_rotation"] == true, share: (share * 1e9).round() as u64, hop }
    }

    fn held(member: &Member, slots: u64, size: u64) -> Self {
        // Rounded as above, in whole numbers.
        let share = (slots * 1_000_000_000 + size / 2).checked_div(size).unwrap_or(0);
        let name = |hop: &Hop| (hop.dst_mac().map(|byte| format!("{byte:02x}")).join(":"), hop.ifindex());
        Self { in_rotation: slots > 0, share, hop: member.hop.is_resolved().then(|| name(&member.hop)) }
    }
}

/// The `address` and `port` of a JSON object.
#[track_caller]
fn endpoint(value: &Value) -> SocketAddr {
    let ip = value["address"].as_str().and_then(|text| text.parse().ok()).expect("an IP address");
    let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    SocketAddr::new(ip, port)
}

fn listen(key: &ServiceKey) -> Listen {
    (SocketAddr::new(ip(key.addr, key.family.into()), u16::from_be(key.port)), key.proto)
}

fn member_endpoint(member: &Member) -> SocketAddr {
    // Zero-extended, see the field.
    SocketAddr::new(ip(member.addr, member.family), u16::from_be(member.port as u16))
}

fn pool(settings: &Settings) -> Vec<IpAddr> {
    let pool4 = settings.pool4.iter().take(settings.pool4_len as usize).map(|&word| ip([word, 0, 0, 0], 4));
    let pool6 = settings.pool6.iter().take(settings.pool6_len as usize).map(|&words| ip(words, 6));
    let mut pool: Vec<IpAddr> = pool4.chain(pool6).collect();
    pool.sort();
    pool
}

/// An address from the ABI's words, which hold network byte order in memory.
fn ip(words: Addr6, family: u32) -> IpAddr {
    if family == 4 {
        return Ipv4Addr::from(words[0].to_ne_bytes()).into();
    }
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).into()
}
