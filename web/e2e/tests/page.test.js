// The page itself.

import { strict as assert } from "node:assert";
import { FaultyProxy } from "../src/faulty-proxy.js";
import { KEY, lacks, pageTest, SERVER } from "../src/lab.js";

/** How each example ends, and what it needs. @type {Record<string, {ends: string, needs?: string}>} */
const EXAMPLES = {
  hello: { ends: "success" },
  live: { ends: "success" },
  figure: { ends: "success", needs: "matplotlib" },
  table: { ends: "success", needs: "pandas" },
  exception: { ends: "error" },
  input: { ends: "success" },
  timeout: { ends: "timeout" },
  file: { ends: "success" },
};

pageTest("every example does what it is there for, under the default policy", async (lab, context) => {
  await lab.open();
  const select = lab.page.getByLabel("Example");
  const offered = await select.locator("option").evaluateAll((all) => all.map((one) => one.getAttribute("value")));
  assert.deepEqual(offered, Object.keys(EXAMPLES));
  for (const [id, { ends, needs }] of Object.entries(EXAMPLES)) {
    const reason = needs && (await lacks(needs));
    if (reason) {
      context.diagnostic(`left out ${id}: ${reason}`);
      continue;
    }
    await select.selectOption(id);
    assert.equal(await lab.page.evaluate(() => location.hash), `#${id}`);
    await lab.run();
    assert.equal(await lab.ends(), ends, `${id}: ${await lab.text()}`);
  }
});

pageTest("a look at another example loses nothing of what was typed", async (lab) => {
  await lab.open();
  await lab.write("print('mine')");
  await lab.page.getByLabel("Example").selectOption("table");
  await lab.editor.getByText("pandas").first().waitFor();
  await lab.page.getByLabel("Example").selectOption("hello");
  await lab.editor.getByText("mine").waitFor();
});

pageTest("a server that asks for a key gets the one that is typed in", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  const key = KEY || "cex_of-this-test";
  // Where the server needs none, this stands in for one that does.
  if (!KEY) {
    proxy.rule = ({ path, headers }) => {
      if (!path.startsWith("/api/")) return undefined;
      if (headers.authorization === `Bearer ${key}`) return { headers: { authorization: undefined } };
      return {
        status: 401,
        headers: { "content-type": "application/json", "www-authenticate": "Bearer" },
        body: JSON.stringify({ error: "show who you are", code: "unauthenticated" }),
      };
    };
  }
  await lab.open({ base: proxy.url, key: false });
  lab.foresee(/Failed to load resource.* 401/);
  const field = lab.page.getByLabel("API key");
  assert.ok(!(await field.isVisible()));
  await lab.runCode('print("let in")');
  await lab.becomes("failed");
  await field.waitFor();
  await lab.shot("key");
  assert.equal(await field.getAttribute("type"), "password");
  await field.fill(key);
  await lab.page.keyboard.press("Enter");
  assert.ok(!(await field.isVisible()));
  await lab.page.keyboard.press("Enter");
  await lab.becomes("success");
  assert.match(await lab.output(), /^let in\s*$/);
  const kept = await lab.page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
  assert.deepEqual(kept, [0, 0, ""]);
});

pageTest("nothing is wider than a narrow screen, whatever is printed", async (lab) => {
  await lab.page.setViewportSize({ width: 320, height: 640 });
  for (const id of ["hello", "exception", "timeout", "file"]) {
    // From another page, for an address that changes by its fragment only loads nothing.
    await lab.page.goto("about:blank");
    await lab.open({ example: id });
    await lab.hasNoHorizontalScrolling();
    await lab.run();
    await lab.ends();
    await lab.hasNoHorizontalScrolling();
    await lab.shot(`narrow-${id}`);
  }
  await lab.runCode('print("x" * 5000)');
  await lab.becomes("success");
  await lab.hasNoHorizontalScrolling();
});

pageTest("it can be used without a mouse", async (lab) => {
  await lab.open();
  const { keyboard } = lab.page;
  /** @param {import("playwright-core").Locator} locator */
  const focused = (locator) => locator.evaluateAll((all) => all.some((one) => one.contains(document.activeElement)));
  /** Presses Tab until it is there. @param {import("playwright-core").Locator} locator */
  const tabTo = async (locator) => {
    for (let press = 0; press < 20; press += 1) {
      if (await focused(locator)) return;
      await keyboard.press("Tab");
    }
    assert.fail("Tab does not lead there");
  };
  await tabTo(lab.page.getByLabel("Example"));
  await keyboard.press("ArrowDown");
  await lab.editor.getByText("step {number}").first().waitFor();
  await tabTo(lab.editor);
  await keyboard.press("Control+A");
  await keyboard.type('print("typed")');
  await keyboard.press("Control+Enter");
  await lab.becomes("success");
  assert.match(await lab.output(), /^typed\s*$/);
  // Out of the editor again.
  await keyboard.press("Escape");
  await keyboard.press("Tab");
  assert.ok(!(await focused(lab.editor)));
  for (let press = 0; press < 20 && !(await focused(lab.runButton)); press += 1) await keyboard.press("Shift+Tab");
  if (!(await focused(lab.runButton))) await tabTo(lab.runButton);
  await keyboard.press("Space");
  await lab.becomes("running", "success");
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  pageTest(`it is ${colorScheme} where the system is`, async (lab) => {
    await lab.page.emulateMedia({ colorScheme });
    await lab.page.setViewportSize({ width: 800, height: 460 });
    await lab.open({ example: "live" });
    await lab.run();
    await lab.log.getByText("step 3").waitFor();
    const brightness = await lab.page.evaluate(() => {
      const [red = 0, green = 0, blue = 0] = getComputedStyle(document.body).backgroundColor.match(/\d+/g) ?? [];
      return (Number(red) + Number(green) + Number(blue)) / 3;
    });
    assert.equal(brightness > 128, colorScheme === "light");
    await lab.shot(`${colorScheme}-running`);
    await lab.becomes("success");
  });
}

pageTest("its links lead somewhere", async (lab) => {
  await lab.open();
  assert.equal(await lab.page.title(), "codeexec");
  await lab.page.getByRole("link", { name: "API" }).click();
  await lab.page.waitForURL("**/api/docs");
  await lab.page.getByText("/api/execute").first().waitFor();
});
