use super::*;
use crate::config;

fn parse(services: &str) -> Config {
    let backends =
        ["a", "b", "c"].map(|n| format!("[[backend]]\nname = \"{n}\"\nipv4 = \"10.0.0.{}\"\n", n.as_bytes()[0]));
    let head = "edge.interfaces = [\"eth0\"]\nsource_pool.ipv4 = [\"192.0.2.2\"]\n";
    let text = format!("{head}{}{services}", backends.concat());
    config::parse(&text, std::path::Path::new("test.toml")).unwrap()
}

fn service(name: &str, port: u16, members: &[&str]) -> String {
    let members: String = members.iter().map(|m| format!("[[service.member]]\nbackend = \"{m}\"\n")).collect();
    format!("[[service]]\nname = \"{name}\"\nvip = \"192.0.2.10\"\nport = {port}\n{members}")
}

/// What is missing, as `backend in service`.
fn lost(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (parse(old), parse(new));
    missing(&old, &new).into_iter().map(|(scope, _)| scope.to_string()).collect()
}

#[test]
fn member_that_vanishes_while_its_service_goes_on_is_missing() {
    let (before, after) = (service("web", 80, &["a", "b"]), service("web", 80, &["a"]));
    assert_eq!(lost(&before, &after), ["b in web"]);
    assert!(lost(&after, &before).is_empty());
}

#[test]
fn member_is_missing_under_the_services_new_name_too() {
    let after = service("www", 80, &["a"]);
    assert_eq!(lost(&service("web", 80, &["a", "b"]), &after), ["b in www"]);
}

#[test]
fn member_of_a_service_that_moved_is_not_missing_if_it_moved_along() {
    let before = service("web", 80, &["a", "b"]);
    assert!(lost(&before, &service("web", 8080, &["b", "a"])).is_empty());
    assert!(lost(&before, &service("www", 80, &["b", "a"])).is_empty());
}

#[test]
fn server_whose_only_service_went_is_missing_everywhere_once() {
    let both = service("web", 80, &["a"]) + &service("api", 81, &["b", "c"]) + &service("more", 82, &["b"]);
    assert_eq!(lost(&both, &service("web", 80, &["a"])), ["b", "c"]);
}

#[test]
fn server_whose_service_went_but_that_serves_elsewhere_is_not_missing() {
    let both = service("web", 80, &["a", "b"]) + &service("api", 81, &["b"]);
    assert!(lost(&both, &service("web", 80, &["a", "b"])).is_empty());
}
