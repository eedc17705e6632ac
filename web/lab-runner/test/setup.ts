import { cleanup } from "@testing-library/react";
import { afterEach, vi } from "vitest";

// React waits for `act` only where it is told that somebody calls it.
Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

afterEach(() => {
  if (typeof document !== "undefined") cleanup();
  vi.useRealTimers();
});
