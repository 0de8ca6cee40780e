//! Whether another host already has an IPv4 address that is about to be added here (RFC 5227, section 2.1.1): two hosts
//! that answer for one VIP split its clients between them at random.
//!
//! Asked in a second at most, beside everything else. IPv6 addresses are added without asking, like those of every
//! failover: the kernel's own detection would keep them silent for longer than a failover may take.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::io::unix::AsyncFd;

use super::addresses::Placement;
use super::links::Links;

/// Each address is asked for so often,
const TIMES: u32 = 3;
/// and so long each time. RFC 5227's seconds are for a host that joins; on a LAN an answer takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);
/// An address that another host has is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(30);

const ARP_LEN: usize = 42;

/// What is known of an address that is to be added.
#[derive(Clone, Copy, Debug)]
enum Claim {
    Asking { since: Instant },
    Free,
    Taken { by: [u8; 6], asked: Instant },
}

/// What to do with an address that is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Add it.
    Add,
    /// Somebody may have it: wait for the answer.
    Wait,
    /// Somebody has it, in words.
    Taken(String),
}

/// Addresses to be asked for on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) interface: String,
    ifindex: u32,
    mac: [u8; 6],
    pub(super) addresses: BTreeSet<Ipv4Addr>,
    /// Of this host: no other one's.
    own: Vec<[u8; 6]>,
}

/// Who has them; an address that is not listed is free.
pub(super) type Holders = BTreeMap<Ipv4Addr, [u8; 6]>;

/// The claims of missing addresses.
#[derive(Debug, Default)]
pub(super) struct Claims {
    known: BTreeMap<Placement, Claim>,
    questions: BTreeMap<String, Question>,
}

impl Claims {
    /// Forgets who had what: it is asked again at once.
    pub(super) fn doubt(&mut self) {
        self.known.retain(|_, claim| matches!(claim, Claim::Asking { .. }));
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, missing: &BTreeSet<Placement>) {
        self.known.retain(|placement, _| missing.contains(placement));
    }

    /// Whether a missing address may be added now. A link that does not work cannot be asked, and harms nobody.
    pub(super) fn verdict(&mut self, placement: &Placement, links: &Links) -> Verdict {
        let IpAddr::V4(address) = placement.address else { return Verdict::Add };
        let Some(question) = Question::new(&placement.interface, links) else { return Verdict::Add };
        let (verdict, ask) = match self.known.get(placement) {
            None => (Verdict::Wait, true),
            // An answer that never came was lost with its task.
            Some(Claim::Asking { since }) => (Verdict::Wait, since.elapsed() >= ASK_AGAIN),
            Some(Claim::Free) => (Verdict::Add, false),
            Some(Claim::Taken { by, asked }) => {
                let again = asked.elapsed() >= ASK_AGAIN;
                (Verdict::Taken(taken(&placement.interface, *by)), again)
            }
        };
        if ask {
            let claim = match self.known.get(placement) {
                Some(Claim::Taken { by, .. }) => Claim::Taken { by: *by, asked: Instant::now() },
                _ => Claim::Asking { since: Instant::now() },
            };
            self.known.insert(placement.clone(), claim);
            self.questions.entry(placement.interface.clone()).or_insert(question).addresses.insert(address);
        }
        if verdict == Verdict::Add {
            // Good for one attempt: what is found missing later is asked for anew.
            self.known.remove(placement);
        }
        verdict
    }

    /// What is to be asked now; each is answered by [`Claims::answered`].
    pub(super) fn questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions).into_values().collect()
    }

    /// Takes an answer in.
    pub(super) fn answered(&mut self, question: &Question, holders: &Holders) {
        for &address in &question.addresses {
            let placement = Placement::new(address.into(), question.interface.clone());
            let claim = match holders.get(&address) {
                Some(&by) => Claim::Taken { by, asked: Instant::now() },
                None => Claim::Free,
            };
            // Not if nobody wants it any more.
            self.known.entry(placement).and_modify(|known| *known = claim);
        }
    }
}

fn taken(interface: &str, by: [u8; 6]) -> String {
    let mac = by.map(|byte| format!("{byte:02x}")).join(":");
    format!(
        "another host on {interface} has it: {mac} answers ARP for it. It was neither added nor announced, and is asked for \
         again every {} s; take it off that host, or out of this configuration",
        ASK_AGAIN.as_secs()
    )
}

impl Question {
    /// About no address yet; `None` if nothing can be asked on this interface now.
    pub(super) fn new(interface: &str, links: &Links) -> Option<Self> {
        let link = links.by_name(interface).filter(|l| l.up && l.carrier)?;
        let (ifindex, mac) = (link.index, link.mac?);
        Some(Self { interface: link.name.clone(), ifindex, mac, addresses: BTreeSet::new(), own: links.all_macs() })
    }

    /// Asks. What cannot be asked counts as free, with a line in the log: an address that is nowhere serves nobody.
    pub(super) async fn ask(self) -> (Self, Holders) {
        let holders = self.try_ask().await.unwrap_or_else(|error| {
            let interface = &self.interface;
            tracing::warn!(%interface, %error, "cannot ask whether another host has the addresses to be added");
            Holders::new()
        });
        (self, holders)
    }

    /// As [`Question::ask`]; fails where nothing can be sent.
    pub(super) async fn try_ask(&self) -> io::Result<Holders> {
        // SAFETY: the `OwnedFd` owns a valid descriptor, and nothing replaces or closes it while it is registered.
        let socket = unsafe { AsyncFd::register(open(self.ifindex)?) }?;
        let mut holders = Holders::new();
        for _ in 0..TIMES {
            for &address in self.addresses.iter().filter(|a| !holders.contains_key(*a)) {
                nix::unistd::write(socket.get_ref(), &probe(self.mac, address))?;
            }
            // The time is up, or the socket failed.
            if let Ok(failed) = tokio::time::timeout(PATIENCE, self.listen(&socket, &mut holders)).await {
                failed?;
            }
            if holders.len() == self.addresses.len() {
                break;
            }
        }
        Ok(holders)
    }

    /// Notes who answers, until all have been answered for.
    async fn listen(&self, socket: &AsyncFd<OwnedFd>, holders: &mut Holders) -> io::Result<()> {
        let mut frame = [0; 64];
        while holders.len() < self.addresses.len() {
            let mut ready = socket.readable().await?;
            let read = ready.try_io(|fd| nix::unistd::read(fd.get_ref(), &mut frame).map_err(io::Error::from));
            let Ok(read) = read else { continue };
            if let Some((address, mac)) = sender(&frame[..read?])
                && self.addresses.contains(&address)
                && !self.own.contains(&mac)
            {
                holders.insert(address, mac);
            }
        }
        Ok(())
    }
}

/// A socket for ARP frames of one interface.
fn open(ifindex: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it receives nothing before it is bound, and so nothing of other interfaces.
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None::<SockProtocol>)?;
    // SAFETY: all-zero bytes are a valid `sockaddr_ll`, a struct of integers.
    let mut here: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    here.sll_family = libc::AF_PACKET as u16;
    here.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    here.sll_ifindex = ifindex.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the pointer is valid for the length given with it, for the duration of the call.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const here).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// An ARP request for the address from nobody: a sender's address of zero changes no neighbour's cache.
fn probe(mac: [u8; 6], address: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut frame = super::announce::arp(mac, address);
    frame[28..32].fill(0);
    frame
}

/// Who says that it has which address: the sender of any ARP frame, request or answer. A probe for the same address says
/// nothing: switches that track devices send such, and would make every address look taken.
fn sender(frame: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    let frame: &[u8; ARP_LEN] = frame.first_chunk()?;
    if frame[12..20] != [0x08, 0x06, 0, 1, 0x08, 0, 6, 4] {
        return None;
    }
    let [a, b, c, d] = *frame[28..].first_chunk()?;
    Some((Ipv4Addr::new(a, b, c, d), *frame[22..].first_chunk()?)).filter(|(address, _)| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::super::links::Link;
    use super::*;

    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn links(carrier: bool) -> Links {
        let link = Link {
            index: 2,
            name: "eth0".into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier,
            carrier_changes: 0,
            oper_state: "up",
            vlan: None,
        };
        [link].into_iter().collect()
    }

    fn placement(address: &str) -> Placement {
        Placement::new(address.parse().unwrap(), "eth0")
    }

    #[test]
    fn claim_is_asked_once_and_its_answer_decides() {
        let (mut claims, links) = (Claims::default(), links(true));
        let (free, held) = (placement("10.0.0.1"), placement("10.0.0.2"));
        for _ in 0..2 {
            assert_eq!(claims.verdict(&free, &links), Verdict::Wait);
            assert_eq!(claims.verdict(&held, &links), Verdict::Wait);
        }
        let questions = claims.questions();
        assert_eq!((questions.len(), questions[0].addresses.len(), claims.questions().len()), (1, 2, 0));
        claims.answered(&questions[0], &[("10.0.0.2".parse().unwrap(), OTHER)].into());
        assert_eq!(claims.verdict(&free, &links), Verdict::Add);
        let Verdict::Taken(why) = claims.verdict(&held, &links) else { panic!("it is taken") };
        assert!(why.contains("02:00:00:00:00:09 answers ARP"), "{why}");
        assert!(claims.questions().is_empty(), "not again yet");
        claims.doubt();
        assert_eq!(claims.verdict(&held, &links), Verdict::Wait);
        assert_eq!(claims.verdict(&free, &links), Verdict::Wait, "good for one attempt");
    }

    #[test]
    fn claim_that_nobody_can_answer_is_not_asked() {
        let mut claims = Claims::default();
        assert_eq!(claims.verdict(&placement("10.0.0.1"), &links(false)), Verdict::Add);
        assert_eq!(claims.verdict(&placement("fd00::1"), &links(true)), Verdict::Add);
        assert_eq!(claims.verdict(&Placement::new("10.0.0.1".parse().unwrap(), "eth7"), &links(true)), Verdict::Add);
        assert!(claims.questions().is_empty());
    }

    #[test]
    fn sender_of_a_probe_or_of_another_protocol_is_nobody() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let announced = super::super::announce::arp(OTHER, address);
        assert_eq!(sender(&announced), Some((address, OTHER)));
        assert_eq!(sender(&probe(OTHER, address)), None);
        assert_eq!(sender(&announced[..41]), None);
        let mut other = announced;
        other[13] = 0;
        assert_eq!(sender(&other), None);
    }
}
