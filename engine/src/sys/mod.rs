//! Everything `unsafe`: the system calls that have no safe wrapper in `rustix`.
//!
//! Each function does one thing and checks what it can; none knows a container or an image.

#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod signal;
