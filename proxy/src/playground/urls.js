// Delivery URLs for the playground: ops to text and back, and the element for a page.
//
// Must not judge a value: what is allowed is the edge's business, and its answer is what the page shows.

/** What the ops segment says when nothing is set: it cannot be empty, and this is the canonical text of "no ops". */
const NO_OPS = "f=auto";

/** Of the middle candidate, where no width is set. */
const SNIPPET_WIDTH = 400;
const SIDE_MAX = 8192;

/** Percent-encodes what an op's value must not hold, and leaves it readable otherwise. */
function encodeValue(text) {
  return text.toWellFormed().replace(/[\u0000-\u0020"#%,/<>?[\\\]^`{|}\u007f-\u{10ffff}]+/gu, encodeURIComponent);
}

export function decodeValue(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The ops segment: only what is set, short names, in the order of the table. */
export function writeOps(ops, values) {
  const order = (name) => {
    const at = ops.findIndex((op) => op.name === name);
    return at < 0 ? ops.length : at;
  };
  const short = (name) => ops.find((op) => op.name === name)?.short ?? name;
  const names = [...values.keys()].sort((a, b) => order(a) - order(b));
  const written = (name) => (values.get(name) ? `${short(name)}=${encodeValue(values.get(name))}` : name);
  return names.map(written).join(",") || NO_OPS;
}

/** Values by the op's full name; by what was written where the table has no such op. */
export function readOps(ops, segment) {
  if (segment === NO_OPS) return new Map();
  return new Map(segment.split(",").map((op) => {
    const [name, ...rest] = op.split("=");
    const known = ops.find((one) => one.name === name || one.short === name);
    return [known?.name ?? name, decodeValue(rest.join("="))];
  }));
}

/** An img element for three widths. Pixel ratios are the browser's business then, so `dpr` goes. */
export function snippet(urlOf, set) {
  const side = (name) => Math.min(Math.trunc(Number(set.get(name))) || 0, SIDE_MAX);
  const width = side("width") > 0 ? side("width") : SNIPPET_WIDTH;
  const urlAt = (scale) => {
    const values = new Map(set);
    values.delete("dpr");
    values.set("width", String(Math.round(width * scale)));
    if (side("height") > 0) values.set("height", String(Math.max(Math.round(side("height") * scale), 1)));
    return urlOf(values).replaceAll("&", "&amp;");
  };
  const fits = (scale) => width * scale >= 1 && Math.max(width, side("height")) * scale <= SIDE_MAX;
  const scales = [0.5, 1, 2, 0.25, 0.125].filter(fits).slice(0, 3).sort((a, b) => a - b);
  const candidates = scales.map((scale) => `${urlAt(scale)} ${Math.round(width * scale)}w`);
  return `<img\n  src="${urlAt(1)}"\n  srcset="${candidates.join(",\n          ")}"\n` +
    `  sizes="(max-width: ${width}px) 100vw, ${width}px"\n  alt="">`;
}
