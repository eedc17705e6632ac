// Output while the program runs, and what becomes of it when something breaks.

import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import { FaultyProxy } from "../src/faulty-proxy.js";
import { api, pageTest, SERVER } from "../src/lab.js";

/** Prints a line at once, and another one four seconds later. */
const TWO_LINES = 'import time\nprint("the first")\ntime.sleep(4)\nprint("the last")';

/** Prints a line of its own for each run of it, then ten numbered ones. @param {string} token */
const NUMBERED = (token) => `import time, uuid
print("${token}", "run", uuid.uuid4())
for number in range(10):
    print(f"line {number}")
    time.sleep(0.2)
print("end")`;

/** All of it is there, once. @param {string} output @param {string} token */
function isWhole(output, token) {
  assert.equal(output.split(`${token} run`).length - 1, 1, `it ran once: ${output}`);
  const numbers = [...output.matchAll(/line (\d)/g)].map(([, number]) => Number(number));
  assert.deepEqual(numbers, [...Array(10).keys()], output);
  assert.match(output, /end\s*$/);
}

/** The names of all executions of ours. */
async function executions() {
  const names = [];
  let next = "";
  do {
    const page = await api(`/api/executions?limit=500${next && `&continue=${encodeURIComponent(next)}`}`);
    names.push(...page.items.map((/** @type {any} */ item) => item.id));
    next = page.continue ?? "";
  } while (next);
  return new Set(names);
}

pageTest("output appears while the program still runs", async (lab) => {
  await lab.open();
  await lab.runCode(TWO_LINES);
  await lab.log.getByText("the first").waitFor();
  const early = await lab.output();
  assert.equal(await lab.state(), "running");
  assert.ok(!early.includes("the last"), early);
  await lab.shot("running");
  await lab.becomes("success");
  assert.match(await lab.output(), /^the first\s+the last\s*$/);
});

pageTest("a line is on the screen before the program ends", async (lab, context) => {
  await lab.open();
  // The clock of the page is the program's where both are on one machine.
  await lab.page.evaluate(() => {
    const shown = /** @type {any} */ (window);
    shown.delays = [];
    const seen = new Set();
    const look = () => {
      // A frame later it is on the screen.
      const text = document.querySelector(".lab-runner [role=log]")?.textContent ?? "";
      requestAnimationFrame(() => {
        const now = (performance.timeOrigin + performance.now()) / 1000;
        for (const [, at] of text.matchAll(/at (\d+\.\d+);/g)) {
          if (!seen.has(at)) shown.delays.push((now - Number(at)) * 1000);
          seen.add(at);
        }
      });
    };
    const root = document.querySelector(".lab-runner");
    if (root) new MutationObserver(look).observe(root, { childList: true, subtree: true, characterData: true });
  });
  await lab.runCode(`import time
for number in range(20):
    time.sleep(0.1)
    print(f"at {time.time():.6f};")
time.sleep(1)`);
  await lab.page.waitForFunction(() => /** @type {any} */ (window).delays.length === 20);
  assert.equal(await lab.state(), "running");
  const delays = /** @type {number[]} */ (await lab.page.evaluate(() => /** @type {any} */ (window).delays));
  const ordered = delays.toSorted((a, b) => a - b).map(Math.round);
  context.diagnostic(
    `measured from print to screen, ms: first ${Math.round(delays[0] ?? NaN)}, least ${ordered[0]}, ` +
      `median ${ordered[10]}, most ${ordered.at(-1)}`,
  );
  await lab.becomes("success");
});

pageTest("Stop ends the program, and keeps what it had printed", async (lab) => {
  await lab.open();
  const before = await executions();
  await lab.runCode('import time\nprint("begun")\ntime.sleep(25)\nprint("too late")');
  await lab.log.getByText("begun").waitFor();
  await lab.stopButton.click();
  assert.equal(await lab.ends(), "idle");
  assert.match(await lab.output(), /begun/);
  assert.doesNotMatch(await lab.output(), /too late/);
  assert.ok(await lab.runButton.isEnabled());
  await lab.shot("stopped");
  // The page says so once the server has.
  const [id] = [...(await executions())].filter((name) => !before.has(name));
  const record = await api(`/api/executions/${id}`);
  assert.equal(record.reason, "Cancelled", JSON.stringify(record));
});

pageTest("a stream that is cut goes on where it was, and the program runs once", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  let cuts = 0;
  proxy.rule = ({ path }) => {
    if (!path.endsWith("/events") || cuts === 2) return undefined;
    cuts += 1;
    return { cut: (text) => text.includes("line") };
  };
  await lab.open({ base: proxy.url });
  lab.foresee(/Failed to load resource|ERR_INCOMPLETE_CHUNKED_ENCODING/);
  const token = randomUUID();
  await lab.runCode(NUMBERED(token));
  await lab.becomes("success");
  isWhole(await lab.output(), token);
  const asked = proxy.requests("GET", /\/events$/);
  assert.ok(asked.length >= 3, `${asked.length} streams`);
  for (const { headers } of asked.slice(1)) assert.match(String(headers["last-event-id"]), /^\d+$/);
  assert.equal(proxy.requests("POST", /./).length, 1);
});

pageTest("a lost answer to the click does not run the program twice", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  const before = await executions();
  let isLost = false;
  proxy.rule = ({ method }) => {
    if (method !== "POST" || isLost) return undefined;
    isLost = true;
    return { drop: true };
  };
  await lab.open({ base: proxy.url });
  lab.foresee(/Failed to load resource|ERR_EMPTY_RESPONSE/);
  const token = randomUUID();
  await lab.runCode(NUMBERED(token));
  await lab.becomes("success");
  isWhole(await lab.output(), token);
  const keys = proxy.requests("POST", /./).map(({ headers }) => headers["idempotency-key"]);
  assert.ok(keys.length >= 2 && new Set(keys).size === 1 && keys[0], String(keys));
  const added = [...(await executions())].filter((name) => !before.has(name));
  assert.equal(added.length, 1);
});

pageTest("without a stream of events the result is fetched", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  proxy.rule = ({ path }) => (path.endsWith("/events") ? { drop: true, status: 502 } : undefined);
  await lab.open({ base: proxy.url });
  lab.foresee(/Failed to load resource/);
  const token = randomUUID();
  await lab.runCode(NUMBERED(token));
  await lab.becomes("success");
  isWhole(await lab.output(), token);
  assert.equal(proxy.requests("POST", /./).length, 1);
});

pageTest("where only POST /api/execute is passed on, that is used", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  proxy.rule = ({ path }) => (path.startsWith("/api/executions") ? { status: 404, body: "no such page" } : undefined);
  await lab.open({ base: proxy.url });
  lab.foresee(/Failed to load resource.* 404/);
  const token = randomUUID();
  await lab.runCode(NUMBERED(token));
  await lab.becomes("success");
  isWhole(await lab.output(), token);
  assert.equal(proxy.requests("POST", /\/api\/execute$/).length, 1);
});

pageTest("live=false waits for the answer as a whole", async (lab) => {
  await lab.open({ query: "live=false" });
  await lab.runCode(TWO_LINES);
  await lab.becomes("success");
  assert.match(await lab.output(), /^the first\s+the last\s*$/);
});

pageTest("a server that can't be reached is told as such, and running again does better", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  await lab.open({ base: proxy.url });
  lab.foresee(/Failed to load resource|ERR_/);
  await lab.context.setOffline(true);
  await lab.runCode('print("here")');
  await lab.becomes("failed");
  await lab.shows(/^Failed to execute code: /);
  await lab.shot("unreachable");
  await lab.context.setOffline(false);
  await lab.run();
  await lab.becomes("success");
  assert.match(await lab.output(), /^here\s*$/);
});

pageTest("whoever runs too much is told for how long to wait, and can't run until then", async (lab, context) => {
  const proxy = await FaultyProxy.before(context, SERVER);
  let refusals = 0;
  proxy.rule = ({ method }) => {
    if (method !== "POST" || refusals) return undefined;
    refusals += 1;
    return {
      status: 429,
      headers: { "content-type": "application/json", "retry-after": "3" },
      body: JSON.stringify({
        error: "Too many executions: 10 a minute are allowed. Try again in 3 s.",
        code: "rate_limited",
      }),
    };
  };
  await lab.open({ base: proxy.url });
  lab.foresee(/Failed to load resource.* 429/);
  await lab.runCode('print("in the end")');
  await lab.becomes("limited");
  assert.ok(await lab.runButton.isDisabled());
  await lab.shot("limited");
  await lab.page.locator(".lab-runner button:enabled", { hasText: "Run" }).waitFor();
  await lab.run();
  await lab.becomes("success");
  assert.equal(proxy.requests("POST", /./).length, 2);
});
