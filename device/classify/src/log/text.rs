//! defmt frames as lines for people, by the messages in the program's own symbols.
//!
//! ```text
//! frame   id: u16, time: u64 (us), values            symbol   {"tag":"defmt_info","data":"model loaded: {=usize} layers",..} at id
//! line    0.001234 INFO  model loaded: 22 layers
//! ```
//!
//! The grammar of format strings is defmt's own crate; the values that messages of this program have are read here, and a
//! test checks that there are no others. Source files and lines are not in a stripped program: `cargo xtask logs` has them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, Read, Seek};

use defmt_parser::{DisplayHint, Fragment, ParserMode, TimePrecision, Type, parse};
use serde::Deserialize;

use super::elf;

/// This program has no messages: it was stripped of all its symbols.
#[derive(Debug)]
pub(crate) struct NoMessages;

/// A program's messages by their ids.
pub(super) struct Dictionary {
    messages: BTreeMap<u16, Message>,
    timestamp: String,
}

#[derive(Debug, Deserialize)]
struct Message {
    /// `defmt_info` and so on, or `defmt_prim` and others for what is inside messages.
    tag: String,
    #[serde(rename = "data")]
    format: String,
}

/// Format strings inside format strings.
const MAX_DEPTH: usize = 8;

impl Dictionary {
    /// The messages of the program in `file`; `None` when it has none.
    ///
    /// # Errors
    /// When it cannot be read, or is no program.
    pub(super) fn read(file: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let mut messages = BTreeMap::new();
        let mut timestamp = String::new();
        for (name, address) in elf::symbols(file, ".defmt")? {
            let Ok(message) = serde_json::from_str::<Message>(&name) else { continue };
            match u16::try_from(address) {
                _ if message.tag == "defmt_timestamp" => timestamp = message.format,
                Ok(id) => drop(messages.insert(id, message)),
                Err(_) => {}
            }
        }
        Ok((!messages.is_empty()).then_some(Self { messages, timestamp }))
    }

    /// The line of a frame, with its end. What cannot be decoded is shown in hexadecimal.
    pub(super) fn line(&self, frame: &[u8]) -> String {
        let mut line = String::new();
        if self.decode(frame, &mut line).is_none() {
            line = "- ?     ".to_owned();
            frame.iter().for_each(|byte| line.push_str(&format!("{byte:02x}")));
        }
        // File names and errors come from outside: they must not look like lines of ours, or steer a terminal.
        let mut clean = String::with_capacity(line.len() + 1);
        for c in line.chars() {
            if c.is_control() { clean.extend(c.escape_default()) } else { clean.push(c) }
        }
        clean.push('\n');
        clean
    }

    fn decode(&self, frame: &[u8], line: &mut String) -> Option<()> {
        let mut values = Values(frame);
        let message = self.messages.get(&u16::from_le_bytes(values.take()?))?;
        if !self.timestamp.is_empty() {
            self.format(&self.timestamp, &mut values, line, 0)?;
            line.push(' ');
        }
        let level = message.tag.strip_prefix("defmt_")?.to_uppercase();
        write!(line, "{level:<5} ").ok()?;
        self.format(&message.format, &mut values, line, 0)?;
        values.0.is_empty().then_some(())
    }

    /// Appends `format` with its values, which stand in the order of their indices.
    fn format(&self, format: &str, values: &mut Values<'_>, line: &mut String, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let fragments = parse(format, ParserMode::ForwardsCompatible).ok()?;
        let mut parameters = BTreeMap::new();
        for fragment in &fragments {
            if let Fragment::Parameter(parameter) = fragment {
                parameters.entry(parameter.index).or_insert(parameter);
            }
        }
        let mut texts = BTreeMap::new();
        for (index, parameter) in parameters {
            let mut text = String::new();
            self.value(&parameter.ty, parameter.hint.as_ref(), values, &mut text, depth)?;
            texts.insert(index, text);
        }
        for fragment in &fragments {
            match fragment {
                Fragment::Literal(text) => line.push_str(text),
                Fragment::Parameter(parameter) => line.push_str(texts.get(&parameter.index)?),
            }
        }
        Some(())
    }

    fn value(
        &self,
        ty: &Type,
        hint: Option<&DisplayHint>,
        values: &mut Values<'_>,
        out: &mut String,
        depth: usize,
    ) -> Option<()> {
        let unsigned = match ty {
            Type::U8 => u64::from(u8::from_le_bytes(values.take()?)),
            Type::U16 => u64::from(u16::from_le_bytes(values.take()?)),
            // defmt has 32 bits for it everywhere.
            Type::U32 | Type::Usize => u64::from(u32::from_le_bytes(values.take()?)),
            Type::U64 => u64::from_le_bytes(values.take()?),
            _ => return self.other_value(ty, values, out, depth),
        };
        match hint {
            Some(DisplayHint::Seconds(TimePrecision::Micros)) => {
                write!(out, "{}.{:06}", unsigned / 1_000_000, unsigned % 1_000_000)
            }
            Some(DisplayHint::Seconds(TimePrecision::Millis)) => {
                write!(out, "{}.{:03}", unsigned / 1_000, unsigned % 1_000)
            }
            Some(DisplayHint::Hexadecimal { alternate: true, .. }) => write!(out, "{unsigned:#x}"),
            Some(DisplayHint::Hexadecimal { .. }) => write!(out, "{unsigned:x}"),
            _ => write!(out, "{unsigned}"),
        }
        .ok()
    }

    fn other_value(&self, ty: &Type, values: &mut Values<'_>, out: &mut String, depth: usize) -> Option<()> {
        match ty {
            Type::I8 => write!(out, "{}", i8::from_le_bytes(values.take()?)).ok(),
            Type::I16 => write!(out, "{}", i16::from_le_bytes(values.take()?)).ok(),
            Type::I32 | Type::Isize => write!(out, "{}", i32::from_le_bytes(values.take()?)).ok(),
            Type::I64 => write!(out, "{}", i64::from_le_bytes(values.take()?)).ok(),
            Type::F32 => write!(out, "{:?}", f32::from_le_bytes(values.take()?)).ok(),
            Type::F64 => write!(out, "{:?}", f64::from_le_bytes(values.take()?)).ok(),
            Type::Bool => write!(out, "{}", u8::from_le_bytes(values.take()?) != 0).ok(),
            Type::Char => write!(out, "{}", char::from_u32(u32::from_le_bytes(values.take()?))?).ok(),
            Type::Str => {
                let len = u32::from_le_bytes(values.take()?);
                out.write_str(std::str::from_utf8(values.slice(len as usize)?).ok()?).ok()
            }
            Type::IStr => {
                let id = u16::from_le_bytes(values.take()?);
                out.write_str(&self.messages.get(&id)?.format).ok()
            }
            Type::Debug | Type::Display => {
                let len = values.0.iter().position(|&byte| byte == 0xff)?;
                out.push_str(std::str::from_utf8(values.slice(len)?).ok()?);
                values.slice(1).map(drop)
            }
            Type::Format => {
                let id = u16::from_le_bytes(values.take()?);
                let format = self.messages.get(&id)?.format.as_str();
                // An enum's variants; its discriminant is a byte while they are few.
                let format = match format.contains('|') {
                    true => format.split('|').nth(usize::from(u8::from_le_bytes(values.take()?)))?,
                    false => format,
                };
                self.format(format, values, out, depth + 1)
            }
            _ => None,
        }
    }

    /// Messages that have a value that this form cannot show.
    #[cfg(test)]
    #[allow(dead_code, reason = "for tests/log.rs, which has this file, too")]
    pub(super) fn unsupported(&self) -> Vec<&str> {
        let can = |ty: &Type| {
            !matches!(
                ty,
                Type::BitField(_)
                    | Type::FormatSequence
                    | Type::FormatArray(_)
                    | Type::FormatSlice
                    | Type::U8Slice
                    | Type::U8Array(_)
                    | Type::U128
                    | Type::I128
            )
        };
        let is_shown = |format: &&str| {
            let fragments = parse(format, ParserMode::Strict);
            fragments.is_ok_and(|fragments| {
                fragments.iter().all(|fragment| match fragment {
                    Fragment::Parameter(parameter) => can(&parameter.ty),
                    Fragment::Literal(_) => true,
                })
            })
        };
        let levels = ["defmt_trace", "defmt_debug", "defmt_info", "defmt_warn", "defmt_error"];
        let own = self.messages.values().filter(|message| levels.contains(&message.tag.as_str()));
        own.map(|message| message.format.as_str()).filter(|format| !is_shown(format)).collect()
    }
}

/// The values of a frame that were not read yet, little endian.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(value)
    }
}

impl std::fmt::Display for NoMessages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this program has no messages to make text of: all its symbols were stripped")
    }
}

impl std::error::Error for NoMessages {}
