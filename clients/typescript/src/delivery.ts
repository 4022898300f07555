/** Delivery URLs: put together, and signed where there is a key. Nothing is asked of a server. */

/** A public id, a path in a named origin, or a whole URL. */
export type Source = string | { origin: string; path: string } | { url: string };

/** Ops by their names; those that are undefined are left out. `"-"` is the original. */
export type Ops = Record<string, string | number | boolean | undefined> | "-";

/** Where pictures are delivered, and whose. On a host of the tenant's own there is no `tenant`. */
export interface Delivery {
  base: string;
  tenant?: string;
}

/** What signs: only for servers, a browser must never have it. */
export interface SigningKey {
  tenantId: string;
  kid: string;
  secret: string;
}

const encoded = (text: string): string => encodeURIComponent(text);

function sourcePath(source: Source): string {
  if (typeof source === "string") return source.split("/").map(encoded).join("/");
  if ("url" in source) return encoded(source.url);
  return `@${source.origin}/${source.path.split("/").map(encoded).join("/")}`;
}

/** `/{ops}/{source}`: what a signature is made over. */
export function path(source: Source, ops: Ops = { f: "auto" }): string {
  const given = ops === "-" ? [] : Object.entries(ops).filter(([, value]) => value !== undefined);
  const written = given.map(([name, value]) => `${name}=${encoded(String(value))}`).join(",");
  return `/${ops === "-" ? "-" : written || "f=auto"}/${sourcePath(source)}`;
}

/** A URL without a signature, for ops that the tenant's policy lets everybody use. */
export function unsignedUrl(delivery: Delivery, source: Source, ops?: Ops): string {
  const tenant = delivery.tenant === undefined ? "" : `/${delivery.tenant}`;
  return delivery.base.replace(/\/+$/, "") + tenant + path(source, ops);
}

/** A signed URL. `expires` is the time from which on it is refused, in Unix seconds. */
export async function url(
  delivery: Delivery,
  key: SigningKey,
  source: Source,
  ops?: Ops,
  expires?: number,
): Promise<string> {
  const exp = expires === undefined ? "" : String(Math.floor(expires));
  const message = ["calotype-v1", key.tenantId, path(source, ops), exp, key.kid].join("\n");
  const query = `${exp && `exp=${exp}&`}kid=${key.kid}&sig=${await hmac(key.secret, message)}`;
  return `${unsignedUrl(delivery, source, ops)}?${query}`;
}

/** The `srcset` of an `<img>`: the same picture in several widths, each signed if there is a key. */
export async function srcset(
  delivery: Delivery,
  key: SigningKey | null,
  source: Source,
  widths: readonly number[],
  ops: Exclude<Ops, "-"> = { f: "auto" },
  expires?: number,
): Promise<string> {
  const candidates = widths.map(async (width) => {
    const sized = { ...ops, w: width };
    const made = key ? await url(delivery, key, source, sized, expires) : unsignedUrl(delivery, source, sized);
    return `${made} ${width}w`;
  });
  return (await Promise.all(candidates)).join(", ");
}

/** HMAC-SHA256 in base64url without padding. */
async function hmac(secret: string, message: string): Promise<string> {
  // Node 18 has it under another name.
  const { subtle } = globalThis.crypto ?? (await import("node:crypto")).webcrypto;
  const bytes = (text: string) => new TextEncoder().encode(text);
  const key = await subtle.importKey("raw", bytes(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signature = new Uint8Array(await subtle.sign("HMAC", key, bytes(message)));
  return btoa(String.fromCharCode(...signature)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
