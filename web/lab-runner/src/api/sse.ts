/** An event of a `text/event-stream`. */
export interface ServerEvent {
  /** Its name, `message` where it has none. */
  type: string;
  data: string;
  /** The last id that the stream has told, this event's or an earlier one's. Empty before the first. */
  lastEventId: string;
}

/**
 * Reads a `text/event-stream` piece by piece, as the HTML standard describes it. `EventSource` can't be used: it sends no
 * headers, so that an API key would have to go into the address.
 */
export class EventStreamParser {
  #rest = "";
  #data: string[] = [];
  #type = "";
  #lastEventId = "";
  #atStart = true;
  #afterCr = false;

  /** Takes the next piece of text, cut anywhere, and gives the events that it completes. */
  push(text: string): ServerEvent[] {
    if (text === "") return [];
    const events: ServerEvent[] = [];
    let piece = text;
    if (this.#atStart && piece.startsWith("\uFEFF")) piece = piece.slice(1);
    // A CR ends its line at once; when the cut went through a CRLF, the LF is no line of its own.
    if (this.#afterCr && piece.startsWith("\n")) piece = piece.slice(1);
    this.#atStart = false;
    this.#afterCr = text.endsWith("\r");
    const lines = piece.split(/\r\n|\n|\r/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line, events);
    return events;
  }

  #line(line: string, events: ServerEvent[]): void {
    if (line === "") {
      this.#dispatch(events);
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#lastEventId = value;
  }

  #dispatch(events: ServerEvent[]): void {
    if (this.#data.length > 0) {
      events.push({ type: this.#type || "message", data: this.#data.join("\n"), lastEventId: this.#lastEventId });
    }
    this.#data = [];
    this.#type = "";
  }
}

/**
 * The events of a body, until it ends. `onBytes` is called for everything that arrives, comments included: they are how
 * a server shows that it is still there.
 */
export async function* readEvents(body: ReadableStream<Uint8Array>, onBytes: () => void): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventStreamParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Whoever stops early no longer needs the rest. What it says of an aborted stream is known already.
    reader.cancel().catch(() => {});
  }
}
