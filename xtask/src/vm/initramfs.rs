//! The guest's whole file system: busybox, the payloads with their shared libraries, the modules and an init script.
//!
//! Emulated machines here have no shared folders: what goes in goes through this archive, what comes out comes through
//! the second serial port.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::output;
use super::payload::Payload;

/// The second serial port, to which the guest writes its facts, one JSON object a line.
pub const FACTS: &str = "/dev/ttyS1";
/// Modules that the payloads need; Debian's cloud kernels build everything else in.
const MODULES: &[&str] = &["veth"];
/// Programs that the payloads call: iproute2's `ip`, since busybox's cannot make veth pairs.
const TOOLS: &[&str] = &["/sbin/ip"];
const BUSYBOX: &str = "/bin/busybox";

/// Writes the archive to `target`.
pub fn build(kernel: &Kernel, payloads: &[Payload], target: &Path) -> Result<()> {
    let file = File::create(target).with_context(|| format!("cannot create {}", target.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for directory in ["dev", "proc", "sys", "run", "tmp", "root"] {
        archive.directory(directory)?;
    }
    let busybox = fs::read(BUSYBOX)
        .with_context(|| format!("cannot read {BUSYBOX}: `cargo xtask setup` installs busybox-static"))?;
    archive.file("bin/busybox", &busybox)?;
    archive.link("bin/sh", "busybox")?;
    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let content = fs::read(tool).with_context(|| format!("cannot read {tool}"))?;
        archive.file(tool.trim_start_matches('/'), &content)?;
        libraries.extend(shared_libraries(Path::new(tool))?);
    }
    for payload in payloads {
        archive.file(&format!("payload/{}", payload.name), &fs::read(&payload.executable)?)?;
        libraries.extend(shared_libraries(&payload.executable)?);
    }
    for library in libraries {
        let path = library.to_str().context("a library's path is not UTF-8")?.trim_start_matches('/').to_owned();
        archive.file(&path, &fs::read(&library)?)?;
    }
    let modules = modules(kernel)?;
    for (name, content) in &modules {
        archive.file(&format!("modules/{name}"), content)?;
    }
    let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
    archive.file("init", init(&names, payloads).as_bytes())?;
    archive.finish()?.flush()?;
    Ok(())
}

/// The guest's first process: mounts, modules, payloads, power off.
fn init(modules: &[&str], payloads: &[Payload]) -> String {
    let mut script = String::from(
        "#!/bin/sh\n\
         PATH=/sbin:/bin; export PATH\n\
         ROLLCALL_TEST_NO_SKIPS=1; export ROLLCALL_TEST_NO_SKIPS\n\
         /bin/busybox --install -s /bin\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         ip link set lo up\n",
    );
    // No translation of line ends, no echo: what is written is what arrives.
    script.push_str(&format!("stty raw -echo < {FACTS}\n"));
    for module in modules {
        script.push_str(&format!("insmod /modules/{module}\n"));
    }
    for Payload { name, args, .. } in payloads {
        script.push_str(&format!("echo 'payload {name}'\n/payload/{name} {} 2>&1; code=$?\n", args.join(" ")));
        script.push_str(&format!(
            "echo \"{{\\\"fact\\\":\\\"exit\\\",\\\"payload\\\":\\\"{name}\\\",\\\"code\\\":$code}}\" > {FACTS}\n"
        ));
    }
    script.push_str("sync\npoweroff -f\n");
    script
}

/// The libraries that the dynamic linker would load, itself included; none for a static program.
fn shared_libraries(executable: &Path) -> Result<Vec<PathBuf>> {
    let out = Command::new("ldd").arg(executable).output().context("cannot run ldd")?;
    let listing = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() {
        ensure!(
            String::from_utf8_lossy(&out.stderr).contains("not a dynamic executable"),
            "ldd {} failed: {}",
            executable.display(),
            String::from_utf8_lossy(&out.stderr).trim()
        );
        return Ok(Vec::new());
    }
    libraries_in(&listing)
}

/// Paths in what `ldd` printed: `name => path (address)` or `path (address)`; the kernel's own object has no path.
fn libraries_in(listing: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in listing.lines().map(str::trim) {
        if line.ends_with("=> not found") {
            bail!("a library is missing: {line}");
        }
        let after_arrow = line.split_once("=> ").map_or(line, |(_, path)| path);
        if let Some(path) = after_arrow.split(" (").next().filter(|path| path.starts_with('/')) {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// The modules in the order in which they are inserted, uncompressed.
fn modules(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut modules: Vec<(String, Vec<u8>)> = Vec::new();
    for module in MODULES {
        let mut modprobe = Command::new("/sbin/modprobe");
        modprobe.arg("-d").arg(&kernel.root).args(["-S", &kernel.release, "--show-depends", module]);
        for path in inserted(&String::from_utf8(output(&mut modprobe)?)?) {
            let name = path.file_name().and_then(|name| name.to_str()).context("a module without a name")?;
            let name = name.trim_end_matches(".xz").to_owned();
            if modules.iter().all(|(known, _)| *known != name) {
                let compressed = path.extension().is_some_and(|extension| extension == "xz");
                let content = if compressed {
                    output(Command::new("xz").arg("-dc").arg(&path))?
                } else {
                    fs::read(&path).with_context(|| format!("cannot read module {}", path.display()))?
                };
                modules.push((name, content));
            }
        }
    }
    Ok(modules)
}

/// Paths in what `modprobe --show-depends` printed; `builtin` lines need no file.
fn inserted(listing: &str) -> Vec<PathBuf> {
    listing.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|path| PathBuf::from(path.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_in_a_listing_are_those_with_a_path() {
        let listing = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        let paths = libraries_in(listing).expect("all are found");
        assert_eq!(paths, [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld-linux.so.2")]);
        assert!(libraries_in("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn inserted_modules_leave_out_builtin_ones() {
        assert_eq!(inserted("builtin ipv6\ninsmod /m/veth.ko \n"), [PathBuf::from("/m/veth.ko")]);
    }

    #[test]
    fn init_reports_the_exit_code_of_each_payload() {
        let payload = Payload { name: "guest", executable: PathBuf::new(), args: &["/dev/ttyS1"] };
        let script = init(&["veth.ko"], &[payload]);
        assert!(script.contains("insmod /modules/veth.ko\n"));
        assert!(script.contains("/payload/guest /dev/ttyS1 2>&1; code=$?\n"));
        assert!(script.contains(r#"echo "{\"fact\":\"exit\",\"payload\":\"guest\",\"code\":$code}" > /dev/ttyS1"#));
    }
}
