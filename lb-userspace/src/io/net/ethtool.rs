//! What the ethtool ioctls say of a device: driver, offloads, channels. Read only.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GET_DRIVER: u32 = 0x03;
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
const GET_CHANNELS: u32 = 0x3c;

const FLAG_RX_VLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_drvinfo`; only the driver's name is used.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`: maxima, then what is set.
#[repr(C)]
struct RawChannels {
    command: u32,
    max: [u32; 4],
    now: [u32; 4],
}

/// Queues of a device, as `ethtool -l` shows them. Combined ones count as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues in use.
    pub rx: u32,
    /// Transmit queues in use.
    pub tx: u32,
    /// Receive queues possible.
    pub max_rx: u32,
    /// Transmit queues possible.
    pub max_tx: u32,
}

/// Offloads that matter to XDP. `None`: the driver does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Frames of local senders may carry unfinished checksums.
    pub tx_checksum: Option<bool>,
    /// Large receive offload: native XDP refuses it.
    pub lro: Option<bool>,
    /// Generic receive offload: merges frames before generic XDP sees them.
    pub gro: Option<bool>,
    /// The device strips VLAN tags, and XDP sees frames untagged.
    pub rx_vlan: Option<bool>,
}

/// A device to ask.
pub(super) struct Device {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Device {
    /// The name must be shorter than 16 bytes, as every interface's is.
    pub(super) fn new(interface: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, name })
    }

    /// Runs one command. `T` must be the command's own structure, beginning with its number.
    fn ask<T>(&self, data: &mut T) -> Option<()> {
        let ifru_data = (data as *mut T).cast();
        let mut request = libc::ifreq { ifr_name: self.name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data } };
        // SAFETY: `request` and the structure it points to live through the call, and each structure above has the size
        // and layout that the kernel writes for its command.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
        (done == 0).then_some(())
    }

    fn value(&self, command: u32) -> Option<u32> {
        let mut value = Value { command, data: 0 };
        self.ask(&mut value)?;
        Some(value.data)
    }

    pub(super) fn driver(&self) -> Option<String> {
        let mut driver = Driver { command: GET_DRIVER, name: [0; 32], rest: [0; 160] };
        self.ask(&mut driver)?;
        let end = driver.name.iter().position(|b| *b == 0).unwrap_or(driver.name.len());
        Some(String::from_utf8_lossy(&driver.name[..end]).into_owned())
    }

    pub(super) fn offloads(&self) -> Offloads {
        let flags = self.value(GET_FLAGS);
        Offloads {
            tx_checksum: self.value(GET_TX_CHECKSUM).map(|v| v != 0),
            lro: flags.map(|f| f & FLAG_LRO != 0),
            gro: self.value(GET_GRO).map(|v| v != 0),
            rx_vlan: flags.map(|f| f & FLAG_RX_VLAN != 0),
        }
    }

    pub(super) fn channels(&self) -> Option<Channels> {
        let mut raw = RawChannels { command: GET_CHANNELS, max: [0; 4], now: [0; 4] };
        self.ask(&mut raw)?;
        // Each: receive, transmit, other, combined.
        let ([max_rx, max_tx, _, max_both], [rx, tx, _, both]) = (raw.max, raw.now);
        Some(Channels { rx: rx + both, tx: tx + both, max_rx: max_rx + max_both, max_tx: max_tx + max_both })
    }
}
