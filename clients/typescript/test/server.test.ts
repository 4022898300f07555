/** Against a control plane and an edge that run: the e2e tests start them and name them in the environment. */

import assert from "node:assert/strict";
import { test } from "node:test";

import calotypeLoader from "../examples/next-loader.js";
import { picture } from "../examples/img.js";
import { createClient, unsignedUrl, url, type Source } from "../src/index.js";

const given = (name: string): string => process.env[name] ?? assert.fail(`${name} is not set`);
const api = createClient(given("CALOTYPE_SERVER"), given("CALOTYPE_API_KEY"));
const delivery = { base: given("CALOTYPE_DELIVERY_URL"), tenant: given("CALOTYPE_TENANT") };

/** One for all tests. */
const signingKey = (async () => {
  const { data, error } = await api.POST("/v1/signing-keys", { body: { kid: "ts" } });
  assert.ok(data, JSON.stringify(error));
  return { tenantId: data.tenant_id, kid: data.kid, secret: data.secret };
})();

/** The status, once the edge has heard of what was changed. */
async function settles(address: string, status: number): Promise<Response> {
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch(address, { headers: { Accept: "image/webp" } });
    if (answer.status === status || tries === 600) {
      assert.equal(answer.status, status, `${address}: ${await answer.clone().text()}`);
      return answer;
    }
    await new Promise((done) => setTimeout(done, 100));
  }
}

test("what is typed is what the server takes and gives", async () => {
  const name = "summer/my büro (1)'s +~!*.png";
  const { data: page } = await api.GET("/v1/media", { params: { query: { public_id_prefix: "summer/", limit: 1 } } });
  assert.equal(page?.items[0]?.public_id, name);
  const { data: medium } = await api.GET("/v1/media/by-public-id/{public_id}", { params: { path: { public_id: name } } });
  assert.deepEqual([medium?.id, medium?.width], [page.items[0].id, 64]);
  const changed = await api.PATCH("/v1/media/{id}", {
    params: { path: { id: page.items[0].id } },
    body: { tags: ["typed"] },
  });
  assert.deepEqual([changed.response.status, changed.data?.tags], [200, ["typed"]]);
  const { error, response } = await api.GET("/v1/media/{id}", { params: { path: { id: "nobody" } } });
  assert.equal(response.status, 404);
  assert.equal((error as unknown as { code: string }).code, "not-found");
});

test("the edge takes what is signed, and nothing else", async () => {
  const key = await signingKey;
  const sources: Source[] = ["summer/my büro (1)'s +~!*.png", { origin: "web", path: "a b/ü,=&;@$.png" }];
  for (const source of sources) {
    for (const ops of [{ w: 33, bg: "#fff", f: "webp" }, { w: 31, dl: "a,b c ü.jpg", f: "jpeg" }, "-"] as const) {
      const soon = Date.now() / 1000 + 600;
      await settles(await url(delivery, key, source, ops, soon), 200);
      const made = await url(delivery, key, source, ops);
      await settles(made, 200);
      await settles(made.replace("sig=", "sig=A").slice(0, -1), 403);
      await settles(unsignedUrl(delivery, source, ops), 403);
    }
  }
  await settles(await url(delivery, key, "summer/my büro (1)'s +~!*.png", { w: 30 }, 1), 403);
});

test("the examples work", async () => {
  const html = await picture(delivery, await signingKey, "summer/my büro (1)'s +~!*.png", 'A "büro"');
  const candidates = html.match(/srcset="([^"]*)"/)?.[1]?.replace(/&amp;/g, "&").split(", ") ?? [];
  assert.equal(candidates.length, 3);
  for (const candidate of candidates) {
    const answer = await settles(candidate.split(" ")[0] ?? "", 200);
    assert.equal(answer.headers.get("content-type"), "image/webp");
  }
  // Width 320 is one that the tenant lets everybody have.
  await settles(calotypeLoader({ src: "summer/my büro (1)'s +~!*.png", width: 320 }), 200);
  await settles(calotypeLoader({ src: "summer/my büro (1)'s +~!*.png", width: 321 }), 403);
});
