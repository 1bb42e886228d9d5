//! The board under the program, as its kernel tells in sysfs: big cores, caches, clock, temperature, throttling.
//!
//! ```text
//! devices/system/cpu/cpu<N>/cpu_capacity                  0..=1024, 1024 for the fastest; missing where all are equal
//! devices/system/cpu/cpu<N>/cache/index<I>/{level,size}   KiB, as in `2048K`
//! devices/system/cpu/cpu<N>/cpufreq/{scaling_cur_freq,cpuinfo_max_freq}    kHz
//! class/thermal/thermal_zone<Z>/{type,temp}               thousandths of a degree Celsius
//! devices/platform/soc*/*firmware/get_throttled           Raspberry Pi: bits in hexadecimal
//! class/hwmon/hwmon<H>/{name,in0_lcrit_alarm}             Raspberry Pi: name `rpi_volt`, 1 for too low a voltage
//! ```
//!
//! Boards differ in what they have: what is missing or makes no sense is left out, and nothing here fails. The root of
//! the tree is a parameter, so that tests have boards of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// A sysfs tree.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    root: PathBuf,
}

/// What the board's sensors say at one moment; what a board does not tell is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Sensors {
    /// Clock of the slowest of the cores in use, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_mhz: Option<u32>,
    /// The most that this core may have, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_clock_mhz: Option<u32>,
    /// The hottest of the chip's sensors, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) throttled: Option<Throttled>,
}

/// Why the board is, or since it started was, slower than it could be. Empty lists: it is not, and was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Throttled {
    pub(crate) now: Vec<&'static str>,
    pub(crate) earlier: Vec<&'static str>,
}

/// Bits 0 to 3 of `get_throttled`; those of what was are 16 higher.
const REASONS: [&str; 4] = ["under-voltage", "clock capped", "throttled", "soft temperature limit"];
/// Words in the names of the sensors that sit in the chip, not in a battery or a radio.
const CHIP: [&str; 6] = ["cpu", "soc", "core", "cluster", "pkg", "package"];

impl Board {
    /// The board that this program runs on.
    pub(crate) fn here() -> Self {
        Self::at("/sys")
    }

    /// The board that the tree at `root` describes.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The big cores among `allowed`; `None` where all are equal or nothing is known.
    pub(crate) fn big_cores(&self, allowed: &[usize]) -> Option<Vec<usize>> {
        let capacity = |&core: &usize| Some((core, parsed::<u32>(&self.core(core).join("cpu_capacity"))?));
        let capacities: Vec<_> = allowed.iter().map(capacity).collect::<Option<_>>()?;
        let max = capacities.iter().map(|c| c.1).max()?;
        // Prime and big cores of a three-tier chip differ by less than a third, little ones are under a half.
        let big: Vec<usize> = capacities.iter().filter(|c| c.1 > max / 2).map(|c| c.0).collect();
        (big.len() < capacities.len()).then_some(big)
    }

    /// Bytes of the second-level cache of a core.
    pub(crate) fn l2_bytes(&self, core: usize) -> Option<usize> {
        let caches = entries(&self.core(core).join("cache"));
        let l2 = caches.iter().find(|cache| parsed::<u32>(&cache.join("level")) == Some(2))?;
        let kib: usize = text(&l2.join("size"))?.strip_suffix('K')?.parse().ok()?;
        kib.checked_mul(1024).filter(|&bytes| bytes > 0)
    }

    /// The sensors, for a program on `cores`.
    pub(crate) fn sensors(&self, cores: &[usize]) -> Sensors {
        let clock = self.clock(cores);
        Sensors {
            clock_mhz: clock.map(|(now, _)| now),
            max_clock_mhz: clock.and_then(|(_, max)| max),
            temperature: self.temperature(),
            throttled: self.throttled(),
        }
    }

    fn core(&self, core: usize) -> PathBuf {
        self.root.join(format!("devices/system/cpu/cpu{core}"))
    }

    /// The clock of the slowest core, and the most it may have.
    fn clock(&self, cores: &[usize]) -> Option<(u32, Option<u32>)> {
        let mhz = |path: &Path| parsed::<u32>(path).filter(|&khz| khz > 0).map(|khz| khz.div_ceil(1000));
        let clock = |&core: &usize| {
            let dir = self.core(core).join("cpufreq");
            Some((mhz(&dir.join("scaling_cur_freq"))?, mhz(&dir.join("cpuinfo_max_freq"))))
        };
        cores.iter().filter_map(clock).min()
    }

    fn temperature(&self) -> Option<f32> {
        let zone = |zone: &PathBuf| {
            let degrees = parsed::<i32>(&zone.join("temp"))? as f32 / 1e3;
            // Sensors that are off say 0 or less than there can be.
            let makes_sense = (-40.0..150.0).contains(&degrees) && degrees != 0.0;
            makes_sense.then(|| (text(&zone.join("type")).unwrap_or_default().to_lowercase(), degrees))
        };
        let zones = entries(&self.root.join("class/thermal"));
        let zones: Vec<_> =
            zones.iter().filter(|path| named(path, "thermal_zone")).filter_map(zone).collect();
        let in_chip = |zone: &&(String, f32)| CHIP.iter().any(|word| zone.0.contains(word));
        let hottest = |degrees: Vec<f32>| degrees.into_iter().max_by(f32::total_cmp);
        let chip = hottest(zones.iter().filter(in_chip).map(|zone| zone.1).collect());
        chip.or_else(|| hottest(zones.iter().map(|zone| zone.1).collect()))
    }

    fn throttled(&self) -> Option<Throttled> {
        self.firmware().or_else(|| self.voltage())
    }

    /// What the firmware of a Raspberry Pi says.
    fn firmware(&self) -> Option<Throttled> {
        let platform = entries(&self.root.join("devices/platform"));
        let soc = platform.iter().filter(|path| named(path, "soc"));
        let firmware = soc
            .flat_map(|path| entries(path))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("firmware")));
        let word = firmware.filter_map(|path| text(&path.join("get_throttled"))).next()?;
        let bits = u32::from_str_radix(word.trim_start_matches("0x"), 16).ok()?;
        let reasons = |bits: u32| {
            REASONS
                .iter()
                .enumerate()
                .filter(|(i, _)| bits >> i & 1 == 1)
                .map(|(_, reason)| *reason)
                .collect()
        };
        Some(Throttled { now: reasons(bits), earlier: reasons(bits >> 16) })
    }

    /// What a Raspberry Pi's kernel says where the firmware's word is not shown.
    fn voltage(&self) -> Option<Throttled> {
        let sensors = entries(&self.root.join("class/hwmon"));
        let volt = sensors.iter().find(|path| text(&path.join("name")).as_deref() == Some("rpi_volt"))?;
        let low = parsed::<u32>(&volt.join("in0_lcrit_alarm"))? != 0;
        Some(Throttled { now: if low { vec![REASONS[0]] } else { Vec::new() }, earlier: Vec::new() })
    }
}

/// The cores that this thread may use.
pub(crate) fn allowed_cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None);
    allowed.map_or(Vec::new(), |set| (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps this thread, and those that it will start, on `cores`.
///
/// # Errors
/// When the system refuses.
pub(crate) fn stay_on(cores: &[usize]) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
    sched_setaffinity(None, &set)
}

/// A file's text without the space around it.
fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A file that holds a number.
fn parsed<T: FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// What is in a directory, sorted.
fn entries(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether the path's last part starts with `prefix`.
fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}
