// @vitest-environment node
import { describe, expect, it } from "vitest";
import { EventStreamParser, readEvents, type ServerEvent } from "../src/api/sse";

const parse = (...pieces: string[]): ServerEvent[] => {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.push(piece));
};

const STREAM =
  ': hello\n\nevent: started\ndata: {"id":"a"}\n\nid: 0\r\nevent: output\r\ndata: one\r\ndata: täwo 🙂\r\n\r\ndata: last\r\r';

const EXPECTED: ServerEvent[] = [
  { type: "started", data: '{"id":"a"}', lastEventId: "" },
  { type: "output", data: "one\ntäwo 🙂", lastEventId: "0" },
  { type: "message", data: "last", lastEventId: "0" },
];

describe("the reader of event streams", () => {
  it("reads names, data over several lines, ids and comments, with each kind of line end", () => {
    expect(parse(STREAM)).toEqual(EXPECTED);
  });

  it("gives the same events wherever the bytes are cut", async () => {
    const bytes = new TextEncoder().encode(STREAM);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          for (const piece of [bytes.slice(0, cut), bytes.slice(cut)]) if (piece.length) controller.enqueue(piece);
          controller.close();
        },
      });
      const events: ServerEvent[] = [];
      for await (const event of readEvents(body, () => {})) events.push(event);
      expect(events, `cut at ${cut}`).toEqual(EXPECTED);
    }
  });

  it("gives the same events byte by byte", () => {
    expect(parse(...STREAM)).toEqual(EXPECTED);
  });

  it("gives an event as soon as its empty line is there, also after a CR that may be half of a CRLF", () => {
    expect(parse("data: x\r\n\r")).toHaveLength(1);
    expect(parse("data: x\r\n\r", "\n", "data: y\r\n\r\n")).toHaveLength(2);
  });

  it("takes one space from the beginning of a value, and no more", () => {
    expect(parse("data:  two\n\n", "data:none\n\n").map(({ data }) => data)).toEqual([" two", "none"]);
  });

  it("takes a field without a colon as one that is empty", () => {
    expect(parse("data\ndata\n\n")).toEqual([{ type: "message", data: "\n", lastEventId: "" }]);
  });

  it("gives no event without data, and forgets its name", () => {
    expect(parse("event: a\n\n", "data: x\n\n")).toEqual([{ type: "message", data: "x", lastEventId: "" }]);
  });

  it("keeps the last id until another comes, and none that holds a NUL", () => {
    const ids = parse("id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n").map(
      (event) => event.lastEventId,
    );
    expect(ids).toEqual(["1", "1", "1", ""]);
  });

  it("ignores what it does not know, a byte order mark, and an event that is not finished", () => {
    expect(parse("\uFEFFretry: 5\nother: x\ndata: a\n\ndata: b\n")).toEqual([
      { type: "message", data: "a", lastEventId: "" },
    ]);
  });

  it("tells of every arrival, comments included", async () => {
    const body = new Response(": keep-alive\n\n").body;
    let arrivals = 0;
    if (!body) throw new Error("a response with text has a body");
    for await (const _ of readEvents(body, () => arrivals++));
    expect(arrivals).toBe(1);
  });

  it("lets go of the body when its reader stops early", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode("data: a\n\ndata: b\n\n")),
      cancel: () => {
        cancelled = true;
      },
    });
    for await (const _ of readEvents(body, () => {})) break;
    expect(cancelled).toBe(true);
  });
});
