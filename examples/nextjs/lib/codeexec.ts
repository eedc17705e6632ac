import "server-only";
import { signedIn } from "./session";

/** Where the API server is; in a cluster, its Service. Browsers never see this address. */
const SERVER = process.env.CODEEXEC_URL ?? "http://127.0.0.1:8080";

/** The API server's setting `proxyUserHeader`. */
const USER_HEADER = "x-codeexec-user";

/** What the component tells the API server, and the other way round. Cookies stay here. */
const ASKED = ["accept", "content-type", "idempotency-key", "last-event-id"];
const ANSWERED = [
  "content-type",
  "cache-control",
  "idempotent-replayed",
  "ratelimit",
  "ratelimit-policy",
  "ratelimit-limit",
  "ratelimit-remaining",
  "ratelimit-reset",
  "retry-after",
  "server-timing",
];

/** Passes a request on to the API server, in the name of whoever is signed in. */
export async function passOn(request: Request, path: string): Promise<Response> {
  const user = await signedIn();
  if (!user) return failure(401, "unauthenticated", "Please sign in");
  const headers = picked(request.headers, ASKED);
  // The last word: what the browser may have sent under this name is not among what was picked.
  headers.set(USER_HEADER, user.id);
  try {
    const answer = await fetch(SERVER + path, {
      method: request.method,
      headers,
      // Programs are small; the API server bounds them.
      body: request.method === "POST" ? await request.text() : null,
      cache: "no-store",
      redirect: "error",
      // Whoever leaves the page no longer waits, and the API server is to know it.
      signal: request.signal,
    });
    // The body as it comes: a stream of events has no end for as long as the program runs.
    return new Response(answer.body, { status: answer.status, headers: picked(answer.headers, ANSWERED) });
  } catch (error) {
    if (request.signal.aborted) return new Response(null, { status: 499 });
    console.error("the code execution server can't be reached:", error);
    return failure(503, "backend_unavailable", "The code execution server can't be reached");
  }
}

/** The path of an execution. Its name comes from the browser, so that it could be anything. */
export function executionPath(id: string): string {
  return `/api/executions/${encodeURIComponent(id)}`;
}

function picked(from: Headers, names: string[]): Headers {
  const headers = new Headers();
  for (const name of names) {
    const value = from.get(name);
    if (value !== null) headers.set(name, value);
  }
  return headers;
}

/** In the shape of the API's own errors, which the component shows. */
function failure(status: number, code: string, error: string): Response {
  return Response.json({ error, code }, { status });
}
