// @vitest-environment node
import { renderToString } from "react-dom/server";
import { expect, it } from "vitest";
import { LabRunner } from "../src";

it("is rendered on a server without a document, and without inline styles", () => {
  const html = renderToString(<LabRunner defaultCode="print(1)" />);
  expect(html).toContain('data-state="idle"');
  expect(html).not.toContain("style=");
});
