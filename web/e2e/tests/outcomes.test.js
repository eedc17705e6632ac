// What the plan's users see for each way in which a program ends.

import { strict as assert } from "node:assert";
import { pageTest } from "../src/lab.js";

pageTest("hello world is printed", async (lab) => {
  await lab.open();
  await lab.runCode('print("Hello, World!")');
  await lab.becomes("success");
  assert.match(await lab.output(), /^Hello, World!\s*$/);
  // How long it took.
  assert.match(await lab.text(), /\d\s?m?s\b/);
  await lab.shot("hello");
});

pageTest("what a module of the standard library makes is printed", async (lab) => {
  await lab.open();
  await lab.runCode('import json\nprint(json.dumps({"name": "test", "values": [1, 2, 3]}))');
  await lab.becomes("success");
  assert.match(await lab.output(), /^\{"name": "test", "values": \[1, 2, 3\]\}\s*$/);
});

pageTest("an exception is shown with its traceback, and what was printed before it", async (lab) => {
  await lab.open();
  await lab.runCode('print("before")\nraise ValueError("Test error")');
  await lab.becomes("error");
  const text = await lab.text();
  for (const part of ["before", "Traceback (most recent call last)", "line 2", "ValueError: Test error"]) {
    assert.ok(text.includes(part), `${part} is missing in ${text}`);
  }
  await lab.shot("exception");
});

pageTest("a program that takes too long ends with the line that says so, and what it had printed", async (lab) => {
  await lab.open({ example: "timeout" });
  await lab.run();
  await lab.becomes("timeout");
  const text = await lab.text();
  assert.ok(text.includes("Execution timeout (2s limit exceeded)"), text);
  assert.match(await lab.output(), /This takes ten seconds, and gets two\./);
  assert.doesNotMatch(await lab.output(), /Nobody reads this/);
  await lab.shot("timeout");
});

pageTest("all of a thousand lines are shown, in order", async (lab) => {
  await lab.open();
  await lab.runCode('for number in range(1000):\n    print(f"Line {number}")');
  await lab.becomes("success");
  const numbers = [...(await lab.output()).matchAll(/Line (\d+)/g)].map(([, number]) => Number(number));
  assert.deepEqual(numbers, [...Array(1000).keys()]);
  await lab.shot("thousand-lines");
});

pageTest("a program that prints nothing is said to have succeeded", async (lab) => {
  await lab.open();
  await lab.runCode("x = 1");
  await lab.becomes("success");
  await lab.shows("Code executed successfully (no output)");
  await lab.shot("no-output");
});

pageTest("a program reads what was given as its input", async (lab) => {
  await lab.open({ example: "input" });
  await lab.page.getByLabel("Standard input").fill("Grace\n1906\n");
  await lab.run();
  await lab.becomes("success");
  assert.match(await lab.output(), /Grace was 20 in 1926\./);
});

pageTest("a request that is wrong is answered with the server's own sentence", async (lab) => {
  await lab.open();
  lab.foresee(/Failed to load resource.* 400/);
  const timeout = lab.page.getByLabel("Timeout in seconds");
  // They are open where one of them is set, as the pool is on a cluster.
  if (!(await timeout.isVisible())) await lab.page.getByText("Options").click();
  await timeout.fill("31");
  await lab.run();
  await lab.becomes("failed");
  await lab.shows(/timeout must be/);
  await lab.shot("wrong-request");
});

pageTest("a second run shows nothing of the first", async (lab) => {
  await lab.open();
  await lab.runCode('print("first")\nraise ValueError("of the first")');
  await lab.becomes("error");
  await lab.runCode('print("second")');
  await lab.becomes("success");
  assert.match(await lab.output(), /^second\s*$/);
  assert.doesNotMatch(await lab.text(), /of the first/);
});
