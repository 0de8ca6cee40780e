//! What good files mean: defaults, optional forms, differences, lints.

use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;

use super::super::memory::{AgentCheck, MemoryKind, MemorySource};
use super::super::model::{AlertTarget, Algorithm, ConfigOwner, Panic, ProbeKind, Protocol, Severity, Tier};
use super::super::{ConfigError, diff, lint, load, sha256};
use super::{GOOD, parse};

#[test]
fn empty_file_is_valid_and_attaches_nothing() {
    let config = parse("").unwrap();
    assert!(config.services.is_empty() && config.backends.is_empty() && config.edge.interfaces.is_empty());
    assert_eq!(config.owner, ConfigOwner::Cli);
    assert_eq!(config.control.socket, PathBuf::from("/run/rollcall/control.sock"));
    assert_eq!(config.conntrack.tcp_timeout, Duration::from_secs(7440));
    assert_eq!(config.source_pool.ports, 1024..=65535);
}

#[test]
fn service_without_optional_keys_gets_the_documented_defaults() {
    let config = parse(GOOD).unwrap();
    let web = &config.services[0];
    assert_eq!((web.algorithm, web.table_size, web.one_way), (Algorithm::Maglev, 16381, false));
    assert_eq!((web.listen.protocol, web.expected_out), (Protocol::Tcp, Duration::from_secs(600)));
    let probe = web.probe.as_ref().unwrap();
    assert_eq!(probe.kind, ProbeKind::Tcp);
    assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((probe.rise, probe.fall, probe.port), (2, 3, None));
    let members: Vec<_> = web.members.iter().map(|m| (m.backend.as_str(), m.port.get(), m.weight.get())).collect();
    assert_eq!(members, [("s1", 80, 1), ("s2", 8080, 3)]);
}

#[test]
fn memory_without_optional_keys_is_asked_at_the_backends_address_and_the_sources_port() {
    let backend = |table: &str| {
        let text = GOOD.replace("ipv4 = \"192.0.2.12\"", &format!("ipv4 = \"192.0.2.12\"\n{table}"));
        parse(&text).unwrap().backends.into_values().find(|b| b.name.as_str() == "s2").unwrap()
    };
    let source = |kind, to: &str, s| MemorySource { kind, to: to.parse().unwrap(), interval: Duration::from_secs(s) };
    assert_eq!(backend("").memory, None);
    assert_eq!(
        backend("memory = { source = \"agent\" }").memory,
        Some(source(MemoryKind::Agent { token_file: None }, "192.0.2.12:9465", 5))
    );
    assert_eq!(
        backend("[backend.memory]\nsource = \"node-exporter\"\naddress = \"2001:db8::1\"\ninterval = \"10s\"").memory,
        Some(source(MemoryKind::NodeExporter, "[2001:db8::1]:9100", 10))
    );
    assert_eq!(
        backend("[backend.memory]\nsource = \"agent\"\nport = 81\ntoken_file = \"/t\"").memory,
        Some(source(MemoryKind::Agent { token_file: Some("/t".into()) }, "192.0.2.12:81", 5))
    );
    assert_eq!(
        backend("agent_check = { port = 9777 }").agent_check,
        Some(AgentCheck { to: "192.0.2.12:9777".parse().unwrap(), interval: Duration::from_secs(5) })
    );
}

#[test]
fn tiers_panic_and_slow_start_are_as_written_else_as_documented() {
    let web = parse(GOOD).unwrap().services.swap_remove(0);
    assert_eq!((web.panic, web.slow_start, web.members[1].tier), (Panic::Refuse, None, Tier::Primary));
    let text = GOOD
        .replace("weight = 3", "tier = \"backup\"\nweight = 3")
        .replacen("port = 80\n", "port = 80\npanic = \"all\"\nslow_start = \"30s\"\n", 1)
        .replace("ipv4 = \"192.0.2.12\"", "ipv4 = \"192.0.2.12\"\nslow_start = \"1m\"");
    let config = parse(&text).unwrap();
    let web = &config.services[0];
    assert_eq!((web.panic, web.slow_start), (Panic::All, Some(Duration::from_secs(30))));
    let tiers: Vec<_> = web.members.iter().map(|m| m.tier).collect();
    assert_eq!(tiers, [Tier::Primary, Tier::Backup]);
    let starts: Vec<_> = config.backends.values().map(|b| b.slow_start).collect();
    assert_eq!(starts, [None, Some(Duration::from_secs(60))]);
}

#[test]
fn mode_says_which_addresses_are_needed() {
    let pool = "ipv4 = [\"192.0.2.2\"]\nipv6 = [\"2001:db8::2\"]\n";
    let direct = |mode: &str, pool_then: &str| {
        let mode = format!("port = 80\nmode = \"{mode}\"\n");
        parse(&GOOD.replace("port = 80\n", &mode).replace("port = 8080\n", "").replace(pool, pool_then))
    };
    let config = direct("dsr-l2", "").unwrap();
    assert_eq!(config.services.iter().map(|s| s.mode.name()).collect::<Vec<_>>(), ["dsr-l2"; 2]);
    let error = direct("dsr-ipip", "").unwrap_err();
    assert!(error.contains("there is no IPv4 source address") && error.contains("no IPv6 source address"), "{error}");
    let mut config = direct("dsr-ipip", pool).unwrap();
    let reached = |config: &crate::config::model::Config| {
        let web = &config.services[0];
        web.members
            .iter()
            .map(|m| web.address_of(&config.backends[&m.backend]).unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(reached(&config), ["192.0.2.11", "192.0.2.12"]);
    let text = GOOD.replace("port = 80\n", "port = 80\nmode = \"dsr-ipip\"\n").replace("port = 8080\n", "");
    config = parse(&text.replace("ipv4 = \"192.0.2.12\"", "ipv6 = \"2001:db8::12\"")).unwrap();
    assert_eq!(reached(&config), ["192.0.2.11", "2001:db8::12"], "IPv4 in IPv6");
    assert!(direct("nat", "").is_err());
}

#[test]
fn dsr_by_turns_is_linted() {
    let lines = |algorithm: &str| {
        let text =
            GOOD.replacen("port = 80\n", &format!("port = 80\nmode = \"dsr-l2\"\nalgorithm = {algorithm:?}\n"), 1);
        let config = parse(&text.replace("port = 8080\n", "")).unwrap();
        lint(&config).into_iter().filter(|line| line.contains("dsr-l2")).collect::<Vec<_>>()
    };
    assert_eq!(lines("maglev"), [""; 0]);
    assert_eq!(
        lines("round-robin"),
        [
            "service web: with mode dsr-l2 a connection that the edge had to forget is reset under round-robin, and found again \
          under maglev; consider algorithm = \"maglev\""
        ]
    );
}

#[test]
fn probe_with_a_short_interval_gets_a_timeout_as_short() {
    let text = GOOD.replace("type = \"http\"", "type = \"http\"\ninterval = \"300ms\"");
    let probe = parse(&text).unwrap().services[1].probe.clone().unwrap();
    assert_eq!(probe.timeout, Duration::from_millis(300));
}

#[rstest]
#[case("204", vec![204..=204])]
#[case("\"200-399\"", vec![200..=399])]
#[case("[200, \"301-302\"]", vec![200..=200, 301..=302])]
fn probe_status_in_each_form_is_a_list_of_ranges(
    #[case] status: &str,
    #[case] wanted: Vec<std::ops::RangeInclusive<u16>>,
) {
    let text = GOOD.replace("type = \"http\"", &format!("type = \"http\"\nstatus = {status}"));
    let probe = parse(&text).unwrap().services[1].probe.clone().unwrap();
    let ProbeKind::Http(http) = probe.kind else { panic!("an HTTP probe") };
    assert_eq!(http.status, wanted);
}

#[test]
fn udp_service_with_probe_none_is_valid_and_linted() {
    let text = GOOD.replace(
        "port = 80\n\n[service.probe]\ntype = \"http\"",
        "port = 53\nprotocol = \"udp\"\nprobe = { type = \"none\" }",
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.services[1].probe, None);
    assert_eq!(
        lint(&config),
        [
            "service web6: not probed, so a dead member keeps its flows; consider a tcp or http probe",
            "no alert_route: when something is wrong, nobody is told; add one, and try it with `rollcall alert test`",
        ]
    );
}

#[test]
fn load_of_a_file_keeps_its_text_and_hash() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), GOOD).unwrap();
    let loaded = load(file.path()).unwrap();
    assert_eq!((loaded.text.as_str(), loaded.config), (GOOD, parse(GOOD).unwrap()));
    assert_eq!(loaded.sha256, sha256(GOOD));
    assert_eq!(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn load_of_what_is_no_text_says_where_and_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"# \xff").unwrap();
    let error = load(file.path()).unwrap_err();
    assert!(matches!(error, ConfigError::NotUtf8 { offset: 2, .. }));
    std::fs::remove_file(file.path()).unwrap();
    let error = load(file.path()).unwrap_err();
    assert!(matches!(&error, ConfigError::Read { .. }) && error.to_string().contains("see that the file exists"));
}

#[rstest]
#[case("weight = 3", "weight = 4", "service web: member s2: weight 3 -> 4")]
#[case("weight = 3", "weight = 3\ntier = \"backup\"", "service web: member s2: tier primary -> backup")]
#[case("port = 80\n\n# Members", "port = 80\npanic = \"all\"\n\n# Members", "service web: panic refuse -> all")]
#[case(
    "port = 80\n\n# Members",
    "port = 80\nslow_start = \"30s\"\n\n# Members",
    "service web: slow_start unset -> 30s"
)]
#[case("ipv4 = \"192.0.2.12\"", "ipv4 = \"192.0.2.12\"\nslow_start = \"1m\"", "backend s2: slow_start unset -> 1m")]
#[case("ipv4 = \"192.0.2.12\"", "ipv4 = \"192.0.2.13\"", "backend s2: ipv4 192.0.2.12 -> 192.0.2.13")]
#[case(
    "port = 80\n\n# M",
    "port = 81\n\n# M",
    "service web: 192.0.2.80:80/tcp -> 192.0.2.80:81/tcp|service web: member s1: port 80 -> 81"
)]
#[case("\n# Members of web.\n[[service.member]]\nbackend = \"s1\"\n", "", "service web: member s1 removed")]
#[case(
    "ipv4 = \"192.0.2.12\"",
    "ipv4 = \"192.0.2.12\"\nmemory = { source = \"agent\" }",
    "backend s2: memory unset -> agent at 192.0.2.12:9465"
)]
#[case(
    "ipv4 = \"192.0.2.12\"",
    "ipv4 = \"192.0.2.12\"\nagent_check = { port = 9777 }",
    "backend s2: agent_check unset -> 192.0.2.12:9777 every 5s"
)]
#[case("ipv4 = \"192.0.2.12\"", "ipv4 = \"192.0.2.12\"\nmax_flows = 500", "backend s2: max_flows unset -> 500")]
#[case("[edge]", "[conntrack]\ntcp_timeout = \"1h\"\n[edge]", "conntrack.tcp_timeout 2h4m -> 1h")]
#[case(
    "[edge]",
    "[heartbeat]\nurl = \"https://hc.example/1\"\n[edge]",
    "heartbeat.url unset -> \"https://hc.example/1\""
)]
#[case("[edge]", "[control]\nmetrics = \"127.0.0.1:9464\"\n[edge]", "control.metrics unset -> 127.0.0.1:9464")]
#[case(
    "port = 80\n\n# M",
    "port = 80\nalgorithm = \"round-robin\"\n\n# M",
    "service web: algorithm maglev -> round-robin"
)]
#[case("vip = \"2001:db8::80\"", "vip = \"2001:db8::80\"\nmode = \"dsr-ipip\"", "service web6: mode nat -> dsr-ipip")]
fn describe_of_one_change_is_one_line_in_words(#[case] old: &str, #[case] new: &str, #[case] wanted: &str) {
    let changed = GOOD.replacen(old, new, 1);
    assert_ne!(changed, GOOD);
    let lines = diff::describe(&parse(GOOD).unwrap(), &parse(&changed).unwrap());
    assert_eq!(lines.join("|"), wanted);
}

#[test]
fn describe_of_members_in_another_order_says_so() {
    let config = parse(GOOD).unwrap();
    let mut other = config.clone();
    other.services[0].members.reverse();
    assert_eq!(diff::describe(&config, &other), ["service web: members in another order"]);
    other.services.reverse();
    assert_eq!(diff::describe(&config, &other), ["service web: members in another order", "services in another order"]);
}

#[test]
fn table_with_fewer_than_a_thousand_slots_for_each_member_is_linted() {
    let lines = |size: &str| {
        let text = GOOD.replacen("port = 80", &format!("port = 80\n{size}"), 1);
        lint(&parse(&text).unwrap()).into_iter().filter(|line| line.contains("slots")).collect::<Vec<_>>()
    };
    assert_eq!(lines("table_size = 2003"), [""; 0]);
    assert_eq!(
        lines("table_size = 1999"),
        [
            "service web: 2 members share 1999 slots, fewer than 1000 each, so their shares are uneven; set table_size = 2003 \
          or more, which is fixed for the life of the service"
        ]
    );
    assert_eq!(lines("table_size = 1999\nalgorithm = \"round-robin\""), [""; 0]);
}

#[test]
fn needs_recreate_names_sizes_seed_and_a_maglev_table() {
    let old = parse(GOOD).unwrap();
    let text = GOOD.replace("[edge]", "[conntrack]\nmax_flows = 1000\nseed = 7\n[edge]").replacen(
        "port = 80",
        "port = 80\ntable_size = 1009",
        1,
    );
    assert_eq!(
        diff::needs_recreate(&old, &parse(&text).unwrap()),
        [
            "conntrack.max_flows 131072 -> 1000: sized or chosen when the maps are created",
            "conntrack.seed unset -> 7: sized or chosen when the maps are created",
            "service.web.table_size 16381 -> 1009: fixed for the life of the service, since another size moves most flows",
        ]
    );
    assert_eq!(diff::needs_recreate(&old, &old), [""; 0]);
}

#[test]
fn needs_restart_names_paths_and_listeners_only() {
    let old = parse(GOOD).unwrap();
    let text = GOOD.replace("[edge]", "[control]\nsocket = \"/tmp/s\"\n[edge]").replace("weight = 3", "weight = 4");
    assert_eq!(
        diff::needs_restart(&old, &parse(&text).unwrap()),
        ["control.socket \"/run/rollcall/control.sock\" -> \"/tmp/s\""]
    );
}

#[test]
fn alert_routes_have_defaults_and_targets_taken_apart() {
    let text = format!(
        "{GOOD}\n[[alert_route]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"https://[2001:db8::1]/a?b\"\n\
         [[alert_route]]\nname = \"cmd\"\ntype = \"command\"\ncommand = [\"/bin/true\"]\nafter = \"15m\"\n\
         [alert_route.labels]\nsite = \"fra1\"\n"
    );
    let config = parse(&text).unwrap();
    let [hook, command] = &config.alert_routes[..] else { panic!("two routes") };
    let AlertTarget::Webhook(url) = &hook.target else { panic!("a webhook") };
    assert_eq!((url.to_string().as_str(), url.path.as_str()), ("https://[2001:db8::1]", "/a?b"));
    assert_eq!((hook.severity, hook.after, hook.repeat.as_secs()), (Severity::Warning, Duration::ZERO, 4 * 3600));
    let AlertTarget::Command { user, .. } = &command.target else { panic!("a command") };
    assert_eq!((user.as_str(), command.after.as_secs(), command.labels["site"].as_str()), ("nobody", 900, "fra1"));
    assert!(lint(&config).iter().all(|line| !line.contains("alert_route")));
    let described = diff::describe(&parse(GOOD).unwrap(), &config);
    assert_eq!(described, ["alert route hook added (webhook)", "alert route cmd added (command)"]);
}
