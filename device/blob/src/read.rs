//! Reading: every check once, with checked arithmetic, then plain borrowed slices.
//!
//! ```no_run
//! # fn main() -> Result<(), vgg_edge_blob::BlobError> {
//! # let bytes: &[u8] = &[];
//! let blob = vgg_edge_blob::Blob::parse(bytes)?; // bytes of a mapped file
//! blob.verify_checksums()?;
//! for layer in blob.layers() {
//!     let _ = (layer.name, layer.output);
//! }
//! # Ok(())
//! # }
//! ```

use core::mem::size_of;

use zerocopy::FromBytes;

use crate::check;
use crate::error::{BlobError, Section};
use crate::int4::S4Block;
use crate::layout::{self, HEAD_CRC_START, Header, LayerRecord, NONE, SectionRecord};
use crate::model::{Golden, Layer, LayerOp, Linear, Padding, Quantization, Scheme, Shape, Weights};
use crate::preprocess::Preprocess;

/// A validated blob, borrowing the bytes it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Blob<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    layers: &'a [LayerRecord],
    sections: &'a [SectionRecord],
    scheme: Scheme,
    preprocess: Preprocess,
    texts: Texts<'a>,
}

/// The text sections, checked once.
#[derive(Clone, Copy, Debug, Default)]
struct Texts<'a> {
    names: &'a str,
    labels: Option<&'a str>,
    metadata: &'a str,
}

impl<'a> Blob<'a> {
    /// Validates header, tables, shapes and parameters; copies nothing. Weights are not read: see
    /// [`Blob::verify_checksums`].
    ///
    /// `bytes` must start at a multiple of 64 bytes, as a map of a file does.
    ///
    /// # Errors
    /// The first check that fails, in file order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let header = parse_header(bytes)?;
        let head = head_bytes(bytes, header)?;
        let n_layers = usize::from(header.n_layers.get());
        let n_sections = usize::from(header.n_sections.get());
        let need = size_of::<Header>()
            + n_layers * size_of::<LayerRecord>()
            + n_sections * size_of::<SectionRecord>();
        let length = BlobError::HeadLength { found: head.len() as u64, expected: need as u64 };
        let tables = &head[size_of::<Header>()..];
        let (layers, tables) =
            <[LayerRecord]>::ref_from_prefix_with_elems(tables, n_layers).map_err(|_| length)?;
        let sections =
            <[SectionRecord]>::ref_from_bytes_with_elems(tables, n_sections).map_err(|_| length)?;
        let scheme = check::scheme(header)?;
        let preprocess = check::preprocess(header)?;
        let mut blob = Self { bytes, header, layers, sections, scheme, preprocess, texts: Texts::default() };
        blob.check_sections()?;
        check::layers(&blob)?;
        blob.texts = blob.check_globals()?;
        Ok(blob)
    }

    /// Reads every section once and compares its checksum, and the padding between sections with 0: with
    /// [`Blob::parse`], a damaged byte anywhere is found.
    ///
    /// # Errors
    /// [`BlobError::Padding`] or [`BlobError::SectionChecksum`] for the first damaged place.
    pub fn verify_checksums(&self) -> Result<(), BlobError> {
        let mut end = self.header.head_len.get() as usize;
        for (index, record) in self.sections.iter().enumerate() {
            let (index, kind) = (index as u16, check::section_kind(index as u16, record)?);
            let bytes = self.section_bytes(record);
            let start = record.start.get() as usize;
            let padding = self.bytes.get(end..start).unwrap_or(&[]);
            if let Some(nonzero) = padding.iter().position(|b| *b != 0) {
                return Err(BlobError::Padding { index, kind, at: (end + nonzero) as u64 });
            }
            let (found, expected) = (crc32fast::hash(bytes), record.crc.get());
            if found != expected {
                return Err(BlobError::SectionChecksum { index, kind, found, expected });
            }
            end = start + bytes.len();
        }
        Ok(())
    }

    /// Number format.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The network's input picture.
    pub fn input(&self) -> Shape {
        Shape {
            height: self.header.input_height.get(),
            width: self.header.input_width.get(),
            channels: self.header.input_channels.get(),
        }
    }

    /// Whether the output is a logit a class: the last layer is dense. Else it is features, the real values of the
    /// last map (NHWC) or of the pooled vector, and there are no labels.
    pub fn is_classifier(&self) -> bool {
        self.layers.last().is_some_and(|last| last.kind == check::DENSE)
    }

    /// Shape of the output: 1 x 1 x classes, or the features'.
    pub fn output(&self) -> Shape {
        let none = Shape { height: 0, width: 0, channels: 0 };
        self.layers.last().map_or(none, |last| Shape {
            height: last.out_height.get(),
            width: last.out_width.get(),
            channels: last.out_channels.get(),
        })
    }

    /// Values of the output: one logit a class, or as many as there are features.
    pub fn n_classes(&self) -> usize {
        self.header.n_classes.get() as usize
    }

    /// From a decoded picture to the input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Number of layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Layer `layer_idx`, or `None` past the end.
    pub fn layer(&self, layer_idx: usize) -> Option<Layer<'a>> {
        let record = self.layers.get(layer_idx)?;
        let shape = |h: u32, w: u32, c: u32| Shape { height: h, width: w, channels: c };
        Some(Layer {
            name: name(self.texts.names, record).unwrap_or(""),
            op: self.op(record)?,
            input: shape(record.in_height.get(), record.in_width.get(), record.in_channels.get()),
            output: shape(record.out_height.get(), record.out_width.get(), record.out_channels.get()),
            block: record.block.get(),
            in_quant: Quantization { scale: record.in_scale.get(), zero_point: record.in_zero_point },
            out_quant: Quantization { scale: record.out_scale.get(), zero_point: record.out_zero_point },
            sqnr_db: record.sqnr_db.get(),
        })
    }

    /// All layers, in order.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'a>> + use<'a, '_> {
        (0..self.layers.len()).filter_map(|i| self.layer(i))
    }

    /// Label of `class`, if the blob has labels.
    pub fn label(&self, class: usize) -> Option<&'a str> {
        self.texts.labels?.split('\n').nth(class)
    }

    /// All labels in class order; empty if the blob has none.
    pub fn labels(&self) -> impl Iterator<Item = &'a str> {
        self.texts.labels.into_iter().flat_map(|labels| labels.split('\n'))
    }

    /// How the blob was made and what was measured: JSON, or empty.
    pub fn metadata(&self) -> &'a str {
        self.texts.metadata
    }

    /// The self-test, if the blob has one.
    pub fn golden(&self) -> Option<Golden<'a>> {
        let input = self.find(Section::GoldenInput)?;
        let logits = <[f32]>::ref_from_bytes(self.find(Section::GoldenLogits)?).ok()?;
        Some(Golden { input, logits })
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn header(&self) -> &'a Header {
        self.header
    }

    pub(crate) fn records(&self) -> &'a [LayerRecord] {
        self.layers
    }

    /// Bytes of section `index`, or `None` when there is no such section.
    pub(crate) fn section(&self, index: u16) -> Option<(&'a SectionRecord, &'a [u8])> {
        let record = self.sections.get(usize::from(index))?;
        Some((record, self.section_bytes(record)))
    }

    pub(crate) fn find(&self, kind: Section) -> Option<&'a [u8]> {
        let record = self.sections.iter().find(|s| s.kind.get() == kind as u16)?;
        Some(self.section_bytes(record))
    }

    /// In bounds once `check_sections` has passed.
    fn section_bytes(&self, record: &SectionRecord) -> &'a [u8] {
        let start = record.start.get() as usize;
        self.bytes.get(start..start.saturating_add(record.len.get() as usize)).unwrap_or(&[])
    }

    /// Sections lie one behind the other, each at the next multiple of 64, up to the end of the file.
    fn check_sections(&self) -> Result<(), BlobError> {
        let len = self.bytes.len() as u64;
        let mut before = u64::from(self.header.head_len.get());
        for (index, record) in self.sections.iter().enumerate() {
            let index = index as u16;
            let kind = check::section_kind(index, record)?;
            let (start, expected) = (record.start.get(), before.next_multiple_of(layout::ALIGN as u64));
            if start != expected {
                return Err(BlobError::SectionStart { index, kind, found: start, expected });
            }
            let end = start.saturating_add(record.len.get());
            if end > len {
                return Err(BlobError::SectionBounds { index, kind, start, end, len });
            }
            let layer = record.layer.get();
            let owner = self.layers.get(usize::from(layer));
            let belongs = match kind {
                Section::Weights => owner.is_some_and(|l| l.weights.get() == index),
                Section::Params => owner.is_some_and(|l| l.params.get() == index),
                Section::InputTaps => {
                    owner.is_some_and(|l| check::form(l).is_some() && l.input_taps.get() == index)
                }
                Section::TapScales => {
                    owner.is_some_and(|l| check::form(l).is_some() && l.tap_scales.get() == index)
                }
                _ => layer == NONE,
            };
            if !belongs {
                return Err(BlobError::SectionLayer { index, kind, layer });
            }
            before = end;
        }
        if before != len {
            return Err(BlobError::SectionsEnd { end: before, len });
        }
        Ok(())
    }

    fn check_globals(&self) -> Result<Texts<'a>, BlobError> {
        let count =
            |kind: Section| self.sections.iter().filter(|s| s.kind.get() == kind as u16).count() as u16;
        for (kind, at_least) in [
            (Section::Names, 1),
            (Section::Labels, 0),
            (Section::GoldenInput, 0),
            (Section::GoldenLogits, 0),
            (Section::Metadata, 0),
        ] {
            let found = count(kind);
            if found < at_least || found > 1 {
                return Err(BlobError::SectionCount { kind, found, expected: 1 });
            }
        }
        if count(Section::GoldenInput) != count(Section::GoldenLogits) {
            let found = count(Section::GoldenLogits);
            return Err(BlobError::SectionCount { kind: Section::GoldenLogits, found, expected: 1 - found });
        }
        let text = |kind: Section| {
            let bytes = self.find(kind);
            bytes.map(core::str::from_utf8).transpose().map_err(|_| BlobError::NotText { kind })
        };
        let texts = Texts {
            names: text(Section::Names)?.unwrap_or(""),
            labels: text(Section::Labels)?,
            metadata: text(Section::Metadata)?.unwrap_or(""),
        };
        for (layer, record) in self.layers.iter().enumerate() {
            if name(texts.names, record).is_none() {
                return Err(BlobError::LayerValue {
                    layer: layer as u16,
                    field: "name_start",
                    found: u64::from(record.name_start.get()),
                });
            }
        }
        let lengths = [
            (Section::GoldenInput, self.input().len()),
            (Section::GoldenLogits, 4 * self.n_classes() as u64),
        ];
        for (kind, expected) in lengths {
            let found = self.find(kind).map_or(expected, |bytes| bytes.len() as u64);
            if found != expected {
                return Err(BlobError::SectionLength { kind, found, expected });
            }
        }
        if let Some(labels) = texts.labels {
            let expected = if self.is_classifier() { self.n_classes() as u64 } else { 0 };
            let found = labels.split('\n').count() as u64;
            if found != expected {
                return Err(BlobError::LabelCount { found, expected });
            }
        }
        Ok(texts)
    }

    fn op(&self, record: &LayerRecord) -> Option<LayerOp<'a>> {
        Some(match record.kind {
            check::CONV => LayerOp::Conv { kernel: record.kernel, linear: self.linear(record)? },
            check::MAX_POOL => LayerOp::MaxPool {
                stride: record.stride,
                padding: if record.padding == Padding::Same as u8 { Padding::Same } else { Padding::Valid },
            },
            check::GLOBAL_AVG_POOL => LayerOp::GlobalAvgPool {
                multiplier: record.pool_multiplier.get(),
                shift: record.pool_shift.get(),
            },
            _ => LayerOp::Dense(self.linear(record)?),
        })
    }

    fn linear(&self, record: &LayerRecord) -> Option<Linear<'a>> {
        let (_, data) = self.section(record.weights.get())?;
        let (_, params) = self.section(record.params.get())?;
        let weights = match (self.scheme, check::form(record)) {
            (Scheme::Int8 | Scheme::Int8Fc4, Some(form)) => Weights::S8Winograd {
                form,
                layout: check::s8_layout(record),
                data: <[i8]>::ref_from_bytes(data).ok()?,
                params: <[layout::S8Params]>::ref_from_bytes(params).ok()?,
                input: <[i16]>::ref_from_bytes(self.section(record.input_taps.get())?.1).ok()?,
                scales: <[i32]>::ref_from_bytes(self.section(record.tap_scales.get())?.1).ok()?,
            },
            (Scheme::Int8Fc4, None) if record.layout == check::LAYOUT_S4_O8K64 => Weights::S4 {
                blocks: <[S4Block]>::ref_from_bytes(data).ok()?,
                params: <[layout::S8Params]>::ref_from_bytes(params).ok()?,
            },
            (Scheme::Int8 | Scheme::Int8Fc4, None) if record.algorithm == check::WINOGRAD_F43 => {
                Weights::S16Winograd {
                    data: <[i16]>::ref_from_bytes(data).ok()?,
                    params: <[layout::S8Params]>::ref_from_bytes(params).ok()?,
                }
            }
            (Scheme::Int8 | Scheme::Int8Fc4, None) => Weights::S8 {
                layout: check::s8_layout(record),
                winograd: record.algorithm == check::WINOGRAD_F43_FILTERS,
                data: <[i8]>::ref_from_bytes(data).ok()?,
                params: <[layout::S8Params]>::ref_from_bytes(params).ok()?,
            },
            (Scheme::F16, _) if record.algorithm != check::DIRECT => Weights::F16Winograd {
                half: record.algorithm == check::WINOGRAD_F43_F16,
                data: <[u16]>::ref_from_bytes(data).ok()?,
                params: <[layout::F16Params]>::ref_from_bytes(params).ok()?,
                in_scale: record.in_scale.get(),
                out_scale: record.out_scale.get(),
            },
            (Scheme::F16, _) => Weights::F16 {
                data: <[u16]>::ref_from_bytes(data).ok()?,
                params: <[layout::F16Params]>::ref_from_bytes(params).ok()?,
            },
        };
        Some(Linear {
            relu: record.activation == check::RELU,
            n_runs: record.n_runs.get(),
            run_len: record.run_len.get(),
            pad: record.pad,
            weights,
        })
    }
}

/// Magic, version and lengths, so that the commonest mistakes get the plainest words.
fn parse_header(bytes: &[u8]) -> Result<&Header, BlobError> {
    let len = bytes.len() as u64;
    let magic: [u8; 4] = bytes.first_chunk().copied().ok_or(BlobError::TooShort {
        what: "header",
        need: size_of::<Header>() as u64,
        len,
    })?;
    if magic != layout::MAGIC {
        return Err(BlobError::BadMagic { found: magic });
    }
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| BlobError::TooShort {
        what: "header",
        need: size_of::<Header>() as u64,
        len,
    })?;
    if header.version.get() != layout::VERSION {
        return Err(BlobError::UnsupportedVersion {
            found: header.version.get(),
            supported: layout::VERSION,
        });
    }
    let sizes = [
        ("header", header.header_len.get(), size_of::<Header>()),
        ("layer", header.layer_len.get(), size_of::<LayerRecord>()),
        ("section", header.section_len.get(), size_of::<SectionRecord>()),
    ];
    for (what, found, expected) in sizes {
        if usize::from(found) != expected {
            return Err(BlobError::RecordSize { what, found, expected: expected as u16 });
        }
    }
    if header.file_len.get() != len {
        return Err(BlobError::FileLength { found: len, expected: header.file_len.get() });
    }
    Ok(header)
}

/// Header and tables, their checksum compared.
fn head_bytes<'a>(bytes: &'a [u8], header: &Header) -> Result<&'a [u8], BlobError> {
    let head_len = header.head_len.get() as usize;
    if head_len < size_of::<Header>() || head_len > bytes.len() {
        return Err(BlobError::TooShort {
            what: "header with its tables",
            need: head_len.max(size_of::<Header>()) as u64,
            len: bytes.len() as u64,
        });
    }
    let head = &bytes[..head_len];
    let found = crc32fast::hash(&head[HEAD_CRC_START..]);
    let expected = header.head_crc.get();
    if found != expected {
        return Err(BlobError::HeadChecksum { found, expected });
    }
    if bytes.as_ptr().align_offset(layout::ALIGN) != 0 {
        return Err(BlobError::Misaligned);
    }
    Ok(head)
}

fn name<'a>(names: &'a str, record: &LayerRecord) -> Option<&'a str> {
    let start = record.name_start.get() as usize;
    names.get(start..start.checked_add(usize::from(record.name_len.get()))?)
}

/// Whether a section index is the "no section" mark.
pub(crate) fn is_none(index: u16) -> bool {
    index == NONE
}
