//! The plot: steady load, a server dies, steady load, it comes back, steady load.

use std::time::{Duration, Instant};

use lb_tests::testbed::interrupt::{self, Interrupted};
use lb_tests::testbed::load::{Load, Tally};
use lb_tests::testbed::rollcall::members;
use serde_json::Value;

use crate::datagrams::Asking;
use crate::report::{Outage, Report};
use crate::show::{self, Show};
use crate::stage::Stage;

/// The server that dies, by index.
const VICTIM: usize = 1;

/// Time in which the victim must be out, and back; far more than it should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays it.
pub fn run(part: Duration, keep: bool) -> Result<Report, Interrupted> {
    eprintln!("making the hosts, starting three servers and the daemon");
    let mut stage = Stage::build();
    interrupt::check()?;
    introduce(&stage);

    let mut show = Show::begin();
    let datagrams = Asking::start(&stage.bed);
    let load = stage.load();
    show.watch(&load, part)?;
    let before = show::sum(&load);

    let victim = stage.nginx[VICTIM].name().to_owned();
    show.say(&format!("killing the nginx of {victim}, process {}", stage.nginx[VICTIM].pid()));
    let killed = Instant::now();
    stage.nginx[VICTIM].kill();
    let out = wait(&stage, &mut show, &load, &victim, false)?;
    show.say(&format!("{victim} is out of rotation: {}", reason(&stage, &victim)));
    let at_exit = show::sum(&load);
    show.watch(&load, part)?;
    let without = show::sum(&load).since(&at_exit);

    show.say(&format!("starting the nginx of {victim} again"));
    stage.nginx[VICTIM].restart(&stage.bed);
    let restarted = Instant::now();
    let back = wait(&stage, &mut show, &load, &victim, true)?;
    show.say(&format!("{victim} is back in rotation"));
    let at_return = show::sum(&load);
    show.watch(&load, part)?;
    let after = show::sum(&load).since(&at_return);

    let total = load.into_iter().map(Load::stop).fold(Tally::default(), |mut sum, tally| {
        sum.add(&tally);
        sum
    });
    let outage = Outage { backend: victim, killed, out, restarted, back };
    let status = stage.rollcall.status(&stage.bed);
    let report = Report::new([before, without, after], total, datagrams.stop(), outage, &status);
    if keep {
        stage.keep();
        eprintln!("\n{}", stage.guide());
    }
    Ok(report)
}

fn introduce(stage: &Stage) {
    let status = stage.rollcall.status(&stage.bed);
    for attached in status["attached"].as_array().into_iter().flatten() {
        let text = |key: &str| attached[key].as_str().unwrap_or("?").to_owned();
        eprintln!("  program on {}: {}", text("interface"), text("mode"));
    }
    for service in &stage.configuration.services {
        let names: Vec<&str> = service.members.iter().map(|(name, _)| name.as_str()).collect();
        eprintln!(
            "  {}: {}/{} to {}, {}",
            service.name,
            service.listen,
            service.protocol,
            names.join(", "),
            service.algorithm
        );
    }
    eprintln!();
}

/// Waits until the victim is in rotation everywhere, or nowhere, and the kernel holds it; the moment it was seen.
fn wait(stage: &Stage, show: &mut Show, load: &[Load], victim: &str, wanted: bool) -> Result<Instant, Interrupted> {
    let end = Instant::now() + PATIENCE;
    loop {
        interrupt::check()?;
        let status = stage.rollcall.status(&stage.bed);
        let mut own = members(&status).filter(|member| member["backend"] == victim);
        if status["settled"] == true && own.all(|member| member["in_rotation"] == wanted) {
            return Ok(Instant::now());
        }
        assert!(Instant::now() < end, "{victim} in rotation: not {wanted} within {PATIENCE:?}: {status:#}");
        show.tick(load);
        interrupt::wait_until(Instant::now() + Duration::from_millis(20))?;
    }
}

fn reason(stage: &Stage, victim: &str) -> String {
    let status = stage.rollcall.status(&stage.bed);
    let mut reasons = members(&status).filter(|m| m["backend"] == victim).map(|m| &m["reasons"][0]["cause"]);
    reasons.find_map(Value::as_str).unwrap_or("no reason is given").to_owned()
}
