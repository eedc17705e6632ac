import { type KeyboardEvent, useId, useLayoutEffect, useRef, useState } from "react";
import type { ApiError } from "./api/errors.js";
import type { InputFile, Program, Result } from "./api/types.js";
import { Editor } from "./editor/Editor.js";
import { RunResult } from "./RunResult.js";
import { canRun, isBusy } from "./run/state.js";
import { useRun } from "./run/useRun.js";
import { executionTime, shownState, status } from "./run/words.js";

export interface LabRunnerProps {
  /** Where the API is: `/api/execute` and the others are appended. Empty, which is the default: where the page is from. */
  endpoint?: string | undefined;
  /** Sent with each request, `authorization` for instance. A function is asked anew for each. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined;
  /** In place of the browser's `fetch`. */
  fetch?: typeof fetch | undefined;
  /** The program, where the page holds it; it then has to take over what `onCodeChange` says. */
  code?: string | undefined;
  /** The program to begin with, where the component holds it. */
  defaultCode?: string | undefined;
  /** Called with the whole program after each change by the person who writes. */
  onCodeChange?: ((code: string) => void) | undefined;
  /** Show output while the program runs (the default), or only with the answer. */
  live?: boolean | undefined;
  /** How long the program may run, in whole seconds, 1 to 30. The server's default is 30. */
  timeout?: number | undefined;
  /** What the program reads from its standard input, at most 64 KiB. */
  stdin?: string | undefined;
  /** `sys.argv[1:]` */
  args?: string[] | undefined;
  /** Added to `os.environ`. */
  env?: Record<string, string> | undefined;
  /** Laid into the program's work directory, their content in base64, at most 256 KiB in all. */
  files?: InputFile[] | undefined;
  /** The ExecutorPool whose Pods run it. */
  pool?: string | undefined;
  /** `auto`, the default, is what the system says. */
  theme?: "light" | "dark" | "auto" | undefined;
  /** The nonce of the page's Content-Security-Policy for the stylesheet that CodeMirror makes. Read at the first rendering. */
  cspNonce?: string | undefined;
  readOnly?: boolean | undefined;
  /** Added to the root's class. */
  className?: string | undefined;
  /** The component's name for screen readers, for pages that have more than one. */
  label?: string | undefined;
  /** The server has taken the program on; its id where there is one yet. */
  onStart?: ((id: string | null) => void) | undefined;
  /** The program ended, however it did. */
  onResult?: ((result: Result) => void) | undefined;
  /** There is no result. */
  onError?: ((error: ApiError) => void) | undefined;
}

/** An editor for a Python program, with buttons to run and to stop it, and what comes of it. */
export function LabRunner(props: LabRunnerProps) {
  const { code: given, defaultCode = "", theme = "auto", readOnly = false, label = "Python code runner" } = props;
  const [own, setOwn] = useState(given ?? defaultCode);
  const code = given ?? own;
  const { state, start, stop } = useRun(runOptions(props));
  const { phase } = state;
  const busy = isBusy(phase);
  const hint = useId();
  const { run, halt } = useFocusOnButtons(busy);

  const onKeyDown = (event: KeyboardEvent) => {
    // Held down on Run, it would press Stop as soon as the focus is there.
    if (event.repeat && event.target instanceof HTMLButtonElement) event.preventDefault();
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.nativeEvent.isComposing) return;
    // Before the editor sees it, for which it is a new line.
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) start(code);
  };

  return (
    <section
      className={["lab-runner", props.className].filter(Boolean).join(" ")}
      data-state={shownState(phase)}
      data-theme={theme}
      aria-label={label}
      onKeyDownCapture={onKeyDown}
    >
      <Editor
        value={code}
        onChange={(changed) => {
          // In any case, so that it is rendered again and a page that keeps its own text gets that back.
          setOwn(changed);
          props.onCodeChange?.(changed);
        }}
        readOnly={readOnly}
        label="Code"
        describedBy={hint}
        cspNonce={props.cspNonce}
      />
      <p className="lab-runner__hint" id={hint}>
        Ctrl+Enter runs the code. Escape, then Tab, leaves the editor.
      </p>
      <div className="lab-runner__bar">
        <button
          ref={run}
          type="button"
          className="lab-runner__run"
          disabled={!canRun(phase)}
          onClick={() => start(code)}
        >
          Run
        </button>
        <button
          ref={halt}
          type="button"
          className="lab-runner__stop"
          disabled={!busy}
          aria-disabled={busy && phase.stopping}
          onClick={stop}
        >
          Stop
        </button>
        <p className="lab-runner__status" role="status">
          {status(phase)}
        </p>
        {"result" in phase && phase.result && (
          <p className="lab-runner__time">{executionTime(phase.result.executionTime)}</p>
        )}
      </div>
      <RunResult state={state} />
    </section>
  );
}

function runOptions(props: LabRunnerProps) {
  const { endpoint = "", headers, live = true, onStart, onResult, onError } = props;
  const { timeout, stdin, args, env, files, pool } = props;
  const program: Omit<Program, "code"> = { language: "python" };
  if (timeout !== undefined) program.timeout = timeout;
  if (stdin !== undefined) program.stdin = stdin;
  if (args !== undefined) program.args = args;
  if (env !== undefined) program.env = env;
  if (files !== undefined) program.files = files;
  if (pool !== undefined) program.pool = pool;
  // The browser's own is looked up when it is called, and never as a method of something else.
  const send: typeof fetch = props.fetch ?? ((input, init) => globalThis.fetch(input, init));
  return { connection: { endpoint, headers, fetch: send }, program, live, onStart, onResult, onError };
}

/**
 * A button that is disabled loses the focus: it goes to the other one, or to the output where that is disabled too, so that
 * keys still do something.
 */
function useFocusOnButtons(busy: boolean) {
  const run = useRef<HTMLButtonElement>(null);
  const halt = useRef<HTMLButtonElement>(null);
  const was = useRef(busy);
  // Before the browser draws, which is when the focus is lost.
  useLayoutEffect(() => {
    if (was.current === busy) return;
    was.current = busy;
    const [left, next] = busy ? [run.current, halt.current] : [halt.current, run.current];
    if (!left || !next || document.activeElement !== left) return;
    const output = left.closest(".lab-runner")?.querySelector<HTMLElement>("[role=log]");
    (next.disabled ? output : next)?.focus();
  }, [busy]);
  return { run, halt };
}
