//! What systemd hears from the program: real datagrams on real sockets, by path and by abstract name.

#[path = "../src/notify.rs"]
#[allow(dead_code, unreachable_pub)]
mod notify;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use notify::Notifier;
use tempfile::TempDir;

/// The next datagram.
fn heard(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = [0; 4096];
    let len = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

/// Everything that a service says, as `socket` hears it.
fn speaks(notifier: &Notifier, socket: &UnixDatagram) {
    notifier.ready("serving m.vgg");
    assert_eq!(heard(socket), "READY=1\nSTATUS=serving m.vgg");
    notifier.alive();
    assert_eq!(heard(socket), "WATCHDOG=1");
    notifier.status("12 pictures\nREADY=1");
    assert_eq!(heard(socket), "STATUS=12 pictures READY=1");
    notifier.stopping();
    assert_eq!(heard(socket), "STOPPING=1");
}

#[test]
fn a_socket_with_a_path_hears_every_word() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    speaks(&Notifier::new(Some(path.into()), None, None), &socket);
}

#[test]
fn an_abstract_socket_hears_every_word() {
    let name = format!("vgg-edge-notify-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    speaks(&Notifier::new(Some(format!("@{name}").into()), None, None), &socket);
}

#[test]
fn the_watchdog_is_served_twice_as_often_as_it_asks() {
    let interval = |usec, pid: Option<&str>| Notifier::new(None, usec, pid).watchdog_interval();
    let own = std::process::id().to_string();
    assert_eq!(interval(Some("30000000"), None), Some(Duration::from_secs(15)));
    assert_eq!(interval(Some("30000000"), Some(&own)), Some(Duration::from_secs(15)));
    // Meant for the process that started this one.
    assert_eq!(interval(Some("30000000"), Some("1")), None);
    for nothing in [None, Some("0"), Some(""), Some("-3"), Some("soon"), Some("99999999999999999999")] {
        assert_eq!(interval(nothing, None), None, "{nothing:?}");
    }
}

#[test]
fn nobody_who_listens_is_no_trouble() {
    let dir = TempDir::new().unwrap();
    let gone = dir.path().join("gone");
    let unread = dir.path().join("unread");
    let _socket = UnixDatagram::bind(&unread).unwrap();
    let long = format!("/{}", "x".repeat(300));
    for name in [None, Some(""), Some("relative"), Some("@"), Some(long.as_str()), gone.to_str()] {
        let notifier = Notifier::new(name.map(Into::into), None, None);
        notifier.ready("");
        notifier.stopping();
    }
    // More than its queue holds: dropped, not waited for.
    let notifier = Notifier::new(Some(unread.into()), None, None);
    let start = Instant::now();
    (0..5000).for_each(|_| notifier.alive());
    assert!(start.elapsed() < Duration::from_secs(60));
}
