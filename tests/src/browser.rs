//! A headless Chromium, driven over the DevTools protocol through a pipe: no port, no library.
//!
//! ```text
//! test ─► fd 3  {"id": 1, "method": "Page.navigate", "params": {...}} NUL
//! test ◄─ fd 4  {"id": 1, "result": {...}} NUL, and events: console, exceptions, failed loads
//! ```
//!
//! What it is told is the test's own: where something fails the test has found an error, so it panics.
#![allow(clippy::missing_panics_doc, reason = "all of it panics, as tests do")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing here takes so long; a test that hangs fails.
pub const LONG: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    n_sent: u64,
    events: Vec<Value>,
}

impl Browser {
    /// Starts it; `None`, with a line that says so, where there is none. CI has one.
    pub fn start(dir: &Path) -> Option<Self> {
        let there =
            Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            assert!(std::env::var_os("CI").is_none(), "chromium is not on the path");
            println!("left out: chromium is not on the path");
            return None;
        }
        let mut command = Command::new("sh");
        // The browser's pipe are the descriptors 3 and 4.
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null", "sh", "chromium"]);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        ]);
        command.arg(format!("--user-data-dir={}", dir.join("profile").display()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(stdout).split(0) {
                let Ok(message) = message else { return };
                let Ok(json) = serde_json::from_slice(&message) else { return };
                if sender.send(json).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, stdin, messages, session: None, n_sent: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Sends a command and waits for its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.n_sent += 1;
        let mut message = json!({"id": self.n_sent, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.stdin.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.stdin.flush().unwrap();
        loop {
            let answer = self.messages.recv_timeout(LONG).unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] == self.n_sent {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        let frame = self.call("Page.navigate", json!({ "url": url }));
        assert!(frame["errorText"].is_null(), "{url}: {frame}");
        self.wait("document.readyState === 'complete'");
    }

    /// The value of an expression, awaited if it is a promise.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(&format!("Boolean({expression})")) != true {
            let page =
                if start.elapsed() > LONG { self.value("document.body.innerText") } else { Value::Null };
            assert!(start.elapsed() < LONG, "never true: {expression}; the page says {page}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for an event and gives its parameters.
    pub fn event(&mut self, method: &str) -> Value {
        loop {
            if let Some(i) = self.events.iter().position(|event| event["method"] == method) {
                return self.events.swap_remove(i)["params"].clone();
            }
            let event = self.messages.recv_timeout(LONG).unwrap_or_else(|e| panic!("{method}: {e}"));
            self.events.push(event);
        }
    }

    /// Puts a file into an input, as a person's choice does.
    pub fn choose(&mut self, input: &str, path: &Path) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let node =
            self.call("DOM.querySelector", json!({"nodeId": root, "selector": input}))["nodeId"].clone();
        self.call("DOM.setFileInputFiles", json!({"files": [path.to_str().unwrap()], "nodeId": node}));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            _ => panic!("{key}: no key of this test"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// The size of the window, CSS pixels, and whether the system is dark.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// The window as PNG.
    pub fn shot(&mut self) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        from_base64(shot["data"].as_str().expect("base64"))
    }

    /// What the browser complained about since the last call: console, exceptions, failed loads, refused contents.
    pub fn complaints(&mut self) -> Vec<String> {
        self.value("1");
        let complaint = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" => Some(params["args"].to_string()),
                "Log.entryAdded" => Some(format!("{} {}", params["entry"]["text"], params["entry"]["url"])),
                _ => None,
            }
        };
        std::mem::take(&mut self.events).iter().filter_map(complaint).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.stdin.write_all(b"{\"id\": 0, \"method\": \"Browser.close\"}\0");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = |c: &u8| alphabet.iter().position(|a| a == c).map(|i| i as u32);
    let (mut bytes, mut sum, mut n) = (Vec::new(), 0u32, 0);
    for six in text.as_bytes().iter().filter_map(bits) {
        (sum, n) = (sum << 6 | six, n + 6);
        if n >= 8 {
            n -= 8;
            bytes.push((sum >> n) as u8);
            sum &= (1 << n) - 1;
        }
    }
    bytes
}
