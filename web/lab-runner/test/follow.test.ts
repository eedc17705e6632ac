// @vitest-environment node
import { describe, expect, it, vi } from "vitest";
import { RETRIES } from "../src/api/retry";
import { call, errorOf } from "./call";
import { answer, Events, FakeServer, liveServer, never, QUICK, refusal, result, unreachable } from "./server";

const POST = "POST /api/executions";
const PLAIN = "POST /api/execute";
const GET = "GET /api/executions/cex-1";
const EVENTS = "GET /api/executions/cex-1/events";

const finished = (output = "") => new Events().send("result", result({ output })).end();

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
