/**
 * A loader for `next/image`. In `next.config.js`:
 *
 *     images: { loader: "custom", loaderFile: "./next-loader.ts", deviceSizes: [640, 1080, 1920], imageSizes: [320] }
 *
 * Next calls it in browsers, too, where no secret may be: the URLs are unsigned, so the tenant's policy has to list the widths of
 * `deviceSizes` and `imageSizes` under `unsigned`. A quality is not passed on: who may choose it could have any number of renditions made.
 */

import { unsignedUrl } from "../src/delivery.js";

const delivery = {
  base: process.env["NEXT_PUBLIC_CALOTYPE_URL"] ?? "http://127.0.0.1:8080",
  tenant: process.env["NEXT_PUBLIC_CALOTYPE_TENANT"] ?? "demo",
};

export default function calotypeLoader({ src, width }: { src: string; width: number }): string {
  return unsignedUrl(delivery, src, { w: width, f: "auto" });
}
