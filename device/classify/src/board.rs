//! The board under the program, as its kernel tells in sysfs: big cores, caches, clock, temperature, throttling.
//!
//! ```text
//! devices/system/cpu/cpu<N>/cpu_capacity                  0..=1024, 1024 for the fastest; missing where all are equal
//! devices/system/cpu/cpu<N>/cache/index<I>/{level,size}   KiB, as in `2048K`
//! devices/system/cpu/cpu<N>/cpufreq/{scaling_cur_freq,cpuinfo_max_freq}    kHz
//! class/thermal/thermal_zone<Z>/{type,temp}               thousandths of a degree Celsius
//! class/thermal/cooling_device<D>/{type,cur_state}        type with `cpufreq`: over 0 while the kernel slows cores for heat
//! devices/platform/soc*/*firmware/get_throttled           Raspberry Pi: bits in hexadecimal
//! class/hwmon/hwmon<H>/{name,in0_lcrit_alarm}             Raspberry Pi: name `rpi_volt`, 1 for too low a voltage
//! class/hwmon/hwmon<H>/fan1_input                         turns a minute
//! ```
//!
//! Boards differ in what they have: what is missing or makes no sense is left out, and nothing here fails. The root of
//! the tree is a parameter, so that tests have boards of their own.
//!
//! ```text
//! let sensors = Board::here().sensors(&board::allowed_cores());     // looks for them
//! let reading = sensors.read();                                     // as often as one likes; Serialize
//! ```

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

/// The sensors of a board, found once; [`read`](Self::read) then opens a few small files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sensors {
    clocks: Vec<Clock>,
    /// Of the chip; all of them where none is known to be in it.
    temperatures: Vec<PathBuf>,
    throttling: Option<Throttling>,
    fan: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Clock {
    core: usize,
    now: PathBuf,
    max_mhz: Option<u32>,
}

/// Who tells that the board is slowed down, best first.
#[derive(Clone, Debug)]
enum Throttling {
    /// A Raspberry Pi's firmware: its word of flags.
    Firmware(PathBuf),
    /// A Raspberry Pi's kernel, where the firmware's word is not shown: 1 for too low a voltage; and the cooling devices.
    Kernel { voltage: Option<PathBuf>, cooling: Vec<PathBuf> },
}

/// What the board's sensors say at one moment; what a board does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Reading {
    /// Clock of the slowest of the cores in use, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_mhz: Option<u32>,
    /// The most that this core may have, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_clock_mhz: Option<u32>,
    /// Every core in use, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) clocks: Vec<CoreClock>,
    /// The hottest of the chip's sensors, degrees Celsius, -40 to 150.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,
    /// Turns of the fan a minute; 0 when it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fan_rpm: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) throttled: Option<Throttled>,
}

/// A core's clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CoreClock {
    /// As the kernel counts cores.
    pub(crate) core: usize,
    pub(crate) mhz: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_mhz: Option<u32>,
}

/// Why the board is, or since it started was, slower than it could be, in the words of [`REASONS`]. Empty lists: it is not,
/// and was not. Of what was, only a Raspberry Pi's firmware tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Throttled {
    pub(crate) now: Vec<&'static str>,
    pub(crate) earlier: Vec<&'static str>,
}

/// Bits 0 to 3 of `get_throttled`; those of what was are 16 higher.
pub(crate) const REASONS: [&str; 4] =
    ["under-voltage", "clock capped", "throttled", "soft temperature limit"];
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

    /// Finds the sensors, for a program on `cores`.
    pub(crate) fn sensors(&self, cores: &[usize]) -> Sensors {
        Sensors {
            clocks: cores.iter().map(|&core| self.clock(core)).collect(),
            temperatures: self.temperatures(),
            throttling: self.throttling(),
            fan: self.hwmon().into_iter().map(|path| path.join("fan1_input")).find(|path| path.exists()),
        }
    }

    fn core(&self, core: usize) -> PathBuf {
        self.root.join(format!("devices/system/cpu/cpu{core}"))
    }

    fn clock(&self, core: usize) -> Clock {
        let dir = self.core(core).join("cpufreq");
        Clock { core, now: dir.join("scaling_cur_freq"), max_mhz: mhz(&dir.join("cpuinfo_max_freq")) }
    }

    fn temperatures(&self) -> Vec<PathBuf> {
        let zones = entries(&self.root.join("class/thermal"));
        let zones = zones.into_iter().filter(|path| named(path, "thermal_zone"));
        // Some have no reading now, as those of cores that are off; they may have one later.
        let (chip, other): (Vec<_>, Vec<_>) = zones.partition(|path| {
            let kind = text(&path.join("type")).unwrap_or_default().to_lowercase();
            CHIP.iter().any(|word| kind.contains(word)) && degrees(&path.join("temp")).is_some()
        });
        let zones = if chip.is_empty() { other } else { chip };
        zones.into_iter().map(|path| path.join("temp")).collect()
    }

    fn throttling(&self) -> Option<Throttling> {
        let platform = entries(&self.root.join("devices/platform"));
        let soc = platform.iter().filter(|path| named(path, "soc")).flat_map(|path| entries(path));
        let firmware = soc
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("firmware")));
        let word = firmware.map(|path| path.join("get_throttled")).find(|path| path.exists());
        if let Some(word) = word {
            return Some(Throttling::Firmware(word));
        }
        let voltage = self
            .hwmon()
            .into_iter()
            .find(|path| text(&path.join("name")).as_deref() == Some("rpi_volt"))
            .map(|path| path.join("in0_lcrit_alarm"));
        let thermal = entries(&self.root.join("class/thermal"));
        let is_cpu = |path: &PathBuf| text(&path.join("type")).is_some_and(|kind| kind.contains("cpufreq"));
        let cooling = thermal.into_iter().filter(|path| named(path, "cooling_device") && is_cpu(path));
        let cooling: Vec<_> = cooling.map(|path| path.join("cur_state")).collect();
        (voltage.is_some() || !cooling.is_empty()).then_some(Throttling::Kernel { voltage, cooling })
    }

    fn hwmon(&self) -> Vec<PathBuf> {
        entries(&self.root.join("class/hwmon"))
    }
}

impl Sensors {
    /// Reads them all: well under a millisecond, so once a second costs nothing.
    pub(crate) fn read(&self) -> Reading {
        let clock = |clock: &Clock| {
            Some(CoreClock { core: clock.core, mhz: mhz(&clock.now)?, max_mhz: clock.max_mhz })
        };
        let clocks: Vec<CoreClock> = self.clocks.iter().filter_map(clock).collect();
        let slowest = clocks.iter().min_by_key(|clock| (clock.mhz, clock.max_mhz));
        Reading {
            clock_mhz: slowest.map(|clock| clock.mhz),
            max_clock_mhz: slowest.and_then(|clock| clock.max_mhz),
            temperature: self.temperatures.iter().filter_map(|path| degrees(path)).max_by(f32::total_cmp),
            fan_rpm: self.fan.as_deref().and_then(parsed),
            throttled: self.throttling.as_ref().and_then(Throttling::read),
            clocks,
        }
    }
}

impl Throttling {
    fn read(&self) -> Option<Throttled> {
        match self {
            Self::Firmware(path) => {
                let word = text(path)?;
                let bits = u32::from_str_radix(word.trim_start_matches("0x"), 16).ok()?;
                Some(Throttled { now: reasons(bits), earlier: reasons(bits >> 16) })
            }
            Self::Kernel { voltage, cooling } => {
                let voltage = voltage.as_deref().and_then(parsed::<u32>).map(|alarm| u32::from(alarm != 0));
                let states: Vec<u32> = cooling.iter().filter_map(|path| parsed(path)).collect();
                let slowed = (!states.is_empty()).then(|| u32::from(states.iter().any(|&state| state > 0)));
                // None of both: nothing is known.
                let bits = voltage.or(slowed).map(|_| voltage.unwrap_or(0) | slowed.unwrap_or(0) << 1)?;
                Some(Throttled { now: reasons(bits), earlier: Vec::new() })
            }
        }
    }
}

/// Names of the flags set in the last four bits.
fn reasons(bits: u32) -> Vec<&'static str> {
    REASONS.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, reason)| *reason).collect()
}

/// A file of kHz in MHz; 0 is no clock.
fn mhz(path: &Path) -> Option<u32> {
    parsed::<u32>(path).filter(|&khz| khz > 0).map(|khz| khz.div_ceil(1000))
}

/// A file of thousandths of a degree. Sensors that are off say 0 or less than there can be.
fn degrees(path: &Path) -> Option<f32> {
    let degrees = parsed::<i32>(path)? as f32 / 1e3;
    ((-40.0..150.0).contains(&degrees) && degrees != 0.0).then_some(degrees)
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
