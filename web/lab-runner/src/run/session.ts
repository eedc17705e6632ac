import { cancel, execute, type Progress } from "../api/client.js";
import { ApiError } from "../api/errors.js";
import type { Connection } from "../api/http.js";
import type { Pauses } from "../api/retry.js";
import type { Chunk, Program, Result } from "../api/types.js";
import { FrameBatch } from "./batch.js";
import type { RunEvent } from "./state.js";

/** How long a stopped run is waited for, so that its last output is still shown. */
const STOP_PATIENCE_MS = 5000;

export interface SessionOptions {
  connection: Connection;
  program: Program;
  live: boolean;
  onEvent(event: RunEvent): void;
  onStart?: ((id: string | null) => void) | undefined;
  onResult?: ((result: Result) => void) | undefined;
  onError?: ((error: ApiError) => void) | undefined;
  pauses?: Pauses | undefined;
}

/** One run, from the click to its end. */
export class Session {
  readonly #options: SessionOptions;
  readonly #abort = new AbortController();
  readonly #output: FrameBatch<Chunk>;
  /** `undefined` until it is known; `null` for a plain POST, which has no name until it ends. */
  #id: string | null | undefined;
  #stopping = false;
  #leaving = false;
  #ended = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#output = new FrameBatch((chunks) => this.#tell({ type: "printed", chunks }));
    void this.#run();
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Stops the program; the session ends when the server has said how, or after a while. */
  stop(): void {
    if (this.#stopping || this.#ended) return;
    this.#stopping = true;
    this.#tell({ type: "stop" });
    // Without a name there is an answer to wait for, which is either a name or the end of a plain POST.
    if (this.#id !== undefined) this.#cancel();
    setTimeout(() => {
      if (this.#ended) return;
      this.#output.flush();
      this.#tell({ type: "abandoned" });
      this.#end();
    }, STOP_PATIENCE_MS);
  }

  /** Nobody looks any longer: the program is cancelled, and nothing more is told. */
  leave(): void {
    if (this.#ended) return;
    this.#leaving = true;
    this.#output.drop();
    // A request that has no answer yet goes on, because only its answer tells what there is to cancel.
    if (this.#id !== undefined) this.#cancel();
  }

  #cancel(): void {
    const { connection, pauses } = this.#options;
    // Whether it could be cancelled shows in how it ends.
    if (this.#id) cancel(connection, this.#id, this.#leaving, pauses).catch(() => {});
    // The server cancels the execution of a plain POST whose connection is closed.
    if (this.#id === null || this.#leaving) this.#abort.abort();
  }

  async #run(): Promise<void> {
    const { connection, program, live, pauses } = this.#options;
    try {
      const result = await execute(connection, {
        program,
        live,
        pauses,
        signal: this.#abort.signal,
        onProgress: (progress) => this.#progress(progress),
      });
      if (this.#ended) return;
      this.#output.flush();
      this.#tell({ type: "ended", result });
      this.#call(() => this.#options.onResult?.(result));
    } catch (error) {
      if (this.#ended) return;
      this.#output.flush();
      this.#fail(error);
    } finally {
      this.#ended = true;
    }
  }

  #fail(error: unknown): void {
    if (this.#abort.signal.aborted) {
      this.#tell({ type: "abandoned" });
      return;
    }
    const known =
      error instanceof ApiError
        ? error
        : new ApiError("unintelligible", error instanceof Error ? error.message : String(error));
    this.#tell({ type: "failed", error: known, now: Date.now() });
    if (!this.#stopping) this.#call(() => this.#options.onError?.(known));
  }

  #progress(progress: Progress): void {
    if (this.#ended) return;
    if (progress.type === "output") {
      this.#output.add(progress.chunk);
      return;
    }
    if (progress.type !== "accepted") {
      this.#tell(progress);
      return;
    }
    this.#id = progress.id;
    if (progress.id === null) this.#tell({ type: "started" });
    if (progress.warnings.length > 0) this.#tell({ type: "warned", warnings: progress.warnings });
    this.#call(() => this.#options.onStart?.(progress.id));
    if (this.#stopping || this.#leaving) this.#cancel();
  }

  #tell(event: RunEvent): void {
    if (!this.#leaving) this.#options.onEvent(event);
  }

  /** Calls a function of the page, whose own defects are not the run's: they go where uncaught errors go. */
  #call(callback: () => void): void {
    if (this.#leaving) return;
    try {
      callback();
    } catch (error) {
      reportError(error);
    }
  }

  #end(): void {
    this.#ended = true;
    this.#abort.abort();
  }
}
