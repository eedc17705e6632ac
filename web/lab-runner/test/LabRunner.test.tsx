import { act, fireEvent, screen, waitFor } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { ApiError, LabRunnerProps } from "../src";
import { Page } from "./page";
import { answer, Events, FakeServer, liveServer, refusal, result, TRACEBACK, unreachable } from "./server";

const PLAIN = "POST /api/execute";
const POST = "POST /api/executions";

/** A page whose program has run, by a plain POST, to this end. */
async function ranTo(end: Response | Error, props: LabRunnerProps = {}): Promise<Page> {
  const page = new Page(new FakeServer().on(PLAIN, end), { live: false, ...props });
  fireEvent.click(page.run);
  await waitFor(() => expect(page.state).not.toBe("running"));
  return page;
}

afterEach(() => vi.useRealTimers());

describe("before the first run", () => {
  it("there are an editor, Run, an empty output, and nothing to stop", () => {
    const page = new Page(new FakeServer());
    expect(page.state).toBe("idle");
    expect(page.run.disabled).toBe(false);
    expect(page.stop.disabled).toBe(true);
    expect(page.output.textContent).toBe("");
    expect(page.status).toBe("");
    expect(screen.getByRole("textbox", { name: "Code" }).textContent).toContain("print(1)");
  });
});

describe("the end of a program", () => {
  it("shows what it printed and how long it took", async () => {
    const page = await ranTo(answer(result({ output: "Hello, World!\n" })));
    expect(page.state).toBe("success");
    expect(page.output.textContent).toBe("Hello, World!\n");
    expect(page.status).toBe("Finished");
    screen.getByText("Execution time: 123 ms");
  });

  it("says so where it printed nothing", async () => {
    const page = await ranTo(answer(result()));
    expect(page.output.textContent).toBe("Code executed successfully (no output)");
  });

  it("shows an error with its traceback, once, below what was printed", async () => {
    const end = result({ status: "error", output: "a\n", stderr: `${TRACEBACK}\n`, error: TRACEBACK, exitCode: 1 });
    const page = await ranTo(answer({ ...end, reason: "NonZeroExit" }));
    expect(page.state).toBe("error");
    expect(page.status).toBe("Finished with an error");
    expect(page.output.textContent).toBe("a\n");
    expect(page.root.textContent?.split("ValueError: Test error")).toHaveLength(2);
    screen.getByText((_, element) => element?.tagName === "PRE" && element.textContent === TRACEBACK);
  });

  it("shows a timeout in the server's words, with the output so far", async () => {
    const error = "Execution timeout (30s limit exceeded)";
    const page = await ranTo(answer(result({ status: "timeout", output: "so far\n", error, executionTime: 30_046 })));
    expect(page.state).toBe("timeout");
    expect(page.alert).toBe(error);
    expect(page.output.textContent).toBe("so far\n");
    screen.getByText("Execution time: 30.05 s");
  });

  it("tells standard error by its style", async () => {
    const page = await ranTo(answer(result({ output: "out\n", stderr: "err\n" })));
    expect(page.output.querySelector(".lab-runner__stderr")?.textContent).toBe("err\n");
  });

  it("shows colours", async () => {
    const page = await ranTo(
      answer(result({ output: "\x1b[1;31mred\x1b[0m \x1b[38;2;1;2;3mother\x1b[0m \x1b[7;32minverse" })),
    );
    const [red, other, inverse] = page.output.querySelectorAll<HTMLElement>("span");
    expect(red?.className).toBe("lab-runner__bold lab-runner__fg-1");
    expect(other?.style.color).toMatch(/1.*2.*3/);
    expect(inverse?.className).toBe("lab-runner__bg-2");
    expect(page.output.textContent).toBe("red other inverse");
  });

  it("tells what was cut", async () => {
    const truncated = { stdout: true, stderr: false, files: true };
    await ranTo(answer(result({ output: "a", truncated, outputBytes: { stdout: 2_000_000, stderr: 0 } })));
    screen.getByText("Output was cut: the program printed 2,000,000 bytes.");
    screen.getByText(/^Some files were left out/);
  });

  it("shows the policy's warnings", async () => {
    await ranTo(answer(result({ warnings: ["the policy does not allow `import os` (line 1, column 1)"] })));
    expect(screen.getByRole("list", { name: "Warnings" }).textContent).toMatch(/import os/);
  });

  it("shows pictures as pictures, with a text and a download, and other files as downloads", async () => {
    const files = [
      { path: "figure-1.png", mimeType: "image/png", content: "iVBORw0KGgo=" },
      { path: "figure-2.svg", mimeType: "image/svg+xml", content: btoa("<svg xmlns='http://www.w3.org/2000/svg'/>") },
      { path: "tables/data.csv", mimeType: "text/csv", content: "YSxiCg==" },
    ];
    await ranTo(answer(result({ files })));
    expect(screen.getByRole<HTMLImageElement>("img", { name: "Figure 1: figure-1.png" }).src).toMatch(
      /^data:image\/png;base64,/,
    );
    expect(screen.getByRole<HTMLImageElement>("img", { name: "Figure 2: figure-2.svg" }).src).toMatch(
      /^data:image\/svg/,
    );
    expect(screen.getByRole("list", { name: "Files" }).textContent).toBe("Download tables/data.csv 4 bytes");
    const link = screen.getByRole<HTMLAnchorElement>("link", { name: "Download tables/data.csv" });
    expect([link.download, link.href]).toEqual(["data.csv", "data:application/octet-stream;base64,YSxiCg=="]);
    expect(screen.getAllByRole("link")).toHaveLength(3);
  });
});

describe("a failure", () => {
  it("to reach the server is named", async () => {
    const page = await ranTo(unreachable());
    expect([page.state, page.status]).toEqual(["failed", "Not executed"]);
    expect(page.alert).toBe("Failed to execute code: Failed to fetch");
    expect(page.run.disabled).toBe(false);
  });

  it.each([
    [400, "Code is required"],
    [401, "an API key is needed"],
    [403, "they may not"],
    [503, "no node had room within the queue's patience"],
  ])("with %i is told in the server's own sentence", async (code, sentence) => {
    const page = await ranTo(refusal(code, sentence));
    expect(page.state).toBe("failed");
    expect(page.alert).toBe(sentence);
  });

  it("is forgotten by the next run", async () => {
    const server = new FakeServer().on(PLAIN, unreachable(), answer(result({ output: "a" })));
    const page = new Page(server, { live: false });
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("failed"));
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("success"));
    expect(page.alert).toBeUndefined();
  });

  it("of a function for the headers is a failure as well", async () => {
    const page = await ranTo(answer(result()), { headers: () => Promise.reject(new Error("no token")) });
    expect(page.alert).toBe("Failed to execute code: no token");
  });
});

describe("too many executions", () => {
  it("count down to the next one, during which Run does nothing", async () => {
    vi.useFakeTimers();
    const sentence = "Too many executions: 10 a minute are allowed. Try again in 3 s.";
    const server = new FakeServer().on(
      PLAIN,
      refusal(429, sentence, { headers: { "retry-after": "3" } }),
      answer(result()),
    );
    const page = new Page(server, { live: false });
    fireEvent.click(page.run);
    await act(() => vi.advanceTimersByTimeAsync(0));
    expect([page.state, page.alert, page.run.disabled]).toEqual(["limited", sentence, true]);
    expect(screen.getByRole("timer").textContent).toBe("You can run it again in 3 s.");
    page.press({ key: "Enter", ctrlKey: true });
    await act(() => vi.advanceTimersByTimeAsync(1100));
    expect(screen.getByRole("timer").textContent).toBe("You can run it again in 2 s.");
    expect(server.asked).toHaveLength(1);
    await act(() => vi.advanceTimersByTimeAsync(2000));
    expect([page.state, page.run.disabled, page.alert]).toEqual(["idle", false, undefined]);
    fireEvent.click(page.run);
    await act(() => vi.advanceTimersByTimeAsync(0));
    expect(page.state).toBe("success");
  });
});

describe("a live run", () => {
  it("says where it stands, and shows output before the program has ended", async () => {
    const events = new Events();
    const page = new Page(liveServer(events));
    fireEvent.click(page.run);
    expect([page.state, page.status]).toEqual(["running", "Running code..."]);
    events.send("queued", { id: "cex-1", queuePosition: 4 });
    await waitFor(() => expect(page.status).toBe("Waiting in the queue (position 4)..."));
    expect(page.state).toBe("running");
    events.send("started", { id: "cex-1" });
    await waitFor(() => expect(page.status).toBe("Running code..."));
    events.output("out\n").output("err\n", "stderr").output("out\n");
    await waitFor(() => expect(page.output.textContent).toBe("out\nerr\nout\n"));
    expect(page.state).toBe("running");
    events.send("result", result({ output: "out\nout\n", stderr: "err\n" })).end();
    await waitFor(() => expect(page.state).toBe("success"));
    expect(page.output.textContent).toBe("out\nerr\nout\n");
  });

  it("runs once however often Run is pressed", async () => {
    const events = new Events();
    const server = liveServer(events);
    const page = new Page(server);
    fireEvent.click(page.run);
    fireEvent.click(page.run);
    page.press({ key: "Enter", ctrlKey: true });
    act(() => page.run.click());
    events.send("result", result()).end();
    await waitFor(() => expect(page.state).toBe("success"));
    expect(server.count(POST)).toBe(1);
  });

  it("draws what comes together in one go", async () => {
    const events = new Events();
    const page = new Page(liveServer(events));
    const drawn = vi.fn();
    fireEvent.click(page.run);
    await waitFor(() => expect(page.stop.disabled).toBe(false));
    const observer = new MutationObserver(drawn);
    observer.observe(page.output, { childList: true, subtree: true, characterData: true });
    for (let line = 0; line < 1000; line++) events.output(`${line}\n`);
    await waitFor(() => expect(page.output.textContent).toMatch(/999\n$/));
    observer.disconnect();
    expect(drawn.mock.calls.length).toBeLessThan(50);
    events.send("result", result()).end();
    await waitFor(() => expect(page.state).toBe("success"));
  });

  it("tells the page of its start and its end", async () => {
    const [onStart, onResult, onError] = [vi.fn(), vi.fn(), vi.fn()];
    const page = new Page(liveServer(new Events().send("result", result()).end()), { onStart, onResult, onError });
    fireEvent.click(page.run);
    await waitFor(() => expect(onResult).toHaveBeenCalledWith(result()));
    expect(onStart.mock.calls).toEqual([["cex-1"]]);
    expect(onError).not.toHaveBeenCalled();
  });

  it("is not disturbed by a page whose own functions fail", async () => {
    const reported = vi.fn();
    vi.stubGlobal("reportError", reported);
    const defect = () => {
      throw new Error("the page's own");
    };
    const page = await ranTo(answer(result({ output: "a" })), { onStart: defect, onResult: defect });
    vi.unstubAllGlobals();
    expect([page.state, page.alert, reported.mock.calls.length]).toEqual(["success", undefined, 2]);
  });

  it("tells the page of a failure", async () => {
    const errors: ApiError[] = [];
    await ranTo(refusal(401, "an API key is needed", { code: "unauthorized" }), {
      onError: (error) => errors.push(error),
    });
    expect(errors).toMatchObject([{ kind: "refused", status: 401, code: "unauthorized" }]);
  });

  it("sends what the page gives the program, and nothing else", async () => {
    const server = new FakeServer().on(PLAIN, answer(result()));
    const files = [{ path: "a.txt", content: "YQ==" }];
    const page = new Page(server, {
      live: false,
      timeout: 5,
      stdin: "in",
      args: ["a"],
      env: { A: "b" },
      files,
      pool: "warm",
    });
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("success"));
    const code = "print(1)";
    const body = {
      code,
      language: "python",
      timeout: 5,
      stdin: "in",
      args: ["a"],
      env: { A: "b" },
      files,
      pool: "warm",
    };
    expect(server.asked[0]?.body).toEqual(body);
  });
});
