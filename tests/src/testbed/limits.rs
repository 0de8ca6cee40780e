//! Process limits that load needs.

/// Raises the soft limit of open files to the hard one: a thousand connections are more than the usual 1,024.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the whole call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above; the call only reads it. A failure leaves the old limit, which the load then reports.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}
