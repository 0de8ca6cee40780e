//! What the services' modes ask of network and backends, as far as it can be seen from this host, or must be told.

use super::facts::Facts;
use super::ok;
use crate::config::model::{Config, Mode, Service};
use crate::control::schema::Check;

/// Bytes of an outer IPv4 header, and of an IPv6 one.
const OUTER: [u32; 2] = [20, 40];

/// One line for each service whose backends answer clients themselves.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let Ok(loaded) = &facts.config else { return Vec::new() };
    let config = &loaded.config;
    let back = config.edge.back().and_then(|name| facts.interfaces.get(name)?.as_ref().ok());
    let mtu = back.map(|interface| interface.mtu);
    let direct = config.services.iter().filter(|service| service.mode != Mode::Nat);
    direct.map(|service| told(config, service, mtu)).collect()
}

fn told(config: &Config, service: &Service, mtu: Option<u32>) -> Check {
    let mode = service.mode.name();
    let room = room(config, service, mtu).map(|(mtu, room)| {
        format!("; of an MTU of {mtu} the outer header leaves {room} bytes, and larger packets of clients are dropped")
    });
    let mend = if room.is_some() {
        "docs/modes.md: VIP and tunnel's end on each backend; have backends offer an MSS that fits, or raise the MTU"
    } else {
        "docs/modes.md: VIP on each backend; try a new one before clients do"
    };
    Check {
        why: Some("probes ask a backend's own address, and pass while the VIP is missing there".into()),
        mend: Some(mend.into()),
        ..ok(
            format!("mode of {}", service.name),
            format!("to know: {mode}, so each backend must hold {}{}", service.listen.vip, room.unwrap_or_default()),
        )
    }
}

/// The back interface's MTU, and the largest packet that fits the tunnel to every member.
fn room(config: &Config, service: &Service, mtu: Option<u32>) -> Option<(u32, u32)> {
    let mtu = mtu.filter(|_| service.mode == Mode::DsrIpip)?;
    let backends = service.members.iter().filter_map(|member| config.backends.get(&member.backend));
    let over_ipv6 = backends.filter_map(|backend| service.address_of(backend)).any(|ip| ip.is_ipv6());
    Some((mtu, mtu.saturating_sub(OUTER[usize::from(over_ipv6)])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn service_of_a_tunnel_is_told_how_much_fits() {
        let mut config = testing::config();
        let told = |config: &Config, mtu| told(config, &config.services[0], mtu).evidence;
        config.services[0].mode = Mode::DsrL2;
        assert_eq!(told(&config, Some(1500)), "to know: dsr-l2, so each backend must hold 192.0.2.10");
        config.services[0].mode = Mode::DsrIpip;
        let text = |mtu, left| {
            format!(
                "to know: dsr-ipip, so each backend must hold 192.0.2.10; of an MTU of {mtu} the outer header leaves {left} \
                 bytes, and larger packets of clients are dropped"
            )
        };
        assert_eq!(told(&config, Some(1500)), text(1500, 1480));
        let backend = config.services[0].members[0].backend.clone();
        let backend = config.backends.get_mut(&backend).unwrap();
        (backend.ipv4, backend.ipv6) = (None, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(told(&config, Some(9000)), text(9000, 8960));
        assert_eq!(told(&config, None), "to know: dsr-ipip, so each backend must hold 192.0.2.10");
    }
}
