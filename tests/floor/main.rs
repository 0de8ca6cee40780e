//! Holds the embedded eBPF object against the oldest supported kernel. Needs neither root nor a kernel.

use lb_common::abi::Called;
use lb_tests::floor::{FLOOR, NEWER_ENTRY_POINTS, User, Verdict, newest, object, violations};

/// Prints all that the object asks for, so that a change of its needs shows in the log even when it passes.
#[test]
fn object_asks_for_nothing_newer_than_the_floor() {
    let uses = object::scan(rollcall::io::bpf::object::OBJECT).expect("the object can be taken apart");
    for used in &uses {
        println!("{used}");
    }
    for (user, since) in newest(&uses) {
        println!("{user:<10} newest       {since}");
    }
    let violations = violations(&uses, FLOOR, NEWER_ENTRY_POINTS);
    assert!(
        violations.is_empty(),
        "the object needs a newer kernel than {FLOOR}:\n  {}\nfind another way, or give the program an entry point of \
         its own in `NEWER_ENTRY_POINTS`",
        violations.join("\n  ")
    );
}

/// A scan that overlooked a program would pass anything: each program and map of the ABI must be in it.
#[test]
fn scan_sees_every_program_and_a_use_of_each_class() {
    let uses = object::scan(rollcall::io::bpf::object::OBJECT).expect("the object can be taken apart");
    for program in lb_common::abi::programs::PINNED.into_iter().chain(Called::ALL.map(Called::name)) {
        let user = User::Program(program.to_owned());
        for class in ["section", "helper", "instruction"] {
            assert!(uses.iter().any(|u| u.user == user && u.class == class), "no {class} of `{program}` was seen");
        }
    }
    for map_type in ["array", "hash", "percpu_array", "queue", "prog_array"] {
        let seen = uses.iter().any(|u| u.class == "map type" && u.name == map_type);
        assert!(seen, "no map of type {map_type} was seen");
    }
    assert!(uses.iter().any(|u| matches!(u.verdict, Verdict::Since(_))), "nothing has a release");
}
