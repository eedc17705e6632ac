import type { ApiError } from "../api/errors.js";
import type { Result } from "../api/types.js";
import { isBusy, type Phase } from "./state.js";

/** What `data-state` of the root says. */
export type ShownState = "idle" | "running" | "success" | "error" | "timeout" | "failed" | "limited";

export function shownState(phase: Phase): ShownState {
  if (isBusy(phase)) return "running";
  return phase.name === "stopped" ? "idle" : phase.name;
}

/** The status line. It is read out whenever it changes, so it says little. */
export function status(phase: Phase): string {
  switch (phase.name) {
    case "idle":
      return "";
    case "queued":
      if (phase.stopping) return "Stopping...";
      return phase.position === undefined ? "Running code..." : `Waiting in the queue (position ${phase.position})...`;
    case "running":
      return phase.stopping ? "Stopping..." : "Running code...";
    case "success":
      return "Finished";
    case "error":
      return "Finished with an error";
    case "timeout":
      return "Timed out";
    case "stopped":
      return "Stopped";
    case "failed":
      return "Not executed";
    case "limited":
      return "Too many executions";
  }
}

/** What an error block says of a failure: the server's own sentence, or that there was none. */
export function failure(error: ApiError): string {
  return error.kind === "unreachable" || error.kind === "unintelligible"
    ? `Failed to execute code: ${error.message}`
    : error.message;
}

/** Said in place of output where there is none. */
export function emptyOutput(phase: Phase): string | undefined {
  return phase.name === "success" ? "Code executed successfully (no output)" : undefined;
}

export function executionTime(milliseconds: number): string {
  const shown = milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
  return `Execution time: ${shown}`;
}

/** What was dropped of a result, a sentence each. */
export function losses({ truncated, outputBytes, reason }: Result): string[] {
  // Of what somebody stopped nobody expects the whole.
  if (reason === "Cancelled") return [];
  const losses: string[] = [];
  if (truncated.stdout) losses.push(`Output was cut: the program printed ${bytes(outputBytes.stdout)}.`);
  if (truncated.stderr) losses.push(`Error output was cut: the program printed ${bytes(outputBytes.stderr)}.`);
  if (truncated.files) losses.push("Some files were left out: there were too many, or they were too large.");
  return losses;
}

function bytes(count: number): string {
  return `${count.toLocaleString("en")} bytes`;
}
