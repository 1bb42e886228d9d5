//! What goes to a board: program, model, its signature and key, a picture and the answer that it must get.
//!
//! ```text
//! classify      the program for the board's processor       picture       any JPEG or PNG, or the model's self-test picture
//! model.vgg     the blob                                    answer.json   what this machine says of it
//! model.vgg.sig, public.key   where the model is signed     release.json  what this release is
//! token         where requests need one (mode 0600)         SHA256SUMS    of all others
//! ```
//!
//! A release is a folder of these files; the unit and the name of the release before it are added on the board.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vgg_edge_blob::signature::Hex;
use vgg_edge_blob::{Blob, ChannelOrder, Shape};

use super::answer::Answer;
use super::error::Problem;
use crate::{pack, sign};

/// A program and what it runs on.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// As `uname -m` says it.
    pub arch: &'static str,
    sha256: [u8; 32],
    bytes: u64,
}

/// The model and what goes with it, checked here before any board is touched.
#[derive(Debug)]
pub struct Package {
    /// Name of the model's file, for people.
    pub name: String,
    /// The model's scheme: `int8`.
    pub scheme: &'static str,
    /// The board that the model was planned for, if it says so.
    pub planned_for: Option<String>,
    /// Programs, one an architecture.
    pub programs: Vec<Program>,
    /// What the picture gives.
    pub answer: Answer,
    model: PathBuf,
    sha256: [u8; 32],
    bytes: u64,
    public_key: Option<PathBuf>,
    signature: Option<PathBuf>,
    token: Option<String>,
    picture: Vec<u8>,
}

/// What a package is made of.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The model.
    pub model: PathBuf,
    /// Programs for boards.
    pub programs: Vec<PathBuf>,
    /// Key that the model's signature is checked with, here and on the board.
    pub public_key: Option<PathBuf>,
    /// File with the token that requests must have.
    pub token: Option<PathBuf>,
    /// Picture that is asked about; the model's self-test if absent.
    pub picture: Option<PathBuf>,
}

impl Package {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// A damaged model, a signature that does not hold, a program that is none, or a picture that cannot be decoded.
    pub fn new(contents: &Contents) -> anyhow::Result<Self> {
        let Contents { model, programs, public_key, token, picture } = contents;
        let bytes = pack::load(model)?;
        let blob = Blob::parse(bytes.as_slice())?;
        if let Some(key) = public_key {
            sign::check(model, key)?;
        }
        let signature = Some(sign::signature_of(model)).filter(|path| path.exists());
        let token = token.as_deref().map(read_token).transpose()?;
        let picture = match picture {
            Some(path) => fs::read(path).with_context(|| format!("picture {}", path.display()))?,
            None => self_test_picture(&blob)?,
        };
        let metadata: serde_json::Value = serde_json::from_str(blob.metadata()).unwrap_or_default();
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        let package = Self {
            name: name.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
            scheme: blob.scheme().name(),
            planned_for: metadata["board"].as_str().map(str::to_owned),
            programs: programs.iter().map(|path| Program::open(path)).collect::<anyhow::Result<_>>()?,
            answer: Answer::here(&blob, &picture).context("picture that the boards are asked about")?,
            model: model.clone(),
            sha256: Sha256::digest(bytes.as_slice()).into(),
            bytes: bytes.as_slice().len() as u64,
            public_key: public_key.clone(),
            signature,
            token,
            picture,
        };
        for (i, program) in package.programs.iter().enumerate() {
            if let Some(other) = package.programs[..i].iter().find(|other| other.arch == program.arch) {
                bail!(
                    "{} and {} are both for {}, expected one program an architecture",
                    other.path.display(),
                    program.path.display(),
                    program.arch
                );
            }
        }
        Ok(package)
    }

    /// Whether there is a key that the model is checked with.
    pub fn is_signed(&self) -> bool {
        self.public_key.is_some()
    }

    /// Whether the model has a signature that nobody checks.
    pub fn has_unchecked_signature(&self) -> bool {
        self.signature.is_some() && self.public_key.is_none()
    }

    /// The token that requests must have.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The picture that boards are asked about.
    pub(crate) fn picture(&self) -> &[u8] {
        &self.picture
    }

    /// Bytes that go to a board, without what its program may already have there.
    pub fn bytes(&self, program: &Program) -> u64 {
        self.bytes + program.bytes + self.picture.len() as u64 + (64 << 10)
    }

    /// The program for a processor.
    ///
    /// # Errors
    /// None for it.
    pub(crate) fn program(&self, arch: &str) -> Result<&Program, Problem> {
        self.programs.iter().find(|program| program.arch == arch).ok_or_else(|| {
            let programs: Vec<&str> = self.programs.iter().map(|program| program.arch).collect();
            Problem::Arch { found: arch.to_owned(), programs: programs.join(" and ") }
        })
    }

    /// Name of the release of `program` at this time: sorts by time, and tells contents apart.
    pub fn release_id(&self, program: &Program, time: SystemTime) -> String {
        let mut hash = Sha256::new();
        hash.update(self.sha256);
        hash.update(program.sha256);
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        format!("{}-{}", utc(time), Hex([a, b, c, d]))
    }

    /// The release's files in a folder: links to the large ones, the small ones themselves.
    ///
    /// # Errors
    /// A full disk here.
    pub(crate) fn stage(
        &self,
        program: &Program,
        id: &str,
        listen: Option<SocketAddr>,
    ) -> anyhow::Result<Staged> {
        let folder = TempDir::with_prefix("vgg-edge-release-")?;
        let mut staged = Staged { files: Vec::new(), folder };
        let mut sums = String::new();
        let release = serde_json::json!({
            "id": id,
            "model": self.name,
            "sha256": Hex(self.sha256).to_string(),
            "bytes": self.bytes,
            "scheme": self.scheme,
            "planned_for": self.planned_for,
            "arch": program.arch,
            "signed": self.is_signed(),
            "token": self.token.is_some(),
            "listen": listen.map(|listen| listen.to_string()),
        });
        staged.link("classify", &program.path, program.sha256, &mut sums)?;
        staged.link("model.vgg", &self.model, self.sha256, &mut sums)?;
        for (name, path) in [("model.vgg.sig", &self.signature), ("public.key", &self.public_key)] {
            if let Some(path) = path {
                staged.link(name, path, sign::digest(path)?, &mut sums)?;
            }
        }
        staged.write("picture", &self.picture, 0o644, &mut sums)?;
        staged.write("answer.json", self.answer.json().as_bytes(), 0o644, &mut sums)?;
        staged.write("release.json", format!("{release}\n").as_bytes(), 0o644, &mut sums)?;
        if let Some(token) = &self.token {
            staged.write("token", token.as_bytes(), 0o600, &mut sums)?;
        }
        let text = sums.clone();
        staged.write("SHA256SUMS", text.as_bytes(), 0o644, &mut sums)?;
        Ok(staged)
    }
}

/// A release on this machine, ready to be copied.
pub(crate) struct Staged {
    pub(crate) folder: TempDir,
    /// Names in the release.
    pub(crate) files: Vec<&'static str>,
}

impl Staged {
    fn link(
        &mut self,
        name: &'static str,
        to: &Path,
        sha256: [u8; 32],
        sums: &mut String,
    ) -> anyhow::Result<()> {
        let to = std::path::absolute(to)?;
        symlink(&to, self.folder.path().join(name)).with_context(|| format!("link to {}", to.display()))?;
        self.add(name, sha256, sums);
        Ok(())
    }

    fn write(
        &mut self,
        name: &'static str,
        bytes: &[u8],
        mode: u32,
        sums: &mut String,
    ) -> anyhow::Result<()> {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.add(name, Sha256::digest(bytes).into(), sums);
        Ok(())
    }

    fn add(&mut self, name: &'static str, sha256: [u8; 32], sums: &mut String) {
        sums.push_str(&format!("{}  {name}\n", Hex(sha256)));
        self.files.push(name);
    }
}

impl Program {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("program {}", path.display());
        let mut head = [0; 20];
        let mut file = File::open(path).with_context(context)?;
        file.read_exact(&mut head).with_context(context)?;
        let arch = machine(&head).with_context(context)?;
        Ok(Self {
            path: path.to_owned(),
            arch,
            sha256: sign::digest(path)?,
            bytes: file.metadata().with_context(context)?.len(),
        })
    }
}

/// What an ELF file of 64 bits, little-endian, runs on.
fn machine(head: &[u8; 20]) -> anyhow::Result<&'static str> {
    ensure!(head[..4] == *b"\x7fELF", "not a program for Linux: it starts with bytes {:02x?}", &head[..4]);
    ensure!(head[4..6] == [2, 1], "ELF class and order {:?}, expected 64 bits, little-endian", &head[4..6]);
    match u16::from_le_bytes([head[18], head[19]]) {
        0xb7 => Ok("aarch64"),
        0x3e => Ok("x86_64"),
        other => bail!("ELF machine {other}, expected 183 (aarch64) or 62 (x86_64)"),
    }
}

/// A token: one line, sent in a header.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("token {}", path.display()))?;
    let token = text.trim();
    let plain = !token.is_empty() && token.len() <= 1024 && token.chars().all(|c| c.is_ascii_graphic());
    ensure!(plain, "token {}: expected 1 to 1024 letters, digits and signs on one line", path.display());
    Ok(format!("{token}\n"))
}

/// The picture of the model's self-test as a PNG; without one, a pattern.
fn self_test_picture(blob: &Blob<'_>) -> anyhow::Result<Vec<u8>> {
    let Shape { height, width, channels } = blob.input();
    let pixels = match blob.golden() {
        Some(golden) => golden.input.to_vec(),
        None => {
            (0..blob.input().len()).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 7) as u8).collect()
        }
    };
    let color = match blob.preprocess().order {
        ChannelOrder::Gray => png::ColorType::Grayscale,
        _ if channels == 4 => png::ColorType::Rgba,
        _ => png::ColorType::Rgb,
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(bytes)
}

/// `20261124T184556Z`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil calendar: years start in March, eras have 400 years.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_of_the_civil_calendar() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_399), "20000228T235959Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_795_545_956), "20261124T184556Z");
        assert_eq!(at(4_107_542_399), "21000228T235959Z");
        assert_eq!(at(4_107_542_400), "21000301T000000Z");
    }

    #[test]
    fn programs_are_known_by_their_header() {
        let mut head = [0; 20];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18] = 0xb7;
        assert_eq!(machine(&head).unwrap(), "aarch64");
        head[18] = 0x3e;
        assert_eq!(machine(&head).unwrap(), "x86_64");
        head[18] = 40;
        assert_eq!(
            machine(&head).unwrap_err().to_string(),
            "ELF machine 40, expected 183 (aarch64) or 62 (x86_64)"
        );
        head[4] = 1;
        assert_eq!(
            machine(&head).unwrap_err().to_string(),
            "ELF class and order [1, 1], expected 64 bits, little-endian"
        );
        head[0] = b'#';
        assert!(machine(&head).unwrap_err().to_string().starts_with("not a program for Linux"));
    }
}
