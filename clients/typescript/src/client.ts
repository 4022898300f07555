/** The API, typed by its own description: paths, parameters, bodies and answers. */

import createOpenApiClient, { type Client } from "openapi-fetch";

import type { paths } from "./schema.js";

export type CalotypeClient = Client<paths>;

/** A client of the control plane at `baseUrl`, with a tenant's key. A refusal is `error`, a problem with a stable `code`. */
export function createClient(baseUrl: string, key: string): CalotypeClient {
  return createOpenApiClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
}
