// @vitest-environment node
import { describe, expect, it, vi } from "vitest";
import { type Call, cancel, execute, type Progress } from "../src/api/client";
import { type ApiError, retryAfter } from "../src/api/errors";
import { RETRIES } from "../src/api/retry";
import { answer, Events, FakeServer, liveServer, never, QUICK, refusal, result, unreachable } from "./server";

const POST = "POST /api/executions";
const PLAIN = "POST /api/execute";
const GET = "GET /api/executions/cex-1";
const EVENTS = "GET /api/executions/cex-1/events";

const accepted = () => answer({ id: "cex-1", status: "queued", queuePosition: 2 }, 202);
const finished = (output = "") => new Events().send("result", result({ output })).end();

function call(server: FakeServer, changes: Partial<Call> & { headers?: HeadersInit | (() => HeadersInit) } = {}) {
  const progress: Progress[] = [];
  const { headers, ...rest } = changes;
  const end = execute(
    { endpoint: "", headers, fetch: server.fetch },
    {
      program: { code: "print(1)", language: "python" },
      live: true,
      signal: new AbortController().signal,
      pauses: QUICK,
      onProgress: (one) => progress.push(one),
      ...rest,
    },
  );
  // It is awaited below in any case; a test that looks at something else first should not fail for it.
  end.catch(() => {});
  const printed = () => progress.flatMap((one) => (one.type === "output" ? [one.chunk.data] : []));
  return { end, progress, printed };
}

const errorOf = (promise: Promise<unknown>): Promise<ApiError> =>
  promise.then(
    () => {
      throw new Error("it should have failed");
    },
    (error) => error,
  );

describe("a live run", () => {
  it("tells the queue, the start and the output as they come, and ends with the result", async () => {
    const events = new Events().send("queued", { id: "cex-1", queuePosition: 1 }).send("started", { id: "cex-1" });
    const { end, progress } = call(liveServer(events));
    events
      .output("a")
      .output("b", "stderr")
      .send("result", result({ output: "a" }))
      .end();
    expect(await end).toMatchObject({ status: "success", output: "a" });
    expect(progress).toEqual([
      { type: "accepted", id: "cex-1", warnings: [] },
      { type: "queued", position: undefined },
      { type: "queued", position: 1 },
      { type: "started" },
      { type: "output", chunk: { stream: "stdout", data: "a" } },
      { type: "output", chunk: { stream: "stderr", data: "b" } },
    ]);
  });

  it("passes the warnings of the policy on", async () => {
    const server = liveServer(finished()).on(POST, answer({ id: "cex-1", status: "running", warnings: ["w"] }, 202));
    const { end, progress } = call(server);
    await end;
    expect(progress[0]).toEqual({ type: "accepted", id: "cex-1", warnings: ["w"] });
  });

  it("ignores events of a newer server", async () => {
    const { end } = call(liveServer(new Events().send("news", {}).send("result", result()).end()));
    expect((await end).status).toBe("success");
  });

  it("fails with what the server says in the stream", async () => {
    const body = { error: "no node had room", code: "unschedulable", id: "cex-1", reason: "Unschedulable" };
    const error = await errorOf(call(liveServer(new Events().send("failed", body).end())).end);
    expect(error).toMatchObject({ kind: "refused", message: "no node had room", reason: "Unschedulable", id: "cex-1" });
  });

  it("sends the headers with each request, asking a function anew", async () => {
    const server = liveServer(finished());
    let count = 0;
    await call(server, { headers: () => ({ authorization: `Bearer ${++count}` }) }).end;
    expect(server.asked.map(({ headers }) => headers.get("authorization"))).toEqual(["Bearer 1", "Bearer 2"]);
  });

  it("asks below the endpoint, with and without a slash at its end", async () => {
    for (const endpoint of ["https://api.example", "https://api.example/"]) {
      const server = new FakeServer().on("POST https://api.example/api/execute", answer(result()));
      const connection = { endpoint, fetch: server.fetch };
      const signal = new AbortController().signal;
      const program = { code: "1", language: "python" } as const;
      await execute(connection, { program, live: false, signal, onProgress: () => {} });
      expect(server.asked).toHaveLength(1);
    }
  });
});

describe("a lost answer to the first request", () => {
  it("is asked for again with the same key, so that the program runs once", async () => {
    const server = liveServer(finished()).on(POST, unreachable(), unreachable(), accepted);
    await call(server).end;
    const keys = server.of(POST).map(({ headers }) => headers.get("idempotency-key"));
    expect(keys).toHaveLength(3);
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
  });

  it("is given up after some tries, as unreachable, with no plain POST after it", async () => {
    const server = new FakeServer().on(POST, unreachable());
    expect(await errorOf(call(server).end)).toMatchObject({ kind: "unreachable", message: "Failed to fetch" });
    expect(server.count(POST)).toBe(1 + RETRIES.begin);
    expect(server.count(PLAIN)).toBe(0);
  });

  it("gives each run a key of its own", async () => {
    const server = liveServer(finished()).on(EVENTS, () => finished().response);
    await call(server).end;
    await call(server).end;
    const [one, other] = server.of(POST).map(({ headers }) => headers.get("idempotency-key"));
    expect(one).not.toBe(other);
  });
});

describe("a refusal", () => {
  it.each([400, 401, 403, 413, 415, 422, 500, 503])(
    "with %i is the last word, with the server's sentence",
    async (code) => {
      for (const live of [true, false]) {
        const refuse = () => refusal(code, "a sentence");
        const server = new FakeServer().on(POST, refuse).on(PLAIN, refuse);
        const error = await errorOf(call(server, { live }).end);
        expect(error).toMatchObject({ kind: "refused", status: code, message: "a sentence", code: "a_code" });
        expect(server.asked).toHaveLength(1);
      }
    },
  );

  it("with 429 says when to try again", async () => {
    const server = new FakeServer().on(POST, refusal(429, "Too many.", { headers: { "retry-after": "12" } }));
    expect(await errorOf(call(server).end)).toMatchObject({ kind: "limited", retryAfter: 12 });
  });

  it("of a proxy, which is no JSON, does not show the proxy's page", async () => {
    const server = new FakeServer().on(POST, new Response("<html>", { status: 502, statusText: "Bad Gateway" }));
    const error = await errorOf(call(server).end);
    expect(error).toMatchObject({ kind: "unintelligible", message: "the server answered 502 Bad Gateway" });
  });

  it("is what a page is that answers 200 to everything", async () => {
    const server = new FakeServer().on(POST, new Response("<!doctype html>"));
    expect(await errorOf(call(server).end)).toMatchObject({ kind: "unintelligible", status: 200 });
  });
});

describe("an endpoint that only passes the plain POST on", () => {
  it.each([404, 405])("answers %i, and the program runs by that", async (code) => {
    const server = new FakeServer()
      .on(POST, new Response(null, { status: code }))
      .on(PLAIN, answer(result({ output: "a" })));
    const { end, progress } = call(server);
    expect((await end).output).toBe("a");
    expect(progress).toEqual([{ type: "accepted", id: null, warnings: [] }]);
    expect(server.of(PLAIN)[0]?.body).toEqual({ code: "print(1)", language: "python" });
  });

  it("is sent it once, without a key, whatever happens", async () => {
    const server = new FakeServer().on(PLAIN, unreachable());
    expect((await errorOf(call(server, { live: false }).end)).kind).toBe("unreachable");
    expect(server.count(PLAIN)).toBe(1);
    expect(server.of(PLAIN)[0]?.headers.has("idempotency-key")).toBe(false);
  });
});

describe("a lost connection", () => {
  it("goes on after the last output, so that nothing is shown twice", async () => {
    const server = liveServer(new Events()).on(
      EVENTS,
      () => new Events().output("a").output("b").end().response,
      () =>
        new Events(2)
          .send("started", {})
          .output("c")
          .send("result", result({ output: "abc" }))
          .end().response,
    );
    const { end, printed } = call(server);
    await end;
    expect(printed()).toEqual(["a", "b", "c"]);
    expect(server.of(EVENTS).map(({ headers }) => headers.get("last-event-id"))).toEqual([null, "1"]);
    expect(server.count(POST)).toBe(1);
  });

  it("shows nothing twice when a proxy does not pass the last id on", async () => {
    const again = () => new Events().output("a").output("b").output("c").send("result", result()).end().response;
    const server = liveServer(new Events()).on(
      EVENTS,
      () => new Events().output("a").output("b").end().response,
      again,
    );
    const { end, printed } = call(server);
    await end;
    expect(printed()).toEqual(["a", "b", "c"]);
  });

  it.each([
    ["that breaks off", () => brokenOff()],
    ["that is refused for a while", () => refusal(503, "busy")],
    ["that can't be opened", unreachable()],
  ])("%s is opened again", async (_, lost) => {
    const server = liveServer(new Events()).on(EVENTS, lost, () => finished("x").response);
    expect((await call(server).end).output).toBe("x");
    expect(server.count(EVENTS)).toBe(2);
  });

  it("is followed by asking for the result, when it can't be opened any more", async () => {
    const server = liveServer(new Events())
      .on(EVENTS, unreachable())
      .on(
        GET,
        answer({ id: "cex-1", status: "running" }),
        refusal(503, "busy"),
        unreachable(),
        answer(result({ output: "x" })),
      );
    expect((await call(server).end).output).toBe("x");
    expect([server.count(EVENTS), server.count(GET), server.count(POST)]).toEqual([RETRIES.events, 4, 1]);
  });

  it("is tried as often as there is something new", async () => {
    const drops = Array.from({ length: 12 }, (_, at) => () => new Events(at).output(`${at}`).end().response);
    const server = liveServer(new Events()).on(EVENTS, ...drops, () => finished().response);
    const { end, printed } = call(server);
    await end;
    expect(printed()).toHaveLength(12);
    expect(server.count(GET)).toBe(0);
  });

  it("does not count being told again where it stands as something new", async () => {
    const told = () => new Events().send("queued", { queuePosition: 1 }).end().response;
    const server = liveServer(new Events()).on(EVENTS, told).on(GET, answer(result()));
    await call(server).end;
    expect(server.count(EVENTS)).toBe(RETRIES.events);
  });

  it("that is silent for too long counts as lost", async () => {
    vi.useFakeTimers();
    const silent = new Events().send("started", {});
    const server = liveServer(silent).on(EVENTS, silent.answer, () => finished("x").response);
    const { end } = call(server);
    await vi.advanceTimersByTimeAsync(QUICK.silence - 100);
    expect(server.count(EVENTS)).toBe(1);
    silent.raw(": keep-alive\n\n");
    await vi.advanceTimersByTimeAsync(QUICK.silence - 100);
    expect(server.count(EVENTS)).toBe(1);
    await vi.advanceTimersByTimeAsync(1000);
    expect((await end).output).toBe("x");
    expect(silent.cancelled).toBe(true);
  });

  it.each([
    ["404", () => refusal(404, "there is nothing at this path")],
    ["405", () => new Response(null, { status: 405 })],
    ["a page", () => new Response("<!doctype html>", { headers: { "content-type": "text/html" } })],
  ])("where the stream is not passed on (%s) is no try worth repeating", async (_, events) => {
    const server = liveServer(new Events())
      .on(EVENTS, events)
      .on(GET, answer(result({ output: "x" })));
    expect((await call(server).end).output).toBe("x");
    expect(server.count(EVENTS)).toBe(1);
  });

  it("is not waited for where the server can't bear more streams: its result is asked for", async () => {
    const full = refusal(503, "too many executions are being followed", { headers: { "retry-after": "60" } });
    const server = liveServer(new Events())
      .on(EVENTS, full)
      .on(GET, answer(result({ output: "x" })));
    expect((await call(server).end).output).toBe("x");
    expect(server.count(EVENTS)).toBe(1);
  });

  it("ends when the credential is no longer good", async () => {
    const server = liveServer(new Events()).on(EVENTS, refusal(401, "the token has expired"));
    expect(await errorOf(call(server).end)).toMatchObject({ status: 401, message: "the token has expired" });
  });

  it("ends when the record is gone", async () => {
    const gone = refusal(404, "no such execution");
    const server = liveServer(new Events()).on(EVENTS, gone).on(GET, gone);
    expect(await errorOf(call(server).end)).toMatchObject({ status: 404, message: "no such execution" });
  });

  it("ends as unreachable when nobody answers for long", async () => {
    const server = liveServer(new Events()).on(EVENTS, unreachable()).on(GET, unreachable());
    expect((await errorOf(call(server).end)).kind).toBe("unreachable");
    expect(server.count(GET)).toBe(1 + RETRIES.poll);
  });

  it("ends when a server keeps on refusing, with its sentence", async () => {
    const busy = () => refusal(503, "overloaded");
    const server = liveServer(new Events()).on(EVENTS, busy).on(GET, busy);
    expect(await errorOf(call(server).end)).toMatchObject({ status: 503, message: "overloaded" });
  });

  it("ends when an event is no JSON", async () => {
    const server = liveServer(new Events().raw("event: output\ndata: {\n\n"));
    expect((await errorOf(call(server).end)).kind).toBe("unintelligible");
  });
});

function brokenOff(): Response {
  return new Events().send("started", {}).lose().response;
}

describe("aborting", () => {
  it("ends a plain POST", async () => {
    const abort = new AbortController();
    const { end } = call(new FakeServer().on(PLAIN, never), { live: false, signal: abort.signal });
    abort.abort();
    expect((await errorOf(end)).name).toBe("AbortError");
  });

  it("ends a stream", async () => {
    const abort = new AbortController();
    const events = new Events().output("a");
    const { end, printed } = call(liveServer(events), { signal: abort.signal });
    await vi.waitFor(() => expect(printed()).toEqual(["a"]));
    abort.abort();
    expect((await errorOf(end)).name).toBe("AbortError");
    expect(events.cancelled).toBe(true);
  });

  it("ends the pause before another try", async () => {
    const abort = new AbortController();
    const server = liveServer(new Events()).on(EVENTS, unreachable());
    const { end } = call(server, { signal: abort.signal, pauses: { ...QUICK, first: 60_000, most: 60_000 } });
    await vi.waitFor(() => expect(server.count(EVENTS)).toBe(1));
    abort.abort();
    expect((await errorOf(end)).name).toBe("AbortError");
  });
});

describe("cancelling", () => {
  const CANCEL = "DELETE /api/executions/cex-1";

  it("asks again when the request is lost", async () => {
    const server = new FakeServer().on(CANCEL, unreachable(), answer({}, 202));
    await cancel({ endpoint: "", fetch: server.fetch }, "cex-1", false, QUICK);
    expect(server.count(CANCEL)).toBe(2);
  });

  it("goes on when the page is left", async () => {
    const server = new FakeServer();
    await cancel({ endpoint: "", fetch: server.fetch }, "cex-1", true, QUICK);
    expect(server.of(CANCEL)[0]?.keepalive).toBe(true);
  });

  it("puts an id into the path that can't leave it", async () => {
    const server = new FakeServer();
    await cancel({ endpoint: "", fetch: server.fetch }, "../x?y", false, QUICK);
    expect(server.asked[0]?.path).toBe("/api/executions/..%2Fx%3Fy");
  });
});

describe("Retry-After", () => {
  const read = (value: string) => retryAfter(new Headers({ "retry-after": value }), Date.parse("2026-01-01T00:00:00Z"));

  it("is seconds or a date", () => {
    expect(read("12")).toBe(12);
    expect(read("0")).toBe(0);
    expect(read("Thu, 01 Jan 2026 00:00:30 GMT")).toBe(30);
  });

  it("is nothing where it is in the past or makes no sense", () => {
    for (const value of ["Wed, 31 Dec 2025 00:00:00 GMT", "-1", "soon", "1e99", ""])
      expect(read(value)).toBeUndefined();
    expect(retryAfter(new Headers())).toBeUndefined();
  });
});
