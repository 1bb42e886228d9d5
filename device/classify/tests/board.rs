//! What the program reads of a board, from trees that look like those of real ones, and where it runs then.

#[path = "../src/board.rs"]
#[allow(dead_code, unreachable_pub)]
mod board;
#[path = "../src/sustain.rs"]
#[allow(dead_code, unreachable_pub)]
mod sustain;

use std::fs;
use std::thread;

use board::{Board, CoreClock, Reading, Throttled};
use sustain::sustained;
use tempfile::TempDir;

/// A tree of these files.
fn tree(files: &[(&str, &str)]) -> (TempDir, Board) {
    let dir = TempDir::new().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    let board = Board::at(dir.path());
    (dir, board)
}

const CPU: &str = "devices/system/cpu";

fn capacities(capacities: &[&str]) -> (TempDir, Board) {
    let files: Vec<(String, &str)> =
        capacities.iter().enumerate().map(|(i, &c)| (format!("{CPU}/cpu{i}/cpu_capacity"), c)).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    tree(&files)
}

#[test]
fn big_cores_are_those_over_half_of_the_fastest() {
    // RK3399, RK3588, a chip with a prime core.
    let (_dir, board) = capacities(&["485", "485", "485", "485", "1024", "1024"]);
    assert_eq!(board.big_cores(&[0, 1, 2, 3, 4, 5]), Some(vec![4, 5]));
    assert_eq!(board.big_cores(&[0, 1, 2, 3, 4]), Some(vec![4]), "only those that are allowed");
    assert_eq!(board.big_cores(&[0, 1]), None, "all allowed ones are equal");
    assert_eq!(board.big_cores(&[0, 4, 6]), None, "a core that is not described");
    assert_eq!(board.big_cores(&[]), None);
    let (_dir, board) = capacities(&["530", "530", "530", "530", "1024", "1024", "1024", "1024"]);
    assert_eq!(board.big_cores(&[0, 1, 2, 3, 4, 5, 6, 7]), None, "530 is over half of 1024");
    let (_dir, board) = capacities(&["250", "250", "760", "760", "1024"]);
    assert_eq!(board.big_cores(&[0, 1, 2, 3, 4]), Some(vec![2, 3, 4]));
    // A Raspberry Pi, and nonsense.
    assert_eq!(capacities(&["1024", "1024"]).1.big_cores(&[0, 1]), None);
    for wrong in ["", "many", "-1", "99999999999"] {
        assert_eq!(capacities(&[wrong, "1024"]).1.big_cores(&[0, 1]), None, "{wrong}");
    }
    assert_eq!(capacities(&["4294967295", "1"]).1.big_cores(&[0, 1]), Some(vec![0]), "no overflow");
    assert_eq!(tree(&[]).1.big_cores(&[0]), None);
}

#[test]
fn threads_stay_on_the_cores_chosen() {
    let all = board::allowed_cores();
    let last = *all.last().unwrap();
    thread::spawn(move || {
        board::stay_on(&[last]).unwrap();
        assert_eq!(board::allowed_cores(), [last]);
        let child = thread::spawn(board::allowed_cores).join().unwrap();
        assert_eq!(child, [last], "a new thread inherits the choice");
    })
    .join()
    .unwrap();
    assert_eq!(board::allowed_cores(), all, "other threads do not");
    thread::spawn(|| {
        assert!(board::stay_on(&[]).is_err(), "no core at all");
        assert!(board::stay_on(&[usize::MAX]).is_err(), "a core that no system has");
    })
    .join()
    .unwrap();
}

#[test]
fn the_cache_is_the_second_level_of_the_core() {
    let (_dir, board) = tree(&[
        ("devices/system/cpu/cpu1/cache/index0/level", "1"),
        ("devices/system/cpu/cpu1/cache/index0/size", "48K"),
        ("devices/system/cpu/cpu1/cache/index2/level", "2"),
        ("devices/system/cpu/cpu1/cache/index2/size", "2048K"),
        ("devices/system/cpu/cpu2/cache/index2/level", "2"),
        ("devices/system/cpu/cpu2/cache/index2/size", "99999999999999999999K"),
        ("devices/system/cpu/cpu3/cache/index2/level", "2"),
        ("devices/system/cpu/cpu3/cache/index2/size", "0K"),
    ]);
    assert_eq!(board.l2_bytes(1), Some(2 << 20));
    assert_eq!([0, 2, 3].map(|core| board.l2_bytes(core)), [None; 3]);
}

#[test]
fn a_raspberry_pi_tells_clock_temperature_and_throttling() {
    let files = [
        ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000"),
        ("devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2400000"),
        ("devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2400000"),
        ("devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "2400000"),
        ("class/thermal/thermal_zone0/type", "cpu-thermal"),
        ("class/thermal/thermal_zone0/temp", "61200"),
        ("class/thermal/thermal_zone1/type", "battery"),
        ("class/thermal/thermal_zone1/temp", "70000"),
        ("class/thermal/thermal_zone2/type", "soc-thermal"),
        ("class/thermal/thermal_zone2/temp", "0"),
        ("class/thermal/cooling_device0/type", "cpufreq"),
        ("devices/platform/soc/soc:firmware/get_throttled", "d0005"),
    ];
    let (_dir, board) = tree(&files);
    let sensors = board.sensors(&[0, 1]).read();
    assert_eq!((sensors.clock_mhz, sensors.max_clock_mhz), (Some(1500), Some(2400)));
    let clock = |core, mhz| CoreClock { core, mhz, max_mhz: Some(2400) };
    assert_eq!(sensors.clocks, [clock(0, 1500), clock(1, 2400)]);
    assert_eq!(board.sensors(&[1]).read().clock_mhz, Some(2400), "only the cores in use");
    assert_eq!(sensors.temperature, Some(61.2));
    let throttled = Throttled {
        now: vec!["under-voltage", "throttled"],
        earlier: vec!["under-voltage", "throttled", "soft temperature limit"],
    };
    assert_eq!(sensors.throttled, Some(throttled));
    let json = serde_json::to_value(&sensors).unwrap();
    assert_eq!(json["throttled"]["now"][0], "under-voltage");
    // The kernel's own sensor, where the firmware's word is not shown.
    let volt = |alarm| {
        let (_dir, board) = tree(&[
            ("class/hwmon/hwmon0/name", "cpu_thermal"),
            ("class/hwmon/hwmon1/name", "rpi_volt"),
            ("class/hwmon/hwmon1/in0_lcrit_alarm", alarm),
        ]);
        board.sensors(&[0]).read().throttled
    };
    assert_eq!(volt("1").unwrap().now, ["under-voltage"]);
    assert_eq!(volt("0"), Some(Throttled::default()));
    assert_eq!(volt("?"), None);
}

#[test]
fn sensors_are_found_once_and_read_often() {
    let (dir, board) = tree(&[
        ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "600000"),
        ("class/thermal/thermal_zone0/type", "soc-thermal"),
        ("class/thermal/thermal_zone0/temp", "50000"),
        ("class/thermal/cooling_device0/type", "thermal-cpufreq-0"),
        ("class/thermal/cooling_device0/cur_state", "0"),
        ("class/thermal/cooling_device1/type", "pwm-fan"),
        ("class/thermal/cooling_device1/cur_state", "3"),
        ("class/hwmon/hwmon2/name", "pwmfan"),
        ("class/hwmon/hwmon2/fan1_input", "2750"),
    ]);
    let sensors = board.sensors(&[0]);
    let first = sensors.read();
    assert_eq!((first.clock_mhz, first.temperature, first.fan_rpm), (Some(600), Some(50.0), Some(2750)));
    assert_eq!(first.throttled, Some(Throttled::default()), "a fan that turns is no throttling");
    let set = |path: &str, text: &str| fs::write(dir.path().join(path), text).unwrap();
    set("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1800000\n");
    set("class/thermal/thermal_zone0/temp", "85500\n");
    set("class/thermal/cooling_device0/cur_state", "2\n");
    set("class/hwmon/hwmon2/fan1_input", "0\n");
    let later = sensors.read();
    assert_eq!((later.clock_mhz, later.temperature, later.fan_rpm), (Some(1800), Some(85.5), Some(0)));
    let now = vec!["clock capped"];
    assert_eq!(later.throttled, Some(Throttled { now: now.clone(), earlier: Vec::new() }));
    assert!(now.iter().all(|reason| board::REASONS.contains(reason)));
    // A core that is switched off, a sensor that goes away.
    fs::remove_dir_all(dir.path().join("devices/system/cpu/cpu0/cpufreq")).unwrap();
    fs::remove_dir_all(dir.path().join("class/hwmon")).unwrap();
    let gone = sensors.read();
    assert_eq!((gone.clock_mhz, gone.clocks.len(), gone.fan_rpm), (None, 0, None));
    let reading: Reading = sensors.read();
    assert_eq!(
        serde_json::to_string(&reading).unwrap(),
        r#"{"temperature":85.5,"throttled":{"now":["clock capped"],"earlier":[]}}"#
    );
}

#[test]
fn what_is_missing_or_makes_no_sense_is_left_out() {
    let (dir, board) = tree(&[]);
    assert_eq!(serde_json::to_string(&board.sensors(&[0, 1]).read()).unwrap(), "{}");
    // A temperature that is a directory, a clock of 0, words for numbers, a zone without a type.
    fs::create_dir_all(dir.path().join("class/thermal/thermal_zone0/temp")).unwrap();
    let (_dir, board) = tree(&[
        ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "0"),
        ("class/thermal/thermal_zone0/temp", "warm"),
        ("class/thermal/thermal_zone1/type", "cpu"),
        ("class/thermal/thermal_zone1/temp", "-274000"),
        ("class/thermal/thermal_zone2/temp", "2147483647"),
        ("devices/platform/soc/soc:firmware/get_throttled", "fine"),
    ]);
    assert_eq!(serde_json::to_string(&board.sensors(&[0]).read()).unwrap(), "{}");
    let (_dir, board) = tree(&[("class/thermal/thermal_zone2/temp", "45000")]);
    assert_eq!(board.sensors(&[]).read().temperature, Some(45.0));
    assert_eq!(
        serde_json::to_string(&Board::at(dir.path().join("none")).sensors(&[0]).read()).unwrap(),
        "{}"
    );
}

#[test]
fn a_slow_end_is_told() {
    // Ten a second for 30 s, then five a second for 30 s.
    let mut ends: Vec<f32> = (1..=300).map(|i| i as f32 / 10.0).collect();
    ends.extend((1..=150).map(|i| 30.0 + i as f32 / 5.0));
    let s = sustained(&ends);
    assert_eq!((s.runs, s.seconds, s.part), (450, 60.0, 10.0));
    let near = |a: f32, b: f32| (a - b).abs() < 0.01;
    assert!(near(s.first, 10.0) && near(s.last, 5.0) && near(s.slowdown, 0.5), "{s:?}");
    // Short: two halves.
    let s = sustained(&[1.0, 2.0, 2.5, 3.0, 3.5, 4.0]);
    assert!(s.part == 2.0 && near(s.first, 1.0) && near(s.last, 2.0) && near(s.slowdown, -1.0), "{s:?}");
    // One run, longer than either part; and runs that do not fit the parts.
    let s = sustained(&[25.0]);
    assert!(s.runs == 1 && near(s.first, 0.04) && near(s.last, 0.04) && near(s.slowdown, 0.0), "{s:?}");
    let s = sustained(&[30.0, 60.0]);
    assert!(near(s.first, 1.0 / 30.0) && near(s.last, 1.0 / 30.0), "{s:?}");
}
