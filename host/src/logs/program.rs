//! The program that wrote a log: its build id, its messages and where in the source they are.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use defmt_decoder::{Locations, Table};

use super::{LogsError, elf};

/// What the unstripped program tells.
pub(super) struct Program {
    pub(super) build: Option<String>,
    pub(super) table: Table,
    pub(super) locations: Locations,
}

impl Program {
    /// Reads the program `path`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let table = Table::parse(&bytes).with_context(|| format!("cannot use {}", path.display()))?;
        let Some(table) = table.filter(|table| !table.is_empty()) else {
            bail!(LogsError::NoMessages { path: path.display().to_string() });
        };
        // Without debug information there are no locations; the messages themselves do not need them.
        let locations = table.get_locations(&bytes).unwrap_or_default();
        let build = elf::build_id(&mut Cursor::new(&bytes))
            .with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { build, table, locations })
    }

    /// The build for messages.
    pub(super) fn build_name(&self) -> String {
        self.build.clone().unwrap_or_else(|| "unknown".to_owned())
    }
}
