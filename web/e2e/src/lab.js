// The page as its visitors have it: what they type, press and see.

import { strict as assert } from "node:assert";
import fs from "node:fs";
import path from "node:path";
import test, { after } from "node:test";
import { chromium } from "playwright-core";

/** The server. */
export const SERVER = process.env.WEB_URL ?? "http://127.0.0.1:8080";
export const KEY = process.env.WEB_API_KEY ?? "";
/** The pool whose Pods run the programs, on a cluster. */
export const POOL = process.env.WEB_POOL ?? "";
const SHOTS = process.env.WEB_SHOTS ?? path.resolve(import.meta.dirname, "../../../target/web");

/** How long a program may take to come to its end, its Pod included. */
export const PATIENCE = 60_000;

/** @type {import("playwright-core").Browser | undefined} */
let browser;

async function launched() {
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // The server is on this machine or its network, whatever the environment says of proxies.
      "--no-proxy-server",
    ],
  });
  return browser;
}

after(() => browser?.close());

/**
 * A test on a page of its own. It fails, too, where the page breaks its Content-Security-Policy or its console tells
 * an error that the test did not foresee.
 *
 * @param {string} name
 * @param {(lab: Lab, context: import("node:test").TestContext) => Promise<void>} body
 */
export function pageTest(name, body) {
  test(name, { timeout: 4 * PATIENCE }, async (context) => {
    const lab = await Lab.fresh();
    try {
      await body(lab, context);
      lab.hasNoErrors();
    } catch (error) {
      await lab.shot(`failed-${name.replace(/\W+/g, "-")}`).catch(() => {});
      for (const told of lab.errors) context.diagnostic(`the page: ${told}`);
      throw error;
    } finally {
      await lab.context.close();
    }
  });
}

export class Lab {
  /** @type {string[]} */
  errors = [];
  /** @type {RegExp[]} */
  #foreseen = [];

  /** @param {import("playwright-core").BrowserContext} context @param {import("playwright-core").Page} page */
  constructor(context, page) {
    this.context = context;
    this.page = page;
    page.setDefaultTimeout(PATIENCE);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.errors.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.errors.push(`uncaught: ${error.stack ?? error}`));
    this.root = page.locator(".lab-runner");
    this.runButton = this.root.getByRole("button", { name: "Run", exact: true });
    this.stopButton = this.root.getByRole("button", { name: "Stop", exact: true });
    this.log = this.root.getByRole("log", { name: "Output" });
    this.status = this.root.getByRole("status");
    this.editor = this.root.locator(".cm-content");
  }

  static async fresh() {
    const context = await (await launched()).newContext({ viewport: { width: 1000, height: 800 } });
    const lab = new Lab(context, await context.newPage());
    await context.exposeFunction("reportViolation", (/** @type {string} */ text) => lab.errors.push(text));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        const { violatedDirective, blockedURI, sourceFile, lineNumber } = event;
        /** @type {any} */ (window).reportViolation(
          `policy: ${violatedDirective} ${blockedURI} (${sourceFile}:${lineNumber})`,
        );
      });
    });
    return lab;
  }

  /**
   * Opens the page. Where the server asks for a key, every request has it, unless `key` is false.
   *
   * @param {{base?: string, query?: string, example?: string, key?: boolean}} [how]
   */
  async open({ base = SERVER, query = "", example = "", key = true } = {}) {
    await this.context.setExtraHTTPHeaders(key && KEY ? { authorization: `Bearer ${KEY}` } : {});
    const parameters = new URLSearchParams(query);
    if (POOL) parameters.set("pool", POOL);
    await this.page.goto(`${base}/?${parameters}${example && `#${example}`}`);
    await this.runButton.waitFor();
    assert.equal(await this.state(), "idle");
  }

  /** Errors on the console that the test brings about itself. @param {RegExp} pattern */
  foresee(pattern) {
    this.#foreseen.push(pattern);
  }

  hasNoErrors() {
    const errors = this.errors.filter((error) => !this.#foreseen.some((pattern) => pattern.test(error)));
    assert.deepEqual(errors, []);
  }

  /** Replaces the program, by keys. @param {string} code */
  async write(code) {
    await this.editor.focus();
    await this.page.keyboard.press("ControlOrMeta+A");
    await this.page.keyboard.insertText(code);
  }

  async run() {
    await this.runButton.click();
  }

  /** @param {string} code */
  async runCode(code) {
    await this.write(code);
    await this.run();
  }

  async state() {
    return this.root.getAttribute("data-state");
  }

  /** Waits until it stands so. @param {...string} states */
  async becomes(...states) {
    const wanted = states.map((state) => `.lab-runner[data-state="${state}"]`).join(", ");
    try {
      await this.page.locator(wanted).waitFor({ timeout: PATIENCE });
    } catch {
      assert.fail(`it is ${await this.state()}, not ${states.join(" or ")}: ${await this.text()}`);
    }
  }

  /** Waits until it no longer runs, and says how it ended: `idle` where it was stopped. */
  async ends() {
    await this.page.locator('.lab-runner:not([data-state="running"])').waitFor();
    return this.state();
  }

  /** Everything that it shows. */
  async text() {
    const [text = ""] = await this.root.allInnerTexts();
    return text;
  }

  /** What the program printed. */
  async output() {
    return (await this.log.textContent()) ?? "";
  }

  /** Waits until this is somewhere in it. @param {string | RegExp} text */
  async shows(text) {
    await this.root.getByText(text).first().waitFor();
  }

  /** @param {string} name */
  async shot(name) {
    fs.mkdirSync(SHOTS, { recursive: true });
    await this.page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
  }

  /** How long the page takes from a click to the frame that follows its being heard, in milliseconds. */
  async clickDelay() {
    await this.page.evaluate(() => {
      const heard = (/** @type {MouseEvent} */ event) =>
        requestAnimationFrame(() => {
          /** @type {any} */ (window).clickDelay = performance.now() - event.timeStamp;
        });
      /** @type {any} */ (window).clickDelay = undefined;
      document.addEventListener("click", heard, { once: true });
    });
    await this.page.locator("h1").click();
    const delay = await this.page.waitForFunction(() => /** @type {any} */ (window).clickDelay);
    return Number(await delay.jsonValue());
  }

  async hasNoHorizontalScrolling() {
    const [content, window] = await this.page.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth,
    ]);
    assert.ok(content <= window, `the page is ${content} px wide in a window of ${window} px`);
  }
}

/** A request of a program's, beside the page. @param {string} path @param {unknown} [body] */
export async function api(path, body) {
  const response = await fetch(`${SERVER}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { "content-type": "application/json", ...(KEY && { authorization: `Bearer ${KEY}` }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return /** @type {any} */ (await response.json());
}

/** Why the server's Python lacks a module, if it does. @param {string} module */
export async function lacks(module) {
  const answer = await api("/api/execute", { code: `import ${module}`, language: "python" });
  return answer.status === "success" ? undefined : `the server's Python lacks ${module}`;
}
