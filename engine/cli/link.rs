//! How the programs are linked: for one address.
//!
//! A program that may lie anywhere is relocated at each start: ten thousand pointers in sixty pages,
//! which are copied for it, 0.3 ms of the 4 that a short verb takes and twice that in a `run`, which
//! starts the program twice. Libraries, heap and stack lie anywhere as ever.

#[expect(clippy::print_stdout, reason = "cargo listens")]
fn main() {
    println!("cargo:rerun-if-changed=engine/cli/link.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
