//! What the guest reported, and whether that is what it must.
//!
//! A fact that is missing fails like a wrong one: a guest that dies half-way must not pass.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::payload::Payload;

/// Checks the facts and returns the lines worth printing.
pub fn judge(facts: &str, release: &str, payloads: &[Payload]) -> Result<Vec<String>> {
    let facts = parse(facts)?;
    let find = |kind: &str, key: &str, value: &str| {
        facts
            .iter()
            .find(|fact| fact["fact"] == kind && fact[key] == value)
            .with_context(|| format!("the guest reported no `{kind}` with {key} = {value}"))
    };
    for payload in payloads {
        let code = &find("exit", "payload", payload.name)?["code"];
        ensure!(code == 0, "payload `{}` ended with exit code {code}", payload.name);
    }
    find("kernel", "release", release)?;
    let programs: Vec<&Value> = facts.iter().filter(|fact| fact["fact"] == "program").collect();
    ensure!(!programs.is_empty(), "the guest loaded no program");
    let mut lines = Vec::new();
    for program in programs {
        let name = program["name"].as_str().context("a program without a name")?;
        match program["verified_insns"].as_u64() {
            Some(count) => lines.push(format!("{name}: {count} instructions verified")),
            None => lines.push(format!("{name}: loaded (this kernel keeps no count of verified instructions)")),
        }
    }
    for fact in facts.iter().filter(|fact| fact["fact"] == "check") {
        let name = fact["name"].as_str().context("a check without a name")?;
        ensure!(fact["ok"] == true, "check `{name}` failed: {}", fact["detail"]);
        lines.push(format!("{name}: {}", fact["detail"].as_str().unwrap_or_default()));
    }
    Ok(lines)
}

fn parse(facts: &str) -> Result<Vec<Value>> {
    let lines = facts.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("not a fact: {line:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const GOOD: &str = r#"{"fact":"kernel","release":"6.1.0-56-cloud-amd64"}
{"fact":"program","name":"lb","verified_insns":4711}
{"fact":"check","name":"arp","ok":true,"detail":"passed"}
{"fact":"exit","payload":"guest","code":0}
"#;

    fn judge_of(facts: &str) -> Result<Vec<String>> {
        let guest = Payload { name: "guest", executable: PathBuf::new(), args: &[] };
        judge(facts, "6.1.0-56-cloud-amd64", &[guest])
    }

    #[test]
    fn judge_of_good_facts_tells_the_counts() {
        let lines = judge_of(GOOD).expect("all is well");
        assert_eq!(lines, ["lb: 4711 instructions verified", "arp: passed"]);
    }

    #[test]
    fn judge_of_any_missing_required_line_fails() {
        for missing in ["kernel", "program", "exit"] {
            let kept: Vec<&str> =
                GOOD.lines().filter(|line| !line.starts_with(&format!(r#"{{"fact":"{missing}""#))).collect();
            assert!(judge_of(&kept.join("\n")).is_err(), "without `{missing}`");
        }
        assert!(judge_of("").is_err());
    }

    #[test]
    fn judge_of_wrong_facts_fails() {
        assert!(judge_of(&GOOD.replace("\"code\":0", "\"code\":101")).is_err());
        assert!(judge_of(&GOOD.replace("\"ok\":true", "\"ok\":false")).is_err());
        assert!(judge_of(&GOOD.replace("6.1.0-56", "6.1.0-50")).is_err(), "another kernel was booted");
        assert!(judge_of(&GOOD.replace("{\"fact\":\"check\"", "{\"fact\":\"che")).is_err(), "a cut line");
    }
}
