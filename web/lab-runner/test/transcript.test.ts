// @vitest-environment node
import { describe, expect, it } from "vitest";
import type { Chunk } from "../src/api/types";
import { Transcript } from "../src/output/transcript";
import { random } from "./random";

const stdout = (data: string): Chunk => ({ stream: "stdout", data });
const stderr = (data: string): Chunk => ({ stream: "stderr", data });

const shown = (transcript: Transcript): string =>
  transcript
    .blocks()
    .flatMap(({ runs }) => runs)
    .map(({ text }) => text)
    .join("");

const screen = (...pieces: string[]): string => shown(Transcript.of(pieces.map(stdout)));

describe("the transcript", () => {
  it("shows what was printed", () => {
    expect(screen("a\nb", "c\n\n", "d")).toBe("a\nbc\n\nd");
  });

  it("overwrites after a carriage return, as a terminal does", () => {
    expect(screen(" 10%\r 20%\r100%\n")).toBe("100%\n");
    expect(screen("loading\rok")).toBe("okading");
    expect(screen("loading\rok\x1b[K\n")).toBe("ok\n");
  });

  it("takes CR LF as a line end", () => {
    expect(screen("a\r\nb\r", "\nc")).toBe("a\nb\nc");
  });

  it("erases to the end, to the beginning, or all of a line", () => {
    expect(screen("abcdef\rab\x1b[0K")).toBe("ab");
    expect(screen("abcdef\rab\x1b[1Kx")).toBe("  xdef");
    expect(screen("abcdef\x1b[2K\rx")).toBe("x     ");
    expect(screen("abcdef\r\x1b[2Kx")).toBe("x");
    expect(screen("\x1b[2K\x1b[1Kx")).toBe("x");
    expect(screen("abc\x1b[7K")).toBe("abc");
  });

  it("goes back with a backspace, and not before the line's beginning", () => {
    expect(screen("ab\bc")).toBe("ac");
    expect(screen("\b\b\bx\b")).toBe("x");
  });

  it("overwrites characters, not halves of them", () => {
    expect(screen("🙂🙂\rx")).toBe("x🙂");
    expect(screen("x\b🙂")).toBe("🙂");
  });

  it("keeps the style of what is not overwritten", () => {
    const transcript = Transcript.of([stdout("\x1b[31mred\x1b[0m\rX")]);
    const runs = transcript.blocks().flatMap((block) => block.runs.map(({ text, style }) => [text, style.foreground]));
    expect(runs).toEqual([
      ["X", undefined],
      ["ed", 1],
    ]);
  });

  it("joins what looks the same over lines", () => {
    expect(Transcript.of([stdout("a\nb\n"), stdout("c\n")]).blocks()[0]?.runs).toHaveLength(1);
  });

  it("tells the two streams apart, in the order in which they came", () => {
    const runs = Transcript.of([stdout("a\n"), stderr("b\n"), stdout("c\n")]).blocks()[0]?.runs;
    expect(runs?.map(({ text, style }) => [text, style.stream])).toEqual([
      ["a\n", "stdout"],
      ["b\n", "stderr"],
      ["c\n", "stdout"],
    ]);
  });

  it("does not let one stream's colour or half a sequence reach the other", () => {
    const runs = Transcript.of([stdout("\x1b[31ma\x1b["), stderr("32mb"), stdout("0mc")]).blocks()[0]?.runs;
    expect(runs?.map(({ text, style }) => [text, style.foreground])).toEqual([
      ["a", 1],
      ["32mb", undefined],
      ["c", undefined],
    ]);
  });

  it("ignores a stream that it does not know", () => {
    expect(shown(Transcript.of([{ stream: "other", data: "x" } as unknown as Chunk, stdout("y")]))).toBe("y");
  });

  it("changes nothing in an earlier transcript", () => {
    const before = Transcript.of([stdout("abc\x1b[3")]);
    const one = before.write([stdout("1m\rX")]);
    const other = before.write([stdout("2m\rYY")]);
    expect([shown(before), shown(one), shown(other)]).toEqual(["abc", "Xbc", "YYc"]);
  });

  it("shares the blocks that are full, so that they are drawn once", () => {
    const before = Transcript.of([stdout("line\n".repeat(10_000))]);
    const after = before.write([stdout("more\n")]);
    expect(after.blocks().slice(0, -1)).toEqual(before.blocks().slice(0, -1));
    expect(after.blocks()[0]).toBe(before.blocks()[0]);
  });

  it("shows the same in one piece and in pieces", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const next = random(seed);
      const parts = ["word", "\r", "\n", "\b", "\x1b[31m", "\x1b[K", "\x1b[1K", "\x1b[2K", "🙂", "long ".repeat(900)];
      const pieces = Array.from({ length: 40 }, () => parts[Math.floor(next() * parts.length)] ?? "");
      expect(screen(...pieces), `seed ${seed}`).toBe(screen(pieces.join("")));
    }
  });

  it("breaks an endless line into rows, loses nothing of it, and cuts no character in two", () => {
    const line = "🙂x".repeat(20_000);
    const blocks = Transcript.of([stdout(line)]).blocks();
    expect(blocks.length).toBeGreaterThan(5);
    for (const { runs } of blocks) for (const { text } of runs) expect(text).not.toMatch(/[\ud800-\udfff]/u);
    expect(screen(line)).toBe(line);
  });

  it("breaks a line of endless changes of colour into rows too, so that no block is too dear to show", () => {
    const blocks = Transcript.of([stdout("\x1b[31ma\x1b[32mb".repeat(10_000))]).blocks();
    for (const { cost } of blocks) expect(cost).toBeLessThan(50_000);
  });

  it.each([
    ["10,000 lines", "0123456789".repeat(10).concat("\n").repeat(10_000)],
    ["one line", "x".repeat(1_000_000)],
    ["a change of colour for each character", "\x1b[31ma\x1b[32mb".repeat(85_000)],
    ["a long line that is overwritten without end", "x".repeat(4000).concat("\ra".repeat(500_000))],
    ["backspaces", "ab\b".repeat(330_000)],
    ["erasures", "x".repeat(4000).concat("\x1b[1K".repeat(250_000))],
    ["sequences that never end", "\x1b]".repeat(500_000)],
  ])("takes 1 MB of %s in time", (_, text) => {
    const began = performance.now();
    let transcript = Transcript.empty;
    for (let at = 0; at < text.length; at += 16_384)
      transcript = transcript.write([stdout(text.slice(at, at + 16_384))]);
    transcript.blocks();
    // A bound on how it grows, not on the machine: an effort that is quadratic takes minutes.
    expect(performance.now() - began).toBeLessThan(15_000);
    for (const block of transcript.blocks()) expect(block.cost).toBeLessThan(4096 * 34 + 8192 * 2);
  });
});
