// @vitest-environment node
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

/** What WCAG 2.2 asks for at level AA: of text, and of the edges of controls. */
const TEXT = 4.5;
const EDGE = 3;

type Rgb = [number, number, number];

const css = ["lab-runner.css", "editor/editor.css", "output/output.css", "output/terminal.css"]
  .map((file) => readFileSync(new URL(`../src/${file}`, import.meta.url), "utf8"))
  .join("\n");

/** The defaults of the variables `--lab-runner-…`, light and dark. */
const colors = new Map(
  Array.from(css.matchAll(/--lab-runner-([a-z0-9-]+),\s*light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g), (match) => [
    match[1] ?? "",
    { light: rgb(match[2] ?? ""), dark: rgb(match[3] ?? "") },
  ]),
);

function rgb(hex: string): Rgb {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as Rgb;
}

function luminance(color: Rgb): number {
  const [red = 0, green = 0, blue = 0] = color.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: Rgb, other: Rgb): number {
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

/** A colour laid over another one, of this much opacity. */
const over = (top: Rgb, below: Rgb, opacity: number) =>
  top.map((value, at) => value * opacity + (below[at] ?? 0) * (1 - opacity)) as Rgb;

describe.each(["light", "dark"] as const)("the %s theme", (theme) => {
  const color = (name: string): Rgb => {
    const pair = colors.get(name);
    if (!pair) throw new Error(`there is no --lab-runner-${name} in the stylesheet`);
    return pair[theme];
  };
  const ansi = [...colors.keys()].filter((name) => name.startsWith("ansi-"));
  const syntax = [...colors.keys()].filter((name) => name.startsWith("syntax-"));

  it("has all colours", () => {
    expect(ansi).toHaveLength(16);
    expect(syntax).toHaveLength(5);
  });

  it.each(["text", "muted", "accent", "error", "warning"])("is readable: %s", (name) => {
    for (const behind of ["background", "surface"]) {
      expect(contrast(color(name), color(behind)), behind).toBeGreaterThanOrEqual(TEXT);
    }
  });

  it.each(ansi)("is readable: %s, and text over its shade", (name) => {
    expect(contrast(color(name), color("background"))).toBeGreaterThanOrEqual(TEXT);
    expect(contrast(color("text"), over(color(name), color("background"), 0.28))).toBeGreaterThanOrEqual(TEXT);
  });

  it.each(syntax)("is readable: %s, on the active line and selected too", (name) => {
    const line = over(color("muted"), color("background"), 0.1);
    for (const behind of [color("background"), line, color("selection")]) {
      expect(contrast(color(name), behind)).toBeGreaterThanOrEqual(TEXT);
    }
  });

  it("has a readable Run, and edges that can be seen", () => {
    expect(contrast(color("accent-text"), color("accent"))).toBeGreaterThanOrEqual(TEXT);
    for (const behind of ["background", "surface"]) {
      expect(contrast(color("border"), color(behind)), behind).toBeGreaterThanOrEqual(EDGE);
    }
  });
});
