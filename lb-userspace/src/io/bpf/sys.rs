//! bpf(2) by hand, for what aya does not offer: batches, links without its silent fall-back to netlink, a link's
//! interface, map-in-map updates. Owns no state; every function is one system call.

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;
use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_type, bpf_prog_info, bpf_prog_type,
};

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a live, fully initialised `bpf_attr` of the size given. Each caller below keeps alive and sizes
    // the buffers that it points to.
    let n = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(n).map_err(io::Error::other)
}

fn empty() -> bpf_attr {
    // SAFETY: a union of structs of integers: all zeroes is a value of each, and the kernel wants unused bytes zero.
    unsafe { zeroed() }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor (close-on-exec) to us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("an open descriptor is not negative")
}

fn path_arg(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Whether the kernel translates programs into the machine's own instructions, by one that does nothing.
pub(super) fn translates() -> io::Result<bool> {
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    let mut attr = empty();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    attr.__bindgen_anon_3.insn_cnt = instructions.len() as u32;
    attr.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.license = license.as_ptr() as u64;
    let program = call(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(owned)?;
    // SAFETY: integers and unions of integers.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    let mut attr = empty();
    attr.info.bpf_fd = raw(program.as_fd());
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = &raw mut info as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.jited_prog_len > 0)
}

/// Pins an object.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_arg(path)?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = raw(fd);
    call(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = path_arg(path)?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    call(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned)
}

/// Attaches an XDP program to an interface by a link; `flags` are `XDP_FLAGS_*`.
pub(super) fn create_xdp_link(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = raw(program);
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = flags;
    call(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// Puts another program behind a link; no packet meets neither.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = empty();
    attr.link_update.link_fd = raw(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = raw(program);
    call(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link now, whoever else holds it.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = empty();
    attr.link_detach.link_fd = raw(link);
    call(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Program id and interface of an XDP link; `None` if it is another kind of link. Interface 0: the interface is gone.
pub(super) fn xdp_link_info(link: BorrowedFd<'_>) -> io::Result<Option<(u32, u32)>> {
    // SAFETY: integers and unions of integers.
    let mut info: bpf_link_info = unsafe { zeroed() };
    let mut attr = empty();
    attr.info.bpf_fd = raw(link);
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        return Ok(None);
    }
    // SAFETY: the type says that this member of the union was written.
    Ok(Some((info.prog_id, unsafe { info.__bindgen_anon_1.xdp.ifindex })))
}

/// Creates a map with 4-byte keys and values; `inner` is the template of a map of maps.
pub(super) fn create_map(kind: bpf_map_type, entries: u32, inner: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let mut attr = empty();
    attr.__bindgen_anon_1.map_type = kind as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 4;
    attr.__bindgen_anon_1.max_entries = entries;
    attr.__bindgen_anon_1.inner_map_fd = inner.map_or(0, raw);
    call(bpf_cmd::BPF_MAP_CREATE, &mut attr).map(owned)
}

/// Stores an inner map in a map of maps.
pub(super) fn store_inner(outer: BorrowedFd<'_>, index: u32, inner: BorrowedFd<'_>) -> io::Result<()> {
    let inner = raw(inner);
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = raw(outer);
    attr.__bindgen_anon_2.key = &raw const index as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = &raw const inner as u64;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// One step of a batch look-up.
pub(super) struct Looked {
    /// Entries at the start of the buffers that are initialised now.
    pub(super) count: usize,
    /// Whether more follow.
    pub(super) more: bool,
}

/// Looks up as many entries as the buffers hold. `position` is where to go on: for hashes an opaque word, for arrays the
/// last index read; `None` starts at the beginning. It is moved on. `ENOSPC`: a bucket does not fit the buffers.
pub(super) fn lookup_batch<K: Pod, V: Pod>(
    map: impl AsFd,
    position: &mut Option<u32>,
    keys: &mut [MaybeUninit<K>],
    values: &mut [MaybeUninit<V>],
) -> io::Result<Looked> {
    let mut next = 0u32;
    let mut attr = empty();
    attr.batch.in_batch = position.as_ref().map_or(0, |p| &raw const *p as u64);
    attr.batch.out_batch = &raw mut next as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = keys.len().min(values.len()) as u32;
    attr.batch.map_fd = raw(map.as_fd());
    let result = call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
    // SAFETY: `batch` is the member that this command reads and writes.
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => {
            *position = Some(next);
            Ok(Looked { count, more: true })
        }
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Looked { count, more: false }),
        Err(e) => Err(e),
    }
}

/// Writes the entries, in order.
pub(super) fn update_batch<K: Pod, V: Pod>(map: impl AsFd, keys: &[K], values: &[V]) -> io::Result<()> {
    let mut attr = empty();
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = keys.len().min(values.len()) as u32;
    attr.batch.map_fd = raw(map.as_fd());
    call(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}
