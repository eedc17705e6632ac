import { useCallback, useEffect, useInsertionEffect, useReducer, useRef } from "react";
import { Session, type SessionOptions } from "./session.js";
import { canRun, initial, type RunState, reduce } from "./state.js";

export type RunOptions = Omit<SessionOptions, "onEvent" | "program"> & {
  program: Omit<SessionOptions["program"], "code">;
};

export interface Run {
  state: RunState;
  /** Runs a program, unless one is on its way or none is allowed at the moment. */
  start(code: string): void;
  stop(): void;
}

/**
 * Runs programs, one after the other. Options are read when a run starts. A component that goes away while its program
 * runs cancels it, as a client does that hangs up.
 */
export function useRun(options: RunOptions): Run {
  const [state, dispatch] = useReducer(reduce, initial);
  const session = useRef<Session | undefined>(undefined);
  const latest = useRef({ options, state });
  useInsertionEffect(() => {
    latest.current = { options, state };
  });

  const start = useCallback((code: string) => {
    const { options, state } = latest.current;
    // The session knows earlier than the state, which a second click in the same moment would still find as it was.
    if (!canRun(state.phase) || (session.current && !session.current.ended)) return;
    dispatch({ type: "run" });
    session.current = new Session({ ...options, program: { ...options.program, code }, onEvent: dispatch });
  }, []);
  const stop = useCallback(() => session.current?.stop(), []);

  useEffect(() => () => session.current?.leave(), []);

  const until = state.phase.name === "limited" ? state.phase.until : undefined;
  useEffect(() => {
    if (until === undefined) return;
    const timer = setTimeout(() => dispatch({ type: "allowed" }), Math.max(0, until - Date.now()));
    return () => clearTimeout(timer);
  }, [until]);

  return { state, start, stop };
}
