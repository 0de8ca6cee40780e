//! Next hops: by the daemon's picture, or where there is no daemon by asking the kernel as one would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::facts::Facts;
use super::{bad, ok};
use crate::config::model::Config;
use crate::control::schema::{Check, CheckResult, Status};
use crate::io::net::{self, NetEvent};

/// How long the network may take to answer. The kernel itself gives up on a silent neighbour after three seconds.
const PATIENCE: Duration = Duration::from_secs(5);

const NAME: &str = "next hops";
const WHY: &str = "without a next hop's MAC address no frame can be sent";
const MEND: &str =
    "ip route get ADDRESS; is the route there, does it leave by one of edge.interfaces, does the neighbour answer?";

/// By the members' addresses: found, or why not.
pub(super) type Hops = BTreeMap<IpAddr, Result<(), String>>;

/// Looks for the way to every member, as the daemon does. What has not answered in time has not answered. An error says
/// why nothing could be looked for.
pub(super) async fn ask(config: &Config) -> Result<Hops, String> {
    let wanted = addresses(config);
    let (sender, mut events) = mpsc::channel(64);
    let net = net::spawn(config.edge.interfaces.clone(), sender).map_err(|e| e.to_string())?;
    net.resolve(wanted.iter().copied().collect());
    let mut hops = Hops::new();
    let answers = async {
        while hops.len() < wanted.len() {
            match events.recv().await {
                Some(NetEvent::NextHop(address, hop)) => {
                    hops.insert(address, hop.map(drop));
                }
                Some(_) => {}
                None => return,
            }
        }
    };
    let late = tokio::time::timeout(PATIENCE, answers).await.is_err();
    let silence =
        if late { format!("no answer within {} s", PATIENCE.as_secs()) } else { "it was not looked for".into() };
    for address in wanted {
        hops.entry(address).or_insert_with(|| Err(silence.clone()));
    }
    Ok(hops)
}

fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    let members = config.services.iter().flat_map(|s| s.members.iter().map(move |m| (s, m)));
    members.filter_map(|(s, m)| s.address_of(config.backends.get(&m.backend)?)).collect()
}

pub(super) fn checks(facts: &Facts) -> Option<Check> {
    match (&facts.status, &facts.hops) {
        (Some(status), _) => Some(by_daemon(status)),
        (None, Some(Ok(hops))) => Some(by_kernel(hops)),
        (None, Some(Err(e))) => Some(bad(
            CheckResult::Warn,
            NAME,
            format!("cannot be looked for: {e}"),
            WHY,
            "mend what fails above, then run doctor again",
        )),
        (None, None) => None,
    }
}

fn by_daemon(status: &Status) -> Check {
    let members = status.services.iter().flat_map(|s| s.backends.iter());
    let mut lost: Vec<_> =
        members.filter(|b| b.next_hop.is_none()).map(|b| format!("{} ({})", b.backend, b.address)).collect();
    lost.sort_unstable();
    lost.dedup();
    judge(&lost)
}

fn by_kernel(hops: &Hops) -> Check {
    let lost = hops.iter().filter_map(|(address, hop)| Some(format!("{address}: {}", hop.as_ref().err()?)));
    judge(&lost.collect::<Vec<_>>())
}

fn judge(lost: &[String]) -> Check {
    if lost.is_empty() {
        return ok(NAME, "all backends' are resolved");
    }
    bad(CheckResult::Fail, NAME, format!("unresolved: {}", lost.join(", ")), WHY, MEND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn daemons_missing_next_hops_are_named() {
        let check = by_daemon(&Status::new(&testing::view(), &testing::counters()));
        assert_eq!(check.result, CheckResult::Fail);
        assert_eq!(check.evidence, "unresolved: web-03 (10.0.0.3)");
    }

    #[test]
    fn kernels_missing_next_hops_are_named_with_the_reason() {
        let [found, lost] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let check = by_kernel(&[(found, Ok(())), (lost, Err("no answer to ARP".to_owned()))].into());
        assert_eq!(check.result, CheckResult::Fail);
        assert_eq!(check.evidence, "unresolved: 10.0.0.2: no answer to ARP");
        assert_eq!(by_kernel(&[(found, Ok(()))].into()).result, CheckResult::Ok);
    }

    #[test]
    fn addresses_asked_for_are_those_of_members_in_the_services_family() {
        let mut config = testing::config();
        let six = "2001:db8::1".parse().unwrap();
        config.backends.values_mut().for_each(|b| b.ipv6 = Some(six));
        let four: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(addresses(&config).into_iter().collect::<Vec<_>>(), four);
        config.services[1].listen.vip = "2001:db8::80".parse().unwrap();
        assert!(addresses(&config).contains(&six.into()));
    }
}
