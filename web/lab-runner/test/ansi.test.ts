// @vitest-environment node
import { describe, expect, it } from "vitest";
import { type Token, Tokenizer } from "../src/output/escapes";
import { plain, sgr } from "../src/output/style";
import { random } from "./random";

const tokens = (...pieces: string[]): Token[] => {
  const tokenizer = new Tokenizer();
  const all: Token[] = [];
  for (const piece of pieces) tokenizer.push(piece, (token) => all.push(token));
  return all;
};

const text = (...pieces: string[]): string =>
  tokens(...pieces)
    .map((token) => (token.type === "text" ? token.text : token.type === "newline" ? "\n" : ""))
    .join("");

const style = (parameters: string) => sgr(plain("stdout"), parameters);

describe("escape sequences", () => {
  it("tells text, line ends, returns and backspaces apart", () => {
    expect(tokens("a\r\nb\bc").map(({ type }) => type)).toEqual([
      "text",
      "return",
      "newline",
      "text",
      "backspace",
      "text",
    ]);
  });

  it("reads colours and erasures of a line", () => {
    expect(tokens("\x1b[1;31mx\x1b[m\x1b[2K")).toEqual([
      { type: "style", parameters: "1;31" },
      { type: "text", text: "x" },
      { type: "style", parameters: "" },
      { type: "erase", parameters: "2" },
    ]);
  });

  it.each([
    ["a movement of the cursor", "\x1b[10;5H"],
    ["a cleared screen", "\x1b[2J"],
    ["a private mode", "\x1b[?1049h"],
    ["a private sequence that ends like a colour", "\x1b[>4;1m"],
    ["a title that ends with BEL", "\x1b]0;title\x07"],
    ["a link that ends with ST", "\x1b]8;;javascript:alert(1)\x1b\\"],
    ["a title that ends with the C1 form of ST", "\x1b]0;title\x9c"],
    ["a device control string", '\x1bP$q"p\x1b\\'],
    ["a choice of characters", "\x1b(B"],
    ["a reset", "\x1bc"],
    ["control characters", "\x00\x01\x07\x0b\x0c\x0e\x7f\x80\x9b"],
  ])("leaves out %s", (_, sequence) => {
    expect(tokens(`a${sequence}b`)).toEqual([
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ]);
  });

  it("gives the same tokens wherever the text is cut", () => {
    const whole = "a\x1b[38;5;208mb\x1b]8;;http://x\x1b\\c\x1b]8;;\x07d\x1b(Be\r\nf\x1b[Kg\x1bPq\x1b\\h";
    const merged = (list: Token[]) => JSON.stringify(list.filter(({ type }) => type !== "text")) + text(whole);
    for (let cut = 0; cut <= whole.length; cut++) {
      expect(text(whole.slice(0, cut), whole.slice(cut)), `cut at ${cut}`).toBe("abcde\nfgh");
      expect(merged(tokens(whole.slice(0, cut), whole.slice(cut)))).toBe(merged(tokens(whole)));
    }
  });

  it("begins anew when a sequence breaks off in another", () => {
    expect(tokens("\x1b[3\x1b[31mx")).toEqual([
      { type: "style", parameters: "31" },
      { type: "text", text: "x" },
    ]);
    expect(text("\x1b]0;never ended\x1b[31mx")).toBe("x");
  });

  it("does not let an unfinished sequence swallow the next line", () => {
    expect(text("a\x1b]0;never ended\nb")).toBe("a\nb");
    expect(text("a\x1b[31\nb")).toBe("a\nb");
  });

  it("does not let an unfinished sequence swallow everything on one line", () => {
    expect(text(`\x1b]0;${"x".repeat(5000)}`).length).toBeGreaterThan(2000);
    expect(text(`\x1b[${"1;".repeat(5000)}`).length).toBeGreaterThan(2000);
  });

  it("shows characters that turn the direction of text by their numbers", () => {
    expect(text("a\u202eb\u2066c")).toBe("a\\u202eb\\u2066c");
  });

  it("leaves ordinary text as it is, in every script", () => {
    const ordinary = "<b>&amp;</b>\tä 漢字 العربية 🙂\u200f";
    expect(text(ordinary)).toBe(ordinary);
  });

  it("says nothing but text of anything printable, and never loses a line, whatever comes between", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const next = random(seed);
      const parts = [
        "\x1b",
        "[",
        "]",
        "m",
        "K",
        "3",
        ";",
        ":",
        "\x07",
        "\\",
        "P",
        "(",
        "\x9b",
        "\r",
        "x",
        "<",
        "\u202e",
        "\0",
      ];
      const noise = Array.from({ length: 60 }, () => parts[Math.floor(next() * parts.length)]).join("");
      const shown = text(`${noise}\nsafe\n`);
      expect(shown.endsWith("\nsafe\n"), `seed ${seed}`).toBe(true);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
      expect(shown).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]/);
    }
  });

  it("gives the same text in one piece and in pieces, for noise too", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed);
      const parts = ["\x1b[", "\x1b]", "31m", "K", "\x07", "\x1b\\", "word", "\n", "\r", "\x1b", "\u202e"];
      const pieces = Array.from({ length: 40 }, () => parts[Math.floor(next() * parts.length)] ?? "");
      expect(text(...pieces), `seed ${seed}`).toBe(text(pieces.join("")));
    }
  });
});

describe("styles", () => {
  it("knows the sixteen colours, in front and behind", () => {
    expect(style("31").foreground).toBe(1);
    expect(style("97").foreground).toBe(15);
    expect(style("44").background).toBe(4);
    expect(style("100").background).toBe(8);
  });

  it.each([
    ["38;5;3", 3],
    ["38;5;16", "rgb(0 0 0)"],
    ["38;5;208", "rgb(255 135 0)"],
    ["38;5;231", "rgb(255 255 255)"],
    ["38;5;232", "rgb(8 8 8)"],
    ["38;5;255", "rgb(238 238 238)"],
    ["38:5:208", "rgb(255 135 0)"],
    ["38;2;1;2;3", "rgb(1 2 3)"],
    ["38:2:1:2:3", "rgb(1 2 3)"],
    ["38:2::1:2:3", "rgb(1 2 3)"],
  ])("knows the colour %s", (parameters, color) => {
    expect(style(parameters).foreground).toBe(color);
    expect(style(parameters.replace("38", "48")).background).toBe(color);
  });

  it.each(["38;5;256", "38;5;-1", "38;2;1;2", "38;2;1;2;999", "38;9;1", "38", "38;5", "38:2:a:b:c", "38;2;red;x:y;1"])(
    "takes no colour from %s",
    (parameters) => {
      expect(style(parameters).foreground).toBeUndefined();
    },
  );

  it("goes on after a colour in the same sequence", () => {
    expect(style("38;5;208;1;4")).toMatchObject({ foreground: "rgb(255 135 0)", bold: true, underline: true });
  });

  it("switches everything on and off again", () => {
    const all = style("1;2;3;4;7;9;31;42");
    expect(all).toMatchObject({ bold: true, dim: true, italic: true, underline: true, inverse: true, strike: true });
    expect(sgr(all, "22;23;24;27;29;39;49")).toEqual(plain("stdout"));
    expect(sgr(all, "0")).toEqual(plain("stdout"));
    expect(sgr(all, "")).toEqual(plain("stdout"));
  });

  it("knows an underline of another shape, and its end", () => {
    expect(style("4:3").underline).toBe(true);
    expect(sgr(style("4"), "4:0").underline).toBe(false);
  });

  it("does not hide or blink", () => {
    expect(style("5;6;8")).toEqual(plain("stdout"));
  });

  it("keeps the stream, and gives what looks the same the same key", () => {
    expect(sgr(plain("stderr"), "31").stream).toBe("stderr");
    expect(style("1;31").key).toBe(sgr(style("31"), "1").key);
    expect(style("31").key).not.toBe(sgr(plain("stderr"), "31").key);
    expect(style("31").key).not.toBe(style("41").key);
  });

  it("never makes a colour of anything but numbers", () => {
    for (let seed = 1; seed <= 500; seed++) {
      const next = random(seed);
      const parts = ["38", "48", "2", "5", ";", ":", "255", "300", "", "1", "url(x)", "-"];
      const parameters = Array.from({ length: 12 }, () => parts[Math.floor(next() * parts.length)]).join("");
      const { foreground, background } = style(parameters);
      for (const color of [foreground, background]) {
        if (typeof color === "string") expect(color).toMatch(/^rgb\(\d{1,3} \d{1,3} \d{1,3}\)$/);
        else if (color !== undefined) expect(color).toBeLessThan(16);
      }
    }
  });
});
