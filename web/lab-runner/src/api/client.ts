import { ApiError } from "./errors.js";
import { follow } from "./follow.js";
import { type Connection, json, send } from "./http.js";
import { type Pauses, pause, RETRIES } from "./retry.js";
import { toResult, toStanding } from "./shapes.js";
import type { Chunk, Program, Result, Standing } from "./types.js";

/** What is told of an execution on its way. Its end is what `execute` returns or throws. */
export type Progress =
  | { type: "accepted"; id: string | null; warnings: readonly string[] }
  | { type: "queued"; position: number | undefined }
  | { type: "started" }
  | { type: "output"; chunk: Chunk };

export interface Call {
  program: Program;
  /** Output while the program runs; `false` waits for the answer to one POST. */
  live: boolean;
  /** Ends the waiting, with nothing told to the server but a closed connection. */
  signal: AbortSignal;
  onProgress(progress: Progress): void;
  /** For tests: how long is waited between attempts. */
  pauses?: Pauses | undefined;
}

/**
 * Runs a program, at most once whatever happens to the connection:
 * - live: the request carries an `Idempotency-Key`, so that it can be sent again when its answer was lost;
 * - plain: it carries none and is sent once, and the server cancels the execution of a client that hangs up.
 */
export async function execute(connection: Connection, call: Call): Promise<Result> {
  if (call.live) {
    const standing = await begin(connection, call);
    if (standing) {
      call.onProgress({ type: "accepted", id: standing.id, warnings: standing.warnings ?? [] });
      tellStanding(standing, call);
      return follow(connection, standing.id, call);
    }
  }
  call.onProgress({ type: "accepted", id: null, warnings: [] });
  const response = await send(connection, "/api/execute", { method: "POST", body: call.program, signal: call.signal });
  return toResult(await json(response, call.signal));
}

/** Asks the server to cancel an execution. Whether it worked shows in how the execution ends. */
export async function cancel(connection: Connection, id: string, leaving: boolean, pauses?: Pauses): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await send(connection, path(id), { method: "DELETE", keepalive: leaving });
      return;
    } catch (error) {
      if (tries > RETRIES.cancel) throw error;
      await pause(tries, new AbortController().signal, pauses);
    }
  }
}

export function path(id: string): string {
  return `/api/executions/${encodeURIComponent(id)}`;
}

export function tellStanding(standing: Standing, call: Call): void {
  if (standing.status === "queued") {
    call.onProgress({ type: "queued", position: standing.queuePosition ?? undefined });
  } else {
    call.onProgress({ type: "started" });
  }
}

/** Begins an execution without waiting for it; `undefined` where the endpoint only knows `POST /api/execute`. */
async function begin(connection: Connection, call: Call): Promise<Standing | undefined> {
  const key = newKey();
  for (let tries = 1; ; tries++) {
    try {
      const response = await send(connection, "/api/executions", {
        method: "POST",
        body: call.program,
        headers: { "idempotency-key": key },
        signal: call.signal,
      });
      if (response.status === 404 || response.status === 405) return undefined;
      return toStanding(await json(response, call.signal));
    } catch (error) {
      // Only an answer that did not come is asked for again: everything else is the server's last word.
      if (!(error instanceof ApiError) || error.kind !== "unreachable" || tries > RETRIES.begin) throw error;
      await pause(tries, call.signal, call.pauses);
    }
  }
}

/** 128 random bits. `crypto.randomUUID` is not there on pages without HTTPS, `getRandomValues` is. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
