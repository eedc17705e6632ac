// Programs whose output is to harm the page.

import { strict as assert } from "node:assert";
import { pageTest } from "../src/lab.js";

/** Within this, in milliseconds, the page is to answer a click whatever is printed. A bound, not a measure. */
const PROMPT = 500;

const MARKUP = [
  "<script>window.harmed = 1</script>",
  "<img src=x onerror='window.harmed = 2'>",
  "</pre></div></script><h1>Owned</h1>",
  "<svg/onload=window.harmed=3>",
  "javascript:window.harmed=4",
  "&lt;b&gt;&#60;i&#62;",
];

pageTest("markup is shown as text", async (lab) => {
  await lab.open();
  const text = MARKUP.join("\n");
  await lab.runCode(`print(${JSON.stringify(text)})\nraise ValueError(${JSON.stringify(text)})`);
  await lab.becomes("error");
  const shown = await lab.text();
  for (const line of MARKUP) assert.ok(shown.includes(line), `${line} is missing in ${shown}`);
  const found = await lab.page.evaluate(() => ({
    harmed: /** @type {any} */ (window).harmed,
    elements: document.querySelectorAll(".lab-runner :is(script, h1, b, i, img, iframe)").length,
  }));
  assert.deepEqual(found, { harmed: undefined, elements: 0 });
  await lab.shot("markup");
});

pageTest("colours are shown, and no other sequence of a terminal does anything", async (lab) => {
  await lab.open();
  const code = [
    'e = "\\x1b"',
    'print(f"{e}[1;31mred{e}[0m {e}[38;2;1;200;3mgreen{e}[0m {e}[4munderlined{e}[24m plain")',
    'print(f"{e}]0;a title\\x07{e}]8;;javascript:window.harmed=1\\x07link{e}]8;;\\x07")',
    'print(f"{e}[2J{e}[1;1H{e}[?25lstill here{e}[31;;;;;;;;;;99999999999m{e}[")',
    'print("a\\rb", "\\u202etxt.exe", "\\x00\\x08\\x7f")',
    'print("left" + e)',
  ].join("\n");
  await lab.runCode(code);
  await lab.becomes("success");
  const output = await lab.output();
  for (const part of ["red", "green", "underlined", "plain", "link", "still here", "left"]) {
    assert.ok(output.includes(part), `${part} is missing in ${JSON.stringify(output)}`);
  }
  assert.ok(!output.includes("\x1b") && !output.includes("javascript:"), JSON.stringify(output));
  assert.equal(await lab.page.title(), "codeexec");
  /** @param {string} text */
  const colour = (text) =>
    lab.log
      .getByText(text, { exact: true })
      .first()
      .evaluate((element) => getComputedStyle(element).color);
  assert.notEqual(await colour("red"), await colour("green"));
  await lab.shot("ansi");
});

for (const { what, code, shot } of [
  {
    what: "20,000 lines",
    shot: "many-lines",
    code: 'for number in range(20000):\n    print("x" * 45)\nimport time\ntime.sleep(1)\nprint("the end")',
  },
  {
    what: "one line",
    shot: "one-line",
    code: 'for number in range(1000):\n    print("x" * 1000, end="")\nimport time\ntime.sleep(1)\nprint("the end")',
  },
  {
    what: "one line without a break, in colours",
    shot: "one-line-coloured",
    code:
      'for number in range(1000):\n    print("\\x1b[3" + str(number % 8) + "m" + "x" * 900, end="")\n' +
      'import time\ntime.sleep(1)\nprint("the end")',
  },
]) {
  pageTest(`a megabyte in ${what} leaves the page prompt`, async (lab, context) => {
    await lab.open();
    await lab.runCode(code);
    const delays = [];
    // While it comes.
    while ((await lab.state()) === "running") delays.push(await lab.clickDelay());
    await lab.becomes("success");
    for (let click = 0; click < 3; click += 1) delays.push(await lab.clickDelay());
    await lab.shows(/the end/);
    await lab.write("print('typed')");
    delays.push(await lab.clickDelay());
    const slowest = Math.round(Math.max(...delays));
    context.diagnostic(`measured from click to frame, ms: slowest ${slowest} of ${delays.length}`);
    assert.ok(slowest <= PROMPT, `a click took ${slowest} ms`);
    await lab.hasNoHorizontalScrolling();
    await lab.shot(shot);
  });
}

pageTest("more than is kept is cut, and that is said", async (lab) => {
  await lab.open();
  await lab.runCode('for number in range(30000):\n    print("y" * 59)');
  await lab.becomes("success");
  await lab.shows(/cut/i);
});
