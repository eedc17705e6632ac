// @vitest-environment node
import { describe, expect, it } from "vitest";
import { cancel, execute } from "../src/api/client";
import { retryAfter } from "../src/api/errors";
import { RETRIES } from "../src/api/retry";
import { call, errorOf } from "./call";
import { answer, Events, FakeServer, liveServer, QUICK, refusal, result, unreachable } from "./server";

const POST = "POST /api/executions";
const PLAIN = "POST /api/execute";
const EVENTS = "GET /api/executions/cex-1/events";

const accepted = () => answer({ id: "cex-1", status: "queued", queuePosition: 2 }, 202);
const finished = (output = "") => new Events().send("result", result({ output })).end();

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
