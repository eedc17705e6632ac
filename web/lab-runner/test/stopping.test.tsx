import { act, fireEvent, waitFor } from "@testing-library/react";
import { describe, expect, it, vi } from "vitest";
import { Page } from "./page";
import { answer, Events, FakeServer, liveServer, never, result } from "./server";

const PLAIN = "POST /api/execute";
const POST = "POST /api/executions";
const CANCEL = "DELETE /api/executions/cex-1";

describe("Stop", () => {
  it("cancels the execution, and keeps what it printed", async () => {
    const events = new Events();
    const server = liveServer(events);
    const page = new Page(server);
    fireEvent.click(page.run);
    events.output("so far\n");
    await waitFor(() => expect(page.output.textContent).toBe("so far\n"));
    fireEvent.click(page.stop);
    expect([page.status, page.stop.getAttribute("aria-disabled")]).toEqual(["Stopping...", "true"]);
    fireEvent.click(page.stop);
    await waitFor(() => expect(server.count(CANCEL)).toBe(1));
    const truncated = { stdout: true, stderr: true, files: false };
    events
      .send("result", result({ status: "error", reason: "Cancelled", error: "the execution was cancelled", truncated }))
      .end();
    await waitFor(() => expect(page.status).toBe("Stopped"));
    expect([page.state, page.run.disabled, page.output.textContent]).toEqual(["idle", false, "so far\n"]);
    expect(page.alert).toBeUndefined();
  });

  it("before the server has answered cancels as soon as it has", async () => {
    let begin = (_: Response) => {};
    const server = liveServer(new Events()).on(POST, () => new Promise((resolve) => (begin = resolve)));
    const page = new Page(server);
    fireEvent.click(page.run);
    await waitFor(() => expect(server.count(POST)).toBe(1));
    fireEvent.click(page.stop);
    expect(server.count(CANCEL)).toBe(0);
    begin(answer({ id: "cex-1", status: "queued" }, 202));
    await waitFor(() => expect(server.count(CANCEL)).toBe(1));
  });

  it("of a plain POST closes its connection", async () => {
    const server = new FakeServer().on(PLAIN, never);
    const page = new Page(server, { live: false });
    fireEvent.click(page.run);
    await waitFor(() => expect(server.count(PLAIN)).toBe(1));
    fireEvent.click(page.stop);
    await waitFor(() => expect(page.status).toBe("Stopped"));
    expect(server.asked[0]?.signal?.aborted).toBe(true);
  });

  it("does not wait for ever for a server that says nothing more", async () => {
    vi.useFakeTimers();
    const events = new Events().output("so far");
    const page = new Page(liveServer(events));
    fireEvent.click(page.run);
    await act(() => vi.advanceTimersByTimeAsync(300));
    fireEvent.click(page.stop);
    await act(() => vi.advanceTimersByTimeAsync(6000));
    expect([page.status, page.output.textContent, page.run.disabled]).toEqual(["Stopped", "so far", false]);
    expect(events.cancelled).toBe(true);
  });
});

describe("leaving the page while a program runs", () => {
  it("cancels it, and tells nobody", async () => {
    const events = new Events();
    const server = liveServer(events);
    const told = vi.fn();
    const page = new Page(server, { onResult: told, onError: told });
    fireEvent.click(page.run);
    await waitFor(() => expect(server.count("GET /api/executions/cex-1/events")).toBe(1));
    page.leave();
    await waitFor(() => expect(server.of(CANCEL)[0]?.keepalive).toBe(true));
    expect(events.cancelled).toBe(true);
    expect(told).not.toHaveBeenCalled();
  });

  it("cancels it also when the server's answer comes only then", async () => {
    let begin = (_: Response) => {};
    const server = liveServer(new Events()).on(POST, () => new Promise((resolve) => (begin = resolve)));
    const onStart = vi.fn();
    const page = new Page(server, { onStart });
    fireEvent.click(page.run);
    await waitFor(() => expect(server.count(POST)).toBe(1));
    page.leave();
    begin(answer({ id: "cex-1", status: "queued" }, 202));
    await waitFor(() => expect(server.count(CANCEL)).toBe(1));
    expect(onStart).not.toHaveBeenCalled();
  });

  it("closes a plain POST", async () => {
    const server = new FakeServer().on(PLAIN, never);
    const page = new Page(server, { live: false });
    fireEvent.click(page.run);
    await waitFor(() => expect(server.count(PLAIN)).toBe(1));
    page.leave();
    expect(server.asked[0]?.signal?.aborted).toBe(true);
  });

  it("cancels nothing that has ended", async () => {
    const server = liveServer(new Events().send("result", result()).end());
    const page = new Page(server);
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("success"));
    page.leave();
    expect(server.count(CANCEL)).toBe(0);
  });
});
