//! A V4L2 camera as a source of frames: what it is, which format it gives, its frames one after another.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail};
use rustix::time::{ClockId, clock_gettime};

use super::Settings;
use super::choose::{Coding, Size, Sizes, choose};
use super::frame::{Captured, Frame, Pixels};
use super::source::{Next, OpenError, Source};
use super::v4l2::{self, Device, Filled, PixelFormat, fourcc};
use super::yuv::{self, Colours};

/// `V4L2_CAP_*`.
const VIDEO_CAPTURE: u32 = 0x1;
const STREAMING: u32 = 0x0400_0000;
/// Other kinds of nodes, for messages.
const OTHER_KINDS: [(u32, &str); 6] = [
    (0x1000, "multi-planar capture"),
    (0x4000 | 0x8000, "a memory-to-memory converter"),
    (0x0080_0000, "metadata capture"),
    (0x2 | 0x2000, "video output"),
    (0x10 | 0x40, "teletext capture"),
    (0x0800_0000, "metadata output"),
];
/// Longest side of a frame.
const MOST_PIXELS: u32 = 16_384;
/// A camera that gives no frame for so long hangs.
const STALLED: Duration = Duration::from_secs(5);
/// A frame that is older has another clock.
const OLDEST: Duration = Duration::from_secs(60);

/// The pixel formats that are understood.
const CODINGS: [(u32, Coding); 3] =
    [(fourcc(b"YUYV"), Coding::Yuyv), (fourcc(b"MJPG"), Coding::Mjpeg), (fourcc(b"JPEG"), Coding::Mjpeg)];

/// An open camera that is running.
pub(super) struct Camera {
    device: Device,
    pixels: Pixels,
    description: String,
    last_frame: Instant,
}

impl Camera {
    /// Opens and starts the camera at `path`, with frames of at least `wanted` where it can.
    pub(super) fn open(path: &Path, settings: &Settings, wanted: Size) -> Result<Self, OpenError> {
        let mut device = Device::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => OpenError::Never(error.into()),
            _ => OpenError::NotNow(error.into()),
        })?;
        check_kind(&device)?;
        let offers = offers(&device).map_err(not_now("cannot list the formats"))?;
        let (coding, pixel_format, size) =
            pick(&device, &offers, settings, wanted).map_err(OpenError::Never)?;
        let format =
            device.set_format(pixel_format, size.0, size.1).map_err(not_now("cannot set the format"))?;
        let pixels = pixels(&format, pixel_format, coding).map_err(OpenError::Never)?;
        let rate = device.set_rate(settings.capture_fps).map_err(not_now("cannot set the frame rate"))?;
        device.start().map_err(not_now("cannot start"))?;
        let mut description = format!("{}x{} {}", format.width, format.height, coding.name());
        if let Some(rate) = rate {
            description += &format!(", {rate} frames a second");
        }
        Ok(Self { device, pixels, description, last_frame: Instant::now() })
    }

    /// The frame in a buffer, or what is wrong with it.
    fn read(&self, filled: &Filled, mut bytes: Vec<u8>) -> Next {
        if filled.is_damaged() {
            return Next::Damaged(anyhow!("the driver says that the frame is damaged"));
        }
        self.device.copy(filled, &mut bytes);
        let needed = match self.pixels {
            Pixels::Yuyv { size, bytes_per_line, .. } => {
                yuv::needed_bytes(size, bytes_per_line).unwrap_or(usize::MAX)
            }
            Pixels::Mjpeg | Pixels::File => 1,
        };
        if bytes.len() < needed {
            return Next::Damaged(anyhow!("the frame has {} bytes, expected {needed}", bytes.len()));
        }
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
        let age =
            filled.captured().and_then(|captured| now.checked_sub(captured)).filter(|&age| age < OLDEST);
        Next::Frame(Frame { bytes, pixels: self.pixels, captured: Captured::ago(age.unwrap_or_default()) })
    }
}

impl Source for Camera {
    fn describe(&self) -> &str {
        &self.description
    }

    fn is_live(&self) -> bool {
        true
    }

    fn may_return(&self) -> bool {
        true
    }

    fn next(&mut self, spare: Vec<u8>, timeout: Duration) -> Result<Next> {
        let filled = if self.device.wait(timeout)? { self.device.dequeue()? } else { None };
        let Some(filled) = filled else {
            if self.last_frame.elapsed() > STALLED {
                bail!("no frame for {} s", STALLED.as_secs());
            }
            // A driver that says it has a frame and then has none is not asked without a pause.
            sleep(Duration::from_millis(1));
            return Ok(Next::Nothing);
        };
        self.last_frame = Instant::now();
        let next = self.read(&filled, spare);
        self.device.queue(filled)?;
        Ok(next)
    }
}

fn not_now(what: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |error| OpenError::NotNow(Error::new(error).context(what))
}

/// Refuses nodes that give no frames, by what they are.
fn check_kind(device: &Device) -> Result<(), OpenError> {
    let capability = device.query().map_err(|error| match v4l2::is_unknown(&error) {
        true => OpenError::Never(anyhow!("not a video device")),
        false => not_now("cannot query")(error),
    })?;
    if capability.bits & VIDEO_CAPTURE == 0 {
        let kind = OTHER_KINDS.iter().find(|(bits, _)| capability.bits & bits != 0).map(|(_, name)| *name);
        let kind = kind.unwrap_or("another kind of video device");
        return Err(OpenError::Never(anyhow!(
            "{}: {kind}, expected single-planar video capture",
            capability.card
        )));
    }
    if capability.bits & STREAMING == 0 {
        return Err(OpenError::Never(anyhow!("{}: no mapped buffers, which are expected", capability.card)));
    }
    Ok(())
}

/// A pixel format with one of its sizes.
struct Offer {
    pixel_format: u32,
    coding: Coding,
    sizes: Option<Sizes>,
}

/// What the camera offers in codings that are understood.
fn offers(device: &Device) -> io::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for pixel_format in device.formats()? {
        let Some(&(_, coding)) = CODINGS.iter().find(|(format, _)| *format == pixel_format) else { continue };
        let sizes = match device.sizes(pixel_format) {
            Ok(sizes) => sizes,
            Err(error) if v4l2::is_unknown(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        offers.extend(sizes.iter().map(|&sizes| Offer { pixel_format, coding, sizes: Some(sizes.into()) }));
        if sizes.is_empty() {
            offers.push(Offer { pixel_format, coding, sizes: None });
        }
    }
    Ok(offers)
}

impl From<v4l2::Sizes> for Sizes {
    fn from(sizes: v4l2::Sizes) -> Self {
        match sizes {
            v4l2::Sizes::One(width, height) => Self::One((width, height)),
            v4l2::Sizes::Range(widths, heights) => Self::Range(widths, heights),
        }
    }
}

/// The offer to take. Where a driver does not list its sizes, it is asked for the wanted one and changes it itself.
fn pick(device: &Device, offers: &[Offer], settings: &Settings, wanted: Size) -> Result<(Coding, u32, Size)> {
    let wanted = settings.size.unwrap_or(wanted);
    let sizes: Vec<_> = offers.iter().map(|o| (o.coding, o.sizes.unwrap_or(Sizes::One(wanted)))).collect();
    let Some((coding, size)) = choose(&sizes, wanted, settings.format) else {
        let expected = settings.format.map_or("YUYV or MJPEG", Coding::name);
        let names: Vec<String> = device.formats()?.iter().map(|&format| name(format)).collect();
        let found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        bail!("the camera offers {found}, expected {expected}");
    };
    let pixel_format = offers.iter().find(|o| o.coding == coding).map_or(0, |o| o.pixel_format);
    Ok((coding, pixel_format, size))
}

/// A pixel format's four letters.
fn name(pixel_format: u32) -> String {
    let letter = |b: u8| if b.is_ascii_graphic() { char::from(b) } else { '?' };
    String::from_utf8_lossy(&pixel_format.to_le_bytes()).trim_end().bytes().map(letter).collect()
}

/// What frames are by the format that the driver has set.
fn pixels(format: &PixelFormat, wanted: u32, coding: Coding) -> Result<Pixels> {
    let &PixelFormat { width, height, pixel_format, bytes_per_line, .. } = format;
    if pixel_format != wanted {
        bail!("the camera gives {}, expected {}", name(pixel_format), name(wanted));
    }
    if width == 0 || height == 0 || width.max(height) > MOST_PIXELS {
        bail!("the camera gives frames of {width}x{height} pixels, expected 1 to {MOST_PIXELS} a side");
    }
    if coding == Coding::Mjpeg {
        return Ok(Pixels::Mjpeg);
    }
    if width % 2 == 1 {
        bail!("the camera gives YUYV frames of {width}x{height} pixels, expected an even width");
    }
    let size = (width as usize, height as usize);
    // Some drivers leave it 0.
    let bytes_per_line = (bytes_per_line as usize).max(size.0 * 2);
    let colours = Colours::of(format.colorspace, format.ycbcr_encoding, format.quantization);
    Ok(Pixels::Yuyv { size, bytes_per_line, colours })
}

/// A device's name, and a line for each of its formats; `None` for nodes that give no frames.
pub(super) fn survey(path: &Path) -> Result<Option<(String, Vec<String>)>> {
    let device = Device::open(path)?;
    let capability = device.query()?;
    if capability.bits & VIDEO_CAPTURE == 0 {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for pixel_format in device.formats()? {
        let sizes = device.sizes(pixel_format).unwrap_or_default();
        let text = |sizes: &v4l2::Sizes| match *sizes {
            v4l2::Sizes::One(width, height) => format!("{width}x{height}"),
            v4l2::Sizes::Range([w, most_w, _], [h, most_h, _]) => format!("{w}x{h} to {most_w}x{most_h}"),
        };
        let is_known = CODINGS.iter().any(|(format, _)| *format == pixel_format);
        let sizes: Vec<String> = sizes.iter().map(text).collect();
        let unused = if is_known { "" } else { " (not used)" };
        lines.push(format!("{}{unused}  {}", name(pixel_format), sizes.join(" ")).trim_end().to_owned());
    }
    Ok(Some((capability.card, lines)))
}
