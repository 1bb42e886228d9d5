//! `classify verify`: the signature, every checksum, then the self-test on every kernel of this CPU, or on the one that is named.

use std::process::ExitCode;

use anyhow::{Context, Result};
use vgg_edge_engine::kernels;

use crate::args::Verify;
use crate::model::{self, ModelFile};
use crate::output;

pub(crate) fn verify(args: &Verify) -> Result<ExitCode> {
    let file = ModelFile::open(&args.model)?;
    if let Some(key) = file.check_signature(&args.trust)? {
        output::print_line(format_args!("signature  ok, key {}", key.short()))?;
    }
    let blob = file.blob()?;
    output::print_line(format_args!("checksums  ok, {} bytes", blob.file_len()))?;
    if blob.golden().is_none() {
        output::print_line(format_args!("self-test  none: the file has no golden picture"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let named = args.engine.kernel.as_deref().map(kernels::by_name).transpose()?;
    let used = named.unwrap_or_else(kernels::best);
    let pool = model::pool(&args.engine, used)?;
    let tested: Vec<_> = named.map_or_else(|| kernels::available().collect(), |kernel| vec![kernel]);
    for kernel in tested {
        let mut engine = file.engine(&blob, kernel, &pool, &args.engine, false)?;
        if kernel.name() == used.name() {
            output::warn_of_repacking(&file, &engine);
        }
        engine.self_test().with_context(|| format!("{}: {}", file.path().display(), kernel.name()))?;
        defmt::info!("self-test ok: kernel {=str}", kernel.name());
        output::print_line(format_args!("self-test  ok, {}", kernel.name()))?;
    }
    Ok(ExitCode::SUCCESS)
}
