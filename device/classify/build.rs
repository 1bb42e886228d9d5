//! Links the program with defmt's dictionary section, at a fixed address, and with a build id.
//!
//! A defmt message id is the address of a symbol in `.defmt`, cut to 16 bits, and that section is never
//! loaded: position-independent code would need relocations against it, which crash the loader. Link
//! arguments instead of `RUSTFLAGS`: those would reach build scripts and macros too.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=defmt-hosted.x");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?);
    fs::write(out.join("defmt-hosted.x"), include_str!("defmt-hosted.x"))?;
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tdefmt-hosted.x");
    println!("cargo:rustc-link-arg-bins=-no-pie");
    // The id that pairs a log with the program that decodes it. A C compiler in front of the linker wants it wrapped.
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let linker = env::var("RUSTC_LINKER").unwrap_or_default();
    let prefix = if linker.ends_with("lld") { "" } else { "-Wl," };
    println!("cargo:rustc-link-arg-bins={prefix}--build-id=sha1");
    Ok(())
}
