// The page of `classify serve`: pictures to /v1/classify, the camera from /v1/events, the card from /v1/model.
//
// All text from the server or from file names goes in as text, never as markup.
"use strict";

const $ = id => document.getElementById(id);
const TOKEN = "vgg-edge-token";
/** Latencies in the chart. */
const KEPT = 120;
/** A class is spoken when it has changed, at most so often, milliseconds. */
const SPEAK = 3000;
const state = { limits: null, classes: true, preview: null, live: null, points: [], spoken: "", spokenAt: 0, run: 0, started: false };

/** An element with text or children. */
function make(name, fields, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(fields || {})) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const number = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const percent = share => number(share * 100, 1) + " %";
const ms = value => number(value, value < 10 ? 2 : 1) + " ms";
function bytes(n) {
  return n < 10240 ? n + " bytes" : n < 10485760 ? Math.round(n / 1024) + " KiB" : number(n / 1048576, 1) + " MiB";
}

/** An answer that is not what was asked for. */
class Refused extends Error {}

/** Asks the server, with the token if there is one. An `EventSource` could not send it, so events are read by hand, too. */
async function ask(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = Object.assign({}, options && options.headers, token ? { Authorization: "Bearer " + token } : {});
  const response = await fetch(path, Object.assign({ cache: "no-store" }, options, { headers }));
  if (response.status === 401) {
    login(token !== null);
    throw new Refused(token ? "The token is wrong." : "This server asks for a token.");
  }
  if (!response.ok) {
    const found = await response.json().catch(() => ({}));
    const error = new Refused((found.error || "The server answered " + response.status + ".") + (found.hint ? " Hint: " + found.hint + "." : ""));
    error.status = response.status;
    throw error;
  }
  return response;
}

// Token

function login(wrong) {
  $("login").hidden = false;
  $("main").hidden = true;
  // A link cannot carry the token.
  $("links").hidden = true;
  $("login-text").textContent = wrong ? "The token is wrong." : "It is kept in this tab until the tab is closed.";
  $("token").setAttribute("aria-invalid", String(wrong));
  $("token").focus();
}

$("login").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  $("login").hidden = true;
  $("main").hidden = false;
  start().then(() => $("picture").focus()).catch(() => {});
});

// Answers

/** The best classes as bars, or what features there are. */
function bars(found) {
  if (!found.top) {
    const values = found.features, mean = values.reduce((a, b) => a + b, 0) / values.length;
    const range = values.reduce((r, v) => [Math.min(r[0], v), Math.max(r[1], v)], [Infinity, -Infinity]);
    return make("p", {}, `${found.shape.join("x")} features: mean ${number(mean, 4)}, from ${number(range[0], 4)} to ${number(range[1], 4)}`);
  }
  const rows = found.top.map(c => {
    const name = c.label === undefined ? "class " + c.class : c.label;
    return make("li", {},
      make("span", { className: "name" }, name), make("span", { className: "share" }, percent(c.probability)),
      make("meter", { min: 0, max: 1, value: c.probability, "aria-label": name }));
  });
  return make("ol", { className: "bars" }, ...rows);
}

function fail(error) {
  $("answer").replaceChildren();
  $("failed").textContent = error instanceof Refused ? error.message : "The server cannot be reached: " + error.message;
}

/** A picture that is larger than the server takes, made smaller; others go as they are: other pixels are another picture. */
async function fitting(file) {
  const limits = state.limits;
  if (!limits || file.size <= limits.body_bytes) return { body: file, note: "" };
  const bitmap = await createImageBitmap(file);
  for (let scale = Math.min(0.9, Math.sqrt(limits.body_bytes / file.size)); scale > 0.01; scale *= 0.7) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const body = await new Promise(done => canvas.toBlob(done, "image/jpeg", 0.92));
    if (body && body.size <= limits.body_bytes) {
      return { body, note: ` It was larger than ${bytes(limits.body_bytes)}, so this browser made it ${canvas.width}x${canvas.height} pixels: the answer may differ.` };
    }
  }
  throw new Refused(`${bytes(file.size)}: the limit is ${bytes(limits.body_bytes)}.`);
}

async function classify(file) {
  const run = ++state.run;
  if (state.preview) URL.revokeObjectURL(state.preview);
  state.preview = URL.createObjectURL(file);
  $("preview").src = state.preview;
  $("preview").alt = "Your picture: " + (file.name || "pasted");
  $("caption").textContent = `${file.name || "pasted picture"}, ${bytes(file.size)}`;
  $("shown").hidden = false;
  $("failed").textContent = "";
  $("answer").replaceChildren(make("p", { className: "small" }, "Working."));
  try {
    const { body, note } = await fitting(file);
    const name = encodeURIComponent(file.name || "pasted");
    const response = await ask("/v1/classify?name=" + name, { method: "POST", body });
    const found = await response.json();
    if (run !== state.run) return;
    const times = `Network ${ms(found.ms)}, decoding ${ms(found.decode_ms)}.${note}`;
    $("answer").replaceChildren(bars(found), make("p", { className: "small" }, times));
  } catch (error) {
    if (run === state.run) fail(error);
  }
}

const first = list => [...(list || [])].find(file => file.type.startsWith("image/") || file.type === "");
for (const [button, input] of [["choose", "file"], ["take", "shot"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    const file = $(input).files[0];
    if (file) classify(file);
    $(input).value = "";
  });
}
addEventListener("paste", event => {
  const file = first(event.clipboardData && event.clipboardData.files);
  if (file && !$("main").hidden) classify(file);
});
addEventListener("dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
addEventListener("drop", event => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const file = first(event.dataTransfer.files);
  if (file) classify(file); else fail(new Refused("What was dropped is no picture."));
});

// Camera

/** Reads server-sent events until the stream ends; gives each one's fields. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const fields = {};
        for (const line of block.split("\n")) {
          const at = line.indexOf(": ");
          if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
        }
        yield fields;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function follow() {
  const live = { stop: new AbortController(), last: null, shown: null, loading: false };
  state.live = live;
  for (let wait = 1000; state.live === live; wait = Math.min(wait * 2, 30000)) {
    try {
      const headers = live.last === null ? {} : { "Last-Event-ID": live.last };
      const response = await ask("/v1/events", { headers, signal: live.stop.signal });
      $("live-state").textContent = "";
      for await (const fields of events(response)) {
        wait = 1000;
        if (fields.id) live.last = fields.id;
        if (fields.event === "observation") observe(live, JSON.parse(fields.data));
      }
    } catch (error) {
      if (state.live !== live || (error instanceof Refused && error.status === undefined)) return;
    }
    if (state.live !== live) return;
    $("live-state").textContent = "The camera's results have stopped; trying again.";
    await new Promise(done => setTimeout(done, wait));
  }
}

function observe(live, o) {
  $("seen").replaceChildren(bars(o));
  $("pace").textContent = `${number(o.fps, 1)} frames/s, ${o.width}x${o.height}, ${o.source}`;
  state.points.push(o);
  if (state.points.length > KEPT) state.points.shift();
  if (!document.hidden) { chart(); newest(live); }
  const best = o.top && o.top[0] && (o.top[0].label === undefined ? "class " + o.top[0].class : o.top[0].label);
  if (best && best !== state.spoken && Date.now() - state.spokenAt > SPEAK) {
    state.spoken = best;
    state.spokenAt = Date.now();
    $("spoken").textContent = `The camera sees: ${best}, ${percent(o.top[0].probability)}`;
  }
}

/** Loads the newest frame, one at a time: a slow connection sees fewer, not later ones. */
async function newest(live) {
  if (live.loading) return;
  live.loading = true;
  try {
    const blob = await (await ask("/v1/frame.jpg")).blob();
    if (state.live !== live) return;
    const url = URL.createObjectURL(blob);
    $("frame").src = url;
    if (live.shown) URL.revokeObjectURL(live.shown);
    live.shown = url;
  } catch (error) {
    // The next event asks again.
  } finally {
    live.loading = false;
  }
}

function chart() {
  const points = state.points, top = Math.max(...points.map(o => Math.max(o.latency_ms, o.ms))) * 1.1 || 1;
  const line = value => points.map((o, i) => `${(600 * i / (KEPT - 1)).toFixed(1)},${(140 - 140 * value(o) / top).toFixed(1)}`).join(" ");
  $("line-latency").setAttribute("points", line(o => o.latency_ms));
  $("line-network").setAttribute("points", line(o => o.ms));
  const sorted = points.map(o => o.latency_ms).sort((a, b) => a - b);
  const at = q => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  const now = points[points.length - 1];
  $("chart-text").textContent = `Last ${points.length} frames, from 0 to ${ms(top)}: now ${ms(now.latency_ms)}, median ${ms(at(0.5))}, ` +
    `largest ${ms(sorted[sorted.length - 1])}; the network alone now ${ms(now.ms)}.`;
}

$("pause").addEventListener("click", () => {
  const paused = state.live !== null;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    const live = state.live;
    state.live = null;
    live.stop.abort();
    $("live-state").textContent = "Paused.";
  } else {
    $("live-state").textContent = "";
    follow();
  }
});

// Card

function board(sensors) {
  const words = [];
  const clock = (now, max) => max ? `${now} of ${max} MHz` : `${now} MHz`;
  const same = (sensors.clocks || []).every(core => core.mhz === sensors.clock_mhz && core.max_mhz === sensors.max_clock_mhz);
  if (!same) words.push(...sensors.clocks.map(core => `core ${core.core} ${clock(core.mhz, core.max_mhz)}`));
  else if (sensors.clock_mhz) words.push(clock(sensors.clock_mhz, sensors.max_clock_mhz));
  if (sensors.temperature !== undefined) words.push(`${number(sensors.temperature, 1)} °C`);
  if (sensors.fan_rpm !== undefined) words.push(`fan ${sensors.fan_rpm} rpm`);
  const list = reasons => reasons.length ? reasons.join(" and ") : "no";
  if (sensors.throttled) words.push(`throttled now: ${list(sensors.throttled.now)}, since the start: ${list(sensors.throttled.earlier)}`);
  return words.length ? words.join(", ") : "no sensors";
}

function card(model) {
  const running = model.running, rule = model.preprocess, meta = model.metadata || {};
  const size = sides => sides.join("x");
  const what = model.classes === undefined ? `${size(model.output)} features` : `${model.classes} classes`;
  const throttled = Boolean(model.board.throttled && model.board.throttled.now.length);
  const algorithms = {};
  for (const layer of running.layers) {
    if (layer.algorithm) algorithms[layer.algorithm] = (algorithms[layer.algorithm] || 0) + 1;
  }
  const plan = Object.entries(algorithms).map(([name, n]) => `${n} layers ${name}`);
  const n_repacked = running.layers.filter(layer => layer.repacked).length;
  if (n_repacked) plan.push(`${n_repacked} repacked for this CPU`);
  if (meta.board) plan.push(`planned for ${meta.board}`);
  const measured = model.accuracy;
  const accuracy = measured
    ? `${percent(measured.agreement)} of ${measured.pictures} pictures as the f32 network (95 % interval ${percent(measured.interval[0])} to ${percent(measured.interval[1])})`
    : "not measured when the file was made";
  const facts = [
    ["Model", `${model.model}${meta.network ? ", " + meta.network : ""}`],
    ["Size", `${bytes(model.bytes)}, ${model.scheme}, ${number(model.macs / 1e6, 1)} million MACs`],
    ["Gives", `${what} from ${size(model.input)} pixels`],
    ["Agreement", accuracy],
    ...(meta.gate ? [["Top-1 lost by the plan", `${number(meta.gate.drop, 2)} points, ${meta.gate.measure} on ${meta.gate.pictures} pictures`]] : []),
    ["Preprocessing", `${rule.order}, resize ${rule.resize}, ${rule.filter}; (pixel x ${number(rule.scale, 4)} - [${rule.mean.map(v => number(v, 3)).join(", ")}]) / [${rule.std.map(v => number(v, 3)).join(", ")}]`],
    ["Plan", plan.join(", ") || "nothing to choose"],
    ["Kernel", `${running.kernel}, ${running.threads} ${running.threads === 1 ? "thread" : "threads"}`],
    ["Memory", `${bytes(running.arena_bytes)} for the network, its weights stay in the file`],
    ["Board", board(model.board), throttled],
  ];
  $("facts").replaceChildren(...facts.map(([name, text, bad]) =>
    make("div", {}, make("dt", {}, name), make("dd", { className: bad ? "bad" : "" }, text))));
  $("layers").replaceChildren(...model.layers.map((layer, i) => {
    const ran = running.layers[i];
    const how = ran.algorithm ? `${ran.algorithm}, ${ran.layout}${ran.repacked ? " (repacked)" : ""}` : "-";
    const cells = [layer.kind, size(layer.output), how, layer.weight_bytes ? bytes(layer.weight_bytes) : "-",
      layer.macs ? number(layer.macs / 1e6, 2) : "-", layer.sqnr_db === undefined ? "-" : number(layer.sqnr_db, 1)];
    return make("tr", {}, make("th", { scope: "row" }, layer.name), ...cells.map(text => make("td", {}, text)));
  }));
  $("what").textContent = `${model.model}: ${what}, on ${running.kernel}`;
  document.title = `${model.model} - classify`;
  $("version").textContent = `classify ${running.version}`;
  $("limit").textContent = `, unless it is larger than ${bytes(model.limits.body_bytes)}: then this browser makes it smaller and says so`;
  state.limits = model.limits;
}

async function refresh() {
  const model = await (await ask("/v1/model")).json();
  card(model);
  return model;
}

async function start() {
  try {
    const model = await refresh();
    if (state.started) return;
    state.started = true;
    // The board's state changes.
    setInterval(() => { if (!document.hidden) refresh().catch(() => {}); }, 10000);
    if (model.camera) {
      $("live").hidden = false;
      follow();
    }
  } catch (error) {
    if (error.status !== undefined || !(error instanceof Refused)) $("what").textContent = "The model card cannot be loaded: " + error.message;
    throw error;
  }
}

start().catch(() => {});
