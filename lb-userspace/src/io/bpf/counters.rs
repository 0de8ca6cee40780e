//! Reading the counters. The program keeps them per CPU; here they are summed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aya::Pod;
use aya::maps::{MapData, PerCpuArray};
use lb_common::abi::{MAX_SERVICES, MemberStats, Reason, Traffic, TrafficSlot};

use super::error::BpfError;
use super::types::{Counters, MemberCounters};
use super::{DataPlane, batch};

impl DataPlane {
    /// All counters: verdicts, members in use, drops of existing services. The CPUs go on counting meanwhile, so figures
    /// of one call may differ by the packets of its moment.
    pub fn counters(&self) -> Result<Counters, BpfError> {
        let mut verdicts = BTreeMap::new();
        for &reason in Reason::ALL {
            let per_cpu = per_cpu(&self.maps.verdicts, reason as u32, "VERDICTS")?;
            verdicts.insert(reason, per_cpu.iter().fold(0, |sum: u64, n| sum.wrapping_add(*n)));
        }
        let mut members = BTreeMap::new();
        for (id, _) in self.members()? {
            members.insert(id, self.member_counters(id)?);
        }
        Ok(Counters { verdicts, members, drops: self.drops()? })
    }

    fn member_counters(&self, id: u32) -> Result<MemberCounters, BpfError> {
        let traffic = |slot| Ok(sum_traffic(&per_cpu(&self.maps.traffic, slot, "TRAFFIC")?));
        Ok(MemberCounters {
            forward: traffic(TrafficSlot::forward(id))?,
            reverse: traffic(TrafficSlot::reverse(id))?,
            compared: (self.maps.active.get(&id, 0))
                .map_err(|e| BpfError::kernel(format!("cannot read ACTIVE[{id}]"), &e))?,
            stats: sum_stats(&per_cpu(&self.maps.member_stats, id, "MEMBER_STATS")?),
        })
    }

    fn drops(&self) -> Result<BTreeMap<u32, BTreeMap<Reason, u64>>, BpfError> {
        let mut ids = Vec::new();
        batch::for_each(&self.maps.services, |_, info| {
            ids.push(info.id);
            ControlFlow::Continue(())
        })?;
        let mut drops = BTreeMap::new();
        for id in ids.into_iter().filter(|&id| id < MAX_SERVICES) {
            let per_cpu = per_cpu(&self.maps.service_stats, id, "SERVICE_STATS")?;
            let by_reason: BTreeMap<Reason, u64> = Reason::ALL
                .iter()
                .map(|&r| (r, per_cpu.iter().fold(0, |sum: u64, s| sum.wrapping_add(s.drops[r as usize]))))
                .filter(|&(_, n)| n > 0)
                .collect();
            if !by_reason.is_empty() {
                drops.insert(id, by_reason);
            }
        }
        Ok(drops)
    }
}

fn per_cpu<V: Pod>(map: &PerCpuArray<MapData, V>, index: u32, name: &str) -> Result<Vec<V>, BpfError> {
    let values = map.get(&index, 0).map_err(|e| BpfError::kernel(format!("cannot read {name}[{index}]"), &e))?;
    Ok(values.to_vec())
}

fn sum_traffic(per_cpu: &[Traffic]) -> Traffic {
    per_cpu.iter().fold(Traffic::default(), |sum, t| Traffic {
        packets: sum.packets.wrapping_add(t.packets),
        bytes: sum.bytes.wrapping_add(t.bytes),
    })
}

fn sum_stats(per_cpu: &[MemberStats]) -> MemberStats {
    let mut sum = MemberStats::default();
    for one in per_cpu {
        // Spelled out, so that a new counter cannot be forgotten.
        let MemberStats {
            opened,
            closed,
            established,
            overwritten,
            unanswered,
            syn_retransmits,
            resets_client,
            resets_backend,
            answers,
            answer_ns,
            ports_exhausted,
            moved_away,
            moved_to,
            reserved: _,
        } = *one;
        for (total, n) in [
            (&mut sum.opened, opened),
            (&mut sum.closed, closed),
            (&mut sum.established, established),
            (&mut sum.overwritten, overwritten),
            (&mut sum.unanswered, unanswered),
            (&mut sum.syn_retransmits, syn_retransmits),
            (&mut sum.resets_client, resets_client),
            (&mut sum.resets_backend, resets_backend),
            (&mut sum.answers, answers),
            (&mut sum.answer_ns, answer_ns),
            (&mut sum.ports_exhausted, ports_exhausted),
            (&mut sum.moved_away, moved_away),
            (&mut sum.moved_to, moved_to),
        ] {
            *total = total.wrapping_add(n);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_every_counter_over_the_cpus() {
        let one = MemberStats {
            opened: 1,
            closed: 2,
            established: 3,
            overwritten: 4,
            unanswered: 5,
            syn_retransmits: 6,
            resets_client: 7,
            resets_backend: 8,
            answers: 9,
            answer_ns: 10,
            ports_exhausted: 11,
            moved_away: 12,
            moved_to: 13,
            reserved: [0; 3],
        };
        let sum = sum_stats(&[one, MemberStats { opened: 5, ..one }]);
        let doubled = MemberStats {
            opened: 6,
            closed: 4,
            established: 6,
            overwritten: 8,
            unanswered: 10,
            syn_retransmits: 12,
            resets_client: 14,
            resets_backend: 16,
            answers: 18,
            answer_ns: 20,
            ports_exhausted: 22,
            moved_away: 24,
            moved_to: 26,
            reserved: [0; 3],
        };
        assert_eq!(sum, doubled);
        let traffic = [Traffic { packets: 2, bytes: 90 }, Traffic { packets: 3, bytes: 10 }];
        assert_eq!(sum_traffic(&traffic), Traffic { packets: 5, bytes: 100 });
    }
}
