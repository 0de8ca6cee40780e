//! The network around the data plane: links, addresses, announcements, next hops, by netlink.
