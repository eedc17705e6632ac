import type { Pauses } from "../src/api/retry";
import type { Result } from "../src/api/types";

/** No test waits for a network that is not there. */
export const QUICK: Pauses = { first: 1, most: 2, poll: 1, silence: 5000 };

export interface Asked {
  method: string;
  path: string;
  headers: Headers;
  body: unknown;
  signal: AbortSignal | null;
  keepalive: boolean;
}

type Answer = Response | Error | Promise<Response>;
type Handler = (asked: Asked) => Answer;

/** An API that says what a test wants: answers in turn for each request, the last one again and again. */
export class FakeServer {
  readonly asked: Asked[] = [];
  readonly #handlers = new Map<string, Handler[]>();

  /** What a request such as `POST /api/execute` is answered with, the first time, the second time and so on. */
  on(request: string, ...answers: (Handler | Answer)[]): this {
    const handlers = answers.map((answer): Handler => (typeof answer === "function" ? answer : () => copy(answer)));
    this.#handlers.set(request, handlers);
    return this;
  }

  /** How often something was asked. */
  count(request: string): number {
    return this.of(request).length;
  }

  of(request: string): Asked[] {
    return this.asked.filter(({ method, path }) => `${method} ${path}` === request);
  }

  readonly fetch: typeof fetch = async (input, init = {}) => {
    const asked: Asked = {
      method: init.method ?? "GET",
      path: String(input),
      headers: new Headers(init.headers),
      body: typeof init.body === "string" ? JSON.parse(init.body) : undefined,
      signal: init.signal ?? null,
      keepalive: init.keepalive ?? false,
    };
    this.asked.push(asked);
    asked.signal?.throwIfAborted();
    const name = `${asked.method} ${asked.path}`;
    const handlers = this.#handlers.get(name);
    const handler = handlers?.[Math.min(this.count(name), handlers.length) - 1];
    if (!handler) return refusal(404, "there is nothing at this path", { code: "not_found" });
    const answer = handler(asked);
    if (answer instanceof Error) throw answer;
    return answer;
  };
}

/** A body can be read once; an answer that is given again needs its own. */
function copy(answer: Answer): Answer {
  return answer instanceof Response ? answer.clone() : answer;
}

/** What `fetch` throws when nobody answers. */
export const unreachable = () => new TypeError("Failed to fetch");

/** An answer that never comes; as with `fetch`, it ends when its signal is aborted. */
export const never: Handler = ({ signal }) =>
  new Promise<Response>((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason));
  });

export function answer(body: unknown, status = 200, headers: HeadersInit = {}): Response {
  const all = new Headers(headers);
  all.set("content-type", "application/json");
  return new Response(JSON.stringify(body), { status, headers: all });
}

interface Refusal {
  code?: string;
  id?: string;
  reason?: string;
  headers?: HeadersInit;
}

export function refusal(
  status: number,
  error: string,
  { headers = {}, code = "a_code", ...more }: Refusal = {},
): Response {
  return answer({ error, code, ...more }, status, headers);
}

export function result(changes: Partial<Result> = {}): Result {
  return {
    id: "cex-1",
    status: "success",
    output: "",
    stderr: "",
    executionTime: 123,
    exitCode: 0,
    signal: null,
    reason: "Completed",
    retryable: false,
    truncated: { stdout: false, stderr: false, files: false },
    outputBytes: { stdout: 0, stderr: 0 },
    timings: { queueMs: 0, startMs: 0, claimMs: 0, runMs: 0, collectMs: 0, totalMs: 0 },
    usage: null,
    files: [],
    warm: true,
    ...changes,
  };
}

/** What comes of `raise ValueError("Test error")`. */
export const TRACEBACK = `Traceback (most recent call last):
  File "main.py", line 1, in <module>
    raise ValueError("Test error")
ValueError: Test error`;

/** A stream of events that a test writes. */
export class Events {
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #number = 0;
  /** Whether the reader went away. */
  cancelled = false;

  readonly response: Response;

  constructor(first = 0) {
    this.#number = first;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.cancelled = true;
      },
    });
    this.response = new Response(body, { headers: { "content-type": "text/event-stream" } });
  }

  /** For `FakeServer.on`: the stream ends with its request, as that of `fetch` does. */
  readonly answer: Handler = ({ signal }) => {
    signal?.addEventListener("abort", () => {
      this.cancelled = true;
      this.lose(signal.reason);
    });
    return this.response;
  };

  raw(text: string): this {
    this.#controller?.enqueue(this.#encoder.encode(text));
    return this;
  }

  send(type: string, data: unknown): this {
    return this.raw(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  output(data: string, stream: "stdout" | "stderr" = "stdout"): this {
    return this.raw(`id: ${this.#number++}\nevent: output\ndata: ${JSON.stringify({ stream, data })}\n\n`);
  }

  /** The end with everything said. */
  end(): this {
    this.#controller?.close();
    return this;
  }

  /** The connection breaks. */
  lose(reason: unknown = new TypeError("network error")): this {
    this.#controller?.error(reason);
    return this;
  }
}

/** A server whose execution `cex-1` is followed by this stream. */
export function liveServer(events: Events): FakeServer {
  return new FakeServer()
    .on("POST /api/executions", answer({ id: "cex-1", status: "queued" }, 202))
    .on("GET /api/executions/cex-1/events", events.answer)
    .on("DELETE /api/executions/cex-1", () => answer({ id: "cex-1", status: "running" }, 202));
}
