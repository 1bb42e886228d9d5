//! Writes the first inputs of each target below `corpus/`: the blobs that the tests mutate, and the pictures.
//!
//! ```text
//! cargo run --example seeds && cargo +nightly fuzz run blob_parse -- -max_total_time=60
//! ```

use std::path::Path;
use std::{fs, io};

use vgg_edge_engine::image::has_picture_name;
use vgg_edge_tests::{files, inputs, workspace_root};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["blob_parse", "engine_run"] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (i, seed) in inputs::seeds().iter().enumerate() {
            fs::write(folder.join(format!("seed{i}")), seed)?;
        }
    }
    let folder = corpus.join("decode_picture");
    fs::create_dir_all(&folder)?;
    for path in files(&workspace_root().join("device/engine/tests/fixtures/pictures")) {
        if has_picture_name(&path) {
            fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
        }
    }
    println!("wrote {}", corpus.display());
    Ok(())
}
