// What comes back besides text.

import { strict as assert } from "node:assert";
import fs from "node:fs";
import { lacks, pageTest } from "../src/lab.js";

pageTest("a figure appears as a picture, without savefig", async (lab, context) => {
  const reason = await lacks("matplotlib");
  if (reason) return context.skip(reason);
  await lab.page.emulateMedia({ colorScheme: "dark" });
  await lab.page.setViewportSize({ width: 800, height: 900 });
  await lab.open({ example: "figure" });
  await lab.run();
  await lab.becomes("success");
  const picture = lab.root.getByRole("img").first();
  await picture.waitFor();
  await lab.page.waitForFunction(() => {
    const image = document.querySelector(".lab-runner img");
    return image instanceof HTMLImageElement && image.complete && image.naturalWidth > 100;
  });
  assert.ok(await picture.getAttribute("alt"));
  await lab.shot("figure");
});

pageTest("a drawing with a script in it is a picture, and its script does not run", async (lab) => {
  await lab.open();
  const drawing =
    '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100"><script>window.harmed = 1</script>' +
    '<rect width="200" height="100" onload="window.harmed = 2"/></svg>';
  await lab.runCode(`open("/code/out/drawing.svg", "w").write(${JSON.stringify(drawing)})`);
  await lab.becomes("success");
  await lab.root.getByRole("img").first().waitFor();
  const found = await lab.page.evaluate(() => ({
    harmed: /** @type {any} */ (window).harmed,
    inline: document.querySelectorAll(".lab-runner svg rect").length,
  }));
  assert.deepEqual(found, { harmed: undefined, inline: 0 });
});

pageTest("a file can be downloaded, as it was written", async (lab) => {
  await lab.open({ example: "file" });
  await lab.run();
  await lab.becomes("success");
  const link = lab.root.getByRole("link", { name: /squares\.csv/ });
  const [download] = await Promise.all([lab.page.waitForEvent("download"), link.click()]);
  assert.equal(download.suggestedFilename(), "squares.csv");
  const content = fs.readFileSync(await download.path(), "utf8");
  assert.ok(content.startsWith("number,square\r\n1,1\r\n") && content.endsWith("100,10000\r\n"), content);
  await lab.shot("file");
});
