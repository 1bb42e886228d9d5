//! The server's page in a real browser: pictures go in, bars come out, and they are what the API says.
//!
//! Nothing fails on the console; light and dark, as wide as a phone, by keyboard, with names for a screen reader.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::thread;

use serde_json::{Value, json};
use vgg_edge_blob::{Scheme, write};
use vgg_edge_tests::browser::{Browser, LONG};
use vgg_edge_tests::{TempDir, classify, temp_dir, vgg_of_two_blocks, workspace_root};

/// Width of a phone, CSS pixels.
const PHONE: u32 = 360;

fn fixtures() -> PathBuf {
    workspace_root().join("tests/fixtures")
}

/// The bundled network where `VGG_EDGE_MODELS` has it, else a random one with labels and figures.
fn network() -> &'static Path {
    static MODEL: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let dir = temp_dir();
        let path = dir.path().join("small_vgg.vgg");
        let folder = std::env::var_os("VGG_EDGE_MODELS").map(PathBuf::from);
        match folder.map(|folder| folder.join("small_vgg.int8.vgg")).filter(|path| path.is_file()) {
            Some(bundled) => drop(fs::copy(bundled, &path).unwrap()),
            None => {
                let mut model = vgg_of_two_blocks(Scheme::Int8);
                let labels = "airplane automobile bird cat deer dog frog horse <i>&'\" truck";
                model.labels = labels.split(' ').map(str::to_owned).collect();
                let figures = json!({"agreement": 0.9765625, "measured_pictures": 128, "network": "vgg16", "board": "generic"});
                model.metadata = figures.to_string();
                write(model, &mut fs::File::create(&path).unwrap()).unwrap();
            }
        }
        (dir, path)
    });
    path
}

/// A picture of a class.
fn picture(class: &str, i: usize) -> PathBuf {
    let entries = fs::read_dir(fixtures().join("cifar10/test").join(class)).unwrap();
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths[i].clone()
}

/// A running server; killed when the value goes away.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(args: &[&str], dir: &Path) -> Self {
        let mut command = classify();
        command.arg("serve").arg(network()).args(["--listen", "127.0.0.1:0"]).args(args).current_dir(dir);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| line.ok()?.split_once(" at http://")?.1.parse().ok());
        thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("an address") }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The API's answer to a picture.
    fn answer(&self, path: &Path) -> Value {
        let body = fs::read(path).unwrap();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names, lengths and texts of bars.
fn bars(browser: &mut Browser, within: &str) -> Value {
    browser.value(&format!(
        "[...document.querySelectorAll('{within} .bars li')].map(li => [li.querySelector('.name').textContent,
            li.querySelector('meter').value, li.querySelector('.share').textContent])"
    ))
}

/// The same, from an answer.
fn expected(answer: &Value) -> Vec<(String, f64, String)> {
    let bar = |class: &Value| {
        let p = class["probability"].as_f64().unwrap();
        (class["label"].as_str().unwrap().to_owned(), p, format!("{:.1} %", p * 100.0))
    };
    answer["top"].as_array().unwrap().iter().map(bar).collect()
}

fn check_bars(browser: &mut Browser, within: &str, answer: &Value) {
    let (shown, expected) = (bars(browser, within), expected(answer));
    assert_eq!(shown.as_array().map(Vec::len), Some(expected.len()), "{shown}");
    for (shown, (name, p, text)) in shown.as_array().unwrap().iter().zip(expected) {
        assert_eq!((&shown[0], &shown[2]), (&json!(name), &json!(text)));
        assert!((shown[1].as_f64().unwrap() - p).abs() < 1e-6, "{shown}, expected {p}");
    }
}

/// A page with its server, ready; `None` without a browser.
fn page(args: &[&str]) -> Option<(TempDir, Server, Browser)> {
    let dir = temp_dir();
    let mut browser = Browser::start(dir.path())?;
    let server = Server::start(args, dir.path());
    browser.look(1000, 900, false);
    browser.open(&server.url());
    Some((dir, server, browser))
}

/// Uploads and waits for the bars of this picture.
fn upload(browser: &mut Browser, path: &Path) {
    browser.choose("#file", path);
    let name = path.file_name().unwrap().to_str().unwrap();
    let name = serde_json::to_string(name).unwrap();
    browser.wait(&format!(
        "document.querySelector('#caption').textContent.startsWith({name}) && document.querySelector('#answer .bars')"
    ));
}

#[test]
fn a_picture_goes_in_and_the_apis_answer_comes_out() {
    let Some((dir, server, mut browser)) = page(&[]) else { return };
    browser.wait("document.querySelector('#facts dd')");
    for (class, name) in [("cat", "a cat.jpg"), ("ship", "<b>&'\"ship.jpg")] {
        let path = dir.path().join(name);
        fs::copy(picture(class, 0), &path).unwrap();
        upload(&mut browser, &path);
        check_bars(&mut browser, "#answer", &server.answer(&path));
        assert_eq!(browser.value("document.querySelector('#preview').naturalWidth"), 32);
        assert_eq!(browser.value("document.querySelector('#preview').alt"), format!("Your picture: {name}"));
        assert_eq!(browser.value("document.querySelector('#failed').textContent"), "");
    }
    // The same by dropping and by pasting.
    let bytes = fs::read(picture("frog", 0)).unwrap();
    for event in [
        "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})",
        "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
    ] {
        browser.value(&format!(
            "(() => {{ const data = new DataTransfer(); document.querySelector('#answer').replaceChildren();
                data.items.add(new File([new Uint8Array({bytes:?})], 'frog.jpg', {{type: 'image/jpeg'}}));
                document.querySelector('#drop').dispatchEvent({event}); }})()"
        ));
        browser.wait("document.querySelector('#answer .bars')");
        check_bars(&mut browser, "#answer", &server.answer(&picture("frog", 0)));
    }
    assert_eq!(browser.complaints(), [""; 0]);
    // What is refused is said, by an alert, in the server's words.
    let path = dir.path().join("note.jpg");
    fs::write(&path, "no picture").unwrap();
    browser.choose("#file", &path);
    browser.wait(
        "document.querySelector('#failed').textContent.startsWith('not a picture: starts with 6e 6f 20 70')",
    );
    assert_eq!(bars(&mut browser, "#answer"), json!([]));
    let complaints = browser.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("415"), "{complaints:?}");
    browser.value("console.error('seen')");
    assert_eq!(browser.complaints().len(), 1, "the search itself works");
}

#[test]
fn the_card_shows_the_facts() {
    let Some((_dir, _server, mut browser)) = page(&["--threads", "1"]) else { return };
    browser.wait("document.querySelector('#facts dd')");
    let facts = browser.value("document.querySelector('#facts').innerText");
    let facts = facts.as_str().unwrap();
    let model = browser.value("fetch('/v1/model').then(r => r.json())");
    let agreement = model["accuracy"]["agreement"].as_f64().unwrap() * 100.0;
    let [low, high] = [0, 1].map(|i| model["accuracy"]["interval"][i].as_f64().unwrap() * 100.0);
    let kernel = model["running"]["kernel"].as_str().unwrap();
    let pictures = &model["accuracy"]["pictures"];
    let sides: Vec<String> = model["input"].as_array().unwrap().iter().map(Value::to_string).collect();
    let input = sides.join("x");
    let [order, resize] = ["order", "resize"].map(|key| model["preprocess"][key].as_str().unwrap());
    for words in [
        "small_vgg.vgg, vgg16".to_owned(),
        format!("int8, {:.1} million MACs", model["macs"].as_f64().unwrap() / 1e6),
        format!("10 classes from {input} pixels"),
        format!(
            "{agreement:.1} % of {pictures} pictures as the f32 network (95 % interval {low:.1} % to {high:.1} %)"
        ),
        format!("{order}, resize {resize}, bilinear; (pixel x "),
        format!("{kernel}, 1 thread"),
        "planned for generic".to_owned(),
    ] {
        assert!(facts.contains(&words), "{words:?} is not in {facts}");
    }
    // What a board's sensors say, as far as it has them; cores by themselves where their clocks differ.
    let core = |core: u32, mhz: u32| json!({"core": core, "mhz": mhz, "max_mhz": 2400});
    for (cores, words) in [
        (json!([core(0, 600), core(1, 600)]), "600 of 2400 MHz, 61.5 °C, fan 1200 rpm"),
        (
            json!([core(0, 600), core(1, 2400)]),
            "core 0 600 of 2400 MHz, core 1 2400 of 2400 MHz, 61.5 °C, fan 1200 rpm",
        ),
    ] {
        let sensors = json!({"clock_mhz": 600, "max_clock_mhz": 2400, "clocks": cores, "temperature": 61.5, "fan_rpm": 1200});
        assert_eq!(browser.value(&format!("board({sensors})")), words);
    }
    assert_eq!(browser.value("board({})"), "no sensors");
    let rows = browser.value("document.querySelectorAll('#layers tr').length");
    assert_eq!(rows, model["layers"].as_array().unwrap().len());
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What a script finds wrong in the page as it is: names, references, contrast, width.
const FINDINGS: &str = r#"(() => {
    const wrong = [], all = q => [...document.querySelectorAll(q)];
    const seen = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
    const ids = all('[id]').map(e => e.id);
    ids.filter((id, i) => ids.indexOf(id) !== i).forEach(id => wrong.push(`id ${id} twice`));
    for (const name of ['aria-labelledby', 'aria-describedby', 'for']) {
        all(`[${name}]`).forEach(e => e.getAttribute(name).split(' ').filter(id => !document.getElementById(id))
            .forEach(id => wrong.push(`${name} ${id}: no such element`)));
    }
    all('img').filter(seen).forEach(e => e.alt || wrong.push(`image ${e.id} without a name`));
    all('input').forEach(e => e.labels.length || e.ariaLabel || wrong.push(`input ${e.id} without a label`));
    all('meter').forEach(e => e.ariaLabel || wrong.push('meter without a label'));
    all('table').forEach(e => e.caption || wrong.push('table without a caption'));
    document.documentElement.lang || wrong.push('no language');
    document.title || wrong.push('no title');
    all('h1').length === 1 || wrong.push(`${all('h1').length} main headings`);
    const levels = all('h1, h2, h3').filter(seen).map(e => +e.tagName[1]);
    levels.forEach((level, i) => i && level > levels[i - 1] + 1 && wrong.push(`heading ${level} behind ${levels[i - 1]}`));
    const color = text => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return {r, g, b, a}; };
    const light = ({r, g, b}) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => {
        for (; e; e = e.parentElement) {
            const back = color(getComputedStyle(e).backgroundColor);
            if (back.a === 1) return back;
        }
        return {r: 255, g: 255, b: 255, a: 1};
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let n = 0;
    while (walker.nextNode()) {
        const node = walker.currentNode, e = node.parentElement;
        if (!node.textContent.trim() || !seen(e) || e.closest('.hidden, .skip, script, noscript')) continue;
        const [a, b] = [light(color(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        n += 1;
        if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${node.textContent.trim()}`);
    }
    if (n < 20) wrong.push(`${n} texts`);
    all('button').filter(seen).forEach(e => e.getBoundingClientRect().height >= 44 || wrong.push(`button ${e.id} is small`));
    const {scrollWidth, clientWidth} = document.documentElement;
    if (scrollWidth > clientWidth) wrong.push(`${scrollWidth} pixels wide in ${clientWidth}`);
    return wrong;
})()"#;

/// Roles that a person uses, and pictures: each needs a name.
const NAMED: [&str; 9] =
    ["button", "link", "textbox", "image", "img", "meter", "region", "table", "DisclosureTriangle"];

fn check_names(browser: &mut Browser) {
    let tree = browser.call("Accessibility.getFullAXTree", json!({}))["nodes"].clone();
    let mut n = 0;
    for node in tree.as_array().unwrap().iter().filter(|node| node["ignored"] == false) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if NAMED.contains(&role) {
            n += 1;
            assert!(node["name"]["value"].as_str().is_some_and(|name| !name.trim().is_empty()), "{node}");
        }
    }
    assert!(n > 5, "{n} nodes: the search itself works");
}

/// A folder of frames of some classes.
fn frames(dir: &Path) -> Vec<PathBuf> {
    let folder = dir.join("frames");
    fs::create_dir_all(&folder).unwrap();
    let classes = ["cat", "ship", "frog", "horse"];
    let copy = |(i, class): (usize, &&str)| {
        let to = folder.join(format!("{i}.jpg"));
        fs::copy(picture(class, 1), &to).unwrap();
        to
    };
    classes.iter().enumerate().map(copy).collect()
}

const CAMERA: [&str; 5] = ["--camera", "file:frames", "--repeat", "--capture-fps", "5"];

#[test]
fn light_dark_and_small_it_is_readable_by_eye_and_by_machine() {
    let dir = temp_dir();
    let Some(mut browser) = Browser::start(dir.path()) else { return };
    frames(dir.path());
    let server = Server::start(&CAMERA, dir.path());
    let mut backs = Vec::new();
    for (width, dark) in [(1000, false), (1000, true), (PHONE, false), (PHONE, true)] {
        browser.look(width, 900, dark);
        browser.open(&server.url());
        browser.wait("document.querySelector('#seen .bars') && document.querySelector('#facts dd')");
        browser.wait("document.querySelector('#frame').naturalWidth > 0");
        upload(&mut browser, &picture("cat", 0));
        browser.value("document.querySelector('details').open = true");
        assert_eq!(browser.value(FINDINGS), json!([]), "{width} pixels, dark: {dark}");
        check_names(&mut browser);
        backs.push(browser.value("getComputedStyle(document.body).backgroundColor"));
        // Something is drawn.
        assert!(browser.shot().len() > 15_000);
    }
    assert_eq!((&backs[0], &backs[1]), (&json!("rgb(255, 255, 255)"), &json!("rgb(20, 23, 27)")));
    assert_eq!(browser.complaints(), [""; 0]);
    // A text that nobody can read is found.
    browser.value("document.querySelector('h1').style.color = 'rgb(30, 33, 37)'");
    assert_eq!(browser.value(FINDINGS).as_array().map(Vec::len), Some(1));
}

#[test]
fn the_keyboard_reaches_everything_in_order() {
    let Some((_dir, server, mut browser)) = page(&[]) else { return };
    browser.wait("document.querySelector('#facts dd')");
    let mut order = Vec::new();
    for _ in 0..6 {
        browser.press("Tab");
        let name = "(e => e.id || e.className || e.textContent)(document.activeElement)";
        order.push(browser.value(name).as_str().unwrap().to_owned());
        let outline = browser.value("getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(outline, "solid", "{order:?}");
    }
    assert_eq!(order, ["skip", "choose", "take", "How each layer runs", "Metrics", "Model as JSON"]);
    // Enter opens the chooser.
    browser.call("Page.setInterceptFileChooserDialog", json!({"enabled": true}));
    for (button, input) in [("choose", "#file"), ("take", "#shot")] {
        browser.value(&format!("document.querySelector('#{button}').focus()"));
        browser.press("Enter");
        let node = browser.event("Page.fileChooserOpened")["backendNodeId"].clone();
        let chosen = picture("horse", 0);
        browser.value("document.querySelector('#answer').replaceChildren()");
        let files = json!({"files": [chosen.to_str().unwrap()], "backendNodeId": node});
        browser.call("DOM.setFileInputFiles", files);
        browser.wait("document.querySelector('#answer .bars')");
        check_bars(&mut browser, "#answer", &server.answer(&chosen));
        let capture = browser.value(&format!("document.querySelector('{input}').getAttribute('capture')"));
        assert_eq!(capture, if button == "take" { json!("environment") } else { Value::Null });
    }
    assert_eq!(browser.value("document.querySelector('#answer').getAttribute('aria-live')"), "polite");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_cameras_view_follows_it_and_pauses() {
    let dir = temp_dir();
    let Some(mut browser) = Browser::start(dir.path()) else { return };
    let frames = frames(dir.path());
    let server = Server::start(&CAMERA, dir.path());
    let answers: Vec<_> = frames.iter().map(|frame| expected(&server.answer(frame))).collect();
    browser.look(1000, 900, false);
    browser.open(&server.url());
    browser.wait("state.points.length >= 4 && document.querySelector('#frame').naturalWidth === 32");
    // What is shown is the answer to one of the frames.
    for _ in 0..10 {
        let shown = bars(&mut browser, "#seen");
        let is_it = |answer: &Vec<(String, f64, String)>| {
            answer.iter().enumerate().all(|(i, bar)| shown[i][0] == bar.0 && shown[i][2] == bar.2)
        };
        assert!(answers.iter().any(is_it), "{shown} is none of {answers:?}");
    }
    let points = "document.querySelector('#line-latency').getAttribute('points').split(' ').length";
    assert!(browser.value(points).as_u64() >= Some(4));
    let text = browser.value("document.querySelector('#chart-text').textContent");
    assert!(text.as_str().unwrap().contains("median"), "{text}");
    browser.wait("document.querySelector('#spoken').textContent.startsWith('The camera sees: ')");
    let press = "document.querySelector('#pause').click()";
    browser.value(press);
    assert_eq!(browser.value("document.querySelector('#pause').getAttribute('aria-pressed')"), "true");
    let last = browser.value("state.points[state.points.length - 1].sequence").as_u64().unwrap();
    thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(browser.value("state.points[state.points.length - 1].sequence"), last);
    browser.value(press);
    browser.wait(&format!("state.points[state.points.length - 1].sequence > {last}"));
    let complaints = browser.complaints();
    assert_eq!(complaints, [""; 0]);

    // A server that goes away and comes back.
    let port = server.address.port().to_string();
    drop(server);
    browser.wait("document.querySelector('#live-state').textContent.startsWith('The camera')");
    let listen = format!("127.0.0.1:{port}");
    let mut command = classify();
    command.arg("serve").arg(network()).args(["--listen", &listen]).args(CAMERA).current_dir(dir.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    browser.wait("document.querySelector('#live-state').textContent === ''");
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_token_is_asked_for_on_the_page() {
    let dir = temp_dir();
    let Some(mut browser) = Browser::start(dir.path()) else { return };
    fs::write(dir.path().join("token"), "0123456789abcdef").unwrap();
    let server = Server::start(&["--token-file", "token"], dir.path());
    browser.look(PHONE, 700, false);
    browser.open(&server.url());
    browser.wait("!document.querySelector('#login').hidden && document.querySelector('#main').hidden");
    assert_eq!(browser.value("document.activeElement.id"), "token");
    let give = |browser: &mut Browser, token: &str| {
        browser.value(&format!("document.querySelector('#token').value = '{token}'"));
        browser.press("Enter");
    };
    give(&mut browser, "0123456789abcdeF");
    browser.wait("document.querySelector('#login-text').textContent === 'The token is wrong.'");
    browser.wait("document.activeElement.id === 'token'");
    give(&mut browser, "0123456789abcdef");
    browser.wait("document.querySelector('#login').hidden && document.querySelector('#facts dd')");
    upload(&mut browser, &picture("cat", 0));
    assert_eq!(browser.value("localStorage.length + document.cookie.length"), 0);
}

#[test]
fn a_picture_over_the_limit_is_made_smaller_and_that_is_said() {
    let Some((_dir, _server, mut browser)) = page(&["--max-body", "8K"]) else { return };
    browser.wait("document.querySelector('#limit').textContent.includes('8192 bytes')");
    // Noise: it cannot be compressed.
    browser.value(
        "(async () => { const canvas = document.createElement('canvas'); canvas.width = canvas.height = 200;
            const context = canvas.getContext('2d'), pixels = context.createImageData(200, 200);
            pixels.data.forEach((_, i) => pixels.data[i] = i % 4 === 3 ? 255 : (i * 7919) % 251);
            context.putImageData(pixels, 0, 0);
            const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
            window.size = blob.size;
            await classify(new File([blob], 'noise.png', {type: 'image/png'})); })()",
    );
    assert!(browser.value("window.size").as_u64() > Some(8192));
    browser.wait("document.querySelector('#answer .bars')");
    let text = browser.value("document.querySelector('#answer').textContent");
    assert!(
        text.as_str().unwrap().contains("It was larger than 8192 bytes, so this browser made it "),
        "{text}"
    );
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_picture_of_the_page_for_the_documents() {
    let dir = temp_dir();
    let Some(mut browser) = Browser::start(dir.path()) else { return };
    frames(dir.path());
    let server = Server::start(&CAMERA, dir.path());
    browser.look(1000, 1560, false);
    browser.open(&server.url());
    let cat = dir.path().join("cat.jpg");
    fs::copy(picture("cat", 3), &cat).unwrap();
    upload(&mut browser, &cat);
    browser.wait("state.points.length >= 24 && document.querySelector('#frame').naturalWidth > 0");
    let shot = browser.shot();
    assert!(shot.len() > 22_500, "{} bytes", shot.len());
    if std::env::var_os("VGG_EDGE_BLESS").is_some() {
        let docs = workspace_root().join("docs");
        fs::create_dir_all(&docs).unwrap();
        fs::write(docs.join("page.png"), shot).unwrap();
    }
}
