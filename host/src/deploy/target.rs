//! Boards to deploy to: `user@host[:port]` on the command line, or a file with one a line.
//!
//! ```text
//! # inventory: name, address, then what differs from the command line
//! kitchen  pi@kitchen.local
//! gate     pi@10.0.0.7:2222  prefix=/data/vgg-edge  listen=0.0.0.0:80
//! lab      lab@[fd00::7]     sudo=yes  service=no
//! ```
//!
//! A line a host: it can be sorted, compared and generated, and needs no more syntax. Keys, users, jump hosts and the
//! like belong into ssh's own configuration, which is read as always.
//!
//! ```
//! use vgg_edge_host::deploy::Target;
//! let target = Target::parse("pi@board:2222")?;
//! assert_eq!((target.name.as_str(), target.address.as_str(), target.port), ("pi@board:2222", "pi@board", Some(2222)));
//! # Ok::<(), vgg_edge_host::deploy::TargetError>(())
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A board, and what is set for it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name in messages and tables.
    pub name: String,
    /// `user@host` or `host` as ssh takes it; an IPv6 address without brackets.
    pub address: String,
    /// Port, if not ssh's own choice.
    pub port: Option<u16>,
    /// What its line in the inventory sets.
    pub own: Own,
}

/// What a line of an inventory may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Folder of the releases.
    pub prefix: Option<String>,
    /// Address that the service listens on.
    pub listen: Option<SocketAddr>,
    /// Whether commands that change the board run under sudo.
    pub sudo: Option<bool>,
    /// Whether a service is installed.
    pub service: Option<bool>,
}

/// Why a text names no board.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not an address.
    #[error("host `{found}`: {why}, expected user@host or user@host:port")]
    Address {
        /// What was given.
        found: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A line that names no board.
    #[error("{}:{line}: `{found}`: {why}", path.display())]
    Line {
        /// The inventory.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The word in question.
        found: String,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// An inventory that cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The inventory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// An inventory without hosts.
    #[error("{}: no host in it", path.display())]
    Empty {
        /// The inventory.
        path: PathBuf,
    },
    /// A board that would be deployed to twice at a time.
    #[error("host `{name}` is named twice")]
    Twice {
        /// Its name or address.
        name: String,
    },
    /// No board at all.
    #[error("no host: expected --host or --inventory")]
    None,
}

impl Target {
    /// Reads `user@host`, `host`, `user@host:port` or `user@[IPv6]:port`.
    ///
    /// # Errors
    /// Anything else; what ssh could take for an option is refused.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let wrong = |why| TargetError::Address { found: text.to_owned(), why };
        let allowed = |c: char| c.is_alphanumeric() || "._-+@:[]%".contains(c);
        if let Some(c) = text.chars().find(|&c| !allowed(c)) {
            let why =
                if c.is_whitespace() { "it has a space" } else { "it has a character that no host has" };
            return Err(wrong(why));
        }
        let (user, host) = match text.rsplit_once('@') {
            Some(("", _)) => return Err(wrong("the user is empty")),
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(wrong("`[` without `]`"))?;
                let port = match rest {
                    "" => None,
                    _ => Some(rest.strip_prefix(':').ok_or(wrong("no `:` behind `]`"))?),
                };
                (host, port)
            }
            None => match host.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(wrong("an IPv6 address needs brackets")),
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        let port = match port {
            Some(port) => Some(
                port.parse()
                    .ok()
                    .filter(|&port: &u16| port > 0)
                    .ok_or(wrong("the port is no number from 1 to 65535"))?,
            ),
            None => None,
        };
        if host.is_empty() {
            return Err(wrong("the host is empty"));
        }
        if host.starts_with('-') || text.starts_with('-') {
            return Err(wrong("it starts with `-`"));
        }
        if host.contains(['[', ']']) {
            return Err(wrong("a bracket where none belongs"));
        }
        let address = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        Ok(Self { name: text.to_owned(), address, port, own: Own::default() })
    }

    /// The address as rsync takes it in front of `:path`.
    pub(crate) fn rsync_address(&self) -> String {
        let (user, host) = self.address.rsplit_once('@').map_or(("", &*self.address), |(u, h)| (u, h));
        let at = if user.is_empty() { "" } else { "@" };
        if host.contains(':') { format!("{user}{at}[{host}]") } else { self.address.clone() }
    }
}

/// Reads an inventory.
///
/// # Errors
/// A file that cannot be read, a line that is wrong, or no line at all.
pub fn read_inventory(path: &Path) -> Result<Vec<Target>, TargetError> {
    let read = |error: std::io::Error| TargetError::Read { path: path.to_owned(), why: error.to_string() };
    parse_inventory(&std::fs::read_to_string(path).map_err(read)?, path)
}

fn parse_inventory(text: &str, path: &Path) -> Result<Vec<Target>, TargetError> {
    let mut targets = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let wrong = |found: &str, why: String| TargetError::Line {
            path: path.to_owned(),
            line: i + 1,
            found: found.to_owned(),
            why,
        };
        let address =
            words.next().ok_or_else(|| wrong(name, "a name alone, expected `name user@host`".to_owned()))?;
        let mut target = Target::parse(address).map_err(|error| match error {
            TargetError::Address { found, why } => wrong(&found, format!("{why}, expected user@host[:port]")),
            other => other,
        })?;
        target.name = name.to_owned();
        for word in words {
            set(&mut target.own, word).map_err(|why| wrong(word, why))?;
        }
        targets.push(target);
    }
    if targets.is_empty() {
        return Err(TargetError::Empty { path: path.to_owned() });
    }
    Ok(targets)
}

/// Applies `key=value`.
fn set(own: &mut Own, word: &str) -> Result<(), String> {
    let (key, value) = word.split_once('=').ok_or("expected key=value")?;
    let flag = || match value {
        "yes" => Ok(Some(true)),
        "no" => Ok(Some(false)),
        _ => Err("expected yes or no".to_owned()),
    };
    match key {
        "prefix" => own.prefix = Some(check_prefix(value)?),
        "listen" => {
            own.listen = Some(value.parse().map_err(|_| "expected ADDRESS:PORT in numbers".to_owned())?)
        }
        "sudo" => own.sudo = flag()?,
        "service" => own.service = flag()?,
        _ => return Err("expected prefix, listen, sudo or service".to_owned()),
    }
    Ok(())
}

/// A folder that a board's shell, rsync and systemd all read the same way, without a quote: absolute, or below `~/`.
///
/// # Errors
/// What is wrong with it.
pub fn check_prefix(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("~/").or_else(|| text.strip_prefix('/'));
    let rest = rest.ok_or("expected a folder that starts with / or ~/")?;
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() {
        return Err("expected a folder below / or ~/".to_owned());
    }
    if let Some(c) = rest.chars().find(|&c| !c.is_ascii_alphanumeric() && !"/._-+".contains(c)) {
        return Err(format!("found {c:?}, expected letters, digits and any of / . _ - +"));
    }
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("expected no empty part, `.` or `..` in it".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// All boards, each once.
///
/// # Errors
/// None, or one twice.
pub fn check_targets(targets: &[Target]) -> Result<(), TargetError> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for target in targets {
        let place = (&target.address, target.port, &target.own.prefix);
        if !names.insert(&target.name) || !addresses.insert(place) {
            return Err(TargetError::Twice { name: target.name.clone() });
        }
    }
    if targets.is_empty() { Err(TargetError::None) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<u16>, String) {
        let target = Target::parse(text).unwrap();
        let rsync = target.rsync_address();
        (target.address, target.port, rsync)
    }

    #[test]
    fn addresses_as_people_write_them() {
        let is = |text: &str, address: &str, port, rsync: &str| {
            assert_eq!(parsed(text), (address.to_owned(), port, rsync.to_owned()), "{text}");
        };
        is("board", "board", None, "board");
        is("pi@board.local", "pi@board.local", None, "pi@board.local");
        is("pi@board:22", "pi@board", Some(22), "pi@board");
        is("pi@[fe80::1%eth0]:2222", "pi@fe80::1%eth0", Some(2222), "pi@[fe80::1%eth0]");
        is("[::1]", "::1", None, "[::1]");
    }

    #[test]
    fn what_ssh_could_take_for_something_else_is_refused() {
        for (text, why) in [
            ("", "the host is empty"),
            ("pi@", "the host is empty"),
            ("@board", "the user is empty"),
            ("-oProxyCommand=x", "it has a character that no host has"),
            ("-v", "it starts with `-`"),
            ("pi@-v", "it starts with `-`"),
            ("pi board", "it has a space"),
            ("pi@board;id", "it has a character that no host has"),
            ("pi@board:0", "the port is no number from 1 to 65535"),
            ("pi@board:65536", "the port is no number from 1 to 65535"),
            ("pi@board:", "the port is no number from 1 to 65535"),
            ("pi@fe80::1", "an IPv6 address needs brackets"),
            ("pi@[::1", "`[` without `]`"),
            ("pi@[::1]22", "no `:` behind `]`"),
            ("pi@a]b", "a bracket where none belongs"),
        ] {
            let expected = format!("host `{text}`: {why}, expected user@host or user@host:port");
            assert_eq!(Target::parse(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_inventory_is_a_line_a_host() {
        let text = "# all\n\nkitchen pi@kitchen # old\ngate pi@gate:2 prefix=/data/x/ listen=0.0.0.0:80 sudo=yes service=no\n";
        let targets = parse_inventory(text, Path::new("f")).unwrap();
        let own = Own {
            prefix: Some("/data/x".to_owned()),
            listen: Some("0.0.0.0:80".parse().unwrap()),
            sudo: Some(true),
            service: Some(false),
        };
        let gate = Target { name: "gate".to_owned(), address: "pi@gate".to_owned(), port: Some(2), own };
        assert_eq!(targets[1], gate);
        assert_eq!((targets[0].name.as_str(), &targets[0].own), ("kitchen", &Own::default()));
        check_targets(&targets).unwrap();
    }

    #[test]
    fn a_wrong_line_is_named_with_its_word() {
        for (text, expected) in [
            ("# none\n", "f: no host in it"),
            ("a\n", "f:1: `a`: a name alone, expected `name user@host`"),
            ("\na b@\n", "f:2: `b@`: the host is empty, expected user@host[:port]"),
            ("a b x\n", "f:1: `x`: expected key=value"),
            ("a b x=1\n", "f:1: `x=1`: expected prefix, listen, sudo or service"),
            ("a b sudo=1\n", "f:1: `sudo=1`: expected yes or no"),
            ("a b listen=80\n", "f:1: `listen=80`: expected ADDRESS:PORT in numbers"),
            ("a b prefix=x\n", "f:1: `prefix=x`: expected a folder that starts with / or ~/"),
            ("a b prefix=/\n", "f:1: `prefix=/`: expected a folder below / or ~/"),
            ("a b prefix=/a/../b\n", "f:1: `prefix=/a/../b`: expected no empty part, `.` or `..` in it"),
            (
                "a b prefix=/a$b\n",
                "f:1: `prefix=/a$b`: found '$', expected letters, digits and any of / . _ - +",
            ),
        ] {
            assert_eq!(parse_inventory(text, Path::new("f")).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn no_board_twice() {
        let target = |text: &str| Target::parse(text).unwrap();
        let twice = check_targets(&[target("a"), target("b"), target("a")]);
        assert_eq!(twice.unwrap_err().to_string(), "host `a` is named twice");
        assert_eq!(check_targets(&[]).unwrap_err(), TargetError::None);
        assert_eq!(check_targets(&[target("a"), target("a:22")]), Ok(()));
    }
}
