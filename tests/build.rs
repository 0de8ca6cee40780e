//! Tells the benchmarks where lb-userspace's build script left their object.

fn main() {
    let object = std::env::var("DEP_ROLLCALL_BPF_BENCH").expect("lb-userspace's build script sets it");
    println!("cargo:rustc-env=ROLLCALL_BENCH_OBJECT={object}");
    println!("cargo:rerun-if-changed={object}");
}
