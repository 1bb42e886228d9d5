//! `classify run --watch`: each picture once, when it is complete, whatever happens to the folder; until a signal.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

mod running;

use running::{Folder, PATIENCE, engine_pictures, finished};

/// The program that watches `in`.
struct Watching {
    folder: Folder,
    child: Child,
    /// Names of the pictures that it classified.
    names: Receiver<String>,
    notes: Receiver<String>,
}

/// Sends each line of `pipe`, changed by `f`.
fn lines<T: std::io::Read + Send + 'static>(pipe: Option<T>, f: fn(String) -> String) -> Receiver<String> {
    let (sender, receiver) = channel();
    let pipe = BufReader::new(pipe.unwrap());
    thread::spawn(move || pipe.lines().map_while(Result::ok).try_for_each(|line| sender.send(f(line))));
    receiver
}

impl Watching {
    /// Starts when `prepare` has filled the folder; returns when it watches.
    fn start(more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = Folder::new();
        fs::create_dir(folder.path("in")).unwrap();
        prepare(&folder.path("in"));
        let mut command = folder.command(&format!("run model.vgg --json --no-times --watch in {more}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let name = |line: String| {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            line["image"].as_str().unwrap().strip_prefix("in/").unwrap().to_owned()
        };
        let (names, notes) = (lines(child.stdout.take(), name), lines(child.stderr.take(), |line| line));
        let watching = Self { folder, child, names, notes };
        assert_eq!(watching.note(), "watching in, Ctrl-C ends it");
        watching
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path("in").join(name)
    }

    fn name(&self) -> String {
        self.names.recv_timeout(PATIENCE).expect("a picture in time")
    }

    fn note(&self) -> String {
        self.notes.recv_timeout(PATIENCE).expect("a note in time")
    }

    /// A picture arrives as `name`, complete from the start.
    fn arrive(&self, name: &str) {
        let part = self.path(name).with_extension("part");
        fs::copy(picture(), &part).unwrap();
        fs::rename(part, self.path(name)).unwrap();
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends it by a signal: it must not have classified or said anything more.
    fn end(self, signal: &str) {
        self.signal(signal);
        assert_eq!(finished(self.child).code, Some(0), "{signal}");
        assert_eq!(self.names.recv_timeout(PATIENCE).ok(), None, "no more pictures");
        assert_eq!(self.notes.recv_timeout(PATIENCE).ok(), None, "no more notes");
    }
}

fn picture() -> PathBuf {
    engine_pictures().join("rgb.png")
}

#[test]
fn pictures_are_classified_when_they_are_complete_and_once() {
    let watching = Watching::start("", |folder| {
        fs::copy(picture(), folder.join("before.png")).unwrap();
    });
    watching.arrive("a.png");
    assert_eq!(watching.name(), "a.png");
    // Written in two parts: nothing is seen before it is closed.
    let bytes = fs::read(picture()).unwrap();
    let mut file = File::create(watching.path("b.png")).unwrap();
    file.write_all(&bytes[..100]).unwrap();
    watching.arrive("c.png");
    assert_eq!(watching.name(), "c.png");
    file.write_all(&bytes[100..]).unwrap();
    drop(file);
    assert_eq!(watching.name(), "b.png");
    // Neither new names in the folder nor opening makes them new; nor are these pictures.
    fs::rename(watching.path("a.png"), watching.path("renamed.png")).unwrap();
    fs::rename(watching.path("before.png"), watching.path("still_before.png")).unwrap();
    drop(File::options().write(true).open(watching.path("c.png")).unwrap());
    fs::write(watching.path("text.txt"), "no picture").unwrap();
    fs::write(watching.path(".hidden.png"), &bytes).unwrap();
    fs::create_dir(watching.path("folder.png")).unwrap();
    watching.arrive("folder.png/below.png");
    // A name that comes again with another file is new, as is a file that is written again.
    fs::remove_file(watching.path("b.png")).unwrap();
    watching.arrive("b.png");
    assert_eq!(watching.name(), "b.png");
    fs::write(watching.path("renamed.png"), &bytes).unwrap();
    assert_eq!(watching.name(), "renamed.png");
    // A damaged one is told of, and does not end it.
    fs::write(watching.path("d.png"), &bytes[..100]).unwrap();
    let error =
        "error: cannot classify in/d.png: PNG picture is cut off: it goes on after the file's 100 bytes";
    assert_eq!(watching.note(), error);
    assert_eq!(
        (watching.note(), watching.note()),
        (String::new(), "hint: the copy may be incomplete; copy the picture again".to_owned())
    );
    watching.arrive("e.png");
    assert_eq!(watching.name(), "e.png");
    watching.end("TERM");
}

#[test]
fn existing_pictures_come_first_where_asked_for() {
    let watching = Watching::start("--existing", |folder| {
        for name in ["b.png", "a.png"] {
            fs::copy(picture(), folder.join(name)).unwrap();
        }
    });
    // Just copied: they must rest first, for nobody knows whether they are complete.
    let mut names = [watching.name(), watching.name()];
    names.sort();
    assert_eq!(names, ["a.png", "b.png"]);
    watching.arrive("c.png");
    assert_eq!(watching.name(), "c.png");
    watching.end("INT");
}

#[test]
fn a_folder_that_goes_and_comes_back_is_watched_on() {
    let watching = Watching::start("", |_| {});
    watching.arrive("a.png");
    assert_eq!(watching.name(), "a.png");
    let gone = "warning: in is gone, waiting until it is back";
    // Moved away and back: what was classified stays so.
    fs::rename(watching.folder.path("in"), watching.folder.path("away")).unwrap();
    assert_eq!(watching.note(), gone);
    fs::copy(picture(), watching.folder.path("away/b.png")).unwrap();
    fs::rename(watching.folder.path("away"), watching.folder.path("in")).unwrap();
    assert_eq!(watching.note(), "watching in again");
    assert_eq!(watching.name(), "b.png");
    // Deleted, and made again with a picture in it.
    fs::remove_dir_all(watching.folder.path("in")).unwrap();
    assert_eq!(watching.note(), gone);
    fs::create_dir(watching.folder.path("in")).unwrap();
    watching.arrive("a.png");
    assert_eq!(watching.note(), "watching in again");
    assert_eq!(watching.name(), "a.png");
    watching.arrive("c.png");
    assert_eq!(watching.name(), "c.png");
    // While it is gone a signal ends it as well.
    fs::remove_dir_all(watching.folder.path("in")).unwrap();
    assert_eq!(watching.note(), gone);
    watching.end("TERM");
}

/// More happens while the program is stopped than the system keeps: it looks at the folder instead.
#[test]
fn nothing_is_lost_when_the_queue_overflows() {
    let watching = Watching::start("", |_| {});
    watching.arrive("a.png");
    watching.arrive("moved.png");
    assert_eq!((watching.name(), watching.name()), ("a.png".to_owned(), "moved.png".to_owned()));
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    assert!(limit <= 1 << 17, "{limit} events: too many for this test");
    watching.signal("STOP");
    watching.arrive("early.png");
    // Two names in turn: the system would merge events that are equal.
    for i in 0..limit + 100 {
        fs::write(watching.path(["x.txt", "y.txt"][i % 2]), "").unwrap();
    }
    // None of these is told of.
    watching.arrive("late.png");
    fs::rename(watching.path("moved.png"), watching.path("moved_late.png")).unwrap();
    watching.signal("CONT");
    let mut names = [watching.name(), watching.name()];
    names.sort();
    assert_eq!(names, ["early.png", "late.png"]);
    watching.arrive("z.png");
    assert_eq!(watching.name(), "z.png");
    // Time for what would come by mistake.
    thread::sleep(Duration::from_millis(1500));
    watching.end("TERM");
}
