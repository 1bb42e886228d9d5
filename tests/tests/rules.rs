//! The architecture's rules: dependencies, `unsafe`, taglines, sizes, versions, documents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vgg_edge_tests::{files, run, workspace_root};

/// Files that may hold `unsafe`: instructions, the thread pool's lifetime, the map, the log's trait, the camera's requests.
const UNSAFE_FILES: [&str; 4] = [
    "device/engine/src/pool.rs",
    "device/classify/src/map.rs",
    "device/classify/src/log/frames.rs",
    "device/classify/src/camera/v4l2.rs",
];
const KERNELS: &str = "device/engine/src/kernels/";
const KERNEL_LINES: usize = 350;
const FILE_LINES: usize = 500;
const LINES_WITH_TESTS: usize = 800;

/// Files of the project: path from the root, with `/`, and text. Pictures and networks are left out.
fn texts() -> Vec<(String, String)> {
    let root = workspace_root();
    let texts: Vec<_> = files(root)
        .into_iter()
        .filter_map(|path| Some((relative(root, &path), fs::read_to_string(&path).ok()?)))
        .collect();
    assert!(texts.len() > 50, "{} text files", texts.len());
    texts
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn rust_files() -> Vec<(String, String)> {
    texts().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(workspace_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_kernel(path: &str) -> bool {
    path.starts_with(KERNELS) && !path.ends_with("/mod.rs")
}

/// Fails with all findings at once.
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Names of a package's normal and build dependencies, without those of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(workspace_root());
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let metadata: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|p| (string(&p["id"]), string(&p["name"]))).collect();
    let mut graph = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let used = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        let deps =
            list(&node["deps"]).into_iter().filter(used).map(|dep| names[&string(&dep["pkg"])].clone());
        graph.entry(names[&string(&node["id"])].clone()).or_insert_with(BTreeSet::new).extend(deps);
    }
    graph
}

fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = open.pop() {
        for dep in graph.get(&name).into_iter().flatten() {
            if seen.insert(dep.clone()) {
                open.push(dep.clone());
            }
        }
    }
    seen
}

#[test]
fn dependencies_point_one_way() {
    let graph = dependencies();
    let rules: [(&str, &[&str]); 5] = [
        ("vgg-edge-blob", &[]),
        ("vgg-edge-engine", &["vgg-edge-blob"]),
        ("vgg-edge-classify", &["vgg-edge-blob", "vgg-edge-engine"]),
        ("vgg-edge-host", &["vgg-edge-blob", "vgg-edge-engine"]),
        ("xtask", &[]),
    ];
    for (package, expected) in rules {
        let ours: Vec<&str> =
            graph[package].iter().map(String::as_str).filter(|name| name.starts_with("vgg-edge-")).collect();
        assert_eq!(ours, expected, "what {package} depends on");
    }
    for package in ["vgg-edge-blob", "vgg-edge-engine", "vgg-edge-classify", "xtask"] {
        let reached = reachable(&graph, package);
        let wrong: Vec<_> =
            reached.iter().filter(|name| *name == "vgg-edge-host" || name.starts_with("tract")).collect();
        assert!(wrong.is_empty(), "{package} reaches {wrong:?}");
    }
    assert!(reachable(&graph, "vgg-edge-host").contains("tract-core"), "the search itself works");
    let xtask: Vec<&str> = graph["xtask"].iter().map(String::as_str).collect();
    assert_eq!(xtask, ["anyhow", "clap"], "xtask compiles in seconds");
}

/// Code of a line: without comment and without what stands in quotes.
fn code(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

#[test]
fn unsafe_code_is_where_it_may_be_and_says_why_it_is_sound() {
    let mut findings = Vec::new();
    let mut n_blocks = 0;
    for (path, text) in rust_files() {
        let may = is_kernel(&path) || UNSAFE_FILES.contains(&path.as_str());
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = code(line);
            if !has_word(&code, "unsafe") && !code.contains("allow(unsafe_code)") {
                continue;
            }
            if !may {
                findings
                    .push(format!("{path}:{}: unsafe code, allowed in kernels and {UNSAFE_FILES:?}", i + 1));
            }
            if code.contains("unsafe {") || code.contains("unsafe impl") {
                n_blocks += 1;
                // Above the statement, whose first lines may come before the block.
                let above = lines[i.saturating_sub(8)..i].iter();
                if !above.chain([line]).any(|line| line.contains("SAFETY:")) {
                    findings.push(format!("{path}:{}: unsafe block without a SAFETY line", i + 1));
                }
            }
        }
    }
    none(&findings);
    assert!(n_blocks > 3, "{n_blocks} unsafe blocks: the search itself works");
}

#[test]
fn every_package_has_the_workspaces_lints() {
    let manifest = text("Cargo.toml");
    for lint in ["unsafe_code", "unsafe_op_in_unsafe_fn", "undocumented_unsafe_blocks"] {
        assert!(manifest.contains(&format!("{lint} = \"deny\"")), "Cargo.toml: {lint} is not denied");
    }
    for member in ["host", "device/blob", "device/engine", "device/classify", "xtask", "tests"] {
        let path = format!("{member}/Cargo.toml");
        assert!(text(&path).contains("[lints]\nworkspace = true"), "{path}: no [lints] workspace = true");
    }
    for path in ["host/src/lib.rs", "device/blob/src/lib.rs", "tests/src/lib.rs"] {
        assert!(text(path).contains("#![forbid(unsafe_code)]"), "{path}: unsafe code is not forbidden");
    }
}

#[test]
fn every_file_opens_with_a_tagline() {
    let mut findings = Vec::new();
    for (path, text) in rust_files() {
        let first = text.lines().next().unwrap_or_default();
        // The documentation of the format crate is its specification.
        let is_included = path == "device/blob/src/lib.rs" && first.starts_with("#![doc = include_str!");
        let words = first.strip_prefix("//! ").unwrap_or_default();
        if !is_included && (words.len() < 10 || !words.ends_with(['.', ':', '?'])) {
            findings.push(format!(
                "{path}: opens with `{first}`, expected a `//!` line that says what it is for"
            ));
        }
    }
    none(&findings);
}

#[test]
fn kernel_files_are_about_their_instructions() {
    let kernels: Vec<_> = rust_files().into_iter().filter(|(path, _)| is_kernel(path)).collect();
    assert!(kernels.len() >= 5, "{} kernel files", kernels.len());
    for (path, text) in kernels {
        let name = path.trim_start_matches(KERNELS).trim_end_matches(".rs");
        let tagline = text.lines().next().unwrap_or_default().to_lowercase();
        assert!(tagline.contains(name), "{path}: the tagline `{tagline}` does not name {name}");
        // `neon_winograd.rs` is a part of `neon.rs`.
        let (row, is_part) = name.split_once('_').map_or((name, false), |(row, _)| (row, true));
        let row_text = if is_part { self::text(&format!("{KERNELS}{row}.rs")) } else { text };
        assert!(row_text.contains(&format!("-{row}\"")), "{path}: no kernel name that ends in -{row}");
    }
}

#[test]
fn files_are_short_enough_to_read() {
    let mut findings = Vec::new();
    for (path, text) in rust_files() {
        let n_lines = text.lines().count();
        let without_tests = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        let is_test = path.contains("/tests/") || path.starts_with("tests/");
        let limit = match (is_kernel(&path), is_test) {
            (true, _) => KERNEL_LINES,
            (false, true) => LINES_WITH_TESTS,
            (false, false) => FILE_LINES,
        };
        if without_tests > limit || n_lines > LINES_WITH_TESTS {
            findings.push(format!(
                "{path}: {n_lines} lines, {without_tests} without tests, the limit is {limit}"
            ));
        }
    }
    none(&findings);
}

/// The value of `key = "value"`.
fn quoted(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    let value = line.and_then(|value| value.split('"').nth(1));
    value.unwrap_or_else(|| panic!("no {key}")).to_owned()
}

#[test]
fn the_rust_version_is_one() {
    let toolchain = quoted(&text("rust-toolchain.toml"), "channel");
    let version = quoted(&text("Cargo.toml"), "rust-version");
    assert_eq!(toolchain, format!("{version}.0"), "rust-toolchain.toml and rust-version of Cargo.toml");
    let Some(readme) = readme() else { return };
    assert!(readme.contains(&format!("Rust {version}")), "README.md does not say Rust {version}");
}

/// CI runs what the README tells people to run.
#[test]
fn ci_runs_the_readmes_test_command() {
    let ci = text(".ci/run");
    let command = ci.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
    assert!(command.starts_with("cargo xtask "), ".ci/run ends with `{command}`");
    let Some(readme) = readme() else { return };
    assert!(readme.contains(command), "README.md does not show `{command}`");
}

fn readme() -> Option<String> {
    let readme = fs::read_to_string(workspace_root().join("README.md")).ok();
    if readme.is_none() {
        println!("README.md: not written yet, not compared");
    }
    readme
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // Put together, so that this file passes, too.
    let places: Vec<String> =
        ["work", "root", "home", "Users"].iter().map(|dir| format!("/{dir}/")).collect();
    let mut findings = Vec::new();
    for (path, text) in texts() {
        for (i, line) in text.lines().enumerate() {
            let absolute = |place: &String| {
                line.match_indices(place.as_str()).any(|(at, _)| {
                    let (before, after) = (line[..at].chars().next_back(), &line[at + place.len()..]);
                    // Names that examples use.
                    if ["me/", "pi/", "user/"].iter().any(|name| after.starts_with(name)) {
                        return false;
                    }
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-/}".contains(c))
                })
            };
            if places.iter().any(absolute) {
                findings.push(format!("{path}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    none(&findings);
}

/// A document that specifies code is included where the compiler or a test reads it.
#[test]
fn specifications_are_included() {
    for (user, document) in [
        ("device/blob/src/lib.rs", "../FORMAT.md"),
        ("device/engine/src/kernels/mod.rs", "../../KERNELS.md"),
        ("device/engine/tests/kernels.rs", "../KERNELS.md"),
    ] {
        assert!(text(user).contains(&format!("include_str!(\"{document}\")")), "{user}: no {document}");
    }
    let documents: Vec<PathBuf> = files(workspace_root())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.trim().is_empty()))
        .collect();
    assert!(documents.is_empty(), "empty documents: {documents:?}");
}
