//! `cargo xtask bench packet`: nanoseconds per packet of the real program, next to the floor in the same run.
//!
//! The kernel's own figure for `BPF_PROG_TEST_RUN` with a repeat count; cases interleaved, medians over rounds. On a
//! virtual machine the figures are good as ratios to the floor, not as absolute claims.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::programs;
use serde::Serialize;

use crate::Output;
use crate::cases::{self, Case};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ROLLCALL_BENCH_OBJECT"));

/// What is measured, and how it is printed.
#[derive(clap::Args)]
pub struct Args {
    /// Packets per measurement.
    #[arg(long, default_value_t = 300_000)]
    packets: u32,
    /// Measurements of each case; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// One line of the result.
#[derive(Serialize)]
struct Row {
    case: &'static str,
    ns: f64,
    ratio: f64,
    budget: Option<f64>,
    verdict: u32,
}

/// The result.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    kernel: String,
    packets: u32,
    rounds: usize,
    floor_ns: f64,
    rows: Vec<Row>,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<()> {
    let mut benches: Vec<Bench> = cases::all().into_iter().map(Bench::new).collect::<Result<_>>()?;
    let mut samples = vec![Vec::with_capacity(args.rounds); benches.len()];
    for _ in 0..args.rounds {
        for (bench, samples) in benches.iter_mut().zip(&mut samples) {
            samples.push(bench.measure(args.packets)?);
        }
    }
    let medians: Vec<f64> = samples.into_iter().map(median).collect();
    let floor_ns = medians[0];
    let rows = benches
        .iter()
        .zip(&medians)
        .map(|(b, ns)| Row {
            case: b.case.name,
            ns: *ns,
            ratio: ns / floor_ns,
            budget: b.case.budget,
            verdict: b.case.verdict,
        })
        .collect();
    let report = Report {
        schema: "rollcall.bench-packet/v1",
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?.trim().to_owned(),
        packets: args.packets,
        rounds: args.rounds,
        floor_ns,
        rows,
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Table => print(&report),
    }
    Ok(())
}

fn print(report: &Report) {
    println!("Linux {}, {} packets x {} rounds, medians", report.kernel, report.packets, report.rounds);
    println!("{:<44} {:>8} {:>8} {:>8}", "case", "ns", "x floor", "budget");
    for row in &report.rows {
        let budget = row.budget.map_or_else(String::new, |b| format!("{b:.1}"));
        let over = if row.budget.is_some_and(|b| row.ratio > b) { "  over" } else { "" };
        println!("{:<44} {:>8.1} {:>8.2} {:>8}{over}", row.case, row.ns, row.ratio, budget);
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// A case, loaded.
struct Bench {
    case: Case,
    wrapper: Ebpf,
    /// Keeps the programs that the wrapper's array names.
    _under_test: ProgramFd,
}

impl Bench {
    fn new(mut case: Case) -> Result<Self> {
        let mut wrapper = EbpfLoader::new().load(OBJECT)?;
        for name in ["restored", "varied", "floor"] {
            program(&mut wrapper, name)?.load().with_context(|| format!("loading {name}"))?;
        }
        let under_test = match case.world.as_mut() {
            Some(world) => world.plane.program(programs::LB).fd()?.try_clone()?,
            None => program(&mut wrapper, "floor")?.fd()?.try_clone()?,
        };
        let mut words = [0u64; 12];
        for (word, bytes) in words.iter_mut().zip(case.packet.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of 8"));
        }
        let mut template: Array<_, [u64; 12]> = wrapper.map_mut("TEMPLATE").context("TEMPLATE")?.try_into()?;
        template.set(0, words, 0)?;
        let mut step: Array<_, u64> = wrapper.map_mut("STEP").context("STEP")?.try_into()?;
        step.set(1, case.flows.saturating_sub(1), 0)?;
        let mut jump: ProgramArray<_> = wrapper.map_mut("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        jump.set(0, &under_test, 0)?;
        let mut bench = Self { case, wrapper, _under_test: under_test };
        let (verdict, _) = bench.run(1)?;
        let counted = bench.case.world.as_mut().map(|world| world.plane.reasons());
        ensure!(verdict == bench.case.verdict, "{}: verdict {verdict}, counted {counted:?}", bench.case.name);
        Ok(bench)
    }

    fn measure(&mut self, packets: u32) -> Result<f64> {
        let start = thread_cpu_ns();
        let (verdict, _) = self.run(packets)?;
        let spent = thread_cpu_ns() - start;
        ensure!(verdict == self.case.verdict, "{}: verdict {verdict}", self.case.name);
        Ok(spent as f64 / f64::from(packets))
    }

    fn run(&mut self, repeat: u32) -> Result<(u32, std::time::Duration)> {
        let name = if self.case.flows > 1 { "varied" } else { "restored" };
        let packet = self.case.packet.clone();
        let options = TestRunOptions { data_in: Some(&packet), repeat, ..TestRunOptions::new() };
        let result = program(&mut self.wrapper, name)?.test_run(options)?;
        Ok((result.return_value, result.duration))
    }
}

fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(bpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// CPU time of this thread, ns: time stolen by others does not count.
fn thread_cpu_ns() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
}
