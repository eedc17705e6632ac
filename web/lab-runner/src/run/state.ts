import type { ApiError } from "../api/errors.js";
import type { Chunk, Result, Stream } from "../api/types.js";
import { Transcript } from "../output/transcript.js";

/** What a run's end depends on; everything else of it is the same in each phase. */
export type Phase =
  | { name: "idle" }
  /** From the click until the program starts; the position is told when there is one. */
  | { name: "queued"; position: number | undefined; stopping: boolean }
  | { name: "running"; stopping: boolean }
  | { name: "success" | "error" | "timeout"; result: Result }
  /** Somebody pressed Stop. The result is there where the server still gave one. */
  | { name: "stopped"; result: Result | undefined }
  | { name: "failed"; error: ApiError }
  /** Too many executions: no new one before `until` (milliseconds, as `Date.now()`). */
  | { name: "limited"; error: ApiError; until: number };

export interface RunState {
  phase: Phase;
  /** What came while the program ran. */
  chunks: readonly Chunk[];
  transcript: Transcript;
  warnings: readonly string[];
}

export type RunEvent =
  | { type: "run" }
  | { type: "warned"; warnings: readonly string[] }
  | { type: "queued"; position: number | undefined }
  | { type: "started" }
  /** Output, many pieces at once. */
  | { type: "printed"; chunks: readonly Chunk[] }
  | { type: "stop" }
  | { type: "ended"; result: Result }
  /** A stopped run whose end nobody waits for any longer. */
  | { type: "abandoned" }
  | { type: "failed"; error: ApiError; now: number }
  /** The time of a `limited` is over. */
  | { type: "allowed" };

export const initial: RunState = { phase: { name: "idle" }, chunks: [], transcript: Transcript.empty, warnings: [] };

/** How long a 429 without `Retry-After` holds. */
const DEFAULT_RETRY_SECONDS = 10;

/** Whether a program is on its way. */
export function isBusy(phase: Phase): phase is Extract<Phase, { stopping: boolean }> {
  return phase.name === "queued" || phase.name === "running";
}

/** Whether Run does something. */
export function canRun(phase: Phase): boolean {
  return !isBusy(phase) && phase.name !== "limited";
}

/** The state after an event. Events that come too late, of a run that is over, change nothing. */
export function reduce(state: RunState, event: RunEvent): RunState {
  const { phase } = state;
  if (event.type === "run") {
    return canRun(phase) ? { ...initial, phase: { name: "queued", position: undefined, stopping: false } } : state;
  }
  if (event.type === "allowed") return phase.name === "limited" ? { ...state, phase: { name: "idle" } } : state;
  if (!isBusy(phase)) return state;

  switch (event.type) {
    case "warned":
      return { ...state, warnings: event.warnings };
    case "queued":
      // After a reconnect the server may still say so of a program that has long been seen to run.
      return phase.name === "running" ? state : { ...state, phase: { ...phase, position: event.position } };
    case "started":
      return phase.name === "running" ? state : { ...state, phase: { name: "running", stopping: phase.stopping } };
    case "printed":
      return {
        ...state,
        phase: { name: "running", stopping: phase.stopping },
        chunks: [...state.chunks, ...event.chunks],
        transcript: state.transcript.write(event.chunks),
      };
    case "stop":
      return { ...state, phase: { ...phase, stopping: true } };
    case "ended":
      return ended(state, event.result, phase.stopping);
    case "abandoned":
      return { ...state, phase: { name: "stopped", result: undefined } };
    case "failed":
      return failed(state, event.error, event.now, phase.stopping);
  }
}

function ended(state: RunState, result: Result, stopping: boolean): RunState {
  const chunks = settled(state.chunks, result);
  return {
    phase: stopping && result.reason === "Cancelled" ? { name: "stopped", result } : { name: result.status, result },
    chunks,
    transcript: chunks === state.chunks ? state.transcript : Transcript.of(chunks),
    warnings: result.warnings ?? state.warnings,
  };
}

function failed(state: RunState, error: ApiError, now: number, stopping: boolean): RunState {
  // Before it began, an execution that is cancelled has no result. That is what was asked for, and no failure.
  if (stopping && (error.reason === "Cancelled" || error.reason === undefined)) {
    return { ...state, phase: { name: "stopped", result: undefined } };
  }
  if (error.kind !== "limited") return { ...state, phase: { name: "failed", error } };
  const until = now + (error.retryAfter ?? DEFAULT_RETRY_SECONDS) * 1000;
  return { ...state, phase: { name: "limited", error, until } };
}

/**
 * The output to show once the result is there. The result decides what was printed, except where it is cut and more came
 * live: of a cancelled program it may hold nothing. What came live stays when it says the same, because it also tells in
 * which order the two streams were written, which reads better; otherwise it is the standard output and then the standard
 * error. A traceback that the error block shows is taken from the end.
 */
function settled(live: readonly Chunk[], result: Result): readonly Chunk[] {
  const stdout = whole("stdout", result.output, live, result);
  const stderr = whole("stderr", result.stderr, live, result);
  const shown = withoutTraceback(stderr, result.error);
  if (text(live, "stdout") === stdout && text(live, "stderr") === stderr) {
    return shown === stderr ? live : cut(live, stderr.length - shown.length);
  }
  const both: Chunk[] = [
    { stream: "stdout", data: stdout },
    { stream: "stderr", data: shown },
  ];
  return both.filter(({ data }) => data !== "");
}

function whole(stream: Stream, kept: string, live: readonly Chunk[], { truncated }: Result): string {
  const seen = truncated[stream] ? text(live, stream) : "";
  return seen.length > kept.length ? seen : kept;
}

function withoutTraceback(stderr: string, error: string | null | undefined): string {
  const traceback = error?.trimEnd();
  const printed = stderr.trimEnd();
  return traceback && printed.endsWith(traceback) ? printed.slice(0, -traceback.length) : stderr;
}

/** Without the last `length` characters of the standard error. */
function cut(chunks: readonly Chunk[], length: number): readonly Chunk[] {
  const rest = [...chunks];
  for (let at = rest.length - 1, left = length; at >= 0 && left > 0; at--) {
    const chunk = rest[at];
    if (chunk?.stream !== "stderr") continue;
    const taken = Math.min(left, chunk.data.length);
    rest[at] = { ...chunk, data: chunk.data.slice(0, chunk.data.length - taken) };
    left -= taken;
  }
  return rest.filter(({ data }) => data !== "");
}

function text(chunks: readonly Chunk[], stream: Stream): string {
  return chunks.reduce((all, chunk) => (chunk.stream === stream ? all + chunk.data : all), "");
}
