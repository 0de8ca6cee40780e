//! What is known of servers as a whole, whatever service they are in: memory, leases, removals.

use super::flag;
use super::text::{Kind, Text};
use crate::control::daemon::View;
use crate::core::memory::tracker::Memory;

pub(super) fn render(text: &mut Text, view: &View) {
    memory(text, view);
    let mut ends = text.family(
        Kind::Gauge,
        "rollcall_lease_end_seconds",
        "When the lease ends, Unix time; service is empty for all.",
    );
    for lease in &view.roll_call.leases {
        let service = lease.scope.service.as_ref().map_or("", |s| s.as_str());
        let labels = [("backend", lease.scope.backend.as_str()), ("service", service), ("kind", lease.kind.name())];
        ends.sample(&labels, lease.ends.wall_ms as f64 / 1000.0);
    }
    text.family(
        Kind::Gauge,
        "rollcall_removed_backends",
        "Backends that left the configuration and were neither brought back nor let go.",
    )
    .sample(&[], view.roll_call.removed.len() as f64);
}

fn memory(text: &mut Text, view: &View) {
    let mut headroom = text.family(
        Kind::Gauge,
        "rollcall_server_headroom_ratio",
        "Available memory as a share of all; absent if unknown.",
    );
    for call in &view.roll_call.memory {
        if let Some(ratio) = call.headroom {
            headroom.sample(&[("backend", call.backend.as_str())], ratio);
        }
    }
    let mut state =
        text.family(Kind::Gauge, "rollcall_server_memory", "1 for the state of memory that holds, 0 for the others.");
    for call in &view.roll_call.memory {
        for name in Memory::MONITORED {
            state.sample(&[("backend", call.backend.as_str()), ("state", name)], flag(call.memory.name() == name));
        }
    }
    let mut ends =
        text.family(Kind::Gauge, "rollcall_server_memory_ending", "1 while it is foretold that the memory ends soon.");
    for call in &view.roll_call.memory {
        ends.sample(&[("backend", call.backend.as_str())], flag(call.ends.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;
    use crate::core::api::MemoryCall;
    use crate::core::memory::forecast::Forecast;

    #[test]
    fn render_shows_memory_and_the_end_of_leases() {
        let mut view = testing::view();
        let lease = testing::lease();
        let call = |backend: &str, memory, headroom| MemoryCall {
            backend: backend.to_owned().try_into().unwrap(),
            memory,
            since: testing::NOW,
            headroom,
            sample: None,
            forecast: Forecast::CannotTell,
            ends: None,
        };
        let silent = Memory::Unknown { since: testing::NOW, why: "refused".to_owned() };
        view.roll_call.memory = vec![call("web-01", Memory::Tight, Some(0.125)), call("web-02", silent, None)];
        view.roll_call.leases = vec![lease.clone()];
        let mut text = Text::default();
        render(&mut text, &view);
        let text = text.finish();
        let ends = format!(
            r#"rollcall_lease_end_seconds{{backend="{}",service="",kind="{}"}} {}"#,
            lease.scope.backend,
            lease.kind.name(),
            lease.ends.wall_ms as f64 / 1000.0
        );
        for line in [
            r#"rollcall_server_headroom_ratio{backend="web-01"} 0.125"#,
            r#"rollcall_server_memory{backend="web-01",state="tight"} 1"#,
            r#"rollcall_server_memory{backend="web-01",state="ample"} 0"#,
            r#"rollcall_server_memory{backend="web-02",state="unknown"} 1"#,
            r#"rollcall_server_memory_ending{backend="web-01"} 0"#,
            "rollcall_removed_backends 0",
            &ends,
        ] {
            assert!(text.lines().any(|l| l == line), "missing: {line}\n{text}");
        }
        assert!(!text.contains(r#"headroom_ratio{backend="web-02"}"#), "an unknown headroom has no sample\n{text}");
    }
}
