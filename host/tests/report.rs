//! `quantize --report` in a real browser: a page that renders, with marks in its charts.
//!
//! Nothing fails on the console, and the page's figures are those of the JSON in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vgg_edge_tests::browser::Browser;
use vgg_edge_tests::{TempDir, run, temp_dir, workspace_root};

/// Width of a phone, CSS pixels.
const PHONE: u32 = 360;

/// The bundled network with its report, `r.html`; `words` go to `quantize`.
fn reported(words: &str) -> (TempDir, String, Value) {
    let dir = temp_dir();
    let fixtures = workspace_root().join("tests/fixtures");
    for file in ["small_vgg.h5", "small_vgg.preprocess.toml", "small_vgg.labels.txt"] {
        fs::copy(fixtures.join("small_vgg").join(file), dir.path().join(file)).unwrap();
    }
    for class in ["cat", "dog"] {
        // A name that would be markup.
        let to = dir.path().join("calib").join(class);
        fs::create_dir_all(&to).unwrap();
        let first = fs::read_dir(fixtures.join("cifar10/calib").join(class)).unwrap();
        let first = first.map(|e| e.unwrap().path()).min().unwrap();
        fs::copy(first, to.join("<b>&'\"a.jpg")).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    command.args(["quantize", "small_vgg.h5", "--calib", "calib", "-o", "m.vgg", "--report", "r.html"]);
    let ran = run(command.args(words.split_whitespace()).current_dir(dir.path()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.ends_with("report     r.html\n"), "{}", ran.stdout);
    let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
    let data = json_of(&page);
    (dir, page, data)
}

/// The JSON in a page.
fn json_of(page: &str) -> Value {
    let (_, rest) =
        page.split_once("<script type=\"application/json\" id=\"data\">").expect("a block of JSON");
    serde_json::from_str(rest.split_once("</script>").expect("its end").0).unwrap()
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// What a script finds in the page as wide as a phone: every figure, every bar, marks of every drawing, widths.
const FINDINGS: &str = "(() => {
    const all = (q, of) => [...(of || document).querySelectorAll(q)];
    const visible = m => { const b = m.getBoundingClientRect(); return b.width > 0 && b.height > 0; };
    return {
        width: document.documentElement.scrollWidth,
        view: document.documentElement.clientWidth,
        figures: all('[data-key]').map(e => [e.dataset.key, e.textContent]),
        bars: all('[data-bar]').map(e => [e.dataset.bar, +e.getAttribute('width'), e.closest('svg').getAttribute('aria-label')]),
        drawings: all('svg').map(e => ({
            title: e.querySelector('title').textContent, role: e.getAttribute('role'),
            marks: all('.mark', e).length, visible: all('.mark', e).filter(visible).length })),
        histograms: ['weights', 'activations'].map(kind => all(`figure[data-${kind}]`).map(e =>
            [+e.dataset[kind], all('.mark', e).length])),
        layers: all('[data-layer]').length,
        captions: all('table').map(e => e.caption !== null),
        pictures: all('img').map(e => e.complete && e.naturalWidth),
        names: all('#worst img').map(e => e.alt),
        json: JSON.parse(document.querySelector('#data').textContent).network,
    };
})()";

/// A browser that shows the report of the folder on a phone, without a complaint, and what is found there.
fn looked_at(dir: &Path) -> Option<(Browser, Value)> {
    let mut browser = Browser::start(dir)?;
    browser.look(PHONE, 800, false);
    browser.open(&url(&dir.join("r.html")));
    let found = browser.value(FINDINGS);
    assert_eq!(browser.complaints(), [""; 0]);
    Some((browser, found))
}

/// Whether `text` is `value` as the page may show it: rounded, in percent or in millions.
fn shows(key: &str, text: &str, value: &Value) -> bool {
    let Some(number) = value.as_f64() else { return value.as_str() == Some(text) };
    let Ok(shown) = text.parse::<f64>() else { return false };
    let bytes =
        ["/bytes/", "/traffic", "/arena"].iter().any(|part| key.contains(part)) || key.ends_with("/bytes");
    let rate = ["agreement", "top1", "top5", "clipped"].iter().any(|part| key.contains(part));
    let number = number * if bytes { 1e-6 } else { 1.0 } * if rate { 100.0 } else { 1.0 };
    // Half a unit of the last digit that is shown.
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len() as i32);
    let unit = 10f64.powi(exponent.parse::<i32>().unwrap() - digits);
    (shown - number).abs() <= 0.5001 * unit
}

fn check(found: &Value, data: &Value) {
    let list = |name: &str| found[name].as_array().unwrap_or_else(|| panic!("{name}: {found}")).clone();
    let layers = data["layers"].as_array().unwrap();
    assert_eq!(found["json"], data["network"]);
    // A bar to scroll with may take some of the frame.
    assert!(
        found["view"].as_u64() > Some(300) && found["view"].as_u64() <= Some(u64::from(PHONE)),
        "{found}"
    );
    assert_eq!(found["width"], found["view"], "the page is wider than a phone");

    let figures = list("figures");
    assert!(figures.len() > 10 * layers.len(), "{} figures", figures.len());
    for figure in &figures {
        let (key, text) = (figure[0].as_str().unwrap(), figure[1].as_str().unwrap());
        let value = data.pointer(key).unwrap_or_else(|| panic!("{key} is not in the JSON"));
        assert!(shows(key, text, value), "{key}: shown {text:?}, in the JSON {value}");
    }
    for (i, layer) in layers.iter().enumerate() {
        for field in [
            "sqnr_db",
            "predicted_db",
            "sensitivity",
            "source/weights_db",
            "source/activations_db",
            "source/main",
            "ms_1",
        ] {
            let key = format!("/layers/{i}/{field}");
            let there = data.pointer(&key).is_some_and(|v| !v.is_null());
            assert_eq!(figures.iter().any(|f| f[0] == key), there, "{key} of {}", layer["name"]);
        }
    }
    // In each chart lengths are in one proportion to the figures.
    let bars = list("bars");
    assert!(bars.len() >= 2 * data["boards"].as_array().unwrap().len() + layers.len() / 2);
    for chart in bars.chunk_by(|a, b| a[2] == b[2]) {
        let value = |bar: &Value| data.pointer(bar[0].as_str().unwrap()).and_then(Value::as_f64).unwrap();
        let largest = chart.iter().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap();
        for bar in chart {
            let expected = value(bar).max(0.0) / value(largest) * largest[1].as_f64().unwrap();
            assert!((bar[1].as_f64().unwrap() - expected).abs() < 0.01, "{bar}: expected {expected}");
        }
    }
    for drawing in list("drawings") {
        assert_eq!(drawing["role"], "img", "{drawing}");
        assert!(drawing["title"].as_str().is_some_and(|t| !t.is_empty()), "{drawing}");
        assert!(drawing["visible"].as_u64() > Some(0), "{drawing}");
    }
    for (kind, histograms) in ["weights", "activations"].iter().zip(list("histograms")) {
        let histograms = histograms.as_array().unwrap();
        let expected = layers.iter().filter(|l| !l[kind].is_null()).count();
        assert_eq!((histograms.len(), expected > 0), (expected, true), "{kind}");
        for histogram in histograms {
            let counts = layers[histogram[0].as_u64().unwrap() as usize][kind]["counts"].as_array().unwrap();
            let filled = counts.iter().filter(|n| n.as_u64() > Some(0)).count();
            assert_eq!(histogram[1], filled, "{kind} of layer {}", histogram[0]);
        }
    }
    assert_eq!(found["layers"], layers.len());
    assert!(list("captions").iter().all(|there| *there == true));
    assert!(list("pictures").iter().all(|width| *width == 32), "{}", found["pictures"]);
    let names: Vec<&Value> = data["worst"].as_array().unwrap().iter().map(|w| &w["picture"]).collect();
    assert_eq!((list("names").iter().collect::<Vec<_>>(), names.len()), (names.clone(), 2));
    assert!(names.iter().all(|name| name.as_str().is_some_and(|n| n.ends_with("<b>&'\"a.jpg"))));
}

#[test]
fn a_browser_shows_the_figures_of_the_json() {
    let (dir, _, data) = reported("");
    let Some((mut browser, found)) = looked_at(dir.path()) else { return };
    check(&found, &data);
    // In a window: no error, and a picture of it.
    browser.look(800, 2000, false);
    browser.open(&url(&dir.path().join("r.html")));
    let png = browser.shot();
    assert_eq!(browser.complaints(), [""; 0]);
    assert!(png.len() > 10_000, "the screenshot has {} bytes", png.len());
    if std::env::var_os("VGG_EDGE_BLESS").is_some() {
        let docs = workspace_root().join("docs");
        fs::create_dir_all(&docs).unwrap();
        fs::write(docs.join("report.png"), png).unwrap();
    }
    // What the browser complains about is seen.
    fs::write(dir.path().join("bad.html"), "<!doctype html><script>undefined_function()</script>").unwrap();
    browser.open(&url(&dir.path().join("bad.html")));
    let complaints = browser.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("undefined_function"), "{complaints:?}");
}

#[test]
fn a_page_of_half_precision_has_no_ranges() {
    let (dir, _, data) = reported("--scheme f16");
    assert!(data["layers"].as_array().unwrap().iter().all(|l| l["range"].is_null()), "{data}");
    assert!(data["layers"][0]["source"]["weights_db"].as_f64() > Some(40.0), "{}", data["layers"][0]);
    let Some((_browser, found)) = looked_at(dir.path()) else { return };
    check(&found, &data);
}

/// Names and types, lists by their first element.
fn outline(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let word = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "bool",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "list",
                    Value::Object(_) => "record",
                };
                text.push_str(&format!("{:indent$}{name} {word}\n", ""));
                outline(value, indent + 1, text);
            }
        }
        Value::Array(items) => items.first().into_iter().for_each(|item| outline(item, indent, text)),
        _ => {}
    }
}

#[test]
fn the_json_has_its_shape_and_the_page_is_complete_in_itself() {
    let (dir, page, data) = reported("");
    let mut text = String::new();
    outline(&data, 0, &mut text);
    let path = workspace_root().join("host/tests/report.outline.txt");
    if std::env::var_os("VGG_EDGE_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "VGG_EDGE_BLESS=1 writes it anew");
    assert_eq!(
        data["command"].as_str().unwrap().split_once(" quantize ").unwrap().1,
        "small_vgg.h5 --calib calib -o m.vgg --report r.html"
    );
    let blob = fs::metadata(dir.path().join("m.vgg")).unwrap().len();
    assert_eq!(data["bytes"]["file"], blob);
    for word in ["http:", "https:", "<link", "src=\"/", "@import", "url(", "<b>&'"] {
        assert!(!page.contains(word), "{word}");
    }
    // Both parts of a layer's error alone are no larger than both together, nearly.
    for layer in data["layers"].as_array().unwrap().iter().filter(|l| !l["source"].is_null()) {
        let db = |name: &str| layer["source"][name].as_f64();
        let (Some(weights), Some(both)) = (db("weights_db"), db("both_db")) else { continue };
        let least = db("activations_db").map_or(weights, |a| a.min(weights));
        assert!(both < least + 0.5, "{layer}");
    }
}

#[test]
fn a_report_over_the_blob_is_refused_and_a_failed_one_leaves_nothing() {
    let (dir, ..) = reported("");
    let quantize = |report: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        command.args(["quantize", "small_vgg.h5", "--calib", "calib", "-o", "n.vgg", "--report", report]);
        run(command.current_dir(dir.path()))
    };
    let ran = quantize("n.vgg");
    let error = "error: --report is n.vgg, which is also the blob, expected another file\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), error));
    let ran = quantize("missing/r.html");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains(
            "error: the model is complete in n.vgg, but there is no report: cannot write missing/r.html: "
        ),
        "{}",
        ran.stderr
    );
    assert!(!dir.path().join("missing").exists());
}
