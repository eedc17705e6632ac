import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FrameBatch } from "../src/run/batch";

describe("what is collected for a frame", () => {
  let frames: FrameRequestCallback[] = [];

  beforeEach(() => {
    vi.useFakeTimers();
    frames = [];
    vi.stubGlobal("requestAnimationFrame", (callback: FrameRequestCallback) => frames.push(callback));
    vi.stubGlobal("cancelAnimationFrame", () => {});
  });

  afterEach(() => vi.unstubAllGlobals());

  it("is handed on together, with the next frame", () => {
    const take = vi.fn();
    const batch = new FrameBatch<number>(take);
    for (const item of [1, 2, 3]) batch.add(item);
    expect(take).not.toHaveBeenCalled();
    frames[0]?.(0);
    expect(take.mock.calls).toEqual([[[1, 2, 3]]]);
    vi.runAllTimers();
    expect(take).toHaveBeenCalledOnce();
  });

  it("is handed on by the clock in a page that draws nothing", () => {
    const take = vi.fn();
    new FrameBatch<number>(take).add(1);
    vi.advanceTimersByTime(300);
    expect(take.mock.calls).toEqual([[[1]]]);
  });

  it("is handed on at once when it is asked for, and never when it is dropped", () => {
    const take = vi.fn();
    const batch = new FrameBatch<number>(take);
    batch.add(1);
    batch.flush();
    batch.add(2);
    batch.drop();
    vi.runAllTimers();
    batch.flush();
    expect(take.mock.calls).toEqual([[[1]]]);
  });
});
