import { type Call, path, tellStanding } from "./client.js";
import { ApiError, isErrorBody, retryAfter } from "./errors.js";
import { type Connection, json, send } from "./http.js";
import { PAUSES, pause, RETRIES, wait } from "./retry.js";
import { isResult, toChunk, toPosition, toResult, toStanding } from "./shapes.js";
import { readEvents, type ServerEvent } from "./sse.js";
import type { Result } from "./types.js";

/** How one connection to the stream of events ended, other than with the execution's end. */
type Lost = { type: "lost" } | { type: "unsupported" };

/**
 * Follows an execution to its end: by its stream of events, with reconnects that go on after the last output seen, and
 * where that does not work by asking for the result until it is there. Reading changes nothing on the server.
 */
export async function follow(connection: Connection, id: string, call: Call): Promise<Result> {
  const position = { lastEventId: "" };
  for (let tries = 1; tries <= RETRIES.events; tries++) {
    const before = position.lastEventId;
    const end = await listen(connection, id, position, call);
    if (end.type === "result") return end.result;
    if (end.type === "unsupported") break;
    // Only output counts as news: where an execution stands is said again on each connection.
    if (position.lastEventId !== before) tries = 1;
    await pause(tries, call.signal, call.pauses);
  }
  return poll(connection, id, call);
}

/** One connection to the stream of events. */
async function listen(
  connection: Connection,
  id: string,
  position: { lastEventId: string },
  call: Call,
): Promise<Lost | { type: "result"; result: Result }> {
  // A connection can die without a word, for instance when a laptop changes its network.
  const silence = new AbortController();
  const signal = AbortSignal.any([call.signal, silence.signal]);
  const limit = (call.pauses ?? PAUSES).silence;
  let timer = setTimeout(() => silence.abort(), limit);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), limit);
  };
  try {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (position.lastEventId !== "") headers["last-event-id"] = position.lastEventId;
    const response = await send(connection, `${path(id)}/events`, { headers, signal });
    if (response.status === 401 || response.status === 403) throw await refused(response, signal);
    if (response.status === 429 || response.status >= 500) {
      discard(response);
      // A server that is full says when to come back. The result may be there much earlier, and costs it little.
      return { type: retryAfter(response.headers) === undefined ? "lost" : "unsupported" };
    }
    const type = response.headers.get("content-type") ?? "";
    if (!response.ok || !response.body || !type.toLowerCase().startsWith("text/event-stream")) {
      discard(response);
      return { type: "unsupported" };
    }
    for await (const event of readEvents(response.body, heard)) {
      // Something in between may not have passed `Last-Event-ID` on: the server then began anew.
      if (event.type === "output" && Number(event.lastEventId) <= Number(position.lastEventId || -1)) continue;
      const result = take(event, call);
      if (result) return { type: "result", result };
      position.lastEventId = event.lastEventId;
    }
    return { type: "lost" };
  } catch (error) {
    call.signal.throwIfAborted();
    if (error instanceof ApiError && error.kind !== "unreachable") throw error;
    return { type: "lost" };
  } finally {
    clearTimeout(timer);
  }
}

/** What an event says. A result ends the stream, and so does a failure, which is thrown. */
function take(event: ServerEvent, call: Call): Result | undefined {
  let data: unknown;
  try {
    data = JSON.parse(event.data);
  } catch {
    throw new ApiError("unintelligible", `the server sent an event "${event.type}" that is no JSON`);
  }
  switch (event.type) {
    case "queued":
      call.onProgress({ type: "queued", position: toPosition(data) });
      return undefined;
    case "started":
      call.onProgress({ type: "started" });
      return undefined;
    case "output":
      call.onProgress({ type: "output", chunk: toChunk(data) });
      return undefined;
    case "result":
      return toResult(data);
    case "failed":
      throw isErrorBody(data)
        ? ApiError.fromBody(data)
        : new ApiError("unintelligible", "the server says that it failed, and not why");
    default:
      // A newer server may tell more.
      return undefined;
  }
}

/** Asks for the result until it is there. */
async function poll(connection: Connection, id: string, call: Call): Promise<Result> {
  const pauses = call.pauses ?? PAUSES;
  for (let failures = 0; ; ) {
    try {
      const response = await send(connection, path(id), { signal: call.signal });
      if (response.status !== 429 && response.status < 500) {
        const answer = await json(response, call.signal);
        if (isResult(answer)) return toResult(answer);
        tellStanding(toStanding(answer), call);
        failures = 0;
        await wait(pauses.poll, call.signal);
        continue;
      }
      if (++failures > RETRIES.poll) throw await refused(response, call.signal);
      discard(response);
      await pause(failures, call.signal, pauses, (retryAfter(response.headers) ?? 0) * 1000);
    } catch (error) {
      if (!(error instanceof ApiError) || error.kind !== "unreachable" || ++failures > RETRIES.poll) throw error;
      await pause(failures, call.signal, pauses);
    }
  }
}

/** What an answer says that is no success. */
async function refused(response: Response, signal: AbortSignal): Promise<unknown> {
  try {
    return await json(response, signal);
  } catch (error) {
    return error;
  }
}

/**
 * Frees the connection of an answer that is not read. Nobody waits for it: of an answer that a page's own `fetch` has
 * cloned it never ends.
 */
function discard(response: Response): void {
  response.body?.cancel().catch(() => {});
}
