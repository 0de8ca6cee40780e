//! `cargo xtask bench control`: what it costs to watch many servers.
//!
//! The real daemon probes that many addresses by HTTP, all of one nginx behind one next hop, since it is the controller that
//! is measured. The same is done with few servers in the same run: what does not grow with them shows as the base.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::testbed::bed::{Bed, Family, Plan, Shape};
use lb_tests::testbed::nginx::{self, Nginx};
use lb_tests::testbed::rollcall::{Configuration, Rollcall, Service};
use serde::Serialize;

use crate::Output;

/// Time between two probes of a server.
const INTERVAL: Duration = Duration::from_secs(2);
/// Members of a service.
const MEMBERS: u16 = 50;
/// Servers of the run that shows the base.
const FEW: u16 = 10;
/// Times that `status` is asked for.
const QUESTIONS: usize = 20;
/// Aims: share of one processor in per cent, and ms.
const AIMS: (f64, f64) = (5.0, 100.0);

/// What is measured, and how it is printed.
#[derive(clap::Args)]
pub struct Args {
    /// Servers.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(11..=10_000))]
    backends: u16,
    /// Time over which the processor is measured, s.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// One run.
#[derive(Serialize)]
struct Row {
    backends: u16,
    /// From the start of the daemon until every member is in rotation.
    start_s: f64,
    /// Of one processor. The kernel's work for connections, both ends of which are on this machine, is in it.
    cpu_percent: f64,
    /// Of that, in the daemon's own code.
    cpu_own_percent: f64,
    /// Processor time for each probe, its share of all else included.
    cpu_us_per_probe: f64,
    /// Resident.
    memory_mb: f64,
    /// `rollcall status`, from the start of the program to its end: median and longest.
    status_ms: f64,
    status_longest_ms: f64,
}

/// The result.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    kernel: String,
    interval_s: u64,
    seconds: u64,
    rows: Vec<Row>,
    /// The second run's figures as multiples of the first's.
    ratio_cpu: f64,
    ratio_memory: f64,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<()> {
    let rows = [FEW, args.backends].map(|backends| measure(backends, args.seconds));
    let [few, many] = rows;
    let (few, many) = (few?, many?);
    let report = Report {
        schema: "rollcall.bench-control/v1",
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?.trim().to_owned(),
        interval_s: INTERVAL.as_secs(),
        seconds: args.seconds,
        ratio_cpu: many.cpu_percent / few.cpu_percent,
        ratio_memory: many.memory_mb / few.memory_mb,
        rows: vec![few, many],
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Table => print(&report),
    }
    Ok(())
}

fn measure(backends: u16, seconds: u64) -> Result<Row> {
    let bed = Bed::build(Plan { prefix: "rc-bench", shape: Shape::OneArm, clients: 1, addresses: 1, backends: 1 });
    let _nginx = Nginx::start_all(&bed);
    let host = bed.backend_address(Family::V4, 0);
    bed.backends[0].ip("route add local 10.79.0.0/16 dev lo\n");
    bed.edge.ip(&format!("route add 10.79.0.0/16 via {host}\n"));
    let started = Instant::now();
    let rollcall = Rollcall::start(&bed, &configuration(&bed, backends));
    let start_s = started.elapsed().as_secs_f64();
    let pid = rollcall.pid().context("the daemon was started")?;

    let (before, since) = (cpu(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let (after, wall) = (cpu(pid)?, since.elapsed());
    let own = after.0 - before.0;
    let cpu = own + (after.1 - before.1);
    let probes = f64::from(backends) * wall.as_secs_f64() / INTERVAL.as_secs_f64();

    let ask = |_| {
        let asked = Instant::now();
        let answer = rollcall.cli(&bed, &["status", "--output", "json"]);
        ensure!(answer.code == 0, "status: {}", answer.stderr);
        Ok(asked.elapsed().as_secs_f64() * 1000.0)
    };
    let mut answers = (0..QUESTIONS).map(ask).collect::<Result<Vec<f64>>>()?;
    answers.sort_by(f64::total_cmp);
    Ok(Row {
        backends,
        start_s,
        cpu_percent: cpu.as_secs_f64() / wall.as_secs_f64() * 100.0,
        cpu_own_percent: own.as_secs_f64() / wall.as_secs_f64() * 100.0,
        cpu_us_per_probe: cpu.as_secs_f64() * 1e6 / probes,
        memory_mb: resident_mb(pid)?,
        status_ms: answers[QUESTIONS / 2],
        status_longest_ms: answers[QUESTIONS - 1],
    })
}

/// Services of [`MEMBERS`] members each, every member a server of its own.
fn configuration(bed: &Bed, backends: u16) -> Configuration {
    let mut configuration = Configuration::usual(bed, "maglev");
    configuration.interval = INTERVAL;
    let name = |n: u16| format!("b{n}");
    let address = |n: u16| IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 79, 1, 0)) + u32::from(n)));
    configuration.backends = (0..backends).map(|n| (name(n), vec![address(n)])).collect();
    let service = |first: u16| Service {
        name: format!("web{first}"),
        listen: SocketAddr::new(bed.vip(Family::V4), 1000 + first / MEMBERS),
        protocol: "tcp",
        mode: "nat",
        algorithm: "maglev",
        second_chance: true,
        port: nginx::PORT,
        members: (first..backends.min(first + MEMBERS)).map(|n| (name(n), 1)).collect(),
    };
    configuration.services = (0..backends).step_by(MEMBERS.into()).map(service).collect();
    configuration
}

/// Processor time that a process has used so far: in its own code, in the kernel.
fn cpu(pid: u32) -> Result<(Duration, Duration)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon is gone")?;
    // After the name, which may hold anything: state is field 3, user and system time are 14 and 15.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("clock ticks")?;
    let time = |n: usize| -> Result<Duration> {
        let ticks: u64 = fields.get(n).context("/proc/PID/stat")?.parse().context("/proc/PID/stat")?;
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    };
    Ok((time(11)?, time(12)?))
}

fn resident_mb(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the daemon is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kb * 1024.0 / 1e6)
}

fn print(report: &Report) {
    let (cpu, status) = AIMS;
    println!("Linux {}, HTTP probes every {} s, processor over {} s", report.kernel, report.interval_s, report.seconds);
    println!(
        "{:>8} {:>9} {:>8} {:>9} {:>13} {:>10} {:>12} {:>9}",
        "servers", "start", "cpu", "own code", "cpu/probe", "memory", "status", "longest"
    );
    for row in &report.rows {
        println!(
            "{:>8} {:>7.1} s {:>6.2} % {:>7.2} % {:>10.0} us {:>7.1} MB {:>9.1} ms {:>6.1} ms",
            row.backends,
            row.start_s,
            row.cpu_percent,
            row.cpu_own_percent,
            row.cpu_us_per_probe,
            row.memory_mb,
            row.status_ms,
            row.status_longest_ms
        );
    }
    println!(
        "ratio: cpu {:.1}, memory {:.1}; aims: {cpu} % of one processor, status {status} ms",
        report.ratio_cpu, report.ratio_memory
    );
}
