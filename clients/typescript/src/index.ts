export { createClient, type CalotypeClient } from "./client.js";
export type { components, paths } from "./schema.js";
export { path, srcset, unsignedUrl, url, type Delivery, type Ops, type SigningKey, type Source } from "./delivery.js";
