import type { ErrorBody, Reason } from "./types.js";

/**
 * What kind of failure it was:
 * - `unreachable`: there was no answer. The program may have run, if its request arrived.
 * - `limited`: 429, too many executions; `retryAfter` says when to try again.
 * - `refused`: the server said no, in a sentence of its own.
 * - `unintelligible`: the answer was not one of the API.
 */
export type ApiErrorKind = "unreachable" | "limited" | "refused" | "unintelligible";

interface Details {
  status?: number | undefined;
  code?: string | undefined;
  id?: string | undefined;
  reason?: Reason | undefined;
  retryAfter?: number | undefined;
}

/** Why there is no result. Its message is a sentence for people. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly kind: ApiErrorKind;
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** The API's word for programs, such as `rate_limited`. */
  readonly code: string | undefined;
  /** The execution that it is about, where there is a record. */
  readonly id: string | undefined;
  /** Why that execution did not run. */
  readonly reason: Reason | undefined;
  /** Seconds after which another attempt makes sense. */
  readonly retryAfter: number | undefined;

  constructor(kind: ApiErrorKind, message: string, details: Details = {}) {
    super(message);
    this.kind = kind;
    this.status = details.status;
    this.code = details.code;
    this.id = details.id;
    this.reason = details.reason;
    this.retryAfter = details.retryAfter;
  }

  /** From an error body in the stream of events, or of an answer with this status. */
  static fromBody(body: ErrorBody, status?: number, retryAfter?: number): ApiError {
    return new ApiError(status === 429 ? "limited" : "refused", body.error, {
      status,
      code: body.code,
      id: body.id ?? undefined,
      reason: body.reason ?? undefined,
      retryAfter,
    });
  }
}

/** Whether a value looks like the API's error body. */
export function isErrorBody(value: unknown): value is ErrorBody {
  return typeof value === "object" && value !== null && "error" in value && typeof value.error === "string";
}

/** `Retry-After` in seconds: a number, or a date. Nonsense and what lies in the past are `undefined`. */
export function retryAfter(headers: Headers, now = Date.now()): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (!value) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : Math.ceil((Date.parse(value) - now) / 1000);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
