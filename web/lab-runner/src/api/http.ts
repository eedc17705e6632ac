import { ApiError, isErrorBody, retryAfter } from "./errors.js";

/** How to reach the API. */
export interface Connection {
  /** What stands before `/api/…`: empty for the page's own origin. */
  endpoint: string;
  /** Headers for every request; a function is asked anew each time, so that a token may be renewed meanwhile. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined;
  fetch: typeof fetch;
}

export interface Request {
  method?: "GET" | "POST" | "DELETE";
  headers?: Record<string, string>;
  body?: unknown;
  signal?: AbortSignal;
  /** The request goes on when the page is left. */
  keepalive?: boolean;
}

/** Sends a request. Only a request that got no answer throws (an `ApiError`, or what the signal was aborted with). */
export async function send(connection: Connection, path: string, request: Request = {}): Promise<Response> {
  const { signal } = request;
  const given = typeof connection.headers === "function" ? await connection.headers() : connection.headers;
  signal?.throwIfAborted();
  const headers = new Headers(given);
  if (!headers.has("accept")) headers.set("accept", "application/json");
  if (request.body !== undefined) headers.set("content-type", "application/json");
  for (const [name, value] of Object.entries(request.headers ?? {})) headers.set(name, value);
  try {
    return await connection.fetch(connection.endpoint.replace(/\/+$/, "") + path, {
      method: request.method ?? "GET",
      headers,
      // An answer must be of now.
      cache: "no-store",
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      ...(signal ? { signal } : {}),
      ...(request.keepalive ? { keepalive: true } : {}),
    });
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreachable(cause);
  }
}

/** The JSON of an answer in 2xx. Everything else is thrown as an `ApiError`. */
export async function json(response: Response, signal?: AbortSignal): Promise<unknown> {
  let body: unknown;
  let text = "";
  try {
    text = await response.text();
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreachable(cause);
  }
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  if (response.ok && typeof body === "object" && body !== null) return body;
  if (!response.ok && isErrorBody(body)) throw ApiError.fromBody(body, response.status, retryAfter(response.headers));
  // A proxy's page, or something else that answers at this address. Its text is not shown: it is not meant for here.
  const said = `the server answered ${response.status}${response.statusText ? ` ${response.statusText}` : ""}`;
  throw new ApiError(
    response.status === 429 ? "limited" : "unintelligible",
    response.ok ? `${said} with something that is no result` : said,
    { status: response.status, retryAfter: retryAfter(response.headers) },
  );
}

function unreachable(cause: unknown): ApiError {
  // Browsers say "Failed to fetch", "NetworkError when attempting to fetch resource." or "Load failed".
  const message = cause instanceof Error && cause.message ? cause.message : "no answer";
  return new ApiError("unreachable", message);
}
