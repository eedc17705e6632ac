import { cleanup } from "@testing-library/react";
import { afterEach, beforeEach, expect, vi } from "vitest";

// What React complains about, or a promise that nobody awaits, is a defect even where the test's own question is answered.
let complaints: ReturnType<typeof vi.spyOn>;

beforeEach(() => {
  complaints = vi.spyOn(console, "error");
});

afterEach(() => {
  if (typeof document !== "undefined") cleanup();
  vi.useRealTimers();
  expect(complaints.mock.calls).toEqual([]);
  complaints.mockRestore();
});
