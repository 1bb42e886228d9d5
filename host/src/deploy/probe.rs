//! What a board is: processor, name, memory, disk, tools, init system, and what is deployed there.
//!
//! ```text
//! sh -s ─► key=value lines ─► Facts ─► the row of `boards` that it is, or is like
//! ```
//!
//! Nothing here changes the board. What the CPU itself says (getauxval) comes later, from `classify info --board`: by then
//! the program is there.

use std::collections::BTreeMap;

use super::error::Problem;
use super::shell::Script;
use crate::boards::{self, Board};

/// What a board says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `uname -m`: `aarch64`, `x86_64`.
    pub arch: String,
    /// `uname -sr`.
    pub kernel: String,
    /// Name in the device tree, or of the processor; empty where neither is.
    pub model: String,
    /// Words of the device tree's `compatible`.
    pub compatible: Vec<String>,
    /// `CPU part` of every core, in hexadecimal, sorted.
    pub parts: Vec<u32>,
    /// Cores.
    pub cores: usize,
    /// Memory, kB; 0 where unknown.
    pub memory_kb: u64,
    /// kB free where releases go.
    pub free_kb: u64,
    /// The user's home folder.
    pub home: String,
    /// Folder of the releases, absolute.
    pub prefix: String,
    /// Tools that it has, of those that are asked for.
    pub tools: Vec<String>,
    /// What systemd says of itself, or process 1.
    pub init: String,
    /// The first word behind `systemd`, as in `252`; empty without it.
    pub systemd: String,
    /// The release that `current` names; empty without one.
    pub current: String,
}

const PROBE: &str = r#"
case "$prefix" in "~/"*) prefix="$HOME/${prefix#??}";; esac
echo "prefix=$prefix"
echo "home=$HOME"
echo "arch=$(uname -m)"
echo "kernel=$(uname -sr)"
for tree in /proc/device-tree /sys/firmware/devicetree/base; do
  if [ -r $tree/model ]; then
    echo "model=$(tr -d '\000' <$tree/model)"
    echo "compatible=$(tr '\000' ' ' <$tree/compatible)"
    break
  fi
done
echo "cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)"
echo "parts=$(sed -n 's/^CPU part[^:]*: *//p' /proc/cpuinfo | tr '\n' ' ')"
echo "cores=$(grep -c '^processor' /proc/cpuinfo || true)"
echo "memory=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
there="$prefix"
while [ ! -d "$there" ]; do there=$(dirname "$there"); done
set -- $(df -Pk "$there" | tail -n 1)
echo "free=$4"
tools=
for tool in rsync sha256sum flock systemctl sudo; do
  if command -v $tool >/dev/null 2>&1; then tools="$tools $tool"; fi
done
echo "tools=$tools"
init=$(cat /proc/1/comm 2>/dev/null || echo unknown)
if command -v systemctl >/dev/null 2>&1; then
  state=$(systemctl is-system-running 2>/dev/null || true)
  case "$state" in
    running|degraded|starting|initializing|maintenance) init=systemd;;
    *) init="$init, systemd ${state:-absent}";;
  esac
  echo "systemd=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
fi
echo "init=$init"
current=$(readlink "$prefix/current" 2>/dev/null || true)
echo "current=${current#releases/}"
"#;

/// The script that asks; `prefix` may start with `~/`.
pub(crate) fn script(prefix: &str) -> Script {
    Script::new(PROBE).set("prefix", prefix)
}

impl Facts {
    /// Reads what the script printed.
    ///
    /// # Errors
    /// A board that does not say what cannot be done without.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |key: &str| values.get(key).map_or("", |value| value.trim()).to_owned();
        let words = |key: &str| value(key).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let needed = |key: &'static str, expected| match value(key) {
            found if found.is_empty() => Err(Problem::Answer { what: key, found, expected }),
            found => Ok(found),
        };
        let free = needed("free", "kB of disk")?;
        let free_kb = free.parse().map_err(|_| Problem::Answer {
            what: "free",
            found: free.clone(),
            expected: "kB of disk",
        })?;
        let mut parts: Vec<u32> = words("parts")
            .iter()
            .filter_map(|part| u32::from_str_radix(part.trim_start_matches("0x"), 16).ok())
            .collect();
        parts.sort_unstable();
        Ok(Self {
            arch: needed("arch", "a processor")?,
            kernel: value("kernel"),
            model: if value("model").is_empty() { value("cpu") } else { value("model") },
            compatible: words("compatible"),
            parts,
            cores: value("cores").parse().unwrap_or(0),
            memory_kb: value("memory").parse().unwrap_or(0),
            free_kb,
            home: value("home"),
            prefix: needed("prefix", "a folder")?,
            tools: words("tools"),
            init: value("init"),
            systemd: value("systemd"),
            current: value("current"),
        })
    }

    /// Whether the board has `tool`.
    pub fn has(&self, tool: &str) -> bool {
        self.tools.iter().any(|found| found == tool)
    }

    /// The row of the table that this board is, or whose core is the biggest of its own.
    pub fn board(&self) -> Found {
        let row = |name: &str| boards::board(name);
        let named = NAMED.iter().find(|(words, _)| {
            self.model.contains(words) || self.compatible.iter().any(|compatible| compatible == words)
        });
        if let Some(board) = named.and_then(|(_, name)| row(name)) {
            return Found { board: Some(board), exact: true };
        }
        if self.arch == "x86_64" {
            return Found { board: row("x86-64"), exact: true };
        }
        let core = CORES.iter().rev().find(|(part, _)| self.parts.contains(part));
        Found { board: core.and_then(|(_, name)| row(name)), exact: false }
    }

    /// The board for people, as short as can be.
    pub fn title(&self) -> String {
        let name = if self.model.is_empty() { &self.arch } else { &self.model };
        match self.board() {
            Found { board: Some(board), exact: true } => format!("{name} ({})", board.name),
            Found { board: Some(board), exact: false } => format!("{name} (like {})", board.name),
            Found { board: None, .. } => name.clone(),
        }
    }
}

/// A board of the table, for a board of the world.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The row; `None` when no core is known.
    pub board: Option<&'static Board>,
    /// It is this board, not just one with such a core.
    pub exact: bool,
}

/// Words of the device tree's model, or one of `compatible`, and the row. The first that fits.
const NAMED: [(&str, &str); 13] = [
    ("Raspberry Pi Zero 2", "rpi3"),
    ("Raspberry Pi 3", "rpi3"),
    ("Raspberry Pi Compute Module 3", "rpi3"),
    // Before the 4: "Raspberry Pi 400" and "Raspberry Pi 4 Model B".
    ("Raspberry Pi 4", "rpi4"),
    ("Raspberry Pi Compute Module 4", "rpi4"),
    ("Raspberry Pi 5", "rpi5"),
    ("Raspberry Pi Compute Module 5", "rpi5"),
    ("brcm,bcm2712", "rpi5"),
    ("brcm,bcm2711", "rpi4"),
    ("rockchip,rk3566", "rk3566"),
    ("rockchip,rk3568", "rk3566"),
    ("rockchip,rk3588", "rk3588"),
    ("rockchip,rk3588s", "rk3588"),
];

/// `CPU part` of Arm's cores, the biggest last, and the row with such a core.
const CORES: [(u32, &str); 15] = [
    (0xd03, "rpi3"),       // Cortex-A53
    (0xd05, "rk3566"),     // Cortex-A55
    (0xd08, "rpi4"),       // Cortex-A72
    (0xd09, "rpi4"),       // Cortex-A73
    (0xd0a, "rpi5"),       // Cortex-A75
    (0xd0b, "rpi5"),       // Cortex-A76
    (0xd0c, "rpi5"),       // Neoverse N1
    (0xd0d, "rpi5"),       // Cortex-A77
    (0xd41, "rpi5"),       // Cortex-A78
    (0xd40, "armv8-i8mm"), // Neoverse V1
    (0xd47, "armv8-i8mm"), // Cortex-A710
    (0xd49, "armv8-i8mm"), // Neoverse N2
    (0xd4d, "armv8-i8mm"), // Cortex-A715
    (0xd4f, "armv8-i8mm"), // Neoverse V2
    (0xd81, "armv8-i8mm"), // Cortex-A720
];

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lines: &str) -> Facts {
        Facts::parse(&format!("prefix=/opt/x\nfree=1000\narch=aarch64\n{lines}")).unwrap()
    }

    #[test]
    fn boards_are_known_by_name_chip_or_core() {
        let is = |lines: &str, board: Option<&str>, exact| {
            let found = facts(lines).board();
            assert_eq!((found.board.map(|board| board.name), found.exact), (board, exact), "{lines}");
        };
        is("model=Raspberry Pi 4 Model B Rev 1.4", Some("rpi4"), true);
        is("model=Raspberry Pi 400 Rev 1.0", Some("rpi4"), true);
        is("model=Raspberry Pi 5 Model B Rev 1.0", Some("rpi5"), true);
        is("model=Raspberry Pi Zero 2 W Rev 1.0", Some("rpi3"), true);
        is("model=Radxa ROCK 5B\ncompatible=radxa,rock-5b rockchip,rk3588", Some("rk3588"), true);
        is("model=Pine64 Quartz64\ncompatible=pine64,quartz64-a rockchip,rk3566", Some("rk3566"), true);
        // Big cores and little ones.
        is("model=Some board\nparts=0xd03 0xd03 0xd08 0xd08", Some("rpi4"), false);
        is("parts=0xd49", Some("armv8-i8mm"), false);
        is("parts=0xfff", None, false);
        is("", None, false);
    }

    #[test]
    fn every_row_that_is_named_exists() {
        for name in NAMED.iter().map(|row| row.1).chain(CORES.iter().map(|row| row.1)) {
            assert!(boards::board(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_board_that_says_too_little_is_refused() {
        let fails = |text: &str| Facts::parse(text).unwrap_err().to_string();
        assert_eq!(fails(""), "the board's free is ``, expected kB of disk");
        assert_eq!(fails("free=lots"), "the board's free is `lots`, expected kB of disk");
        assert_eq!(fails("free=1"), "the board's arch is ``, expected a processor");
    }

    #[test]
    fn titles_say_how_sure_they_are() {
        assert_eq!(facts("model=Raspberry Pi 4 Model B").title(), "Raspberry Pi 4 Model B (rpi4)");
        assert_eq!(facts("parts=0xd0c").title(), "aarch64 (like rpi5)");
        assert_eq!(facts("model=Odd one").title(), "Odd one");
    }
}
