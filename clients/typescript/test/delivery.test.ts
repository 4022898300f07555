/** The builder, by itself: what is put together, and the example of docs/signing.md. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { path, srcset, unsignedUrl, url } from "../src/index.js";

const delivery = { base: "https://img.example.com/", tenant: "demo" };
const key = { tenantId: "demo", kid: "2026-01", secret: "an example secret, 32 bytes or more" };

test("a path is encoded as it is sent", () => {
  for (const [source, ops, expected] of [
    ["summer/my beach.jpg", { w: 400, f: "auto" }, "/w=400,f=auto/summer/my%20beach.jpg"],
    ["@home?", undefined, "/f=auto/%40home%3F"],
    ["a", {}, "/f=auto/a"],
    ["a", { w: undefined, dl: "a,b/c.jpg", anim: false }, "/dl=a%2Cb%2Fc.jpg,anim=false/a"],
    [{ origin: "local", path: "büro/a+b.jpg" }, "-", "/-/@local/b%C3%BCro/a%2Bb.jpg"],
    [{ url: "https://x.example/a?b=c" }, { w: 1 }, "/w=1/https%3A%2F%2Fx.example%2Fa%3Fb%3Dc"],
  ] as const) {
    assert.equal(path(source, ops), expected);
  }
});

test("a signature is that of docs/signing.md", async () => {
  const source = { origin: "local", path: "beach.jpg" };
  const ops = { w: 400, f: "auto" };
  const start = "https://img.example.com/demo/w=400,f=auto/@local/beach.jpg";
  assert.equal(unsignedUrl(delivery, source, ops), start);
  assert.equal(
    await url(delivery, key, source, ops),
    `${start}?kid=2026-01&sig=0MFYH1XILCSfZYBZOlSLQF1_nVAR9SvRvtwF5GJUhds`,
  );
  assert.equal(
    await url(delivery, key, source, ops, 1893456000),
    `${start}?exp=1893456000&kid=2026-01&sig=JSKJblAl7LI_s7IwKeQuE0_y8l26rtXu_KuadfbhW5g`,
  );
  const own = await url({ base: "https://img.example.com" }, key, source, ops);
  assert.equal(own, `https://img.example.com/w=400,f=auto/@local/beach.jpg?${(await url(delivery, key, source, ops)).split("?")[1]}`);
});

test("a srcset has a candidate for each width", async () => {
  assert.equal(
    await srcset({ base: "http://e" }, null, "a.jpg", [320, 640]),
    "http://e/f=auto,w=320/a.jpg 320w, http://e/f=auto,w=640/a.jpg 640w",
  );
  const signed = await srcset(delivery, key, "a.jpg", [320, 640], { fit: "cover", h: 9 }, 5);
  assert.match(signed, /^\S+\/fit=cover,h=9,w=320\/a\.jpg\?exp=5&kid=2026-01&sig=\S{43} 320w, \S+ 640w$/);
});
