//! One run of one guest: start, wait with a deadline, kill by pid, read what came out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Emulated guests reach their payload in 2 to 4 s; the rest is for slow and busy hosts.
const DEADLINE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);
const MEMORY_MIB: &str = "1536";
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 reboot=t mitigations=off nokaslr audit=0 loglevel=4";

/// What to boot.
pub struct Guest<'a> {
    /// Uncompressed kernel.
    pub kernel: &'a Path,
    /// File system.
    pub initrd: &'a Path,
    /// Directory for the console's log and the facts.
    pub logs: &'a Path,
}

/// What came out.
pub struct Output {
    /// Lines of the second serial port.
    pub facts: String,
    /// The log of the first.
    pub console: PathBuf,
    /// From start to power-off.
    pub elapsed: Duration,
}

/// The emulator. Dropping it ends it, whatever happened in between.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the guest until it powers off.
pub fn run(guest: &Guest<'_>) -> Result<Output> {
    let console = guest.logs.join("console.log");
    let facts = guest.logs.join("facts.jsonl");
    fs::write(&facts, "")?;
    let log = File::create(&console).with_context(|| format!("cannot create {}", console.display()))?;
    let started = Instant::now();
    // setpriv becomes QEMU, so its pid is ours to kill; and if we are killed, the kernel ends the guest.
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2"])
        .args(["-m", MEMORY_MIB, "-append", COMMAND_LINE, "-serial", "stdio"])
        .arg("-serial")
        .arg(format!("file:{}", facts.display()))
        .arg("-kernel")
        .arg(guest.kernel)
        .arg("-initrd")
        .arg(guest.initrd)
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .spawn()
        .context("cannot start QEMU: `cargo xtask setup` installs qemu-system-x86")?;
    let mut emulator = Emulator(child);
    let status = loop {
        if let Some(status) = emulator.0.try_wait()? {
            break status;
        }
        if started.elapsed() > DEADLINE {
            let (seconds, tail) = (DEADLINE.as_secs(), tail(&console));
            bail!("the guest did not power off within {seconds} s; its console ends with:\n{tail}");
        }
        thread::sleep(POLL);
    };
    ensure!(status.success(), "QEMU ended with {status}:\n{}", tail(&console));
    let facts = fs::read(&facts).context("cannot read the guest's facts")?;
    Ok(Output { facts: String::from_utf8_lossy(&facts).into_owned(), console, elapsed: started.elapsed() })
}

/// The last lines of a log, indented.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}
