//! `cargo xtask test`: the tiers, by cargo-nextest where it is installed, else by `cargo test`.
//!
//! The numbers at the end are the runner's own, for `cargo test` those of its binaries added up.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::sys::{self, Root};
use crate::tally::Tally;
use crate::vm;
use crate::workspace;

/// The file that tests write skips to; the name is that of `lb_tests::skip::SKIPS`.
const SKIPS: &str = "ROLLCALL_TEST_SKIPS";

/// Tests that may be skipped, one a line.
const EXPECTED_SKIPS: &str = ".ci/expected-skips";

/// Options of `test`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Tiers to run; all if none is named
    #[arg(value_enum)]
    tiers: Vec<Tier>,
}

/// A tier. `vm` is the verb of that name with its defaults, `unit` all tests of no other tier, and each of the rest the
/// test target of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Tier {
    /// Wire formats, tables, configuration, command line: needs nothing
    Unit,
    /// The core under a virtual clock with faults: needs nothing
    Sim,
    /// The object against the oldest supported kernel, read from its bytes: needs nothing
    Floor,
    /// Packets through the real program by BPF_PROG_TEST_RUN
    Packet,
    /// Maps, pins and links of the real data plane
    Bpf,
    /// Links, neighbours and addresses by netlink
    Net,
    /// The real daemon: start, edits, crashes
    Daemon,
    /// Real traffic between namespaces
    Netns,
    /// Other kernels under QEMU; no test target, but `cargo xtask vm kernels`
    Vm,
}

impl Tier {
    const ALL: [Self; 9] =
        [Self::Unit, Self::Sim, Self::Floor, Self::Packet, Self::Bpf, Self::Net, Self::Daemon, Self::Netns, Self::Vm];

    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Sim => "sim",
            Self::Floor => "floor",
            Self::Packet => "packet",
            Self::Bpf => "bpf",
            Self::Net => "net",
            Self::Daemon => "daemon",
            Self::Netns => "netns",
            Self::Vm => "vm",
        }
    }

    /// Why it needs root, if it does.
    const fn root(self) -> Option<&'static str> {
        match self {
            Self::Unit | Self::Sim | Self::Floor | Self::Vm => None,
            Self::Packet => Some("it loads a BPF program"),
            Self::Bpf => Some("it loads BPF programs, pins maps and attaches to interfaces of its own namespaces"),
            Self::Net => Some("it makes network namespaces and changes addresses in them"),
            Self::Daemon | Self::Netns => Some("it makes network namespaces and attaches XDP programs inside them"),
        }
    }
}

/// A test target of the workspace.
struct Target {
    package: String,
    name: String,
}

/// Runs the tiers.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tiers = if arguments.tiers.is_empty() { Tier::ALL.to_vec() } else { arguments.tiers.clone() };
    setup::ensure()?;
    let root = Root::find();
    // The tests find the daemon beside themselves; they must not find yesterday's.
    workspace::build_programs()?;
    let targets = targets()?;
    let skips = std::env::temp_dir().join(format!("rollcall-skips-{}", std::process::id()));

    let mut passed = true;
    // First, so that the runner's own summary comes last.
    if tiers.contains(&Tier::Vm)
        && let Err(error) = vm::kernels(&vm::Kernels::default())
    {
        eprintln!("vm: {error:#}");
        passed = false;
    }
    let tiers: Vec<Tier> = tiers.into_iter().filter(|&tier| tier != Tier::Vm).collect();
    let (privileged, plain): (Vec<Tier>, Vec<Tier>) = tiers.iter().partition(|tier| tier.root().is_some());
    let groups = match root {
        // One run, one summary.
        Root::Own => vec![(tiers.clone(), false)],
        Root::Sudo => vec![(plain, false), (privileged.clone(), true)],
        Root::None => vec![(plain, false)],
    };
    let mut tally = None;
    for (tiers, sudo) in groups.into_iter().filter(|(tiers, _)| !tiers.is_empty()) {
        passed &= run_group(&tiers, sudo, &targets, &skips, &mut tally)?;
    }
    if root == Root::None && !privileged.is_empty() {
        passed = false;
        for tier in privileged {
            eprintln!("not run: {} needs root, because {}", tier.name(), tier.root().unwrap_or_default());
        }
        eprintln!("run this as root, or where `sudo -n` works");
    }
    passed &= report_skips(&skips);
    if let Some(tally) = tally {
        println!("{tally}");
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs tiers that need the same rights. Only `cargo test` needs its results added up, in `tally`.
fn run_group(tiers: &[Tier], sudo: bool, targets: &[Target], skips: &Path, tally: &mut Option<Tally>) -> Result<bool> {
    for tier in tiers.iter().filter(|&&tier| tier != Tier::Unit) {
        if !targets.iter().any(|target| target.name == tier.name()) {
            bail!("tier {} has no test target", tier.name());
        }
    }
    let has_nextest = sys::read(workspace::cargo().args(["nextest", "--version"])).is_some();
    let commands =
        if has_nextest { vec![nextest(tiers)] } else { tiers.iter().map(|&tier| cargo_test(tier, targets)).collect() };
    let mut passed = true;
    for mut command in commands {
        command.env(SKIPS, skips);
        if sudo {
            command.env(format!("CARGO_TARGET_{}_RUNNER", host_triple()?), "sudo -n -E");
        }
        passed &= if has_nextest {
            command.status().with_context(|| format!("cannot run {}", sys::line(&command)))?.success()
        } else {
            tally.get_or_insert_default().run(&mut command)?
        };
    }
    Ok(passed)
}

/// One run of all tiers; which tests exclude each other is said in `.config/nextest.toml`.
fn nextest(tiers: &[Tier]) -> Command {
    let filter: Vec<String> = tiers
        .iter()
        .map(|tier| match tier {
            Tier::Unit => {
                let others = Tier::ALL.iter().filter(|&&tier| tier != Tier::Unit);
                let names: Vec<_> = others.map(|tier| tier.name()).collect();
                // A pattern: unlike a name it may match nothing.
                format!("not (kind(test) & binary(/^({})$/))", names.join("|"))
            }
            tier => format!("(kind(test) & binary({}))", tier.name()),
        })
        .collect();
    let mut command = workspace::cargo();
    command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--filterset", &filter.join(" | ")]);
    command
}

fn cargo_test(tier: Tier, targets: &[Target]) -> Command {
    let is_tier = |target: &&Target| Tier::ALL.iter().any(|tier| tier.name() == target.name);
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]);
    if tier == Tier::Unit {
        command.args(["--workspace", "--lib", "--bins"]);
        for target in targets.iter().filter(|target| !is_tier(target)) {
            command.args(["--test", &target.name]);
        }
    } else {
        for target in targets.iter().filter(|target| target.name == tier.name()) {
            command.args(["--package", &target.package, "--test", &target.name]);
        }
        if tier.root().is_some() {
            // They share the machine: its CPUs, its time and its pins.
            command.args(["--", "--test-threads=1"]);
        }
    }
    command
}

fn targets() -> Result<Vec<Target>> {
    let metadata = workspace::metadata()?;
    let mut targets = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"][0] == "test" {
                let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                targets.push(Target { package: text(&package["name"]), name: text(&target["name"]) });
            }
        }
    }
    Ok(targets)
}

/// The host as cargo writes it in names of variables.
fn host_triple() -> Result<String> {
    let version = sys::read(Command::new("rustc").arg("-vV").current_dir(workspace::root())).unwrap_or_default();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_uppercase().replace('-', "_"))
}

/// A skip is a test that did not run: no success, unless CI's list expects it where these tests run.
fn report_skips(path: &Path) -> bool {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (skips, expected) = (read(path), read(&workspace::root().join(EXPECTED_SKIPS)));
    let _ = std::fs::remove_file(path);
    let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    let mut good = true;
    for skip in skips.lines() {
        let known = skip.split_once(": ").is_some_and(|(test, _)| expected.contains(&test));
        eprintln!("skipped{}: {skip}", if known { "" } else { ", which was not expected" });
        good &= known;
    }
    good
}
