//! The service's unit as systemd reads it: nothing wrong in it, and little that it exposes.
//!
//! Debian's package `systemd` has `systemd-analyze`, which reads a unit without systemd running.

use std::fs;
use std::process::Command;

use serde_json::Value;
use vgg_edge_host::deploy::unit::{Bounds, Unit};
use vgg_edge_tests::{run, temp_dir};

const ANALYZE: &str = "/usr/bin/systemd-analyze";

/// The most exposure that a unit here may have, as systemd counts it from 0 (none) to 10; measured are 1.2 and, with camera and
/// low port, 1.9.
const EXPOSURE: f64 = 2.0;

#[test]
fn systemd_reads_the_unit_and_finds_little_exposed() {
    if !fs::exists(ANALYZE).unwrap_or(false) {
        let message = format!("{ANALYZE} is not there: it is in Debian's package systemd");
        assert!(std::env::var_os("CI").is_none(), "{message}");
        println!("left out: {message}");
        return;
    }
    let dir = temp_dir();
    // It looks whether the program is there.
    let prefix = dir.path().join("opt");
    fs::create_dir_all(prefix.join("current")).unwrap();
    std::os::unix::fs::symlink("/bin/true", prefix.join("current/classify")).unwrap();
    let arguments = ["--allow-host".to_owned(), "a b%$\"".to_owned()];
    let plain = Unit {
        prefix: prefix.to_str().unwrap(),
        model: "100%.vgg",
        listen: "127.0.0.1:8080".parse().unwrap(),
        signed: true,
        token: true,
        camera: None,
        arguments: &[],
        bounds: Bounds::SMALL,
        model_bytes: 1 << 20,
    };
    let open = Unit {
        listen: "0.0.0.0:80".parse().unwrap(),
        camera: Some("/dev/video0"),
        arguments: &arguments,
        bounds: Bounds::ROOMY,
        ..plain.clone()
    };
    for unit in [&plain, &open] {
        let path = dir.path().join("vgg-edge.service");
        fs::write(&path, unit.text()).unwrap();
        let ran = run(Command::new(ANALYZE).args(["verify", "--man=no"]).arg(&path));
        let about_us: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("vgg-edge")).collect();
        assert_eq!((ran.code, about_us), (Some(0), Vec::new()), "{}\n{}", ran.stderr, unit.text());

        let ran = run(Command::new(ANALYZE).args(["security", "--offline=true", "--json=short"]).arg(&path));
        let rows: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
        assert!(rows.as_array().is_some_and(|rows| rows.len() > 50), "{rows}");
        let limit = format!("--threshold={}", (EXPOSURE * 10.0) as u32);
        let ran = run(Command::new(ANALYZE).args(["security", "--offline=true", &limit]).arg(&path));
        let overall = ran.stdout.lines().find(|line| line.contains("Overall exposure level"));
        println!("{}", overall.unwrap_or("no overall level"));
        assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    }
}
