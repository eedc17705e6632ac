import { fireEvent, screen, waitFor } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import type { Result } from "../src";
import { downloadName, downloadUrl, pictureUrl, shownName } from "../src/output/files";
import { Page } from "./page";
import { random } from "./random";
import { answer, Events, FakeServer, liveServer, refusal, result } from "./server";

const MARKUP = `</script><script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">x</a><style>*{}</style>`;

/** Elements that the component itself never makes out of text. */
const DANGEROUS = "script, style, iframe, object, embed, svg, form, input, [onerror], [onclick], [href^='javascript:']";

async function ranTo(changes: Partial<Result>): Promise<Page> {
  const page = new Page(new FakeServer().on("POST /api/execute", answer(result(changes))), { live: false });
  fireEvent.click(page.run);
  await waitFor(() => expect(page.state).not.toBe("running"));
  return page;
}

/** Below the editor, which is not what a program writes into. */
const resultOf = (page: Page): Element => {
  const element = page.root.querySelector(".lab-runner__result");
  if (!element) throw new Error("there is no result");
  return element;
};

describe("hostile output", () => {
  it("stays text, wherever it stands", async () => {
    const page = await ranTo({
      status: "error",
      output: MARKUP,
      stderr: MARKUP,
      error: `${MARKUP}!`,
      warnings: [MARKUP],
      files: [{ path: MARKUP, mimeType: MARKUP, content: "YQ==" }],
    });
    expect(resultOf(page).querySelector(DANGEROUS)).toBeNull();
    expect(page.output.textContent).toBe(MARKUP + MARKUP);
  });

  it("stays text while it comes live", async () => {
    const events = new Events().output(MARKUP);
    const page = new Page(liveServer(events));
    fireEvent.click(page.run);
    await waitFor(() => expect(page.output.textContent).toBe(MARKUP));
    expect(resultOf(page).querySelector(DANGEROUS)).toBeNull();
    events.send("result", result({ output: MARKUP })).end();
    await waitFor(() => expect(page.state).toBe("success"));
  });

  it("stays text in an error of the server", async () => {
    const page = new Page(new FakeServer().on("POST /api/execute", refusal(400, MARKUP)), { live: false });
    fireEvent.click(page.run);
    await waitFor(() => expect(page.state).toBe("failed"));
    expect(page.alert).toBe(MARKUP);
    expect(resultOf(page).querySelector(DANGEROUS)).toBeNull();
  });

  it("makes no link of a terminal's link", async () => {
    const page = await ranTo({ output: "\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\" });
    expect(page.output.textContent).toBe("click");
    expect(screen.queryByRole("link")).toBeNull();
  });

  it("makes only classes and colours of escape sequences, whatever they hold", async () => {
    const next = random(7);
    const parts = [
      "\x1b[",
      "38;2;",
      "48;5;",
      "1;",
      "m",
      "url(x)",
      '"onclick=',
      "9;",
      "255;",
      "<b>",
      "\x1b]",
      "\x07",
      "K",
      "\r",
    ];
    const noise = Array.from({ length: 3000 }, () => parts[Math.floor(next() * parts.length)]).join("");
    const page = await ranTo({ output: noise });
    for (const element of page.output.querySelectorAll("*")) {
      expect(element.tagName).toMatch(/^(DIV|SPAN)$/);
      for (const { name, value } of element.attributes) {
        expect(name).toMatch(/^(class|style)$/);
        if (name === "class") expect(value).toMatch(/^(lab-runner__[a-z0-9-]+ ?)+$/);
        if (name === "style")
          expect(value).toMatch(/^((background-)?color: (rgb\([\d, ]+\)|var\(--_(text|surface)\));? ?)+$/);
      }
    }
  });

  it("can't turn the direction of what stands around it", async () => {
    const page = await ranTo({
      output: "a\u202etxt.exe",
      files: [{ path: "a\u202egnp.exe", mimeType: "x/y", content: "" }],
    });
    expect(page.output.textContent).toBe("a\\u202etxt.exe");
    screen.getByRole("link", { name: "Download a\ufffdgnp.exe" });
  });

  it("is cut off on the page, with a button for more, and never lost", async () => {
    const output = "0123456789".repeat(10).concat("\n").repeat(10_000);
    const page = await ranTo({ output });
    const shown = () => page.output.querySelectorAll(".lab-runner__block");
    const length = () => Array.from(shown()).reduce((sum, block) => sum + (block.textContent?.length ?? 0), 0);
    expect(length()).toBeLessThan(70_000);
    expect(page.output.getAttribute("aria-live")).toBe("off");
    for (let clicks = 0; clicks < 4; clicks++) {
      const more = screen.queryByRole("button", { name: /^Show earlier output/ });
      if (more) fireEvent.click(more);
    }
    expect(length()).toBe(output.length);
    expect(shown().length).toBeLessThan(200);
  });

  it("of one endless line is laid out in pieces", async () => {
    const page = await ranTo({ output: "x".repeat(1_000_000) });
    expect(page.output.querySelectorAll("*").length).toBeLessThan(20);
    expect(page.output.textContent?.length).toBeLessThan(70_000);
  });

  it("of many colours makes few elements, and shows more than its last characters", async () => {
    const page = await ranTo({ output: "\x1b[31ma\x1b[32mb".repeat(85_000).concat("\nend") });
    expect(page.output.textContent?.length).toBeGreaterThan(1000);
    expect(page.output.querySelectorAll("*").length).toBeLessThan(4000);
  });
});

describe("hostile files", () => {
  const file = (changes: Partial<Result["files"][number]>) => ({
    path: "a",
    mimeType: "image/png",
    content: "YQ==",
    ...changes,
  });

  it("are pictures only by a type that is one, and only as base64", () => {
    expect(pictureUrl(file({}))).toBe("data:image/png;base64,YQ==");
    expect(pictureUrl(file({ mimeType: "IMAGE/PNG; x=y" }))).toBe("data:image/png;base64,YQ==");
    for (const mimeType of ["text/html", "image/png,x", "image/x-evil", "", "javascript:alert(1)"]) {
      expect(pictureUrl(file({ mimeType }))).toBeUndefined();
    }
    for (const content of ["YQ==,<script>", "a b", "é", "====", '"']) {
      expect(pictureUrl(file({ content }))).toBeUndefined();
      expect(downloadUrl(file({ content }))).toBeUndefined();
    }
  });

  it("are downloaded as bytes of no kind, so that a browser opens none of them as a page", () => {
    expect(downloadUrl(file({ mimeType: "text/html" }))).toBe("data:application/octet-stream;base64,YQ==");
  });

  it("have names that lead nowhere and say what they are", () => {
    expect(downloadName("../../etc/passwd")).toBe("passwd");
    expect(downloadName("a\\b\\c.csv")).toBe("c.csv");
    expect(downloadName("javascript:alert(1)")).toBe("javascript:alert(1)");
    expect(downloadName("///")).toBe("file");
    expect(shownName("a\u202eb\nc\u200f")).toBe("a\ufffdb\ufffdc\ufffd");
  });

  it("are named even when they can't be read", async () => {
    await ranTo({ files: [{ path: "broken.bin", mimeType: "x/y", content: "not base64!" }] });
    expect(screen.getByRole("list", { name: "Files" }).textContent).toContain("broken.bin");
    expect(screen.queryByRole("link")).toBeNull();
  });

  it("may have the same name twice", async () => {
    await ranTo({ files: [file({ mimeType: "a/b" }), file({ mimeType: "a/b" })], warnings: ["w", "w"] });
    expect(screen.getAllByRole("link")).toHaveLength(2);
  });
});
