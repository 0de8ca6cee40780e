//! Tests of the configuration as a whole: text in, configuration or exact errors out.

mod docs;
mod edits;
mod golden;
mod meaning;
mod properties;

use std::path::Path;

use super::model::Config;

/// A small file that holds every rule. Golden tests break one thing in it at a time.
const GOOD: &str = r#"# The edge in rack 4.
[edge]
interfaces = ["eth0"]

[source_pool]
ipv4 = ["192.0.2.2"]
ipv6 = ["2001:db8::2"]

# Servers.
[[backend]]
name = "s1" # the old one
ipv4 = "192.0.2.11"
ipv6 = "2001:db8::11"

[[backend]]
name = "s2"
ipv4 = "192.0.2.12"

# Services.
[[service]]
name = "web"
vip = "192.0.2.80"
port = 80

# Members of web.
[[service.member]]
backend = "s1"

[[service.member]]
backend = "s2"
port = 8080
weight = 3 # a big one

[[service]]
name = "web6"
vip = "2001:db8::80"
port = 80

[service.probe]
type = "http"

[[service.member]]
backend = "s1"
# The end.
"#;

fn parse(text: &str) -> Result<Config, String> {
    super::parse(text, Path::new("r.toml")).map_err(|errors| errors.to_string())
}
