import { EditorView } from "@codemirror/view";
import { act, fireEvent, render, screen } from "@testing-library/react";
import { LabRunner, type LabRunnerProps } from "../src";
import type { FakeServer } from "./server";

/** The component as a person meets it. */
export class Page {
  readonly #rendered: ReturnType<typeof render>;
  #props: LabRunnerProps;

  constructor(server: FakeServer, props: LabRunnerProps = {}) {
    this.#props = { fetch: server.fetch, defaultCode: "print(1)", ...props };
    this.#rendered = render(<LabRunner {...this.#props} />);
  }

  get root(): HTMLElement {
    return screen.getByRole("region");
  }

  get state(): string | undefined {
    return this.root.dataset.state;
  }

  get run(): HTMLButtonElement {
    return screen.getByRole("button", { name: "Run" });
  }

  get stop(): HTMLButtonElement {
    return screen.getByRole("button", { name: "Stop" });
  }

  get status(): string {
    return screen.getByRole("status").textContent ?? "";
  }

  get output(): HTMLElement {
    return screen.getByRole("log", { name: "Output" });
  }

  get alert(): string | undefined {
    return screen.queryByRole("alert")?.textContent ?? undefined;
  }

  get editor(): EditorView {
    const view = EditorView.findFromDOM(this.root);
    if (!view) throw new Error("there is no editor");
    return view;
  }

  get code(): string {
    return this.editor.state.doc.toString();
  }

  /** As if somebody wrote at the end. */
  write(text: string): void {
    const { editor } = this;
    act(() => editor.dispatch({ changes: { from: editor.state.doc.length, insert: text } }));
  }

  press(init: KeyboardEventInit, target: Element = this.editor.contentDOM): boolean {
    return fireEvent.keyDown(target, { bubbles: true, cancelable: true, ...init });
  }

  change(props: LabRunnerProps): void {
    this.#props = { ...this.#props, ...props };
    this.#rendered.rerender(<LabRunner {...this.#props} />);
  }

  leave(): void {
    this.#rendered.unmount();
  }
}
