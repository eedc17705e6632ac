// @vitest-environment node
import { describe, expect, it } from "vitest";
import { isResult, toChunk, toPosition, toResult, toStanding } from "../src/api/shapes";
import { result } from "./server";

describe("an answer", () => {
  it("that is whole stays as it is", () => {
    const whole = result({ error: "e", warnings: ["w"], files: [{ path: "a", mimeType: "b", content: "" }] });
    expect(toResult(whole)).toEqual(whole);
    expect(toResult(result())).toEqual(result());
  });

  it("of a proxy that leaves the first four fields is enough", () => {
    expect(toResult({ status: "error", output: "a", error: "e", executionTime: 5 })).toEqual({
      status: "error",
      output: "a",
      error: "e",
      executionTime: 5,
      stderr: "",
      files: [],
      truncated: { stdout: false, stderr: false, files: false },
      outputBytes: { stdout: 0, stderr: 0 },
    });
  });

  it.each([
    null,
    undefined,
    1,
    "a",
    [],
    {},
    { status: "success" },
    { status: "other", output: "" },
    { status: "error", output: 1 },
  ])("such as %j is no result", (value) => {
    expect(isResult(value)).toBe(false);
    expect(() => toResult(value)).toThrow("the server's answer is no result");
  });

  it("keeps nothing of a wrong type", () => {
    const wrong = {
      status: "success",
      output: "",
      stderr: 1,
      error: {},
      executionTime: "5",
      files: [{}, null, 1],
      warnings: [1],
    };
    expect(toResult({ ...wrong, truncated: 1, outputBytes: null })).toEqual({
      status: "success",
      output: "",
      stderr: "",
      executionTime: 0,
      files: [],
      warnings: [],
      truncated: { stdout: false, stderr: false, files: false },
      outputBytes: { stdout: 0, stderr: 0 },
    });
  });

  it("that begins an execution has to name it", () => {
    expect(toStanding({ id: "a", status: "queued", queuePosition: 2 })).toEqual({
      id: "a",
      status: "queued",
      queuePosition: 2,
      warnings: [],
    });
    for (const value of [null, {}, { id: 1 }, { id: "" }]) expect(() => toStanding(value)).toThrow(/does not name/);
  });

  it("of another kind makes an empty piece of output, and no place in the queue", () => {
    for (const value of [null, 1, {}, { stream: "other", data: 5 }]) {
      expect(toChunk(value)).toEqual({ stream: "stdout", data: "" });
      expect(toPosition(value)).toBeUndefined();
    }
  });
});
