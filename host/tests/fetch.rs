//! Downloads from a loopback server that cuts connections, lies and sends the wrong file. Nothing leaves the machine.

#[path = "support/server.rs"]
mod server;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use server::{Reply, Server, closed_port};
use tempfile::TempDir;
use vgg_edge_host::commands::fetch::text;
use vgg_edge_host::fetch::{
    Digest, Download, Downloaded, FetchError, Network, Options, Published, Source, download, fetch,
};
use vgg_edge_host::graph::Shape;
use vgg_edge_host::preprocess::{Preprocess, Preset};
use vgg_edge_host::progress::Progress;

const TAG: &str = "\"v1\"";

/// Bytes that differ from place to place, more than fit a socket's buffers.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn md5(bytes: &[u8]) -> String {
    Digest::Md5("").of(bytes).expect("reads")
}

/// A folder to download to, and what was said on the way.
struct Client {
    folder: TempDir,
    md5: String,
    max_bytes: u64,
    network: Network,
    said: Vec<String>,
}

impl Client {
    fn expecting(content: &[u8]) -> Self {
        let network = Network {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            tries: 4,
            pause: Duration::ZERO,
            proxy: false,
        };
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, md5: md5(content), max_bytes: 10 << 20, network, said: Vec::new() }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("net.h5")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn get(&mut self, url: &str) -> Result<Downloaded, FetchError> {
        let target = self.target();
        let digest = self.md5.clone();
        let asked = Download {
            url,
            target: &target,
            digest: Digest::Md5(&digest),
            max_bytes: self.max_bytes,
            network: self.network,
        };
        let said = &mut self.said;
        download(&asked, Progress::Hidden, &mut |event| said.push(event.to_string()))
    }

    /// The file must come, and nothing but it.
    fn gets(&mut self, url: &str, content: &[u8]) {
        let got = self.get(url).unwrap_or_else(|error| panic!("{error}, said {:?}", self.said));
        assert_eq!(
            got,
            Downloaded { already_there: false, digest: self.md5.clone(), bytes: content.len() as u64 }
        );
        assert!(fs::read(self.target()).expect("reads") == content, "the bytes differ");
        assert_eq!(self.listing(), ["net.h5"]);
    }

    /// What the error says behind the address, and the files that are left.
    fn fails(&mut self, url: &str) -> (String, Vec<String>) {
        let error = self.get(url).expect_err("no such file to be had");
        assert!(!error.kind().is_empty());
        let text = error.to_string();
        let start = format!("fetch {url}: ");
        let message = text.strip_prefix(&start).unwrap_or_else(|| panic!("`{text}`, expected `{start}`"));
        (message.to_owned(), self.listing())
    }

    fn listing(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).expect("reads").map(|e| e.expect("reads").file_name());
        let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_comes_whole_and_only_once() {
    let content = content(3 << 20);
    let file = content.clone();
    let server = Server::start(move |_, _| Reply::whole(&file, TAG));
    let mut client = Client::expecting(&content);
    client.gets(&server.url("net.h5"), &content);
    let again = client.get(&server.url("net.h5")).expect("it is there");
    assert!(again.already_there && again.bytes == content.len() as u64);
    assert_eq!((server.requests().len(), client.said.len()), (1, 0));
    let request = &server.requests()[0];
    assert_eq!((request.path.as_str(), request.from()), ("/net.h5", None));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let content = content(1 << 20);
    let file = content.clone();
    let cuts = [700_000, 0, 1, usize::MAX];
    let server = Server::start(move |n, request| Reply::ranged(&file, TAG, request).cut(cuts[n]));
    let mut client = Client::expecting(&content);
    client.gets(&server.url("net.h5"), &content);
    let asked: Vec<_> = server.requests().iter().map(server::Request::from).collect();
    assert_eq!(asked, [None, Some(700_000), Some(700_000), Some(700_001)]);
    assert!(server.requests()[1..].iter().all(|r| r.header("if-range") == Some(TAG)));
    assert_eq!(
        client.said,
        [
            "connection broken at byte 700000 of 1048576: closed; trying again in 0 s",
            "going on at byte 700000 of 1048576",
            "connection broken at byte 700000 of 1048576: closed; trying again in 0 s",
            "going on at byte 700000 of 1048576",
            "connection broken at byte 700001 of 1048576: closed; trying again in 0 s",
            "going on at byte 700001 of 1048576",
        ]
    );
}

/// More cuts than tries, but each brings a MiB: it ends well.
#[test]
fn a_bad_line_is_no_reason_to_give_up() {
    let content = content(8 << 20);
    let file = content.clone();
    let server = Server::start(move |_, request| Reply::ranged(&file, TAG, request).cut(1 << 20));
    let mut client = Client::expecting(&content);
    client.network.tries = 2;
    client.gets(&server.url("net.h5"), &content);
    assert_eq!(server.requests().len(), 8);
}

#[test]
fn a_stalled_connection_is_left_and_resumed() {
    let content = content(300_000);
    let file = content.clone();
    let server = Server::start(move |n, request| {
        let reply = Reply::ranged(&file, TAG, request);
        if n == 0 { reply.hang(100_000) } else { reply }
    });
    let mut client = Client::expecting(&content);
    client.network.stall = Duration::from_millis(250);
    client.gets(&server.url("net.h5"), &content);
    assert_eq!(
        client.said,
        [
            "nothing received for 0.25 s at byte 100000 of 300000; trying again in 0 s",
            "going on at byte 100000 of 300000"
        ]
    );
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let content = content(200_000);
    let file = content.clone();
    let server = Server::start(move |n, _| Reply::whole(&file, TAG).cut([150_000, usize::MAX][n]));
    let mut client = Client::expecting(&content);
    client.gets(&server.url("net.h5"), &content);
    assert_eq!(client.said.last().expect("said"), "starting over: the server sends whole files only");
    // Without a tag the rest is not even asked for. The date of the last change is one, a weak ETag is not.
    for (tag, expected) in
        [("x: y", None), ("etag: W/\"1\"", None), ("last-modified: Tue, 01 Mar 2016 10:00:00 GMT", Some(5))]
    {
        let file = content.clone();
        let server = Server::start(move |n, _| {
            let head = format!("200 OK\ncontent-length: {}\n{tag}", file.len());
            Reply::new(&head, &file).cut([5, usize::MAX][n])
        });
        let mut client = Client::expecting(&content);
        client.gets(&server.url("net.h5"), &content);
        assert_eq!(server.requests()[1].from(), expected, "{tag}");
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_taken_from_the_start() {
    let (old, new) = (content(200_000), [content(150_000), vec![7; 40_000]].concat());
    // One server keeps to If-Range, the other sends a range of the new file nevertheless.
    for obedient in [true, false] {
        let (before, after) = (old.clone(), new.clone());
        let server = Server::start(move |n, request| match n {
            0 => Reply::whole(&before, TAG).cut(120_000),
            1 if !obedient => Reply::new(
                "206 Partial Content\ncontent-length: 70000\ncontent-range: bytes 120000-189999/190000\netag: \"v2\"",
                &after[120_000..],
            ),
            _ => Reply::ranged(&after, "\"v2\"", request),
        });
        let mut client = Client::expecting(&new);
        client.gets(&server.url("net.h5"), &new);
        assert!(client.said.contains(&"starting over: the file on the server has changed".to_owned()));
    }
}

#[test]
fn a_range_that_cannot_be_had_starts_over() {
    let content = content(100_000);
    let file = content.clone();
    let server = Server::start(move |n, _| match n {
        0 => Reply::whole(&file, TAG).cut(60_000),
        1 => Reply::new("416 Range Not Satisfiable\ncontent-length: 0\ncontent-range: bytes */50", b""),
        _ => Reply::whole(&file, TAG),
    });
    let mut client = Client::expecting(&content);
    client.gets(&server.url("net.h5"), &content);
    assert_eq!(
        client.said.last().expect("said"),
        "starting over: the server's file is not as long as what has arrived"
    );
    assert_eq!(server.requests()[2].from(), None);
}

#[test]
fn what_an_earlier_program_left_is_used_if_it_can_be() {
    let content = content(400_000);
    let file = content.clone();
    let server = Server::start(move |n, request| {
        Reply::ranged(&file, TAG, request).cut([250_000, 0, usize::MAX][n.min(2)])
    });
    let mut client = Client::expecting(&content);
    client.network.tries = 1;
    let message = "connection broken at byte 250000 of 400000: closed".to_owned();
    let kept = vec!["net.h5.part".to_owned(), "net.h5.part.tag".to_owned()];
    assert_eq!(client.fails(&server.url("net.h5")), (message.clone(), kept.clone()));
    assert_eq!(client.fails(&server.url("net.h5")), (message, kept));
    client.gets(&server.url("net.h5"), &content);
    assert_eq!(server.requests()[2].from(), Some(250_000));

    // All had arrived, but the program was killed before it could rename.
    fs::remove_file(client.target()).expect("removes");
    fs::write(client.path("net.h5.part"), &content).expect("writes");
    fs::write(client.path("net.h5.part.tag"), TAG).expect("writes");
    client.gets(&server.url("net.h5"), &content);
}

#[test]
fn what_an_earlier_program_left_may_be_wrong() {
    let content = content(400_000);
    let file = content.clone();
    let server = Server::start(move |_, request| Reply::ranged(&file, TAG, request));
    let url = server.url("net.h5");
    let left = |part: &[u8], tag: Option<&[u8]>| {
        let client = Client::expecting(&content);
        fs::write(client.path("net.h5.part"), part).expect("writes");
        if let Some(tag) = tag {
            fs::write(client.path("net.h5.part.tag"), tag).expect("writes");
        }
        client
    };
    // Of the right version by its tag, but other bytes: shorter, as long, longer.
    for len in [1000, 400_000, 500_000] {
        let mut client = left(&vec![0; len], Some(TAG.as_bytes()));
        client.gets(&url, &content);
        let said = client.said.last().expect("said");
        assert!(said.starts_with("starting over: "), "{said}");
    }
    // Of no known version, or of another one.
    for tag in [None, Some(b"".as_slice()), Some(b"\xff\xfe"), Some(b"a\r\nHost: b"), Some(b"\"v0\"")] {
        left(&content[..1000], tag).gets(&url, &content);
    }
    assert!(server.requests().iter().all(|r| r.header("host") != Some("b")));
    // Pieces that never fit: once more from the start, then an error.
    let file = content.clone();
    let liar = Server::start(move |_, request| {
        let mut reply = Reply::ranged(&file, TAG, request);
        if request.from().is_none() {
            reply.body = vec![1; 1000];
        }
        reply
    });
    let mut client = Client::expecting(&content);
    let (message, left) = client.fails(&liar.url("net.h5"));
    let wrong = md5(&[&[1; 1000], &content[1000..]].concat());
    assert_eq!(message, format!("the file has MD5 {wrong}, expected {}", client.md5));
    assert_eq!((left.len(), liar.requests().len()), (0, 4));
}

#[test]
fn lengths_that_are_lies() {
    let content = content(50_000);
    // Longer than what comes: every try ends too early.
    let file = content.clone();
    let server = Server::start(move |_, request| {
        let mut long = file.clone();
        long.resize(60_000, 0);
        let left = file.len() - request.from().unwrap_or(0);
        Reply::ranged(&long, TAG, request).cut(left)
    });
    let mut client = Client::expecting(&content);
    let (message, left) = client.fails(&server.url("net.h5"));
    assert_eq!(message, "connection broken at byte 50000 of 60000: closed");
    assert_eq!((left.len(), server.requests().len()), (2, 4));
    assert_eq!(fs::metadata(client.path("net.h5.part")).expect("is there").len(), 50_000);

    // Shorter: what is behind it is not taken.
    let file = content.clone();
    let server =
        Server::start(move |_, _| Reply::new(&format!("200 OK\ncontent-length: 40000\netag: {TAG}"), &file));
    let mut client = Client::expecting(&content);
    let message = format!("the file has MD5 {}, expected {}", md5(&content[..40_000]), client.md5);
    assert_eq!(client.fails(&server.url("net.h5")), (message, vec![]));

    // A range that is not the one asked for, or contradicts itself.
    for (range, length, found) in [
        ("bytes 0-49999/50000", 50_000, "`bytes 0-49999/50000` with 50000 bytes"),
        ("bytes 20000-49999/60000", 30_000, "`bytes 20000-49999/60000` with 30000 bytes"),
        ("bytes 20000-49999/50000", 50_000, "`bytes 20000-49999/50000` with 50000 bytes"),
        ("rubbish", 30_000, "`rubbish` with 30000 bytes"),
    ] {
        let file = content.clone();
        let server = Server::start(move |n, _| match n {
            0 => Reply::whole(&file, TAG).cut(20_000),
            _ => Reply::new(
                &format!(
                    "206 Partial Content\ncontent-length: {length}\ncontent-range: {range}\netag: {TAG}"
                ),
                &file,
            ),
        });
        let mut client = Client::expecting(&content);
        let message = format!("the server sends {found}, expected bytes 20000 to the last");
        assert_eq!(client.fails(&server.url("net.h5")).0, message);
    }
    // More than the range announces, in chunks: nothing is written behind the end.
    let file = content.clone();
    let server = Server::start(move |n, _| match n {
        0 => Reply::whole(&file, TAG).cut(20_000),
        _ => Reply::new(
            &format!(
                "206 Partial Content\ntransfer-encoding: chunked\ncontent-range: bytes 20000-49999/50000\netag: {TAG}"
            ),
            &[format!("{:x}\r\n", 90_000).as_bytes(), &[0; 90_000], b"\r\n0\r\n\r\n"].concat(),
        ),
    });
    let mut client = Client::expecting(&content);
    let message = "the server sends more than the 50000 bytes it announced";
    assert_eq!(client.fails(&server.url("net.h5")).0, message);
    assert!(fs::metadata(client.path("net.h5.part")).expect("is there").len() <= 50_000);
    let server = Server::start(|_, _| {
        Reply::new("206 Partial Content\ncontent-length: 1\ncontent-range: bytes 0-0/9", b"x")
    });
    let mut client = Client::expecting(&content);
    let message = "the server sends a part (206) of the file, expected all of it".to_owned();
    assert_eq!(client.fails(&server.url("net.h5")), (message, vec![]));
}

#[test]
fn nothing_longer_than_the_published_file_is_taken() {
    let content = content(50_000);
    let server = Server::start(|_, _| Reply::new("200 OK\ncontent-length: 99999999999999", &[0; 100_000]));
    let mut client = Client::expecting(&content);
    client.max_bytes = 50_000;
    let message = "the file has 99999999999999 bytes, expected at most 50000".to_owned();
    assert_eq!(client.fails(&server.url("net.h5")), (message, vec![]));
    // Without an announced length: chunks without end, and bytes until the connection closes.
    let chunk = |n: usize| [format!("{n:x}\r\n").as_bytes(), &vec![0; n], b"\r\n"].concat();
    let endless = chunk(40_000).repeat(4);
    let chunked = Server::start(move |_, _| Reply::new("200 OK\ntransfer-encoding: chunked", &endless));
    let open = Server::start(|_, _| Reply::new("200 OK\nconnection: close", &[0; 160_000]));
    for server in [chunked, open] {
        let mut client = Client::expecting(&content);
        client.max_bytes = 50_000;
        let (message, left) = client.fails(&server.url("net.h5"));
        assert!(
            message.starts_with("the file has ") && message.ends_with(" bytes, expected at most 50000"),
            "{message}"
        );
        assert_eq!(left.len(), 0, "{left:?}");
    }
    // The same without lies.
    let chunks = [chunk(50_000).as_slice(), b"0\r\n\r\n"].concat();
    let chunked = Server::start(move |_, _| Reply::new("200 OK\ntransfer-encoding: chunked", &chunks));
    Client::expecting(&[0; 50_000]).gets(&chunked.url("net.h5"), &[0; 50_000]);
    let open = Server::start(|_, _| Reply::new("200 OK\nconnection: close", &[0; 50_000]));
    Client::expecting(&[0; 50_000]).gets(&open.url("net.h5"), &[0; 50_000]);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let content = content(100_000);
    let file = content.clone();
    let server = Server::start(move |n, request| match request.path.as_str() {
        "/a" => Reply::new("302 Found\ncontent-length: 0\nlocation: /b", b""),
        "/b" => Reply::new("301 Moved Permanently\ncontent-length: 4\nlocation: c", b"here"),
        "/c" => Reply::ranged(&file, TAG, request).cut(if n == 2 { 40_000 } else { usize::MAX }),
        _ => Reply::new("307 Temporary Redirect\ncontent-length: 0\nlocation: /loop", b""),
    });
    let mut client = Client::expecting(&content);
    client.gets(&server.url("a"), &content);
    // The range goes along.
    let paths: Vec<String> = server.requests().iter().map(|r| r.path.clone()).collect();
    assert_eq!(paths, ["/a", "/b", "/c", "/a", "/b", "/c"]);
    assert_eq!(server.requests()[5].from(), Some(40_000));
    let mut client = Client::expecting(&content);
    let message = "the server redirects more than 10 times".to_owned();
    assert_eq!(client.fails(&server.url("loop")), (message, vec![]));
    assert_eq!(server.requests().len(), 6 + 11);
}

#[test]
fn answers_that_are_no_file() {
    let content = content(1000);
    for (head, requests, expected) in [
        ("404 Not Found\ncontent-length: 0", 1, "the server says 404 Not Found, expected 200"),
        ("403 Forbidden\ncontent-length: 0", 1, "the server says 403 Forbidden, expected 200"),
        ("204 No Content", 1, "the server says 204 No Content, expected 200"),
        ("416 Range Not Satisfiable\ncontent-length: 0", 1, {
            "the server says 416 Range Not Satisfiable, expected 200"
        }),
        ("500 Oops\ncontent-length: 0", 4, "the server says 500 Internal Server Error, expected 200"),
        ("503 Busy\ncontent-length: 0", 4, "the server says 503 Service Unavailable, expected 200"),
    ] {
        let server = Server::start(move |_, _| Reply::new(head, b""));
        let mut client = Client::expecting(&content);
        assert_eq!(client.fails(&server.url("net.h5")), (expected.to_owned(), vec![]));
        assert_eq!(server.requests().len(), requests, "{head}");
    }
    // A server that recovers.
    let file = content.clone();
    let server = Server::start(move |n, _| match n {
        0 | 1 => Reply::new("502 Bad Gateway\ncontent-length: 0", b""),
        _ => Reply::whole(&file, TAG),
    });
    let mut client = Client::expecting(&content);
    client.gets(&server.url("net.h5"), &content);
    assert_eq!(client.said, ["the server says 502 Bad Gateway, expected 200; trying again in 0 s"; 2]);
    // A server that says nothing, and one that does not speak HTTP.
    let server = Server::start(|_, _| Reply::default());
    let mut client = Client::expecting(&content);
    let message = "connection broken at byte 0: closed".to_owned();
    assert_eq!(client.fails(&server.url("net.h5")), (message, vec![]));
    assert_eq!(server.requests().len(), 4);
    let server =
        Server::start(|_, _| Reply { head: "220 mail.example ready\r\n\r\n".into(), ..Reply::default() });
    let (message, left) = Client::expecting(&content).fails(&server.url("net.h5"));
    assert!(message.starts_with("no HTTP answer that could be used: "), "{message}");
    assert_eq!(left.len(), 0);
}

#[test]
fn the_wrong_file_is_thrown_away_and_what_was_there_stays() {
    let content = content(70_000);
    let mut other = content.clone();
    other[69_999] ^= 1;
    let file = other.clone();
    let server = Server::start(move |_, _| Reply::whole(&file, TAG));
    let mut client = Client::expecting(&content);
    fs::write(client.target(), b"mine").expect("writes");
    let message = format!("the file has MD5 {}, expected {}", md5(&other), client.md5);
    assert_eq!(client.fails(&server.url("net.h5")), (message, vec!["net.h5".to_owned()]));
    assert_eq!(fs::read(client.target()).expect("reads"), b"mine");
    assert_eq!(
        client.said,
        [format!(
            "the file that is there has MD5 {}, expected {}; it stays until the right one has arrived",
            md5(b"mine"),
            client.md5
        )]
    );
    // The right one replaces it.
    let file = content.clone();
    let server = Server::start(move |_, _| Reply::whole(&file, TAG));
    client.gets(&server.url("net.h5"), &content);
}

#[test]
fn nobody_there_nowhere_to_write_and_no_address() {
    let content = content(10);
    let mut client = Client::expecting(&content);
    let nobody = format!("http://127.0.0.1:{}/net.h5", closed_port());
    let refused = "cannot connect: Connection refused (os error 111)".to_owned();
    assert_eq!(client.fails(&nobody), (refused, vec![]));
    for address in ["", "ftp://127.0.0.1/net.h5", "http://", "http:///net.h5", "net.h5", "http://a b/"] {
        let message = "the address is not one, expected http://… or https://…".to_owned();
        assert_eq!(client.fails(address), (message, vec![]), "{address}");
    }
    // No TLS where it is expected.
    let server = Server::start(|_, _| Reply::whole(b"", TAG));
    let secure = server.url("net.h5").replace("http:", "https:");
    let mut hurried = Client::expecting(&content);
    hurried.network = Network { connect: Duration::from_millis(300), tries: 1, ..hurried.network };
    let (message, left) = hurried.fails(&secure);
    assert!(message.starts_with("cannot connect: ") || message == "no connection within 0.3 s", "{message}");
    assert_eq!(left.len(), 0);
    drop(server);

    let server = Server::start(|_, _| Reply::whole(b"", TAG));
    fs::create_dir(client.target()).expect("makes");
    let message = format!("{}: is not a file", client.target().display());
    assert_eq!(client.fails(&server.url("net.h5")).0, message);
    fs::remove_dir(client.target()).expect("removes");
    let part = File::create(client.path("net.h5.part")).expect("makes");
    part.lock().expect("locks");
    let message = format!("{}: another program is downloading to it", client.path("net.h5.part").display());
    assert_eq!(client.fails(&server.url("net.h5")), (message, vec!["net.h5.part".to_owned()]));
    drop(part);
    fs::remove_file(client.path("net.h5.part")).expect("removes");
    fs::create_dir(client.path("net.h5.part")).expect("makes");
    let message = format!("{}: Is a directory (os error 21)", client.path("net.h5.part").display());
    assert_eq!(client.fails(&server.url("net.h5")).0, message);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn labels_and_preprocessing_lie_beside_the_weights() {
    let content = content(12_345);
    let digest = md5(&content);
    let file = content.clone();
    let server = Server::start(move |_, _| Reply::whole(&file, TAG));
    let folder = server.url("models/");
    let published = |network, file, source, top| Published {
        network,
        source,
        top,
        file,
        folder: &folder,
        digest: Digest::Md5(&digest),
        max_bytes: 20_000,
    };
    let dir = tempfile::tempdir().expect("a folder");
    let to = dir.path().join("new folder");
    let network = Network { proxy: false, ..Network::default() };
    let options = Options { folder: &to, url: None, network };
    let run = |published: &Published<'_>| {
        let fetched = fetch(published, &options, Progress::Hidden, &mut |_| {}).expect("fetches");
        text(published, &fetched).replace(&dir.path().display().to_string(), "DIR")
    };
    let keras = published("vgg16", "vgg16_kernels.h5", Source::Keras, true);
    assert_eq!(
        run(&keras),
        format!(
            "\
weights    DIR/new folder/vgg16_kernels.h5, 12.3 kB
MD5        {digest}
labels     DIR/new folder/vgg16_kernels.labels.txt
preprocess DIR/new folder/vgg16_kernels.preprocess.toml
next       cargo xtask quantize 'DIR/new folder/vgg16_kernels.h5' --calib PICTURES -o vgg16.vgg
"
        )
    );
    assert_eq!(server.requests()[0].path, "/models/vgg16_kernels.h5");
    let labels = fs::read_to_string(to.join("vgg16_kernels.labels.txt")).expect("reads");
    let labels: Vec<&str> = labels.lines().collect();
    assert_eq!((labels.len(), labels[0], labels[281], labels[999]), {
        (1000, "tench", "tabby", "toilet tissue")
    });
    let mut names = labels.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 1000, "every label is another one");
    let input = Shape::new(224, 224, 3);
    let (rule, _) = Preprocess::find(None, &to.join("vgg16_kernels.h5"), input).expect("a sidecar");
    assert_eq!(rule, Preset::KerasCaffe.preprocess(input));

    // What is there is left alone, the weights too.
    fs::write(to.join("vgg16_kernels.labels.txt"), "mine\n").expect("writes");
    assert!(run(&keras).starts_with("weights    DIR/new folder/vgg16_kernels.h5, 12.3 kB, already there\n"));
    assert_eq!(fs::read_to_string(to.join("vgg16_kernels.labels.txt")).expect("reads"), "mine\n");
    assert_eq!(server.requests().len(), 1);

    // Without dense layers there are no classes, and nothing in the file tells the size of the pictures.
    let notop = published("vgg16", "vgg16_notop.h5", Source::Keras, false);
    let printed = run(&notop);
    assert!(
        printed.ends_with("vgg16_notop.h5' --input 224x224 --calib PICTURES -o vgg16_notop.vgg\n")
            && !printed.contains("labels"),
        "{printed}"
    );
    let torch = published("vgg11_bn", "vgg11_bn-6002323d.pth", Source::Torchvision, true);
    run(&torch);
    let (rule, _) = Preprocess::find(None, &to.join("vgg11_bn-6002323d.pth"), input).expect("a sidecar");
    assert_eq!(rule, Preset::Torchvision.preprocess(input));
    let mut names: Vec<String> =
        fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "vgg11_bn-6002323d.labels.txt",
            "vgg11_bn-6002323d.preprocess.toml",
            "vgg11_bn-6002323d.pth",
            "vgg16_kernels.h5",
            "vgg16_kernels.labels.txt",
            "vgg16_kernels.preprocess.toml",
            "vgg16_notop.h5",
            "vgg16_notop.preprocess.toml",
        ]
    );
}

/// Runs `fetch` in `dir`, away from any proxy: exit code, standard output and error.
fn program(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let output = command.arg("fetch").args(words).current_dir(dir).output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_says_what_is_wrong_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(|_, request| match request.path.as_str() {
        "/wrong" => Reply::whole(b"<html>not here</html>", TAG),
        _ => Reply::new("404 Not Found\ncontent-length: 0", b""),
    });
    let (wrong, gone) = (server.url("wrong"), server.url("gone"));
    let nobody = format!("http://127.0.0.1:{}/net.pth", closed_port());
    let found = Digest::Sha256Start("").of(b"<html>not here</html>".as_slice()).expect("reads");
    for (words, expected) in [
        (vec!["vgg16", "--url", &wrong], {
            format!(
                "from: {wrong}\nerror: fetch {wrong}: the file has MD5 {}, expected 64373286793e3c8b2b4e3219cbf3544b\n\n\
                 hint: another file, or damaged on its way; nothing of it was kept: run the command again, or name a \
                 mirror with `--url`\n",
                md5(b"<html>not here</html>")
            )
        }),
        (vec!["vgg16", "--source", "torchvision", "--url", &wrong], {
            format!(
                "from: {wrong}\nerror: fetch {wrong}: the file has SHA-256 {found}, expected 397923af…\n\n\
                 hint: another file, or damaged on its way; nothing of it was kept: run the command again, or name a \
                 mirror with `--url`\n"
            )
        }),
        (vec!["vgg19_bn", "--url", &gone], {
            format!(
                "from: {gone}\nerror: fetch {gone}: the server says 404 Not Found, expected 200\n\n\
                 hint: the address may have changed, or a proxy answers for it; name a mirror with `--url`\n"
            )
        }),
        (vec!["vgg11", "--url", &nobody], {
            format!(
                "from: {nobody}\nerror: fetch {nobody}: cannot connect: Connection refused (os error 111)\n\n\
                 hint: check the connection and, behind a proxy, HTTPS_PROXY; or name a mirror with `--url`\n"
            )
        }),
        (vec!["vgg13", "--no-top"], {
            "error: vgg13 without its dense layers is not published, expected vgg16, vgg19\n".to_owned()
        }),
        (vec!["vgg13", "--source", "keras"], {
            "error: vgg13 is not published by keras, expected vgg16, vgg19\n".to_owned()
        }),
    ] {
        let (code, stdout, stderr) = program(dir.path(), &words);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), "", expected.as_str()));
    }
    assert_eq!(fs::read_dir(dir.path()).expect("reads").count(), 0, "something is left behind");
    let (code, stdout, stderr) = program(dir.path(), &["resnet50"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("vgg11, vgg13, vgg16, vgg19, vgg11_bn"), "{stderr}");
}
