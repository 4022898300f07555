// The playground: a picture and ops in, the edge's answer out.
//
// Knows no op by name beyond the groups below; what there is comes from ops.json, which is the edge's own table. The
// state is the delivery path itself, kept in the fragment of this page's address. Nothing from outside gets into the
// page as markup.
import { decodeValue, readOps, snippet, writeOps } from "./urls.js";

/** How ops are grouped; what is in no group comes last. The first two are open at the start. */
const GROUPS = [
  ["Size", ["width", "height", "fit", "dpr"]],
  ["Format", ["format", "quality", "lossless", "max-bytes", "anim", "page", "metadata"]],
  ["Crop and turn", ["gravity", "rect", "trim", "rotate", "flip"]],
  ["Look", ["background", "blur", "sharpen", "brightness", "contrast", "saturation", "gamma", "filter", "pixelate",
    "radius", "border", "overlay"]],
];
const OTHER = "Other";
const OPEN_GROUPS = 2;

/** What the client says it takes, for `format=auto`. A fetch says nothing of pictures by itself. */
const ACCEPT = { avif: "image/avif,image/webp,*/*", webp: "image/webp,*/*", none: "*/*" };

const PAUSE_MS = 250;
const THUMBNAIL = "w=160,h=160,fit=cover,f=auto";

const byId = (id) => document.getElementById(id);

let edge = "";
let ops = [];
let tenants = [];
/** Op by its full name; one that the table does not have, by what was written. */
const state = { tenant: "", source: "", ops: new Map(), accept: "avif" };

const path = (values = state.ops) => `/${state.tenant}/${writeOps(ops, values)}/${state.source}`;

function readFragment() {
  const match = /^#\/([^/]+)\/([^/]+)\/([^?]+)(?:\?accept=(\w+))?$/.exec(location.hash);
  if (!match) return false;
  const [, tenant, segment, source, accept] = match;
  Object.assign(state, { tenant, source, ops: readOps(ops, segment), accept: Object.hasOwn(ACCEPT, accept) ? accept : "avif" });
  return true;
}

function writeFragment() {
  const accept = state.accept === "avif" ? "" : `?accept=${state.accept}`;
  history.replaceState(null, "", `#${path()}${accept}`);
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Text with `code` in backticks. */
function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? element("code", { textContent: part }) : part));
}

function control(op) {
  const id = `op-${op.name}`;
  if (op.only_choices) {
    const none = element("option", { value: "", textContent: op.default ? `default: ${op.default}` : "not set" });
    return element("select", { id }, none, ...op.choices.map((word) => element("option", { value: word, textContent: word })));
  }
  const input = element("input", { id, autocomplete: "off", spellcheck: false });
  if (op.range) input.placeholder = `${op.range.min} – ${op.range.max}`;
  if (op.default) input.placeholder = `default: ${op.default}`;
  if (op.range && !op.choices.length) {
    Object.assign(input, { type: "number", min: op.range.min, max: op.range.max, step: op.range.whole ? "1" : "any" });
  } else if (op.choices.length || op.name === "preset") {
    input.setAttribute("list", `${id}-choices`);
  }
  return input;
}

function row(op) {
  const field = control(op);
  field.setAttribute("aria-describedby", `${field.id}-hint`);
  field.addEventListener(op.only_choices ? "change" : "input", () => {
    const value = field.value.trim();
    if (value) state.ops.set(op.name, value);
    else state.ops.delete(op.name);
    changed();
  });
  const label = element("label", { htmlFor: field.id }, op.name);
  if (op.short) label.append(" ", element("small", { textContent: op.short }));
  const allowed = op.only_choices ? [] : [element("br"), `Allowed: ${op.allowed}.`];
  const hint = element("p", { id: `${field.id}-hint`, className: "hint" }, ...prose(op.doc), ...allowed);
  const made = element("div", { className: "op" }, label, field, hint);
  if (field.hasAttribute("list")) {
    const choices = op.choices.map((value) => element("option", { value }));
    made.append(element("datalist", { id: `${field.id}-choices` }, ...choices));
  }
  return made;
}

function buildControls() {
  const grouped = new Set(GROUPS.flatMap(([, names]) => names));
  const others = ops.filter((op) => !grouped.has(op.name)).map((op) => op.name);
  for (const [at, [title, names]] of [...GROUPS, [OTHER, others]].entries()) {
    const rows = names.flatMap((name) => ops.find((op) => op.name === name) ?? []).map(row);
    const summary = element("summary", {}, title, element("span"));
    byId("groups").append(element("details", { open: at < OPEN_GROUPS }, summary, ...rows));
  }
}

/** Brings the controls to the state, except the one that is being typed into. */
function showControls() {
  for (const op of ops) {
    const field = byId(`op-${op.name}`);
    const value = state.ops.get(op.name) ?? "";
    if (field !== document.activeElement && field.value !== value) {
      const isUnknown = op.only_choices && value && !op.choices.includes(value);
      if (isUnknown) field.append(element("option", { value, textContent: value }));
      field.value = value;
    }
    field.closest(".op").classList.toggle("set", value !== "");
  }
  for (const group of byId("groups").children) {
    const count = group.querySelectorAll(".op.set").length;
    group.querySelector("summary span").textContent = count || "";
  }
  byId("accept").value = state.accept;
}

const tenant = () => tenants.find((one) => one.name === state.tenant);

/** A source for people; the origin's name only where there are several. */
function shownName(source) {
  const name = decodeValue(source);
  return tenant().origins.length > 1 ? name : name.slice(name.indexOf("/") + 1);
}

function thumbnail(source) {
  const name = shownName(source);
  const radio = element("input", { type: "radio", name: "picture", value: source, checked: source === state.source });
  radio.addEventListener("change", () => {
    state.source = source;
    changed();
  });
  const img = element("img", { alt: "", loading: "lazy", fetchPriority: "low" });
  img.src = `${edge}/${state.tenant}/${THUMBNAIL}/${source}`;
  return element("label", { title: name }, radio, img, element("span", { textContent: name.split("/").at(-1) }));
}

function showTenant() {
  const origins = tenant()?.origins ?? [];
  const sources = origins.flatMap((origin) => origin.pictures);
  if (!state.source && sources.length) [state.source] = sources;
  byId("pictures").replaceChildren(byId("pictures").firstElementChild, ...sources.map(thumbnail));
  byId("pictures").querySelector(":checked")?.parentElement.scrollIntoView({ block: "nearest", inline: "nearest" });
  byId("op-preset-choices")?.replaceChildren(...(tenant()?.presets ?? []).map((value) => element("option", { value })));
  byId("search").value = "";
  const broken = origins.filter((origin) => origin.problem).map((origin) => `@${origin.name} ${origin.problem}.`);
  const more = origins.filter((origin) => origin.more).map((origin) => `@${origin.name} has more pictures than are shown.`);
  const none = tenants.length === 0 ? ["No tenant of the policy is open."] : sources.length ? [] : ["There are no pictures."];
  notice([...broken, ...more, ...none].join("\n"));
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function search() {
  const wanted = byId("search").value.trim().toLowerCase();
  for (const label of byId("pictures").querySelectorAll("label")) {
    label.hidden = !label.title.toLowerCase().includes(wanted);
  }
}

let timer = 0;
let running = null;
let shown = "";

/** After each change of the state. */
function changed() {
  showControls();
  if (!state.source) return;
  writeFragment();
  byId("url").value = byId("open").href = edge + path();
  byId("srcset").textContent = snippet((values) => edge + path(values), state.ops);
  byId("stage").setAttribute("aria-busy", "true");
  running?.abort();
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE_MS);
}

/** After a link: what it sets is in sight. */
function followed() {
  changed();
  for (const group of byId("groups").children) group.open ||= group.querySelector(".op.set") !== null;
}

async function ask() {
  const mine = new AbortController();
  running = mine;
  const started = performance.now();
  try {
    const options = { cache: "no-store", credentials: "omit", priority: "high", signal: mine.signal };
    const response = await fetch(edge + path(), { ...options, headers: { Accept: ACCEPT[state.accept] } });
    const body = await response.blob();
    await show(response, body, performance.now() - started, mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    for (const id of ["status", "type", "dimensions", "bytes", "time", "cache", "timing"]) fact(id, "–");
    byId("phases").replaceChildren();
    showProblem(`No answer from ${edge}.`, String(error.message));
  }
  if (running === mine) byId("stage").setAttribute("aria-busy", "false");
}

async function show(response, body, tookMs, signal) {
  const type = response.headers.get("Content-Type") ?? "";
  let dimensions = "–";
  if (type === "application/problem+json") {
    const { detail, code } = JSON.parse(await body.text());
    if (signal.aborted) return;
    showProblem(detail, code);
  } else if (type.startsWith("image/")) {
    dimensions = await showPicture(body, type, signal);
  } else {
    const text = await body.text();
    if (signal.aborted) return;
    showText(type === "application/json" ? JSON.stringify(JSON.parse(text), null, 2) : text);
  }
  if (signal.aborted) return;
  fact("status", `${response.status} ${response.statusText}`, response.ok ? "good" : "bad");
  fact("type", type || "–");
  fact("dimensions", dimensions);
  fact("bytes", body.size.toLocaleString("en"));
  fact("time", `${tookMs.toFixed(1)} ms`);
  showCache(response.headers.get("Cache-Status") ?? "");
  showPhases(response.headers.get("Server-Timing") ?? "", response.headers.get("Cache-Status") ?? "");
}

function fact(id, text, className = "") {
  Object.assign(byId(id), { textContent: text, className });
}

/** RFC 9211, as the edge writes it. */
function showCache(header) {
  const parts = header.split(";").map((part) => part.trim());
  const detail = parts.find((part) => part.startsWith("detail="))?.slice("detail=".length);
  if (parts.includes("hit")) fact("cache", `hit (${detail ?? "cache"})`, "good");
  else if (parts.includes("collapsed")) fact("cache", "miss, shared with another");
  else if (parts.includes("fwd=stale")) fact("cache", "renewed");
  else fact("cache", header ? "miss" : "–");
}

/** `name;dur=1.5, …` in milliseconds. */
function showPhases(header, cache) {
  const phases = header.split(",").map((part) => /^\s*([\w-]+);dur=([\d.]+)\s*$/.exec(part)).filter(Boolean);
  const text = phases.map(([, name, took]) => `${name} ${took} ms`).join(" · ");
  fact("timing", text || (cache.includes("hit") ? "none: it was there" : "–"));
  byId("phases").replaceChildren(...phases.map(([, , took]) => {
    const bar = element("i");
    bar.style.flexGrow = took;
    return bar;
  }));
}

/** Shows one of the three, and forgets the last picture. */
function only(id) {
  for (const one of ["picture", "text", "problem"]) byId(one).hidden = one !== id;
  if (id !== "picture") byId("picture").removeAttribute("src");
}

async function showPicture(body, type, signal) {
  const url = URL.createObjectURL(body);
  // Decoded aside, so that the last picture stays until this one is there.
  const probe = element("img", { src: url });
  try {
    await probe.decode();
  } catch {
    URL.revokeObjectURL(url);
    if (!signal.aborted) showText(`This browser cannot show ${type}.`);
    return "–";
  }
  if (signal.aborted) {
    URL.revokeObjectURL(url);
    return "–";
  }
  URL.revokeObjectURL(shown);
  shown = url;
  Object.assign(byId("picture"), { src: url, alt: `Result: ${shownAs()}` });
  only("picture");
  return `${probe.naturalWidth} × ${probe.naturalHeight}`;
}

const shownAs = () => decodeValue(state.source);

function showText(text) {
  byId("text").textContent = text;
  only("text");
}

function showProblem(detail, code) {
  byId("problem-detail").textContent = detail;
  byId("problem-code").textContent = code;
  only("problem");
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not allowed outside of HTTPS and loopback.
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1200);
}

function listen() {
  byId("tenant").addEventListener("change", (event) => {
    Object.assign(state, { tenant: event.target.value, source: "" });
    showTenant();
    changed();
  });
  byId("accept").addEventListener("change", (event) => {
    state.accept = event.target.value;
    changed();
  });
  byId("search").addEventListener("input", search);
  byId("copy-url").addEventListener("click", (event) => copy(byId("url").value, event.target));
  byId("copy-srcset").addEventListener("click", (event) => copy(byId("srcset").textContent, event.target));
  byId("url").addEventListener("focus", (event) => event.target.select());
  byId("ops").addEventListener("submit", (event) => event.preventDefault());
  byId("ops").addEventListener("reset", (event) => {
    event.preventDefault();
    state.ops.clear();
    state.accept = "avif";
    changed();
  });
  addEventListener("hashchange", () => {
    if (!readFragment()) return;
    byId("tenant").value = state.tenant;
    showTenant();
    followed();
  });
}

async function load(name) {
  const response = await fetch(`/playground/${name}`);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response.json();
}

async function start() {
  let config;
  [config, ops] = await Promise.all([load("config.json"), load("ops.json")]);
  edge = config.edge;
  buildControls();
  listen();
  // A shared link works before a slow store has listed what it has.
  if (readFragment()) followed();
  notice("Listing pictures…");
  tenants = await load("pictures.json");
  if (!tenant()) Object.assign(state, { tenant: tenants[0]?.name ?? "", source: "" });
  byId("tenant").append(...tenants.map(({ name }) => element("option", { value: name, textContent: name })));
  byId("tenant").value = state.tenant;
  const asked = state.source;
  showTenant();
  if (state.source !== asked) changed();
}

start().catch((error) => notice(`The playground does not work: ${error.message}`));
