// @vitest-environment node
import { describe, expect, it } from "vitest";
import { ApiError } from "../src/api/errors";
import type { Chunk } from "../src/api/types";
import { canRun, initial, isBusy, type RunEvent, type RunState, reduce } from "../src/run/state";
import { failure, losses, shownState, status } from "../src/run/words";
import { result, TRACEBACK } from "./server";

const reached = (...events: RunEvent[]): RunState => events.reduce(reduce, initial);
const printed = (...chunks: Chunk[]): RunEvent => ({ type: "printed", chunks });
const stdout = (data: string): Chunk => ({ stream: "stdout", data });
const stderr = (data: string): Chunk => ({ stream: "stderr", data });
const run: RunEvent = { type: "run" };
const started: RunEvent = { type: "started" };
const failed = (error: ApiError): RunEvent => ({ type: "failed", error, now: 1000 });
const limited = new ApiError("limited", "Too many.", { status: 429, retryAfter: 12 });

describe("the course of a run", () => {
  it("goes from idle over the queue and running to success", () => {
    expect(shownState(reached().phase)).toBe("idle");
    expect(status(reached(run).phase)).toBe("Running code...");
    expect(status(reached(run, { type: "queued", position: 3 }).phase)).toBe("Waiting in the queue (position 3)...");
    expect(status(reached(run, { type: "queued", position: 3 }, started).phase)).toBe("Running code...");
    expect(shownState(reached(run, { type: "ended", result: result() }).phase)).toBe("success");
  });

  it.each(["success", "error", "timeout"] as const)("ends with the result's %s", (name) => {
    expect(reached(run, started, { type: "ended", result: result({ status: name }) }).phase.name).toBe(name);
  });

  it("begins no second run while one is on its way", () => {
    const state = reached(run, printed(stdout("a")));
    expect(reduce(state, run)).toBe(state);
    expect(canRun(state.phase)).toBe(false);
  });

  it("forgets the run before", () => {
    expect(reached(run, printed(stdout("a")), { type: "ended", result: result() }, run)).toEqual(reached(run));
  });

  it("changes nothing by what comes after the end", () => {
    const state = reached(run, { type: "ended", result: result({ output: "a" }) });
    for (const late of [
      started,
      printed(stdout("b")),
      { type: "stop" },
      { type: "abandoned" },
      failed(limited),
    ] as const) {
      expect(reduce(state, late)).toBe(state);
    }
  });

  it("does not go back into the queue when a reconnect says so late", () => {
    expect(reached(run, printed(stdout("a")), { type: "queued", position: 1 }).phase.name).toBe("running");
  });

  it("refuses runs while they are limited, and allows them again", () => {
    const state = reached(run, failed(limited));
    expect(state.phase).toMatchObject({ name: "limited", until: 13_000 });
    expect(reduce(state, run)).toBe(state);
    expect(canRun(reduce(state, { type: "allowed" }).phase)).toBe(true);
  });

  it("waits ten seconds where a 429 does not say for how long", () => {
    expect(reached(run, failed(new ApiError("limited", "Too many."))).phase).toMatchObject({ until: 11_000 });
  });

  it("keeps the output so far when it fails", () => {
    const state = reached(run, printed(stdout("a")), failed(new ApiError("unreachable", "gone")));
    expect(state.chunks).toEqual([stdout("a")]);
    expect(state.phase.name).toBe("failed");
  });

  it("holds from any events in any order that busy phases end, and that only free ones run", () => {
    const events: RunEvent[] = [
      run,
      started,
      { type: "stop" },
      { type: "allowed" },
      { type: "abandoned" },
      failed(limited),
    ];
    events.push({ type: "queued", position: 1 }, { type: "ended", result: result() }, printed(stdout("a")));
    for (const first of events)
      for (const second of events)
        for (const third of events) {
          const state = reached(first, second, third);
          expect(isBusy(state.phase) && canRun(state.phase)).toBe(false);
          expect(isBusy(reduce(state, { type: "ended", result: result() }).phase)).toBe(false);
        }
  });
});

describe("stopping", () => {
  const cancelled = result({
    status: "error",
    reason: "Cancelled",
    truncated: { stdout: true, stderr: true, files: false },
  });

  it("is said until the end, and is no error", () => {
    expect(status(reached(run, started, { type: "stop" }).phase)).toBe("Stopping...");
    const state = reached(run, started, { type: "stop" }, { type: "ended", result: cancelled });
    expect([state.phase.name, shownState(state.phase), status(state.phase)]).toEqual(["stopped", "idle", "Stopped"]);
    expect(losses(cancelled)).toEqual([]);
  });

  it("keeps what was printed although the record holds none of it", () => {
    const state = reached(
      run,
      printed(stdout("a"), stderr("b")),
      { type: "stop" },
      { type: "ended", result: cancelled },
    );
    expect(state.chunks).toEqual([stdout("a"), stderr("b")]);
  });

  it("comes too late for a program that has ended by itself", () => {
    expect(reached(run, { type: "stop" }, { type: "ended", result: result() }).phase.name).toBe("success");
  });

  it("of what had not begun is no failure", () => {
    const error = new ApiError("refused", "it was cancelled", { reason: "Cancelled" });
    expect(reached(run, { type: "stop" }, failed(error)).phase.name).toBe("stopped");
    expect(reached(run, failed(error)).phase.name).toBe("failed");
  });

  it("does not hide that the platform failed", () => {
    const error = new ApiError("refused", "the node was lost", { reason: "NodeLost" });
    expect(reached(run, { type: "stop" }, failed(error)).phase.name).toBe("failed");
  });

  it("is an error when somebody else did it", () => {
    expect(reached(run, { type: "ended", result: cancelled }).phase.name).toBe("error");
  });
});

describe("the output of a result", () => {
  const chunks = (live: Chunk[], changes: Parameters<typeof result>[0]) =>
    reached(run, printed(...live), { type: "ended", result: result(changes) }).chunks;

  it("leaves the order in which it came, when it says the same", () => {
    const live = [stdout("a"), stderr("b"), stdout("c")];
    expect(chunks(live, { output: "ac", stderr: "b" })).toEqual(live);
  });

  it("replaces what came when that was something else, even less or more", () => {
    const whole = [stdout("ac"), stderr("b")];
    for (const live of [[], [stdout("a")], [stdout("acx"), stderr("b")]]) {
      expect(chunks(live, { output: "ac", stderr: "b" })).toEqual(whole);
    }
  });

  it("replaces it by a cut one only where that holds more", () => {
    const truncated = { stdout: true, stderr: false, files: false };
    expect(chunks([stdout("abc")], { output: "a", truncated })).toEqual([stdout("abc")]);
    expect(chunks([stdout("a")], { output: "ab", truncated })).toEqual([stdout("ab")]);
  });

  it("does not show the traceback twice", () => {
    const changes = { status: "error", error: TRACEBACK, stderr: `warning\n${TRACEBACK}\n` } as const;
    expect(chunks([], changes)).toEqual([stderr("warning\n")]);
    const live = [
      stderr("warn"),
      stderr(`ing\n${TRACEBACK.slice(0, 9)}`),
      stdout("a"),
      stderr(`${TRACEBACK.slice(9)}\n`),
    ];
    expect(chunks(live, { ...changes, output: "a" })).toEqual([stderr("warn"), stderr("ing\n"), stdout("a")]);
  });

  it("leaves a traceback that the program itself has printed in between", () => {
    const text = `${TRACEBACK}\nand more\n`;
    expect(chunks([], { status: "error", error: TRACEBACK, stderr: text })).toEqual([stderr(text)]);
  });

  it("tells of losses", () => {
    const truncated = { stdout: true, stderr: true, files: true };
    const told = losses(result({ truncated, outputBytes: { stdout: 3_000_000, stderr: 5 } }));
    expect(told).toHaveLength(3);
    expect(told[0]).toBe("Output was cut: the program printed 3,000,000 bytes.");
  });

  it("takes a result of a server that does not tell of files", () => {
    expect(losses(result({ truncated: { stdout: false, stderr: false, files: false } }))).toEqual([]);
  });
});

describe("the words for a failure", () => {
  it("are the server's own where it said something", () => {
    expect(failure(new ApiError("refused", "Code is required"))).toBe("Code is required");
  });

  it("name the failure where there was no answer, or none to understand", () => {
    expect(failure(new ApiError("unreachable", "Failed to fetch"))).toBe("Failed to execute code: Failed to fetch");
    expect(failure(new ApiError("unintelligible", "the server answered 502"))).toMatch(/^Failed to execute code: /);
  });
});
