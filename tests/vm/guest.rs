//! Runs as root within a virtual machine that `cargo xtask vm` booted, on a kernel other than the host's: loads the real
//! object, has the verifier judge every program, runs one packet, attaches natively and passes real traffic.
//!
//! Reports one JSON object a line to the file named by its argument (the guest's second serial port), standard output
//! without one: `{"fact": "kernel" | "program" | "check", …}`. A check that fails also gives exit code 1. It changes the
//! network of the machine it runs on: not for a host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{Called, programs};
use rollcall::io::bpf::object::OBJECT;
use serde_json::{Value, json};

const XDP_PASS: u32 = 2;

/// Addresses and names within the guest; nothing else lives there.
const EDGE: &str = "edge0";
const EDGE_ADDRESS: &str = "10.9.0.1";
const CLIENT: &str = "client0";
const CLIENT_ADDRESS: &str = "10.9.0.2";
const NAMESPACE: &str = "client";

/// An ARP request, padded to the shortest Ethernet frame: never a service's packet.
const ARP: [u8; 60] = {
    let mut frame = [0; 60];
    let mut at = 0;
    while at < 6 {
        frame[at] = 0xff;
        at += 1;
    }
    frame[6] = 0x02;
    (frame[12], frame[13]) = (0x08, 0x06);
    (frame[15], frame[16], frame[18], frame[19], frame[21]) = (0x01, 0x08, 6, 4, 1);
    frame
};

fn main() -> Result<ExitCode> {
    let mut report = Report::open(std::env::args().nth(1))?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    report.fact(json!({"fact": "kernel", "release": release.trim()}))?;
    let mut ebpf = EbpfLoader::new().load(OBJECT).context("the object does not load")?;
    let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    for name in &names {
        load(&mut ebpf, name, &mut report)?;
    }
    for name in programs::PINNED.into_iter().chain(Called::ALL.map(Called::name)) {
        ensure!(names.iter().any(|known| known == name), "the object has no program `{name}`");
    }
    report.check("arp", arp_passes(&mut ebpf))?;
    report.check("native attach", traffic_passes(&mut ebpf))?;
    Ok(if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    program.try_into().with_context(|| format!("program `{name}` is not of type XDP"))
}

fn load(ebpf: &mut Ebpf, name: &str, report: &mut Report) -> Result<()> {
    let program = program(ebpf, name)?;
    program.load().with_context(|| format!("the verifier refuses `{name}`"))?;
    let info = program.info().with_context(|| format!("cannot read the kernel's information on `{name}`"))?;
    // Since 5.16; null before.
    report.fact(json!({"fact": "program", "name": name, "verified_insns": info.verified_instruction_count()}))
}

/// With empty maps nothing is for a service, and an ARP request never is: it must pass, unchanged.
fn arp_passes(ebpf: &mut Ebpf) -> Result<String> {
    let mut out = [0; 128];
    let options = TestRunOptions { data_in: Some(&ARP), data_out: Some(&mut out), ..TestRunOptions::default() };
    let result = program(ebpf, programs::LB)?.test_run(options).context("BPF_PROG_TEST_RUN failed")?;
    ensure!(result.return_value == XDP_PASS, "verdict {}, expected XDP_PASS", result.return_value);
    ensure!(out.starts_with(&ARP), "the program changed a packet that it passed");
    Ok("XDP_PASS".to_owned())
}

/// Attached in the driver, the program lets a TCP connection through that is for no service.
fn traffic_passes(ebpf: &mut Ebpf) -> Result<String> {
    ip(&format!("netns add {NAMESPACE}"))?;
    ip(&format!("link add {EDGE} type veth peer name {CLIENT} netns {NAMESPACE}"))?;
    ip(&format!("address add {EDGE_ADDRESS}/24 dev {EDGE}"))?;
    ip(&format!("link set {EDGE} up"))?;
    ip(&format!("-n {NAMESPACE} address add {CLIENT_ADDRESS}/24 dev {CLIENT}"))?;
    ip(&format!("-n {NAMESPACE} link set {CLIENT} up"))?;
    let lb = program(ebpf, programs::LB)?;
    let link = lb.attach(EDGE, XdpMode::Driver).context("native attach to a veth failed")?;

    let listener = TcpListener::bind((EDGE_ADDRESS, 0))?;
    let port = listener.local_addr()?.port().to_string();
    // Left waiting when no connection comes; the machine is switched off in any case.
    thread::spawn(move || answer(&listener));
    let sent = b"through the driver\n";
    let mut client = Command::new("ip")
        .args(["netns", "exec", NAMESPACE, "nc", "-w", "10", EDGE_ADDRESS, &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the client")?;
    client.stdin.take().context("the client has no input")?.write_all(sent)?;
    let got = client.wait_with_output()?;
    ensure!(got.stdout == sent, "sent {sent:?} over TCP, got back {:?} ({})", got.stdout, got.status);
    lb.detach(link).context("detach failed")?;
    Ok("driver mode on veth, TCP to the host passed".to_owned())
}

/// Sends the first connection's bytes back.
fn answer(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    stream.write_all(&buffer[..length])
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("cannot run ip")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Where facts go, and whether a check failed.
struct Report {
    out: Box<dyn Write>,
    failed: bool,
}

impl Report {
    fn open(path: Option<String>) -> Result<Self> {
        let out: Box<dyn Write> = match path {
            Some(path) => Box::new(serial(&path).with_context(|| format!("cannot open {path}"))?),
            None => Box::new(io::stdout()),
        };
        Ok(Self { out, failed: false })
    }

    /// One write a line, so that a guest that dies leaves whole facts.
    fn fact(&mut self, fact: Value) -> Result<()> {
        println!("{fact}");
        self.out.write_all(format!("{fact}\n").as_bytes())?;
        Ok(self.out.flush()?)
    }

    fn check(&mut self, name: &str, outcome: Result<String>) -> Result<()> {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(error) => (false, format!("{error:#}")),
        };
        self.failed |= !ok;
        self.fact(json!({"fact": "check", "name": name, "ok": ok, "detail": detail}))
    }
}

fn serial(path: &str) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}
