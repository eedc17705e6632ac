import { type Call, execute, type Progress } from "../src/api/client";
import type { ApiError } from "../src/api/errors";
import { type FakeServer, QUICK } from "./server";

/** Runs a program by the client alone, and notes what it tells. */
export function call(
  server: FakeServer,
  changes: Partial<Call> & { headers?: HeadersInit | (() => HeadersInit) } = {},
) {
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

/** What it failed with. */
export const errorOf = (promise: Promise<unknown>): Promise<ApiError> =>
  promise.then(
    () => {
      throw new Error("it should have failed");
    },
    (error) => error,
  );
