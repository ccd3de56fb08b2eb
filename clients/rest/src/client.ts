import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./gen/schema.js";

export type Schemas = components["schemas"];

/** Returns a client of the REST API. With an access token, its calls are authenticated. */
export function connect(url: string, accessToken?: string): Client<paths> {
  const headers = accessToken === undefined ? {} : { authorization: `Bearer ${accessToken}` };
  return createClient<paths>({ baseUrl: url, headers });
}

/** Returns the reason of an error, such as `TASK_NOT_FOUND`. */
export function reasonOf({ error }: Schemas["Error"]): string | undefined {
  for (const detail of error.details) {
    if (detail["@type"] === "type.googleapis.com/google.rpc.ErrorInfo" && "reason" in detail) return detail.reason;
  }
  return undefined;
}
