//! A folder's pictures as they arrive: closed after writing, or moved in by renaming.
//!
//! ```text
//! closed, moved in ─► known already? ─► next picture
//! queue overflowed ─► what is unknown in the folder, once it has rested for a second ─► next pictures
//! folder gone      ─► looked for twice a second; when it is back, all that is new in it
//! ```
//!
//! Taken are names in .jpg .jpeg .png .webp .bmp without a dot in front, in this folder, not in those below. A file is
//! known by device, inode, length and time of its last change: renaming it in the folder, or opening it without a
//! change, does not bring it again; writing it again does. Links that are made in the folder are not seen.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use vgg_edge_engine::image::has_picture_name;

use super::sources::{Source, is_hidden};
use crate::stop;

/// A file found by looking, not told of, must not have changed for so long: nobody knows who writes it.
const REST: Duration = Duration::from_secs(1);
/// How often a folder that is gone is looked for.
const AWAY: Duration = Duration::from_millis(500);
/// Renamings under way that are remembered; their two halves come next to each other.
const MAX_MOVING: usize = 16;

/// A file's contents, as far as can be told without reading them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        let changed = (file.mtime(), file.mtime_nsec());
        Self { device: file.dev(), inode: file.ino(), len: file.len(), changed }
    }
}

/// A picture that was there before or that was given.
#[derive(Clone, Copy)]
struct Known {
    identity: Identity,
    given: bool,
}

/// What happened to a name.
struct Event {
    flags: ReadFlags,
    cookie: u32,
    name: Option<OsString>,
}

/// The pictures of a folder; ends after SIGINT or SIGTERM.
pub(super) struct Watch {
    folder: PathBuf,
    /// Turns true with the first signal; `signal` becomes readable then.
    stop: Arc<AtomicBool>,
    signal: UnixStream,
    /// While the folder is there: its events, and which folder it is.
    inotify: Option<(OwnedFd, (u64, u64))>,
    known: HashMap<OsString, Known>,
    /// Names that were moved away, by cookie.
    moving: VecDeque<(u32, Known)>,
    /// Names that were found by looking, and when they will have rested.
    resting: HashMap<OsString, (Identity, Instant)>,
    ready: VecDeque<Source>,
}

impl Watch {
    /// Watches `folder` from now on; its pictures come first if `existing`.
    ///
    /// # Errors
    /// When it is no folder that can be watched.
    pub(super) fn start(folder: &Path, existing: bool) -> Result<Self> {
        let stop = stop::on_signals()?;
        let (signal, wake) = UnixStream::pair()?;
        for number in [SIGINT, SIGTERM] {
            pipe::register(number, wake.try_clone()?).context("cannot handle signals")?;
        }
        let mut watch = Self {
            folder: folder.to_owned(),
            stop,
            signal,
            inotify: None,
            known: HashMap::new(),
            moving: VecDeque::new(),
            resting: HashMap::new(),
            ready: VecDeque::new(),
        };
        if !existing {
            let known = |identity| Known { identity, given: false };
            watch.known = watch.pictures()?.into_iter().map(|(name, id, _)| (name, known(id))).collect();
        }
        watch.open()?;
        // What came between the two lines above, or what exists.
        watch.look();
        watch.ready.push_front(Source::Note(format!("watching {}, Ctrl-C ends it", folder.display())));
        Ok(watch)
    }

    fn open(&mut self) -> Result<()> {
        let file = fs::metadata(&self.folder)?;
        if !file.is_dir() {
            bail!("not a folder");
        }
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, &self.folder, flags)?;
        self.inotify = Some((fd, (file.dev(), file.ino())));
        Ok(())
    }

    /// The folder's pictures by name: which file, and how long it has not changed.
    fn pictures(&self) -> Result<Vec<(OsString, Identity, Duration)>> {
        let mut pictures = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if let Some((identity, rested)) = self.picture(&name) {
                pictures.push((name, identity, rested));
            }
        }
        pictures.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        Ok(pictures)
    }

    /// The file `name`, if it is a picture by its name and there.
    fn picture(&self, name: &OsStr) -> Option<(Identity, Duration)> {
        let path = self.folder.join(name);
        if is_hidden(&path) || !has_picture_name(&path) {
            return None;
        }
        let file = fs::metadata(&path).ok().filter(Metadata::is_file)?;
        // A time to come has not rested.
        let rested = file.modified().ok().and_then(|changed| SystemTime::now().duration_since(changed).ok());
        Some((Identity::of(&file), rested.unwrap_or_default()))
    }

    fn is_given(&self, name: &OsStr, identity: Identity) -> bool {
        self.known.get(name).is_some_and(|known| known.given && known.identity == identity)
    }

    fn give(&mut self, name: OsString, identity: Identity) {
        self.resting.remove(&name);
        self.ready.push_back(Source::File(self.folder.join(&name)));
        self.known.insert(name, Known { identity, given: true });
    }

    /// Looks at the whole folder: gives what is unknown and rests, remembers what may still be written.
    fn look(&mut self) {
        let here = fs::metadata(&self.folder).ok().map(|file| (file.dev(), file.ino()));
        let pictures = match (&self.inotify, self.pictures()) {
            (Some((_, watched)), Ok(pictures)) if here == Some(*watched) => pictures,
            (None, _) => return,
            _ => return self.lose(),
        };
        let mut before = std::mem::take(&mut self.known);
        let mut unknown = Vec::new();
        for (name, identity, rested) in pictures {
            match before.remove(&name) {
                Some(known) if known.identity == identity => {
                    self.known.insert(name, known);
                }
                _ => unknown.push((name, identity, rested)),
            }
        }
        // Names that are no more: their files may have new ones.
        let mut gone: HashMap<Identity, Known> = before
            .into_values()
            .chain(self.moving.drain(..).map(|(_, known)| known))
            .map(|k| (k.identity, k))
            .collect();
        self.resting.clear();
        for (name, identity, rested) in unknown {
            match gone.remove(&identity) {
                Some(known) => {
                    self.known.insert(name, known);
                }
                None if rested >= REST => self.give(name, identity),
                None => {
                    self.resting.insert(name, (identity, Instant::now() + REST));
                }
            }
        }
    }

    /// Gives the files that have rested.
    fn wake_rested(&mut self) {
        let now = Instant::now();
        let due = self.resting.iter().filter(|(_, (_, end))| *end <= now);
        let mut due: Vec<(OsString, Identity)> = due.map(|(name, (id, _))| (name.clone(), *id)).collect();
        due.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, before) in due {
            self.resting.remove(&name);
            match self.picture(&name) {
                Some((identity, _)) if identity == before => self.give(name, identity),
                Some((identity, _)) => {
                    self.resting.insert(name, (identity, now + REST));
                }
                None => {}
            }
        }
    }

    fn lose(&mut self) {
        self.inotify = None;
        self.resting.clear();
        let folder = self.folder.display();
        self.ready.push_back(Source::Note(format!("warning: {folder} is gone, waiting until it is back")));
    }

    fn find_again(&mut self) {
        if self.open().is_ok() {
            self.ready.push_back(Source::Note(format!("watching {} again", self.folder.display())));
            self.look();
        }
    }

    /// All events that wait.
    fn events(&self) -> Result<Vec<Event>, Errno> {
        let Some((fd, _)) = &self.inotify else { return Ok(Vec::new()) };
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(fd, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
                }),
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn handle_events(&mut self) {
        let Ok(events) = self.events() else { return self.lose() };
        let ended = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED | ReadFlags::UNMOUNT;
        let (mut is_gone, mut is_overflown) = (false, false);
        for Event { flags, cookie, name } in events {
            is_gone |= flags.intersects(ended);
            is_overflown |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
            if let Some(name) = name {
                self.handle(flags, cookie, name);
            }
        }
        if is_gone {
            self.lose();
        } else if is_overflown {
            defmt::warn!("too many changes at once: looking at the whole folder");
            self.look();
        }
    }

    fn handle(&mut self, flags: ReadFlags, cookie: u32, name: OsString) {
        if flags.contains(ReadFlags::MOVED_FROM) {
            self.resting.remove(&name);
            if let Some(known) = self.known.remove(&name) {
                self.moving.push_back((cookie, known));
                if self.moving.len() > MAX_MOVING {
                    self.moving.pop_front();
                }
            }
        } else if flags.contains(ReadFlags::DELETE) {
            self.resting.remove(&name);
            self.known.remove(&name);
        } else if flags.intersects(ReadFlags::MOVED_TO | ReadFlags::CLOSE_WRITE) {
            let moved =
                self.moving.iter().position(|(c, _)| flags.contains(ReadFlags::MOVED_TO) && *c == cookie);
            let moved = moved.and_then(|at| self.moving.remove(at)).map(|(_, known)| known);
            let Some((identity, _)) = self.picture(&name) else { return };
            match moved.filter(|known| known.identity == identity) {
                Some(known) => {
                    self.known.insert(name, known);
                }
                None if self.is_given(&name, identity) => {}
                None => self.give(name, identity),
            }
        }
    }

    /// Waits until something happens, and handles it.
    fn wait(&mut self) {
        let now = Instant::now();
        let end = match self.inotify {
            None => Some(AWAY),
            Some(_) => self.resting.values().map(|(_, end)| end.saturating_duration_since(now)).min(),
        };
        let timeout =
            end.map(|end| Timespec { tv_sec: end.as_secs() as i64, tv_nsec: end.subsec_nanos().into() });
        let mut fds = vec![PollFd::new(&self.signal, PollFlags::IN)];
        fds.extend(self.inotify.as_ref().map(|(fd, _)| PollFd::new(fd, PollFlags::IN)));
        let n_ready = poll(&mut fds, timeout.as_ref());
        let has_events = n_ready.is_ok() && fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        let is_signal = n_ready.is_ok() && !fds[0].revents().is_empty();
        drop(fds);
        if is_signal {
            // The flag says the rest.
            let _ = (&self.signal).read(&mut [0; 16]);
        }
        if has_events {
            self.handle_events();
        }
        match self.inotify {
            None if n_ready == Ok(0) => self.find_again(),
            None => {}
            Some(_) => self.wake_rested(),
        }
    }
}

impl Iterator for Watch {
    type Item = Source;

    fn next(&mut self) -> Option<Source> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(source) = self.ready.pop_front() {
                return Some(source);
            }
            self.wait();
        }
    }
}
