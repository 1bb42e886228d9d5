//! Video4Linux: the kernel's structures and requests, and the mapped buffers; all of its `unsafe` is here.
//!
//! ```text
//! open ─► query ─► formats, sizes ─► set format, rate ─► start (buffers mapped and queued) ─► poll ─► dequeue ─► copy ─► queue
//! ```
//!
//! The layouts are those of `linux/videodev2.h` on 64-bit systems. A request's number holds the size of its structure, and the
//! compiler compares both with the header's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::slice;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`.
const CAPTURE: u32 = 1;
/// `V4L2_MEMORY_MMAP`.
const MMAP: u32 = 1;
/// `V4L2_FIELD_NONE`: whole pictures, not interlaced.
const PROGRESSIVE: u32 = 1;
/// `V4L2_CAP_TIMEPERFRAME`: the frame rate can be set.
const CAN_SET_RATE: u32 = 0x1000;
/// `V4L2_BUF_FLAG_ERROR`: the buffer's contents may be damaged.
const BUFFER_DAMAGED: u32 = 0x40;
/// `V4L2_BUF_FLAG_TIMESTAMP_MASK` and `_MONOTONIC`: times count as `Instant`'s.
const TIMESTAMP: (u32, u32) = (0xe000, 0x2000);
/// Longest list that a driver is asked for; real ones have a few dozen entries.
const MOST_ENTRIES: u32 = 256;
/// Buffers asked for: one that is filled, one that is read, two for when this process is held up.
const BUFFERS: u32 = 4;

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawCapability {
    driver: [u8; 16],
    card: [u8; 32],
    bus_info: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FormatEntry {
    index: u32,
    kind: u32,
    flags: u32,
    description: [u8; 32],
    pixel_format: u32,
    mbus_code: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_frmsizeenum`; `size` is width and height, or least, largest and step of each.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SizeEntry {
    index: u32,
    pixel_format: u32,
    kind: u32,
    size: [u32; 6],
    reserved: [u32; 2],
}

/// `struct v4l2_pix_format`: what the frames are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PixelFormat {
    pub(super) width: u32,
    pub(super) height: u32,
    /// A [`fourcc`].
    pub(super) pixel_format: u32,
    field: u32,
    /// From a row's first byte to the next row's, at least the row; 0 for compressed formats.
    pub(super) bytes_per_line: u32,
    pub(super) size_image: u32,
    pub(super) colorspace: u32,
    private: u32,
    flags: u32,
    pub(super) ycbcr_encoding: u32,
    pub(super) quantization: u32,
    transfer: u32,
}

/// `struct v4l2_format`, whose union is as aligned as a pointer.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Format {
    kind: u32,
    padding: u32,
    pixels: PixelFormat,
    rest: [u64; 19],
}

/// `struct v4l2_streamparm`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct StreamParameters {
    kind: u32,
    capability: u32,
    mode: u32,
    /// Seconds a frame.
    numerator: u32,
    denominator: u32,
    extended_mode: u32,
    read_buffers: u32,
    reserved: [u32; 4],
    rest: ([u32; 32], [u32; 8]),
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct BufferRequest {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u8,
    reserved: [u8; 3],
}

/// `struct v4l2_buffer`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Buffer {
    index: u32,
    kind: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    padding: u32,
    seconds: i64,
    microseconds: i64,
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    /// Where `mmap` finds it.
    offset: u32,
    offset_high: u32,
    length: u32,
    reserved: u32,
    request_fd: i32,
    padding_end: u32,
}

const QUERYCAP: Opcode = opcode::read::<RawCapability>(b'V', 0);
const ENUM_FMT: Opcode = opcode::read_write::<FormatEntry>(b'V', 2);
const S_FMT: Opcode = opcode::read_write::<Format>(b'V', 5);
const REQBUFS: Opcode = opcode::read_write::<BufferRequest>(b'V', 8);
const QUERYBUF: Opcode = opcode::read_write::<Buffer>(b'V', 9);
const QBUF: Opcode = opcode::read_write::<Buffer>(b'V', 15);
const DQBUF: Opcode = opcode::read_write::<Buffer>(b'V', 17);
const STREAMON: Opcode = opcode::write::<i32>(b'V', 18);
const STREAMOFF: Opcode = opcode::write::<i32>(b'V', 19);
const G_PARM: Opcode = opcode::read_write::<StreamParameters>(b'V', 21);
const S_PARM: Opcode = opcode::read_write::<StreamParameters>(b'V', 22);
const ENUM_FRAMESIZES: Opcode = opcode::read_write::<SizeEntry>(b'V', 74);

/// The numbers that a C program prints which includes the header.
const _: () = {
    assert!(size_of::<usize>() == 8, "the layouts are those of 64-bit systems");
    assert!(QUERYCAP == 0x8068_5600 && ENUM_FMT == 0xc040_5602 && S_FMT == 0xc0d0_5605);
    assert!(REQBUFS == 0xc014_5608 && QUERYBUF == 0xc058_5609 && QBUF == 0xc058_560f && DQBUF == 0xc058_5611);
    assert!(STREAMON == 0x4004_5612 && STREAMOFF == 0x4004_5613);
    assert!(G_PARM == 0xc0cc_5615 && S_PARM == 0xc0cc_5616 && ENUM_FRAMESIZES == 0xc02c_564a);
    assert!(size_of::<PixelFormat>() == 48 && std::mem::offset_of!(Format, pixels) == 8);
    assert!(std::mem::offset_of!(Buffer, seconds) == 24 && std::mem::offset_of!(Buffer, offset) == 64);
    assert!(std::mem::offset_of!(Buffer, length) == 72);
};

/// A pixel format's number, from its four letters.
pub(super) const fn fourcc(letters: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*letters)
}

/// What a device says it is.
pub(super) struct Capability {
    /// Its name for people.
    pub(super) card: String,
    /// `V4L2_CAP_*` of this node, not of its siblings.
    pub(super) bits: u32,
}

/// Sizes of one pixel format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sizes {
    One(u32, u32),
    /// Least, largest and step of widths, then of heights.
    Range([u32; 3], [u32; 3]),
}

/// A buffer that the driver filled.
pub(super) struct Filled {
    buffer: Buffer,
}

impl Filled {
    /// Whether the driver says that the contents may be damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.buffer.flags & BUFFER_DAMAGED != 0
    }

    /// When it was captured, on the monotonic clock; `None` where the driver's clock is another.
    pub(super) fn captured(&self) -> Option<Duration> {
        let (mask, monotonic) = TIMESTAMP;
        let seconds = u64::try_from(self.buffer.seconds).ok()?;
        let microseconds = u64::try_from(self.buffer.microseconds).ok()?;
        (self.buffer.flags & mask == monotonic)
            .then(|| Duration::from_secs(seconds).saturating_add(Duration::from_micros(microseconds)))
    }
}

/// An open video node.
pub(super) struct Device {
    file: File,
    maps: Vec<MmapRaw>,
}

impl Device {
    /// Opens `path`; reads of it never block.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, maps: Vec::new() })
    }

    /// Makes a request whose structure the driver reads and writes.
    #[allow(unsafe_code)]
    fn update<const REQUEST: Opcode, T: Copy>(&self, value: &mut T) -> io::Result<()> {
        const { assert!((REQUEST >> 16) as usize & 0x3fff == size_of::<T>()) };
        loop {
            // SAFETY: the request's number says how many bytes the driver reads and writes, which is the size of `T`, as
            // the line above proves; each `T` is made of integers alone, so whatever is written is a value of it.
            match unsafe { ioctl(&self.file, Updater::<REQUEST, T>::new(value)) } {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Who the device is and what it can do.
    pub(super) fn query(&self) -> io::Result<Capability> {
        /// `V4L2_CAP_DEVICE_CAPS`: `device_caps` is filled in.
        const HAS_DEVICE_CAPS: u32 = 0x8000_0000;
        let mut raw = RawCapability::default();
        self.update::<QUERYCAP, _>(&mut raw)?;
        let bits = if raw.capabilities & HAS_DEVICE_CAPS == 0 { raw.capabilities } else { raw.device_caps };
        Ok(Capability { card: text(&raw.card), bits })
    }

    /// The pixel formats, in the driver's order.
    pub(super) fn formats(&self) -> io::Result<Vec<u32>> {
        let mut formats = Vec::new();
        for index in 0..MOST_ENTRIES {
            let mut entry = FormatEntry { index, kind: CAPTURE, ..Default::default() };
            match self.update::<ENUM_FMT, _>(&mut entry) {
                Ok(()) => formats.push(entry.pixel_format),
                Err(error) if is_end(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(formats)
    }

    /// The sizes of frames in `pixel_format`; none where the driver does not list them.
    pub(super) fn sizes(&self, pixel_format: u32) -> io::Result<Vec<Sizes>> {
        let mut sizes = Vec::new();
        for index in 0..MOST_ENTRIES {
            let mut entry = SizeEntry { index, pixel_format, ..Default::default() };
            match self.update::<ENUM_FRAMESIZES, _>(&mut entry) {
                // `V4L2_FRMSIZE_TYPE_DISCRETE`; the other two are ranges.
                Ok(()) if entry.kind == 1 => sizes.push(Sizes::One(entry.size[0], entry.size[1])),
                Ok(()) => {
                    let [width, largest_width, width_step, height, largest_height, height_step] = entry.size;
                    let range = |least, largest, step: u32| [least, largest, step.max(1)];
                    sizes.push(Sizes::Range(
                        range(width, largest_width, width_step),
                        range(height, largest_height, height_step),
                    ));
                    break;
                }
                Err(error) if is_end(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sizes)
    }

    /// Sets the format; the driver changes what it cannot do, and the result is what it does.
    pub(super) fn set_format(&self, pixel_format: u32, width: u32, height: u32) -> io::Result<PixelFormat> {
        let pixels =
            PixelFormat { width, height, pixel_format, field: PROGRESSIVE, ..PixelFormat::default() };
        let mut format = Format { kind: CAPTURE, pixels, ..Default::default() };
        self.update::<S_FMT, _>(&mut format)?;
        Ok(format.pixels)
    }

    /// Frames a second that the camera gives, after asking for `wanted`; `None` where the driver does not say.
    pub(super) fn set_rate(&self, wanted: Option<f32>) -> io::Result<Option<f32>> {
        let mut parameters = StreamParameters { kind: CAPTURE, ..Default::default() };
        match self.update::<G_PARM, _>(&mut parameters) {
            Err(error) if is_end(&error) || is_unknown(&error) => return Ok(None),
            result => result?,
        }
        if let Some(wanted) = wanted
            && parameters.capability & CAN_SET_RATE != 0
        {
            let mut asked = parameters;
            (asked.numerator, asked.denominator) = (1000, (wanted * 1000.0).round() as u32);
            match self.update::<S_PARM, _>(&mut asked) {
                // It stays as it is.
                Err(error) if is_end(&error) || is_unknown(&error) => {}
                result => {
                    result?;
                    parameters = asked;
                }
            }
        }
        let known = parameters.numerator > 0 && parameters.denominator > 0;
        Ok(known.then(|| parameters.denominator as f32 / parameters.numerator as f32))
    }

    /// Maps buffers, gives them to the driver and starts the camera.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let mut request = BufferRequest { count: BUFFERS, kind: CAPTURE, memory: MMAP, ..Default::default() };
        self.update::<REQBUFS, _>(&mut request)?;
        if request.count == 0 {
            return Err(io::Error::other("the driver gave no buffers"));
        }
        for index in 0..request.count {
            let mut buffer = Buffer { index, kind: CAPTURE, memory: MMAP, ..Default::default() };
            self.update::<QUERYBUF, _>(&mut buffer)?;
            let mut options = MmapOptions::new();
            options.offset(buffer.offset.into()).len(buffer.length as usize);
            self.maps.push(options.map_raw_read_only(&self.file)?);
            self.update::<QBUF, _>(&mut buffer)?;
        }
        self.stream::<STREAMON>()
    }

    #[allow(unsafe_code)]
    fn stream<const REQUEST: Opcode>(&self) -> io::Result<()> {
        const { assert!(REQUEST == STREAMON || REQUEST == STREAMOFF) };
        // SAFETY: both requests read one int, the buffers' type.
        Ok(unsafe { ioctl(&self.file, Setter::<REQUEST, i32>::new(CAPTURE as i32)) }?)
    }

    /// Waits for a filled buffer; false when there is none after `timeout`.
    ///
    /// # Errors
    /// When the device has gone.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let found = fds[0].revents();
        // An unplugged camera hangs up; an error alone is told by the next request.
        if found.contains(PollFlags::HUP) && !found.contains(PollFlags::IN) {
            return Err(Errno::NODEV.into());
        }
        Ok(found.intersects(PollFlags::IN | PollFlags::ERR))
    }

    /// Takes the oldest filled buffer; `None` when there is none.
    pub(super) fn dequeue(&self) -> io::Result<Option<Filled>> {
        let mut buffer = Buffer { kind: CAPTURE, memory: MMAP, ..Default::default() };
        match self.update::<DQBUF, _>(&mut buffer) {
            Ok(()) => Ok(Some(Filled { buffer })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies a filled buffer's bytes to `bytes`; not more than it holds, whatever the driver says.
    #[allow(unsafe_code)]
    pub(super) fn copy(&self, filled: &Filled, bytes: &mut Vec<u8>) {
        bytes.clear();
        let Some(map) = self.maps.get(filled.buffer.index as usize) else { return };
        let n_bytes = map.len().min(filled.buffer.bytes_used as usize);
        // SAFETY: the first `n_bytes` bytes are mapped as long as `map` lives, and the driver writes to a buffer only
        // between `queue` and `dequeue`: this one is out of the queue, or there were no `Filled`.
        bytes.extend_from_slice(unsafe { slice::from_raw_parts(map.as_ptr(), n_bytes) });
    }

    /// Gives a buffer back to the driver.
    pub(super) fn queue(&self, mut filled: Filled) -> io::Result<()> {
        self.update::<QBUF, _>(&mut filled.buffer)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // A camera that was unplugged cannot be stopped; closing does the rest.
        if !self.maps.is_empty() {
            let _ = self.stream::<STREAMOFF>();
        }
    }
}

/// Drivers end their lists with `EINVAL`.
fn is_end(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Whether the driver does not know the request at all.
pub(super) fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOTTY.raw_os_error())
}

/// Letters up to the first zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim().to_owned()
}
