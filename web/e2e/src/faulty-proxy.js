// A server between the page and the real one, which breaks what a test tells it to break.

import http from "node:http";

/**
 * What becomes of a request: `undefined` passes it on.
 *
 * - `{status, headers?, body?}`: this answer, and the server hears nothing of it
 * - `{drop: true}`: passed on, and the connection closed in place of an answer
 * - `{cut: (text) => boolean}`: passed on, and the connection closed once the answer so far is so
 * - `{headers}`: passed on with these headers changed; `undefined` takes one away
 *
 * @typedef {{status?: number, headers?: Record<string, string | undefined>, body?: string, drop?: boolean,
 *   cut?: (text: string) => boolean} | undefined} Action
 */

/** @typedef {{method: string, path: string, headers: http.IncomingHttpHeaders}} Seen */

export class FaultyProxy {
  /** @type {Seen[]} */
  seen = [];
  /** @type {(request: Seen) => Action} */
  rule = () => undefined;
  #server;
  #target;

  /** @param {string} target */
  constructor(target) {
    this.#target = new URL(target);
    this.#server = http.createServer((request, response) => this.#serve(request, response));
  }

  /** One that ends with the test. @param {import("node:test").TestContext} context @param {string} target */
  static async before(context, target) {
    const proxy = new FaultyProxy(target);
    await new Promise((done) => proxy.#server.listen(0, "127.0.0.1", () => done(undefined)));
    context.after(() => proxy.#close());
    return proxy;
  }

  get url() {
    const address = this.#server.address();
    if (!address || typeof address === "string") throw new Error("the proxy does not listen");
    return `http://127.0.0.1:${address.port}`;
  }

  /** The requests of a method whose path matches. @param {string} method @param {RegExp} path */
  requests(method, path) {
    return this.seen.filter((seen) => seen.method === method && path.test(seen.path));
  }

  async #close() {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  /** @param {http.IncomingMessage} request @param {http.ServerResponse} response */
  #serve(request, response) {
    const seen = { method: request.method ?? "", path: request.url ?? "", headers: { ...request.headers } };
    this.seen.push(seen);
    const action = this.rule(seen) ?? {};
    if (action.status) {
      request.resume();
      response.writeHead(action.status, /** @type {any} */ (action.headers ?? {})).end(action.body);
      return;
    }
    /** @type {http.OutgoingHttpHeaders} */
    const headers = { ...request.headers, host: this.#target.host };
    for (const [name, value] of Object.entries(action.headers ?? {})) {
      if (value === undefined) delete headers[name];
      else headers[name] = value;
    }
    const { hostname, port } = this.#target;
    const onward = http.request({ hostname, port, path: request.url, method: request.method, headers });
    request.pipe(onward);
    onward.on("error", () => response.destroy());
    // A page that hangs up is to be seen by the server, too.
    response.on("close", () => onward.destroy());
    onward.on("response", (answer) => {
      if (action.drop) {
        answer.resume();
        answer.on("end", () => response.destroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      let text = "";
      answer.on("data", (piece) => {
        text += action.cut ? piece : "";
        // Not before it is on its way: what waits to be written is lost with the connection.
        response.write(piece, () => {
          if (action.cut?.(text)) response.destroy();
        });
      });
      answer.on("end", () => response.end());
      answer.on("error", () => response.destroy());
    });
  }
}
