import { ApiError } from "./errors.js";
import type { Chunk, Result, ResultFile, Standing } from "./types.js";

type Json = Record<string, unknown>;

/**
 * A result, of which a proxy in between may leave only what the API promised first: status, output, error and time. What is
 * missing is filled in; what is no result at all is thrown as an `ApiError`, so that nothing later has to ask.
 */
export function toResult(value: unknown): Result {
  if (!isResult(value)) throw new ApiError("unintelligible", "the server's answer is no result");
  const { stderr, error, executionTime, files, warnings, truncated, outputBytes, ...rest } = value as Json;
  return {
    ...(rest as Result),
    stderr: typeof stderr === "string" ? stderr : "",
    ...(typeof error === "string" ? { error } : {}),
    executionTime: typeof executionTime === "number" ? executionTime : 0,
    files: list(files).filter(isFile),
    ...(warnings === undefined ? {} : { warnings: strings(warnings) }),
    truncated: { stdout: false, stderr: false, files: false, ...record(truncated) },
    outputBytes: { stdout: 0, stderr: 0, ...record(outputBytes) },
  };
}

/** Whether it is the answer to a program that has ended; while it has not, there is no output. */
export function isResult(value: unknown): boolean {
  const { status, output } = record(value);
  return (status === "success" || status === "error" || status === "timeout") && typeof output === "string";
}

/** How an execution stands that was begun. */
export function toStanding(value: unknown): Standing {
  const { id, status, queuePosition, warnings } = record(value);
  if (typeof id !== "string" || id === "") {
    throw new ApiError("unintelligible", "the server's answer does not name the execution");
  }
  return {
    id,
    status: status === "queued" ? "queued" : "running",
    ...(typeof queuePosition === "number" ? { queuePosition } : {}),
    warnings: strings(warnings),
  };
}

/** A piece of output; one that is none is empty. */
export function toChunk(value: unknown): Chunk {
  const { stream, data } = record(value);
  return { stream: stream === "stderr" ? "stderr" : "stdout", data: typeof data === "string" ? data : "" };
}

/** A place in the queue, where there is one. */
export function toPosition(value: unknown): number | undefined {
  const { queuePosition } = record(value);
  return typeof queuePosition === "number" ? queuePosition : undefined;
}

function record(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function strings(value: unknown): string[] {
  return list(value).filter((item) => typeof item === "string");
}

function isFile(value: unknown): value is ResultFile {
  const { path, mimeType, content } = record(value);
  return typeof path === "string" && typeof mimeType === "string" && typeof content === "string";
}
