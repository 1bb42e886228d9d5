//! The systemd unit of the service: a user of its own, nothing writable, no more memory and system calls than it needs.
//!
//! ```text
//! Type=notify + WatchdogSec    ready when it answers; killed and started again when it hangs
//! DynamicUser, ProtectSystem   no account, no file of the board is writable
//! MemoryMax                    arena + weights (mapped and repacked) + what the server takes
//! ```
//!
//! Options that an older systemd does not know are ignored there, with a line in its log.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// What clients may cost, in the words and by the formula of `classify serve --help`: bodies twice, and 12 bytes for each
/// pixel of every picture that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bodies of all requests together, MiB.
    pub max_buffered: u64,
    /// Largest picture, 2^20 pixels.
    pub max_pixels: u64,
    /// Pictures that are decoded at a time.
    pub decoders: u64,
}

impl Bounds {
    /// The defaults of `serve`.
    pub const ROOMY: Self = Self { max_buffered: 64, max_pixels: 16, decoders: 2 };
    /// For boards on which these would take more than half of the memory.
    pub const SMALL: Self = Self { max_buffered: 16, max_pixels: 8, decoders: 1 };

    /// Memory that the service may need besides the model: with connections, threads and the program itself; bytes.
    pub fn bytes(self) -> u64 {
        (2 * self.max_buffered + 12 * self.max_pixels * self.decoders + 64) << 20
    }

    /// The arguments that set it.
    fn arguments(self) -> [(&'static str, String); 3] {
        [
            ("--max-buffered", format!("{}M", self.max_buffered)),
            ("--max-pixels", (self.max_pixels << 20).to_string()),
            ("--decoders", self.decoders.to_string()),
        ]
    }
}
/// Seconds without a sign of life after which systemd starts the service again.
pub const WATCHDOG_SECONDS: u32 = 30;

/// What the unit is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Folder of the releases, absolute; the service runs from `current` in it.
    pub prefix: &'a str,
    /// The model's name, for people.
    pub model: &'a str,
    /// Address that the service listens on.
    pub listen: SocketAddr,
    /// Whether the model's signature is checked at every start.
    pub signed: bool,
    /// Whether requests need a token.
    pub token: bool,
    /// The camera's device.
    pub camera: Option<&'a str>,
    /// More arguments of `classify serve`.
    pub arguments: &'a [String],
    /// What clients may cost; an argument of the user wins.
    pub bounds: Bounds,
    /// Bytes that the model takes: arena, file, weights laid out anew.
    pub model_bytes: u64,
}

impl Unit<'_> {
    /// The unit's text.
    pub fn text(&self) -> String {
        let Self { prefix, model, listen, .. } = self;
        let mut command = vec![
            format!("{prefix}/current/classify"),
            "serve".to_owned(),
            format!("{prefix}/current/model.vgg"),
            "--listen".to_owned(),
            listen.to_string(),
        ];
        if self.signed {
            command.extend(["--public-key".to_owned(), format!("{prefix}/current/public.key")]);
        }
        if let Some(camera) = self.camera {
            command.extend(["--camera".to_owned(), camera.to_owned()]);
        }
        if self.bounds != Bounds::ROOMY {
            for (name, value) in self.bounds.arguments() {
                let own = |argument: &String| argument.split('=').next() == Some(name);
                if !self.arguments.iter().any(own) {
                    command.extend([name.to_owned(), value]);
                }
            }
        }
        let mut command: Vec<String> =
            command.iter().chain(self.arguments).map(|word| quoted(word)).collect();
        if self.token {
            // A variable of systemd's own, not to be quoted.
            command.extend(["--token-file".to_owned(), "${CREDENTIALS_DIRECTORY}/token".to_owned()]);
        }
        let mut text = format!(
            "# Written by `cargo xtask deploy`; the next one replaces it.\n\
             [Unit]\n\
             Description=vgg-edge classifier, {}\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             StartLimitIntervalSec=120\n\
             StartLimitBurst=5\n\
             \n\
             [Service]\n\
             Type=notify\n\
             ExecStart={}\n\
             WatchdogSec={WATCHDOG_SECONDS}\n\
             Restart=on-failure\n\
             RestartSec=2\n\
             TimeoutStartSec=120\n\
             TimeoutStopSec=20\n\
             MemoryMax={}\n\
             {HARDENING}",
            model.replace('%', "%%"),
            command.join(" "),
            self.model_bytes.saturating_add(self.bounds.bytes())
        );
        let mut add = |line: &str| {
            // Writing to a string never fails.
            let _ = writeln!(text, "{line}");
        };
        if self.token {
            add(&format!("LoadCredential=token:{prefix}/current/token"));
        }
        match self.camera {
            Some(camera) => {
                add(&format!("DeviceAllow={} rw", quoted(camera)));
                add("SupplementaryGroups=video");
            }
            None => add("PrivateDevices=yes"),
        }
        if listen.port() < 1024 {
            add("CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE");
        } else {
            add("CapabilityBoundingSet=");
            if self.camera.is_none() {
                add("PrivateUsers=yes");
            }
        }
        // Further arguments may name other machines, a broker's for example.
        if listen.ip().is_loopback() && self.arguments.is_empty() {
            add("IPAddressDeny=any\nIPAddressAllow=localhost");
        }
        text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
        text
    }

    /// Where the board itself reaches the service.
    pub fn local_address(&self) -> SocketAddr {
        local_address(self.listen)
    }
}

/// The loopback address where the service listens on all.
pub(crate) fn local_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What no classifier needs. `sched_setaffinity` stays: it keeps the program on the big cores.
const HARDENING: &str = "\
DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
NoNewPrivileges=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
DevicePolicy=closed
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=sched_setaffinity
SystemCallErrorNumber=EPERM
UMask=0077
";

/// A word of a unit's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '$' => text.push_str("$$"),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit<'static> {
        Unit {
            prefix: "/opt/vgg-edge",
            model: "small.vgg",
            listen: "127.0.0.1:8080".parse().unwrap(),
            signed: false,
            token: false,
            camera: None,
            arguments: &[],
            bounds: Bounds::SMALL,
            model_bytes: 100 << 20,
        }
    }

    fn line(text: &str, key: &str) -> Option<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    }

    #[test]
    fn a_service_on_loopback_reaches_nothing_else() {
        let text = unit().text();
        // Half of the board's memory is less than the defaults' bounds.
        let command = "/opt/vgg-edge/current/classify serve /opt/vgg-edge/current/model.vgg --listen 127.0.0.1:8080 \
                       --max-buffered 16M --max-pixels 8388608 --decoders 1";
        assert_eq!(line(&text, "ExecStart").as_deref(), Some(command));
        assert_eq!(line(&text, "IPAddressDeny").as_deref(), Some("any"));
        assert_eq!(line(&text, "MemoryMax").as_deref(), Some("306184192"));
        assert_eq!(line(&text, "PrivateDevices").as_deref(), Some("yes"));
        assert_eq!(line(&text, "AmbientCapabilities"), None);
    }

    #[test]
    fn a_camera_a_token_and_a_low_port_open_what_they_need() {
        let arguments = ["--mqtt".to_owned(), "mqtt://a b/%\"$".to_owned()];
        let text = Unit {
            listen: "0.0.0.0:80".parse().unwrap(),
            signed: true,
            token: true,
            camera: Some("/dev/video0"),
            bounds: Bounds::ROOMY,
            arguments: &arguments,
            ..unit()
        }
        .text();
        let command = "/opt/vgg-edge/current/classify serve /opt/vgg-edge/current/model.vgg --listen 0.0.0.0:80 \
                       --public-key /opt/vgg-edge/current/public.key --camera /dev/video0 --mqtt \"mqtt://a b/%%\\\"$$\" \
                       --token-file ${CREDENTIALS_DIRECTORY}/token";
        assert_eq!(line(&text, "ExecStart").as_deref(), Some(command));
        assert_eq!(line(&text, "DeviceAllow").as_deref(), Some("/dev/video0 rw"));
        assert_eq!(line(&text, "AmbientCapabilities").as_deref(), Some("CAP_NET_BIND_SERVICE"));
        assert_eq!(line(&text, "LoadCredential").as_deref(), Some("token:/opt/vgg-edge/current/token"));
        assert_eq!((line(&text, "IPAddressDeny"), line(&text, "PrivateDevices")), (None, None));
    }

    #[test]
    fn the_board_asks_itself_on_loopback() {
        let local = |text: &str| local_address(text.parse().unwrap()).to_string();
        assert_eq!(local("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(local("[::]:80"), "[::1]:80");
        assert_eq!(local("10.0.0.7:80"), "10.0.0.7:80");
    }
}
