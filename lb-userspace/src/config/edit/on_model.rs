//! What an edit means, on the checked model. Rules of the configuration itself (families, addresses in two roles) are
//! left to the parser, which sees the edited text.

use std::net::IpAddr;

use super::super::defaults;
use super::super::model::{Backend, BackendName, Config, Member, Service, ServiceName, Tier};
use super::EditError;
use crate::control::daemon::Edit;

/// The configuration that the edit asks for.
pub(super) fn apply(config: &Config, edit: &Edit) -> Result<Config, EditError> {
    let mut config = config.clone();
    match edit {
        Edit::AddBackend { name, addresses, owner, services, port, weight } => {
            if services.is_empty() {
                return Err(EditError::NoServices(name.clone()));
            }
            let (ipv4, ipv6) = families(addresses)?;
            match config.backends.get(name) {
                Some(known) => matches(known, addresses, owner.as_deref())?,
                None if addresses.is_empty() => return Err(EditError::NoAddress(name.clone())),
                None => {
                    let backend = Backend {
                        name: name.clone(),
                        ipv4,
                        ipv6,
                        owner: owner.clone(),
                        memory: None,
                        max_flows: None,
                        agent_check: None,
                        slow_start: None,
                    };
                    config.backends.insert(name.clone(), backend);
                }
            }
            for (i, joined) in services.iter().enumerate() {
                if services[..i].contains(joined) {
                    return Err(EditError::ServiceTwice(joined.clone()));
                }
                let service = service(&mut config, joined)?;
                if service.members.iter().any(|member| member.backend == *name) {
                    return Err(EditError::AlreadyMember { backend: name.clone(), service: joined.clone() });
                }
                let port = port.unwrap_or(service.listen.port);
                let weight = weight.unwrap_or(defaults::WEIGHT);
                service.members.push(Member { backend: name.clone(), port, weight, tier: defaults::TIER });
            }
        }
        Edit::RemoveBackend { name, service: Some(from), .. } => {
            known(&config, name)?;
            let service = service(&mut config, from)?;
            if !service.members.iter().any(|member| member.backend == *name) {
                return Err(EditError::NotMember { backend: name.clone(), service: from.clone() });
            }
            leave(service, name)?;
        }
        Edit::RemoveBackend { name, service: None, .. } => {
            known(&config, name)?;
            for service in &mut config.services {
                leave(service, name)?;
            }
            config.backends.remove(name);
        }
        Edit::SetBackend { name, service: only, weight, port, owner, .. } => {
            known(&config, name)?;
            if weight.is_none() && port.is_none() && owner.is_none() {
                return Err(EditError::Nothing(name.clone()));
            }
            if let Some(only) = only {
                let service = service(&mut config, only)?;
                if !service.members.iter().any(|member| member.backend == *name) {
                    return Err(EditError::NotMember { backend: name.clone(), service: only.clone() });
                }
            }
            let wanted = |service: &Service| only.as_ref().is_none_or(|only| *only == service.name);
            let mut found = false;
            for service in config.services.iter_mut().filter(|service| wanted(service)) {
                for member in service.members.iter_mut().filter(|member| member.backend == *name) {
                    member.weight = weight.unwrap_or(member.weight);
                    member.port = port.unwrap_or(member.port);
                    found = true;
                }
            }
            if !found && (weight.is_some() || port.is_some()) {
                return Err(EditError::NoMembership(name.clone()));
            }
            if let (Some(owner), Some(backend)) = (owner, config.backends.get_mut(name)) {
                backend.owner = Some(owner.clone());
            }
        }
    }
    Ok(config)
}

fn families(addresses: &[IpAddr]) -> Result<(Option<std::net::Ipv4Addr>, Option<std::net::Ipv6Addr>), EditError> {
    let (mut ipv4, mut ipv6) = (None, None);
    for address in addresses {
        let earlier = match address {
            IpAddr::V4(v4) => ipv4.replace(*v4).map(IpAddr::V4),
            IpAddr::V6(v6) => ipv6.replace(*v6).map(IpAddr::V6),
        };
        if let Some(earlier) = earlier {
            return Err(EditError::SameFamily(earlier, *address));
        }
    }
    Ok((ipv4, ipv6))
}

/// What is said again of an existing backend must agree with it.
fn matches(backend: &Backend, addresses: &[IpAddr], owner: Option<&str>) -> Result<(), EditError> {
    if let Some(address) = addresses.iter().find(|address| backend.address_like(**address) != Some(**address)) {
        return Err(EditError::OtherAddress { backend: backend.name.clone(), address: *address });
    }
    if owner.is_some() && owner != backend.owner.as_deref() {
        return Err(EditError::OtherOwner(backend.name.clone()));
    }
    Ok(())
}

fn known(config: &Config, name: &BackendName) -> Result<(), EditError> {
    if config.backends.contains_key(name) { Ok(()) } else { Err(EditError::NoBackend(name.clone())) }
}

fn service<'c>(config: &'c mut Config, name: &ServiceName) -> Result<&'c mut Service, EditError> {
    config.services.iter_mut().find(|service| service.name == *name).ok_or_else(|| EditError::NoService(name.clone()))
}

fn leave(service: &mut Service, name: &BackendName) -> Result<(), EditError> {
    let (backend, of) = (name.clone(), service.name.clone());
    if service.members.len() == 1 && service.members[0].backend == *name {
        return Err(EditError::LastMember { backend, service: of });
    }
    service.members.retain(|member| member.backend != *name);
    if service.members.iter().all(|member| member.tier == Tier::Backup) {
        return Err(EditError::LastPrimary { backend, service: of });
    }
    Ok(())
}
