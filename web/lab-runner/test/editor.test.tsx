import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { StrictMode, useState } from "react";
import { describe, expect, it, vi } from "vitest";
import { LabRunner } from "../src";
import { mount } from "../src/standalone";
import { Page } from "./page";
import { answer, FakeServer, never, refusal, result } from "./server";

const PLAIN = "POST /api/execute";
const server = () => new FakeServer().on(PLAIN, () => answer(result()));
const codes = (of: FakeServer) => of.of(PLAIN).map(({ body }) => (body as { code: string }).code);

/** A page that holds the code, and writes it in capitals. */
function Form() {
  const [code, setCode] = useState("a");
  return (
    <>
      <LabRunner code={code} onCodeChange={(changed) => setCode(changed.toUpperCase())} />
      <output aria-label="held">{code}</output>
    </>
  );
}

describe("the editor", () => {
  it("runs what is written in it", async () => {
    const api = server();
    const page = new Page(api, { live: false, defaultCode: "print(1)" });
    page.write("\nprint(2)");
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("success"));
    expect(codes(api)).toEqual(["print(1)\nprint(2)"]);
  });

  it("tells the page what is written, and not what the page itself has set", () => {
    const onCodeChange = vi.fn();
    const page = new Page(server(), { code: "a", defaultCode: undefined, onCodeChange });
    page.change({ code: "b" });
    expect(page.code).toBe("b");
    expect(onCodeChange).not.toHaveBeenCalled();
    page.write("c");
    expect(onCodeChange.mock.calls).toEqual([["bc"]]);
  });

  it("keeps the page's text when the page does not take over what is written", () => {
    const page = new Page(server(), { code: "fixed" });
    page.write("!");
    expect(page.code).toBe("fixed");
  });

  it("writes into the state of a page that takes it over", () => {
    render(<Form />);
    const page = Object.create(Page.prototype) as Page;
    page.write("b");
    expect(screen.getByLabelText("held").textContent).toBe("AB");
    expect(page.code).toBe("AB");
  });

  it("does not take a later default over what is written", () => {
    const page = new Page(server(), { defaultCode: "a" });
    page.write("b");
    page.change({ defaultCode: "other" });
    expect(page.code).toBe("ab");
  });

  it("can be made to be read only, and back", () => {
    const page = new Page(server(), { readOnly: true });
    expect(page.editor.state.readOnly).toBe(true);
    page.change({ readOnly: false });
    expect(page.editor.state.readOnly).toBe(false);
  });

  it("marks the words of Python by classes", () => {
    const page = new Page(server(), { defaultCode: "def f():\n    return 'text'  # comment\n" });
    for (const name of ["tok-keyword", "tok-string", "tok-comment"])
      expect(page.root.querySelector(`.${name}`)).not.toBeNull();
  });

  it("takes what is typed over a selection itself, so that the browser leaves no style behind", () => {
    const page = new Page(server(), { defaultCode: "abc" });
    const { editor } = page;
    const type = (data: string, changes: InputEventInit = {}) =>
      fireEvent(
        editor.contentDOM,
        new InputEvent("beforeinput", { bubbles: true, cancelable: true, inputType: "insertText", data, ...changes }),
      );
    act(() => editor.dispatch({ selection: { anchor: 1, head: 2 } }));
    expect(type("X")).toBe(false);
    expect(page.code).toBe("aXc");
    expect(type("Y")).toBe(true);
    page.change({ readOnly: true });
    act(() => editor.dispatch({ selection: { anchor: 0, head: 3 } }));
    type("Z");
    expect(page.code).toBe("aXc");
  });

  it("gives its stylesheet the page's nonce", () => {
    new Page(server(), { cspNonce: "n0nce" });
    const nonces = Array.from(document.querySelectorAll("style"), (style) => style.getAttribute("nonce"));
    expect(nonces).toContain("n0nce");
  });

  it("works when React mounts everything twice, as it does in development", async () => {
    const api = server();
    render(
      <StrictMode>
        <LabRunner live={false} fetch={api.fetch} defaultCode="print(1)" />
      </StrictMode>,
    );
    fireEvent.click(screen.getByRole("button", { name: "Run" }));
    await screen.findByText("Finished");
    expect(codes(api)).toEqual(["print(1)"]);
    expect(document.querySelectorAll(".cm-editor")).toHaveLength(1);
  });
});

describe("the keyboard", () => {
  it.each([{ ctrlKey: true }, { metaKey: true }])("runs by Enter with %o, without a new line", async (modifier) => {
    const api = server();
    const page = new Page(api, { live: false });
    expect(page.press({ key: "Enter", ...modifier })).toBe(false);
    await waitFor(() => expect(page.state).toBe("success"));
    expect([page.code, codes(api)]).toEqual(["print(1)", ["print(1)"]]);
  });

  it("runs from anywhere in the component", async () => {
    const page = new Page(server(), { live: false });
    page.press({ key: "Enter", ctrlKey: true }, page.output);
    await waitFor(() => expect(page.state).toBe("success"));
  });

  it("does not run by Enter alone, by a key that is held down, or while a character is composed", () => {
    const api = server();
    const page = new Page(api, { live: false });
    page.press({ key: "Enter" }, page.output);
    page.press({ key: "Enter", ctrlKey: true, repeat: true });
    page.press({ key: "Enter", ctrlKey: true, isComposing: true });
    expect(api.asked).toHaveLength(0);
  });

  it("presses no button by a key that is held down, which would stop what it has just begun", () => {
    const page = new Page(server());
    expect(page.press({ key: "Enter", repeat: true }, page.stop)).toBe(false);
    expect(page.press({ key: "Enter" }, page.run)).toBe(true);
  });

  it("indents by Tab, and leaves by Tab after Escape", () => {
    const page = new Page(server(), { defaultCode: "x" });
    const tab = { key: "Tab", keyCode: 9 };
    expect(page.press(tab)).toBe(false);
    expect(page.code).toBe("    x");
    page.press({ key: "Escape", keyCode: 27 });
    expect(page.press(tab)).toBe(true);
    expect(page.code).toBe("    x");
  });

  it("says how to leave the editor, to who can't see it too", () => {
    const page = new Page(server());
    const described = page.editor.contentDOM.getAttribute("aria-describedby") ?? "";
    expect(document.getElementById(described)?.textContent).toMatch(/Escape, then Tab/);
  });

  it("goes from Run to Stop and back with the run, when it was there", async () => {
    const page = new Page(new FakeServer().on(PLAIN, never), { live: false });
    page.run.focus();
    fireEvent.click(page.run);
    await waitFor(() => expect(document.activeElement).toBe(page.stop));
    fireEvent.click(page.stop);
    await waitFor(() => expect(page.status).toBe("Stopped"));
    await waitFor(() => expect(document.activeElement).toBe(page.run));
  });

  it("goes to the output when neither button does anything", async () => {
    const refused = refusal(429, "Too many.", { headers: { "retry-after": "9" } });
    const page = new Page(new FakeServer().on(PLAIN, refused), { live: false });
    page.run.focus();
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("limited"));
    expect(document.activeElement).toBe(page.output);
  });

  it("stays in the editor when the program was run from there", async () => {
    const page = new Page(server(), { live: false });
    page.editor.contentDOM.focus();
    page.press({ key: "Enter", ctrlKey: true });
    await waitFor(() => expect(page.state).toBe("success"));
    expect(document.activeElement).toBe(page.editor.contentDOM);
  });

  it("reaches the output, to scroll it", () => {
    expect(new Page(server()).output.tabIndex).toBe(0);
  });
});

describe("the root", () => {
  it("has the page's class, theme and name", () => {
    const page = new Page(server(), { className: "mine", theme: "dark", label: "Exercise 1" });
    expect(screen.getByRole("region", { name: "Exercise 1" })).toBe(page.root);
    expect([page.root.className, page.root.dataset.theme]).toEqual(["lab-runner mine", "dark"]);
  });
});

describe("the standalone module", () => {
  it("mounts, changes and takes away the component", async () => {
    const element = document.body.appendChild(document.createElement("div"));
    const api = server();
    const mounted = await act(async () => mount(element, { live: false, fetch: api.fetch, defaultCode: "print(1)" }));
    await act(async () => mounted.update({ label: "Other" }));
    screen.getByRole("region", { name: "Other" });
    fireEvent.click(screen.getByRole("button", { name: "Run" }));
    await screen.findByText("Finished");
    expect(codes(api)).toEqual(["print(1)"]);
    await act(async () => mounted.unmount());
    expect(element.childElementCount).toBe(0);
    element.remove();
  });
});
