import { mount } from "@codeexec/lab-runner/standalone";
import "@codeexec/lab-runner/style.css";
import "./style.css";
import { type Example, examples } from "./examples";

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

const select = element("example", HTMLSelectElement);
const options = element("options", HTMLDetailsElement);
const timeout = element("timeout", HTMLInputElement);
const pool = element("pool", HTMLInputElement);
const stdin = element("stdin", HTMLTextAreaElement);
const signIn = element("sign-in", HTMLFormElement);
const keyField = element("key", HTMLInputElement);
const place = element("runner", HTMLDivElement);

const query = new URLSearchParams(location.search);
// In memory only: it is gone with the page.
let key = "";
let example = named(location.hash.slice(1));
/** What was made of the examples, so that a look at another one loses nothing. */
const changed = new Map<Example, string>();

function named(id: string): Example {
  const first = examples[0];
  if (!first) throw new Error("there are no examples");
  return examples.find((known) => known.id === id) ?? first;
}

/** The properties that follow from the page's fields. */
function given() {
  const seconds = timeout.valueAsNumber;
  return {
    code: changed.get(example) ?? example.code,
    stdin: stdin.value,
    timeout: Number.isFinite(seconds) ? seconds : undefined,
    pool: pool.value.trim() || undefined,
  };
}

const runner = mount(place, {
  ...given(),
  // Of this page, whatever prefix a proxy serves it under.
  endpoint: new URL(".", location.href).href.replace(/\/$/, ""),
  live: query.get("live") !== "false",
  headers: (): HeadersInit => (key ? { authorization: `Bearer ${key}` } : {}),
  label: "Program",
  cspNonce: document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce,
  onCodeChange(code) {
    changed.set(example, code);
    update();
  },
  onError(error) {
    if (error.status !== 401) return;
    signIn.hidden = false;
    keyField.focus();
  },
});

function update() {
  runner.update(given());
}

function choose(next: Example) {
  example = next;
  select.value = next.id;
  stdin.value = next.stdin ?? "";
  timeout.value = next.timeout?.toString() ?? "";
  // What makes an example different is shown.
  options.open = next.stdin !== undefined || next.timeout !== undefined || pool.value !== "";
  update();
}

for (const { id, title } of examples) select.add(new Option(title, id));
pool.value = query.get("pool") ?? "";
choose(example);

select.addEventListener("change", () => {
  // A link to this page then leads to this example.
  history.replaceState(null, "", `#${select.value}`);
  choose(named(select.value));
});
window.addEventListener("hashchange", () => choose(named(location.hash.slice(1))));
for (const field of [timeout, pool, stdin]) field.addEventListener("input", update);

signIn.addEventListener("submit", (event) => {
  event.preventDefault();
  key = keyField.value.trim();
  keyField.value = "";
  signIn.hidden = true;
  // Whoever was refused wanted to run their program.
  [...place.querySelectorAll("button")].find((button) => button.textContent?.trim() === "Run")?.focus();
});
