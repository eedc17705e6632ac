/** How often something is tried again before it is given up or done otherwise. */
export const RETRIES = {
  /** The POST that begins an execution: a person waits for the first sign of life. */
  begin: 2,
  /** The DELETE behind Stop. */
  cancel: 2,
  /** Connections to the stream of events that brought nothing new, one after the other, until it is polled instead. */
  events: 5,
  /** Questions for the result, one after the other, that got no answer. */
  poll: 10,
} as const;

/** Milliseconds between attempts. */
export interface Pauses {
  /** Before the first repetition; doubled for each further one. */
  first: number;
  most: number;
  /** Between two questions for the result. */
  poll: number;
  /** How long a stream of events may be silent: the server sends a comment every 15 s. */
  silence: number;
}

export const PAUSES: Pauses = { first: 250, most: 4000, poll: 1000, silence: 40_000 };

/** A server may ask for more patience than this, but somebody waits for the result. */
const MOST_PATIENCE = 30_000;

/** Waits before repetition number `tries` (1, 2, …), some of it by chance, so that not all clients come back at once. */
export function pause(tries: number, signal: AbortSignal, pauses: Pauses = PAUSES, atLeast = 0): Promise<void> {
  const full = Math.min(pauses.most, pauses.first * 2 ** (tries - 1));
  return wait(Math.max(full * (0.5 + Math.random() / 2), Math.min(atLeast, MOST_PATIENCE)), signal);
}

/** Waits, or throws what the signal is aborted with. */
export function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const aborted = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", aborted);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", aborted, { once: true });
  });
}
