//! `classify`: what is in this picture? Runs a vgg-edge model on this machine.
//!
//! ```text
//! args ─► map ─► model (parse, checksums, kernel, threads, engine) ─► run | camera | serve | info | verify | bench ─► output
//! ```
//!
//! Data goes to stdout, everything else to stderr; exit code 0 success, 1 failure, 2 wrong usage.
#![deny(unsafe_code)]

mod about;
mod answer;
mod args;
mod bench;
mod board;
#[cfg(feature = "camera")]
mod camera;
mod info;
mod log;
mod map;
mod model;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "serve")]
mod notify;
#[cfg(any(feature = "camera", feature = "serve"))]
mod observation;
mod output;
mod picture;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod signature;
mod stop;
mod sustain;
mod threads;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = log::start(&args.log).and_then(|()| match &args.command {
        Command::Run(run) => run::run(run),
        Command::Info(info) => info::info(info),
        Command::Verify(verify) => verify::verify(verify),
        Command::Bench(bench) => bench::bench(bench),
        #[cfg(feature = "serve")]
        Command::Serve(serve) => serve::serve(serve),
        #[cfg(feature = "camera")]
        Command::Camera(camera) => camera::camera(camera),
    });
    let code = exit_code(result);
    log::finish();
    code
}

fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => {
                let _ = usage.print();
                ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
            }
            Err(error) => {
                output::print_error(&error);
                ExitCode::FAILURE
            }
        },
    }
}
