/** A page with a picture in several widths, made on a server that signs. */

import { srcset, url, type Delivery, type SigningKey } from "../src/index.js";

export async function picture(delivery: Delivery, key: SigningKey, publicId: string, alt: string): Promise<string> {
  const ops = { f: "auto", fit: "cover", h: 400 };
  const src = await url(delivery, key, publicId, { ...ops, w: 640 });
  const candidates = await srcset(delivery, key, publicId, [320, 640, 1280], ops);
  const attribute = (text: string) => text.replace(/&/g, "&amp;").replace(/"/g, "&quot;");
  return `<img src="${attribute(src)}" srcset="${attribute(candidates)}" sizes="(max-width: 700px) 100vw, 640px" alt="${attribute(alt)}">`;
}
